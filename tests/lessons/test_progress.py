"""What `course progress` says of solved, unsolved, wrong, broken and damaged notebooks, which it never changes."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course_lib.lessons import progress as module
from course_lib.lessons.attempt import attempt
from course_lib.lessons.normalise import read_notebook, write_notebook
from course_lib.lessons.progress import find_progress, format_progress, is_stub, progress_as_json
from course_lib.lessons.workspace import start_workspace, student_copy
from tests.lessons.lesson import GRADER

FUNCTIONS = {"iou": "a, b", "focal_terms": "p, y, gamma"}
BODIES = {
    "iou": "return paired_iou(a, b)",
    "focal_terms": "p_t = truth(p, y)\n    return -((ONE - p_t) ** gamma) * p_t.log()",
}


def lesson() -> NotebookNode:
    """A solved lesson with two real exercises; what must not be executed would fail or take for ever."""
    cells = [
        new_markdown_cell("# 00 · The tour\n\nA detector in five minutes."),
        new_code_cell("%matplotlib inline\nimport torch\nfrom course_lib.ops.boxes import paired_iou\nONE = 1"),
        new_code_cell("def truth(p, y):\n    return torch.where(y > 0.5, p, 1 - p)\n\nwhile True:\n    pass"),
    ]
    for number, (name, arguments) in enumerate(FUNCTIONS.items(), start=1):
        body = f"    ### BEGIN SOLUTION\n    {BODIES[name]}\n    ### END SOLUTION"
        solution = f'def {name}({arguments}):\n    """What it gives."""\n{body}'
        ids = {"solution": f"00-{number}", "check": f"00-{number}-check"}
        cells += [
            new_markdown_cell(f"### Exercise 00-{number} · Write {name}\n\nDifficulty: 1 of 3, ~10 minutes."),
            new_code_cell(solution, metadata={"nbgrader": {**GRADER["solution"], "grade_id": ids["solution"]}}),
            new_code_cell(
                f"checks.{name}({name})", metadata={"nbgrader": {**GRADER["check"], "grade_id": ids["check"]}}
            ),
            new_code_cell("raise RuntimeError('this trains for an hour')"),
        ]
    return new_notebook(cells=cells)


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebooks")
    write_notebook(lesson(), folder / "00_tour.ipynb")
    return folder


def solution(notebook: NotebookNode, number: int) -> NotebookNode:
    return next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == f"00-{number}")


def solved(**instead: str) -> NotebookNode:
    """A learner's copy, solved, or with another cell `instead` for a function."""
    copy, right = student_copy(lesson()), lesson()
    for number, name in enumerate(FUNCTIONS, start=1):
        solution(copy, number).source = instead.get(name, solution(right, number).source)
    return copy


def without(*ids: str) -> NotebookNode:
    copy = solved()
    copy.cells = [c for c in copy.cells if c.metadata.get("nbgrader", {}).get("grade_id") not in ids]
    return copy


def copied(number: int, source: str) -> NotebookNode:
    """A solved copy in which a solution cell was copied below itself and the copy changed."""
    copy = solved()
    place = copy.cells.index(solution(copy, number))
    copy.cells.insert(place + 1, deepcopy(copy.cells[place]))
    copy.cells[place + 1].update(source=source, id="copy")
    return copy


def edited_check(source: str) -> NotebookNode:
    copy = solved(iou="def iou(a, b):\n    return a")
    place = copy.cells.index(solution(copy, 1))
    copy.cells[place + 1].source = source
    return copy


PLUS_ONE = """def iou(a, b):
    \"\"\"What it gives.\"\"\"
    one = torch.tensor([0, 0, 1, 1])
    return paired_iou(a + one, b + one)"""
