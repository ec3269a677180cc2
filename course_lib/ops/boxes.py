"""Boxes: areas, overlaps, formats.

A box is (x1, y1, x2, y2) in absolute pixels, right and bottom edges exclusive: its width is x2 − x1.
Every function takes any number of leading (batch) dimensions.
"""

import torch
from torch import Tensor


def box_area(boxes: Tensor) -> Tensor:
    """Area in px² of each box: (..., 4) → (...)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1) * (y2 - y1)


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union (Jaccard index) of a[i] with b[i]: (..., 4), (..., 4) → (...), in 0…1."""
    return _iou(a.unbind(-1), b.unbind(-1))


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every box in `a` with every box in `b`: (..., N, 4), (..., M, 4) → (..., N, M), in 0…1.

    The leading dimensions broadcast: a batch of padded ground truths (B, G, 4) against one set of anchors
    (A, 4) gives (B, G, A). Two boxes without any area have IoU 0, not the NaN of 0/0.
    """
    return _iou(*_all_pairs(a, b))


def paired_giou(a: Tensor, b: Tensor, eps: float = 1e-7) -> Tensor:
    """Generalised IoU of a[i] with b[i]: (..., 4), (..., 4) → (...), in −1…1, differentiable.

    GIoU = IoU − |C \\ (A ∪ B)| / |C|, C the smallest box around both: boxes that do not touch still
    pull on each other. `eps` px² keeps empty boxes finite. Rezatofighi et al. 2019, Algorithm 1.
    """
    return _giou(a.unbind(-1), b.unbind(-1), eps)


def pairwise_giou(a: Tensor, b: Tensor, eps: float = 1e-7) -> Tensor:
    """Generalised IoU of every pair: (..., N, 4), (..., M, 4) → (..., N, M). See `paired_giou`."""
    return _giou(*_all_pairs(a, b), eps)


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Move every corner into an image of `size` = (height, width): (..., 4) → (..., 4).

    A box that lies wholly outside becomes empty; `remove_small` finds it.
    """
    height, width = size
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor((width, height, width, height)))


def remove_small(boxes: Tensor, min_size: float) -> Tensor:
    """Mask of the boxes to keep, those at least `min_size` px wide and high: (..., 4) → (...) bool."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1 >= min_size) & (y2 - y1 >= min_size)


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """COCO's (left, top, width, height) → corners: (..., 4) → (..., 4)."""
    x, y, w, h = boxes.unbind(-1)
    return torch.stack((x, y, x + w, y + h), dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Corners → COCO's (left, top, width, height): (..., 4) → (..., 4)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack((x1, y1, x2 - x1, y2 - y1), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Corners → (centre x, centre y, width, height): (..., 4) → (..., 4)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), dim=-1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(centre x, centre y, width, height) → corners: (..., 4) → (..., 4)."""
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), dim=-1)


Corners = tuple[Tensor, ...]  # x1, y1, x2, y2


def _overlap(a: Corners, b: Corners) -> tuple[Tensor, Tensor]:
    """Areas of the intersection and of the union, for corners that broadcast.

    In place where it can be: between all anchors and all objects these are large, and memory is what takes time.
    """
    ax1, ay1, ax2, ay2 = a
    bx1, by1, bx2, by2 = b
    width = torch.minimum(ax2, bx2).sub_(torch.maximum(ax1, bx1)).clamp_(min=0)
    height = torch.minimum(ay2, by2).sub_(torch.maximum(ay1, by1)).clamp_(min=0)
    inter = width.mul_(height)
    area = ((ax2 - ax1) * (ay2 - ay1)).clamp(
        min=torch.finfo(ax1.dtype).tiny
    )  # so no union is 0, not even of two points
    union = torch.add(area, (bx2 - bx1) * (by2 - by1)).sub_(inter)
    return inter, union


def _iou(a: Corners, b: Corners) -> Tensor:
    inter, union = _overlap(a, b)
    return inter.div_(union)


def _giou(a: Corners, b: Corners, eps: float) -> Tensor:
    inter, union = _overlap(a, b)
    ax1, ay1, ax2, ay2 = a
    bx1, by1, bx2, by2 = b
    hull_width = torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)
    hull_height = torch.maximum(ay2, by2) - torch.minimum(ay1, by1)
    hull = hull_width * hull_height
    return inter / (union + eps) - (hull - union) / (hull + eps)


def _all_pairs(a: Tensor, b: Tensor) -> tuple[Corners, Corners]:
    """Corners shaped (..., N, 1) and (..., 1, M).

    Coordinates are made contiguous first: the inner loop over M then runs in SIMD, several times faster
    than over a stride of four.
    """
    a = a.mT.contiguous().unsqueeze(-1)  # (..., 4, N, 1)
    b = b.mT.contiguous().unsqueeze(-2)  # (..., 4, 1, M)
    return a.unbind(-3), b.unbind(-3)
