"""The learner's workspace: unsolved copies of the lessons, made with nbgrader's own preprocessors.

    course start [DIR]

Run again after an update, it replaces the notebooks that the learner has not changed. A changed one, and one that was
run is changed, is never overwritten: the new version is put beside it, once. `.course.json` in the workspace holds the
fingerprint of every version that was given out. To start a lesson over, rename or delete its notebook and start again.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Literal

from nbformat import NotebookNode

from course_lib.lessons.normalise import find_notebooks, read_notebook, write_notebook

LESSONS = Path(__file__).parents[2] / "notebooks"
RECORD = ".course.json"
COMPARED = re.compile(r"^# NBVAL_CHECK_OUTPUT\n", re.MULTILINE)

How = Literal["new", "updated", "same", "yours", "beside"]


@dataclass(frozen=True)
class Placed:
    """What became of one lesson: the file that holds it, and how.

    new: written. updated: an unchanged older version was replaced. same: unchanged and up to date. yours: changed by
    the learner, and there is no newer version that was not given out. beside: a newer version was put beside it.
    """

    lesson: str
    path: Path
    how: How


def lesson_notebooks(folder: Path = LESSONS) -> list[Path]:
    """The solved notebooks of the course, in order.

    Raises ValueError where there are none: they belong to the repository, not to an installed package.
    """
    found = find_notebooks([folder]) if folder.is_dir() else []
    if not found:
        raise ValueError(
            f"{folder}: there are no lessons here. They are part of the repository: clone it, and install it in place "
            'with pip install -e ".[dev]"'
        )
    return found


def student_copy(notebook: NotebookNode) -> NotebookNode:
    """The unsolved copy of a lesson: stubs for solutions, no outputs, checks locked; the lesson is left as it is.

    Raises ValueError where nbgrader, which makes it, is not installed.
    """
    try:
        from nbgrader import preprocessors
    except ImportError as error:
        raise ValueError(
            f'nbgrader makes the unsolved copies, and is not installed: "{sys.executable}" -m pip install -e ".[dev]"'
        ) from error
    copy, resources = without_test_marks(notebook), {}
    for step in ("LockCells", "ClearSolutions", "ClearHiddenTests", "ClearMarkScheme", "ClearOutput"):
        copy, resources = getattr(preprocessors, step)()(copy, resources)
    return copy


def without_test_marks(notebook: NotebookNode) -> NotebookNode:
    """A copy without the comments that only nbval reads."""
    copy = deepcopy(notebook)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.source = COMPARED.sub("", cell.source)
    return copy


def start_workspace(folder: Path, lessons: Path = LESSONS) -> list[Placed]:
    """Make or update the workspace in `folder` from the solved notebooks in `lessons`.

    Raises ValueError for a folder that holds the lessons themselves, and for a record that cannot be read.
    """
    if folder.resolve() == lessons.resolve():
        raise ValueError(f"{folder} holds the lessons themselves; name another folder for your copies")
    copies = {path.stem: student_copy(read_notebook(path)) for path in lesson_notebooks(lessons)}
    folder.mkdir(parents=True, exist_ok=True)
    given = _read_record(folder / RECORD)
    placed = [_place(folder, lesson, copy, given.setdefault(lesson, [])) for lesson, copy in copies.items()]
    temporary = folder / f"{RECORD}.tmp"
    temporary.write_text(json.dumps({"given": given}, indent=1) + "\n", encoding="utf-8", newline="\n")
    temporary.replace(folder / RECORD)
    return placed


def _place(folder: Path, lesson: str, copy: NotebookNode, given: list[str]) -> Placed:
    """Put one lesson into the workspace; `given`, the fingerprints of the versions given out, gains this one."""
    newest, path = fingerprint(copy), folder / f"{lesson}.ipynb"
    how: How
    if not path.exists():
        how = "new"
    elif (found := _fingerprint_of(path)) == newest:
        how = "same"
    elif found in given:
        how = "updated"
    elif newest in given:
        how = "yours"
    else:
        how = "beside"
        path = next(p for p in _beside(path) if not p.exists() or _fingerprint_of(p) in given)
    if how in ("new", "updated", "beside"):
        write_notebook(copy, path)
    if newest not in given:
        given.append(newest)
    return Placed(lesson, path, how)


def _beside(path: Path) -> Iterator[Path]:
    """Names for newer versions: 00_tour.new.ipynb, 00_tour.new-2.ipynb, …"""
    yield path.with_name(f"{path.stem}.new.ipynb")
    yield from (path.with_name(f"{path.stem}.new-{n}.ipynb") for n in count(2))


def fingerprint(notebook: NotebookNode) -> str:
    """A hash of what a learner can have made: text, code and outputs of all cells; not what an editor notes down."""
    cells = [[c.cell_type, c.source, c.get("outputs", []), c.get("attachments", {})] for c in notebook.cells]
    return sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()[:16]


def _fingerprint_of(path: Path) -> str:
    """That of a file; one that is no notebook has none, and so counts as changed."""
    try:
        return fingerprint(read_notebook(path))
    except ValueError:
        return ""


def _read_record(path: Path) -> dict[str, list[str]]:
    """By lesson the fingerprints of the versions given out; empty where there is no record yet."""
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["given"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected the record of this workspace, found a damaged file. Delete it: every notebook then "
            "counts as changed by you, and none is overwritten"
        ) from error


def format_placed(placed: Sequence[Placed], folder: Path) -> str:
    """What happened, in words, and what to do next."""
    told = {"new": "{} new", "updated": "{} updated", "same": "{} up to date", "yours": "{} changed by you, kept"}
    counts = {how: sum(p.how == how for p in placed) for how in told}
    summary = ", ".join(text.format(counts[how]) for how, text in told.items() if counts[how])
    lines = [f"{folder}: {summary or 'nothing else to do'}"]
    for p in placed:
        if p.how == "updated":
            lines.append(f"  {p.path.name} updated: you had not changed it")
        elif p.how == "beside":
            lines.append(f"  {p.lesson}.ipynb is yours and stays; its new version is beside it, {p.path.name}")
    lines.append(f'Open it: "{sys.executable}" -m jupyterlab {folder / placed[0].lesson}.ipynb (or `make lab`)')
    return "\n".join(lines)
