"""Our Faster R-CNN with torchvision's weights against torchvision's own, on random weights."""

from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn, fasterrcnn_resnet50_fpn_v2
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops import FrozenBatchNorm2d

from course_lib.detectors.presets.faster_rcnn import R50_TORCHVISION_V1, R50_TORCHVISION_V2
from course_lib.weights.torchvision import faster_rcnn_from_torchvision, faster_rcnn_preset
from tests.detectors.models import target
from tests.detectors.torchvision_rcnn import LONG, NEW, PROPOSALS, SHORT, randomise, sample_everything
from tests.nn.randomise import random_images


def with_frozen_norms() -> nn.Module:
    """What torchvision builds for its published v1 weights: frozen norms whose epsilon is set to 0 after loading."""
    backbone = _resnet_fpn_extractor(resnet50(weights=None, norm_layer=FrozenBatchNorm2d), 3)
    model = FasterRCNN(backbone, 91, min_size=SHORT, max_size=LONG, **PROPOSALS)
    overwrite_eps(model, 0.0)
    return model


@pytest.fixture(scope="module", params=["v1", "v1 frozen", "v2"])
def pair(request):
    """torchvision's model and ours with its weights."""
    torch.manual_seed(0)
    build = {
        "v1": lambda: fasterrcnn_resnet50_fpn(**NEW),
        "v1 frozen": with_frozen_norms,
        "v2": lambda: fasterrcnn_resnet50_fpn_v2(**NEW),
    }
    theirs = randomise(build[request.param]())
    preset = faster_rcnn_preset(theirs.state_dict())
    wanted = R50_TORCHVISION_V2 if request.param == "v2" else R50_TORCHVISION_V1
    assert preset.name == wanted.name
    assert preset.backbone.norm == ("frozen_scale_shift" if request.param == "v1 frozen" else "batch")
    quick = replace(
        preset,
        input=replace(preset.input, size=(SHORT, LONG)),
        proposals=replace(preset.proposals, after_nms=(200, 300)),
    )
    ours = faster_rcnn_from_torchvision(theirs.state_dict(), quick)
    assert ours.num_classes == 90
    assert not ours.training
    return theirs, ours


def compare(pair, sizes) -> list[dict[str, torch.Tensor]]:
    """Detections of random pictures, theirs and ours equal; theirs."""
    theirs, ours = (model.eval() for model in pair)
    images = random_images(*sizes, seed=5)
    with torch.no_grad():
        wanted, found = theirs([image.clone() for image in images]), ours(images)
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a["labels"], b["labels"] - 1)
        torch.testing.assert_close(a["boxes"], b["boxes"], rtol=0, atol=1e-3)
        torch.testing.assert_close(a["scores"], b["scores"], rtol=0, atol=1e-5)
    return wanted


@pytest.mark.parametrize(
    "sizes",
    [[(97, 131)], [(333, 500)], [(240, 77)], [(150, 200), (221, 133)]],
    ids=lambda sizes: " and ".join(f"{h}x{w}" for h, w in sizes),
)
def test_detections(pair, sizes):
    for found in compare(pair, sizes):
        assert len(found["boxes"]) == 100
        assert len(found["labels"].unique()) > 5


@pytest.fixture
def paths(monkeypatch):
    """Which of its two ways torchvision's `batched_nms` went, call by call."""
    taken = []
    for name in ("_batched_nms_vanilla", "_batched_nms_coordinate_trick"):
        function = getattr(torchvision.ops.boxes, name)
        spy = lambda *args, name=name, function=function: (taken.append(name), function(*args))[1]  # noqa: E731
        monkeypatch.setattr(torchvision.ops.boxes, name, spy)
    return taken


@pytest.mark.parametrize(
    "topk, score, path", [(1000, 0.01, "_batched_nms_vanilla"), (100, 0.2, "_batched_nms_coordinate_trick")]
)
def test_both_ways_of_suppressing(pair, paths, monkeypatch, topk, score, path):
    """Many boxes go class by class; few are shifted apart, and NMS runs once."""
    theirs, ours = pair
    monkeypatch.setattr(theirs.rpn, "_pre_nms_top_n", {"training": topk, "testing": topk})
    monkeypatch.setattr(theirs.roi_heads, "score_thresh", score)
    monkeypatch.setattr(ours.rpn, "proposal_spec", replace(ours.rpn.proposal_spec, before_nms=(topk, topk)))
    monkeypatch.setattr(ours, "detect_spec", replace(ours.detect_spec, score=score))
    (found,) = compare(pair, [(150, 200)])
    assert len(found["boxes"]) > 20
    assert paths == [path] * 4  # proposals and detections, theirs and ours


def test_nothing_found(pair, monkeypatch):
    theirs, ours = pair
    monkeypatch.setattr(theirs.roi_heads, "score_thresh", 0.9999)
    monkeypatch.setattr(ours, "detect_spec", replace(ours.detect_spec, score=0.9999))
    (found,) = compare(pair, [(150, 200)])
    assert found["boxes"].shape == (0, 4)


def first(module: nn.Module, kind: type[nn.Module]) -> nn.Module:
    return next(m for m in module.modules() if isinstance(m, kind))


@pytest.fixture
def sampling_everything(pair, monkeypatch):
    sample_everything(*pair, monkeypatch)


@pytest.mark.usefixtures("sampling_everything")
def test_losses_and_gradients(pair):
    theirs, ours = pair
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in pair]
    images = random_images((150, 200), (221, 133), seed=6)
    targets = [target([[10, 20, 90, 100], [5, 5, 60, 40], [5, 5, 62, 44]], [3, 89, 0]), target([], [])]
    with_background = [t | {"labels": t["labels"] + 1} for t in targets]
    wanted = theirs.train()([image.clone() for image in images], with_background)
    found = ours.train()(images, targets)
    names = {
        "rpn_objectness": "loss_objectness",
        "rpn_bbox_regression": "loss_rpn_box_reg",
        "classification": "loss_classifier",
        "bbox_regression": "loss_box_reg",
    }
    assert set(found) == set(names)
    assert set(wanted) == set(names.values())
    for our_name, name in names.items():
        assert found[our_name].item() == pytest.approx(wanted[name].item(), rel=1e-5), name
        assert wanted[name].item() > 0
    sum(wanted.values()).backward()
    sum(found.values()).backward()
    for their_part, our_part in (
        (theirs.rpn.head.cls_logits, ours.rpn.head.objectness),
        (theirs.rpn.head.bbox_pred, ours.rpn.head.deltas),
        (first(theirs.roi_heads.box_head, nn.Linear), ours.box_head.fcs[0]),
        (first(theirs.backbone.fpn, nn.Conv2d), first(ours.fpn, nn.Conv2d)),
        (theirs.backbone.body.layer3[0].conv2, ours.backbone.layer3[0].conv2),
    ):
        a, b = our_part.weight.grad, their_part.weight.grad
        assert (a - b).abs().max() <= 1e-4 * b.abs().max()
        assert b.abs().max() > 0
    for model, state in zip(pair, before):  # batch norms have moved their statistics
        model.load_state_dict(state)
        model.zero_grad(set_to_none=True)
