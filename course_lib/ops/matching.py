"""Matching: which anchor learns which object (Ren et al. 2015, §3.1.2)."""

import torch
from torch import Tensor

BELOW_LOW = BACKGROUND = -1  # overlaps no object enough: learns "nothing here"
BETWEEN = IGNORED = -2  # too close to call: takes no part in the loss


def match(iou: Tensor, *, low: float, high: float, low_quality: bool, valid: Tensor | None = None) -> Tensor:
    """Give each anchor the index of its object, or BELOW_LOW or BETWEEN: (..., G, A) → (..., A) int64.

    An anchor takes the object that it overlaps most (the first of equals): it is matched from IoU `high`
    on, background under `low`, ignored between.

    low_quality: also keep, whatever the IoU, every anchor that is the best (or one of several equal bests)
        for some object, so that no object goes unlearnt. Such an anchor learns the object that *it*
        overlaps most, which may be another one: so do Detectron2 and torchvision. And as there, an object
        that touches no anchor at all has every anchor at IoU 0 as its equal best: keep empty boxes out.
    valid: (..., G) bool; False marks padding, which never matches, so that a whole batch is one call.
    No objects (G = 0): every anchor is background. Raises ValueError if low > high.
    """
    if low > high:
        raise ValueError(f"match: found low {low} > high {high}, expected low <= high")
    if iou.numel() == 0:
        return torch.full((*iou.shape[:-2], iou.shape[-1]), BELOW_LOW, device=iou.device)
    if valid is not None:
        iou = iou.masked_fill(~valid.unsqueeze(-1), -1.0)  # under every real IoU, 0 included
    behind = shortfall(iou).amax(dim=-2) if low_quality else None
    matched, kept = judge(iou.amax(dim=-2), behind, low=low, high=high)
    index = kept.nonzero(as_tuple=True)  # few: only for them, which object
    matched[index] = iou.mT[index].argmax(dim=-1)
    return matched


def shortfall(iou: Tensor) -> Tensor:
    """By how much each anchor's IoU with an object falls short of the best that any anchor has with that object.

    (..., G, A) → the same shape: 0 for an object's best anchors, negative for all others; all of it negative for an
    object with negative IoUs, which is padding.
    """
    best_for_object = iou.amax(dim=-1, keepdim=True)  # (..., G, 1): over the anchors
    return iou - best_for_object.masked_fill(best_for_object < 0, torch.inf)


def judge(best: Tensor, behind: Tensor | None, *, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Which anchors have no object, BELOW_LOW or BETWEEN (..., A) int64, and a mask (..., A) of those that have one.

    What stands at the anchors of the mask is for the caller to write: their object, or its label.
    best: each anchor's largest IoU (..., A). behind: its largest `shortfall`, None without low-quality matches.
    """
    kept = best >= high
    if behind is not None:
        kept |= behind == 0
    matched = torch.full(best.shape, BELOW_LOW, device=best.device)
    return matched.masked_fill_(best >= low, BETWEEN), kept
