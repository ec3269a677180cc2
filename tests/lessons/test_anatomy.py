from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from course_lib.lessons import anatomy
from course_lib.lessons.anatomy import RULES
from course_lib.lessons.normalise import normalise, write_notebook
from tests.lessons.lesson import lesson, picture, png, stream


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def graded(notebook: NotebookNode, kind: str) -> NotebookNode:
    return next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get(kind))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_good_lesson_breaks_no_rule(rule: Callable) -> None:
    assert list(rule(lesson())) == []


def drop_cells(nb: NotebookNode) -> None:
    nb.cells = nb.cells[:30]


def too_many_cells(nb: NotebookNode) -> None:
    nb.cells += [new_markdown_cell("word") for _ in range(21)]


def too_much_code(nb: NotebookNode) -> None:
    nb.cells += [new_code_cell("1", execution_count=1) for _ in range(8)]


def few_words(nb: NotebookNode) -> None:
    for cell in nb.cells:
        cell.source = cell.source.replace("word ", "")


def many_words(nb: NotebookNode) -> None:
    nb.cells[-1].source = "word " * 2000


def empty_cell(nb: NotebookNode) -> None:
    nb.cells[-1].source = " \n"


def long_cell(nb: NotebookNode) -> None:
    code(nb)[0].source = "\n".join(f"x{i} = {i}" for i in range(31))


def long_median(nb: NotebookNode) -> None:
    for cell in code(nb):
        cell.source = "\n".join(f"x{i} = {i}" for i in range(9))


def no_title(nb: NotebookNode) -> None:
    nb.cells[0].source = "Tour"


def no_run_time(nb: NotebookNode) -> None:
    nb.cells[1].source = "Prerequisites: none."


def run_time_in_other_words(nb: NotebookNode) -> None:
    nb.cells[1].source = nb.cells[1].source.replace("2 minutes on", "a moment on")


def no_work_time(nb: NotebookNode) -> None:
    nb.cells[1].source = nb.cells[1].source.replace("**Work:**", "")


def no_prerequisites(nb: NotebookNode) -> None:
    nb.cells[1].source = "Run time: 2 minutes."


def no_quiz(nb: NotebookNode) -> None:
    nb.cells = [cell for cell in nb.cells if "Quiz" not in cell.source]


def parity_last(nb: NotebookNode) -> None:
    nb.cells.append(nb.cells.pop(next(i for i, c in enumerate(nb.cells) if "Parity" in c.source)))


def not_executed(nb: NotebookNode) -> None:
    code(nb)[3].execution_count = None


def error_output(nb: NotebookNode) -> None:
    code(nb)[3].outputs = [new_output("error", ename="NameError", evalue="x", traceback=[])]


def five_compared(nb: NotebookNode) -> None:
    cell = next(c for c in nb.cells if "NBVAL_CHECK_OUTPUT" in c.source)
    cell.source = cell.source.replace("NBVAL_CHECK_OUTPUT", "check")


def compares_nothing(nb: NotebookNode) -> None:
    next(c for c in nb.cells if "NBVAL_CHECK_OUTPUT" in c.source).outputs = [picture()]


def compares_a_picture(nb: NotebookNode) -> None:
    next(c for c in nb.cells if "NBVAL_CHECK_OUTPUT" in c.source).outputs.append(picture())


def dials_without_a_picture(nb: NotebookNode) -> None:
    code(nb)[0].source = "explore(draw, 'A curve that falls', gamma=(0, 5, 1, 2))"


def two_exercises(nb: NotebookNode) -> None:
    nb.cells = [c for c in nb.cells if not c.metadata.get("nbgrader", {}).get("grade_id", "").startswith("00-3")]


def no_check(nb: NotebookNode) -> None:
    nb.cells.remove(graded(nb, "grade"))


def check_calls_nothing(nb: NotebookNode) -> None:
    graded(nb, "grade").source = "assert True"


def unlocked_check(nb: NotebookNode) -> None:
    graded(nb, "grade").metadata.nbgrader.locked = False


def no_points(nb: NotebookNode) -> None:
    del graded(nb, "grade").metadata.nbgrader["points"]


def no_card(nb: NotebookNode) -> None:
    nb.cells[nb.cells.index(graded(nb, "solution")) - 1].source = "## Exercise 1"


def no_solution_marks(nb: NotebookNode) -> None:
    graded(nb, "solution").source = "def f(x):\n    return x"


def empty_solution(nb: NotebookNode) -> None:
    graded(nb, "solution").source = "def f(x):\n    ### BEGIN SOLUTION\n    ### END SOLUTION"


def old_schema(nb: NotebookNode) -> None:
    graded(nb, "solution").metadata.nbgrader.schema_version = 2


