"""Checks of lesson 07, first half: which default box learns which object, and which background SSD learns from."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.lessons.checks.base import Exercise
from course_lib.ops.matching import BELOW_LOW, match, match_ssd
from course_lib.ops.sampling import hard_negatives

# ---- 07-1 ---------------------------------------------------------------------------------------------------------

_FORCED = "each object also gets the box that it overlaps most, however little: without it object 2 is never learnt"
_TAKEN = "a box that an object takes learns that object, even where it overlaps another one more (unlike in 03-3)"


def match_default_boxes(function: Callable[[Tensor, float], Tensor]) -> None:
    """Exercise 07-1: `match_default_boxes(iou, threshold)`, IoU (G, A), gives each box its object or −1: (A,) int64.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("07-1", function, reference=_match, mistakes=_MATCH_MISTAKES)
    by_hand = torch.tensor(
        [
            [0.80, 0.60, 0.50, 0.35, 0.55, 0.00, 0.65],
            [0.75, 0.10, 0.20, 0.10, 0.00, 0.30, 0.60],
            [0.10, 0.20, 0.00, 0.30, 0.10, 0.20, 0.00],
            [0.10, 0.45, 0.20, 0.10, 0.00, 0.40, 0.10],
        ]
    )
    one_answer = "the answer has one number for each box, so the maximum goes over the objects, dimension 0"
    check.shape("four objects, seven boxes", by_hand, 0.5, hint=one_answer)
    check.dtype("four objects, seven boxes", by_hand, 0.5, hint="an object's number is an index: int64")
    # The bests are box 0 of objects 0 and 1, box 3 of object 2, box 1 of object 3. Boxes 2, 4, 6 reach the threshold.
    check.value("four objects, seven boxes", by_hand, 0.5, expected=torch.tensor([1, 3, 0, 2, 0, -1, 0]))
    lower = torch.tensor([[0.45, 0.42, 0.10], [0.10, 0.20, 0.35]])
    check.value("a threshold of 0.4", lower, 0.4, expected=torch.tensor([0, 0, 1]))
    random = torch.rand(6, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) ** 3
    check.value("6 objects, 300 boxes", random, 0.5)
    none = "without objects every box is background; a maximum over no objects is an error, so treat G = 0 first"
    check.value("no objects (G = 0)", by_hand[:0], 0.5, hint=none)
    check.done()


def _match(iou: Tensor, threshold: float) -> Tensor:
    return match_ssd(iou, threshold=threshold)


def _plain(iou: Tensor, threshold: float) -> Tensor:
    return match(iou, low=threshold, high=threshold, low_quality=False)


def _only_best(iou: Tensor, threshold: float) -> Tensor:
    return match_ssd(iou, threshold=math.inf)


def _own_object(iou: Tensor, threshold: float) -> Tensor:
    """The object's best box learns the object that *it* overlaps most."""
    matched, best = _plain(iou, threshold), iou.argmax(1)
    matched[best] = iou.argmax(0)[best]
    return matched


def _threshold_last(iou: Tensor, threshold: float) -> Tensor:
    """The second step overwrites the first."""
    plain = _plain(iou, threshold)
    return torch.where(plain >= 0, plain, _match(iou, threshold))


def _first_wins(iou: Tensor, threshold: float) -> Tensor:
    """Of the objects that want one box, the first keeps it."""
    matched = _plain(iou, threshold)
    for g in reversed(range(len(iou))):
        matched[iou[g].argmax()] = g
    return matched


def _all_over_threshold(iou: Tensor, threshold: float) -> Tensor:
    """Every box over the threshold learns the last object that it reaches, not the best."""
    matched = torch.full(iou.shape[1:], BELOW_LOW)
    for g, row in enumerate(iou):
        matched[row >= threshold] = g
    for g, row in enumerate(iou):
        matched[row.argmax()] = g
    return matched


def _next_free(iou: Tensor, threshold: float) -> Tensor:
    """An object whose best box is taken looks for the next best that is free."""
    matched, taken = _plain(iou, threshold), set()
    for g, row in enumerate(iou):
        box = next(b for b in row.argsort(descending=True).tolist() if b not in taken)
        taken.add(box)
        matched[box] = g
    return matched


def _last_over_threshold(iou: Tensor, threshold: float) -> Tensor:
    """Every box over the threshold learns the last object that it reaches; no box is taken."""
    matched = torch.full(iou.shape[1:], BELOW_LOW)
    for g, row in enumerate(iou):
        matched[row >= threshold] = g
    return matched


