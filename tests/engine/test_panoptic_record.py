"""The record of the fusions: made small, read back, and its table."""

import json

import pytest

from course_lib.datasets.town import TownConfig
from course_lib.engine import panoptic_record as module
from course_lib.engine.panoptic_record import RECORD, format_record, head_gains, main, record, recorded_fusions


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("record")
    options = {
        "minutes": None,
        "iterations": 2,
        "seeds": (0,),
        "images": 16,
        "config": TownConfig(size=64),
        "threads": 2,
    }
    how = {"runs": folder / "runs", "path": folder / "kept" / "town.json", "progress": False, **options}
    return record(**how), how


@pytest.mark.slow
def test_what_is_recorded_can_be_read(made):
    result, how = made
    assert recorded_fusions(how["path"]) == json.loads(json.dumps(result))
    assert [(row["model"], row["fusion"]) for row in result["rows"]] == [
        ("panoptic_fpn", "rule"),
        ("upsnet", "rule"),
        ("upsnet", "head"),
    ]
    assert {row["iterations"] for row in result["rows"]} == {2}
    assert all(row["fusion_ms"] > 0 for row in result["rows"])
    assert all(set(row["pq"]) == {"all", "things", "stuff"} for row in result["rows"])
    assert result["command"].endswith("panoptic_record --threads 2")
    assert str(how["runs"]) not in json.dumps(result)


@pytest.mark.slow
def test_the_rule_and_the_head_are_judged_on_the_same_network(made):
    result, _ = made
    rule, head = result["rows"][1:]
    assert (rule["box_ap"], rule["mask_ap"], rule["miou"]) == (head["box_ap"], head["mask_ap"], head["miou"])


@pytest.mark.slow
def test_the_same_call_goes_on(made, monkeypatch):
    result, how = made

    def train_no_more(trainer):
        assert trainer.iteration == 2

    monkeypatch.setattr("course_lib.engine.train.Trainer.run", train_no_more)
    again = record(**how)
    assert [row["pq"] for row in again["rows"]] == [row["pq"] for row in result["rows"]]


def test_the_table():
    figures = lambda pq: {"pq": pq, "sq": 0.8, "rq": 0.6}  # noqa: E731
    row = lambda model, fusion, seed, pq: {  # noqa: E731
        "model": model,
        "fusion": fusion,
        "seed": seed,
        "pq": dict.fromkeys(("all", "things", "stuff"), figures(pq)),
        "fusion_ms": 1.5,
    }
    rows = [row("panoptic_fpn", "rule", seed, 0.4) for seed in (0, 1)]
    rows += [row("upsnet", fusion, seed, pq) for fusion, seed, pq in
             [("rule", 0, 0.5), ("rule", 1, 0.7), ("head", 0, 0.625), ("head", 1, 0.575)]]  # fmt: skip
    result = {"settings": {"seeds": [0, 1]}, "rows": rows}
    assert head_gains(result) == pytest.approx([0.125, -0.125])
    table = format_record(result)
    assert "UPSNet, rule             0.600  0.800  0.600   0.600  0.600  0.500  0.700" in table
    assert table.endswith("PQ by seed: +0.1250, -0.1250")


def test_what_is_not_recorded(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"town\.json: not recorded yet; run python -m"):
        recorded_fusions(tmp_path / "town.json")


def test_the_command_line(tmp_path, monkeypatch, capsys):
    asked = {}

    def fake(**options):
        asked.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "record", fake)
    assert main(["--runs", str(tmp_path), "--minutes", "0.1", "--seeds", "2", "--images", "80"]) == 130
    assert (asked["minutes"], list(asked["seeds"]), asked["images"]) == (0.1, [0, 1], 80)
    assert (asked["path"], asked["threads"]) == (RECORD, None)
    assert "nothing is lost" in capsys.readouterr().err
