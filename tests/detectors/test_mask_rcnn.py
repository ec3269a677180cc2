"""What Mask R-CNN adds to Faster R-CNN: targets, a loss and pasted masks."""

import copy
from dataclasses import replace

import pytest
import torch

from course_lib.detectors.faster_rcnn import Samples
from course_lib.detectors.presets.mask_rcnn import (
    R50_DETECTRON2,
    R50_TORCHVISION_V1,
    R50_TORCHVISION_V2,
)
from course_lib.ops.masks import crop_masks
from tests.detectors.models import SMALL_MASK_RCNN, target


def small(num_classes=3, *, seed=0, **changes):
    torch.manual_seed(seed)
    return replace(SMALL_MASK_RCNN, **changes).build(num_classes)


def with_masks(boxes, labels, size=(64, 64)):
    """A target whose masks are the boxes' left halves."""
    found = target(boxes, labels)
    masks = torch.zeros(len(labels), *size, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, found["boxes"].int().tolist()):
        mask[y1:y2, x1 : (x1 + x2) // 2] = True
    return found | {"masks": masks}


ONE = with_masks([[8, 8, 40, 48]], [1])
EMPTY = with_masks([], [])
PICTURE = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_losses_and_their_gradient():
    model = small().train()
    losses = model([PICTURE, PICTURE], [ONE, EMPTY])
    assert set(losses) == {"rpn_objectness", "rpn_bbox_regression", "classification", "bbox_regression", "mask"}
    assert losses["mask"].item() == pytest.approx(0.6931, abs=0.03)  # every cell undecided: log 2
    losses["mask"].backward()
    assert model.mask_head.predictor.weight.grad[1].abs().sum() > 0
    assert model.mask_head.predictor.weight.grad[[0, 2]].abs().sum() == 0  # the masks of other classes learn nothing
    assert model.backbone.conv1.weight.grad.abs().sum() > 0


def test_an_image_without_objects_is_ordinary():
    model = small().train()
    losses = model([PICTURE], [EMPTY])
    assert losses["mask"].item() == 0
    sum(losses.values()).backward()


def test_the_weight_of_the_loss():
    losses = [
        small(masks=replace(SMALL_MASK_RCNN.masks, mask_weight=w)).train()([PICTURE], [ONE])["mask"].item()
        for w in (1.0, 3.0)
    ]
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-6)


def test_targets_are_cut_from_the_masks_as_they_are_given():
    """The network sees the picture at half its size; boxes are brought to the masks, not masks to the network."""
    model = small(masks=replace(SMALL_MASK_RCNN.masks, threshold=0.5))
    positives = Samples(torch.tensor([[4.0, 4, 20, 24], [0, 0, 32, 32]]), torch.tensor([1, 1]), torch.tensor([0, 0]))
    found = model.mask_targets(positives, ONE["masks"], (32, 32), (64, 64))
    assert found.shape == (2, 14, 14)  # twice the regions' 7
    boxes = torch.tensor([[8.0, 8, 40, 48], [0, 0, 64, 64]])
    assert torch.equal(found, crop_masks(ONE["masks"], boxes, torch.tensor([0, 0]), 14))
    assert torch.equal(found[0], torch.tensor([1.0] * 7 + [0.0] * 7).expand(14, 14))  # its left half


def seeing(model, size=(64, 64)):
    """The model with every detection kept and a mask that is true everywhere."""
    with torch.no_grad():
        model.mask_head.predictor.bias.fill_(9.0)
    model.detect_spec = replace(model.detect_spec, score=0.0, detections=20)
    return model.eval()


