"""Try the exercises of one notebook. `course progress` starts this in a process of its own, and can end it.

    python -m course_lib.lessons.attempt < REQUEST

The request on stdin is JSON: the notebook, the exercises to check as [{"id", "check"}], and `skip`, the ids of solution
cells to leave out. The answer on stdout has a JSON line before an exercise, {"trying": id}, and one after it,
{"id", "passed", "says"}. What the learner's code prints goes nowhere. The notebook is read, never written.

Nothing is trained: of the other cells only imports, definitions and assignments of plain values are executed, in
order. Of a solution cell everything is, but what is not a definition may fail: it is often a try-out that needs a cell
which was not executed. The check is the course's own, whatever became of the one in the notebook.
"""

import ast
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from nbformat import NotebookNode

from course_lib.lessons.normalise import read_notebook

DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def attempt(notebook: NotebookNode, wanted: list[dict], skip: list[str]) -> Iterator[dict]:
    """Execute a notebook's definitions and yield what becomes of each exercise in `wanted`, as the module says."""
    checks = {exercise["id"]: exercise["check"] for exercise in wanted}
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and not grader(cell).get("grade")]
    last = {grader(cell).get("grade_id"): place for place, cell in enumerate(cells)}  # of copies the last one counts
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for place, cell in enumerate(cells):
        name = grader(cell).get("grade_id") if grader(cell).get("solution") else None
        if name is not None and name in skip:
            continue
        if name in checks and place == last[name]:
            yield {"trying": name}
            error = execute(cell.source, namespace, everything=True)
            error = judge(checks[name], namespace, error)
            yield {"id": name, "passed": error is None, "says": "" if error is None else explain(error)}
        else:
            execute(cell.source, namespace, everything=name is not None)


def grader(cell: NotebookNode) -> dict:
    """A cell's nbgrader metadata, empty where it has none."""
    found = cell.metadata.get("nbgrader", {})
    return found if isinstance(found, dict) else {}


def execute(source: str, namespace: dict[str, Any], *, everything: bool) -> BaseException | None:
    """Execute a cell's definitions, and with `everything` the rest too; the first error of a definition, if any."""
    try:
        tree = ast.parse(without_magics(source))
    except (SyntaxError, ValueError) as error:
        return error
    first = None
    for node in tree.body:
        defines = isinstance(node, DEFINITIONS) or is_plain_assignment(node)
        if defines or everything:
            try:
                exec(compile(ast.Module([node], []), "<cell>", "exec"), namespace)
            except BaseException as error:  # sys.exit() and the like are the learner's too
                first = first or (error if defines else None)
    return first


def is_plain_assignment(node: ast.stmt) -> bool:
    """Whether this gives a name to a number, a text, or a list, dict … of such."""
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return False
    try:
        ast.literal_eval(node.value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def without_magics(source: str) -> str:
    """A cell as Python: %magics and !commands are turned into calls, which need a notebook and fail here."""
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager().transform_cell(source)


def judge(check: str, namespace: dict[str, Any], before: BaseException | None) -> BaseException | None:
    """Run a check cell; None if it passes, else why not: the cell's own error where that left nothing to check."""
    try:
        exec("from course_lib.lessons import checks", namespace)
        exec(compile(check, "<check>", "exec"), namespace)
    except NameError as error:
        return before or error
    except BaseException as error:
        return error
    return None


def explain(error: BaseException) -> str:
    """An error as a learner reads it: a check's own words, or the kind of error, its text and the check's notes."""
    from course_lib.lessons.checks import CheckFailed

    if isinstance(error, CheckFailed):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__} in line {error.lineno} of the cell: {error.msg}"
    return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])


def main(requests: TextIO, answers: TextIO) -> None:
    """Read one request, answer it line by line."""
    request = json.load(requests)
    for line in attempt(read_notebook(Path(request["notebook"])), request["exercises"], request["skip"]):
        print(json.dumps(line), file=answers, flush=True)


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # prints of C code too
    main(sys.stdin, channel)
