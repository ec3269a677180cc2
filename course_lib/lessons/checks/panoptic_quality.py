"""Checks of lesson 12's first half: the matches of one class's segments, and PQ from what became of them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.lessons.checks.base import Exercise

# ---- 12-1 ---------------------------------------------------------------------------------------------------------


def match_segments(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 12-1: `match_segments(truth, found, void)`: (G, P), the IoU of the pairs that match, 0 for the others.

    truth (G, H, W) and found (P, H, W) bool, one image's segments of one class; void (H, W) bool, no pixel of which is
    in truth. Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("12-1", function, reference=_match, mistakes=_MATCH_MISTAKES)
    truth = _segments("11122200", "11122200", "00003333", "00000000")
    found = _segments("11122333", "11122030", "00004400", "00000000")
    void = _segments("00000011", "00000011", "00000000", "00000000")[0]
    what = "three cars, four predictions on 4 × 8 pixels"
    check.shape(what, truth, found, void, hint="a row for each true segment, a column for each predicted one: (G, P)")
    expected = torch.tensor([[1, 0, 0, 0], [0, 2 / 3, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)
    check.value(what, truth, found, void, expected=expected)
    road = _segments("00000000", "00000000", "11110000", "11111111")
    said = _segments("00000000", "00000101", "11110011", "11111111")
    check.value("a road of 12 pixels, 16 predicted, one on void", road, said, void, expected=torch.tensor([[4 / 5]]))
    road = _segments("00000000", "00000000", "00011110", "00000000")
    said = _segments("00000111", "00000000", "01111110", "00000000")
    check.value("4 pixels, 9 predicted, two on void", road, said, void, expected=torch.tensor([[4 / 7]]), hint=_FIRST)
    for seed in range(3):
        check.value("a random scene", *_scene(seed))
    check.value("no true segment (G = 0)", truth[:0], found, void, hint=_EMPTY)
    check.value("no prediction (P = 0)", truth, found[:0], void, hint=_EMPTY)
    check.done()


_FIRST = "void leaves the union before anything is asked: the IoU without void is the one that has to be above ½"
_EMPTY = "without segments on one side there is nothing to compare: an empty table, (0, P) or (G, 0)"


def _segments(*rows: str) -> Tensor:
    """The masks of the digits 1, 2, … of a picture, (N, H, W) bool."""
    ids = torch.tensor([[int(digit) for digit in row] for row in rows])
    return ids == torch.arange(1, int(ids.max()) + 1)[:, None, None]


def _scene(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Segments and void in blocks on 28 × 50 pixels, and the same moved by a pixel or two."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, 8, (4, 5), generator=generator).repeat_interleave(7, 0).repeat_interleave(10, 1)
    moved = blocks.roll(tuple(torch.randint(1, 3, (2,), generator=generator).tolist()), (0, 1))
    numbers = blocks.unique()
    numbers = numbers[(numbers > 0) & (numbers < 7), None, None]  # 7 is of another class
    return blocks == numbers, moved == numbers, blocks == 0


def _shared(truth: Tensor, found: Tensor) -> Tensor:
    return (truth[:, None] & found[None]).sum((2, 3))


def _iou(truth: Tensor, found: Tensor, void: Tensor) -> Tensor:
    shared = _shared(truth, found)
    return shared / (truth.sum((1, 2))[:, None] + (found & ~void).sum((1, 2)) - shared)


def _over_truth(truth: Tensor, found: Tensor, void: Tensor) -> Tensor:
    return _shared(truth, found) / truth.sum((1, 2))[:, None]


def _over_found(truth: Tensor, found: Tensor, void: Tensor) -> Tensor:
    return _shared(truth, found) / found.sum((1, 2)).clamp(min=1)


def _over_both(truth: Tensor, found: Tensor, void: Tensor) -> Tensor:
    return _shared(truth, found) / (truth.sum((1, 2))[:, None] + (found & ~void).sum((1, 2)))


def _without_all_void(truth: Tensor, found: Tensor, void: Tensor) -> Tensor:
    shared = _shared(truth, found)
    return shared / (truth.sum((1, 2))[:, None] + found.sum((1, 2)) - shared - void.sum())


def _matched(
    *,
    overlap: Callable[[Tensor, Tensor, Tensor], Tensor] = _iou,
    keep: Callable[[Tensor], Tensor] = lambda iou: iou * (iou > 0.5),
) -> Callable:
    """A solution in its steps, one of them replaced."""
    return lambda truth, found, void: keep(overlap(truth, found, void))


_match = _matched()
_MATCH_MISTAKES = {
    _FIRST: lambda truth, found, void: _iou(truth, found, void) * (_iou(truth, found, torch.zeros_like(void)) > 0.5),
    "you divided by the true segment alone; IoU divides by the union of both": _matched(overlap=_over_truth),
    "void is held against nobody: a prediction's pixels there leave the union": _matched(
        overlap=lambda truth, found, void: _iou(truth, found, torch.zeros_like(void))
    ),
    "of the void only the pixels within the prediction leave the union, not all of it": _matched(
        overlap=_without_all_void
    ),
    "a match needs an IoU above ½: exactly ½ is none, nor is the best of a row; else two could match one": _matched(
        keep=lambda iou: iou * (iou >= 0.5)
    ),
    "pairs of IoU ½ and less do not match; put 0 there": _matched(keep=lambda iou: iou),
    "give the IoU of the pairs that match, not whether they do": _matched(keep=lambda iou: iou > 0.5),
    "rows are the true segments, columns the predicted ones; yours is turned round": _matched(
        keep=lambda iou: (iou * (iou > 0.5)).T
    ),
    "nothing matches in yours: the union counts the shared pixels once, and void is taken out by & ~void": _matched(
        overlap=_over_both
    ),
    "that is twice the shared pixels over the sum of the areas (Dice); IoU divides by the union": _matched(
        overlap=lambda truth, found, void: 2 * _over_both(truth, found, void)
    ),
    "you divided by the prediction alone; IoU divides by the union of both": _matched(overlap=_over_found),
}

# ---- 12-2 ---------------------------------------------------------------------------------------------------------


def panoptic_quality(function: Callable[[Tensor, Tensor, int], tuple[float, float, float]]) -> None:
    """Exercise 12-2: `panoptic_quality(iou, excused, missed)`: PQ, SQ and RQ of one class; NaN where it does not occur.

    iou (T,) of the matches, excused (U,) of each unmatched prediction the share of its pixels on void or a crowd,
    missed the number of true segments without a match. Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("12-2", function, reference=_quality, mistakes=_QUALITY_MISTAKES)
    none = torch.zeros(0)
    iou, excused = torch.tensor([1, 2 / 3]), torch.tensor([0.0, 0.75])
    what = "two matches, two other predictions of which one lies mostly on void, one missed"
    check.shape(what, iou, excused, 1, hint="three numbers: PQ, SQ, RQ")
    check.value(what, iou, excused, 1, expected=_three(5 / 9, 5 / 6, 2 / 3))
    generator = torch.Generator().manual_seed(0)
    many = 0.5 + 0.5 * torch.rand(37, generator=generator)
    check.value("37 matches, 20 other predictions, 11 missed", many, torch.rand(20, generator=generator), 11)
    four = torch.tensor([0.5, 0.1, 0.2, 0.9])
    check.value("four others, one with just a half on void", iou, four, 0, expected=_three(10 / 21, 5 / 6, 4 / 7))
    check.value("all found, none invented", many, none, 0)
    check.value("no match (T = 0)", none, torch.tensor([0.2]), 1, expected=_three(0, 0, 0), hint=_NO_MATCH)
    check.value("one invented, none true", none, torch.tensor([0.2]), 0, expected=_three(0, 0, 0), hint=_OCCURS)
    nothing = _three(math.nan, math.nan, math.nan)
    check.value("neither matched, invented nor missed", none, torch.tensor([0.9]), 0, expected=nothing, hint=_ABSENT)
    check.done()


