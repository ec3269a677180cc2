"""The peers' names of Faster R-CNN. That the weights then do the same is shown in tests/detectors/."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, RPNHead, TwoMLPHead
from torchvision.models.resnet import BasicBlock, ResNet

from course_lib.detectors.presets import ResNetSpec
from course_lib.detectors.presets.faster_rcnn import R50_DETECTRON2, R50_TORCHVISION_V1, R50_TORCHVISION_V2
from course_lib.weights.detectron2 import load_faster_rcnn
from course_lib.weights.torchvision import faster_rcnn_from_torchvision, faster_rcnn_preset
from tests.detectors.goldens import Golden

BACKBONE = ResNetSpec(
    blocks=(1, 1, 1, 1), bottleneck=False, norm="batch", frozen_stages=0, levels=("c2", "c3", "c4", "c5")
)
SMALL = {
    preset.name: replace(preset, backbone=BACKBONE, channels=32, box_head=replace(preset.box_head, widths=widths))
    for preset, widths in ((R50_TORCHVISION_V1, (24, 24)), (R50_TORCHVISION_V2, (24,)))
}


def small_torchvision(version):
    """A Faster R-CNN of torchvision's classes with one basic block a stage, a pyramid of 32 channels and 6 classes."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d if version == 2 else None
    stages = {f"layer{i}": str(i - 1) for i in range(1, 5)}
    backbone = BackboneWithFPN(ResNet(BasicBlock, [1, 1, 1, 1]), stages, [64, 128, 256, 512], 32, norm_layer=norm)
    anchors = AnchorGenerator(tuple((x,) for x in (32, 64, 128, 256, 512)), ((0.5, 1.0, 2.0),) * 5)
    if version == 2:
        head = FastRCNNConvFCHead((32, 7, 7), [32] * 4, [24], norm_layer=norm)
    else:
        head = TwoMLPHead(32 * 49, 24)
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(32, 3, conv_depth=version),
        box_head=head,
        box_predictor=FastRCNNPredictor(24, 7),
    )


@pytest.fixture(scope="module")
def states():
    return {version: small_torchvision(version).state_dict() for version in (1, 2)}


V1_NAMES = [
    ("backbone.fpn.inner_blocks.0.0.weight", "fpn.lateral.0.weight"),
    ("backbone.fpn.layer_blocks.3.0.bias", "fpn.output.3.bias"),
    ("roi_heads.box_head.fc6.weight", "box_head.fcs.0.weight"),
    ("roi_heads.box_head.fc7.bias", "box_head.fcs.1.bias"),
]
V2_NAMES = [
    ("backbone.fpn.inner_blocks.0.0.weight", "fpn.lateral.0.0.weight"),
    ("backbone.fpn.layer_blocks.3.1.running_mean", "fpn.output.3.1.running_mean"),
    ("rpn.head.conv.1.0.weight", "rpn.head.convs.1.weight"),
    ("roi_heads.box_head.2.0.weight", "box_head.convs.2.0.weight"),
    ("roi_heads.box_head.3.1.running_var", "box_head.convs.3.1.running_var"),
    ("roi_heads.box_head.5.weight", "box_head.fcs.0.weight"),
]
BOTH = [
    ("backbone.body.layer2.0.downsample.1.running_var", "backbone.layer2.0.downsample.1.running_var"),
    ("rpn.head.conv.0.0.weight", "rpn.head.convs.0.weight"),
    ("rpn.head.cls_logits.bias", "rpn.head.objectness.bias"),
    ("rpn.head.bbox_pred.weight", "rpn.head.deltas.weight"),
]


@pytest.mark.parametrize("version, names", [(1, V1_NAMES), (2, V2_NAMES)])
def test_every_tensor_of_torchvision_arrives(states, version, names):
    state = states[version]
    model = faster_rcnn_from_torchvision(state, SMALL[f"r50_torchvision_v{version}"])
    assert model.num_classes == 6
    assert not model.training
    ours = model.state_dict()
    assert len(ours) == len(state)
    for theirs, name in names + BOTH:
        assert torch.equal(ours[name], state[theirs]), name