@torch.no_grad()
def test_masks_have_the_size_that_is_asked_for():
    model = seeing(small())
    images = [PICTURE, PICTURE[:, :40]]
    found = model(images)
    assert [tuple(x["masks"].shape[1:]) for x in found] == [(64, 64), (40, 64)]
    for image in found:
        assert set(image) == {"boxes", "labels", "scores", "masks"}
        assert image["masks"].dtype == torch.bool
        assert len(image["masks"]) == len(image["boxes"]) > 0
        for mask, (x1, y1, x2, y2) in zip(image["masks"], image["boxes"].round().int().tolist()):
            inside = torch.zeros_like(mask)
            inside[y1:y2, x1:x2] = True
            assert not (mask & ~inside).any()
            assert mask.sum() > 0.7 * inside.sum()
    (found,) = model([PICTURE], output_sizes=[(100, 130)])
    assert found["masks"].shape[1:] == (100, 130)
    assert found["boxes"][:, 2].max() > 64


@torch.no_grad()
def test_nothing_detected():
    model = small().eval()
    model.detect_spec = replace(model.detect_spec, score=1.0)
    (found,) = model([PICTURE])
    assert found["masks"].shape == (0, 64, 64)
    assert found["masks"].dtype == torch.bool


@torch.no_grad()
def test_one_pixel():
    (found,) = seeing(small())([torch.rand(3, 1, 1)])
    assert found["masks"].shape[1:] == (1, 1)


def test_masks_that_do_not_fit_are_named():
    model = small().train()
    with pytest.raises(ValueError, match="image 1: the target has no masks, which this detector learns from"):
        model([PICTURE, PICTURE], [ONE, target([], [])])
    with pytest.raises(ValueError, match=r"image 0: masks \(2, 64, 64\), expected \(N, H, W\) = \(1, 64, 64\)"):
        model([PICTURE], [ONE | {"masks": torch.zeros(2, 64, 64, dtype=torch.bool)}])
    with pytest.raises(ValueError, match=r"image 0: masks \(1, 64, 60\), expected"):
        model([PICTURE], [ONE | {"masks": torch.zeros(1, 64, 60, dtype=torch.bool)}])


def test_a_copy_is_another_model():
    model = small().train()
    again = copy.deepcopy(model)
    losses = [m.train()([PICTURE], [ONE]) for m in (model, again)]
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])


def test_the_engine_is_told():
    assert small().uses_masks


def test_what_the_conventions_differ_in():
    v1, v2, d2 = R50_TORCHVISION_V1, R50_TORCHVISION_V2, R50_DETECTRON2
    assert [2 * p.mask_pool.size for p in (v1, v2, d2)] == [28, 28, 28]
    assert [p.mask_pool.aligned for p in (v1, v2, d2)] == [False, False, True]
    assert [p.mask_pool.sampling_ratio for p in (v1, v2, d2)] == [2, 2, 0]
    assert [p.masks.threshold for p in (v1, v2, d2)] == [None, None, 0.5]
    assert [p.masks.sampling for p in (v1, v2, d2)] == ["integer", "integer", "grid"]
    assert [p.mask_head.norm for p in (v1, v2, d2)] == [None, "batch", None]


@pytest.mark.slow
def test_shapes_are_learnt():
    """Two triangles on noise, 60 steps: their masks are found to IoU 0.8, which their boxes alone do not give."""
    torch.manual_seed(0)
    image = torch.rand(3, 64, 64) * 0.2 + 0.4
    corner = torch.arange(64)[:, None] - torch.arange(64)  # y − x
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 4:28, 4:28] = (corner >= 0)[:24, :24]
    masks[1, 34:60, 30:58] = (corner <= 0)[:26, :28]
    for mask, colour in zip(masks, ((0.9, 0.1, 0.1), (0.1, 0.2, 0.9))):
        image[:, mask] = torch.tensor(colour)[:, None]
    truth = target([[4, 4, 28, 28], [30, 34, 58, 60]], [0, 1]) | {"masks": masks}
    model = small(2).train()
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 10)
        loss = sum(model([image] * 2, [truth] * 2).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        (found,) = model.eval()([image])
    for label, mask in enumerate(masks):
        best = int((found["labels"] == label).nonzero()[0])
        overlap = (found["masks"][best] & mask).sum() / (found["masks"][best] | mask).sum()
        assert overlap > 0.8
