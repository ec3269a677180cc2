"""Lesson 00's checks pass right solutions, however written, and name the mistake of each wrong one."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou as torchvision_iou

from course_lib.lessons import checks
from tests.lessons.exercises import exercise_tests


def sides(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height of the intersection, not clamped."""
    width = torch.minimum(a[:, 2], b[:, 2]) - torch.maximum(a[:, 0], b[:, 0])
    return width, torch.minimum(a[:, 3], b[:, 3]) - torch.maximum(a[:, 1], b[:, 1])


def overlap(a: Tensor, b: Tensor) -> Tensor:
    width, height = sides(a, b)
    return width.clamp(min=0) * height.clamp(min=0)


def area(a: Tensor) -> Tensor:
    return (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])


def iou(a: Tensor, b: Tensor, inter: Callable = overlap) -> Tensor:
    both = inter(a, b)
    return both / (area(a) + area(b) - both)


def hull(a: Tensor, b: Tensor) -> Tensor:
    """Area of the box around both: what comes of minimum and maximum in each other's place."""
    width, height = (torch.maximum(a[:, k + 2], b[:, k + 2]) - torch.minimum(a[:, k], b[:, k]) for k in (0, 1))
    return width.clamp(min=0) * height.clamp(min=0)


def iou_plus_one(a: Tensor, b: Tensor) -> Tensor:
    both = math.prod((side + 1).clamp(min=0) for side in sides(a, b))
    areas = [(x[:, 2] - x[:, 0] + 1) * (x[:, 3] - x[:, 1] + 1) for x in (a, b)]
    return both / (areas[0] + areas[1] - both)


def iou_xywh(a: Tensor, b: Tensor) -> Tensor:
    a, b = (torch.stack((x[:, 0], x[:, 1], x[:, 0] + x[:, 2], x[:, 1] + x[:, 3]), 1) for x in (a, b))
    return iou(a, b)


def iou_in_place(a: Tensor, b: Tensor) -> Tensor:
    result = iou(a, b)
    a[:, 2:] -= a[:, :2]
    return result


RIGHT_IOU = {
    "tensors": iou,
    "a small number against 0/0": lambda a, b: overlap(a, b) / (area(a) + area(b) - overlap(a, b) + 1e-6),
    "torchvision's diagonal": lambda a, b: torchvision_iou(a, b).diagonal(),
    "relu": lambda a, b: iou(a, b, lambda a, b: torch.relu(sides(a, b)[0]) * torch.relu(sides(a, b)[1])),
}
WRONG_IOU = {
    "plus one": (iou_plus_one, "added 1 to the sides"),
    "nothing clamped": (lambda a, b: iou(a, b, lambda a, b: math.prod(sides(a, b))), "clamp each at 0"),
    "product clamped": (
        lambda a, b: iou(a, b, lambda a, b: math.prod(sides(a, b)).clamp(min=0)),
        "clamp width and height at 0, not their product",
    ),
    "sum for union": (lambda a, b: overlap(a, b) / (area(a) + area(b)), "counts the intersection once"),
    "first area": (lambda a, b: overlap(a, b) / area(a), "divided by the area of one box"),
    "second area": (lambda a, b: overlap(a, b) / area(b), "divided by the area of the second box"),
    "smaller area": (lambda a, b: overlap(a, b) / torch.minimum(area(a), area(b)), "divided by the smaller area"),
    "intersection": (overlap, "that is the intersection in pixels"),
    "xywh": (iou_xywh, "you read the boxes as"),
    "all pairs": (torchvision_iou, "every a with every b"),
    "one number": (lambda a, b: iou(a, b).mean(), "step by step"),
    "half precision": (lambda a, b: iou(a, b).half(), "keep the type of the input"),
    "numpy": (lambda a, b: torch.from_numpy(iou(a.detach(), b.detach()).numpy()), "no gradient reaches the input"),
    "in place": (iou_in_place, "changed its input in place"),
    "intersection added": (lambda a, b: overlap(a, b) / (area(a) + area(b) + overlap(a, b)), "you added the inters"),
    "no brackets": (lambda a, b: overlap(a, b) / area(a) + area(b) - overlap(a, b), "needs brackets"),
    "minimum and maximum swapped": (lambda a, b: iou(a, b, hull), "trade places"),
    "hull for union": (lambda a, b: overlap(a, b) / hull(a, b), "you divided by the box around both"),
    "rounded": (lambda a, b: (iou(a, b) * 100).round() / 100, "pencil and paper"),
}


def focal(p: Tensor, y: Tensor, gamma: float) -> Tensor:
    p_t = p * y + (1 - p) * (1 - y)
    return -((1 - p_t) ** gamma) * torch.log(p_t)


def truth(p: Tensor, y: Tensor) -> Tensor:
    return torch.where(y == 1, p, 1 - p)


