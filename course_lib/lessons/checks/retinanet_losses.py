"""Checks of lesson 05, the training: a head's output as rows of anchors, and the losses of a batch."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.lessons.checks.base import Exercise
from course_lib.lessons.checks.inputs import normal
from course_lib.ops.losses import focal_loss_from_labels, sigmoid_focal_loss, smooth_l1
from course_lib.ops.matching import IGNORED

# ---- 05-1 ---------------------------------------------------------------------------------------------------------


def anchor_rows(function: Callable[[Tensor, int], Tensor]) -> None:
    """Exercise 05-1: `anchor_rows(x, outputs)`, a map (B, A·K, H, W), gives a row of K numbers an anchor (B, H·W·A, K).

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("05-1", function, reference=_rows, mistakes=_ROWS_MISTAKES)
    small = torch.tensor([[0.0, 1, 2], [10, 11, 12], [20, 21, 22], [30, 31, 32]]).reshape(1, 4, 1, 3)
    by_hand = torch.tensor([[0.0, 10], [20, 30], [1, 11], [21, 31], [2, 12], [22, 32]])[None]
    check.value("one row of three places, A = 2, K = 2", small, 2, expected=by_hand)
    large = normal(2, 12, 3, 5, seed=0)
    check.shape("two images, A = 3, K = 4, a grid of 3 × 5", large, 4)
    check.dtype("two images, A = 3, K = 4, a grid of 3 × 5", large, 4)
    check.value("two images, A = 3, K = 4, a grid of 3 × 5", large, 4)
    check.value("four deltas an anchor", normal(2, 24, 4, 3, seed=1), 4)
    check.gradient("the gradient", large, 4)
    check.done()


def _rows(x: Tensor, outputs: int) -> Tensor:
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch, height * width * (channels // outputs), outputs)


def _split(x: Tensor, outputs: int, *order: int) -> Tensor:
    """The map as (B, A, K, H, W), its axes in another order, as rows of K."""
    batch, channels, height, width = x.shape
    split = x.reshape(batch, channels // outputs, outputs, height, width)
    return split.permute(*order).reshape(batch, -1, outputs)


def _class_major(x: Tensor, outputs: int) -> Tensor:
    batch, channels, height, width = x.shape
    split = x.reshape(batch, outputs, channels // outputs, height, width)
    return split.permute(0, 3, 4, 2, 1).reshape(batch, -1, outputs)


_ROWS_MISTAKES = {
    "you reshaped without moving the channels to the end, so a row holds neighbouring places of one channel: "
    "the shape is right, the numbers belong to other anchors; permute to (B, H, W, A·K) first": (
        lambda x, outputs: x.reshape(len(x), -1, outputs)
    ),
    "you cut the numbers into K parts before the channels were moved, so a row mixes anchors; permute first": (
        lambda x, outputs: x.reshape(len(x), outputs, -1).mT
    ),
    "your grid runs column by column; anchors are listed row by row, so H comes before W": (
        lambda x, outputs: x.permute(0, 3, 2, 1).reshape(len(x), -1, outputs)
    ),
    "your rows list one anchor over the whole grid, then the next; the anchors of one place stand together": (
        lambda x, outputs: _split(x, outputs, 0, 1, 3, 4, 2)
    ),
    "your rows mix anchors: channels come anchor by anchor, the K numbers of one anchor side by side": _class_major,
    "the last axis must have K numbers, one for each output; yours has the A anchors": (
        lambda x, outputs: x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1] // outputs)
    ),
    "the last axis still has all A·K channels of a place; split it into A rows of K": (
        lambda x, outputs: x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1])
    ),
    "the images of the batch are run together; the first axis stays B": lambda x, outputs: _rows(x, outputs).flatten(
        0, 1
    ),
    "the last two axes are swapped: one row for each anchor, K numbers in it": lambda x, outputs: _rows(x, outputs).mT,
    "leave the numbers as they are: losses and thresholds work on logits, and deltas are no probabilities": (
        lambda x, outputs: _rows(x, outputs).sigmoid()
    ),
}

# ---- 05-2 ---------------------------------------------------------------------------------------------------------

_NO_POSITIVES = "a batch without an object has no positives, and you divided by 0: divide by 1 at least (clamp)"