def _three(*values: float) -> tuple[Tensor, ...]:
    """The three numbers in float32: whoever divides tensors has no more digits."""
    return torch.tensor(values, dtype=torch.float32).unbind()


_NO_MATCH = "without a match SQ is a mean of nothing, 0/0; it counts as 0, as PQ and RQ do"
_ABSENT = "a class that does not occur has no quality: all three are NaN, and it stays out of the mean over classes"

_OCCURS = "one invented segment is enough to make a class occur, though no true one is there: its three numbers are 0"


def _rated(
    *,
    invented: Callable[[Tensor], int] = lambda excused: int((excused <= 0.5).sum()),
    segments: Callable[[int, int, int], float] = lambda tp, fp, fn: tp + 0.5 * fp + 0.5 * fn,
    sq: Callable[[Tensor, int, int], float] = lambda iou, fp, fn: float(iou.mean()) if len(iou) else 0.0,
    answer: Callable[[float, float], tuple] = lambda sq, rq: (sq * rq, sq, rq),
    absent: float = math.nan,
    occurs: Callable[[int, int, int], bool] = lambda tp, fp, fn: tp + fp + fn > 0,
) -> Callable:
    """A solution in its steps, one of them replaced."""

    def solution(iou: Tensor, excused: Tensor, missed: int) -> tuple[Tensor, ...]:
        fp = invented(excused)
        total = segments(len(iou), fp, missed)
        if not occurs(len(iou), fp, missed):
            return _three(absent, absent, absent)
        return _three(*answer(sq(iou, fp, missed), len(iou) / total))

    return solution


