"""Regions by hand on small maps, and against torchvision's operators."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align, roi_pool

from course_lib.ops.regions import align_regions, bilinear, crop_and_warp, pool_regions

GRID = torch.arange(16.0).reshape(1, 4, 4)
MAP = torch.arange(25.0).reshape(1, 5, 5)  # cell (r, c) holds 5r + c


def features(height: int = 9, width: int = 13, seed: int = 0) -> Tensor:
    return torch.randn(3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def boxes(count: int, seed: int = 1) -> Tensor:
    """Boxes within an image of 104 × 72 pixels, whose map of stride 8 has 13 × 9 cells."""
    corners = torch.rand(count, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    corners = corners.sort(1).values * torch.tensor([104.0, 72.0])
    return corners.flatten(1)


# ---- warping ------------------------------------------------------------------------------------------------------


def test_a_box_of_the_right_size_is_copied() -> None:
    assert crop_and_warp(GRID, torch.tensor([[1.0, 1, 3, 3]]), 2).tolist() == [[[[5, 6], [9, 10]]]]


def test_a_box_is_widened_to_whole_pixels_and_cut_at_the_border() -> None:
    wide = crop_and_warp(GRID, torch.tensor([[1.2, 1.9, 2.1, 2.5], [-3, -1, 1.5, 2], [2, 3, 9, 9]]), 2)
    assert wide[0].tolist() == [[[5, 6], [9, 10]]]
    assert wide[1].tolist() == [[[0, 1], [4, 5]]]
    assert wide[2].tolist() == [[[14, 15], [14, 15]]]  # one row, stretched


def test_a_box_without_area_or_outside_is_a_pixel() -> None:
    outside = torch.tensor([[2.0, 1, 2, 1], [7, 9, 8, 12], [-9, -9, -5, -5]])
    assert crop_and_warp(GRID, outside, 2)[:, 0, 0, 0].tolist() == [6, 15, 0]


def test_a_crop_is_stretched_bilinearly() -> None:
    assert crop_and_warp(GRID, torch.tensor([[0.0, 0, 2, 1]]), 4)[0, 0, 0].tolist() == [0, 0.25, 0.75, 1]
    assert crop_and_warp(GRID, torch.zeros(0, 4), 4).shape == (0, 1, 4, 4)


# ---- RoIPool ------------------------------------------------------------------------------------------------------


def test_pooling_by_hand() -> None:
    # edges 6/8, 10/8, 27/8, 30/8 round to columns 1 … 3 and rows 1 … 4: bins of columns 1–2, 2–3 and rows 1–2, 3–4
    found = pool_regions(MAP, torch.tensor([[6.0, 10, 27, 30]]), 1 / 8, 2)
    assert found.tolist() == [[[[12, 13], [22, 23]]]]


def test_a_half_is_rounded_up_and_a_region_has_one_cell() -> None:
    assert pool_regions(MAP, torch.tensor([[4.0, 12, 4, 12]]), 1 / 8, 2).tolist() == [[[[11, 11], [11, 11]]]]


def test_a_bin_outside_the_map_is_0() -> None:
    found = pool_regions(MAP + 1, torch.tensor([[32.0, 0, 47, 8], [80, 80, 99, 99]]), 1 / 8, 2)
    assert found.tolist() == [[[[5, 0], [10, 0]]], [[[0, 0], [0, 0]]]]


@pytest.mark.parametrize("size", [1, 2, 7])
def test_pooling_as_torchvision(size: int) -> None:
    x, b = features(), torch.cat((boxes(60), boxes(20) + 40, boxes(20) - 60))
    assert torch.equal(pool_regions(x, b, 1 / 8, size), roi_pool(x[None], [b], size, 1 / 8))


def test_the_gradient_of_pooling_is_torchvisions() -> None:
    ours, theirs = (features().requires_grad_() for _ in range(2))
    weights = torch.randn(30, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (pool_regions(ours, boxes(30), 1 / 8, 4) * weights).sum().backward()
    (roi_pool(theirs[None], [boxes(30)], 4, 1 / 8) * weights).sum().backward()
    assert torch.allclose(ours.grad, theirs.grad)


# ---- between the cells --------------------------------------------------------------------------------------------


def test_bilinear_by_hand() -> None:
    rows, columns = torch.tensor([1.0, 1.25, 2.5, 4, -2, 9]), torch.tensor([2.0, 2, 0.5, 4, 1.5, 9])
    assert bilinear(MAP, rows, columns).tolist() == [[7, 8.25, 13, 24, 1.5, 24]]


def test_no_points_and_one_cell() -> None:
    nothing = torch.zeros(0)
    assert bilinear(MAP, nothing, nothing).shape == (1, 0)
    assert bilinear(MAP[:, :1, :1] + 3, torch.tensor([0.7]), torch.tensor([-0.4])).tolist() == [[3]]


def test_of_a_ramp_bilinear_gives_the_place() -> None:
    ramp = torch.stack(torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij"))
    places = torch.rand(2, 50) * torch.tensor([[5.0], [7.0]])
    assert torch.allclose(bilinear(ramp, *places), places, atol=1e-5)


# ---- RoIAlign -----------------------------------------------------------------------------------------------------


def test_aligning_by_hand() -> None:
    # the box (6, 10, 27, 30) has its centre at column 16.5/8 − ½ = 1.5625 and row 20/8 − ½ = 2: one bin of 5·2 + 1.5625
    assert align_regions(MAP, torch.tensor([[6.0, 10, 27, 30]]), 1 / 8, 1).tolist() == [[[[11.5625]]]]
    shifted = align_regions(MAP, torch.tensor([[6.0, 10, 27, 30]]), 1 / 8, 1, aligned=False)
    assert shifted.tolist() == [[[[11.5625 + 0.5 + 2.5]]]]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("size", "samples"), [(1, 1), (2, 2), (7, 3)])
def test_aligning_as_torchvision(size: int, samples: int, aligned: bool) -> None:
    x, b = features(), boxes(60)
    b = b[(b[:, 2:] - b[:, :2] > 8).all(1)]  # torchvision widens smaller ones to a cell if not aligned
    right = roi_align(x[None], [b], size, 1 / 8, samples, aligned)
    assert torch.allclose(align_regions(x, b, 1 / 8, size, samples, aligned), right, atol=1e-12)


def test_the_gradient_of_aligning_is_torchvisions() -> None:
    ours, theirs = (features().requires_grad_() for _ in range(2))
    align_regions(ours, boxes(30), 1 / 8, 4).square().sum().backward()
    roi_align(theirs[None], [boxes(30)], 4, 1 / 8, 2, True).square().sum().backward()
    assert torch.allclose(ours.grad, theirs.grad)


def test_no_regions() -> None:
    nothing = torch.zeros(0, 4)
    assert pool_regions(MAP, nothing, 1 / 8, 3).shape == (0, 1, 3, 3)
    assert align_regions(MAP, nothing, 1 / 8, 3).shape == (0, 1, 3, 3)
