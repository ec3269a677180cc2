"""Regions of any size brought to one size: warped pixels, RoIPool, RoIAlign, each written to be read.

The detectors run torchvision's operators (`nn/roi.py`); a test holds these to them.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def crop_and_warp(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Each box cut from the image and stretched to a square, aspect lost (Girshick et al., R-CNN, 2014, Sec. 2.1).

    Args:
        image: (C, H, W), float.
        boxes: (R, 4) in its pixels. A box is widened to whole pixels, cut at the border, and has one pixel at least.
        side: of the squares, in pixels.

    Returns:
        (R, C, side, side), interpolated bilinearly.
    """
    height, width = image.shape[-2:]
    limits = boxes.new_tensor([width, height])
    first = boxes[:, :2].floor().clamp(min=0).minimum(limits - 1)
    last = boxes[:, 2:].ceil().minimum(limits).maximum(first + 1)
    crops = image.new_zeros(len(boxes), image.shape[0], side, side)
    for i, (x1, y1, x2, y2) in enumerate(torch.cat((first, last), 1).int().tolist()):
        region = image[None, :, y1:y2, x1:x2]
        crops[i] = F.interpolate(region, (side, side), mode="bilinear", align_corners=False)[0]
    return crops


def pool_regions(features: Tensor, boxes: Tensor, scale: float, size: int) -> Tensor:
    """RoIPool: the largest value in each bin of a region that is rounded to whole cells (Girshick, 2015, Sec. 2.1).

    With ⌊v + ½⌋ for rounding, the region's cells go from that of its first to that of its last edge, both included.
    Of its w columns the bin k of S has those from ⌊kw/S⌋ to ⌈(k + 1)w/S⌉ − 1, so that bins may share a column.

    Args:
        features: (C, H, W).
        boxes: (R, 4) in the image's pixels.
        scale: cells a pixel, 1 / stride.
        size: bins down and across, S.

    Returns:
        (R, C, S, S); 0 in a bin that lies outside the map.
    """
    height, width = features.shape[-2:]
    pooled = features.new_zeros(len(boxes), features.shape[0], size, size)
    for i, (x1, y1, x2, y2) in enumerate((boxes * scale + 0.5).floor().int().tolist()):
        rows, columns = _bins(y1, y2, size, height), _bins(x1, x2, size, width)
        for r, (top, bottom) in enumerate(rows):
            for c, (left, right) in enumerate(columns):
                if top < bottom and left < right:
                    pooled[i, :, r, c] = features[:, top:bottom, left:right].amax((1, 2))
    return pooled


def _bins(first: int, last: int, size: int, end: int) -> list[tuple[int, int]]:
    """From which cell up to which each bin reaches, cut at the border of a map of `end` cells."""
    count = max(last - first + 1, 1)
    edges = [(first + k * count // size, first - (-(k + 1) * count // size)) for k in range(size)]
    return [(min(max(a, 0), end), min(max(b, 0), end)) for a, b in edges]


def bilinear(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """A map's values between its cells, from the four nearest, by their distances.

    Args:
        features: (C, H, W).
        rows, columns: (P,) where, such that the centre of cell (r, c) is at row r and column c. A point beyond the
            outermost centres is moved onto them.

    Returns:
        (C, P).
    """
    height, width = features.shape[-2:]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    top, left = rows.floor().long(), columns.floor().long()
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, across = rows - top, columns - left  # in 0 … 1
    above = features[:, top, left] * (1 - across) + features[:, top, right] * across
    below = features[:, bottom, left] * (1 - across) + features[:, bottom, right] * across
    return above * (1 - down) + below * down


def align_regions(
    features: Tensor, boxes: Tensor, scale: float, size: int, samples: int = 2, aligned: bool = True
) -> Tensor:
    """RoIAlign: the mean of points in each bin, read between the cells; nothing is rounded (He et al., 2017, Sec. 3).

    Args:
        features: (C, H, W).
        boxes: (R, 4) in the image's pixels, within the image; a bin is then never farther from the map than a cell.
        scale: cells a pixel, 1 / stride.
        size: bins down and across, S.
        samples: points a bin, down and across, evenly spaced.
        aligned: the centre of cell (r, c) is at (r + ½, c + ½) of the map, where it is; False leaves the half out.

    Returns:
        (R, C, S, S).
    """
    boxes = boxes * scale - (0.5 if aligned else 0.0)  # in the coordinates of `bilinear`
    steps = (torch.arange(size * samples, dtype=boxes.dtype, device=boxes.device) + 0.5) / (size * samples)
    columns = boxes[:, :1] + steps * (boxes[:, 2:3] - boxes[:, :1])  # (R, S*n)
    rows = boxes[:, 1:2] + steps * (boxes[:, 3:] - boxes[:, 1:2])
    grid = size * samples
    y = rows[:, :, None].expand(-1, grid, grid).flatten()  # (R*S*n*S*n,)
    x = columns[:, None, :].expand(-1, grid, grid).flatten()
    values = bilinear(features, y, x).reshape(len(features), len(boxes), size, samples, size, samples)
    return values.mean((3, 5)).transpose(0, 1)
