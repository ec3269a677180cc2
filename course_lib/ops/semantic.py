"""Semantic segmentation: a class for each pixel, from logits on a coarser grid, and how good it is."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = 255  # a pixel that nothing is learnt from and nothing is judged on

Size = tuple[int, int]


def resize_logits(logits: Tensor, size: Size) -> Tensor:
    """Logits (B, C, h, w) at another size (H, W), bilinearly between the cells' centres: (B, C, H, W) float32.

    Where nothing changes nothing is copied.
    """
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits.float()
    return F.interpolate(logits.float(), size=tuple(size), mode="bilinear", align_corners=False)


def resize_labels(labels: Tensor, size: Size) -> Tensor:
    """A map of labels (H, W) at another size (h, w): the label under the centre of each new pixel."""
    rows, columns = (
        ((torch.arange(new, device=labels.device) + 0.5) * (old / new)).long() for new, old in zip(size, labels.shape)
    )
    return labels[rows[:, None], columns]


def crop_labels(labels: Tensor, boxes: Tensor, side: int) -> Tensor:
    """The labels under the centres of a grid laid over each box: (H, W), (N, 4) xyxy pixels → (N, side, side).

    A point beyond the border gets the label of the nearest pixel.
    """
    places = (torch.arange(side, device=boxes.device) + 0.5) / side
    x, y = (
        (low[:, None] + (high - low)[:, None] * places).long().clamp(0, limit - 1)  # (N, side)
        for low, high, limit in zip(boxes[:, :2].T, boxes[:, 2:].T, labels.shape[::-1])
    )
    return labels[y[:, :, None], x[:, None, :]]


def semantic_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy over the pixels that are not `IGNORE`, at the targets' resolution; 0 where there are none.

    logits: (B, C, h, w), resized bilinearly. targets: (B, H, W) int64.
    (Kirillov et al., Panoptic Feature Pyramid Networks, 2019, Sec. 3.)
    """
    full = resize_logits(logits, targets.shape[-2:])  # (B, C, H, W)
    total = F.cross_entropy(full, targets, ignore_index=IGNORE, reduction="sum")
    return total / (targets != IGNORE).sum().clamp(min=1)  # by no pixels it would be NaN


def confusion(truth: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """Pixels of each pair of true and found class: two maps (H, W) → (classes, classes) int64, rows are the truth.

    Pixels whose truth is `IGNORE` do not count. Raises ValueError for maps of different size, or a class too high.
    """
    if truth.shape != found.shape:
        raise ValueError(f"the truth is {truth.shape}, the prediction {found.shape}: expected maps of one size")
    judged = truth != IGNORE
    a, b = truth[judged].astype(np.int64), found[judged].astype(np.int64)
    if a.size and max(a.max(), b.max()) >= classes:
        raise ValueError(f"class {max(a.max(), b.max())}: there are {classes}")
    return np.bincount(a * classes + b, minlength=classes**2).reshape(classes, classes)


def class_ious(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class from a confusion matrix (C, C): (C,) float64; NaN where it never occurs."""
    hits = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - hits
    return np.divide(hits, union, out=np.full(len(matrix), np.nan), where=union > 0)
