"""Masks beside boxes in a result; and results that were recorded before there were any."""

import copy
import csv
import io
import json

import pytest
import torch

from course_lib.engine.compare.record import RECORDS
from course_lib.engine.compare.result import COLUMNS, spreads, to_csv, verdicts
from course_lib.engine.compare.run import make_plan, run_comparison
from tests.engine.tiny_coco import write_tiny_coco

RECORDED = sorted(RECORDS.glob("*.json"))


@pytest.fixture
def recorded() -> dict:
    return json.loads(RECORDED[0].read_text(encoding="utf-8"))


def with_masks(result: dict, **values: float) -> dict:
    """The result with masks in some models, seed by seed a little better."""
    result = copy.deepcopy(result)
    for run in result["runs"]:
        if run["model"] in values:
            value = values[run["model"]] + 0.01 * run["seed"]
            run["masks"] = {"AP": value, "AP50": value + 0.2, "AP75": value + 0.1}
    return result


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_results_say_what_they_said(path):
    result = json.loads(path.read_text(encoding="utf-8"))
    assert verdicts(result) == result["verdicts"]
    assert spreads(result, "mask_AP") == {}
    rows = list(csv.DictReader(io.StringIO(to_csv(result))))
    assert tuple(rows[0]) == COLUMNS
    assert {row["mask_AP"] for row in rows} == {""}


def test_two_models_with_masks_are_compared_in_them(recorded):
    said = verdicts(with_masks(recorded, retinanet=0.3, ssd=0.5))
    pairs = len(recorded["verdicts"]["accuracy"])
    assert said["accuracy"][:pairs] == recorded["verdicts"]["accuracy"]
    assert said["accuracy"][pairs:] == [
        "SSD is more accurate in its masks than RetinaNet: AP of masks 0.510 (0.500–0.520) against 0.310 (0.300–0.320)."
    ]
    new = [sentence for sentence in said["where"] if sentence not in recorded["verdicts"]["where"]]
    assert [sentence.split(" SSD")[0] for sentence in new] == [
        "In AP of masks at an overlap of 0.50",
        "In AP of masks at an overlap of 0.75",
    ]


def test_masks_of_one_model_are_not_compared(recorded):
    result = with_masks(recorded, retinanet=0.3)
    assert verdicts(result) == recorded["verdicts"]
    rows = list(csv.DictReader(io.StringIO(to_csv(result))))
    assert [row["mask_AP75"] for row in rows if row["model"] == "retinanet"] == ["0.4", "0.41", "0.42"]
    assert all(row["mask_AP75"] == "" for row in rows if row["model"] != "retinanet")


def test_masks_from_training_to_report(tmp_path, monkeypatch):
    monkeypatch.setattr("course_lib.engine.compare.run.peak_of_run", lambda *_, **__: {"inference": 1, "training": 2})
    monkeypatch.setattr("course_lib.engine.compare.run.TIMED", 1)
    data = write_tiny_coco(tmp_path / "data", masks=True)
    plan = make_plan(
        models=("retinanet", "mask_rcnn"),
        seeds=(0,),
        minutes=None,
        iterations=1,
        data=data,
        threads=torch.get_num_threads(),
    )
    result = run_comparison(tmp_path / "out", plan, progress=False)
    assert "masks" not in result["runs"][0]
    assert 0 <= result["runs"][1]["masks"]["AP"] <= result["runs"][1]["masks"]["AP50"]
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for quantity in ("mask AP", "mask AP50", "mask AP75"):
        assert f">{quantity}</th>" in html
