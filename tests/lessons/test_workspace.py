"""The learner's workspace: unsolved copies that an update never takes away. (test_student_copies.py: no leaks.)"""

import shutil
import sys
from copy import deepcopy
from pathlib import Path

import pytest
from nbformat import NotebookNode

from course_lib.lessons.normalise import read_notebook, write_notebook
from course_lib.lessons.workspace import (
    RECORD,
    format_placed,
    lesson_notebooks,
    start_workspace,
    student_copy,
    without_test_marks,
)
from tests.lessons.lesson import lesson, stream

NAMES = ("00_tour", "01_more")


@pytest.fixture
def lessons(tmp_path: Path) -> Path:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in NAMES:
        write_notebook(lesson(), folder / f"{name}.ipynb")
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


def how(folder: Path, lessons: Path) -> list[str]:
    return [placed.how for placed in start_workspace(folder, lessons)]


def update(lessons: Path, text: str) -> None:
    """A new version of both lessons, with another text in the second cell."""
    notebook = lesson()
    notebook.cells[1].source += f" {text}"
    for name in NAMES:
        write_notebook(notebook, lessons / f"{name}.ipynb")


def edit(path: Path, **changes: str) -> bytes:
    """Solve the first exercise, or change something else; the new content."""
    notebook = read_notebook(path)
    cell = next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("solution"))
    cell.update(changes or {"source": "def f1(x):\n    return x"})
    write_notebook(notebook, path)
    return path.read_bytes()


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def first_exercise(notebook: NotebookNode) -> tuple[NotebookNode, NotebookNode]:
    place = next(n for n, c in enumerate(notebook.cells) if c.metadata.get("nbgrader", {}).get("solution"))
    return notebook.cells[place], notebook.cells[place + 1]


def test_a_copy_has_stubs_locked_checks_and_no_outputs() -> None:
    original = lesson()
    before = deepcopy(original)
    copy = student_copy(original)
    assert original == before
    solution, check = first_exercise(copy)
    assert solution.source == "def f1(x):\n    # YOUR CODE HERE\n    raise NotImplementedError()"
    assert (check.metadata["deletable"], check.metadata["editable"]) == (False, False)
    assert solution.metadata.get("editable", True)
    code = [cell for cell in copy.cells if cell.cell_type == "code"]
    assert {(cell.execution_count, len(cell.outputs)) for cell in code} == {(None, 0)}
    assert not any("NBVAL" in cell.source for cell in copy.cells)
    assert [cell.id for cell in copy.cells] == [cell.id for cell in original.cells]


def test_test_marks_are_comments_of_their_own() -> None:
    notebook = lesson()
    notebook.cells[3].source = "text = 'NBVAL_CHECK_OUTPUT'\n# NBVAL_CHECK_OUTPUT\nprint(text)"
    assert without_test_marks(notebook).cells[3].source == "text = 'NBVAL_CHECK_OUTPUT'\nprint(text)"


def test_start_makes_a_workspace_and_again_changes_nothing(lessons: Path, mine: Path) -> None:
    assert how(mine, lessons) == ["new", "new"]
    assert files(mine) == {"00_tour.ipynb", "01_more.ipynb", RECORD}
    before = {path.name: path.read_bytes() for path in mine.iterdir()}
    assert how(mine, lessons) == ["same", "same"]
    assert before == {path.name: path.read_bytes() for path in mine.iterdir()}


def test_an_update_replaces_what_is_unchanged_and_puts_the_new_version_beside_what_is_not(
    lessons: Path, mine: Path
) -> None:
    start_workspace(mine, lessons)
    solved = edit(mine / "00_tour.ipynb")
    assert how(mine, lessons) == ["yours", "same"]

    update(lessons, "Second version.")
    placed = start_workspace(mine, lessons)
    assert [p.how for p in placed] == ["beside", "updated"]
    assert (mine / "00_tour.ipynb").read_bytes() == solved
    assert "Second version" in text(mine / "00_tour.new.ipynb")
    assert "Second version" in text(mine / "01_more.ipynb")
    said = format_placed(placed, mine)
    assert "00_tour.ipynb is yours and stays; its new version is beside it, 00_tour.new.ipynb" in said
    assert "01_more.ipynb updated" in said
    assert how(mine, lessons) == ["yours", "same"]  # each version once

    update(lessons, "Third version.")
    assert how(mine, lessons) == ["beside", "updated"]
    assert "Third version" in text(mine / "00_tour.new.ipynb")  # nobody had changed that
    also_solved = edit(mine / "00_tour.new.ipynb")
    update(lessons, "Fourth version.")
    assert how(mine, lessons) == ["beside", "updated"]
    assert (mine / "00_tour.new.ipynb").read_bytes() == also_solved
    assert (mine / "00_tour.ipynb").read_bytes() == solved
    assert "Fourth version" in text(mine / "00_tour.new-2.ipynb")


