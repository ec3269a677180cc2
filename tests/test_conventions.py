"""docs/conventions.md names the test that proves each row: they exist, and the values in it are the presets'."""

import re
from pathlib import Path

import pytest

from course_lib.detectors.presets import FAMILIES

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs" / "conventions.md").read_text(encoding="utf-8")
REFERENCES = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)))
COLUMNS = ("r50_detectron2", "r50_torchvision_v1", "r50_torchvision_v2")


def test_there_are_references():
    assert len(REFERENCES) >= 50


@pytest.mark.parametrize("file, name", REFERENCES)
def test_a_named_test_exists(file, name):
    assert re.search(rf"^def {name}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("heading", ["RetinaNet", "Faster R-CNN", "The masks of Mask R-CNN"])
def test_every_row_names_its_test(heading):
    section = TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 5
    for row in rows:
        assert len(row) == 7, row
        assert "::" in row[-1], row


@pytest.mark.parametrize(
    "family, field, values",
    [
        ("retinanet", "anchors.rounding", (False, True, True)),
        ("retinanet", "anchors.order", ("size", "ratio", "ratio")),
        ("retinanet", "anchors.stride_mode", ("fixed", "grid", "grid")),
        ("retinanet", "fpn_extra", ("p6p7_from_c5", "p6p7_from_p5", "p6p7_from_c5")),
        ("retinanet", "head_norm", (None, None, "group")),
        ("retinanet", "backbone.norm", ("frozen", "frozen_scale_shift", "batch")),
        ("retinanet", "backbone.norm_eps", (1e-5, 0, 1e-5)),
        ("retinanet", "backbone.stride_in", ("1x1", "3x3", "3x3")),
        ("retinanet", "matching.low_quality", (True, True, True)),
        ("retinanet", "loss.box", ("l1", "l1", "giou")),
        ("retinanet", "loss.normalizer", ("ema", "image", "image")),
        ("retinanet", "detect.clip", ("after_nms", "before_nms", "before_nms")),
        ("retinanet", "detect.detections", (100, 300, 300)),
        ("retinanet", "input.bgr", (True, False, False)),
        ("retinanet", "input.resize", ("shortest_uint8", "shortest_float", "shortest_float")),
        ("faster_rcnn", "proposals.after_nms", ((1000, 1000), (2000, 1000), (2000, 1000))),
        ("faster_rcnn", "proposals.rank_by", ("logit", "probability", "probability")),
        ("faster_rcnn", "rpn_loss.box", ("l1", "smooth_l1", "smooth_l1")),
        ("faster_rcnn", "rpn_loss.normalizer", ("samples", "drawn", "drawn")),
        ("faster_rcnn", "rpn_depth", (1, 1, 2)),
        ("faster_rcnn", "pool.aligned", (True, False, False)),
        ("faster_rcnn", "pool.sampling_ratio", (0, 2, 2)),
        ("faster_rcnn", "pool.epsilon", ("inside", "outside", "outside")),
        ("faster_rcnn", "box_head.convs", (0, 0, 4)),
        ("faster_rcnn", "boxes.box", ("l1", "smooth_l1", "smooth_l1")),
        ("faster_rcnn", "detect.min_size", (0, 0.01, 0.01)),
        ("mask_rcnn", "masks.aligned", (True, False, False)),
        ("mask_rcnn", "masks.threshold", (0.5, None, None)),
        ("mask_rcnn", "masks.sampling", ("grid", "integer", "integer")),
        ("mask_rcnn", "mask_head.norm", (None, None, "batch")),
    ],
)
def test_the_presets_are_what_the_tables_say(family, field, values):
    assert f"`{field.split('.')[0]}" in TEXT
    for name, wanted in zip(COLUMNS, values):
        found = FAMILIES[family][name]
        for part in field.split("."):
            found = getattr(found, part)
        assert found == wanted, name