_quality = _rated()
_QUALITY_MISTAKES = {
    _OCCURS: _rated(occurs=lambda tp, fp, fn: tp + fn > 0),
    _ABSENT: _rated(absent=0.0),
    "a prediction of which more than half lies on void or a crowd is not counted as invented": _rated(invented=len),
    "it takes more than a half on void or a crowd to be forgiven; exactly a half is not enough": _rated(
        invented=lambda excused: int((excused < 0.5).sum())
    ),
    "you counted those that are forgiven; invented are the others": _rated(
        invented=lambda excused: int((excused > 0.5).sum())
    ),
    "RQ's denominator is TP + ½ FP + ½ FN; one kind of error is missing in yours": _rated(
        segments=lambda tp, fp, fn: tp + 0.5 * fn
    ),
    "that is precision; RQ counts what is missed, too, and either error by ½": _rated(
        segments=lambda tp, fp, fn: tp + fp
    ),
    "that is recall; RQ counts what is invented, too, and either error by ½": _rated(
        segments=lambda tp, fp, fn: tp + fn
    ),
    "an error counts ½ in RQ, as in F1; yours counts 1": _rated(segments=lambda tp, fp, fn: tp + fp + fn),
    "SQ is a mean over the matches alone; the errors are in RQ": _rated(
        sq=lambda iou, fp, fn: float(iou.sum()) / (len(iou) + 0.5 * fp + 0.5 * fn)
    ),
    "SQ is the mean IoU, not the sum": _rated(sq=lambda iou, fp, fn: float(iou.sum())),
    "PQ is the product of SQ and RQ, not their mean": _rated(answer=lambda sq, rq: ((sq + rq) / 2, sq, rq)),
    "the order is PQ, SQ, RQ": _rated(answer=lambda sq, rq: (sq, rq, sq * rq)),
    "you swapped SQ and RQ: SQ is the mean IoU, RQ says how many were found": _rated(
        answer=lambda sq, rq: (sq * rq, rq, sq)
    ),
    _NO_MATCH: _rated(sq=lambda iou, fp, fn: float(iou.mean())),
}
