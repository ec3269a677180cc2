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

    best = iou.amax(dim=-2)  # (..., A): over the objects
    kept = best >= high
    if low_quality:
        best_for_object = iou.amax(dim=-1, keepdim=True)  # (..., G, 1): over the anchors
        best_for_object = best_for_object.masked_fill(best_for_object < 0, torch.inf)  # padding: no equal
        kept |= (iou - best_for_object).amax(dim=-2) == 0
    matched = torch.where(best < low, BELOW_LOW, BETWEEN)
    index = kept.nonzero(as_tuple=True)  # few: only for them, which object
    matched[index] = iou.mT[index].argmax(dim=-1)
    return matched
