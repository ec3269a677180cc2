"""Our RetinaNet with torchvision's weights against torchvision's own, on random weights."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection import RetinaNet, retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from course_lib.detectors.presets import R50_TORCHVISION_V1, R50_TORCHVISION_V2
from course_lib.weights.torchvision import retinanet_from_torchvision, retinanet_preset
from tests.detectors.models import target
from tests.nn.randomise import random_images, randomise_norms

SHORT, LONG = 128, 200  # pixels: quick, and at P6 and P7 the strides differ from 64 and 128
NEW = {"weights": None, "weights_backbone": None, "min_size": SHORT, "max_size": LONG}


def with_frozen_norms() -> nn.Module:
    """What torchvision builds for its published v1 weights: frozen norms whose epsilon is set to 0 after loading."""
    body = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    backbone = _resnet_fpn_extractor(body, 3, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    anchors = retinanet_resnet50_fpn(**NEW).anchor_generator
    model = RetinaNet(backbone, 91, anchor_generator=anchors, min_size=SHORT, max_size=LONG)
    overwrite_eps(model, 0.0)
    return model


@torch.no_grad()
def randomise(model: nn.Module) -> nn.Module:
    """Random statistics, and heads that see a few hundred things of many classes with many scores."""
    randomise_norms(model, seed=1)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if name.endswith(("cls_logits.weight", "bbox_reg.weight")):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.03)
        if name.endswith("cls_logits.bias"):
            parameter.fill_(-4)
    return model


@pytest.fixture(scope="module", params=["v1", "v1 frozen", "v2"])
def pair(request):
    """torchvision's model and ours with its weights."""
    torch.manual_seed(0)
    build = {
        "v1": lambda: retinanet_resnet50_fpn(**NEW),
        "v1 frozen": with_frozen_norms,
        "v2": lambda: retinanet_resnet50_fpn_v2(**NEW),
    }
    theirs = randomise(build[request.param]())
    preset = retinanet_preset(theirs.state_dict())
    wanted = R50_TORCHVISION_V2 if request.param == "v2" else R50_TORCHVISION_V1
    assert preset.name == wanted.name
    assert preset.backbone.norm == ("frozen_scale_shift" if request.param == "v1 frozen" else "batch")
    ours = retinanet_from_torchvision(
        theirs.state_dict(), replace(preset, input=replace(preset.input, size=(SHORT, LONG)))
    )
    assert ours.num_classes == 91
    assert not ours.training
    return theirs, ours


@pytest.mark.parametrize(
    "sizes",
    [[(97, 131)], [(333, 500)], [(240, 77)], [(401, 399)], [(64, 640)], [(150, 200), (221, 133)]],
    ids=lambda sizes: " and ".join(f"{h}x{w}" for h, w in sizes),
)
def test_detections(pair, sizes):
    theirs, ours = (model.eval() for model in pair)
    images = random_images(*sizes, seed=5)
    with torch.no_grad():
        wanted, found = theirs([image.clone() for image in images]), ours(images)
    for a, b in zip(found, wanted, strict=True):
        assert 20 < len(b["boxes"]) <= 300
        assert torch.equal(a["labels"], b["labels"])
        assert (a["boxes"] - b["boxes"]).abs().max() < 1e-3
        assert (a["scores"] - b["scores"]).abs().max() < 1e-5


def test_losses_and_gradients(pair):
    theirs, ours = pair
    before = {name: value.clone() for name, value in theirs.state_dict().items()}, ours.state_dict()
    before = before[0], {name: value.clone() for name, value in before[1].items()}
    images = random_images((150, 200), (221, 133), seed=6)
    targets = [target([[10, 20, 90, 100], [5, 5, 60, 40], [5, 5, 62, 44]], [3, 90, 0]), target([], [])]
    wanted = theirs.train()([image.clone() for image in images], [dict(t) for t in targets])
    found = ours.train()(images, targets)
    assert set(found) == set(wanted) == {"classification", "bbox_regression"}
    for name in wanted:
        assert found[name].item() == pytest.approx(wanted[name].item(), rel=1e-5)
        assert wanted[name].item() > 0
    sum(wanted.values()).backward()
    sum(found.values()).backward()
    for their_part, our_part in (
        (theirs.head.classification_head.cls_logits, ours.class_head.predictor),
        (theirs.head.regression_head.bbox_reg, ours.box_head.predictor),
        (theirs.backbone.fpn.inner_blocks[0][0], ours.fpn.lateral[0]),
        (theirs.backbone.body.layer3[0].conv2, ours.backbone.layer3[0].conv2),
    ):
        a, b = our_part.weight.grad, their_part.weight.grad
        assert (a - b).abs().max() <= 1e-4 * b.abs().max()
        assert b.abs().max() > 0
    for model, state in zip(pair, before):  # batch norms have moved their statistics
        model.load_state_dict(state)
        model.zero_grad(set_to_none=True)
