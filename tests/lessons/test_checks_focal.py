"""Lesson 02's checks pass right solutions, however written, and name the mistake of each wrong one."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from course_lib.lessons import checks
from course_lib.lessons.checks.focal import _slope
from course_lib.ops.losses import focal_loss_from_labels, sigmoid_focal_loss
from tests.lessons.exercises import exercise_tests


def terms(x: Tensor, y: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss of each entry."""
    z = x * (2 * y - 1)
    weight = alpha * y + (1 - alpha) * (1 - y)
    return -weight * torch.exp(gamma * F.logsigmoid(-z)) * F.logsigmoid(z)


def total(x: Tensor, y: Tensor, alpha: float, gamma: float) -> Tensor:
    return terms(x, y, alpha, gamma).sum()


def entropy(x: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(x, y, reduction="none")


def by_hand(p: Tensor, y: Tensor, alpha: float, gamma: float) -> Tensor:
    """From probabilities, as one writes it first."""
    p_t = p * y + (1 - p) * (1 - y)
    weight = alpha * y + (1 - alpha) * (1 - y)
    return (-weight * (1 - p_t) ** gamma * torch.log(p_t)).sum()


def weighted(x: Tensor, y: Tensor, alpha: float, gamma: float, weight: Callable) -> Tensor:
    """Another factor than (1 − p_t)^γ: weight(p_t, gamma)."""
    p_t = torch.sigmoid(x * (2 * y - 1))
    return ((alpha * y + (1 - alpha) * (1 - y)) * weight(p_t, gamma) * entropy(x, y)).sum()


def chosen(x: Tensor, y: Tensor, alpha: float, gamma: float) -> Tensor:
    """All by torch.where, whose weights are float32 beside float64 logits."""
    z = torch.where(y > 0.5, x, -x)
    return (torch.where(y > 0.5, alpha, 1 - alpha) * (1 - z.sigmoid()) ** gamma * -F.logsigmoid(z)).sum()


RIGHT_FOCAL = {
    "weights by torch.where": chosen,
    "log-sigmoids": total,
    "the library": lambda x, y, a, g: sigmoid_focal_loss(x, y, a, g, reduction="sum"),
    "torchvision": lambda x, y, a, g: torchvision.ops.sigmoid_focal_loss(x, y, a, g, reduction="sum"),
    "softplus": lambda x, y, a, g: torch.where(
        y > 0.5, a * (-x).sigmoid() ** g * F.softplus(-x), (1 - a) * x.sigmoid() ** g * F.softplus(x)
    ).sum(),
}
WRONG_FOCAL = {
    "alpha swapped": (lambda x, y, a, g: total(x, y, 1 - a, g), "the weights are swapped"),
    "alpha everywhere": (lambda x, y, a, g: a * 2 * total(x, y, 0.5, g), "every entry has the weight α"),
    "no alpha": (lambda x, y, a, g: 2 * total(x, y, 0.5, g), "α is missing"),
    "alpha at ones alone": (lambda x, y, a, g: (terms(x, y, 0.5, g) * 2 * (1 + y * (a - 1))).sum(), "only the ones"),
    "ones alone": (lambda x, y, a, g: (y * terms(x, y, a, g)).sum(), "the zeros are missing"),
    "no factor": (lambda x, y, a, g: total(x, y, a, 0.0), "that is weighted cross entropy"),
    "factor of p_t": (lambda x, y, a, g: weighted(x, y, a, g, lambda p, g: p**g), "your factor is p_t^γ"),
    "times gamma": (lambda x, y, a, g: weighted(x, y, a, g, lambda p, g: g * (1 - p)), "not times γ"),
    "targets swapped": (lambda x, y, a, g: total(-x, y, a, g), "the targets are swapped"),
    "p for p_t": (
        lambda x, y, a, g: -((a * y + (1 - a) * (1 - y)) * (1 - x.sigmoid()) ** g * F.logsigmoid(x)).sum(),
        "you took σ(logit) for p_t everywhere",
    ),
    "factor of p": (
        lambda x, y, a, g: ((a * y + (1 - a) * (1 - y)) * (1 - x.sigmoid()) ** g * entropy(x, y)).sum(),
        "the factor was made of σ(logit)",
    ),
    "sigmoid twice": (lambda x, y, a, g: total(x.sigmoid(), y, a, g), "the sigmoid was taken twice"),
    "no minus": (lambda x, y, a, g: -total(x, y, a, g), "the minus sign is missing"),
    "mean": (lambda x, y, a, g: terms(x, y, a, g).mean(), "give back the sum, it is divided later"),
    "terms": (terms, "the sum of all entries, not one loss each"),
    "a sum an anchor": (lambda x, y, a, g: terms(x, y, a, g).sum(-1), "not one sum each anchor"),
    "factor detached": (
        lambda x, y, a, g: weighted(x, y, a, g, lambda p, g: (1 - p.detach()) ** g),
        "the factor is cut off from the gradient",
    ),
    "from probabilities": (lambda x, y, a, g: by_hand(x.sigmoid(), y, a, g), "with F.logsigmoid"),
    "two terms": (
        lambda x, y, a, g: (
            -(
                a * y * (1 - x.sigmoid()) ** g * x.sigmoid().log()
                + (1 - a) * (1 - y) * x.sigmoid() ** g * (1 - x.sigmoid()).log()
            ).sum()
        ),
        "with F.logsigmoid",
    ),
    "clamped at 1e-4": (
        lambda x, y, a, g: by_hand(x.sigmoid().clamp(1e-4, 1 - 1e-4), y, a, g),
        "no gradient beyond the clamp",
    ),
    "clamped at 1e-7": (
        lambda x, y, a, g: by_hand(x.sigmoid().clamp(1e-7, 1 - 1e-7), y, a, g),
        "no gradient beyond the clamp",
    ),
    "clamped elsewhere": (lambda x, y, a, g: by_hand(x.sigmoid().clamp(3e-7, 1 - 3e-7), y, a, g), "F.logsigmoid"),
    "a little added": (
        lambda x, y, a, g: (
            -(
                (a * y + (1 - a) * (1 - y))
                * torch.sigmoid(-x * (2 * y - 1)) ** g
                * torch.log(torch.sigmoid(x * (2 * y - 1)) + 1e-9)
            ).sum()
        ),
        "or an added 1e-7",
    ),
    "gamma is always 2": (lambda x, y, a, g: total(x, y, a, 2.0), "pencil and paper"),
    "float32": (lambda x, y, a, g: total(x.float(), y.float(), a, g), "keep the type of the input"),
    "a number": (lambda x, y, a, g: torch.tensor(total(x, y, a, g).item(), dtype=x.dtype), "no gradient reaches"),
    "in place": (lambda x, y, a, g: total(x.mul_(2 * y - 1).mul(2 * y - 1), y, a, g), "changed its input in place"),
    "no return": (lambda x, y, a, g: None, "returned nothing"),
}


def slope(z: Tensor, gamma: float) -> Tensor:
    p, q = torch.sigmoid(z), torch.sigmoid(-z)
    return gamma * p * F.logsigmoid(z) * q**gamma - q ** (gamma + 1)


def slope_by_autograd(z: Tensor, gamma: float) -> Tensor:
    z = z.clone().requires_grad_()
    return torch.autograd.grad(total(z, torch.ones_like(z), 1.0, gamma), z)[0]


RIGHT_SLOPE = {"closed form": slope, "autograd": slope_by_autograd}
WRONG_SLOPE = {
    "factor held fast": (lambda z, g: -(torch.sigmoid(-z) ** (g + 1)), "the product rule gives a second part"),
    "cross entropy": (lambda z, g: z.sigmoid() - 1, "the derivative of cross entropy"),
    "sign": (lambda z, g: -slope(z, g), "the sign is wrong"),
    "by p": (lambda z, g: slope(z, g) / (z.sigmoid() * (-z).sigmoid()), "that is the derivative by p_t"),
    "factor alone": (lambda z, g: slope(z, g) + (-z).sigmoid() ** (g + 1), "only the factor was differentiated"),
    "sign of the first part": (
        lambda z, g: -slope(z, g) - 2 * (-z).sigmoid() ** (g + 1),
        "the first part has the wrong sign",
    ),
    "no inner derivative": (
        lambda z, g: g * (-z).sigmoid() ** (g - 1) * F.logsigmoid(z) - (-z).sigmoid() ** (g + 1),
        "you left −p_t (1 − p_t) out",
    ),
    "lost p": (
        lambda z, g: (-z).sigmoid() ** g * (g * F.logsigmoid(z) - (-z).sigmoid()),
        "γ p_t log p_t has lost its p_t",
    ),
    "lost gamma": (
        lambda z, g: (-z).sigmoid() ** g * (z.sigmoid() * F.logsigmoid(z) - (-z).sigmoid()),
        "γ is missing before p_t log p_t",
    ),
    "log by p": (
        lambda z, g: (-z).sigmoid() ** g * (g * z.sigmoid() * F.logsigmoid(z) - 1 - (-z).exp()),
        "the derivative of log p_t by p_t",
    ),
    "no sigmoid": (lambda z, g: (1 - z) ** g * (g * z * torch.log(z) - (1 - z)), "z is a logit"),
    "the loss": (lambda z, g: terms(z, torch.ones_like(z), 1.0, g), "that is the loss"),
    "sum": (lambda z, g: slope(z, g).sum(), "not their sum"),
    "mean": (lambda z, g: slope(z, g).mean(), "not their mean"),
    "log of p": (
        lambda z, g: (-z).sigmoid() ** g * (g * z.sigmoid() * z.sigmoid().log() - (-z).sigmoid()),
        "log p_t is −∞",
    ),
    "gamma is always 2": (lambda z, g: slope(z, 2.0), "pencil and paper"),
    "no return": (lambda z, g: None, "returned nothing"),
}

RIGHT_BIAS = {
    "formula": lambda p: -math.log((1 - p) / p),
    "a tensor": lambda p: torch.logit(torch.tensor(p, dtype=torch.float64)),
    "float32": lambda p: torch.logit(torch.tensor(p)),
}
WRONG_BIAS = {
    "sign": (lambda p: math.log((1 - p) / p), "the sign is wrong"),
    "log": (math.log, "that is log π"),
    "log of the rest": (lambda p: math.log(1 - p), "that is log(1 − π)"),
    "minus log": (lambda p: -math.log(p), "that is −log π"),
    "odds": (lambda p: p / (1 - p), "those are the odds, π / (1 − π)"),
    "odds against": (lambda p: (1 - p) / p, "those are the odds against it"),
    "log10": (lambda p: -math.log10((1 - p) / p), "not the one to base 10"),
    "log2": (lambda p: math.log2(p / (1 - p)), "not the one to base 2"),
    "sigmoid": (lambda p: 1 / (1 + math.exp(-p)), "you took the sigmoid of π"),
    "itself": (lambda p: p, "that is π itself"),
    "for RetinaNet alone": (lambda p: -4.59512, "pencil and paper"),
    "no return": (lambda p: None, "returned nothing"),
}


def targets_of(labels: Tensor, classes: int) -> Tensor:
    return F.one_hot(labels.clamp(min=0), classes) * (labels >= 0).unsqueeze(1)


def normalised(x: Tensor, labels: Tensor, alpha: float, gamma: float) -> Tensor:
    used = labels != -2
    loss = total(x[used], targets_of(labels[used], x.shape[1]).to(x.dtype), alpha, gamma)
    return loss / max(1, int((labels >= 0).sum()))


def divided(by: Callable) -> Callable:
    """The summed loss over by(logits, labels)."""
    return lambda x, t, a, g: normalised(x, t, a, g) * max(1, int((t >= 0).sum())) / by(x, t)


def wrong_background(labels_to_classes: Callable) -> Callable:
    """Targets by indexing: background gets a class."""

    def answer(x: Tensor, labels: Tensor, alpha: float, gamma: float) -> Tensor:
        y = torch.zeros_like(x)
        y[torch.arange(len(x)), labels_to_classes(labels)] = 1.0
        used = labels != -2
        return total(x[used], y[used], alpha, gamma) / (labels >= 0).sum().clamp(min=1)

    return answer


RIGHT_CLASS = {
    "one-hot": normalised,
    "the library's fast form": lambda x, t, a, g: focal_loss_from_labels(x, t, a, g) / (t >= 0).sum().clamp(min=1),
}
WRONG_CLASS = {
    "all anchors": (divided(lambda x, t: len(t)), "you divided by all anchors;"),
    "all that are used": (divided(lambda x, t: (t > -2).sum().clamp(min=1)), "all anchors that are not left out"),
    "mean": (divided(lambda x, t: (t > -2).sum().clamp(min=1) * x.shape[1]), "you averaged over all anchors and"),
    "class 0 forgotten": (divided(lambda x, t: (t > 0).sum().clamp(min=1)), "class 0 is a class"),
    "not divided": (divided(lambda x, t: 1), "you did not divide"),
    "left out counted as objects": (divided(lambda x, t: (t != -1).sum().clamp(min=1)), "not labels != −1"),
    "a little added": (divided(lambda x, t: (t >= 0).sum() + 1e-6), "a small number to the divisor"),
    "less added": (divided(lambda x, t: (t >= 0).sum() + 1e-9), "divide by at least 1"),
    "codes swapped": (
        lambda x, t, a, g: normalised(x, torch.where(t < 0, -3 - t, t), a, g),
        "the codes are swapped",
    ),
    "one more": (divided(lambda x, t: (t >= 0).sum() + 1), "you added 1"),
    "left out taken as background": (
        lambda x, t, a, g: normalised(x, torch.where(t == -2, -1, t), a, g),
        "anchors with label −2 are left out",
    ),
    "background is the last class": (wrong_background(lambda t: t), "as an index, −1 is the last one"),
    "background is class 0": (wrong_background(lambda t: t.clamp(min=0)), "background became class 0"),
    "objects alone": (lambda x, t, a, g: normalised(x[t >= 0], t[t >= 0], a, g), "the background is missing"),
    "zero without objects": (
        lambda x, t, a, g: torch.nan_to_num(normalised(x, t, a, g) * ((t >= 0).sum() > 0)),
        "so nobody ever unlearns them",
    ),
    "not clamped": (divided(lambda x, t: (t >= 0).sum()), "0 / 0 is nan"),
    "float32": (lambda x, t, a, g: normalised(x.float(), t, a, g), "keep the type of the input"),
    "detached": (lambda x, t, a, g: normalised(x.detach(), t, a, g), "no gradient reaches"),
    "no return": (lambda x, t, a, g: None, "returned nothing"),
}

EXERCISES = {
    "02-1: 9": (checks.focal_loss, RIGHT_FOCAL, WRONG_FOCAL),
    "02-2: 7": (checks.focal_gradient, RIGHT_SLOPE, WRONG_SLOPE),
    "02-3: 6": (checks.prior_bias, RIGHT_BIAS, WRONG_BIAS),
    "02-4: 8": (checks.class_loss, RIGHT_CLASS, WRONG_CLASS),
}

TestExercises = exercise_tests(EXERCISES)


def test_an_empty_image_that_divides_by_zero_gets_the_hint() -> None:
    def answer(x: Tensor, labels: Tensor, alpha: float, gamma: float) -> Tensor:
        return normalised(x, labels, alpha, gamma) * (1 / int((labels >= 0).sum()) * int((labels >= 0).sum()))

    with pytest.raises(ZeroDivisionError) as caught:
        checks.class_loss(answer)
    assert "an image without objects has a loss" in caught.value.__notes__[0]


def test_one_hot_of_a_negative_label_gets_the_hint() -> None:
    def answer(x: Tensor, labels: Tensor, alpha: float, gamma: float) -> Tensor:
        return total(x, F.one_hot(labels, x.shape[1]), alpha, gamma)

    with pytest.raises(RuntimeError) as caught:
        checks.class_loss(answer)
    assert "compare the labels with torch.arange(K)" in caught.value.__notes__[0]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_the_reference_slope_is_that_of_the_library(gamma: float) -> None:
    z = torch.linspace(-30, 30, 121, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(sigmoid_focal_loss(z, torch.ones_like(z), None, gamma, "sum"), z)
    assert torch.allclose(_slope(z.detach(), gamma), expected, atol=1e-12)
