"""Which exercises of a workspace pass, with a bar for each lesson.

    course progress [DIR]

The exercises and their checks are those of the solved lessons, so nothing that happened to a check cell matters. What
has not been begun is told from the notebook alone; the rest is tried in a process for each notebook (attempt.py), with
a time limit. The notebooks are never changed.
"""

import ast
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from nbformat import NotebookNode

from course_lib.lessons.attempt import grader
from course_lib.lessons.exercise_cells import ExerciseCells, find_exercises, title
from course_lib.lessons.normalise import read_notebook
from course_lib.lessons.workspace import LESSONS, lesson_notebooks
from course_lib.machine import cores_allowed

TIMEOUT = 60.0  # seconds an exercise; the first of a notebook waits for the imports too
BAR = 10  # characters
UNSOLVED = "is not solved yet"  # the checks' words for NotImplementedError
MISSING = "its cell is gone; rename your notebook, run `course start`, and take the cell from the fresh one"

Status = Literal["passed", "open", "failed", "missing"]


@dataclass(frozen=True)
class Outcome:
    """One exercise: passed, open (not solved yet), failed (`says` is why), or missing from the notebook."""

    id: str
    title: str
    status: Status
    says: str = ""

    @property
    def hint(self) -> str:
        """What to do, in one line: the check's hint, else the first line of what it said."""
        return self.says.partition("Hint: ")[2].strip() or self.says.partition("\n")[0]


@dataclass(frozen=True)
class LessonProgress:
    """A lesson of the workspace: its exercises, or why its notebook cannot be read."""

    lesson: str
    title: str
    outcomes: tuple[Outcome, ...]
    problem: str = ""

    @property
    def passed(self) -> int:
        """How many exercises pass."""
        return sum(outcome.status == "passed" for outcome in self.outcomes)


def find_progress(folder: Path, lessons: Path = LESSONS, *, timeout: float = TIMEOUT) -> list[LessonProgress]:
    """The progress in every lesson that is in `folder`, in order; `timeout` is in seconds an exercise.

    Raises ValueError where none is.
    """
    solved = [path for path in lesson_notebooks(lessons) if (folder / path.name).is_file()]
    if not solved:
        raise ValueError(f"{folder}: there are no lessons here; `course start {folder}` puts them here")
    with ThreadPoolExecutor(max_workers=cores_allowed()) as pool:
        return list(pool.map(lambda path: _lesson(path, folder / path.name, timeout), solved))


def _lesson(solved: Path, mine: Path, timeout: float) -> LessonProgress:
    """One lesson: what is solved in `mine` of the exercises in `solved`."""
    lesson = read_notebook(solved)
    exercises, name = find_exercises(lesson), title(lesson)
    try:
        cells = [cell for cell in read_notebook(mine).cells if cell.cell_type == "code"]
    except ValueError as error:
        outcomes = tuple(Outcome(e.id, e.title, "missing", "the notebook cannot be read") for e in exercises)
        return LessonProgress(solved.stem, name, outcomes, str(error).partition("\n")[0])
    found: dict[str, Outcome] = {}
    for exercise in exercises:
        solutions = [c for c in cells if grader(c).get("solution") and grader(c).get("grade_id") == exercise.id]
        if not solutions:
            found[exercise.id] = Outcome(exercise.id, exercise.title, "missing", MISSING)
        elif is_stub(solutions[-1], exercise.function):
            found[exercise.id] = Outcome(exercise.id, exercise.title, "open")
    begun = [exercise for exercise in exercises if exercise.id not in found]
    if begun:
        found |= {outcome.id: outcome for outcome in _try(mine, begun, timeout)}
    return LessonProgress(solved.stem, name, tuple(found[exercise.id] for exercise in exercises))


def is_stub(cell: NotebookNode, function: str) -> bool:
    """Whether a solution cell is as it was given out: its function has a docstring and raises NotImplementedError."""
    try:
        body = next(n.body for n in ast.parse(cell.source).body if getattr(n, "name", "") == function)
    except (SyntaxError, ValueError, StopIteration):
        return False
    rest = [node for node in body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    return bool(rest) and isinstance(rest[0], ast.Raise) and "NotImplementedError" in ast.unparse(rest[0])


def _try(notebook: Path, exercises: Sequence[ExerciseCells], timeout: float) -> Iterator[Outcome]:
    """The outcome of each exercise. A process that hangs or dies costs one exercise; a new one goes on after it."""
    waiting = {exercise.id: exercise for exercise in exercises}
    skip: list[str] = []
    while waiting:
        request = {
            "notebook": str(notebook.resolve()),
            "exercises": [{"id": e.id, "check": e.check.source} for e in waiting.values()],
            "skip": skip,
        }
        trying, trouble = None, "the cells above stop the notebook"
        for line in _answers(request, notebook.parent, timeout):
            if "trying" in line:
                trying = line["trying"]
            elif "trouble" in line:
                trouble = line["trouble"]
            else:
                exercise, trying = waiting.pop(line["id"]), None
                status: Status = "passed" if line["passed"] else "open" if UNSOLVED in line["says"] else "failed"
                yield Outcome(exercise.id, exercise.title, status, "" if status == "open" else line["says"])
        stopped = [trying] if trying is not None else list(waiting)
        skip += stopped
        for exercise in [waiting.pop(id) for id in stopped]:
            yield Outcome(exercise.id, exercise.title, "failed", trouble)


def _answers(request: dict, folder: Path, timeout: float) -> Iterator[dict]:
    """The lines that a process answers with, and {"trouble": why} at its end when it was not its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "course_lib.lessons.attempt"],
        cwd=folder,
        env={**os.environ, "COURSE_FAST": "1", "MPLBACKEND": "agg", "PYTHONUTF8": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    )
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    try:
        process.stdin.write(json.dumps(request))
        process.stdin.close()
        while line := lines.get(timeout=timeout):
            yield json.loads(line)
        if process.wait(timeout=timeout):
            yield {"trouble": f"Python ended while trying it (exit code {process.returncode})"}
    except queue.Empty:
        yield {"trouble": f"no answer after {timeout:g} s: is there an endless loop?"}
    finally:
        process.kill()
        process.wait()


def format_progress(found: Sequence[LessonProgress]) -> str:
    """A bar for each lesson, a line for each exercise, the sum."""
    marks = {"passed": "ok  ", "open": "-   ", "failed": "no  ", "missing": "?   "}
    lines = []
    for lesson in found:
        total = len(lesson.outcomes)
        full = BAR * lesson.passed // max(total, 1)
        lines.append(f"[{'#' * full}{'.' * (BAR - full)}] {lesson.passed}/{total}  {lesson.title}")
        lines += [f"    {lesson.problem}"] if lesson.problem else []
        for outcome in () if lesson.problem else lesson.outcomes:
            lines.append(f"    {marks[outcome.status]}{outcome.id}  {outcome.title}")
            if outcome.status in ("failed", "missing"):
                lines.append(f"              {outcome.hint}")
    passed, total = sum(p.passed for p in found), sum(len(p.outcomes) for p in found)
    return "\n".join([*lines, f"{passed} of {total} exercises pass"])


def progress_as_json(found: Sequence[LessonProgress]) -> str:
    """The same for programs."""
    lessons = [
        {**asdict(p), "passed": p.passed, "outcomes": [{**asdict(o), "hint": o.hint} for o in p.outcomes]}
        for p in found
    ]
    passed, total = sum(p.passed for p in found), sum(len(p.outcomes) for p in found)
    return json.dumps({"passed": passed, "exercises": total, "lessons": lessons}, indent=1, ensure_ascii=False)
