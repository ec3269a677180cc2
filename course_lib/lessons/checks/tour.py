"""Checks of lesson 00: the overlap of boxes, the focal loss of a few anchors, precision and recall."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from course_lib.lessons.checks.base import Exercise
from course_lib.ops.boxes import box_area, box_iou, paired_iou, xywh_to_xyxy

_EMPTY = "nothing in, nothing out: work on whole tensors instead of looping, then N = 0 needs no case of its own"

# ---- 00-1 ---------------------------------------------------------------------------------------------------------


def iou(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 00-1: `iou(a, b)`, boxes (N, 4) xyxy each, gives the overlap (N,) of each pair.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("00-1", function, reference=paired_iou, mistakes=_IOU_MISTAKES)
    a = torch.tensor([[0.0, 0, 4, 4], [10, 10, 20, 20], [1, 1, 3, 3]])
    b = torch.tensor([[2.0, 0, 6, 4], [12, 10, 16, 15], [0, 0, 4, 8]])
    check.shape("three pairs of boxes", a, b)
    check.dtype("three pairs of boxes", a, b)
    check.value("three pairs of boxes", a, b, expected=torch.tensor([8 / 24, 20 / 100, 4 / 32]))
    first = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2]])
    apart = torch.tensor([[3.0, 0, 5, 2], [0, 5, 2, 9], [4, 5, 6, 6]])
    check.value("boxes that do not touch", first, apart, expected=torch.zeros(3))
    check.value("50 random pairs", _boxes(50, seed=0), _boxes(50, seed=1))
    check.value("no boxes at all (N = 0)", a[:0], b[:0], hint=_EMPTY)
    check.gradient("the gradient by the first boxes", _boxes(20, seed=2), _boxes(20, seed=3))
    check.done()


def _boxes(count: int, seed: int) -> Tensor:
    """Random boxes (count, 4) float64 about the same place, sides of 100 to 1,100 px: many overlap, some do not."""
    numbers = torch.rand(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return xywh_to_xyxy(numbers * 1000 + torch.tensor([0, 0, 100, 100]))


def _sides(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height of the intersection (N,), negative where the boxes are apart."""
    width, height = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).unbind(1)
    return width, height


def _intersection(a: Tensor, b: Tensor) -> Tensor:
    width, height = _sides(a, b)
    return width.clamp(min=0) * height.clamp(min=0)


def _hull(a: Tensor, b: Tensor) -> Tensor:
    """Area of the smallest box around both."""
    return (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)


