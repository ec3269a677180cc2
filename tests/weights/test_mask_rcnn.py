"""Names of the peers' mask heads. That the weights then do the same is shown in tests/detectors/test_mask_rcnn_*.py."""

from dataclasses import replace

import pytest
import torch
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock, ResNet

from course_lib.detectors.presets import ResNetSpec
from course_lib.detectors.presets.mask_rcnn import R50_DETECTRON2, R50_TORCHVISION_V1, R50_TORCHVISION_V2
from course_lib.weights.detectron2 import load_mask_rcnn
from course_lib.weights.torchvision import mask_rcnn_from_torchvision, mask_rcnn_preset
from tests.detectors.goldens import Golden

SMALL = replace(
    R50_TORCHVISION_V1,
    backbone=ResNetSpec(
        blocks=(1, 1, 1, 1), bottleneck=False, norm="batch", frozen_stages=0, levels=("c2", "c3", "c4", "c5")
    ),
    channels=32,
)


@pytest.fixture(scope="module")
def state():
    """A Mask R-CNN of torchvision's classes with one basic block a stage, a pyramid of 32 channels and 5 objects."""
    torch.manual_seed(0)
    layers = {f"layer{i + 1}": str(i) for i in range(4)}
    backbone = BackboneWithFPN(ResNet(BasicBlock, [1, 1, 1, 1]), layers, [64, 128, 256, 512], 32)
    return MaskRCNN(backbone, 6).state_dict()


def test_every_tensor_arrives(state):
    model = mask_rcnn_from_torchvision(state, SMALL)
    assert model.num_classes == 5
    assert not model.training
    ours = model.state_dict()
    assert len(ours) == len(state)
    for theirs, name in (
        ("roi_heads.mask_head.3.0.weight", "mask_head.convs.3.weight"),
        ("roi_heads.mask_predictor.conv5_mask.bias", "mask_head.upsample.bias"),
        ("roi_heads.box_head.fc6.weight", "box_head.fcs.0.weight"),
    ):
        assert torch.equal(ours[name], state[theirs]), name
    last = state["roi_heads.mask_predictor.mask_fcn_logits.weight"]
    assert torch.equal(ours["mask_head.predictor.weight"], last[1:])  # without background's


def test_old_files(state):
    old = {}
    for name, value in state.items():
        for i in range(4):
            name = name.replace(f"mask_head.{i}.0.", f"mask_head.mask_fcn{i + 1}.")
        old[name] = value
    assert "roi_heads.mask_head.mask_fcn4.bias" in old
    new, again = (mask_rcnn_from_torchvision(x, SMALL).state_dict() for x in (state, old))
    assert all(torch.equal(new[k], again[k]) for k in new)


def test_which_preset_the_weights_ask_for(state):
    preset = mask_rcnn_preset(state)
    assert preset.name == "r50_torchvision_v1"
    assert preset.backbone.norm == "batch"
    published = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert mask_rcnn_preset(published) == R50_TORCHVISION_V1
    assert mask_rcnn_preset({"roi_heads.box_head.0.0.weight": torch.ones(1)}) == R50_TORCHVISION_V2


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("roi_heads.mask_head.0.0.bias"), r"no value for 1 .*: mask_head\.convs\.0\.bias"),
        (
            lambda s: s.update({"roi_heads.mask_head.4.0.bias": torch.ones(256)}),
            r"no place for 1 .*: mask_head\.convs\.4\.bias",
        ),
        (
            lambda s: s.pop("roi_heads.mask_predictor.mask_fcn_logits.bias"),
            r"not .* a torchvision Mask R-CNN: there is no roi_heads\.mask_predictor\.mask_fcn_logits\.bias",
        ),
        (
            lambda s: s.pop("roi_heads.box_predictor.cls_score.bias"),
            r"not .* a torchvision Mask R-CNN: there is no roi_heads\.box_predictor\.cls_score\.bias",
        ),
    ],
    ids=["missing", "unexpected", "a Faster R-CNN", "no R-CNN"],
)
def test_what_does_not_fit_is_named(state, change, message):
    damaged = dict(state)
    change(damaged)
    with pytest.raises(ValueError, match=message):
        mask_rcnn_from_torchvision(damaged, SMALL)


def test_detectron2():
    golden = Golden("mask_rcnn")
    preset = golden.narrow(R50_DETECTRON2)
    preset = replace(
        preset,
        box_head=replace(preset.box_head, widths=(24, 24)),
        mask_head=replace(preset.mask_head, channels=8),
    )
    model = preset.build(5)
    load_mask_rcnn(model, golden.weights)
    ours = model.state_dict()
    assert len(ours) == len(golden.weights)
    for theirs, name in (
        ("roi_heads.mask_head.mask_fcn1.weight", "mask_head.convs.0.weight"),
        ("roi_heads.mask_head.deconv.bias", "mask_head.upsample.bias"),
        ("roi_heads.mask_head.predictor.weight", "mask_head.predictor.weight"),
    ):
        assert torch.equal(ours[name], golden.weights[theirs]), name
    with pytest.raises(ValueError, match=r"no value for 1 .*: mask_head\.upsample\.bias"):
        load_mask_rcnn(model, {k: v for k, v in golden.weights.items() if "deconv.bias" not in k})
