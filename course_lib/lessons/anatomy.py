"""The form that every lesson has, as rules: DESIGN's "a notebook's anatomy" that a program can check.

    python -m course_lib.lessons.anatomy [notebook or folder ...]

A rule is a function from a notebook to what is wrong with it, one line each, saying which cell. Together with the
normal form (normalise.py) the rules are part of `make lint` and of the tests.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from statistics import median

from nbformat import NotebookNode

from course_lib.lessons.card import FORM, run_time, work_time
from course_lib.lessons.normalise import cell_name, find_notebooks, images, output_text, read_notebook, report

CELLS, CODE_CELLS, WORDS, EXERCISES = (35, 55), (18, 25), (1500, 3000), (3, 4)  # least, most
MEDIAN_LINES, MOST_LINES = 8, 30
COMPARED_CELLS = 6
ALT_WORDS = 3
SECTIONS = ("set-up", "predict", "exercise", "parity", "break it", "experiment", "quiz", "take-aways")
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
SOLUTION = {"schema_version": 3, "grade": False, "solution": True, "locked": False}
CHECK = {"schema_version": 3, "grade": True, "solution": False, "locked": True}
GLOSSARY_ITEM = re.compile(r"- \*[^*]+\*: ")
MARKDOWN_IMAGE = re.compile(r"!\[([^\]]*)\]\(")


def size(notebook: NotebookNode) -> Iterator[str]:
    """35-55 cells, 18-25 of them code; 1,500-3,000 words of markdown beside the glossary; no empty cell."""
    lines = [line for cell in _markdown(notebook) for line in cell.source.splitlines()]
    words = sum(len(re.findall(r"\S*\w\S*", line)) for line in lines if not GLOSSARY_ITEM.match(line))
    yield from _not_within(len(notebook.cells), CELLS, "cells")
    yield from _not_within(len(_code(notebook)), CODE_CELLS, "code cells")
    yield from _not_within(words, WORDS, "words of markdown")
    yield from (f"{cell_name(cell)} is empty" for cell in notebook.cells if not cell.source.strip())


def code_length(notebook: NotebookNode) -> Iterator[str]:
    """A code cell's median is at most 8 lines, none has over 30."""
    lengths = {cell_name(cell): len(cell.source.splitlines()) for cell in _code(notebook)}
    yield from (f"{name} has {n} lines, at most {MOST_LINES} are read" for name, n in lengths.items() if n > MOST_LINES)
    if lengths and (middle := median(lengths.values())) > MEDIAN_LINES:
        yield f"the median code cell has {middle:g} lines, at most {MEDIAN_LINES} expected"


def sections(notebook: NotebookNode) -> Iterator[str]:
    """A title, a card with prerequisites and run time, then headings with the words of SECTIONS, in that order."""
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.startswith("# "):
        yield "the first cell is not a title ('# ...')"
    opening = "\n".join(cell.source for cell in notebook.cells[:4] if cell.cell_type == "markdown").lower()
    for words in ("prerequisites", "run time"):
        if words not in opening:
            yield f"the card at the top does not name the {words}"
    text = "\n".join(cell.source for cell in _markdown(notebook))
    headings = [line.lower() for line in text.splitlines() if re.match(r"#+ ", line)]
    position = 0
    for section in SECTIONS:
        places = [i for i, heading in enumerate(headings) if section in heading]
        if not places:
            yield f"no heading with {section!r}"
        elif places[-1] < position:
            yield f"the heading with {section!r} is out of order: expected {', '.join(SECTIONS)}"
        else:
            position = min(i for i in places if i >= position)


def card(notebook: NotebookNode) -> Iterator[str]:
    """The card says the run time and the time of work in the form that the program reads and writes (card.py)."""
    if run_time(notebook) is None or work_time(notebook) is None:
        yield f"the card at the top does not say {FORM}"


def executed(notebook: NotebookNode) -> Iterator[str]:
    """Every code cell has been executed and none ended in an error. nbval does not compare a cell that was not."""
    for cell in _code(notebook):
        if cell.execution_count is None:
            yield f"{cell_name(cell)} was not executed"
        if any(output.output_type == "error" for output in cell.outputs):
            yield f"{cell_name(cell)} ended in an error"


def compared(notebook: NotebookNode) -> Iterator[str]:
    """At least six cells have their printed output compared by nbval, and these print nothing that varies."""
    cells = [cell for cell in _code(notebook) if is_compared(cell)]
    if len(cells) < COMPARED_CELLS:
        yield f"nbval compares {len(cells)} cells (NBVAL_CHECK_OUTPUT), expected at least {COMPARED_CELLS}"
    for cell in cells:
        if not any(output_text(output).strip() for output in cell.outputs):
            yield f"{cell_name(cell)} is to be compared but prints nothing"
        if any(True for output in cell.outputs for _ in images(output)):
            yield f"{cell_name(cell)} is to be compared but shows a picture, which differs from machine to machine"


def is_compared(cell: NotebookNode) -> bool:
    """Whether nbval in its lax mode compares a cell's output: by a comment of its own or by a tag."""
    comments = (line.strip().lstrip("#").strip() for line in cell.source.splitlines() if line.strip().startswith("#"))
    return "NBVAL_CHECK_OUTPUT" in comments or "nbval-check-output" in cell.metadata.get("tags", [])


