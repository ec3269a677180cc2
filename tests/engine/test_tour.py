"""The tour: what it trains and for how long, that it goes on after an interruption, and all of it in miniature."""

import json
import os
import signal
from types import SimpleNamespace

import pytest
import torch

from course_lib.engine import checkpoint, tour
from course_lib.engine.tour import Stopwatch, headline, machine_facts, run_tour, town_facts
from course_lib.engine.train import Trainer
from tests.engine.test_report import assert_self_contained


def test_stopwatch(monkeypatch):
    clock = iter([10.0, 11.5, 20.0, 20.25])
    monkeypatch.setattr(tour.time, "perf_counter", lambda: next(clock))
    watch = Stopwatch()
    for _ in range(2):
        with watch.time("work"):
            pass
    assert watch.seconds == {"work": 1.75}


def test_machine_facts():
    facts = machine_facts()
    assert facts["torch"] == torch.__version__
    assert facts["threads"] >= 1
    assert json.loads(json.dumps(facts)) == facts


def test_town_facts():
    records = [
        {"bbox": [0, 0, 13, 5], "hidden": 0.5, "iscrowd": 0},  # small and hidden
        {"bbox": [0, 0, 5, 14], "hidden": 0.2, "iscrowd": 0},
        {"bbox": [0, 0, 40, 60], "hidden": 0.0, "iscrowd": 0},
        {"bbox": [0, 0, 9, 9], "hidden": 0.9, "iscrowd": 1},
    ]

    class Two:
        coco = type("", (), {"dataset": {"annotations": records}})

        def __len__(self):
            return 2

    facts = town_facts(Two())
    assert facts == {"objects_per_image": 1.5, "share_under_14_px": 0.3333, "share_over_a_third_hidden": 0.3333}


@pytest.fixture
def trained(monkeypatch):
    """The tour without the work: what it trains is noted here, and nothing is learnt, measured or drawn."""
    notes = []

    def train_run(preset, recipe, *, out, resume, **data):
        notes.append((preset.family, recipe.minutes, out.name, resume))
        return SimpleNamespace(seconds=60 * recipe.minutes)

    judged = {"summary": {"AP": 0.5}, "pq": {"all": {"pq": 0.25}}}
    monkeypatch.setattr(tour, "train_run", train_run)
    monkeypatch.setattr(tour, "judge", lambda *_: (dict(judged), []))
    monkeypatch.setattr(tour, "worst_mistakes", lambda *_, **__: [])
    monkeypatch.setattr(tour, "panoptic_page", lambda *_: ["the page of maps"])
    monkeypatch.setattr(tour, "render_report", lambda *sections: "".join(sections[-1]))
    return notes


def run(out, minutes=5.0, **options):
    return run_tour(out, minutes=minutes, images=16, seed=0, precision="fp32", **options)


def test_each_has_its_share_of_the_time(trained, tmp_path, capsys):
    facts = run(tmp_path)
    shares = {"retinanet": 2.47, "faster_rcnn": 1.33, "panoptic_fpn": 1.2}
    assert trained == [(family, minutes, family, True) for family, minutes in shares.items()]
    assert facts["seconds"]["training"] == 300
    said = [line for line in capsys.readouterr().out.splitlines() if line[1:3] == "/5"]
    assert [line[:3] for line in said] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert said[3] == "4/5  Panoptic FPN, 1.2 minutes of training"
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "the page of maps"
    assert headline(facts) == "RetinaNet AP 0.500, Faster R-CNN AP 0.500, Panoptic FPN PQ 0.250"


def test_without_panoptic_truth_the_page_is_left_out(trained, tmp_path, capsys):
    run(tmp_path, progress=False)
    (tmp_path / "town" / "annotations" / "panoptic_val.json").unlink()
    trained.clear()
    facts = run(tmp_path)
    assert [note[0] for note in trained] == ["retinanet", "faster_rcnn"]
    assert "panoptic_fpn" not in facts
    assert headline(facts) == "RetinaNet AP 0.500, Faster R-CNN AP 0.500"
    assert "4/5  no Panoptic FPN: there is no " in capsys.readouterr().out
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No Panoptic FPN" in html
    assert "panoptic_val.json" in html


@pytest.mark.slow
def test_a_tour_in_miniature(tmp_path, capsys, monkeypatch):
    out = tmp_path / "tour"
    step = Trainer.step

    def interrupted(self):
        if getattr(self.model, "uses_semantic", False):
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", interrupted)
        run(out, minutes=0.05)
    assert not (out / "report.html").exists()
    weights = (out / "retinanet" / checkpoint.WEIGHTS).read_bytes()
    assert checkpoint.load_tensors(out / "panoptic_fpn" / checkpoint.LAST)[1]["iteration"] == 1

    # The same call goes on, and trains no more what was trained.
    first = run(out, minutes=0.05)
    assert (out / "retinanet" / checkpoint.WEIGHTS).read_bytes() == weights
    html, report = (out / "report.html").read_text(encoding="utf-8"), json.loads((out / "report.json").read_text())
    assert_self_contained(html)
    assert html.count('alt="Picture, true map, predicted map and errors of val_') == 2
    assert report == json.loads(json.dumps(first))
    model, panoptic = report["retinanet"], report["panoptic_fpn"]
    assert set(model["summary"]) >= {"AP", "AP50", "AP75", "AR100"}
    assert set(panoptic) >= {"summary", "masks", "miou", "pq", "recipe", "images_per_second"}
    assert set(panoptic["pq"]) == {"all", "things", "stuff", "per_class"}
    assert model["images"] == panoptic["images"] == 2
    families = ("retinanet", "faster_rcnn", "panoptic_fpn")
    assert all(report[family]["iterations"] > 0 for family in families)
    assert sum(report[family]["recipe"]["minutes"] for family in families) == pytest.approx(0.05)
    assert [report[family]["preset"]["family"] for family in families] == list(families)
    assert model["preset"]["name"] == panoptic["preset"]["name"] == "tiny"
    assert (report["town"]["train"], report["town"]["val"]) == (16, 2)
    assert set(report["seconds"]) >= {"data", "training", "evaluation"}
    assert not list(out.rglob("*.tmp"))

    # Once more neither draws nor trains: it measures the same weights and writes the report anew.
    pictures = {p: p.stat().st_mtime_ns for p in (out / "town").rglob("*.png")}
    capsys.readouterr()
    second = run(out, minutes=0.05, progress=False)
    assert capsys.readouterr().out == ""
    assert {p: p.stat().st_mtime_ns for p in (out / "town").rglob("*.png")} == pictures
    for family in families:
        assert second[family]["summary"] == first[family]["summary"]
        assert second[family]["iterations"] == first[family]["iterations"]
    assert second["panoptic_fpn"]["pq"] == first["panoptic_fpn"]["pq"]

    # Other settings are another tour.
    with pytest.raises(ValueError, match="was started with recipe seed = 0, not 1"):
        run_tour(out, minutes=0.05, images=16, seed=1, precision="fp32", progress=False)
    assert (out / "report.html").read_text(encoding="utf-8")