def _over(inter: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return inter / (box_area(a) + box_area(b) - inter)


def _one_more(boxes: Tensor) -> Tensor:
    """Boxes whose sides are one pixel longer."""
    return boxes + boxes.new_tensor((0, 0, 1, 1))


def _as_xywh(a: Tensor, b: Tensor) -> Tensor:
    return paired_iou(xywh_to_xyxy(a), xywh_to_xyxy(b))


_IOU_MISTAKES = {
    "you added 1 to the sides; here the right and bottom edge are exclusive, so a width is x2 − x1": (
        lambda a, b: paired_iou(_one_more(a), _one_more(b))
    ),
    "apart boxes have an intersection of negative width or height; clamp each at 0 before you multiply": (
        lambda a, b: _over(torch.mul(*_sides(a, b)), a, b)
    ),
    "two negative sides have a positive product; clamp width and height at 0, not their product": (
        lambda a, b: _over(torch.mul(*_sides(a, b)).clamp(min=0), a, b)
    ),
    "you divided by the sum of the areas; the union counts the intersection once, so subtract it": (
        lambda a, b: _intersection(a, b) / (box_area(a) + box_area(b))
    ),
    "you divided by the area of one box; IoU divides by the union of both": (
        lambda a, b: _intersection(a, b) / box_area(a)
    ),
    "you divided by the area of the second box; IoU divides by the union of both": (
        lambda a, b: _intersection(a, b) / box_area(b)
    ),
    "you divided by the smaller area; IoU divides by the union of both boxes": (
        lambda a, b: _intersection(a, b) / torch.minimum(box_area(a), box_area(b))
    ),
    "that is the intersection in pixels; divide it by the union": _intersection,
    "you read the boxes as (x, y, width, height); the last two numbers are the right and bottom edge": _as_xywh,
    "you compared every a with every b; here a[n] meets b[n] alone": box_iou,
    "you added the intersection to the areas; the union counts it once, so subtract it": (
        lambda a, b: _intersection(a, b) / (box_area(a) + box_area(b) + _intersection(a, b))
    ),
    "the union needs brackets: without them only the first area divides": (
        lambda a, b: _intersection(a, b) / box_area(a) + box_area(b) - _intersection(a, b)
    ),
    "minimum and maximum trade places: the intersection reaches from the larger left edge to the smaller right one": (
        lambda a, b: _over(_hull(a, b), a, b)
    ),
    "you divided by the box around both; the union leaves its empty corners out": (
        lambda a, b: _intersection(a, b) / _hull(a, b)
    ),
}

# ---- 00-2 ---------------------------------------------------------------------------------------------------------


def focal_terms(function: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Exercise 00-2: `focal_terms(p, y, gamma)`, probabilities and targets (N,), gives each anchor's loss (N,).

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("00-2", function, reference=_focal, mistakes=_FOCAL_MISTAKES)
    p, y = torch.tensor([0.5, 0.9, 0.1, 0.9]), torch.tensor([1.0, 1, 0, 0])
    worked_out = torch.tensor([0.173287, 0.00105361, 0.00105361, 1.865094])
    check.shape("four anchors", p, y, 2.0)
    check.dtype("four anchors", p, y, 2.0)
    check.value("four anchors, γ = 2", p, y, 2.0, expected=worked_out)
    entropy = torch.tensor([0.693147, 0.105361, 0.105361, 2.302585])
    check.value("γ = 0, where cross entropy is left", p, y, 0.0, expected=entropy)
    generator = torch.Generator().manual_seed(0)
    many = 0.05 + 0.9 * torch.rand(60, dtype=torch.float64, generator=generator)
    objects = (torch.rand(60, generator=generator) < 0.3).double()
    check.value("60 random anchors, γ = 1.5", many, objects, 1.5)
    check.value("no anchors (N = 0)", p[:0], y[:0], 2.0, hint=_EMPTY)
    check.gradient("the gradient by p", many, objects, 2.0)
    check.done()


def _right(p: Tensor, y: Tensor) -> Tensor:
    """p_t, the probability that was given to the truth."""
    return torch.where(y > 0.5, p, 1 - p)


def _focal(p: Tensor, y: Tensor, gamma: float) -> Tensor:
    right = _right(p, y)
    return -((1 - right) ** gamma) * right.log()


_FOCAL_MISTAKES = {
    "you took p for every anchor; where y is 0 the truth has the probability 1 − p": (
        lambda p, y, gamma: -((1 - p) ** gamma) * p.log()
    ),
    "objects and background are swapped; p is the probability of an object, so p_t is p where y is 1": (
        lambda p, y, gamma: _focal(p, 1 - y, gamma)
    ),
    "your weight is p_t^γ, great for the easy anchors; it must be (1 − p_t)^γ": (
        lambda p, y, gamma: -(_right(p, y) ** gamma) * _right(p, y).log()
    ),
    "the weight is (1 − p_t) to the power γ, not times γ": (
        lambda p, y, gamma: -gamma * (1 - _right(p, y)) * _right(p, y).log()
    ),
    "the weight was made of p before p_t was chosen; both factors need p_t": (
        lambda p, y, gamma: -((1 - p) ** gamma) * _right(p, y).log()
    ),
    "the minus sign is missing: the logarithm of a probability is negative, a loss is not": (
        lambda p, y, gamma: -_focal(p, y, gamma)
    ),
    "that is plain cross entropy; multiply it by the weight (1 − p_t)^γ": lambda p, y, gamma: -_right(p, y).log(),
    "take the natural logarithm, not the one to base 10": lambda p, y, gamma: _focal(p, y, gamma) / 2.302585092994046,
    "take the natural logarithm, not the one to base 2": lambda p, y, gamma: _focal(p, y, gamma) / 0.6931471805599453,
    "you added the terms up; give back one number for each anchor": lambda p, y, gamma: _focal(p, y, gamma).sum(),
    "you averaged the terms; give back one number for each anchor": lambda p, y, gamma: _focal(p, y, gamma).mean(),
    "the weight is cut off from the gradient; it depends on p as the logarithm does": (
        lambda p, y, gamma: -((1 - _right(p, y)) ** gamma).detach() * _right(p, y).log()
    ),
    "background has a loss too: there p_t is 1 − p": lambda p, y, gamma: y * _focal(p, y, gamma),
    "p are probabilities already; they need no sigmoid": lambda p, y, gamma: _focal(p.sigmoid(), y, gamma),
    "the exponent is gamma, not always 2": lambda p, y, gamma: _focal(p, y, 2.0),
    "there is no α here yet; leave the two kinds at equal weight": (
        lambda p, y, gamma: torch.where(y > 0.5, 0.25, 0.75) * _focal(p, y, gamma)
    ),
}

# ---- 00-3 ---------------------------------------------------------------------------------------------------------

_SILENT = "without a detection the precision is 1 by convention: nothing said, nothing wrong"


def precision_recall(function: Callable[[Tensor, Tensor, int, float], tuple]) -> None:
    """Exercise 00-3: `precision_recall(scores, correct, objects, threshold)` gives two numbers in 0…1.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("00-3", function, reference=_precision_recall, mistakes=_PRECISION_RECALL_MISTAKES)
    scores = torch.tensor([0.95, 0.8, 0.7, 0.4, 0.2])
    correct = torch.tensor([True, True, False, True, False])
    check.shape("five detections of eight objects", scores, correct, 8, 0.5)
    check.value("five detections of eight objects", scores, correct, 8, 0.5, expected=(2 / 3, 2 / 8))
    check.value("a threshold that a score meets exactly", scores, correct, 8, float(scores[3]), expected=(3 / 4, 3 / 8))
    generator = torch.Generator().manual_seed(0)
    many = torch.rand(200, dtype=torch.float64, generator=generator)
    right = torch.rand(200, generator=generator) < many
    check.value("200 random detections", many, right, 150, 0.3)
    check.value("a threshold above every score", scores, correct, 8, 0.99, expected=(1.0, 0.0), hint=_SILENT)
    check.value("no detections (N = 0)", scores[:0], correct[:0], 8, 0.5, expected=(1.0, 0.0), hint=_SILENT)
    check.done()


@dataclass(frozen=True)
class _Count:
    """What can be counted: detections and correct ones, those that reach the threshold (said, right), and objects."""

    detections: int
    correct: int
    said: int
    right: int
    objects: int

    @property
    def precision(self) -> float:
        return self.right / self.said if self.said else 1.0

    @property
    def recall(self) -> float:
        return self.right / self.objects


def _from_counts(formula: Callable[[_Count], tuple[float, float]], said: Callable = torch.ge) -> Callable:
    """A function as in the exercise that gives what `formula` makes of the counts."""

    def answer(scores: Tensor, correct: Tensor, objects: int, threshold: float) -> tuple[float, float]:
        reached = said(scores, threshold)
        counts = (len(scores), correct.sum().item(), reached.sum().item(), (reached & correct).sum().item(), objects)
        return formula(_Count(*counts))

    return answer


_precision_recall = _from_counts(lambda n: (n.precision, n.recall))

_PRECISION_RECALL_MISTAKES = {
    _SILENT: _from_counts(lambda n: (n.precision if n.said else 0.0, n.recall)),
    f"{_SILENT} (0/0 is nan)": _from_counts(lambda n: (n.precision if n.said else math.nan, n.recall)),
    "precision and recall are swapped": _from_counts(lambda n: (n.recall, n.precision)),
    "a score that equals the threshold counts as a detection: use >=": (
        _from_counts(lambda n: (n.precision, n.recall), said=torch.gt)
    ),
    "recall is a share of the objects that are there, found or not: divide by `objects`, not by the detections": (
        _from_counts(lambda n: (n.precision, n.right / n.detections))
    ),
    "you divided recall by the correct detections; objects that nobody found count too: divide by `objects`": (
        _from_counts(lambda n: (n.precision, n.right / n.correct))
    ),
    "precision is a share of the detections that reach the threshold, not of all of them": (
        _from_counts(lambda n: (n.right / n.detections, n.recall))
    ),
    "you divided precision by the objects; it is a share of the detections that reach the threshold": (
        _from_counts(lambda n: (n.recall, n.recall))
    ),
    "the threshold is not used; a detection below it counts as not made": (
        _from_counts(lambda n: (n.correct / n.detections, n.correct / n.objects))
    ),
    "your recall counts correct detections below the threshold; they count as not made": (
        _from_counts(lambda n: (n.precision, n.correct / n.objects))
    ),
}