CASES: dict[str, tuple[Callable[[], NotebookNode], tuple[str, str], str]] = {
    # what the learner has: the notebook, the status of both exercises, words of the hint
    "solved": (solved, ("passed", "passed"), ""),
    "unsolved": (lambda: student_copy(lesson()), ("open", "open"), ""),
    "one solved": (lambda: solved(iou="def iou(a, b):\n    raise NotImplementedError()"), ("open", "passed"), ""),
    "begun": (
        lambda: solved(iou="def iou(a, b):\n    area = 1\n    raise NotImplementedError()"),
        ("open", "passed"),
        "",
    ),
    "wrong": (lambda: solved(iou=PLUS_ONE), ("failed", "passed"), "you added 1 to the sides"),
    "syntax": (
        lambda: solved(iou="def iou(a, b:\n  return a"),
        ("failed", "passed"),
        "SyntaxError in line 1 of the cell",
    ),
    "name": (lambda: solved(iou="def iou(a, b):\n    return area(a)"), ("failed", "passed"), "'area' is not defined"),
    "raises": (lambda: solved(iou="def iou(a, b):\n    return a[:, 9]"), ("failed", "passed"), "IndexError: "),
    "empty": (lambda: solved(iou=""), ("failed", "passed"), "'iou' is not defined"),
    "exits": (lambda: solved(iou="def iou(a, b):\n    exit(3)"), ("failed", "passed"), "SystemExit: 3"),
    "definition fails": (lambda: solved(iou="def iou(a: Box, b): ..."), ("failed", "passed"), "'Box' is not defined"),
    "tries out": (
        lambda: solved(
            iou="%time 1\ndef iou(a, b):\n    print('hello')\n    return paired_iou(a, b)\niou(image, image)"
        ),
        ("passed", "passed"),
        "",
    ),
    "lambda": (lambda: solved(iou="iou = lambda a, b: paired_iou(a, b)"), ("passed", "passed"), ""),
    "cell gone": (lambda: without("00-1"), ("missing", "passed"), "its cell is gone"),
    "check gone": (lambda: without("00-1-check"), ("passed", "passed"), ""),
    "both gone": (lambda: without("00-2", "00-2-check"), ("passed", "missing"), "its cell is gone"),
    "copied, the last wrong": (lambda: copied(1, PLUS_ONE), ("failed", "passed"), "you added 1 to the sides"),
    "copied, the last right": (lambda: copied(2, solution(lesson(), 2).source), ("passed", "passed"), ""),
    "check edited": (lambda: edited_check("print('ok')"), ("failed", "passed"), "look at the shapes step by step"),
}


NEED_A_PROCESS: dict[str, tuple[Callable[[], NotebookNode], tuple[str, str], str]] = {
    "dies": (
        lambda: solved(iou="import os\ndef iou(a, b):\n    os._exit(3)"),
        ("failed", "passed"),
        "Python ended while trying it (exit code 3)",
    ),
    "asks": (lambda: solved(iou="def iou(a, b):\n    return input()"), ("failed", "passed"), "EOFError"),
}


def in_this_process(request: dict, folder: Path, timeout: float) -> Iterator[dict]:
    """What the process would answer, without the seconds that it takes to start."""
    return attempt(read_notebook(Path(request["notebook"])), request["exercises"], request["skip"])


@pytest.mark.parametrize("case", CASES)
def test_what_is_said_of_a_notebook(case: str, lessons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_answers", in_this_process)
    said(*CASES[case], lessons, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*NEED_A_PROCESS, "solved", "syntax", "tries out"])
def test_what_is_said_by_a_process(case: str, lessons: Path, tmp_path: Path) -> None:
    said(*(CASES | NEED_A_PROCESS)[case], lessons, tmp_path)


def said(
    make: Callable[[], NotebookNode], statuses: tuple[str, str], words: str, lessons: Path, tmp_path: Path
) -> None:
    """Progress says this of this notebook, which stays as it is."""
    path = tmp_path / "00_tour.ipynb"
    write_notebook(make(), path)
    before = path.read_bytes(), path.stat().st_mtime_ns
    (found,) = find_progress(tmp_path, lessons)
    assert tuple(outcome.status for outcome in found.outcomes) == statuses
    assert words in " ".join(outcome.hint for outcome in found.outcomes)
    assert not any(outcome.hint for outcome in found.outcomes if outcome.status in ("passed", "open"))
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [p.name for p in tmp_path.iterdir()] == ["00_tour.ipynb"]


