import json
from dataclasses import replace

import pytest

from course_lib.datasets.town import TownConfig
from course_lib.engine.compare import record as module
from course_lib.engine.compare.record import CONDITIONS, RECORDS, Condition, main, record, recorded_comparison

TINY = Condition(title="tiny", minutes=3.0, images=16)
PLAN = {"models": ("yolo",), "seeds": (0,), "minutes": None, "iterations": 1, "threads": 2}


def test_the_first_condition_is_course_compares_default():
    town = CONDITIONS["town"]
    assert (town.minutes, town.config, town.input_size, town.images) == (3.0, None, None, 4000)
    assert len({condition.title for condition in CONDITIONS.values()}) == len(CONDITIONS)


def test_the_others_differ_from_one_minute_in_one_thing():
    base = replace(CONDITIONS["one_minute"], title="")
    for name in CONDITIONS.keys() - {"town", "one_minute"}:
        other = vars(replace(CONDITIONS[name], title=""))
        assert sum(other[key] != value for key, value in vars(base).items()) == 1


@pytest.mark.parametrize("config", [None, TownConfig(size=64, objects=3.0)])
def test_what_is_recorded_can_be_read(tmp_path, monkeypatch, config):
    monkeypatch.setattr("course_lib.engine.compare.run.peak_of_run", lambda *_, **__: {"inference": 1, "training": 2})
    condition = replace(TINY, config=config)
    made = record("town", condition, runs=tmp_path / "runs", folder=tmp_path / "kept", progress=False, **PLAN)
    assert recorded_comparison("town", tmp_path / "kept") == json.loads(json.dumps(made))
    assert made["title"] == "tiny"
    assert made["command"] == "python -m course_lib.engine.compare.record town"
    assert made["town"]["objects"] == (3.0 if config else TownConfig().objects)
    assert (made["settings"]["train"], made["settings"]["val"]) == (16, 2)
    assert str(tmp_path) not in json.dumps(made)


def test_what_is_not_recorded(tmp_path):
    with pytest.raises(ValueError, match="no comparison 'towm': did you mean 'town'"):
        recorded_comparison("towm")
    with pytest.raises(FileNotFoundError, match=r"small\.json: this comparison was not recorded; run python -m"):
        recorded_comparison("small", tmp_path)


def test_the_command_line(tmp_path, monkeypatch, capsys):
    asked = {}

    def fake(name, condition, **options):
        asked.update(options, name=name, condition=condition)
        return {"verdicts": {"accuracy": ["A beats B."]}}

    monkeypatch.setattr(module, "record", fake)
    assert main(["small", "--runs", str(tmp_path), "--minutes", "0.1", "--images", "99", "--seeds", "2"]) == 0
    assert capsys.readouterr().out == "A beats B.\n"
    assert asked["condition"] == replace(CONDITIONS["small"], minutes=0.1, images=99)
    assert (asked["name"], asked["runs"], asked["seeds"], asked["folder"]) == (
        "small",
        tmp_path / "small",
        (0, 1),
        RECORDS,
    )
    assert main(["town"]) == 0
    assert asked["condition"] == CONDITIONS["town"]

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "record", interrupted)
    assert main(["town"]) == 130

    def wrong(*_, **__):
        raise ValueError("holds a comparison")

    monkeypatch.setattr(module, "record", wrong)
    assert main(["town"]) == 2
    assert "error: holds a comparison" in capsys.readouterr().err
