"""Masks: run-length encoding by pycocotools, the boxes around masks, and the way between an image and a small grid.

A mask head answers on a grid of 28×28 laid over a box (He et al., Mask R-CNN, 2017, Sec. 3). `crop_masks` brings true
masks onto that grid for the loss; `paste_masks` brings answers back into the image.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align


def encode_masks(masks: Tensor) -> list[dict]:
    """Compress masks (N, H, W) bool to COCO's RLE: N dicts of `size` [H, W] and `counts`, a str for JSON."""
    columns = np.asfortranarray(masks.cpu().numpy().astype(np.uint8).transpose(1, 2, 0))  # (H, W, N)
    rles = coco_mask.encode(columns) if len(masks) else []
    return [{"size": rle["size"], "counts": rle["counts"].decode("ascii")} for rle in rles]


def decode_rles(rles: Sequence[dict], size: tuple[int, int] | None = None) -> Tensor:
    """Expand RLEs to masks: N dicts → (N, H, W) bool.

    size: the (H, W) that every RLE must have; without it, the first one's. No RLEs give (0, H, W).
    Raises ValueError naming the first RLE of another size.
    """
    height, width = size or (rles[0]["size"] if rles else (0, 0))
    for i, rle in enumerate(rles):
        if tuple(rle["size"]) != (height, width):
            raise ValueError(f"RLE {i}: found size {tuple(rle['size'])}, expected {(height, width)}")
    if not rles:
        return torch.zeros((0, height, width), dtype=torch.bool)
    pixels = coco_mask.decode(list(rles))  # (H, W, N) uint8, a column after the other
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(bool, order="C"))


def masks_to_boxes(masks: Tensor) -> Tensor:
    """Tightest box around each mask: (N, H, W) bool → (N, 4) float32; all zeros for an empty mask.

    Right and bottom are exclusive, one more than the last pixel (`torchvision.ops.masks_to_boxes` gives
    that pixel itself).
    """
    if len(masks) == 0:
        return torch.zeros((0, 4), device=masks.device)
    y1, y2 = _extent(masks.any(dim=2))  # (N, H): rows with a pixel
    x1, x2 = _extent(masks.any(dim=1))  # (N, W): columns with a pixel
    return torch.stack((x1, y1, x2, y2), dim=1).float()


def crop_masks(
    masks: Tensor, boxes: Tensor, index: Tensor, side: int = 28, *, aligned: bool = True, threshold: float | None = 0.5
) -> Tensor:
    """What a mask head should answer: true masks cut out by boxes and averaged down to a grid, by RoIAlign.

    Args:
        masks: (N, H, W) bool.
        boxes: (P, 4) in the masks' pixels.
        index: (P,) int64, the mask that each box is cut out of.
        side: S, cells of the grid along each axis.
        aligned: pixel centres at half coordinates (Detectron2); False leaves out that half pixel (torchvision).
        threshold: a cell is 1 from this share of mask on (Detectron2); None keeps the shares (torchvision).

    Returns:
        (P, S, S) float32 in 0 … 1.
    """
    rois = torch.cat((index[:, None].to(boxes.dtype), boxes), dim=1)  # (P, 5)
    shares = roi_align(masks[:, None].to(boxes.dtype), rois, (side, side), aligned=aligned)[:, 0]  # (P, S, S)
    return shares if threshold is None else (shares >= threshold).to(shares.dtype)


def of_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Each box's mask for its own class: (P, K, S, S), (P,) → (P, S, S)."""
    return logits.gather(1, labels.reshape(-1, 1, 1, 1).expand(-1, 1, *logits.shape[2:])).squeeze(1)


