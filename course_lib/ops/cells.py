"""A YOLO box: an offset within a grid cell and a factor on a prior (Redmon & Farhadi, YOLOv3, 2018, Sec. 2.1).

A *prior* is an anchor's width and height. A *slot* is one prior in one cell, where one box is predicted; a row of
`cells` describes it: (left, top, stride, prior width, prior height), in pixels of the network's input.
"""

import math

import torch
from torch import Tensor

MAX_RATIO = 1000 / 16  # a side grows by no more than this, so that an untrained head's exp() stays finite


def grid_cells(priors: Tensor, grid: tuple[int, int], stride: int) -> Tensor:
    """The slots of one map: priors (A, 2), its (H, W) and its stride → (H·W·A, 5), a cell's slots together."""
    height, width = grid
    y = torch.arange(height, dtype=priors.dtype, device=priors.device) * stride
    x = torch.arange(width, dtype=priors.dtype, device=priors.device) * stride
    y, x = torch.meshgrid(y, x, indexing="ij")  # (H, W) each
    corners = torch.stack((x, y, torch.full_like(x, stride)), -1)  # (H, W, 3)
    corners = corners[:, :, None].expand(-1, -1, len(priors), -1)  # (H, W, A, 3)
    return torch.cat((corners, priors.expand(height, width, -1, -1)), -1).reshape(-1, 5)


def decode_cells(t: Tensor, cells: Tensor) -> Tensor:
    """Boxes that a head's numbers (tx, ty, tw, th) mean in their slots: (..., 4), (..., 5) → (..., 4) xyxy.

    x = left + stride · σ(tx) and w = prior · exp(tw), so also for y and h: a centre cannot leave its cell.
    """
    stride = cells[..., 2:3]
    centre = cells[..., :2] + stride * t[..., :2].sigmoid()
    half = 0.5 * cells[..., 3:] * t[..., 2:].clamp(max=math.log(MAX_RATIO)).exp()
    return torch.cat((centre - half, centre + half), -1)


def encode_cells(boxes: Tensor, cells: Tensor) -> Tensor:
    """What a head should say for boxes (..., 4) whose centres lie in their slots' cells (..., 5): → (..., 4).

    The first two are σ(tx) and σ(ty), the place in the cell in 0…1, since tx itself is infinite on a cell's border; the
    last two are tw and th. Both sides of a box must be positive.
    """
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    size = boxes[..., 2:] - boxes[..., :2]
    return torch.cat(((centre - cells[..., :2]) / cells[..., 2:3], torch.log(size / cells[..., 3:])), -1)