def dials(notebook: NotebookNode) -> Iterator[str]:
    """A figure with dials (explore.py) leaves its picture in the file: some readers have nothing else."""
    for cell in _code(notebook):
        if re.search(r"^explore\(", cell.source, re.MULTILINE) and not any(
            True for output in cell.outputs for _ in images(output)
        ):
            yield f"{cell_name(cell)} calls explore but its output has no picture"


def exercises(notebook: NotebookNode) -> Iterator[str]:
    """Three or four exercises: a card (difficulty, minutes), a solution cell, then a separate check cell.

    The metadata is nbgrader's, schema 3, and passes nbgrader's own validator.
    """
    from nbgrader.nbgraderformat.common import SchemaMismatchError, ValidationError
    from nbgrader.nbgraderformat.v3 import MetadataValidatorV3

    solutions = 0
    for place, cell in enumerate(notebook.cells):
        grader = cell.metadata.get("nbgrader", {})
        if grader.get("solution"):
            solutions += 1
            yield from _wrong_solution(cell, notebook.cells[max(place - 1, 0)])
            following = next((c for c in notebook.cells[place + 1 :] if c.cell_type == "code"), None)
            if following is None or not following.metadata.get("nbgrader", {}).get("grade"):
                yield f"{cell_name(cell)}: the next code cell is not its check"
        elif BEGIN in cell.source or END in cell.source:
            yield f"{cell_name(cell)} has solution marks but no nbgrader metadata of a solution"
        elif grader:
            yield from _wrong_check(cell)
    yield from _not_within(solutions, EXERCISES, "exercises")
    try:
        MetadataValidatorV3().validate_nb(notebook)
    except (ValidationError, SchemaMismatchError) as error:
        yield f"nbgrader refuses the metadata: {str(error).splitlines()[0]}"


def _wrong_solution(cell: NotebookNode, card: NotebookNode) -> Iterator[str]:
    """What is wrong with a solution cell and the card before it."""
    yield from _wrong_metadata(cell, SOLUTION)
    lines = [line.strip() for line in cell.source.splitlines()]
    if lines.count(BEGIN) != 1 or lines.count(END) != 1 or not lines.index(BEGIN) < lines.index(END) - 1:
        yield f"{cell_name(cell)} has no body between one {BEGIN!r} and one {END!r}"
    text = card.source.lower()
    if card.cell_type != "markdown" or "difficulty" not in text or not re.search(r"\d+ min", text):
        yield f"{cell_name(cell)}: the cell before is not a card with the difficulty and the minutes ('~10 minutes')"


def _wrong_check(cell: NotebookNode) -> Iterator[str]:
    """What is wrong with a check cell."""
    yield from _wrong_metadata(cell, CHECK)
    points = cell.metadata.nbgrader.get("points")
    if not isinstance(points, int | float) or points <= 0:
        yield f"{cell_name(cell)} gives {points} points, expected more than 0"
    if not re.search(r"\bchecks\.\w+\(", cell.source):
        yield f"{cell_name(cell)} calls no check (checks.name(...))"


def _wrong_metadata(cell: NotebookNode, expected: dict[str, object]) -> Iterator[str]:
    """Where a cell's nbgrader metadata is not the expected one."""
    for key, value in expected.items():
        if cell.metadata.nbgrader.get(key) != value:
            yield f"{cell_name(cell)}: nbgrader's {key} is {cell.metadata.nbgrader.get(key)}, expected {value}"


def alt_text(notebook: NotebookNode) -> Iterator[str]:
    """Every picture has an alt text of at least three words: in an output, in markdown, in HTML."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            page = NotebookNode(data={"text/html": cell.source}, metadata={})
            alts = [*MARKDOWN_IMAGE.findall(cell.source), *(alt for alt, _ in images(page))]
        else:
            alts = [alt for output in cell.get("outputs", []) for alt, _ in images(output)]
        yield from (
            f"{cell_name(cell)} shows a picture whose alt text is {alt!r}, expected at least {ALT_WORDS} words"
            for alt in alts
            if len(alt.split()) < ALT_WORDS
        )


def _not_within(count: int, limits: tuple[int, int], what: str) -> Iterator[str]:
    """A line when a count is not within its limits, both included."""
    if not limits[0] <= count <= limits[1]:
        yield f"{count} {what}, expected {limits[0]} to {limits[1]}"


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _markdown(notebook: NotebookNode) -> list[NotebookNode]:
    """The markdown cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


RULES = (size, code_length, sections, card, executed, compared, dials, exercises, alt_text)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 1 when a notebook breaks a rule, else 0."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.lessons.anatomy", description=__doc__)
    parser.add_argument("paths", nargs="*", default=["notebooks"], help="notebooks, or folders of them")
    arguments = parser.parse_args(argv)
    try:
        notebooks = [(path, read_notebook(path)) for path in find_notebooks(arguments.paths)]
    except ValueError as error:
        return report([str(error)])  # it names the file
    return report([f"{path}: {rule.__name__}: {line}" for path, nb in notebooks for rule in RULES for line in rule(nb)])


if __name__ == "__main__":
    sys.exit(main())
