"""The panoptic page of the tour's report."""

import re
from pathlib import Path

import pytest
import torch

from course_lib.datasets.coco import open_split
from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_writer import make_town
from course_lib.engine.panoptic import evaluate_panoptic
from course_lib.engine.report_panoptic import no_panoptic_page, panoptic_page
from tests.engine.outputs import Oracle

RUN = {"parameters": 7654321, "recipe": {"minutes": 1.2}, "images_per_second": {"inference": 44.4}}


@pytest.fixture(scope="module")
def val_data(tmp_path_factory):
    out = tmp_path_factory.mktemp("panoptic_page") / "town"
    make_town(out, train=0, val=3, config=TownConfig(size=64), seed=0, progress=False)
    return open_split(out, "val").with_panoptic()


def page(dataset, change=lambda answer: None, shown=2) -> str:
    """The page of a detector that says the truth, changed."""
    metrics, _, _ = evaluate_panoptic(Oracle(dataset, change), dataset)
    answers = Oracle(dataset, change)([None] * shown)
    return "\n".join(panoptic_page(metrics.to_dict() | RUN, dataset, answers))


def rows(html: str) -> dict[str, list[str]]:
    """The cells of each row of its tables, by the first."""
    cells = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in re.findall(r"<tr>.*?</tr>", html)]
    return {row[0]: row[1:] for row in cells if row}


def test_of_the_truth(val_data):
    html = page(val_data)
    about = "7,654,321 parameters, 1.2 minutes of training"
    for text in ("PQ 1.000", about, "44 maps a second", "Lesson 11", "Lesson 12"):
        assert text in html, text
    table = rows(html)
    assert all(table[group][:3] == ["1.000"] * 3 for group in ("all", "things", "stuff"))
    sky = sum(
        any(s["category_id"] == c["id"] for s in val_data.panoptic.segments(image_id))
        for image_id in val_data.image_ids
        for c in val_data.panoptic.categories
        if c["name"] == "sky"
    )
    assert table["sky"] == ["1.000", "1.000", "1.000", str(sky), "0", "0"]
    alts = re.findall(r'alt="([^"]*)"', html)
    assert len(alts) == html.count("<img") == 2
    for index, alt in enumerate(alts):
        count = sum(not s["iscrowd"] for s in val_data.panoptic.segments(val_data.image_ids[index]))
        told = f"val_{index:06d}.png: {count} segments, {count} right, 0 missed; 0 invented"
        assert alt == f"Picture, true map, predicted map and errors of {told}"
        assert f"<figcaption>{told}</figcaption>" in html


def test_of_one_who_says_nothing(val_data):
    def silence(answer):
        answer["panoptic"] = torch.zeros_like(answer["panoptic"])
        answer["segments"] = []

    html = page(val_data, silence, shown=1)
    assert "PQ 0.000" in html
    count = sum(not s["iscrowd"] for s in val_data.panoptic.segments(val_data.image_ids[0]))
    assert f"{count} segments, 0 right, {count} missed; 0 invented" in html
    assert not re.search(r"\b(nan|None|inf)\b", re.sub(r'src="data:[^"]*"', "", html))


def test_where_there_is_no_truth():
    html = "".join(no_panoptic_page(Path("a<b") / "panoptic_val.json"))
    assert "<h2>No Panoptic FPN</h2>" in html
    assert "a&lt;b" in html
