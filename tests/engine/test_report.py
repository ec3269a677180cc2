"""The tour in miniature, and the page that it writes."""

import json
import re

import pytest
import torch

from course_lib.engine import checkpoint, tour
from course_lib.engine.mistakes import worst_mistakes
from course_lib.engine.report import render_report
from course_lib.engine.tour import Stopwatch, machine_facts, run_tour, town_facts
from tests.engine.outputs import invent, perfect


def assert_self_contained(html: str) -> None:
    """Nothing is fetched from anywhere: every picture is in the page, and there is no script, style sheet or link."""
    assert html.startswith("<!doctype html>")
    assert "http" not in re.sub(r'src="data:[^"]*"', "", html)
    sources = re.findall(r'<img[^>]*\ssrc="([^"]{0,40})', html)
    assert len(sources) >= 7
    assert all(re.match(r"data:image/(png|svg\+xml|webp|jpeg);base64,", source) for source in sources)
    assert all(alt.strip() for alt in re.findall(r'<img[^>]*\salt="([^"]*)"', html))
    assert html.count("<img") == len(re.findall(r'<img[^>]*\salt="', html)) == len(sources)
    for tag in ("<script", "<link", "<iframe", "@import", "url("):
        assert tag not in html


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


def facts() -> dict:
    """The facts of a report on RetinaNet and Faster R-CNN."""
    both = retinanet_facts()
    rival = {**both["retinanet"], "parameters": 7654321, "recipe": {"minutes": 1.333333, "augmentation": "flip"}}
    return {**both, "faster_rcnn": rival | {"summary": both["retinanet"]["summary"] | {"AP": 0.375}}}


def retinanet_facts() -> dict:
    per_class = {"square": {"AP": 0.5, "AP50": 0.9, "objects": 3}, "bar <b>": {"AP": None, "AP50": None, "objects": 0}}
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100")
    return {
        "retinanet": {
            "summary": dict.fromkeys(names, 0.25) | {"AP": 0.625, "AP_large": None},
            "per_class": per_class,
            "curves": {"square": [1.0] * 50 + [0.5] * 51, "bar <b>": []},
            "images": 4,
            "parameters": 1234567,
            "iterations": 10,
            "images_per_second": {"training": 100.0, "inference": 50.0},
            "preset": {"name": "tiny", "anchors": {"sizes": [[1, 2], [3, 4]]}},
            "recipe": {"minutes": 3.5, "augmentation": "flip & more"},
        },
        "town": {
            "train": 8,
            "val": 4,
            "objects_per_image": 1.5,
            "share_under_14_px": 0.2,
            "share_over_a_third_hidden": 0.15,
        },
        "machine": {"threads": 2},
        "seconds": {"training": 210.0},
    }


def test_the_page(val_data):
    outputs = perfect(val_data)
    invent(outputs[3], 0.8)
    log = [
        {"iteration": i, "minutes": i / 10, "lr": 0.1, "classification": 1 / i, "bbox_regression": 2 / i}
        for i in (1, 2, 3)
    ]
    log[1]["AP"] = 0.4
    both = {"retinanet": outputs, "faster_rcnn": perfect(val_data)}
    mistakes = worst_mistakes(val_data, outputs, count=6)
    html = render_report(facts(), dict.fromkeys(both, log), val_data, both, mistakes)
    assert_self_contained(html)
    for text in (
        "AP 0.625",
        "1,234,567 parameters",
        "3.5 minutes of training on 2 threads",
        "20% are under 14 pixels",
        "invented square 0.80",
        "(1, 2), (3, 4)",
        "flip &amp; more",
        "<title>RetinaNet and Faster R-CNN on Town</title>",
        "7,654,321 parameters, learned from the same images for 1.33 minutes and came to AP 0.375",
        "2 detections of Faster R-CNN",
    ):
        assert text in html, text
    assert "<b>" not in html  # a class name is text, not markup
    assert not re.search(r"\b(nan|None|inf)\b", re.sub(r'src="data:[^"]*"', "", html))


@pytest.mark.slow
def test_a_tour_in_miniature(tmp_path, capsys):
    out = tmp_path / "tour"
    first = run_tour(out, minutes=0.05, images=16, seed=0, precision="fp32")
    said = capsys.readouterr().out
    assert [line[:3] for line in said.splitlines() if line[1:3] == "/4"] == ["1/4", "2/4", "3/4", "4/4"]
    html, report = (out / "report.html").read_text(encoding="utf-8"), json.loads((out / "report.json").read_text())
    assert_self_contained(html)
    assert report == json.loads(json.dumps(first))
    model = report["retinanet"]
    assert set(model["summary"]) >= {"AP", "AP50", "AP75", "AR100"}
    assert model["iterations"] > 0
    assert model["images"] == 2
    assert model["recipe"]["minutes"] + report["faster_rcnn"]["recipe"]["minutes"] == pytest.approx(0.05)
    assert report["faster_rcnn"]["preset"]["family"] == "faster_rcnn"
    assert model["preset"]["name"] == "tiny"
    assert (report["town"]["train"], report["town"]["val"]) == (16, 2)
    assert set(report["seconds"]) >= {"data", "training", "evaluation"}
    assert not list(out.rglob("*.tmp"))

    # The same call again neither draws nor trains: it measures the same weights and writes the report anew.
    weights = (out / "retinanet" / checkpoint.WEIGHTS).read_bytes()
    pictures = {p: p.stat().st_mtime_ns for p in (out / "town").rglob("*.png")}
    second = run_tour(out, minutes=0.05, images=16, seed=0, precision="fp32", progress=False)
    assert capsys.readouterr().out == ""
    assert {p: p.stat().st_mtime_ns for p in (out / "town").rglob("*.png")} == pictures
    assert (out / "retinanet" / checkpoint.WEIGHTS).read_bytes() == weights
    assert second["retinanet"]["summary"] == first["retinanet"]["summary"]
    assert second["retinanet"]["iterations"] == first["retinanet"]["iterations"]

    # Other settings are another tour.
    with pytest.raises(ValueError, match="was started with recipe seed = 0, not 1"):
        run_tour(out, minutes=0.05, images=16, seed=1, precision="fp32", progress=False)
    assert (out / "report.html").read_text(encoding="utf-8")