def _threshold_for_all(iou: Tensor, threshold: float) -> Tensor:
    """The threshold takes away also the boxes that objects took."""
    return torch.where(iou.amax(0) >= threshold, _match(iou, threshold), BELOW_LOW)


_MATCH_MISTAKES = {
    "compare with `threshold`, not with 0.5": lambda iou, threshold: match_ssd(iou, threshold=0.5),
    f"{_FORCED} (you stopped after the threshold)": _plain,
    "a box that reaches the threshold learns an object too, though it is not that object's best": _only_best,
    f"{_TAKEN}; you gave it the object that it overlaps most": _own_object,
    f"{_TAKEN}; your threshold overwrote it: the objects' own boxes come last": _threshold_last,
    "where several objects want one box, the last of them gets it: matched[best] = arange(G)": _first_wins,
    "an object takes its best box, taken or not; where several want one the last gets it, and none looks further": (
        _next_free
    ),
    "the threshold holds for the other boxes; it took away boxes that objects had taken, so write those last": (
        _threshold_for_all
    ),
    f"a box learns the object that it overlaps most, not the last that it reaches (iou.max(0)); and {_FORCED}": (
        _last_over_threshold
    ),
    "a box over the threshold learns the object that it overlaps most, an argmax over dimension 0": _all_over_threshold,
    "IoU equal to the threshold counts: >=, not >": (
        lambda iou, threshold: match_ssd(iou, threshold=math.nextafter(threshold, 1) + 1e-7)
    ),
    "background is −1; 0 is the first object": lambda iou, threshold: _match(iou, threshold).clamp(min=0),
    "−2 is RetinaNet's «between»; SSD has one threshold, and under it all is background, −1": (
        lambda iou, threshold: match(iou, low=threshold - 0.1, high=threshold, low_quality=True)
    ),
    "you counted the objects from 1; their numbers begin at 0, and −1 is background": (
        lambda iou, threshold: torch.where(_match(iou, threshold) >= 0, _match(iou, threshold) + 1, BELOW_LOW)
    ),
    "give back which object, not whether there is one": lambda iou, threshold: _match(iou, threshold) >= 0,
    "give back the object's number, not its IoU": (
        lambda iou, threshold: torch.where(_match(iou, threshold) >= 0, iou.amax(0), -1.0)
    ),
    "that is each object's box, (G,); each box's object is asked for, (A,)": lambda iou, threshold: iou.argmax(1),
}

# ---- 07-2 ---------------------------------------------------------------------------------------------------------

_PER_IMAGE = "each image keeps `ratio` times its own number of boxes on objects: sum and sort along the last dimension"
_MASK = "the answer is a mask, one bool for each box, (B, A); count the objects with keepdim=True, (B, 1)"
_ALL = "where an image has less background than is wanted, all of it is kept"
_RANK = "argsort gives the places in order of loss, not each place's rank; sort its result once more for the ranks"