RIGHT_FOCAL = {
    "products": focal,
    "where": lambda p, y, g: -(1 - truth(p, y)).pow(g) * truth(p, y).log(),
    "two terms": lambda p, y, g: -y * (1 - p) ** g * p.log() - (1 - y) * p**g * (1 - p).log(),
}
WRONG_FOCAL = {
    "p everywhere": (lambda p, y, g: -((1 - p) ** g) * p.log(), "you took p for every anchor"),
    "swapped": (lambda p, y, g: focal(p, 1 - y, g), "are swapped"),
    "weight of p_t": (lambda p, y, g: -(truth(p, y) ** g) * truth(p, y).log(), "it must be (1 − p_t)^γ"),
    "times gamma": (lambda p, y, g: -g * (1 - truth(p, y)) * truth(p, y).log(), "not times γ"),
    "weight of p": (lambda p, y, g: -((1 - p) ** g) * truth(p, y).log(), "both factors need p_t"),
    "no minus": (lambda p, y, g: -focal(p, y, g), "the minus sign is missing"),
    "no weight": (lambda p, y, g: -truth(p, y).log(), "plain cross entropy"),
    "log10": (lambda p, y, g: -((1 - truth(p, y)) ** g) * truth(p, y).log10(), "not the one to base 10"),
    "log2": (lambda p, y, g: -((1 - truth(p, y)) ** g) * truth(p, y).log2(), "not the one to base 2"),
    "sum": (lambda p, y, g: focal(p, y, g).sum(), "you added the terms up"),
    "mean": (lambda p, y, g: focal(p, y, g).mean(), "you averaged the terms"),
    "detached": (
        lambda p, y, g: -((1 - truth(p, y)) ** g).detach() * truth(p, y).log(),
        "the weight is cut off from the gradient",
    ),
    "gamma is always 2": (lambda p, y, g: focal(p, y, 2.0), "the exponent is gamma"),
    "objects alone": (lambda p, y, g: -y * (1 - p) ** g * p.log(), "background has a loss too"),
    "sigmoid": (lambda p, y, g: focal(torch.sigmoid(p), y, g), "they need no sigmoid"),
    "alpha": (lambda p, y, g: (0.25 * y + 0.75 * (1 - y)) * focal(p, y, g), "there is no α here"),
    "log of a little more": (
        lambda p, y, g: -((1 - truth(p, y)) ** g) * (truth(p, y) + 1e-8).log(),
        "right but for a trace",
    ),
}


def counts(scores: Tensor, correct: Tensor, threshold: float) -> tuple[int, int]:
    made = scores >= threshold
    return int(made.sum()), int((made & correct).sum())


def curve_point(scores: Tensor, correct: Tensor, objects: int, threshold: float) -> tuple[float, float]:
    made, right = counts(scores, correct, threshold)
    return right / made if made else 1.0, right / objects


def with_numpy(scores: Tensor, correct: Tensor, objects: int, threshold: float) -> tuple[float, float]:
    chosen = np.asarray(correct)[scores.numpy() >= threshold]
    return (float(chosen.mean()) if len(chosen) else 1.0), chosen.sum() / objects


def tensors(*arguments) -> tuple[Tensor, Tensor]:
    return tuple(torch.tensor(value) for value in curve_point(*arguments))


def silent(empty: float) -> Callable:
    """A solution that gives `empty` as the precision of no detections."""

    def answer(scores: Tensor, correct: Tensor, objects: int, threshold: float) -> tuple[float, float]:
        precision, recall = curve_point(scores, correct, objects, threshold)
        return (precision if counts(scores, correct, threshold)[0] else empty), recall

    return answer


def strict(s: Tensor, c: Tensor, n: int, t: float) -> tuple[float, float]:
    made = s > t
    return (c[made].double().mean().item() if made.any() else 1.0), c[made].sum().item() / n


RIGHT_PR = {"counts": curve_point, "numpy": with_numpy, "tensors": tensors}
WRONG_PR = {
    "swapped": (lambda *a: curve_point(*a)[::-1], "are swapped"),
    "strict": (strict, "use >="),
    "recall of detections": (
        lambda s, c, n, t: (curve_point(s, c, n, t)[0], counts(s, c, t)[1] / max(len(s), 1)),
        "divide by `objects`, not by the detections",
    ),
    "recall of correct": (
        lambda s, c, n, t: (curve_point(s, c, n, t)[0], counts(s, c, t)[1] / max(int(c.sum()), 1)),
        "objects that nobody found count too",
    ),
    "precision of all": (
        lambda s, c, n, t: (counts(s, c, t)[1] / max(len(s), 1), counts(s, c, t)[1] / n),
        "not of all of them",
    ),
    "precision of objects": (lambda s, c, n, t: (counts(s, c, t)[1] / n,) * 2, "you divided precision by the objects"),
    "no threshold": (
        lambda s, c, n, t: (c.double().mean().item(), c.sum().item() / n),
        "the threshold is not used",
    ),
    "all found": (
        lambda s, c, n, t: (curve_point(s, c, n, t)[0], c.sum().item() / n),
        "your recall counts correct detections below the threshold",
    ),
    "nan": (silent(math.nan), "the precision is 1 by convention"),
    "zero": (silent(0.0), "the precision is 1 by convention"),
    "one number": (lambda *a: curve_point(*a)[0], "step by step"),
    "per cent": (lambda *a: tuple(100 * v for v in curve_point(*a)), "pencil and paper"),
    "no return": (lambda *a: None, "returned nothing"),
}

EXERCISES = {
    "00-1: 7": (checks.iou, RIGHT_IOU, WRONG_IOU),
    "00-2: 7": (checks.focal_terms, RIGHT_FOCAL, WRONG_FOCAL),
    "00-3: 6": (checks.precision_recall, RIGHT_PR, WRONG_PR),
}

TestExercises = exercise_tests(EXERCISES)


@pytest.mark.parametrize(
    ("check", "function", "error", "words"),
    [
        (checks.iou, lambda a, b: torch.stack([iou(x[None], y[None])[0] for x, y in zip(a, b)]), RuntimeError, "N = 0"),
        (
            checks.precision_recall,
            lambda s, c, n, t: (counts(s, c, t)[1] / counts(s, c, t)[0], counts(s, c, t)[1] / n),
            ZeroDivisionError,
            "the precision is 1 by convention",
        ),
    ],
)
def test_an_error_of_the_solution_comes_with_the_hint(check, function, error, words: str) -> None:
    with pytest.raises(error) as caught:
        check(function)
    assert words in caught.value.__notes__[0]