def test_background_goes_from_first_to_last(states):
    state, ours = states[1], faster_rcnn_from_torchvision(states[1], SMALL["r50_torchvision_v1"]).box_head
    for part in ("weight", "bias"):
        theirs = state[f"roi_heads.box_predictor.cls_score.{part}"]
        assert torch.equal(getattr(ours.class_predictor, part), torch.cat((theirs[1:], theirs[:1])))
        theirs = state[f"roi_heads.box_predictor.bbox_pred.{part}"]
        assert torch.equal(getattr(ours.box_predictor, part), theirs[4:])


def test_old_files_name_the_rpns_convolution_without_zeros(states):
    old = {k.replace("rpn.head.conv.0.0.", "rpn.head.conv."): v for k, v in states[1].items()}
    assert "rpn.head.conv.weight" in old
    new, again = (faster_rcnn_from_torchvision(x, SMALL["r50_torchvision_v1"]).state_dict() for x in (states[1], old))
    assert all(torch.equal(new[k], again[k]) for k in new)


def test_which_preset_the_weights_ask_for(states):
    preset = faster_rcnn_preset(states[1])
    assert preset.name == "r50_torchvision_v1"
    assert (preset.backbone.norm, preset.backbone.norm_eps) == ("batch", 1e-5)
    published = {k: v for k, v in states[1].items() if not k.endswith("num_batches_tracked")}
    assert faster_rcnn_preset(published) == R50_TORCHVISION_V1
    assert faster_rcnn_preset(states[2]) == R50_TORCHVISION_V2


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("roi_heads.box_head.fc6.weight"), r"no value for 1 .*: box_head\.fcs\.0\.weight"),
        (lambda s: s.update({"head.x": torch.ones(1)}), r"1 keys that this model has no place for: head\.x"),
        (
            lambda s: s.pop("roi_heads.box_predictor.cls_score.bias"),
            r"not the weights of a torchvision Faster R-CNN: there is no roi_heads\.box_predictor\.cls_score\.bias",
        ),
    ],
    ids=["missing", "unknown", "not a Faster R-CNN"],
)
def test_what_does_not_fit_is_named(states, change, message):
    damaged = dict(states[1])
    change(damaged)
    with pytest.raises(ValueError, match=message):
        faster_rcnn_from_torchvision(damaged, SMALL["r50_torchvision_v1"])


def test_every_tensor_of_detectron2_arrives():
    golden = Golden("faster_rcnn")
    preset = golden.narrow(R50_DETECTRON2)
    model = replace(preset, box_head=replace(preset.box_head, widths=(24, 24))).build(5)
    state = golden.weights | {"proposal_generator.anchor_generator.cell_anchors.0": torch.ones(3, 4)}
    load_faster_rcnn(model, state)
    ours = model.state_dict()
    assert len(ours) == len(golden.weights)
    for theirs, name in (
        ("backbone.bottom_up.res2.0.shortcut.norm.bias", "backbone.layer1.0.downsample.1.bias"),
        ("backbone.fpn_lateral2.weight", "fpn.lateral.0.weight"),
        ("proposal_generator.rpn_head.conv.weight", "rpn.head.convs.0.weight"),
        ("proposal_generator.rpn_head.anchor_deltas.bias", "rpn.head.deltas.bias"),
        ("roi_heads.box_head.fc2.weight", "box_head.fcs.1.weight"),
        ("roi_heads.box_predictor.cls_score.weight", "box_head.class_predictor.weight"),
        ("roi_heads.box_predictor.bbox_pred.bias", "box_head.box_predictor.bias"),
    ):
        assert torch.equal(ours[name], golden[f"weights/{theirs}"]), name
    del state["roi_heads.box_head.fc1.bias"]
    with pytest.raises(ValueError, match=r"no value for 1 .*: box_head\.fcs\.0\.bias"):
        load_faster_rcnn(model, state)