def mine_negatives(function: Callable[[Tensor, Tensor, int], Tensor]) -> None:
    """Exercise 07-2: `mine_negatives(loss, positive, ratio)`, both (B, A), gives a mask (B, A) of the background kept.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("07-2", function, reference=hard_negatives, mistakes=_MINING_MISTAKES)
    loss = torch.tensor(
        [
            [9.0, 0.10, 0.80, 0.30, 0.50, 7.00, 0.20, 0.40, 0.05, 0.60, 0.15, 0.25, 0.01, 0.35],
            [0.2, 3.00, 0.45, 5.00, 0.15, 0.35, 0.65, 0.22, 0.90, 0.12, 0.02, 0.08, 0.06, 0.03],
        ]
    )
    positive = torch.zeros(2, 14, dtype=torch.bool)
    positive[0, 0] = positive[1, 3] = positive[1, 4] = True
    check.shape("two images of 14 boxes", loss, positive, 3, hint=_MASK)
    check.dtype("two images of 14 boxes", loss, positive, 3, hint="a mask is bool: the result of a comparison")
    kept = torch.zeros(2, 14, dtype=torch.bool)
    kept[0, [5, 2, 9]] = kept[1, [1, 8, 6, 2, 5, 7]] = True
    check.value("one box on an object and two, ratio 3", loss, positive, 3, expected=kept)
    kept = torch.tensor([[True, True, True, False, False, True]])
    check.value("six boxes, four of them background", loss[1:, :6], positive[1:, :6], 3, expected=kept, hint=_ALL)
    nothing = "an image without objects keeps no background: three times nothing"
    check.value("an image without objects", loss, positive & torch.tensor([[True], [False]]), 3, hint=nothing)
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(4, 200, dtype=torch.float64, generator=generator)
    objects = torch.rand(4, 200, generator=generator) < torch.tensor([0.01, 0.05, 0.1, 0.4])[:, None]
    check.value("4 images of 200 boxes", losses, objects, 3, hint=_ALL)
    check.value("no boxes (A = 0)", loss[:, :0], positive[:, :0], 3)
    check.done()


def _ranked(loss: Tensor, wanted: Tensor | int) -> Tensor:
    """The places of the `wanted` greatest losses along the last dimension."""
    return loss.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1) < wanted


def _count(positive: Tensor, ratio: int) -> Tensor:
    return ratio * positive.sum(-1, keepdim=True)


def _hidden(loss: Tensor, positive: Tensor) -> Tensor:
    return loss.masked_fill(positive, -torch.inf)


def _whole_batch(loss: Tensor, positive: Tensor, ratio: int) -> Tensor:
    return hard_negatives(loss.flatten(), positive.flatten(), ratio).reshape(loss.shape)


def _among_background(loss: Tensor, positive: Tensor, ratio: int) -> Tensor:
    """The places are those in the list of background alone."""
    mask = torch.zeros_like(positive)
    for row, (values, objects) in enumerate(zip(loss, positive)):
        background = values[~objects]
        mask[row, background.topk(min(ratio * int(objects.sum()), len(background))).indices] = True
    return mask


_MINING_MISTAKES = {
    "where little background is left your mask fills up with boxes on objects: end with & ~positive": (
        lambda loss, positive, ratio: _ranked(_hidden(loss, positive), _count(positive, ratio))
    ),
    "an image without objects keeps no background: no clamp(min=1) here": (
        lambda loss, positive, ratio: (
            _ranked(_hidden(loss, positive), ratio * positive.sum(-1, keepdim=True).clamp(min=1)) & ~positive
        )
    ),
    f"{_PER_IMAGE}; you ranked the whole batch together": _whole_batch,
    f"{_PER_IMAGE}; you counted the boxes on objects of the whole batch": (
        lambda loss, positive, ratio: _ranked(_hidden(loss, positive), ratio * positive.sum()) & ~positive
    ),
    "boxes on objects took places among the hardest; set their loss to −∞ before you rank": (
        lambda loss, positive, ratio: _ranked(loss, _count(positive, ratio)) & ~positive
    ),
    "your mask holds boxes on objects: they had the greatest losses; set those to −∞ before you rank": (
        lambda loss, positive, ratio: _ranked(loss, _count(positive, ratio))
    ),
    "those are the boxes on objects and the background; give back the background alone": (
        lambda loss, positive, ratio: hard_negatives(loss, positive, ratio) | positive
    ),
    _RANK: (
        lambda loss, positive, ratio: (
            (_hidden(loss, positive).argsort(-1, descending=True) < _count(positive, ratio)) & ~positive
        )
    ),
    "you kept the easiest background; the hardest has the greatest loss": (
        lambda loss, positive, ratio: (
            _ranked((-loss).masked_fill(positive, -torch.inf), _count(positive, ratio)) & ~positive
        )
    ),
    "you kept too little: you counted the objects in, or put them first with +∞; it is −∞ that keeps them out": (
        lambda loss, positive, ratio: _ranked(_hidden(loss, positive), _count(positive, ratio - 1)) & ~positive
    ),
    "you kept one box too many: the ranks begin at 0, so < and not <=": (
        lambda loss, positive, ratio: _ranked(_hidden(loss, positive), _count(positive, ratio) + 1) & ~positive
    ),
    "the ratio is missing: keep `ratio` times as many as there are boxes on objects": (
        lambda loss, positive, ratio: hard_negatives(loss, positive, 1)
    ),
    "you kept `ratio` boxes of an image; keep `ratio` for each of its boxes on objects": (
        lambda loss, positive, ratio: _ranked(_hidden(loss, positive), ratio) & ~positive
    ),
    "that is all background; count the boxes on objects, and rank along the last dimension": (
        lambda loss, positive, ratio: ~positive
    ),
    "the sort goes upwards: you kept the easiest, and boxes on objects took places; use descending=True": (
        lambda loss, positive, ratio: _ranked(-_hidden(loss, positive), _count(positive, ratio)) & ~positive
    ),
    "your places count the background alone, loss[~positive]; the mask counts all boxes": _among_background,
    "give back a mask, not the losses kept": (
        lambda loss, positive, ratio: torch.where(hard_negatives(loss, positive, ratio), loss, 0.0)
    ),
}
