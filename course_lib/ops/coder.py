"""Box deltas: what a box head predicts, relative to an anchor (Girshick et al. 2014, appendix C).

dx and dy are shifts in units of the anchor's size, dw and dh logarithms of size ratios: a target then
looks the same for a small object and a large one.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def encode(gt: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Deltas (dx, dy, dw, dh) that turn each anchor into its object: (..., 4), (..., 4) → (..., 4).

    weights: scale each delta to about unit variance; R-CNN heads use (10, 10, 5, 5).
    Both boxes must have positive sides: an empty object gives −inf.
    """
    wx, wy, ww, wh = weights
    ax, ay, aw, ah = _centre_size(anchors)
    gx, gy, gw, gh = _centre_size(gt)
    dx = wx * (gx - ax) / aw
    dy = wy * (gy - ay) / ah
    dw = ww * torch.log(gw / aw)
    dh = wh * torch.log(gh / ah)
    return torch.stack((dx, dy, dw, dh), dim=-1)


def decode(
    deltas: Tensor,
    anchors: Tensor,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    max_ratio: float = 1000 / 16,
) -> Tensor:
    """Boxes that the deltas make of the anchors, the inverse of `encode`: (..., 4), (..., 4) → (..., 4).

    The shapes broadcast: class-specific deltas (N, K, 4) take anchors (N, 1, 4).
    max_ratio: no side grows by more than this, so that an untrained head's exp() stays finite.
    """
    limit = math.log(max_ratio)
    ax, ay, aw, ah = _centre_size(anchors)
    dx, dy, dw, dh = (delta / weight for delta, weight in zip(deltas.unbind(-1), weights))
    x = dx * aw + ax
    y = dy * ah + ay
    w = dw.clamp(max=limit).exp() * aw
    h = dh.clamp(max=limit).exp() * ah
    return torch.stack((x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h), dim=-1)


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = boxes.unbind(-1)
    w, h = x2 - x1, y2 - y1
    return x1 + 0.5 * w, y1 + 0.5 * h, w, h