def batch_losses(function: Callable[[Tensor, Tensor, Tensor, Tensor], tuple]) -> None:
    """Exercise 05-2: `batch_losses(logits, deltas, labels, targets)` gives the classification and the box loss.

    logits (B, A, K), deltas (B, A, 4), labels (B, A) with −1 background and −2 ignored, targets (P, 4).
    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("05-2", function, reference=_batch_losses, mistakes=_LOSS_MISTAKES)
    labels = torch.tensor([[1, -1, 1, -2], [-1, 1, 0, -1]])  # each count is another: all, kept, images, classes > 0
    logits, deltas = torch.zeros(2, 4, 2), torch.zeros(2, 4, 4)
    targets = torch.tensor([[0.5, -0.5, 0, 0], [0, 0, 1, 2], [0, 0, 0, 2.0], [0, 1, 0, 0]])
    check.shape("two images, 4 positives", logits, deltas, labels, targets)
    # At p = 0.5 a right class costs 0.25 · 0.5² · ln 2, each of the 10 zeros 0.75 · 0.5² · ln 2.
    expected = ((4 * 0.25 + 10 * 0.75) * 0.25 * math.log(2) / 4, (1 + 3 + 2 + 1) / 4)
    check.value("every score 0.5, 4 positives", logits, deltas, labels, targets, expected=expected)
    many = normal(3, 50, 4, seed=0)
    generator = torch.Generator().manual_seed(1)
    there = torch.randint(-2, 4, (3, 50), generator=generator).where(torch.rand(3, 50, generator=generator) < 0.3, -1)
    there[2] = -1  # an image without objects
    positives = int((there >= 0).sum())
    arguments = many, normal(3, 50, 4, seed=2), there, normal(positives, 4, seed=3)
    check.value("three images, one of them empty", *arguments)
    check.gradient("the gradient by the logits", *arguments)
    nothing = many[2:], arguments[1][2:], there[2:], targets[:0].double()
    check.value("no object in the batch (P = 0)", *nothing, hint=_NO_POSITIVES)
    check.done()


def _batch_losses(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    classification, box = _sums(logits, deltas, labels, targets)
    positives = (labels >= 0).sum().clamp(min=1)
    return classification / positives, box / positives


def _sums(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor, **focal) -> tuple[Tensor, Tensor]:
    """Both losses before they are divided."""
    box = (deltas[labels >= 0] - targets).abs().sum()
    return focal_loss_from_labels(logits, labels, **focal), box


def _divided(by: Callable[[Tensor], Tensor], box_by: Callable[[Tensor], Tensor] | None = None, **focal) -> Callable:
    """Losses divided by numbers made of the labels."""

    def losses(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        classification, box = _sums(logits, deltas, labels, targets, **focal)
        return classification / by(labels), box / (box_by or by)(labels)

    return losses


def _with_labels(change: Callable[[Tensor], Tensor]) -> Callable:
    """Losses whose classification sees other labels."""

    def losses(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        positives = (labels >= 0).sum().clamp(min=1)
        box = _sums(logits, deltas, labels, targets)[1]
        return focal_loss_from_labels(logits, change(labels)) / positives, box / positives

    return losses


def _counted_from_the_end(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    one_hot = F.one_hot(labels % logits.shape[-1], logits.shape[-1])
    positives = (labels >= 0).sum().clamp(min=1)
    kept = labels != IGNORED
    classification = sigmoid_focal_loss(logits[kept], one_hot[kept], reduction="sum")
    return classification / positives, _sums(logits, deltas, labels, targets)[1] / positives


def _image_by_image(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    parts = zip(logits, deltas, labels, targets.split((labels >= 0).sum(1).tolist()))
    means = [torch.stack(_batch_losses(*part)) for part in parts]
    classification, box = torch.stack(means).mean(0)
    return classification, box


def _smooth(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    positives = (labels >= 0).sum().clamp(min=1)
    box = smooth_l1(deltas[labels >= 0], targets, beta=1.0).sum()
    return focal_loss_from_labels(logits, labels) / positives, box / positives


def _squared(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    box = (deltas[labels >= 0] - targets).square().sum()
    return focal_loss_from_labels(logits, labels) / _positives(labels), box / _positives(labels)


def _positives(labels: Tensor) -> Tensor:
    return (labels >= 0).sum().clamp(min=1)


_LOSS_MISTAKES = {
    "you divided by all anchors; easy background adds next to nothing to the sum, so it must not shrink it: "
    "divide by the positives": _divided(lambda y: torch.tensor(y.numel())),
    "you divided by all anchors that are not ignored; divide by the positives, labels ≥ 0": (
        _divided(lambda y: (y != IGNORED).sum())
    ),
    "you divided by the number of images; an image with ten objects would weigh ten times one with one: "
    "divide by the positives": _divided(lambda y: torch.tensor(len(y))),
    "class 0 is a class: the positives are the labels ≥ 0, not those > 0": _divided(
        lambda y: (y > 0).sum().clamp(min=1)
    ),
    "you gave back sums; divide both by the positives": _divided(lambda y: torch.tensor(1)),
    "you divided each image by its own positives and took the mean, as torchvision does; here both sums are divided "
    "by the positives of the whole batch": _image_by_image,
    _NO_POSITIVES: _divided(lambda y: (y >= 0).sum()),
    "you divided the box loss by four times the positives: add the four deltas of an anchor up, do not average them": (
        _divided(_positives, lambda y: 4 * _positives(y))
    ),
    "the box loss is a sum still; divide it by the positives too": _divided(_positives, lambda y: torch.tensor(1)),
    "anchors with label −2 are ignored: they belong neither to a class nor to background": (
        _with_labels(lambda y: y.clamp(min=-1))
    ),
    "background is missing from the classification loss: only anchors with label −2 stay out": (
        _with_labels(lambda y: y.where(y >= 0, IGNORED))
    ),
    "label −1 was used as an index, and −1 means the last class: a background anchor has a target of 0 everywhere": (
        _counted_from_the_end
    ),
    "the weight α is missing: 0.25 where the target is 1, 0.75 where it is 0": _divided(_positives, alpha=None),
    "the weights α are the wrong way round: 0.25 where the target is 1, 0.75 where it is 0": (
        _divided(_positives, alpha=0.75)
    ),
    "that is cross entropy, γ = 0; the focal loss has γ = 2": _divided(_positives, gamma=0.0),
    "the two losses are swapped: classification first": lambda *arguments: _batch_losses(*arguments)[::-1],
    "you squared the differences; the box loss adds up their absolute values": _squared,
    "sigmoid_focal_loss takes logits; you passed it probabilities, and it took their sigmoid once more": (
        lambda x, *others: _batch_losses(x.sigmoid(), *others)
    ),
    "your box loss is quadratic near 0 (smooth L1); here it is the plain absolute difference": _smooth,
}