def mask_loss(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross entropy over all cells of each box's mask for its true class (Sec. 3); 0 without boxes.

    logits: (P, K, S, S). labels: (P,) int64. targets: (P, S, S) in 0 … 1.
    """
    if len(logits) == 0:
        return logits.sum() * 0.0  # a graph, but no NaN of 0/0
    return F.binary_cross_entropy_with_logits(of_class(logits, labels).to(targets.dtype), targets)


@torch.no_grad()
def paste_masks(
    masks: Tensor, boxes: Tensor, size: tuple[int, int], *, sampling: str = "grid", threshold: float | None = 0.5
) -> Tensor:
    """Stretch small masks over their boxes in an image: (N, S, S) float, (N, 4) → (N, H, W).

    The mask's cells are points at their centres, between which is interpolated linearly along x and y, and beyond
    which is 0. Each axis of a box is then one matrix, pixels × cells, and a pasted mask two small products. Only pixels
    of the box are worked out, one mask after the other: no float image is ever made.

    Args:
        masks: (N, S, S) in 0 … 1; any numbers if the threshold is None.
        boxes: (N, 4) in the image's pixels; they may stick out of it.
        size: (height, width) of the image.
        sampling: where a pixel lies in its box. "grid": its centre, between the box's true edges (Detectron2);
            "integer": the box is first enlarged by a cell on every side and cut to whole pixels, the last one
            inclusive (torchvision).
        threshold: the result is bool, true from here on; None gives the float values, which are what torchvision gives.

    Raises:
        ValueError: for an unknown sampling.
    """
    if sampling not in ("grid", "integer"):
        raise ValueError(f"sampling must be 'grid' or 'integer', not {sampling!r}")
    side = masks.shape[-1]
    pasted = masks.new_zeros((len(masks), *size), dtype=masks.dtype if threshold is None else torch.bool)
    if sampling == "integer":
        boxes = _whole_pixels(boxes, (side + 2) / side)
    cells = torch.arange(side, device=masks.device, dtype=masks.dtype)
    for image, mask, (x1, y1, x2, y2) in zip(pasted, masks, boxes.tolist()):
        rows, down = _axis(y1, y2, size[0], cells, sampling)  # (h, S)
        columns, across = _axis(x1, x2, size[1], cells, sampling)  # (w, S)
        values = down @ mask @ across.T  # (h, w)
        image[rows, columns] = values if threshold is None else values >= threshold
    return pasted


def _whole_pixels(boxes: Tensor, factor: float) -> Tensor:
    """Boxes enlarged about their centres and rounded towards 0, right and bottom one past the last pixel."""
    centre, half = (boxes[:, :2] + boxes[:, 2:]) * 0.5, (boxes[:, 2:] - boxes[:, :2]) * 0.5 * factor
    return torch.cat((centre - half, centre + half), dim=1).trunc() + boxes.new_tensor((0, 0, 1, 1))


def _axis(low: float, high: float, length: int, cells: Tensor, sampling: str) -> tuple[slice, Tensor]:
    """The pixels of an axis that a box from `low` to `high` reaches, and their weights (pixels, S) on the cells."""
    side = len(cells)
    border = 1 if sampling == "integer" else 0  # cells of 0 that belong to the box on each side
    per_pixel = (side + 2 * border) / max(high - low, 1e-6)
    reach = 0 if border else 0.5 / per_pixel  # from the middle of the outermost cell the values fall to 0 over one cell
    first = min(length, max(0, math.floor(low - reach)))
    end = max(first, min(length, math.ceil(high + reach)))
    centres = torch.arange(first, end, device=cells.device, dtype=cells.dtype) + 0.5
    position = (centres - low) * per_pixel - (0.5 + border)  # in cells, 0 at the middle of the first
    return slice(first, end), (1 - (position[:, None] - cells).abs()).clamp_(min=0)


def _extent(used: Tensor) -> tuple[Tensor, Tensor]:
    """First used place and one past the last: (N, L) bool → (N,), (N,) int64; both 0 if none is used."""
    used = used.long()
    first = used.argmax(dim=1)  # of equals, the first
    end = used.shape[1] - used.flip(1).argmax(dim=1)
    some = used.amax(dim=1)  # 0 or 1
    return first * some, end * some
