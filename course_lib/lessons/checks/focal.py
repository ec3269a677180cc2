"""Checks of lesson 02: the focal loss on logits, its gradient, the prior bias, the normalised loss of an image."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.lessons.checks.base import Exercise
from course_lib.ops.losses import sigmoid_focal_loss
from course_lib.ops.matching import BACKGROUND, IGNORED

_LOG9 = math.log(9.0)  # the logit of 0.9; that of 0.1 is −log 9

# ---- 02-1 ---------------------------------------------------------------------------------------------------------

_ONE_NUMBER = "add the losses of all entries up: the answer is one number, a tensor without dimensions"
_LOGITS = (
    "σ(100) is exactly 1 in floats and σ(−100) nearly 0, so no formula with probabilities is safe here, and a clamp or "
    "an added 1e-7 makes the gradient 0: take log p_t straight from the logits, with F.logsigmoid"
)


def focal_loss(function: Callable[[Tensor, Tensor, float, float], Tensor]) -> None:
    """Exercise 02-1: `focal_loss(logits, targets, alpha, gamma)`, two tensors of any one shape, gives the summed loss.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("02-1", function, reference=_focal_sum, mistakes=_FOCAL_MISTAKES)
    logits, targets = torch.tensor([[-_LOG9, -_LOG9], [-_LOG9, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    check.shape("four entries", logits, targets, 0.25, 2.0, hint=_ONE_NUMBER)
    check.dtype("four entries in float64", logits.double(), targets.double(), 0.25, 2.0)
    log = math.log
    # p_t is 0.1 at the object, 0.9, 0.9 and 0.5 at the background
    worked_out = -0.25 * 0.81 * log(0.1) - 0.75 * (2 * 0.01 * log(0.9) + 0.25 * log(0.5))
    check.value("four entries, α = 0.25, γ = 2", logits, targets, 0.25, 2.0, expected=torch.tensor(worked_out))
    entropy = -0.4 * log(0.1) - 0.6 * (2 * log(0.9) + log(0.5))
    check.value("γ = 0, weighted cross entropy", logits, targets, 0.4, 0.0, expected=torch.tensor(entropy))
    sure, wrong = torch.tensor([100.0, -100.0, 100.0]), torch.tensor([0.0, 1.0, 1.0])
    check.value("logits of ±100", sure, wrong, 0.25, 2.0, expected=torch.tensor(100.0), hint=_LOGITS)
    check.gradient("the gradient at logits of ±100", sure.double(), wrong.double(), 0.25, 2.0)
    generator = torch.Generator().manual_seed(0)
    many = 3 * torch.randn(40, 5, dtype=torch.float64, generator=generator)
    ones = (torch.rand(40, 5, generator=generator) < 0.2).double()
    # 0.375 is exact in float32, which is what torch.where makes of two plain numbers
    check.value("40 random anchors of 5 classes, γ = 1.5", many, ones, 0.375, 1.5)
    check.gradient("the gradient by the logits", many, ones, 0.25, 2.0)
    check.value("no entries at all", logits[:0], targets[:0], 0.25, 2.0, expected=torch.tensor(0.0))
    check.done()


def _terms(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    return sigmoid_focal_loss(logits, targets, alpha, gamma)


def _focal_sum(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    return _terms(logits, targets, alpha, gamma).sum()


def _right(logits: Tensor, targets: Tensor) -> Tensor:
    """p_t, the probability that is given to the truth."""
    return torch.where(targets > 0.5, logits, -logits).sigmoid()


def _weights(targets: Tensor, alpha: float) -> Tensor:
    return alpha * targets + (1 - alpha) * (1 - targets)


def _composed(weight: Callable[[Tensor, float], Tensor], log: Callable[[Tensor], Tensor] = torch.log) -> Callable:
    """A summed focal loss from probabilities, its modulating factor weight(p_t, gamma), its logarithm log(p_t)."""

    def answer(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
        p_t = _right(logits, targets)
        return -(_weights(targets, alpha) * weight(p_t, gamma) * log(p_t)).sum()

    return answer


def _clamped(epsilon: float) -> Callable:
    """The focal loss of probabilities clamped to epsilon … 1 − epsilon."""

    def answer(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
        p = logits.sigmoid().clamp(epsilon, 1 - epsilon)
        p_t = torch.where(targets > 0.5, p, 1 - p)
        return -(_weights(targets, alpha) * (1 - p_t) ** gamma * p_t.log()).sum()

    return answer


def _two_terms(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    p = logits.sigmoid()
    ones = alpha * targets * (1 - p) ** gamma * p.log()
    return -(ones + (1 - alpha) * (1 - targets) * p**gamma * (1 - p).log()).sum()


_CLAMPED = "a clamped probability has no gradient beyond the clamp: use F.logsigmoid on the logits, and no clamp"
_FOCAL_MISTAKES = {  # first those that agree with the reference but for large logits
    f"{_LOGITS} (log 0 is −∞)": _composed(lambda p, gamma: (1 - p) ** gamma),
    f"{_LOGITS} (0 · ∞ is nan)": _two_terms,
    **{f"{_CLAMPED} ({epsilon:g})": _clamped(epsilon) for epsilon in (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)},
    "the weights are swapped: α belongs to the ones, 1 − α to the zeros": (
        lambda x, y, alpha, gamma: _focal_sum(x, y, 1 - alpha, gamma)
    ),
    "every entry has the weight α; the zeros need 1 − α": (
        lambda x, y, alpha, gamma: alpha * _focal_sum(x, y, -1.0, gamma)
    ),
    "α is missing: weigh the ones by α and the zeros by 1 − α": (
        lambda x, y, alpha, gamma: _focal_sum(x, y, -1.0, gamma)
    ),
    "only the ones are weighed by α; the zeros need 1 − α": (
        lambda x, y, alpha, gamma: ((1 + (alpha - 1) * y) * _terms(x, y, -1.0, gamma)).sum()
    ),
    "the zeros are missing: background has a loss too, with p_t = σ(−logit)": (
        lambda x, y, alpha, gamma: (y * _terms(x, y, alpha, gamma)).sum()
    ),
    "that is weighted cross entropy: the factor (1 − p_t)^γ is missing": (
        lambda x, y, alpha, gamma: _focal_sum(x, y, alpha, 0.0)
    ),
    "your factor is p_t^γ, large for the easy ones; it must be (1 − p_t)^γ": _composed(lambda p, gamma: p**gamma),
    "the factor is (1 − p_t) to the power γ, not times γ": _composed(lambda p, gamma: gamma * (1 - p)),
    "the targets are swapped: a 1 means that the class is there, and then p_t is σ(logit)": (
        lambda x, y, alpha, gamma: _focal_sum(-x, y, alpha, gamma)
    ),
    "you took σ(logit) for p_t everywhere; where the target is 0 it is σ(−logit)": (
        lambda x, y, alpha, gamma: _composed(lambda p, g: (1 - p) ** g)(torch.where(y > 0.5, x, -x), y, alpha, gamma)
    ),
    "the factor was made of σ(logit) before p_t was chosen; where the target is 0 it is σ(−logit)": (
        lambda x, y, alpha, gamma: (_weights(y, alpha) * (1 - x.sigmoid()) ** gamma * _terms(x, y, -1.0, 0.0)).sum()
    ),
    "the sigmoid was taken twice; `logits` go into it once": (
        lambda x, y, alpha, gamma: _focal_sum(x.sigmoid(), y, alpha, gamma)
    ),
    "the minus sign is missing: a logarithm of a probability is negative, a loss is not": (
        lambda x, y, alpha, gamma: -_focal_sum(x, y, alpha, gamma)
    ),
    "you averaged; give back the sum, it is divided later": lambda x, y, alpha, gamma: _terms(
        x, y, alpha, gamma
    ).mean(),
    "give back the sum of all entries, not one loss each": _terms,
    "give back the sum of all entries, not one sum each anchor": lambda x, y, alpha, gamma: _terms(
        x, y, alpha, gamma
    ).sum(-1),
    "the factor is cut off from the gradient; it depends on the logits as the logarithm does": (
        lambda x, y, alpha, gamma: (_terms(x, y, alpha, 0.0) * (1 - _right(x, y).detach()) ** gamma).sum()
    ),
}

# ---- 02-2 ---------------------------------------------------------------------------------------------------------

_AT_INFINITY = "p_t is 0 there and log p_t is −∞ when it comes from p_t; take it from z, with F.logsigmoid"
_PRODUCT = "the factor (1 − p_t)^γ depends on z too: the product rule gives a second part, with γ p_t log p_t"


def focal_gradient(function: Callable[[Tensor, float], Tensor]) -> None:
    """Exercise 02-2: `focal_gradient(z, gamma)`, logits of the truth (N,), gives d FL / d z (N,), without α.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("02-2", function, reference=_slope, mistakes=_SLOPE_MISTAKES)
    z = torch.tensor([0.0, _LOG9, -_LOG9])
    check.shape("three logits", z, 2.0)
    check.dtype("three logits in float64", z.double(), 2.0)
    log = math.log
    worked_out = [  # p_t is 0.5, 0.9, 0.1
        0.25 * (2 * 0.5 * log(0.5) - 0.5),
        0.01 * (2 * 0.9 * log(0.9) - 0.1),
        0.81 * (2 * 0.1 * log(0.1) - 0.9),
    ]
    check.value("p_t of 0.5, 0.9 and 0.1, γ = 2", z, 2.0, expected=torch.tensor(worked_out))
    check.value("γ = 0, cross entropy", z, 0.0, expected=torch.tensor([-0.5, -0.1, -0.9]))
    many = torch.linspace(-8, 8, 65, dtype=torch.float64)
    check.value("65 logits from −8 to 8, γ = 1.5", many, 1.5)
    check.value("no logits (N = 0)", z[:0], 2.0)
    far = torch.tensor([-200.0, 200.0])
    check.value("logits of ±200", far, 2.0, expected=torch.tensor([-1.0, 0.0]), hint=_AT_INFINITY)
    check.done()


def _slope(z: Tensor, gamma: float) -> Tensor:
    p = z.sigmoid()
    return (-z).sigmoid() ** gamma * (gamma * p * F.logsigmoid(z) - (-z).sigmoid())


_SLOPE_MISTAKES = {
    _PRODUCT: lambda z, gamma: -((1 - z.sigmoid()) ** (gamma + 1)),
    "that is the derivative of cross entropy; the focal loss has the factor (1 − p_t)^γ as well": (
        lambda z, gamma: z.sigmoid() - 1 + 0 * gamma
    ),
    "the sign is wrong: a larger z is more right, so the loss falls and the slope is negative": (
        lambda z, gamma: -_slope(z, gamma)
    ),
    "that is the derivative by p_t; by z it has dp_t/dz = p_t (1 − p_t) as a further factor": (
        lambda z, gamma: _slope(z, gamma) / (z.sigmoid() * (1 - z.sigmoid()))
    ),
    "only the factor was differentiated; −log p_t has the derivative −(1 − p_t) by z": (
        lambda z, gamma: (1 - z.sigmoid()) ** gamma * gamma * z.sigmoid() * F.logsigmoid(z)
    ),
    "the first part has the wrong sign: the factor falls as z rises, and log p_t is negative": (
        lambda z, gamma: -((-z).sigmoid() ** gamma) * (gamma * z.sigmoid() * F.logsigmoid(z) + (-z).sigmoid())
    ),
    "d(1 − p_t)^γ is γ (1 − p_t)^(γ − 1) times −p_t (1 − p_t); you left −p_t (1 − p_t) out": (
        lambda z, gamma: gamma * (1 - z.sigmoid()) ** (gamma - 1) * F.logsigmoid(z) - (1 - z.sigmoid()) ** (gamma + 1)
    ),
    "γ p_t log p_t has lost its p_t: dp_t/dz is p_t (1 − p_t)": (
        lambda z, gamma: (1 - z.sigmoid()) ** gamma * (gamma * F.logsigmoid(z) - (1 - z.sigmoid()))
    ),
    "γ is missing before p_t log p_t: the power γ comes down as a factor": (
        lambda z, gamma: (1 - z.sigmoid()) ** gamma * (z.sigmoid() * F.logsigmoid(z) - (1 - z.sigmoid()))
    ),
    "1 / p_t is the derivative of log p_t by p_t; by z it is 1 − p_t": (
        lambda z, gamma: (1 - z.sigmoid()) ** gamma * (gamma * z.sigmoid() * F.logsigmoid(z) - 1 / z.sigmoid())
    ),
    "z is a logit; p_t is σ(z)": lambda z, gamma: (1 - z) ** gamma * (gamma * z * z.log() - (1 - z)),
    "that is the loss; its derivative by z is asked for": lambda z, gamma: -((-z).sigmoid() ** gamma) * F.logsigmoid(z),
    "give back one slope for each logit, not their sum": lambda z, gamma: _slope(z, gamma).sum(),
    "give back one slope for each logit, not their mean": lambda z, gamma: _slope(z, gamma).mean(),
}

# ---- 02-3 ---------------------------------------------------------------------------------------------------------


def prior_bias(function: Callable[[float], float]) -> None:
    """Exercise 02-3: `prior_bias(prior)` gives the number whose sigmoid is the prior, 0 < prior < 1.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("02-3", function, reference=_bias, mistakes=_BIAS_MISTAKES)
    check.shape("π = 0.5", 0.5, hint="one number in, one number out")
    check.value("π = 0.1, odds of one to nine", 0.1, expected=-_LOG9)
    check.value("π = 0.5, where both are alike", 0.5, expected=0.0)
    check.value("π = 0.01, RetinaNet's", 0.01, expected=-math.log(99))
    check.value("π = 0.9", 0.9, expected=_LOG9)
    check.value("π = 1e-6", 1e-6, expected=-math.log(999_999))
    check.done()


def _bias(prior: float) -> float:
    return math.log(prior / (1 - prior))


_BIAS_MISTAKES = {
    "the sign is wrong: a small prior needs a negative bias": lambda prior: -_bias(prior),
    "that is log π; the sigmoid of it is π / (1 + π), so put 1 − π under π": lambda prior: math.log(prior),
    "that is log(1 − π); divide π by 1 − π": lambda prior: math.log(1 - prior),
    "that is −log π, the loss at the start; the bias is log of π / (1 − π)": lambda prior: -math.log(prior),
    "those are the odds, π / (1 − π); take their logarithm": lambda prior: prior / (1 - prior),
    "those are the odds against it, (1 − π) / π; take minus their logarithm": lambda prior: (1 - prior) / prior,
    "take the natural logarithm, not the one to base 10": lambda prior: _bias(prior) / math.log(10),
    "take the natural logarithm, not the one to base 2": lambda prior: _bias(prior) / math.log(2),
    "you took the sigmoid of π; its inverse is asked for": lambda prior: 1 / (1 + math.exp(-prior)),
    "that is π itself; the bias goes through a sigmoid, so it must be the logit of π": lambda prior: prior,
}

# ---- 02-4 ---------------------------------------------------------------------------------------------------------

_NO_ONE_HOT = f"{_ONE_NUMBER}; F.one_hot takes no −1 and no −2: compare the labels with torch.arange(K) instead"
_EMPTY_IMAGE = "an image without objects has a loss, its false alarms: divide by at least 1"


def class_loss(function: Callable[[Tensor, Tensor, float, float], Tensor]) -> None:
    """Exercise 02-4: `class_loss(logits, labels, alpha, gamma)`, (A, K) and (A,), gives the normalised loss.

    Labels are a class 0 … K−1, −1 for background, −2 for left out. Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("02-4", function, reference=_class_loss, mistakes=_CLASS_MISTAKES)
    logits = torch.tensor([[1.0, -1.0], [0.0, -1.0], [-1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]] + 3 * [[0.0, 0.0]])
    logits = logits * _LOG9
    labels = torch.tensor([0, 1, 1, BACKGROUND, BACKGROUND, IGNORED, IGNORED, IGNORED])
    check.shape("eight anchors, two classes", logits, labels, 0.25, 2.0, hint=_NO_ONE_HOT)
    check.dtype("eight anchors in float64", logits.double(), labels, 0.25, 2.0)
    sure, torn, wrong = (-((1 - p) ** 2) * math.log(p) for p in (0.9, 0.5, 0.1))  # FL at p_t of 0.9, 0.5, 0.1
    ones = 0.25 * (sure + wrong + sure)
    zeros = 0.75 * (sure + torn + sure + (sure + wrong) + (sure + sure))
    by_hand = torch.tensor((ones + zeros) / 3)
    check.value("three on objects, two background, three left out", logits, labels, 0.25, 2.0, expected=by_hand)
    generator = torch.Generator().manual_seed(0)
    many = 2 * torch.randn(60, 4, dtype=torch.float64, generator=generator) - 2
    kinds = torch.randint(-8, 4, (60,), generator=generator).clamp(min=IGNORED)
    kinds[kinds == IGNORED] = torch.where(torch.rand(int((kinds == IGNORED).sum()), generator=generator) < 0.8, -1, -2)
    check.value("60 random anchors of 4 classes", many, kinds, 0.25, 2.0)
    check.gradient("the gradient by the logits", many, kinds, 0.25, 2.0)
    nothing = torch.full_like(kinds, BACKGROUND)
    check.value("an image without objects", many, nothing, 0.25, 2.0, hint=_EMPTY_IMAGE)
    check.gradient("its gradient", many, nothing, 0.25, 2.0)
    check.value("no anchors (A = 0)", many[:0], kinds[:0], 0.25, 2.0, expected=torch.tensor(0.0), hint=_EMPTY_IMAGE)
    check.done()


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    """Targets (A, K): a row of zeros for background and for what is left out."""
    return (labels.unsqueeze(1) == torch.arange(classes)).double()


def _loss_sum(logits: Tensor, labels: Tensor, alpha: float, gamma: float, targets: Tensor | None = None) -> Tensor:
    """Summed over the anchors that are not left out."""
    targets = _one_hot(labels, logits.shape[1]) if targets is None else targets
    used = labels != IGNORED
    return _focal_sum(logits[used], targets[used].to(logits.dtype), alpha, gamma)


def _positives(labels: Tensor) -> Tensor:
    return (labels >= 0).sum()


def _class_loss(logits: Tensor, labels: Tensor, alpha: float, gamma: float) -> Tensor:
    return _loss_sum(logits, labels, alpha, gamma) / _positives(labels).clamp(min=1)


def _divided(by: Callable[[Tensor, Tensor], Tensor | float]) -> Callable:
    """The summed loss over by(logits, labels)."""
    return lambda x, labels, alpha, gamma: _loss_sum(x, labels, alpha, gamma) / by(x, labels)


def _no_nan(x: Tensor, labels: Tensor, alpha: float, gamma: float) -> Tensor:
    return _class_loss(x, labels, alpha, gamma) if (labels >= 0).any() else x.sum() * 0


_CLASS_MISTAKES = {
    f"{_EMPTY_IMAGE} (you made it 0, so nobody ever unlearns them)": _no_nan,
    f"{_EMPTY_IMAGE} (a number over 0 is ∞, and 0 / 0 is nan)": _divided(lambda x, labels: _positives(labels)),
    "you divided by all anchors; divide by those on objects: the easy background adds nothing to the sum": (
        _divided(lambda x, labels: len(labels))
    ),
    "you divided by all anchors that are not left out; divide by those on objects": (
        _divided(lambda x, labels: (labels != IGNORED).sum().clamp(min=1))
    ),
    "you averaged over all anchors and classes; add up, then divide by the anchors on objects": (
        _divided(lambda x, labels: max(1, x[labels != IGNORED].numel()))
    ),
    "class 0 is a class: anchors on objects are those with labels >= 0, not > 0": (
        _divided(lambda x, labels: (labels > 0).sum().clamp(min=1))
    ),
    "anchors with label −2 are left out, and no objects: count labels >= 0, not labels != −1": (
        _divided(lambda x, labels: (labels != BACKGROUND).sum().clamp(min=1))
    ),
    f"{_EMPTY_IMAGE} (you added a small number to the divisor instead)": (
        _divided(lambda x, labels: _positives(labels) + 1e-6)
    ),
    "you did not divide; divide by the number of anchors on objects": _loss_sum,
    "you added 1 to the number of anchors on objects; 1 is its least value: clamp(min=1)": (
        _divided(lambda x, labels: _positives(labels) + 1)
    ),
    "anchors with label −2 are left out: they are neither object nor background": (
        lambda x, labels, alpha, gamma: _class_loss(x, labels.clamp(min=BACKGROUND), alpha, gamma)
    ),
    "the codes are swapped: −1 is background and has a loss, −2 is left out": (
        lambda x, labels, alpha, gamma: (
            _loss_sum(x, torch.where(labels < 0, -3 - labels, labels), alpha, gamma) / _positives(labels).clamp(min=1)
        )
    ),
    "background has no class: as an index, −1 is the last one; its row of targets is all 0": (
        lambda x, labels, alpha, gamma: (
            _loss_sum(x, labels, alpha, gamma, _one_hot(labels % x.shape[1], x.shape[1]))
            / _positives(labels).clamp(min=1)
        )
    ),
    "background became class 0; its row of targets is all 0": (
        lambda x, labels, alpha, gamma: (
            _loss_sum(x, labels, alpha, gamma, _one_hot(labels.clamp(min=0), x.shape[1]))
            / _positives(labels).clamp(min=1)
        )
    ),
    "the background is missing: its anchors have a loss too": (
        lambda x, labels, alpha, gamma: _class_loss(x[labels >= 0], labels[labels >= 0], alpha, gamma)
    ),
}
