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
    matched, kept = judge(iou.amax(dim=-2), low=low, high=high)
    if low_quality:
        *batch, _, anchor = best_below(iou, high)
        kept[(*batch, anchor)] = True
    index = kept.nonzero(as_tuple=True)  # few: only for them, which object
    matched[index] = iou.mT[index].argmax(dim=-1)
    return matched


def match_ssd(iou: Tensor, *, threshold: float = 0.5) -> Tensor:
    """Give each default box the index of its object, or BELOW_LOW, as SSD does: (G, A) → (A,) int64.

    First each object takes the box that it overlaps most, however little, so that none goes unlearnt. Every other box
    takes the object that it overlaps most, if the IoU reaches the threshold. Unlike `match` with low_quality, a box
    taken in the first step learns the object that took it. Where several objects want the same box the last gets it.
    Liu et al. 2016, §2.2, in torchvision's reading: the paper's "bipartite" would find the others another box.
    """
    matched = match(iou, low=threshold, high=threshold, low_quality=False)
    if iou.numel() == 0:
        return matched
    objects = torch.arange(len(iou), device=iou.device)
    taken_by = torch.full_like(matched, -1).scatter_reduce_(0, iou.argmax(dim=1), objects, "amax")
    return torch.where(taken_by >= 0, taken_by, matched)


def best_below(iou: Tensor, high: float) -> tuple[Tensor, ...]:
    """The low-quality matches: where an object has its best IoU, or several equal bests, if that is below `high`.

    An object whose best reaches `high` needs none, its best anchors are matched anyway; so only the few others are
    looked at. (..., G, A) → the indices of these places, one (P,) for each dimension. An object with negative IoUs is
    padding and has none.
    """
    best = iou.amax(dim=-1)  # (..., G): over the anchors
    poor = ((best < high) & (best >= 0)).nonzero(as_tuple=True)
    which, anchor = (iou[poor] == best[poor].unsqueeze(-1)).nonzero(as_tuple=True)
    return *(index[which] for index in poor), anchor


def judge(best: Tensor, *, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Which anchors have no object, BELOW_LOW or BETWEEN (..., A) int64, and a mask (..., A) of those that have one.

    What stands at the anchors of the mask is for the caller to write: their object, or its label.
    best: each anchor's largest IoU (..., A).
    """
    matched = torch.full(best.shape, BELOW_LOW, device=best.device)
    return matched.masked_fill_(best >= low, BETWEEN), best >= high
