"""The classroom pack, and real nbgrader grading what students really hand in."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from nbgrader.api import Gradebook

from course_lib.lessons.classroom import CONFIG, format_assignments, release
from course_lib.lessons.exercise_cells import find_exercises
from course_lib.lessons.normalise import read_notebook, write_notebook
from course_lib.lessons.workspace import LESSONS
from tests.lessons.lesson import GRADER, lesson

TOUR = LESSONS / "00_tour.ipynb"


def nbgrader(pack: Path, *arguments: str) -> str:
    """Run nbgrader in the pack as a teacher does, in an activated environment; what it logged."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    env = {k: v for k, v in os.environ.items() if k != "COURSE_FAST"} | {"PATH": path}
    command = [sys.executable, "-m", "nbgrader", *arguments]
    run = subprocess.run(command, cwd=pack, env=env, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr
    return run.stderr


def write_lessons(folder: Path, **notebooks: NotebookNode) -> Path:
    folder.mkdir(exist_ok=True)
    for name, notebook in notebooks.items():
        write_notebook(notebook, folder / f"{name}.ipynb")
    return folder


def short_tour() -> NotebookNode:
    """Lesson 00 without what takes time: prose, set-up and exercises."""
    notebook = read_notebook(TOUR)
    keep = [c for c in notebook.cells if c.cell_type == "markdown" or "nbgrader" in c.metadata or "torch" in c.source]
    notebook.cells = [c for c in keep if "nbgrader" in c.metadata or "course_lib.engine" not in c.source]
    return notebook


def hand_in(pack: Path, student: str, notebook: NotebookNode, name: str = "00_tour") -> None:
    folder = pack / "submitted" / student / name
    folder.mkdir(parents=True)
    write_notebook(notebook, folder / f"{name}.ipynb")


def solved(pack: Path, name: str = "00_tour", **instead: str) -> NotebookNode:
    """The student's copy with the teacher's solutions, or others `instead`, by the exercise's function."""
    copy = read_notebook(pack / "release" / name / f"{name}.ipynb")
    bodies = {e.id: e.solution.source for e in find_exercises(read_notebook(pack / "source" / name / f"{name}.ipynb"))}
    for exercise in find_exercises(copy):
        exercise.solution.source = instead.get(exercise.function, bodies[exercise.id])
    return copy


def without(notebook: NotebookNode, *ids: str) -> NotebookNode:
    notebook.cells = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") not in ids]
    return notebook


def cell_of(notebook: NotebookNode, name: str) -> int:
    return next(n for n, c in enumerate(notebook.cells) if c.metadata.get("nbgrader", {}).get("grade_id") == name)


def grades(pack: Path, student: str, name: str = "00_tour") -> tuple[dict[str, float], set[str], str]:
    """Of a graded submission: the points of each check, the checks to be looked at, all comments."""
    with Gradebook(f"sqlite:///{pack / 'gradebook.db'}") as gradebook:
        submission = gradebook.find_submission_notebook(name, name, student)
        points = {grade.name: grade.score for grade in submission.grades}
        flagged = {grade.name for grade in submission.grades if grade.needs_manual_grade}
        comments = " ".join(comment.auto_comment or "" for comment in submission.comments)
    return points, flagged, comments


# The pack


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lessons(tmp_path_factory.mktemp("lessons"), **{"00_tour": lesson(), "01_more": lesson()})


@pytest.mark.slow
def test_the_pack_is_an_nbgrader_course(lessons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")  # as where the environment is not activated
    pack = tmp_path / "pack"
    assignments = release(pack, lessons)
    assert [(a.name, a.points, a.how) for a in assignments] == [("00_tour", 6, "new"), ("01_more", 6, "new")]
    assert "2 assignments, 12 points" in format_assignments(assignments, pack)
    with Gradebook(f"sqlite:///{pack / 'gradebook.db'}") as gradebook:
        assert {a.name: a.max_score for a in gradebook.assignments} == {"00_tour": 6, "01_more": 6}
    files = {path.relative_to(pack).as_posix() for path in pack.rglob("*") if path.is_file()}
    both = {f"{part}/{n}/{n}.ipynb" for part in ("source", "release") for n in ("00_tour", "01_more")}
    assert files == {CONFIG, ".course.json", "gradebook.db", *both}  # no .py that nbgrader would copy as it is
    assert [a.how for a in release(pack, lessons)] == ["same", "same"]


@pytest.mark.slow
def test_every_check_in_the_pack_imports_the_checks_itself(lessons: Path, tmp_path: Path) -> None:
    release(tmp_path / "pack", lessons)
    for part in ("source", "release"):
        for exercise in find_exercises(read_notebook(tmp_path / "pack" / part / "00_tour" / "00_tour.ipynb")):
            assert exercise.check.source.startswith("from course_lib.lessons import checks\n")


@pytest.mark.slow
def test_an_update_never_overwrites_what_the_teacher_changed(tmp_path: Path) -> None:
    lessons = write_lessons(tmp_path / "lessons", **{"00_tour": lesson(), "01_more": lesson()})
    pack = tmp_path / "pack"
    release(pack, lessons)
    mine = pack / "source" / "00_tour" / "00_tour.ipynb"
    mine.write_text(mine.read_text(encoding="utf-8").replace("Predict first", "Guess"), encoding="utf-8")
    (pack / CONFIG).write_text("c = get_config()\n", encoding="utf-8")
    kept = mine.read_bytes()
    newer = lesson()
    newer.cells[1].source += " Bring tea."
    write_lessons(lessons, **{"00_tour": newer, "01_more": newer})
    assert [a.how for a in release(pack, lessons)] == ["yours", "updated"]
    assert mine.read_bytes() == kept
    assert (pack / CONFIG).read_text(encoding="utf-8") == "c = get_config()\n"
    assert "Bring tea" in (pack / "updates" / "00_tour.ipynb").read_text(encoding="utf-8")
    assert "Bring tea" in (pack / "release" / "01_more" / "01_more.ipynb").read_text(encoding="utf-8")
    assert "Bring tea" not in (pack / "release" / "00_tour" / "00_tour.ipynb").read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_nbgrader_refuses_is_said_each_time_and_the_others_are_made(tmp_path: Path) -> None:
    bad = lesson()
    bad.cells[3].source = "### BEGIN SOLUTION\nimport math\n### END SOLUTION"  # not marked as a solution
    lessons = write_lessons(tmp_path / "lessons", **{"00_tour": bad, "01_more": lesson()})
    for _ in range(2):
        with pytest.raises(ValueError, match=r"nbgrader refused 00_tour: .*Solution region detected"):
            release(tmp_path / "pack", lessons)
    assert (tmp_path / "pack" / "release" / "01_more" / "01_more.ipynb").exists()
    assert not (tmp_path / "pack" / "release" / "00_tour").exists()


def test_a_folder_with_other_things_is_refused(lessons: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match="holds no classroom pack"):
        release(tmp_path, lessons)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


# Grading


CROSS_ENTROPY = "def focal_terms(p, y, gamma):\n    return -torch.where(y > 0.5, p, 1 - p).log()"
WARNS = (
    "import warnings\n\ndef iou(a, b):\n    warnings.warn('slow')\n    print('here', file=__import__('sys').stderr)\n"
    "    return box_iou(a, b).diagonal()"
)
PRETENDS = "class checks:\n    iou = focal_terms = precision_recall = print\n\ndef iou(a, b): ...\niou.__doc__ = 'none'"


def copied(notebook: NotebookNode) -> NotebookNode:
    """The last check copied before itself, as a mere print."""
    place = cell_of(notebook, "00-3-check")
    notebook.cells.insert(place, deepcopy(notebook.cells[place]))
    notebook.cells[place].update(source="print('ok')", id="copy")
    return notebook


def pasted(notebook: NotebookNode) -> NotebookNode:
    """With a solution cell of another lesson."""
    metadata = {"nbgrader": {**GRADER["solution"], "grade_id": "07-1"}}
    notebook.cells.append(new_code_cell("1", metadata=metadata))
    return notebook


UNSOLVED = "def precision_recall(scores, correct, objects, threshold):\n    raise NotImplementedError()"
HANDED_IN: dict[str, tuple[Callable[[Path], NotebookNode], tuple[float, float, float], dict[str, str]]] = {
    # a student: what they hand in, the points for each exercise, what is flagged and the words of its comment
    "ada": (lambda pack: solved(pack), (2, 2, 2), {}),
    "bo": (lambda pack: read_notebook(pack / "release" / "00_tour" / "00_tour.ipynb"), (0, 0, 0), {}),
    "cem": (lambda pack: solved(pack, focal_terms=CROSS_ENTROPY), (2, 0, 2), {}),
    "dee": (lambda pack: pasted(solved(pack, iou=WARNS)), (2, 2, 2), {}),
    "eli": (lambda pack: without(solved(pack), "00-1-check"), (2, 2, 2), {"00-1-check": "deleted"}),
    "fay": (lambda pack: without(solved(pack), "00-2", "00-2-check"), (2, 0, 2), {"00-2-check": "deleted"}),
    "gus": (lambda pack: copied(solved(pack, precision_recall=UNSOLVED)), (2, 2, 0), {"00-3-check": "copied"}),
    "hal": (lambda pack: solved(pack, iou=PRETENDS), (0, 2, 2), {}),
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of the short tour with the submissions of all students, autograded in one go."""
    folder = tmp_path_factory.mktemp("classroom")
    pack = folder / "pack"
    release(pack, write_lessons(folder / "lessons", **{"00_tour": short_tour()}))
    for student, (make, _, _) in HANDED_IN.items():
        hand_in(pack, student, make(pack))
    nbgrader(pack, "autograde", "00_tour")
    return pack


@pytest.mark.slow
@pytest.mark.parametrize("student", HANDED_IN)
def test_the_points_and_flags_of_a_submission(graded: Path, student: str) -> None:
    _, expected, marked = HANDED_IN[student]
    points, flagged, comments = grades(graded, student)
    assert points == dict(zip(("00-1-check", "00-2-check", "00-3-check"), expected))
    assert flagged == set(marked)
    assert all(re.search(words, comments) for words in marked.values())


@pytest.mark.slow
def test_the_feedback_tells_the_student_why(graded: Path) -> None:
    nbgrader(graded, "generate_feedback", "00_tour", "--student", "cem")
    page = (graded / "feedback" / "cem" / "00_tour" / "00_tour.html").read_text(encoding="utf-8")
    assert "that is plain cross entropy" in page
    nbgrader(graded, "generate_feedback", "00_tour", "--student", "eli")
    page = (graded / "feedback" / "eli" / "00_tour" / "00_tour.html").read_text(encoding="utf-8")
    assert "00-1-check: the cell was deleted" in page


@pytest.mark.slow
def test_the_whole_tour_is_graded_in_its_fast_form(tmp_path: Path) -> None:
    whole = read_notebook(TOUR)
    whole.cells.append(new_code_cell("assert FAST", metadata={"nbgrader": {**GRADER["solution"], "grade_id": "00-9"}}))
    call = new_code_cell(
        "checks.iou(iou); assert FAST", metadata={"nbgrader": GRADER["check"] | {"grade_id": "00-9-check"}}
    )
    whole.cells.append(call)
    pack = tmp_path / "pack"
    release(pack, write_lessons(tmp_path / "lessons", **{"00_tour": whole}))
    hand_in(pack, "ada", solved(pack))
    hand_in(pack, "bo", read_notebook(pack / "release" / "00_tour" / "00_tour.ipynb"))
    nbgrader(pack, "autograde", "00_tour")
    assert set(grades(pack, "ada")[0].values()) == {2}
    points = grades(pack, "bo")[0]
    assert set(points.values()) == {0}
    page = json.loads((pack / "autograded" / "bo" / "00_tour" / "00_tour.ipynb").read_text(encoding="utf-8"))
    failed = [c for c in page["cells"] if any(o["output_type"] == "error" for o in c.get("outputs", []))]
    assert all("checks." in "".join(c["source"]) or "YOUR CODE" in "".join(c["source"]) for c in failed)