@pytest.mark.slow
def test_an_endless_loop_costs_one_exercise(lessons: Path, tmp_path: Path) -> None:
    write_notebook(solved(iou="import time\ndef iou(a, b):\n    time.sleep(1000)"), tmp_path / "00_tour.ipynb")
    (found,) = find_progress(tmp_path, lessons, timeout=30)
    assert [outcome.status for outcome in found.outcomes] == ["failed", "passed"]
    assert found.outcomes[0].hint == "no answer after 30 s: is there an endless loop?"


@pytest.mark.slow
def test_a_loop_in_a_definition_of_the_set_up_stops_every_exercise(lessons: Path, tmp_path: Path) -> None:
    copy = solved()
    copy.cells[1].source += "\nclass Wait:\n    import time\n    time.sleep(1000)"
    write_notebook(copy, tmp_path / "00_tour.ipynb")
    (found,) = find_progress(tmp_path, lessons, timeout=5)
    assert [outcome.status for outcome in found.outcomes] == ["failed", "failed"]


def test_a_fresh_workspace_is_read_and_not_run(lessons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.subprocess, "Popen", lambda *a, **k: pytest.fail("a process was started"))
    start_workspace(tmp_path, lessons)
    (found,) = find_progress(tmp_path, lessons)
    assert {outcome.status for outcome in found.outcomes} == {"open"}


def test_a_damaged_notebook_is_said_and_the_others_are_judged(lessons: Path, tmp_path: Path) -> None:
    more, mine = tmp_path / "notebooks", tmp_path / "mine"
    more.mkdir(), mine.mkdir()
    for name in ("00_tour", "01_more"):
        write_notebook(lesson(), more / f"{name}.ipynb")
    (mine / "00_tour.ipynb").write_text("{", encoding="utf-8")
    write_notebook(student_copy(lesson()), mine / "01_more.ipynb")
    damaged, fine = find_progress(mine, more)
    assert "not a notebook" in damaged.problem
    assert {outcome.status for outcome in fine.outcomes} == {"open"}
    assert "0 of 4 exercises pass" in format_progress([damaged, fine])


def test_a_folder_without_lessons_is_refused(lessons: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`course start .*` puts them here"):
        find_progress(tmp_path, lessons)


def test_the_text_and_the_json(lessons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_answers", in_this_process)
    write_notebook(solved(focal_terms="def focal_terms(p, y, gamma):\n    return -p.log()"), tmp_path / "00_tour.ipynb")
    found = find_progress(tmp_path, lessons)
    lines = format_progress(found).splitlines()
    assert lines[0] == "[#####.....] 1/2  00 · The tour"
    assert lines[1] == "    ok  00-1  Write iou"
    assert lines[2] == "    no  00-2  Write focal_terms"
    assert lines[-1] == "1 of 2 exercises pass"
    told = json.loads(progress_as_json(found))
    assert (told["passed"], told["exercises"]) == (1, 2)
    first, second = told["lessons"][0]["outcomes"]
    assert (first["id"], first["status"], first["hint"]) == ("00-1", "passed", "")
    assert second["hint"] in lines[3]


@pytest.mark.parametrize(
    ("source", "stub"),
    [
        ("def f(x):\n    # YOUR CODE HERE\n    raise NotImplementedError()", True),
        ('def f(x):\n    """Text."""\n    raise NotImplementedError', True),
        ("class f:\n    def __init__(self):\n        raise NotImplementedError()", False),
        ("def f(x):\n    return x\n    raise NotImplementedError()", False),
        ("def g(x):\n    raise NotImplementedError()", False),
        ("def f(x:", False),
        ("", False),
    ],
)
def test_a_stub_is_known_from_its_text(source: str, stub: bool) -> None:
    assert is_stub(new_code_cell(source), "f") == stub
