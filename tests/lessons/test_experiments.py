import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from course_lib.lessons import experiments
from course_lib.lessons.experiments import plain, recorded, sweep
from course_lib.lessons.experiments.__main__ import main

FAKE = '''"""Squares, the slow way."""

from course_lib.lessons.experiments import sweep

BREAK_AT = {break_at}
measured = []


def square(n):
    if n == BREAK_AT:
        raise KeyboardInterrupt
    measured.append(n)
    return {{"square": n * n}}


def run(progress):
    return {{"most": 3, "rows": sweep("squares", [{{"n": n}} for n in (1, 2, 3)], square, progress=progress)}}
'''


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of experiments of its own, with folders for their records."""
    monkeypatch.setattr(experiments, "__path__", [str(tmp_path)])
    monkeypatch.setattr(experiments, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(experiments, "UNFINISHED", tmp_path / "unfinished")
    yield tmp_path
    for name in ("squares", "other"):
        sys.modules.pop(f"{experiments.__name__}.{name}", None)
        vars(experiments).pop(name, None)


def module():
    return sys.modules[f"{experiments.__name__}.squares"]


def test_a_run_is_recorded_with_what_made_it(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lab / "squares.py").write_text(FAKE.format(break_at=None))
    (lab / "_helper.py").touch()
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split() == ["squares", "not", "recorded", "Squares,", "the", "slow", "way."]
    assert main(["squares"]) == 0
    found = recorded("squares")
    assert found["most"] == 3
    assert found["rows"] == [{"n": 1, "square": 1}, {"n": 2, "square": 4}, {"n": 3, "square": 9}]
    assert found["command"] == "python -m course_lib.lessons.experiments squares"
    assert found["seconds"] == 0
    assert found["machine"]["torch"] == torch.__version__
    assert found["machine"]["processor"]
    assert not list((lab / "unfinished").iterdir())
    assert [p.name for p in (lab / "records").iterdir()] == ["squares.json"]
    capsys.readouterr()
    assert main([]) == 0
    assert "0 s  Squares" in capsys.readouterr().out


def test_after_ctrl_c_the_same_command_goes_on(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lab / "squares.py").write_text(FAKE.format(break_at=3))
    assert main(["squares"]) == 130
    assert "The same command goes on" in capsys.readouterr().err
    assert not (lab / "records").exists()
    module().BREAK_AT = None
    assert main(["squares"]) == 0
    assert module().measured == [1, 2, 3]  # 1 and 2 once only
    assert [row["square"] for row in recorded("squares")["rows"]] == [1, 4, 9]


def test_the_time_of_earlier_sittings_counts(lab: Path) -> None:
    (lab / "squares.py").write_text(FAKE.format(break_at=3))
    assert main(["squares"]) == 130
    path = lab / "unfinished" / "squares.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**line, "seconds": 50}) + "\n" for line in lines))
    module().BREAK_AT = None
    assert main(["squares"]) == 0
    assert recorded("squares")["seconds"] == 100


def test_an_older_record_survives_an_interruption_and_changed_code_measures_anew(lab: Path) -> None:
    (lab / "squares.py").write_text(FAKE.format(break_at=None))
    assert main(["squares"]) == 0
    before = recorded("squares")
    module().BREAK_AT = 2
    assert main(["squares"]) == 130
    assert recorded("squares") == before
    (lab / "squares.py").write_text(FAKE.format(break_at=None) + "# changed\n")
    module().BREAK_AT = None
    module().measured.clear()
    assert main(["squares"]) == 0
    assert module().measured == [1, 2, 3]


def test_mistakes_are_explained(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lab / "squares.py").write_text("def run(progress):\n    return {'rows': [{'ap': {1}}]}\n")
    (lab / "other.py").write_text("def run(progress):\n    return {'seconds': 3}\n")
    with pytest.raises(ValueError, match=r"no experiment 'squars': did you mean 'squares'\?"):
        recorded("squars")
    with pytest.raises(FileNotFoundError, match=r"not recorded; run python -m course_lib.lessons.experiments squares"):
        recorded("squares")
    assert main(["squares"]) == 2
    assert "result.rows[0].ap: found set, expected what JSON can hold" in capsys.readouterr().err
    assert main(["other"]) == 2
    assert "experiment other: run gave seconds; expected a dict without command" in capsys.readouterr().err


def test_a_sweep_needs_no_progress_bar(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lab / "squares.py").touch()
    sweep("squares", [{"n": 1}], lambda n: {}, progress=False)
    assert capsys.readouterr().err == ""
    sweep("squares", [{"n": 1}], lambda n: {}, progress=True)
    assert "1/1" in capsys.readouterr().err


def test_plain_values() -> None:
    value = {"a": np.float32(0.5), 2: (torch.tensor(3), True), "b": [float("nan"), np.array([1, 2])], "c": None}
    assert plain(value) == {"a": 0.5, "2": [3, True], "b": [None, [1, 2]], "c": None}


@pytest.mark.parametrize("name", experiments.experiments())
def test_every_experiment_is_recorded(name: str) -> None:
    found = recorded(name)
    assert found["command"] == experiments.COMMAND.format(name)
    assert found["seconds"] > 0
    assert set(found) > set(experiments.ABOUT)


def test_every_record_has_its_experiment() -> None:
    names = {path.stem for path in experiments.RECORDS.glob("*.json")}
    assert names <= set(experiments.experiments())
