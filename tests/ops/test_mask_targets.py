"""What a mask head should answer, as both peers have it, and how far its answer is off."""

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import maskrcnn_loss, project_masks_on_boxes
from torchvision.ops import RoIAlign

from course_lib.ops.masks import crop_masks, mask_loss, of_class, paste_masks


def disc(height, width, x, y, radius):
    rows, columns = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


MASKS = torch.stack((disc(40, 60, 20, 18, 12), disc(40, 60, 50, 30, 9.5)))
BOXES = torch.tensor([[8.0, 6, 32, 30], [40.5, 20.5, 59.5, 39.5], [3.3, 2.2, 45.1, 31.9], [49, 1, 58, 9]])
INDEX = torch.tensor([0, 1, 0, 1])


def test_by_hand():
    """A box of 4×4 onto 2×2 cells, each the mean of its 2×2 pixels: 4, 3, 2 and 1 of them are set."""
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 1], [0, 1, 0, 0], [1, 0, 1, 0]], dtype=torch.bool)[None]
    box, first = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([0])
    assert crop_masks(mask, box, first, 2, threshold=None).tolist() == [[[1, 0.75], [0.5, 0.25]]]
    assert crop_masks(mask, box, first, 2).tolist() == [[[1, 1], [1, 0]]]  # half a cell is enough


def test_each_box_takes_its_own_mask():
    masks = torch.zeros(2, 6, 6, dtype=torch.bool)
    masks[1] = True
    boxes = torch.tensor([[1.0, 1, 5, 5]]).expand(3, -1)
    assert crop_masks(masks, boxes, torch.tensor([1, 0, 1]), 4).mean((1, 2)).tolist() == [1, 0, 1]


def test_as_torchvision():
    found = crop_masks(MASKS, BOXES, INDEX, aligned=False, threshold=None)
    assert torch.equal(found, project_masks_on_boxes(MASKS, BOXES, INDEX, 28))


def test_as_detectron2():
    """`BitMasks.crop_and_resize`: RoIAlign of each box's own mask, aligned, adaptive sampling, then ≥ 0.5."""
    rois = torch.cat((torch.arange(4)[:, None].float(), BOXES), 1)
    expected = RoIAlign((28, 28), 1.0, 0, aligned=True)(MASKS[INDEX][:, None].float(), rois)[:, 0] >= 0.5
    assert torch.equal(crop_masks(MASKS, BOXES, INDEX), expected.float())


def test_there_and_back():
    """Cropped by its box and pasted again, a disc loses at most the pixels of its rim."""
    found = paste_masks(crop_masks(MASKS, BOXES[:2], INDEX[:2]), BOXES[:2], (40, 60))
    iou = (found & MASKS).sum((1, 2)) / (found | MASKS).sum((1, 2))
    assert (iou > 0.97).all()


def test_a_box_without_its_object():
    assert crop_masks(MASKS, BOXES[3:], INDEX[3:]).sum() == 0


def test_nothing_to_crop():
    assert crop_masks(MASKS, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).shape == (0, 28, 28)
    nobody = torch.zeros(0, 8, 9, dtype=torch.bool)
    assert crop_masks(nobody, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 14).shape == (0, 14, 14)


def test_one_pixel():
    mask = torch.ones(1, 1, 1, dtype=torch.bool)
    assert crop_masks(mask, torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0]), 3).tolist() == [[[1.0] * 3] * 3]


def test_of_class():
    logits = torch.arange(2 * 3 * 2 * 2.0).reshape(2, 3, 2, 2)
    assert torch.equal(of_class(logits, torch.tensor([2, 0])), torch.stack((logits[0, 2], logits[1, 0])))


def test_loss_by_hand():
    """Only the mask of the true class counts, the others may say what they like."""
    logits = torch.full((1, 2, 2, 2), 50.0)
    logits[0, 1] = torch.tensor([[0.0, 0], [math.log(3), 0]])  # σ = 0.5, 0.5, 0.75, 0.5
    target = torch.tensor([[[1.0, 0], [1, 0]]])
    expected = -(3 * math.log(0.5) + math.log(0.75)) / 4
    assert mask_loss(logits, torch.tensor([1]), target).item() == pytest.approx(expected, rel=1e-6)


def test_loss_as_torchvision_and_its_gradient():
    torch.manual_seed(0)
    masks = torch.rand(3, 20, 30) > 0.4
    boxes = torch.tensor([[1.0, 2, 15, 18], [10, 3, 29, 11], [0, 0, 30, 20], [5, 5, 9, 9]])
    index, classes = torch.tensor([0, 1, 2, 1]), torch.tensor([3, 0, 2])
    logits = torch.randn(4, 4, 28, 28, requires_grad=True)
    theirs = maskrcnn_loss(logits, [boxes], [masks], [classes], [index])
    (expected,) = torch.autograd.grad(theirs, logits)
    loss = mask_loss(logits, classes[index], crop_masks(masks, boxes, index, aligned=False, threshold=None))
    (found,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(loss, theirs, rtol=1e-6, atol=0)
    torch.testing.assert_close(found, expected)


def test_loss_in_bf16_is_counted_in_float32():
    logits = torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16)
    loss = mask_loss(logits, torch.tensor([0]), torch.ones(1, 2, 2))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(F.softplus(torch.tensor(0.0)).item())
