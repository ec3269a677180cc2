"""Detectron2's names. That the weights then do the same is shown in tests/detectors/test_detectron2_golden.py."""

from dataclasses import replace

import pytest
import torch

from course_lib.detectors.presets import R50_DETECTRON2
from course_lib.weights.detectron2 import fpn, load_retinanet
from course_lib.weights.keys import rename
from tests.detectors.goldens import Golden


@pytest.fixture(scope="module")
def golden_state():
    return Golden("retinanet").weights


@pytest.fixture
def state(golden_state):
    return dict(golden_state)


@pytest.fixture
def model():
    torch.manual_seed(0)
    backbone = replace(R50_DETECTRON2.backbone, stem_width=8, widths=(4, 8, 16, 32))
    return replace(R50_DETECTRON2, backbone=backbone, channels=16).build(5)


def test_every_tensor_arrives(model, state):
    load_retinanet(model, state)
    ours = model.state_dict()
    assert len(ours) == len(state) + 1  # and the moving average of the normaliser, which Detectron2 does not save
    assert ours["positives_ema"] == 100
    for theirs, name in (
        ("backbone.bottom_up.stem.conv1.weight", "backbone.conv1.weight"),
        ("backbone.bottom_up.stem.conv1.norm.running_mean", "backbone.bn1.running_mean"),
        ("backbone.bottom_up.res2.0.shortcut.norm.bias", "backbone.layer1.0.downsample.1.bias"),
        ("backbone.bottom_up.res5.2.conv3.norm.running_var", "backbone.layer4.2.bn3.running_var"),
        ("backbone.fpn_lateral3.weight", "fpn.lateral.0.weight"),
        ("backbone.fpn_output5.bias", "fpn.output.2.bias"),
        ("backbone.top_block.p6.weight", "fpn.p6.weight"),
        ("head.cls_subnet.4.weight", "class_head.convs.2.weight"),
        ("head.bbox_subnet.6.bias", "box_head.convs.3.bias"),
        ("head.cls_score.weight", "class_head.predictor.weight"),
        ("head.bbox_pred.bias", "box_head.predictor.bias"),
    ):
        assert torch.equal(ours[name], state[theirs]), name


def test_constants_of_old_files_are_left_out(model, state):
    state |= {"pixel_mean": torch.ones(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}
    state |= {f"anchor_generator.cell_anchors.{i}": torch.ones(9, 4) for i in range(5)}
    state["head.anchor_generator.cell_anchors.0"] = torch.ones(9, 4)
    load_retinanet(model, state)
    assert torch.equal(model.fpn.p7.weight, state["backbone.top_block.p7.weight"])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("backbone.top_block.p6.bias"), r"no value for 1 .*: fpn\.p6\.bias"),
        (lambda s: s.pop("head.cls_subnet.2.weight"), r"no value for 1 .*: class_head\.convs\.1\.weight"),
        (
            lambda s: s.update({"proposal_generator.rpn_head.conv.weight": torch.ones(1)}),
            r"1 keys that this model has no place for: proposal_generator\.rpn_head\.conv\.weight",
        ),
        (
            lambda s: s.update({"head.cls_subnet.1.weight": torch.ones(16)}),
            r"1 keys that this model has no place for: head\.cls_subnet\.1\.weight",
        ),
        (
            lambda s: s.update({"head.cls_score.bias": torch.ones(720)}),
            r"another shape for 1 .*: class_head\.predictor\.bias: \(720,\) for \(45,\)",
        ),
    ],
    ids=["missing", "missing in the head", "unknown", "a ReLU with weights", "shape"],
)
def test_what_does_not_fit_is_named(model, state, change, message):
    change(state)
    with pytest.raises(ValueError, match=message):
        load_retinanet(model, state)


def test_a_pyramid_from_level_2():
    names = [f"backbone.fpn_{kind}{level}.weight" for kind in ("lateral", "output") for level in (2, 5)]
    found = rename(dict.fromkeys(names, torch.ones(1)), fpn(first_level=2))
    assert list(found) == ["fpn.lateral.0.weight", "fpn.lateral.3.weight", "fpn.output.0.weight", "fpn.output.3.weight"]
