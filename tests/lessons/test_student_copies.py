"""No student copy gives an answer away, in the workspace or in the classroom; and every lesson's own solution is right.

The second is tested as a learner's progress is: the solution cell's function passes the check that the tests of the
checks run on the library's.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from course_lib.lessons import checks
from course_lib.lessons.attempt import attempt
from course_lib.lessons.classroom import teachers_copy
from course_lib.lessons.exercise_cells import find_exercises
from course_lib.lessons.normalise import read_notebook
from course_lib.lessons.quiz import Quiz, unseal
from course_lib.lessons.workspace import LESSONS, student_copy
from tests.lessons.lesson import lesson

NOTEBOOKS = sorted(LESSONS.glob("*.ipynb"))
TELLING = 24  # characters without spaces: shorter lines, and heads of blocks, are in many programs
HINT = re.compile(r"<details>.*?</details>", re.DOTALL)
ASKED = re.compile(r"^answers = (\{.*?\})", re.MULTILINE | re.DOTALL)
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def leaks(solved: NotebookNode, copy: NotebookNode) -> Iterator[str]:
    """What a student copy tells of the solutions: marks, outputs, solution cells that are no stubs, telling lines.

    A folded hint may quote its solution, but not more than half of it.
    """
    everything = squeezed(json.dumps(copy, ensure_ascii=False))
    text = "\n".join(cell.source for cell in copy.cells)
    open_text, hints = squeezed(HINT.sub("", text)), squeezed("\n".join(HINT.findall(text)))
    for mark in ("BEGINSOLUTION", "ENDSOLUTION", "HIDDENTEST"):
        if mark in everything:
            yield f"the mark {mark}"
    yield from (f"output of {c.id}" for c in copy.cells if c.get("outputs") or c.get("execution_count"))
    for mine, theirs in zip(find_exercises(solved), find_exercises(copy), strict=True):
        head, _, rest = mine.solution.source.partition("    ### BEGIN SOLUTION\n")
        body, _, tail = rest.partition("    ### END SOLUTION")
        if theirs.solution.source != f"{head}    # YOUR CODE HERE\n    raise NotImplementedError(){tail}":
            yield f"{mine.id} is not head, stub and tail"
        lines = [squeezed(line.partition("  # ")[0]) for line in body.splitlines() if line.strip()]
        telling = [
            line for line in lines if len(line) >= TELLING and not line.startswith("#") and not line.endswith(":")
        ]
        yield from (f"{mine.id}: {line}" for line in telling if line in open_text)
        if sum(line in hints for line in telling) > len(lines) / 2:
            yield f"{mine.id}: the hints quote more than half of it"


def quiz_leaks(number: str, copy: NotebookNode) -> Iterator[str]:
    """What a student copy tells of the quiz: a filled-in answer, an explanation, an answer's hash."""
    text = json.dumps(copy, ensure_ascii=False)
    source = "\n".join(cell.source for cell in copy.cells)
    yield from (f"the answers {match}" for match in ASKED.findall(source) if any(ast.literal_eval(match).values()))
    quiz = Quiz.open(number)
    for question, clear in zip(quiz.questions, unseal(quiz)):
        if question.answer in text:
            yield f"the hash of {question.text}"
        yield from (o["explanation"] for o in clear["options"] if squeezed(o["explanation"]) in squeezed(text))


@each_notebook
def test_a_student_copy_tells_no_solution(path: Path) -> None:
    solved = read_notebook(path)
    assert list(leaks(solved, student_copy(solved))) == []
    source = teachers_copy(solved)
    assert list(leaks(source, student_copy(source))) == []  # as nbgrader makes the release


@each_notebook
def test_a_student_copy_tells_no_answer_of_the_quiz(path: Path) -> None:
    copy = student_copy(read_notebook(path))
    assert ASKED.search("\n".join(cell.source for cell in copy.cells)), "no cell `answers = {…}` was found"
    assert list(quiz_leaks(path.stem[:2], copy)) == []


def test_a_leak_is_found() -> None:
    solved = lesson()
    first = find_exercises(solved)[0].solution
    line = "return torch.minimum(a[:, 2:], b[:, 2:])"
    first.source = f"def f1(a, b):\n    ### BEGIN SOLUTION\n    {line}  # the corners\n    ### END SOLUTION"
    copy = student_copy(solved)
    assert list(leaks(solved, copy)) == []
    copy.cells.append(new_markdown_cell(f"The solution: `{line.replace(' ', '')}`."))
    assert len(list(leaks(solved, copy))) == 1
    copy.cells[-1].source = f"<details><summary>Hint</summary>{line}</details>"
    assert list(leaks(solved, copy)) == ["00-1: the hints quote more than half of it"]
    assert any("mark" in leak for leak in leaks(solved, solved))
    assert any("output" in leak for leak in leaks(solved, solved))
    assert any("00-2 is not head, stub and tail" in leak for leak in leaks(solved, solved))


def test_a_leak_of_the_quiz_is_found() -> None:
    question = Quiz.open("00").questions[0]
    for told in (question.explain("a"), question.answer, "answers = {1: 'b', 2: ''}"):
        copy = student_copy(lesson())
        copy.cells.append(new_markdown_cell(told))
        assert len(list(quiz_leaks("00", copy))) == 1, told


# The lessons' own solutions


def check_tests() -> str:
    """The text of all tests of checks."""
    folder = Path(__file__).parent
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("test_checks*.py")))


@each_notebook
def test_the_solutions_of_a_lesson_pass_the_checks_from_definitions_alone(path: Path) -> None:
    notebook = read_notebook(path)
    wanted = [{"id": e.id, "check": f"checks.{e.function}({e.function})"} for e in find_exercises(notebook)]
    answers = [line for line in attempt(notebook, wanted, []) if "id" in line]
    assert [(a["id"], a["passed"], a["says"]) for a in answers] == [(e["id"], True, "") for e in wanted]


@each_notebook
def test_each_exercise_calls_the_check_of_its_name_which_is_tested(path: Path) -> None:
    tests = check_tests()
    for exercise in find_exercises(read_notebook(path)):
        name = exercise.function
        assert callable(getattr(checks, name, None)), f"{exercise.id}: there is no checks.{name}"
        assert re.search(rf"\bchecks\.{name}\({name}\)", exercise.check.source), exercise.id
        assert re.search(rf"^(def|class) {name}\b", exercise.solution.source, re.MULTILINE), exercise.id
        assert exercise.check_id == f"{exercise.id}-check"
        assert f"checks.{name}" in tests, f"no test of checks.{name}"


def test_ids_of_exercises_and_names_of_checks_are_unique_in_the_course() -> None:
    exercises = [e for path in NOTEBOOKS for e in find_exercises(read_notebook(path))]
    for what in ("id", "function"):
        values = [getattr(e, what) for e in exercises]
        assert len(set(values)) == len(values), sorted(v for v in values if values.count(v) > 1)
    for path in NOTEBOOKS:
        assert all(e.id.startswith(f"{path.stem[:2]}-") for e in find_exercises(read_notebook(path)))
