"""torchvision's names of an SSD. That the weights then do the same is shown in tests/detectors/test_ssd_parity.py."""

from dataclasses import replace

import pytest
import torch
from torchvision.models.detection import ssd300_vgg16

from course_lib.detectors.presets import SSD300_TORCHVISION
from course_lib.weights.torchvision import ssd_from_torchvision


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return ssd300_vgg16(weights=None, weights_backbone=None, num_classes=4).state_dict()


def test_every_tensor_arrives(state):
    model = ssd_from_torchvision(state)
    assert model.num_classes == 3
    assert not model.training
    ours = model.state_dict()
    assert len(ours) == len(state)
    for theirs, name in (
        ("backbone.features.0.weight", "backbone.vgg.features.0.weight"),
        ("backbone.features.21.bias", "backbone.vgg.features.21.bias"),
        ("backbone.scale_weight", "backbone.norm.weight"),
        ("backbone.extra.0.1.weight", "backbone.vgg.features.24.weight"),
        ("backbone.extra.0.5.bias", "backbone.vgg.features.28.bias"),
        ("backbone.extra.0.7.1.weight", "backbone.fc6.weight"),
        ("backbone.extra.0.7.3.bias", "backbone.fc7.bias"),
        ("backbone.extra.1.0.weight", "backbone.extras.0.0.weight"),
        ("backbone.extra.4.2.weight", "backbone.extras.3.2.weight"),
        ("head.regression_head.module_list.5.weight", "box_head.predictors.5.weight"),
    ):
        assert torch.equal(ours[name], state[theirs]), name


def test_background_moves_from_the_first_channel_of_each_box_to_the_last(state):
    state = dict(state)
    state["head.classification_head.module_list.0.bias"] = torch.arange(16.0)  # four boxes, background and three
    bias = ssd_from_torchvision(state).class_head.predictors[0].bias
    assert bias.tolist() == [1, 2, 3, 0, 5, 6, 7, 4, 9, 10, 11, 8, 13, 14, 15, 12]


def test_another_preset(state):
    preset = replace(SSD300_TORCHVISION, detect=replace(SSD300_TORCHVISION.detect, score=0.5))
    assert ssd_from_torchvision(state, preset).detect_spec.score == 0.5


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("backbone.scale_weight"), r"no value for 1 .*: backbone\.norm\.weight"),
        (lambda s: s.update({"rpn.head.x": torch.ones(1)}), r"1 keys that this model has no place for: rpn\.head\.x"),
        (
            lambda s: s.update({"head.classification_head.module_list.1.bias": torch.ones(16)}),
            r"another shape for 1 .*: class_head\.predictors\.1\.bias: \(16,\) for \(24,\)",
        ),
        (
            lambda s: s.pop("head.classification_head.module_list.2.weight"),
            r"no value for 1 .*: class_head\.predictors\.2\.weight",
        ),
        (
            lambda s: s.pop("head.classification_head.module_list.0.bias"),
            r"not .* a torchvision SSD: there is no head\.classification_head\.module_list\.0\.bias",
        ),
    ],
    ids=["missing", "unknown", "shape", "a missing head", "not an SSD"],
)
def test_what_does_not_fit_is_named(state, change, message):
    damaged = dict(state)
    change(damaged)
    with pytest.raises(ValueError, match=message):
        ssd_from_torchvision(damaged)
