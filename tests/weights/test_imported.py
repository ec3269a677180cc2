"""Other classes: in every family what predicts them starts afresh, with its prior, and nothing else."""

from dataclasses import replace

import pytest
import torch

from course_lib.datasets.label_map import LabelMap
from course_lib.detectors.presets import CLASSES, get_preset
from course_lib.weights.imported import Imported, class_tensors, generic_labels, stuff_tensors, with_classes
from course_lib.weights.keys import LoadReport

TWO_STAGES = {"box_head.class_predictor", "box_head.box_predictor"}
PREDICTORS = {
    "retinanet": {"class_head.predictor"},
    "ssd": {f"class_head.predictors.{level}" for level in range(4)},
    "yolo": {f"head.predictors.{level}" for level in range(3)},  # boxes, objectness and classes are one convolution
    "faster_rcnn": TWO_STAGES,
    "mask_rcnn": TWO_STAGES | {"mask_head.predictor"},
    "panoptic_fpn": TWO_STAGES | {"mask_head.predictor"},
    "upsnet": TWO_STAGES | {"mask_head.predictor", "semantic_head.predictor"},  # which tells things, too
}


def layers(names):
    return {name.rpartition(".")[0] for name in names}


@pytest.mark.parametrize("family", CLASSES)
def test_just_the_predictor_starts_afresh(family):
    preset = get_preset("tiny", family)
    model = preset.build(3)
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(7.0)
    found = Imported(model, preset, generic_labels(3), LoadReport(), "test")
    torch.manual_seed(0)
    other = with_classes(found, LabelMap(("a", "b"), (1, 2)))
    assert layers(other.report.fresh) == PREDICTORS[family]
    assert "start afresh, for other classes" in str(other.report)
    assert other.model.num_classes == 2
    for name, value in other.model.named_parameters():
        assert (value == 7).all() == (name not in other.report.fresh), name
    prior = getattr(preset, "prior", None)
    if family == "retinanet":
        bias = other.model.class_head.predictor.bias
        torch.testing.assert_close(bias.sigmoid(), torch.full_like(bias, prior))
    if family == "yolo":
        objectness = other.model.head.predictors[0].bias.reshape(-1, 7)[:, 4]
        torch.testing.assert_close(objectness.sigmoid(), torch.full_like(objectness, prior))


@pytest.mark.parametrize("family", ["panoptic_fpn", "upsnet"])
def test_what_predicts_stuff(family):
    preset = get_preset("tiny", family)
    assert layers(stuff_tensors(preset)) == {"semantic_head.predictor"}
    assert class_tensors(replace(preset, num_stuff=2)) == class_tensors(preset)
