"""The classroom pack: the lessons as assignments of an nbgrader course.

    course release OUT

OUT becomes nbgrader's course folder: `nbgrader_config.py`, `source/` (solved, for the teacher), `release/` (unsolved,
for students) and `gradebook.db`, one assignment a lesson. nbgrader itself makes the release. Run again after an update,
it replaces what the teacher has not changed; a changed source stays, its new version goes to `updates/`.
"""

import json
import os
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from nbformat import NotebookNode

from course_lib.lessons.exercise_cells import find_exercises
from course_lib.lessons.normalise import read_notebook, render
from course_lib.lessons.workspace import LESSONS, lesson_notebooks, without_test_marks

CONFIG = "nbgrader_config.py"
RECORD = ".course.json"
IMPORT = "from course_lib.lessons import checks"
SETTINGS = '''"""nbgrader's settings for this course. Yours to change; docs/teaching.md in the course explains them."""

from pathlib import Path

from nbgrader import preprocessors as steps

from course_lib.lessons import grading

c = get_config()  # noqa: F821 (nbgrader provides it)
c.CourseDirectory.course_id = "object-detection"  # on a hub, the name of the course in the exchange
c.CourseDirectory.root = str(Path(__file__).parent)

# Every submission is executed from top to bottom, in the lessons' fast form: seconds for each.
c.Execute.timeout = 120  # seconds a cell; then it counts as failed, and the next one runs

# A check cell that was deleted is put back. Deleted and copied cells are marked for you to look at.
c.OverwriteCells.add_missing_cells = True
c.Autograde.sanitize_preprocessors = [
    steps.ClearOutput,
    grading.NoteCells,
    steps.DeduplicateIds,
    steps.OverwriteKernelspec,
    steps.OverwriteCells,
    steps.CheckCellMetadata,
]
c.ClearMetadataPreprocessor.preserve_nb_metadata_mask = {("language_info", "name"), grading.NOTE}
c.ClearMetadataPreprocessor.clear_cell_metadata = False
c.Autograde.autograde_preprocessors = [
    grading.ExecuteFast,
    steps.IgnorePattern,
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    steps.LimitOutput,
    steps.SaveAutoGrades,
    grading.FlagCells,
    steps.AssignLatePenalties,
    steps.CheckCellMetadata,
]

# nbgrader gives no points to a check that prints to stderr. A mere warning must not cost points: an error does.
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = r"[\\s\\S]"
'''

How = Literal["new", "updated", "same", "yours"]


@dataclass(frozen=True)
class Assignment:
    """One lesson of the pack: its name, its points, and what became of its source (as in the workspace)."""

    name: str
    points: float
    how: How


def release(out: Path, lessons: Path = LESSONS) -> list[Assignment]:
    """Make or update the pack in `out` from the solved notebooks in `lessons`.

    Raises ValueError where nbgrader is not installed or refuses an assignment, and for a folder of other things.
    """
    if not (out / RECORD).exists() and out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no classroom pack; name a new folder")
    sources = {path.stem: read_notebook(path) for path in lesson_notebooks(lessons)}
    record = json.loads((out / RECORD).read_text(encoding="utf-8")) if (out / RECORD).exists() else {}
    given, released = record.setdefault("given", {}), record.setdefault("released", {})
    _place(out / CONFIG, SETTINGS, out, given)
    assignments, outdated = [], {}
    for name, notebook in sources.items():
        text = render(teachers_copy(notebook))
        how = _place(out / "source" / name / f"{name}.ipynb", text, out, given)
        assignments.append(Assignment(name, sum(e.points for e in find_exercises(notebook)), how))
        there = (out / "release" / name / f"{name}.ipynb").is_file()
        if not there or (how != "yours" and released.get(name) != _hash(text)):
            outdated[name] = _hash(text)
    refused = _generate(out, list(outdated))
    released |= {name: source for name, source in outdated.items() if name not in refused}
    _write(out / RECORD, json.dumps(record, indent=1) + "\n")
    if refused:
        raise ValueError("; ".join(f"nbgrader refused {name}: {why}" for name, why in refused.items()))
    return assignments


def teachers_copy(notebook: NotebookNode) -> NotebookNode:
    """A lesson as an assignment's source: each check imports `checks` itself, whatever a student named so before."""
    copy = without_test_marks(notebook)
    for exercise in find_exercises(copy):
        if IMPORT not in exercise.check.source:
            exercise.check.source = f"{IMPORT}\n\n{exercise.check.source}"
    return copy


def _place(path: Path, text: str, out: Path, record: dict[str, list[str]]) -> How:
    """Write a file of the pack unless the teacher changed it: then the new version goes to updates/, once.

    record: by file, the hashes of the versions given out.
    """
    given = record.setdefault(path.relative_to(out).as_posix(), [])
    newest = _hash(text)
    found = _hash(path.read_text(encoding="utf-8")) if path.exists() else None
    if found == newest:
        how: How = "same"
    elif found is None or found in given:
        how = "new" if found is None else "updated"
        _write(path, text)
    else:
        how = "yours"
        if newest not in given:
            _write(out / "updates" / path.name, text)
    if newest not in given:
        given.append(newest)
    return how


def _generate(out: Path, names: Sequence[str]) -> dict[str, str]:
    """Let nbgrader make the students' copies and enter the assignments; by name, why it refused one."""
    try:
        from nbgrader.apps import NbGraderAPI
        from traitlets.config import PyFileConfigLoader
    except ImportError as error:
        raise ValueError(f'nbgrader is not installed: "{sys.executable}" -m pip install -e ".[dev]"') from error
    config = PyFileConfigLoader(CONFIG, path=str(out.resolve())).load_config()
    config.CourseDirectory.root = str(out.resolve())
    api = NbGraderAPI(config=config, log_level="ERROR")
    refused = {}
    for name in names:
        with _scripts_on_path():
            answer = api.generate_assignment(name)
        if not answer["success"]:
            log = [line.strip() for line in answer.get("log", "").splitlines()]
            reasons = [line for line in log if line and not line.startswith("[")] or log or ["no reason given"]
            refused[name] = reasons[-1]
    return refused


@contextmanager
def _scripts_on_path() -> Iterator[None]:
    """nbgrader calls `alembic` by its bare name: it must be found also where the environment is not activated."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def _write(path: Path, text: str) -> None:
    """Write a file all at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    temporary.replace(path)


def format_assignments(assignments: Sequence[Assignment], out: Path) -> str:
    """What was made, in words, and what to do next."""
    told = {"new": "", "updated": ", updated", "same": ", unchanged", "yours": ", changed by you: kept"}
    lines = [f"  {a.name:<20} {a.points:g} points{told[a.how]}" for a in assignments]
    total = sum(a.points for a in assignments)
    return "\n".join(
        [
            f"{out}: {len(assignments)} assignments, {total:g} points",
            *lines,
            f"Students get {out / 'release'}. Grade in {out}: nbgrader autograde NAME. docs/teaching.md has the rest.",
        ]
    )
