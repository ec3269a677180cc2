"""Our Mask R-CNN with torchvision's weights against torchvision's own, on random weights."""

from dataclasses import replace

import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2

from course_lib.detectors.presets.mask_rcnn import R50_TORCHVISION_V1, R50_TORCHVISION_V2
from course_lib.weights.torchvision import mask_rcnn_from_torchvision, mask_rcnn_preset
from tests.detectors.models import target
from tests.detectors.torchvision_rcnn import LONG, NEW, SHORT, randomise, sample_everything
from tests.nn.randomise import random_images


@pytest.fixture(scope="module", params=["v1", "v2"])
def pair(request):
    """torchvision's model and ours with its weights."""
    torch.manual_seed(0)
    build, wanted = {
        "v1": (maskrcnn_resnet50_fpn, R50_TORCHVISION_V1),
        "v2": (maskrcnn_resnet50_fpn_v2, R50_TORCHVISION_V2),
    }[request.param]
    theirs = randomise(build(**NEW))
    preset = mask_rcnn_preset(theirs.state_dict())
    assert preset.name == wanted.name
    quick = replace(
        preset,
        input=replace(preset.input, size=(SHORT, LONG)),
        proposals=replace(preset.proposals, after_nms=(200, 300)),
    )
    ours = mask_rcnn_from_torchvision(theirs.state_dict(), quick)
    assert ours.num_classes == ours.mask_head.predictor.out_channels == 90
    assert not ours.training
    return theirs, ours


@pytest.mark.parametrize("sizes", [[(97, 131)], [(333, 500)], [(150, 200), (221, 133)]], ids=str)
def test_detections(pair, sizes):
    theirs, ours = (model.eval() for model in pair)
    images = random_images(*sizes, seed=5)
    with torch.no_grad():
        wanted, found = theirs([image.clone() for image in images]), ours(images)
    for a, b, size in zip(found, wanted, sizes, strict=True):
        assert torch.equal(a["labels"], b["labels"] - 1)
        torch.testing.assert_close(a["boxes"], b["boxes"], rtol=0, atol=1e-3)
        torch.testing.assert_close(a["scores"], b["scores"], rtol=0, atol=1e-5)
        masks = b["masks"][:, 0] >= 0.5  # torchvision leaves the comparison to its user
        assert a["masks"].dtype == torch.bool
        assert a["masks"].shape == masks.shape == (100, *size)
        assert 0.01 < masks.float().mean() < 0.9  # there is something to compare
        assert (a["masks"] != masks).float().mean() <= 1e-4


def test_nothing_found(pair, monkeypatch):
    theirs, ours = (model.eval() for model in pair)
    monkeypatch.setattr(theirs.roi_heads, "score_thresh", 0.9999)
    monkeypatch.setattr(ours, "detect_spec", replace(ours.detect_spec, score=0.9999))
    images = random_images((150, 200), seed=5)
    with torch.no_grad():
        wanted, found = theirs([image.clone() for image in images]), ours(images)
    assert wanted[0]["masks"].shape == (0, 1, 150, 200)
    assert found[0]["masks"].shape == (0, 150, 200)


def test_losses_and_gradients(pair, monkeypatch):
    """At the network's own size: torchvision resizes the masks of other pictures, we cut from them as they are."""
    theirs, ours = pair
    sample_everything(theirs, ours, monkeypatch)
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in pair]
    images = random_images((SHORT, 170), (190, SHORT), seed=6)
    targets = [target([[10, 20, 90, 100], [5, 5, 60, 40], [5, 5, 62, 44]], [3, 89, 0]), target([], [])]
    generator = torch.Generator().manual_seed(0)
    masks = [torch.rand(len(t["boxes"]), *x.shape[1:], generator=generator) < 0.5 for x, t in zip(images, targets)]
    targets = [t | {"masks": m} for t, m in zip(targets, masks)]
    theirs_too = [t | {"labels": t["labels"] + 1, "masks": t["masks"].byte()} for t in targets]
    wanted = theirs.train()([image.clone() for image in images], theirs_too)
    found = ours.train()(images, targets)
    assert len(found) == len(wanted) == 5
    assert found["mask"].item() == pytest.approx(wanted["loss_mask"].item(), rel=1e-5)
    assert wanted["loss_mask"].item() > 0.1
    wanted["loss_mask"].backward()
    found["mask"].backward()
    for their_part, our_part in (
        (theirs.roi_heads.mask_predictor.conv5_mask, ours.mask_head.upsample),
        (theirs.roi_heads.mask_head[1][0], ours.mask_head.convs[1]),
        (theirs.backbone.body.layer3[0].conv2, ours.backbone.layer3[0].conv2),
    ):
        a, b = our_part.weight.grad, their_part.weight.grad
        assert b.abs().max() > 0
        assert (a - b).abs().max() <= 1e-4 * b.abs().max()
    their_predictor = theirs.roi_heads.mask_predictor.mask_fcn_logits
    our_grad, their_grad = ours.mask_head.predictor.weight.grad, their_predictor.weight.grad
    assert (our_grad - their_grad[1:]).abs().max() <= 1e-4 * their_grad.abs().max()
    for model, state in zip(pair, before):  # batch norms have moved their statistics
        model.load_state_dict(state)
        model.zero_grad(set_to_none=True)
