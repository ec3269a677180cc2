from dataclasses import replace

import pytest
import torch

from course_lib.detectors.presets import get_preset
from course_lib.engine.compare.detectron2_preset import LEARNING_RATE, LEVELS, detectron2_preset
from course_lib.engine.compare.plan import THEIR_FAMILIES
from course_lib.engine.plan import box_statistics, fit
from course_lib.engine.recipe import Recipe
from course_lib.weights.detectron2.config import read_config, write_config


@pytest.fixture
def fitted(train_data):
    """A function that fits a family's tiny preset to the tiny data."""
    return lambda family: fit(get_preset("tiny", family), Recipe(minutes=1), box_statistics(train_data))[0]


@pytest.mark.parametrize("family", THEIR_FAMILIES)
def test_detectron2_can_be_told(family, fitted, tmp_path):
    preset = detectron2_preset(fitted(family))
    write_config(tmp_path / "config.yaml", preset, 2)
    told = read_config(tmp_path / "config.yaml")
    assert told.num_classes == 2
    assert replace(told.preset, name=preset.name, learning_rate=LEARNING_RATE) == preset


@pytest.mark.parametrize("family", THEIR_FAMILIES)
def test_what_it_shares_with_ours(family, fitted):
    ours = fitted(family)
    theirs = detectron2_preset(ours)
    assert (theirs.channels, theirs.matching, theirs.anchors.ratios) == (
        ours.channels,
        ours.matching,
        ours.anchors.ratios,
    )
    count = len(ours.anchors.sizes)
    assert theirs.anchors.sizes[:count] == ours.anchors.sizes
    assert len(theirs.anchors.sizes) == len(theirs.anchors.strides) == LEVELS[family]
    assert theirs.anchors.sizes[count] == tuple(2 * size for size in ours.anchors.sizes[-1])
    assert theirs.anchors.strides[:count] == ours.anchors.strides
    if family != "retinanet":
        assert (theirs.proposals.after_nms, theirs.boxes.samples) == (ours.proposals.after_nms, ours.boxes.samples)


def test_the_input_is_named_by_its_shorter_side(fitted):
    ours = fitted("retinanet")
    tall = replace(ours, input=replace(ours.input, size=(160, 96)))
    assert detectron2_preset(tall).input.size == (96, 160)


@pytest.mark.parametrize("family", THEIR_FAMILIES)
def test_our_own_twin_of_it_runs(family, fitted):
    torch.manual_seed(0)
    model = detectron2_preset(fitted(family)).build(2).eval()
    with torch.inference_mode():
        (found,) = model([torch.rand(3, 64, 64)])
    assert found["boxes"].shape[1] == 4