def test_a_notebook_that_was_run_is_changed_and_one_that_was_only_opened_is_not(lessons: Path, mine: Path) -> None:
    start_workspace(mine, lessons)
    edit(mine / "00_tour.ipynb", outputs=[stream("8.5 minutes of training\n")])
    opened = read_notebook(mine / "01_more.ipynb")  # JupyterLab notes the kernel's version and rewrites the file
    opened.metadata.language_info = {"name": "python", "version": "3.13.1"}
    opened.cells[3].metadata.trusted = True
    write_notebook(opened, mine / "01_more.ipynb")
    update(lessons, "Second version.")
    assert how(mine, lessons) == ["beside", "updated"]


def test_a_deleted_or_renamed_notebook_comes_back_fresh(lessons: Path, mine: Path) -> None:
    start_workspace(mine, lessons)
    solved = edit(mine / "00_tour.ipynb")
    (mine / "00_tour.ipynb").rename(mine / "00_mine.ipynb")
    (mine / "01_more.ipynb").unlink()
    assert how(mine, lessons) == ["new", "new"]
    assert (mine / "00_mine.ipynb").read_bytes() == solved
    assert how(mine, lessons) == ["same", "same"]


def test_the_new_version_may_take_the_place_of_the_old(lessons: Path, mine: Path) -> None:
    start_workspace(mine, lessons)
    edit(mine / "00_tour.ipynb")
    update(lessons, "Second version.")
    start_workspace(mine, lessons)
    (mine / "00_tour.new.ipynb").replace(mine / "00_tour.ipynb")
    edit(mine / "00_tour.ipynb")
    assert how(mine, lessons) == ["yours", "same"]
    assert "00_tour.new.ipynb" not in files(mine)


@pytest.mark.parametrize("content", ["", "{", '{"cells": 3}', "my notes"])
def test_what_was_there_before_or_is_damaged_is_kept(lessons: Path, mine: Path, content: str) -> None:
    mine.mkdir()
    (mine / "00_tour.ipynb").write_text(content, encoding="utf-8")
    assert how(mine, lessons) == ["beside", "new"]
    assert text(mine / "00_tour.ipynb") == content
    assert "YOUR CODE HERE" in text(mine / "00_tour.new.ipynb")


def test_without_its_record_everything_in_a_workspace_counts_as_changed(lessons: Path, mine: Path) -> None:
    start_workspace(mine, lessons)
    (mine / RECORD).unlink()
    assert how(mine, lessons) == ["same", "same"]
    (mine / RECORD).unlink()
    update(lessons, "Second version.")
    assert how(mine, lessons) == ["beside", "beside"]


@pytest.mark.parametrize("content", ["", "[]", '{"files": 1}', '{"given": 3}'])
def test_a_damaged_record_is_refused_and_nothing_is_written(lessons: Path, mine: Path, content: str) -> None:
    start_workspace(mine, lessons)
    (mine / RECORD).write_text(content, encoding="utf-8")
    update(lessons, "Second version.")
    with pytest.raises(ValueError, match=r"\.course\.json.*Delete it"):
        start_workspace(mine, lessons)
    assert "Second version" not in text(mine / "00_tour.ipynb")


def test_the_folder_of_the_lessons_is_refused(lessons: Path) -> None:
    before = files(lessons)
    with pytest.raises(ValueError, match="holds the lessons themselves"):
        start_workspace(lessons / ".." / lessons.name, lessons)
    assert files(lessons) == before


def test_without_the_repository_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="clone it"):
        lesson_notebooks(tmp_path / "notebooks")


def test_without_nbgrader_it_says_what_to_install(lessons: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nbgrader", None)
    with pytest.raises(ValueError, match=r'pip install -e "\.\[dev\]"'):
        start_workspace(mine, lessons)
    assert not mine.exists()


def test_a_lesson_that_was_added_comes_in(lessons: Path, mine: Path) -> None:
    start_workspace(mine, lessons)
    shutil.copy(lessons / "00_tour.ipynb", lessons / "02_last.ipynb")
    assert how(mine, lessons) == ["same", "same", "new"]
