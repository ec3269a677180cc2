"""Checks of lesson 09's first half: the balanced sample, and the second look at each proposal."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.lessons.checks.base import Exercise
from course_lib.lessons.checks.inputs import normal
from course_lib.ops.boxes import xywh_to_xyxy
from course_lib.ops.coder import decode

Drawn = tuple[Tensor, Tensor]  # indices of objects' anchors (P,) and of background (N,)
Found = tuple[Tensor, Tensor, Tensor]  # boxes (N, 4), scores (N,), labels (N,)

# ---- 09-1 ---------------------------------------------------------------------------------------------------------

_NO_OBJECTS = "an image without objects is ordinary: then the whole sample is background"


def balanced_sample(function: Callable[[Tensor, Tensor, int, float], Drawn]) -> None:
    """Exercise 09-1: `balanced_sample(labels, luck, size, fraction)`: indices of objects (P,) and background (N,).

    labels (A,) int64: 0 an object, −1 background, −2 left out. luck (A,): in both groups those with the least are
    drawn, in this order. At most size · fraction are objects, background fills up. Raises CheckFailed at the first
    wrong answer.
    """
    check = Exercise("09-1", function, reference=_sample, mistakes=_SAMPLE_MISTAKES)
    labels = torch.tensor([-1, 0, -1, -2, 0, -1, 0, -1, -2, -1])
    luck = torch.tensor([0.8, 0.7, 0.3, 0.1, 0.9, 0.42, 0.55, 0.5, 0.0, 0.4])
    what = "10 anchors, 3 of them objects', a sample of 4"
    check.shape(what, labels, luck, 4, 0.5)
    # Objects 6, 1, 4 by luck: the first two. Background 2, 9, 5, 7, 0: the first two.
    check.value(what, labels, luck, 4, 0.5, expected=(torch.tensor([6, 1]), torch.tensor([2, 9])))
    # At most five objects are wanted, three are there: seven places for background, of which there are five.
    both = torch.tensor([6, 1, 4]), torch.tensor([2, 9, 5, 7, 0])
    check.value("a sample of 10, more than there are", labels, luck, 10, 0.5, expected=both)
    # One object at most (7 · 0.25 = 1.75, rounded down), background fills the other six places as far as it goes.
    check.value("a quarter of a sample of 7", labels, luck, 7, 0.25)
    generator = torch.Generator().manual_seed(0)
    many = torch.randint(-2, 1, (600,), generator=generator)
    few = torch.where(torch.arange(600) % 40 == 0, 0, -1)
    chances = torch.rand(600, dtype=torch.float64, generator=generator)
    check.value("600 anchors, many objects, a sample of 64", many, chances, 64, 0.5)
    check.value("600 anchors, 15 of objects, a sample of 64", few, chances, 64, 0.5)
    check.value("no objects", torch.full((20,), -1), chances[:20], 8, 0.5, hint=_NO_OBJECTS)
    check.value("no anchors (A = 0)", labels[:0], luck[:0], 8, 0.5, hint="two empty tensors of indices")
    check.done()


def _draw(
    *,
    background: Callable[[Tensor], Tensor] = lambda labels: labels == -1,
    most: Callable[[int, float, int], int] = lambda size, fraction, objects: min(int(size * fraction), objects),
    rest: Callable[[int, float, int], int] = lambda size, fraction, taken: size - taken,
    order: Callable[[Tensor], Tensor] = lambda luck: luck.argsort(),
) -> Callable:
    """A solution in its steps, one of them replaced."""

    def sample(labels: Tensor, luck: Tensor, size: int, fraction: float) -> Drawn:
        groups = (labels >= 0).nonzero().squeeze(1), background(labels).nonzero().squeeze(1)
        objects, others = (group[order(luck[group])] for group in groups)
        objects = objects[: most(size, fraction, len(objects))]
        return objects, others[: max(0, rest(size, fraction, len(objects)))]

    return sample


_sample = _draw()


def _within(labels: Tensor, luck: Tensor, size: int, fraction: float) -> Drawn:
    """Places in each group instead of anchors."""
    objects, others = _sample(labels, luck, size, fraction)
    ranks = [(luck[group]).argsort() for group in (labels >= 0, labels == -1)]
    return ranks[0][: len(objects)], ranks[1][: len(others)]


def _blind(labels: Tensor, luck: Tensor, size: int, fraction: float) -> Drawn:
    drawn = (labels > -2).nonzero().squeeze(1)
    drawn = drawn[luck[drawn].argsort()][:size]
    return drawn[labels[drawn] >= 0], drawn[labels[drawn] == -1]


def _in_order(labels: Tensor, luck: Tensor, size: int, fraction: float) -> Drawn:
    """Places in the order of luck instead of anchors."""
    sorted_labels = labels[luck.argsort()]
    objects = (sorted_labels >= 0).nonzero().squeeze(1)[: int(size * fraction)]
    return objects, (sorted_labels == -1).nonzero().squeeze(1)[: size - len(objects)]


def _by_number(labels: Tensor, luck: Tensor, size: int, fraction: float) -> Drawn:
    objects, others = _sample(labels, luck, size, fraction)
    return objects.sort().values, others.sort().values


def _yes_or_no(labels: Tensor, luck: Tensor, size: int, fraction: float) -> Drawn:
    anchors = torch.arange(len(labels))
    objects, others = _sample(labels, luck, size, fraction)
    return torch.isin(anchors, objects), torch.isin(anchors, others)


def _topk(labels: Tensor, luck: Tensor, size: int, fraction: float) -> Drawn:
    """As many as wanted, even where there are fewer."""

    def least(kind: int, count: int) -> Tensor:
        return luck.masked_fill(labels != kind, torch.inf).topk(count, largest=False).indices

    objects = least(0, int(size * fraction))
    return objects, least(-1, size - len(objects))


_SAMPLE_MISTAKES = {
    "left-out anchors (−2) are no background; only −1 is": _draw(background=lambda labels: labels < 0),
    "background fills up: it gets the places that objects leave free, size − P": (
        _draw(rest=lambda size, fraction, taken: size - int(size * fraction))
    ),
    "as much background as objects is another rule; here background fills the sample up": (
        _draw(rest=lambda size, fraction, taken: taken)
    ),
    "background would fill a sample of its own: its share is size − P, not size": (
        _draw(rest=lambda size, fraction, taken: size)
    ),
    "round size · fraction down: it is the most that may be drawn": (
        _draw(most=lambda size, fraction, objects: min(math.ceil(size * fraction), objects))
    ),
    "you took half of the sample, whatever the fraction": (
        _draw(most=lambda size, fraction, objects: min(size // 2, objects))
    ),
    "all objects are in your sample; at most size · fraction may be": (
        _draw(most=lambda size, fraction, objects: objects)
    ),
    "the fraction is of the sample, not of the objects that there are": (
        _draw(most=lambda size, fraction, objects: int(objects * fraction))
    ),
    "you drew without regard to the labels; then objects are as rare in the sample as among the anchors": _blind,
    "draw by luck, the least first; you took the first of each group": _draw(
        order=lambda luck: torch.arange(len(luck))
    ),
    "the least luck is drawn first, not the greatest": _draw(order=lambda luck: luck.argsort(descending=True)),
    "your numbers are places within each group; group[order] leads back to the anchors": _within,
    "your numbers are places in the order of luck; order[places] leads back to the anchors": _in_order,
    "these are the right anchors, sorted by number; leave them in the order of luck": _by_number,
    "give back the numbers of the drawn anchors, not True or False for each anchor": _yes_or_no,
    "of one kind there are fewer anchors than places; you filled the rest with others": _topk,
    "two tensors, not one: objects, background": lambda *arguments: torch.cat(_sample(*arguments)),
    "objects first, then background": lambda *arguments: _sample(*arguments)[::-1],
}


# ---- 09-2 ---------------------------------------------------------------------------------------------------------

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
_PAIRS = "background's column goes before you look for pairs, for it has no deltas; deltas[row, label] are then (N, 4)"
_NONE = "no score passes: give back three empty tensors, (0, 4), (0,) and (0,)"


def second_look(function: Callable[[Tensor, Tensor, Tensor, float], Found]) -> None:
    """Exercise 09-2: `second_look(logits, deltas, proposals, score)`: boxes, scores and labels of the second stage.

    logits (R, K + 1), the last column is background; deltas (R, K, 4), ten or five times too large; proposals (R, 4).
    A box for each pair of proposal and class above the score, proposal by proposal. Raises CheckFailed at the first
    wrong answer.
    """
    check = Exercise("09-2", function, reference=_look, mistakes=_LOOK_MISTAKES)
    # Probabilities of a car, a van and background.
    logits = torch.tensor([[0.5, 0.3, 0.2], [0.04, 0.06, 0.9], [0.02, 0.08, 0.9]]).log()
    proposals = torch.tensor([[0.0, 0, 10, 20], [40, 40, 60, 60], [10, 10, 30, 20]])
    deltas = torch.zeros(3, 2, 4)
    deltas[0, 0, 0], deltas[0, 1, 1] = 5.0, -2.0  # a car half a width to the right, a van a fifth of the height up
    boxes = torch.tensor([[5.0, 0, 15, 20], [0, -4, 10, 16], [10, 10, 30, 20]])
    expected = boxes, torch.tensor([0.5, 0.3, 0.08]), torch.tensor([0, 1, 1])
    what = "3 proposals, 2 classes, score > 0.07"
    check.shape(what, logits, deltas, proposals, 0.07, hint=_PAIRS)
    check.value(what, logits, deltas, proposals, 0.07, expected=expected)
    places = normal(40, 4, seed=2).abs() * torch.tensor([40.0, 40, 20, 20]) + 4
    many = normal(40, 6, seed=0) * 2, normal(40, 5, 4, seed=1), xywh_to_xyxy(places)
    check.value("40 random proposals, 5 classes", *many, 0.2)
    check.value("a threshold that no score passes", *many, 0.9999, hint=_NONE)
    check.value("no proposals (R = 0)", *(x[:0] for x in many), 0.2, hint=_NONE)
    check.done()


def _looks(
    *,
    scored: Callable[[Tensor], Tensor] = lambda logits: logits.softmax(1)[:, :-1],
    of: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda deltas, row, label: deltas[row, label],
    weights: tuple[float, ...] = WEIGHTS,
    boxes: Callable = decode,
) -> Callable:
    """A solution in its steps, one of them replaced."""

    def look(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> Found:
        scores = scored(logits)
        row, label = (scores > score).nonzero(as_tuple=True)
        return boxes(of(deltas, row, label), proposals[row], weights), scores[row, label], label

    return look


_look = _looks()


def _best_class(logits: Tensor) -> Tensor:
    scores = logits.softmax(1)[:, :-1]
    return scores.where(scores == scores.amax(1, keepdim=True), -1.0)


def _best_of_all(logits: Tensor) -> Tensor:
    scores = logits.softmax(1)
    return scores.where(scores == scores.amax(1, keepdim=True), -1.0)[:, :-1]


def _sorted(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> Found:
    boxes, scores, labels = _look(logits, deltas, proposals, score)
    order = scores.argsort(descending=True)
    return boxes[order], scores[order], labels[order]


def _by_class(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> Found:
    """Class after class, as a loop over classes gives them."""
    boxes, scores, labels = _look(logits, deltas, proposals, score)
    order = labels.argsort(stable=True)
    return boxes[order], scores[order], labels[order]


def _from_one(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> Found:
    boxes, scores, labels = _look(logits, deltas, proposals, score)
    return boxes, scores, labels + 1


def _rows(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> Found:
    boxes, scores, _ = _look(logits, deltas, proposals, score)
    return boxes, scores, (logits.softmax(1)[:, :-1] > score).nonzero(as_tuple=True)[0]


def _labels_second(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> Found:
    boxes, scores, labels = _look(logits, deltas, proposals, score)
    return boxes, labels, scores


_LOOK_MISTAKES = {
    "the second stage chooses one of K + 1 answers, so their probabilities sum to 1: a softmax, no sigmoid": (
        _looks(scored=lambda logits: logits.sigmoid()[:, :-1])
    ),
    "each row sums to 1, the answers about one proposal: softmax(1), not softmax(0)": (
        _looks(scored=lambda logits: logits.softmax(0)[:, :-1])
    ),
    "softmax first, then leave out background; without its column no proposal can be nothing": (
        _looks(scored=lambda logits: logits[:, :-1].softmax(1))
    ),
    "background is the last column here, not the first": _looks(scored=lambda logits: logits.softmax(1)[:, 1:]),
    "you kept one class for each proposal; each class above the score gives a box of its own": _looks(
        scored=_best_class
    ),
    "a class may be above the score though background is likelier": _looks(scored=_best_of_all),
    "the deltas are ten and five times too large: decode(deltas, proposals, (10, 10, 5, 5)) divides": (
        _looks(weights=(1.0, 1.0, 1.0, 1.0))
    ),
    "the weights divide the deltas, they do not multiply them": _looks(weights=tuple(1 / w for w in WEIGHTS)),
    "the weights are for dx, dy, dw, dh: 10, 10, 5, 5, in this order": _looks(weights=(5.0, 5.0, 10.0, 10.0)),
    "each class has deltas of its own: deltas[row, label]": _looks(of=lambda deltas, row, label: deltas[row, 0]),
    "your boxes are the proposals still; the deltas correct them": _looks(boxes=lambda d, p, w: p),
    "the order stays that of proposals and classes; NMS sorts later": _sorted,
    "row by row: all classes of the first proposal, then the next; yours go class by class": _by_class,
    "labels count from 0 here; background is the last": _from_one,
    "your labels are the rows; the class is the second result of nonzero": _rows,
    "give back boxes, scores, labels, in this order": _labels_second,
}