def marks_without_metadata(nb: NotebookNode) -> None:
    graded(nb, "solution").metadata = NotebookNode()


def same_grade_id(nb: NotebookNode) -> None:
    graded(nb, "grade").metadata.nbgrader.grade_id = "00-1"


def no_alt(nb: NotebookNode) -> None:
    code(nb)[0].outputs = [picture(alt="")]


def short_alt(nb: NotebookNode) -> None:
    code(nb)[0].outputs = [picture(alt="figure 1")]


def no_alt_in_markdown(nb: NotebookNode) -> None:
    nb.cells[-1].source = "![](attachment:pipeline.png)"


def no_alt_in_html(nb: NotebookNode) -> None:
    code(nb)[0].outputs = [new_output("display_data", {"text/html": f'<img src="data:image/png;base64,{png()}">'})]


MUTANTS = {
    "size": [drop_cells, too_many_cells, too_much_code, few_words, many_words, empty_cell],
    "code_length": [long_cell, long_median],
    "sections": [no_title, no_run_time, no_prerequisites, no_quiz, parity_last],
    "card": [no_run_time, run_time_in_other_words, no_work_time],
    "executed": [not_executed, error_output],
    "compared": [five_compared, compares_nothing, compares_a_picture],
    "dials": [dials_without_a_picture],
    "exercises": [
        two_exercises,
        no_check,
        check_calls_nothing,
        unlocked_check,
        no_points,
        no_card,
        no_solution_marks,
        empty_solution,
        old_schema,
        marks_without_metadata,
        same_grade_id,
    ],
    "alt_text": [no_alt, short_alt, no_alt_in_markdown, no_alt_in_html],
}


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [(rule, spoil) for rule in RULES for spoil in MUTANTS[rule.__name__]],
    ids=lambda value: value.__name__,
)
def test_a_broken_rule_is_found(rule: Callable, spoil: Callable) -> None:
    notebook = lesson()
    spoil(notebook)
    assert list(rule(notebook)) != []


def test_a_glossary_is_not_counted_among_the_words() -> None:
    notebook = lesson()
    notebook.cells[-1].source = "**Glossary**\n\n" + "- *box*: Four numbers.\n" * 1000
    assert list(anatomy.size(notebook)) == []


def test_messages_name_the_cell_and_the_expected_form() -> None:
    notebook = normalise(lesson(), "00")
    check = graded(notebook, "grade")
    check.metadata.nbgrader.locked = False
    assert list(anatomy.exercises(notebook)) == [
        f"cell {check.id} ('from course_lib.lessons import checks'): nbgrader's locked is False, expected True"
    ]


@pytest.mark.parametrize(
    ("source", "tags", "expected"),
    [
        ("# NBVAL_CHECK_OUTPUT\nprint(1)", [], True),
        ("print(1)", ["nbval-check-output"], True),
        ("print('NBVAL_CHECK_OUTPUT')", [], False),
        ("# see NBVAL_CHECK_OUTPUT\nprint(1)", [], False),
    ],
)
def test_is_compared_is_what_nbval_does(source: str, tags: list[str], expected: bool) -> None:
    from nbval.plugin import find_comment_markers, find_metadata_tags

    cell = new_code_cell(source, metadata={"tags": tags})
    assert anatomy.is_compared(cell) == expected
    nbval = dict(find_metadata_tags(cell.metadata)) | dict(find_comment_markers(source))
    assert nbval.get("check", False) == expected


def test_dials_with_their_picture_are_fine() -> None:
    notebook = lesson()
    dials_without_a_picture(notebook)
    code(notebook)[0].outputs = [picture()]
    assert list(anatomy.dials(notebook)) == []


def test_alt_text_in_html_and_markdown_is_seen() -> None:
    notebook = lesson()
    html = f"<img alt='Three boxes on a street' src='data:image/png;base64,{png()}'/>"
    code(notebook)[0].outputs = [new_output("display_data", {"text/html": html}), stream("done\n")]
    notebook.cells[-1].source = "![The pipeline with today's block lit](attachment:p.png)\n\n" + html
    assert list(anatomy.alt_text(notebook)) == []


def test_the_command_reports_file_and_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "00_good.ipynb", tmp_path / "01_bad.ipynb"
    notebook = lesson()
    write_notebook(notebook, good)
    short_alt(notebook)
    write_notebook(notebook, bad)
    assert anatomy.main([str(good)]) == 0
    assert capsys.readouterr().out == ""
    assert anatomy.main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"{bad}: alt_text: cell ")
    assert out.count("\n") == 1


def test_the_synthetic_lesson_is_a_valid_notebook() -> None:
    nbformat.validate(lesson())
