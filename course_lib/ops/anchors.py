"""Anchors: the boxes that a dense detector starts from (Ren et al. 2015, §3.1.1; Lin et al. 2017, §4; SSD, §2.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor


def cell_anchors(
    sizes: Sequence[float], ratios: Sequence[float], *, order: str = "size", rounding: bool = False
) -> Tensor:
    """Anchors of one grid cell, centred on (0, 0): (A, 4) float32 pixels, A = len(sizes) · len(ratios).

    sizes: square roots of the anchors' areas, px. ratios: height / width. So w = size / √r, h = size · √r.
    order: which loop is the outer one, and with it what channel a of a head means.
        "size" (Detectron2): for each size, all ratios. "ratio" (torchvision): for each ratio, all sizes.
    rounding: torchvision's habit of truncating sizes to whole pixels and rounding the corners; it moves
        an edge by up to a pixel, which weights trained that way expect.
    Raises ValueError for an unknown order or a size or ratio that is not positive.
    """
    if order not in ("size", "ratio"):
        raise ValueError(f"order: found {order!r}, expected 'size' or 'ratio'")
    if not all(value > 0 for value in (*sizes, *ratios)):
        raise ValueError(f"anchors: found sizes {sizes} and ratios {ratios}, expected positive numbers")
    # Rounded anchors are worked out in float32 as torchvision's are, or some x.5 would round the other way.
    dtype = torch.float32 if rounding else torch.float64
    size = torch.tensor([int(s) if rounding else s for s in sizes], dtype=dtype)
    root = torch.tensor(ratios, dtype=dtype).sqrt()
    w = (1 / root)[:, None] * size  # (ratios, sizes)
    h = root[:, None] * size
    anchors = torch.stack((-w, -h, w, h), dim=-1) / 2  # (ratios, sizes, 4)
    if order == "size":
        anchors = anchors.transpose(0, 1)
    if rounding:
        anchors = anchors.round()
    return anchors.reshape(-1, 4).float()


def default_scales(levels: int, low: float = 0.2, high: float = 0.9) -> list[float]:
    """SSD's scales of its levels, as parts of the image's side: evenly from `low` to `high` (Liu et al. 2016, Eq. 4).

    Raises ValueError for fewer than two levels, between which there is nothing to spread.
    """
    if levels < 2:
        raise ValueError(f"levels: found {levels}, expected at least 2")
    return [low + (high - low) * k / (levels - 1) for k in range(levels)]


def default_boxes(size: float, between: float, ratios: Sequence[float], *, limit: tuple[float, float]) -> Tensor:
    """SSD's default boxes of one grid cell, centred on (0, 0): (2 + len(ratios), 4) float32 pixels.

    size: side of the first square; each ratio, height / width, gives a box of that area. between: side of the second
        square, √(size · the next level's size) in the paper, so that sizes between two levels have a box as well.
    limit: (height, width) of the image; no box is larger.
    Raises ValueError for a size or ratio that is not positive. Liu et al. 2016, §2.2.
    """
    boxes = torch.cat((cell_anchors((size, between), (1.0,)), cell_anchors((size,), ratios)))
    x, y = boxes[:, 0::2], boxes[:, 1::2]  # (A, 2) each
    half_height, half_width = limit[0] / 2, limit[1] / 2
    return torch.stack((x.clamp(-half_width, half_width), y.clamp(-half_height, half_height)), -1).flatten(1)


def grid_anchors(cell: Tensor, grid: tuple[int, int], stride: tuple[float, float]) -> Tensor:
    """Copy the cell's anchors (A, 4) to every point of a grid: → (H·W·A, 4).

    grid: (H, W) of the feature map. stride: (down, right) distance of two grid points, px.
    The order is the one of a head's output (B, H, W, A): row by row, a cell's anchors together.
    The first centre is (0, 0), the corner of the image, in Detectron2 as in torchvision.
    """
    height, width = grid
    y = torch.arange(height, dtype=cell.dtype, device=cell.device) * stride[0]
    x = torch.arange(width, dtype=cell.dtype, device=cell.device) * stride[1]
    y, x = torch.meshgrid(y, x, indexing="ij")  # (H, W) each
    centres = torch.stack((x, y, x, y), dim=-1).reshape(-1, 1, 4)  # (H*W, 1, 4)
    return (centres + cell).reshape(-1, 4)


def grid_strides(
    image_size: tuple[int, int],
    grid_sizes: Sequence[tuple[int, int]],
    *,
    mode: str,
    strides: Sequence[int] | None = None,
) -> list[tuple[int, int]]:
    """Stride (down, right) in px of each pyramid level.

    image_size: (height, width) of the padded input. grid_sizes: (H, W) of each level's feature map.
    mode: "fixed" (Detectron2) takes `strides`, one a level. "grid" (torchvision) divides the image by the
        grid, rounding down: where convolutions rounded the grid up, its anchors sit a little closer
        (at 800×1088, level P7: 114 and 120 px instead of 128).
    Raises ValueError for an unknown mode, or "fixed" without one stride a level.
    """
    if mode == "grid":
        return [(image_size[0] // h, image_size[1] // w) for h, w in grid_sizes]
    if mode != "fixed":
        raise ValueError(f"mode: found {mode!r}, expected 'fixed' or 'grid'")
    if strides is None or len(strides) != len(grid_sizes):
        raise ValueError(f"strides: found {strides}, expected one for each of {len(grid_sizes)} levels")
    return [(stride, stride) for stride in strides]
