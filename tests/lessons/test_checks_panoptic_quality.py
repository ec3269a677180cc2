"""Lesson 12's checks of PQ pass right solutions, however they are written, and name each mistake."""

import math

import numpy as np
import torch
from torch import Tensor

from course_lib.lessons import checks
from course_lib.panoptic import quality
from tests.lessons.exercises import exercise_tests

# ---- 12-1 ---------------------------------------------------------------------------------------------------------


def loop(truth, found, void, *, union=None, share=None, match=lambda iou: iou > 0.5, spare=True):
    iou = torch.zeros(len(truth), len(found))
    for i, a in enumerate(truth):
        for j, b in enumerate(found):
            b = b & ~void if spare else b
            shared = (a & b).sum()
            value = shared / (a | b).sum() if share is None else share(shared, a, b, void)
            if match(value):
                iou[i, j] = value
    return iou


def by_products(truth: Tensor, found: Tensor, void: Tensor) -> Tensor:
    a, b = truth.flatten(1).double(), (found & ~void).flatten(1).double()
    shared = a @ b.T
    iou = shared / (a.sum(1)[:, None] + b.sum(1) - shared)
    return torch.where(iou > 0.5, iou, 0)


def by_library(truth: Tensor, found: Tensor, void: Tensor) -> Tensor:
    """Everything that is neither a true segment nor void is a segment of another class."""
    rest = ~(truth.any(0) | void)
    maps, segments = [], []
    for masks, other in ((truth, rest), (found, torch.zeros_like(void))):
        ids = np.zeros(void.shape, dtype=np.int64)
        for number, mask in enumerate([*masks, other], start=1):
            ids[mask.numpy()] = number
        listed = [{"id": n, "category_id": 1, "area": int((ids == n).sum())} for n in np.unique(ids).tolist() if n]
        maps.append(ids)
        segments.append([s | {"category_id": 2} if s["id"] > len(masks) else s for s in listed])
    iou = torch.zeros(len(truth), len(found), dtype=torch.float64)
    for t, f, value in quality.match_segments(maps[0], segments[0], maps[1], segments[1]).matched:
        iou[t - 1, f - 1] = value
    return iou


def looped(**changes):
    return lambda *arguments: loop(*arguments, **changes)


def best_of_a_row(truth: Tensor, found: Tensor, void: Tensor) -> Tensor:
    iou = loop(truth, found, void, match=lambda iou: True)
    return iou * (iou == iou.amax(1, keepdim=True))


RIGHT_MATCH = {"loop": loop, "products": by_products, "library": by_library}
WRONG_MATCH = {
    "void counts": (looped(spare=False), "leave the union"),
    "all void": (
        looped(share=lambda s, a, b, void: s / ((a | b).sum() - void.sum()), spare=False),
        "not all of it",
    ),
    "at least ½": (looped(match=lambda iou: iou >= 0.5), "above ½"),
    "void late": (lambda t, f, v: loop(t, f, v) * (loop(t, f, v, spare=False) > 0), "has to be above ½"),
    "void alone": (lambda t, f, v: loop(t, f & v, v, spare=False), "taken out by & ~void"),
    "the best": (best_of_a_row, "nor is the best of a row"),
    "no threshold": (looped(match=lambda iou: True), "put 0 there"),
    "yes or no": (lambda *a: loop(*a) > 0, "not whether they do"),
    "turned round": (lambda *a: loop(*a).T, "turned round"),
    "sum of areas": (looped(share=lambda s, a, b, void: s / (a.sum() + b.sum())), "counts the shared pixels once"),
    "Dice": (looped(share=lambda s, a, b, void: 2 * s / (a.sum() + b.sum())), "(Dice)"),
    "of the truth": (looped(share=lambda s, a, b, void: s / a.sum()), "by the true segment alone"),
    "of the prediction": (
        looped(share=lambda s, a, b, void: s / b.sum(), spare=False),
        "by the prediction alone",
    ),
    "a list": (lambda truth, found, void: loop(truth, found, void).amax(1), "a row for each true segment"),
}

# ---- 12-2 ---------------------------------------------------------------------------------------------------------


