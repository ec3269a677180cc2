"""The targets of a mask head, as both peers make them."""

import torch
from torchvision.models.detection.roi_heads import project_masks_on_boxes
from torchvision.ops import RoIAlign

from course_lib.ops.masks import crop_masks, paste_masks


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
