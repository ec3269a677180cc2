"""The page that the tour writes."""

import re

from course_lib.engine.mistakes import worst_mistakes
from course_lib.engine.report import render_report
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


def facts() -> dict:
    """The facts of a report on all that the tour trains."""
    both = retinanet_facts()
    rival = {**both["retinanet"], "parameters": 7654321, "recipe": {"minutes": 1.333333, "augmentation": "flip"}}
    rival |= {"summary": both["retinanet"]["summary"] | {"AP": 0.375}}
    return {**both, "faster_rcnn": rival, "panoptic_fpn": rival}


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
    logs = dict.fromkeys((*both, "panoptic_fpn"), log)
    html = render_report(facts(), logs, val_data, both, mistakes, ["<p>a page of maps</p>"])
    assert_self_contained(html)
    for text in (
        "AP 0.625",
        "1,234,567 parameters",
        "3.5 minutes of training on 2 threads",
        "20% are under 14 pixels",
        "invented square 0.80",
        "(1, 2), (3, 4)",
        "flip &amp; more",
        "<title>RetinaNet, Faster R-CNN, Panoptic FPN on Town</title>",
        "7,654,321 parameters, learned from the same images for 1.33 minutes and came to AP 0.375",
        "2 detections of Faster R-CNN",
        "<p>a page of maps</p>",
        "Panoptic FPN: training",
    ):
        assert text in html, text
    assert "Panoptic FPN beside it" not in html  # its page says more
    assert "<b>" not in html  # a class name is text, not markup
    assert not re.search(r"\b(nan|None|inf)\b", re.sub(r'src="data:[^"]*"', "", html))
