"""torchvision's names. That the weights then do the same is shown in tests/detectors/test_torchvision_parity.py."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from course_lib.detectors.presets import R50_TORCHVISION_V1, R50_TORCHVISION_V2, ResNetSpec
from course_lib.weights.torchvision import retinanet_from_torchvision, retinanet_preset

SMALL = replace(
    R50_TORCHVISION_V1,
    backbone=ResNetSpec(blocks=(1, 1, 1, 1), bottleneck=False, norm="batch", frozen_stages=0),
    channels=32,
)


def small_torchvision(norm=None):
    """A RetinaNet of torchvision's classes with one basic block a stage and a pyramid of 32 channels."""
    torch.manual_seed(0)
    layers = {"layer2": "0", "layer3": "1", "layer4": "2"}
    body = ResNet(BasicBlock, [1, 1, 1, 1])
    backbone = BackboneWithFPN(body, layers, [128, 256, 512], 32, LastLevelP6P7(32, 32))
    sizes = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512))
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)
    head = RetinaNetHead(32, 9, 6, norm_layer=norm)
    return RetinaNet(backbone, 6, anchor_generator=anchors, head=head)


@pytest.fixture(scope="module")
def state():
    return small_torchvision().state_dict()


def test_every_tensor_arrives(state):
    model = retinanet_from_torchvision(state, SMALL)
    assert model.num_classes == 6
    assert not model.training
    ours = model.state_dict()
    assert len(ours) == len(state)
    for theirs, name in (
        ("backbone.body.conv1.weight", "backbone.conv1.weight"),
        ("backbone.body.layer2.0.downsample.1.running_var", "backbone.layer2.0.downsample.1.running_var"),
        ("backbone.fpn.inner_blocks.2.0.bias", "fpn.lateral.2.bias"),
        ("backbone.fpn.layer_blocks.1.0.weight", "fpn.output.1.weight"),
        ("backbone.fpn.extra_blocks.p7.weight", "fpn.p7.weight"),
        ("head.classification_head.conv.3.0.weight", "class_head.convs.3.weight"),
        ("head.regression_head.conv.0.0.bias", "box_head.convs.0.bias"),
        ("head.classification_head.cls_logits.weight", "class_head.predictor.weight"),
        ("head.regression_head.bbox_reg.weight", "box_head.predictor.weight"),
    ):
        assert torch.equal(ours[name], state[theirs]), name


def test_group_norms_of_the_heads():
    state = small_torchvision(partial(torch.nn.GroupNorm, 32)).state_dict()
    with torch.no_grad():
        for i, name in enumerate(sorted(k for k in state if "_head.conv." in k)):
            state[name].fill_(i)
    assert retinanet_preset(state) == R50_TORCHVISION_V2
    ours = retinanet_from_torchvision(state, replace(SMALL, head_norm="group")).state_dict()
    for kind, short in (("classification", "class"), ("regression", "box")):
        for i in range(4):
            for part in ("weight", "bias"):
                theirs = state[f"head.{kind}_head.conv.{i}.1.{part}"]
                assert torch.equal(ours[f"{short}_head.norms.0.{i}.{part}"], theirs)


def test_old_files_name_the_pyramid_without_a_zero(state):
    old = {
        k.replace(".0.weight", ".weight").replace(".0.bias", ".bias") if "_blocks." in k else k: v
        for k, v in state.items()
    }
    assert "backbone.fpn.inner_blocks.2.bias" in old
    assert "backbone.fpn.inner_blocks.2.0.bias" not in old
    new, again = (retinanet_from_torchvision(x, SMALL).state_dict() for x in (state, old))
    assert all(torch.equal(new[k], again[k]) for k in new)


def test_which_preset_the_weights_ask_for(state):
    preset = retinanet_preset(state)
    assert preset.name == "r50_torchvision_v1"
    assert (preset.backbone.norm, preset.backbone.norm_eps) == ("batch", 1e-5)
    published = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert retinanet_preset(published) == R50_TORCHVISION_V1
    assert R50_TORCHVISION_V1.backbone.norm_eps == 0


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("backbone.body.conv1.weight"), r"no value for 1 .*: backbone\.conv1\.weight"),
        (lambda s: s.update({"rpn.head.x": torch.ones(1)}), r"1 keys that this model has no place for: rpn\.head\.x"),
        (
            lambda s: s.update({"backbone.body.layer1.9.conv1.weight": torch.ones(1)}),
            r"no place for 1 .*: backbone\.layer1\.9\.conv1\.weight",
        ),
        (
            lambda s: s.update({"backbone.fpn.extra_blocks.p6.weight": torch.ones(32, 512, 3, 3)}),
            r"another shape for 1 .*: fpn\.p6\.weight: \(32, 512, 3, 3\) for \(32, 32, 3, 3\)",
        ),
        (
            lambda s: s.pop("head.classification_head.cls_logits.bias"),
            r"not .* a torchvision RetinaNet: there is no head\.classification_head\.cls_logits\.bias",
        ),
    ],
    ids=["missing", "unknown", "unexpected", "shape", "not a RetinaNet"],
)
def test_what_does_not_fit_is_named(state, change, message):
    damaged = dict(state)
    change(damaged)
    with pytest.raises(ValueError, match=message):
        retinanet_from_torchvision(damaged, SMALL)
