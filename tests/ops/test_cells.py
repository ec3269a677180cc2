import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.ops.cells import decode_cells, encode_cells, grid_cells


def test_grid_cells_by_hand():
    cells = grid_cells(torch.tensor([[10.0, 20.0], [30.0, 5.0]]), (2, 3), 8)
    assert cells.shape == (12, 5)
    assert cells[:4].tolist() == [[0, 0, 8, 10, 20], [0, 0, 8, 30, 5], [8, 0, 8, 10, 20], [8, 0, 8, 30, 5]]
    assert cells[6].tolist() == [0, 8, 8, 10, 20]  # the second row of cells
    assert cells[-1].tolist() == [16, 8, 8, 30, 5]


def test_decode_by_hand():
    # The cell from (16, 8) to (24, 16): the centre in its middle, the prior as it is; then a quarter and three quarters
    # of the way, twice as wide and half as high.
    cell = torch.tensor([16.0, 8, 8, 10, 20])
    assert decode_cells(torch.zeros(4), cell).tolist() == [15, 2, 25, 22]
    t = torch.tensor([-math.log(3), math.log(3), math.log(2), -math.log(2)])
    assert decode_cells(t, cell).tolist() == pytest.approx([18 - 10, 14 - 5, 18 + 10, 14 + 5], abs=1e-4)


def test_a_centre_cannot_leave_its_cell_and_no_side_explodes():
    boxes = decode_cells(torch.tensor([[1e4, -1e4, 1e4, -1e4]]), torch.tensor([16.0, 8, 8, 10, 20]))
    assert torch.isfinite(boxes).all()
    assert (boxes[0, 0] + boxes[0, 2]) / 2 == 24 and (boxes[0, 1] + boxes[0, 3]) / 2 == 8
    assert boxes[0, 2] - boxes[0, 0] == pytest.approx(625)  # 10 · 1000 / 16


@given(st.integers(0, 10_000))
def test_encode_is_the_inverse(seed):
    generator = torch.Generator().manual_seed(seed)
    cells = grid_cells(torch.tensor([[10.0, 20.0], [30.0, 5.0]], dtype=torch.float64), (3, 4), 16)
    t = torch.randn(len(cells), 4, generator=generator, dtype=torch.float64)
    again = encode_cells(decode_cells(t, cells), cells)
    torch.testing.assert_close(again, torch.cat((t[:, :2].sigmoid(), t[:, 2:]), 1))


def test_gradient():
    generator = torch.Generator().manual_seed(0)
    t = torch.randn(6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    cells = grid_cells(torch.tensor([[10.0, 20.0]], dtype=torch.float64), (2, 3), 8)
    assert torch.autograd.gradcheck(lambda x: decode_cells(x, cells), (t,))


def test_nothing():
    assert grid_cells(torch.ones(2, 2), (0, 3), 8).shape == (0, 5)
    assert decode_cells(torch.zeros(0, 4), torch.zeros(0, 5)).shape == (0, 4)
    assert encode_cells(torch.zeros(0, 4), torch.zeros(0, 5)).shape == (0, 4)
