"""Masks: run-length encoding by pycocotools, and the boxes around masks."""

from collections.abc import Sequence

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor


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


def _extent(used: Tensor) -> tuple[Tensor, Tensor]:
    """First used place and one past the last: (N, L) bool → (N,), (N,) int64; both 0 if none is used."""
    used = used.long()
    first = used.argmax(dim=1)  # of equals, the first
    end = used.shape[1] - used.flip(1).argmax(dim=1)
    some = used.amax(dim=1)  # 0 or 1
    return first * some, end * some