def rate(iou, excused, missed, *, half=0.5, forgiven=lambda share: share > 0.5, missing=(), over=None):
    fp = sum(not forgiven(share) for share in excused.tolist())
    fn, fp = (0 if "fn" in missing else missed), (0 if "fp" in missing else fp)
    total = len(iou) + half * fp + half * fn
    if total == 0:
        return (math.nan,) * 3
    sq = iou.sum().item() / (max(len(iou), 1) if over is None else over(len(iou), fp, fn))
    return sq * len(iou) / total, sq, len(iou) / total


def by_library_tally(iou: Tensor, excused: Tensor, missed: int) -> tuple[float, float, float]:
    counts = quality.PanopticQuality([{"id": 1, "isthing": 1}])
    counts.tallies[1] = quality.Tally(float(iou.sum()), len(iou), int((excused <= 0.5).sum()), missed)
    found = counts.per_class()[1]
    return found.pq, found.sq, found.rq


def as_tensors(iou: Tensor, excused: Tensor, missed: int) -> tuple:
    """Divided by torch, 0 / 0 is NaN by itself."""
    total = torch.tensor(len(iou) + 0.5 * missed) + 0.5 * (excused <= 0.5).sum()
    mean = iou.double().sum() / max(len(iou), 1)
    return mean * len(iou) / total, mean + 0 * total / total, len(iou) / total


def rated(**changes):
    return lambda *arguments: rate(*arguments, **changes)


def ordered(order):
    return lambda *arguments: tuple(rate(*arguments)[i] for i in order)


def mean_of_both(*arguments):
    _, sq, rq = rate(*arguments)
    return (sq + rq) / 2, sq, rq


def rate_by(iou, excused, missed, *, fp, fn):
    """Errors of one kind, and those whole."""
    _, sq, _ = rate(iou, excused, missed)
    rq = len(iou) / (len(iou) + fp * int((excused <= 0.5).sum()) + fn * missed)
    return sq * rq, sq, rq


def mean_of_nothing(iou, excused, missed):
    pq, sq, rq = rate(iou, excused, missed)
    return (pq, sq, rq) if len(iou) else (math.nan, math.nan, rq)


def zero_for_nothing(*arguments):
    return tuple(0.0 if math.isnan(v) else v for v in rate(*arguments))


RIGHT_QUALITY = {"loop": rate, "library": by_library_tally, "tensors": as_tensors}
WRONG_QUALITY = {
    "nothing forgiven": (rated(forgiven=lambda share: False), "is not counted as invented"),
    "a half is enough": (rated(forgiven=lambda share: share >= 0.5), "exactly a half is not enough"),
    "all forgiven": (rated(forgiven=lambda share: share <= 0.5), "you counted those that are forgiven"),
    "no FP": (rated(missing=("fp",)), "one kind of error is missing"),
    "no FN": (rated(missing=("fn",)), "one kind of error is missing"),
    "whole errors": (rated(half=1), "yours counts 1"),
    "SQ over all": (rated(over=lambda tp, fp, fn: tp + fp / 2 + fn / 2), "over the matches alone"),
    "SQ a sum": (rated(over=lambda tp, fp, fn: 1), "not the sum"),
    "a mean": (mean_of_both, "not their mean"),
    "last": (ordered((1, 2, 0)), "the order is PQ, SQ, RQ"),
    "swapped": (ordered((0, 2, 1)), "you swapped SQ and RQ"),
    "precision": (lambda iou, excused, missed: rate_by(iou, excused, missed, fp=1, fn=0), "that is precision"),
    "recall": (lambda iou, excused, missed: rate_by(iou, excused, missed, fp=0, fn=1), "that is recall"),
    "invented alone": (lambda *a: rate(*a) if len(a[0]) + a[2] else (math.nan,) * 3, "enough to make a class occur"),
    "no match": (mean_of_nothing, "without a match SQ"),
    "no class": (zero_for_nothing, "stays out of the mean"),
    "PQ alone": (lambda *a: rate(*a)[0], "three numbers"),
}

TestPanopticQuality = exercise_tests(
    {
        "12-1: 9": (checks.match_segments, RIGHT_MATCH, WRONG_MATCH),
        "12-2: 8": (checks.panoptic_quality, RIGHT_QUALITY, WRONG_QUALITY),
    }
)
