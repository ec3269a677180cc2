"""Pasting a mask head's small grid into an image, against a loop over pixels, grid sampling and torchvision."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import paste_masks_in_image

from course_lib.ops.masks import paste_masks

SAMPLINGS = ("grid", "integer")


def scene(n, size, seed, side=28):
    """Random masks (n, side, side) and boxes (n, 4), some of which stick out of the image."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    centre = torch.rand(n, 2, generator=generator) * torch.tensor([width, height])
    half = torch.rand(n, 2, generator=generator) * torch.tensor([width, height]) * 0.4 + 0.2
    return torch.rand(n, side, side, generator=generator), torch.cat((centre - half, centre + half), 1)


def by_pixels(masks, boxes, size):
    """Sampling "grid" as its definition says, in float64: every pixel's centre, four cells around it."""
    pasted = torch.zeros(len(masks), *size, dtype=torch.float64)
    side = masks.shape[-1]
    for mask, (x1, y1, x2, y2), image in zip(masks.double(), boxes.double().tolist(), pasted):
        for y in range(size[0]):
            for x in range(size[1]):
                u, v = (x + 0.5 - x1) / (x2 - x1) * side - 0.5, (y + 0.5 - y1) / (y2 - y1) * side - 0.5
                for j in (math.floor(v), math.floor(v) + 1):
                    for i in (math.floor(u), math.floor(u) + 1):
                        if 0 <= i < side and 0 <= j < side:
                            image[y, x] += (1 - abs(u - i)) * (1 - abs(v - j)) * mask[j, i]
    return pasted


def by_grid_sample(masks, boxes, size):
    """As Detectron2 pastes: `grid_sample` over the whole image."""
    x1, y1, x2, y2 = boxes.split(1, 1)
    y = (torch.arange(size[0]) + 0.5 - y1) / (y2 - y1) * 2 - 1  # (N, H)
    x = (torch.arange(size[1]) + 0.5 - x1) / (x2 - x1) * 2 - 1  # (N, W)
    grid = torch.stack(torch.broadcast_tensors(x[:, None], y[:, :, None]), 3)  # (N, H, W, 2)
    return F.grid_sample(masks[:, None], grid, align_corners=False)[:, 0]


def test_by_hand():
    """Two by two cells over a box of 4×4: the middles of the cells lie at 1 and 3, the pixels' at 0.5, 1.5, 2.5, 3.5.

    Along an axis the cell at 1 therefore weighs 0.75, 0.75, 0.25, 0 (it falls by 1 over the 2 px to the next middle).
    """
    mask = torch.tensor([[[1.0, 0], [0, 0]]])
    box = torch.tensor([[1.0, 2, 5, 6]])
    weights = torch.tensor([0.75, 0.75, 0.25, 0])
    expected = torch.zeros(1, 8, 7)
    expected[0, 2:6, 1:5] = weights[:, None] * weights
    expected[0, 1, 1:5], expected[0, 2:6, 0], expected[0, 1, 0] = 0.25 * weights, 0.25 * weights, 0.25 * 0.25
    assert torch.equal(paste_masks(mask, box, (8, 7), threshold=None), expected)  # it fades out over half a cell
    assert paste_masks(mask, box, (8, 7)).nonzero().tolist() == [[0, 2, 1], [0, 2, 2], [0, 3, 1], [0, 3, 2]]  # 0.5625


def test_a_full_mask_is_its_box():
    boxes = torch.tensor([[2.0, 1, 6, 4], [0, 0, 9, 7], [3.4, 2.6, 5.4, 4.6]])
    found = paste_masks(torch.ones(3, 28, 28), boxes, (7, 9))
    expected = torch.zeros(3, 7, 9, dtype=torch.bool)
    expected[0, 1:4, 2:6] = expected[1] = True
    expected[2, 3:5, 3:5] = True  # the pixels whose centres are inside: 3.5, 4.5
    assert torch.equal(found, expected)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 6), st.integers(1, 23), st.integers(1, 31))
def test_every_pixel_by_definition(seed, side, height, width):
    masks, boxes = scene(3, (height, width), seed, side)
    expected = by_pixels(masks, boxes, (height, width))
    found = paste_masks(masks.double(), boxes.double(), (height, width), threshold=None)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    soft = paste_masks(masks, boxes, (height, width), threshold=None)
    torch.testing.assert_close(soft, expected.float(), rtol=0, atol=2e-4)  # a box may be small against a float's step
    clear = (expected - 0.5).abs() > 2e-4
    assert torch.equal(paste_masks(masks, boxes, (height, width))[clear], (expected >= 0.5)[clear])


@pytest.mark.parametrize("seed", range(3))
def test_as_detectron2(seed):
    masks, boxes = scene(20, (120, 171), seed)
    expected = by_grid_sample(masks, boxes, (120, 171))
    torch.testing.assert_close(paste_masks(masks, boxes, (120, 171), threshold=None), expected, rtol=0, atol=1e-4)
    assert (paste_masks(masks, boxes, (120, 171)) != (expected >= 0.5)).float().mean() < 1e-5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [(120, 171), (1, 1), (3, 200)])
def test_as_torchvision(seed, size):
    masks, boxes = scene(20, size, seed)
    expected = paste_masks_in_image(masks[:, None], boxes, size)[:, 0]
    found = paste_masks(masks, boxes, size, sampling="integer", threshold=None)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (paste_masks(masks, boxes, size, sampling="integer") != (expected >= 0.5)).float().mean() < 1e-5


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("threshold", [None, 0.5])
def test_nothing_to_paste(sampling, threshold):
    found = paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6), sampling=sampling, threshold=threshold)
    assert found.shape == (0, 5, 6)
    assert found.dtype == (torch.float32 if threshold is None else torch.bool)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_outside_the_image_and_without_area(sampling):
    boxes = torch.tensor([[-50.0, -50, -20, -20], [90, 2, 99, 8], [3, 3, 3, 3]])
    found = paste_masks(torch.ones(3, 28, 28), boxes, (10, 12), sampling=sampling)
    assert found[:2].sum() == 0
    assert found[2].sum() == (1 if sampling == "integer" else 0)  # whole pixels, the last one inclusive, are at least 1


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_everything_overlapping(sampling):
    masks, _ = scene(1, (9, 9), 0)
    boxes = torch.tensor([[1.2, 0.7, 8.1, 8.9]])
    found = paste_masks(masks.expand(4, -1, -1), boxes.expand(4, -1), (9, 9), sampling=sampling)
    assert torch.equal(found, found[:1].expand(4, -1, -1))
    assert found.any()


def test_bytes_and_no_graph():
    masks, boxes = scene(2, (9, 9), 0)
    found = paste_masks(masks.requires_grad_(), boxes, (9, 9), threshold=None)
    assert not found.requires_grad  # pasting is no part of training
    assert paste_masks(masks, boxes, (9, 9)).element_size() == 1


def test_unknown_sampling():
    with pytest.raises(ValueError, match="sampling must be 'grid' or 'integer', not 'nearest'"):
        paste_masks(torch.zeros(0, 2, 2), torch.zeros(0, 4), (3, 3), sampling="nearest")
