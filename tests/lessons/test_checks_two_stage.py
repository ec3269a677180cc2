"""Lesson 09's checks of sample and second look pass right solutions, however written, and name each mistake."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.lessons import checks
from course_lib.ops.coder import decode
from tests.lessons.exercises import exercise_tests

# ---- 09-1 ---------------------------------------------------------------------------------------------------------


def sample(labels: Tensor, luck: Tensor, size: int, fraction: float) -> tuple[Tensor, Tensor]:
    objects, background = (labels == 0).nonzero().squeeze(1), (labels == -1).nonzero().squeeze(1)
    objects = objects[luck[objects].argsort()][: int(size * fraction)]
    background = background[luck[background].argsort()][: size - len(objects)]
    return objects, background


def one_order(labels: Tensor, luck: Tensor, size: int, fraction: float) -> tuple[Tensor, Tensor]:
    """All anchors in the order of luck once, then those of each kind."""
    order = luck.argsort()
    objects = order[labels[order] == 0][: int(size * fraction)]
    return objects, order[labels[order] == -1][: size - len(objects)]


def by_topk(labels: Tensor, luck: Tensor, size: int, fraction: float) -> tuple[Tensor, Tensor]:
    def least(kind: int, count: int) -> Tensor:
        mine = luck.masked_fill(labels != kind, torch.inf)
        return mine.topk(min(count, int((labels == kind).sum())), largest=False).indices

    objects = least(0, int(size * fraction))
    return objects, least(-1, size - len(objects))


def changed(**change) -> Callable:
    """A solution with one thing done otherwise."""
    is_background = change.get("is_background", lambda labels: labels == -1)
    most = change.get("most", lambda size, fraction, there: int(size * fraction))
    rest = change.get("rest", lambda size, fraction, taken: size - taken)
    descending = change.get("descending", False)

    def solution(labels: Tensor, luck: Tensor, size: int, fraction: float) -> tuple[Tensor, Tensor]:
        order = luck.argsort(descending=descending) if change.get("by_luck", True) else torch.arange(len(luck))
        objects = order[labels[order] == 0]
        objects = objects[: most(size, fraction, len(objects))]
        background = order[is_background(labels[order])]
        return objects, background[: rest(size, fraction, len(objects))]

    return solution


def without_regard(labels: Tensor, luck: Tensor, size: int, fraction: float) -> tuple[Tensor, Tensor]:
    order = luck.argsort()
    order = order[labels[order] != -2][:size]
    return order[labels[order] == 0], order[labels[order] == -1]


def places(labels: Tensor, luck: Tensor, size: int, fraction: float) -> tuple[Tensor, Tensor]:
    objects = luck[labels == 0].argsort()[: int(size * fraction)]
    return objects, luck[labels == -1].argsort()[: size - len(objects)]


def places_in_order(labels: Tensor, luck: Tensor, size: int, fraction: float) -> tuple[Tensor, Tensor]:
    labels = labels[luck.argsort()]
    objects = torch.where(labels == 0)[0][: int(size * fraction)]
    return objects, torch.where(labels == -1)[0][: size - len(objects)]


def yes_or_no(labels: Tensor, luck: Tensor, size: int, fraction: float) -> tuple[Tensor, Tensor]:
    drawn = torch.zeros(2, len(labels), dtype=torch.bool)
    for row, indices in zip(drawn, sample(labels, luck, size, fraction)):
        row[indices] = True
    return drawn[0], drawn[1]


def topk_of_too_few(labels: Tensor, luck: Tensor, size: int, fraction: float) -> tuple[Tensor, Tensor]:
    objects = torch.where(labels == 0, luck, 2.0).topk(int(size * fraction), largest=False).indices
    return objects, torch.where(labels == -1, luck, 2.0).topk(size - len(objects), largest=False).indices


RIGHT_SAMPLE = {"by group": sample, "one order": one_order, "topk": by_topk}
WRONG_SAMPLE = {
    "left-out as background": (changed(is_background=lambda x: x < 0), "left-out anchors (−2) are no background"),
    "no filling up": (changed(rest=lambda size, fraction, taken: size - int(size * fraction)), "background fills up"),
    "as many": (changed(rest=lambda size, fraction, taken: taken), "as much background as objects"),
    "two samples": (changed(rest=lambda size, fraction, taken: size), "its share is size − P"),
    "all objects": (
        changed(most=lambda size, f, there: there, rest=lambda s, f, taken: max(0, s - taken)),
        "all objects are in your sample",
    ),
    "fraction of objects": (changed(most=lambda size, f, there: int(there * f)), "the fraction is of the sample"),
    "without regard": (without_regard, "without regard to the labels"),
    "the first": (changed(by_luck=False), "draw by luck"),
    "the greatest": (changed(descending=True), "not the greatest"),
    "places": (places, "group[order] leads back"),
    "exchanged": (lambda *x: sample(*x)[::-1], "objects first, then background"),
    "rounded up": (changed(most=lambda size, f, there: math.ceil(size * f)), "round size · fraction down"),
    "to the nearest": (changed(most=lambda size, f, there: round(size * f)), "round size · fraction down"),
    "one half": (changed(most=lambda size, f, there: size // 2), "whatever the fraction"),
    "places in order": (places_in_order, "order[places] leads back"),
    "by number": (lambda *x: tuple(part.sort().values for part in sample(*x)), "sorted by number"),
    "true or false": (yes_or_no, "not True or False"),
    "topk of too few": (topk_of_too_few, "you filled the rest with others"),
    "one tensor": (lambda *x: torch.cat(sample(*x)), "two tensors, not one"),
}

# ---- 09-2 ---------------------------------------------------------------------------------------------------------

WEIGHTS = (10, 10, 5, 5)


def look(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> tuple[Tensor, ...]:
    scores = logits.softmax(1)[:, :-1]
    row, label = (scores > score).nonzero(as_tuple=True)
    return decode(deltas[row, label], proposals[row], WEIGHTS), scores[row, label], label


def everything_decoded(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> tuple[Tensor, ...]:
    """All boxes first, then a mask."""
    scores = torch.exp(logits - logits.logsumexp(1, keepdim=True))[:, :-1]
    boxes = decode(deltas / torch.tensor([10.0, 10, 5, 5]).to(deltas), proposals[:, None])
    keep = scores > score
    labels = torch.arange(deltas.shape[1]).expand(len(deltas), -1)
    return boxes[keep], scores[keep], labels[keep]


def flat(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> tuple[Tensor, ...]:
    scores = logits.softmax(1)[:, :-1].flatten()
    index = (scores > score).nonzero().squeeze(1)
    row = index // deltas.shape[1]
    return decode(deltas.flatten(0, 1)[index], proposals[row], WEIGHTS), scores[index], index % deltas.shape[1]


def looking(score_of: Callable | None = None, weights: tuple = WEIGHTS) -> Callable:
    def solution(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> tuple[Tensor, ...]:
        scores = (score_of or (lambda x: x.softmax(1)[:, :-1]))(logits)
        row, label = (scores > score).nonzero(as_tuple=True)
        return decode(deltas[row, label], proposals[row], weights), scores[row, label], label

    return solution


def best_class(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> tuple[Tensor, ...]:
    scores, label = logits.softmax(1)[:, :-1].max(1)
    row = (scores > score).nonzero().squeeze(1)
    return decode(deltas[row, label[row]], proposals[row], WEIGHTS), scores[row], label[row]


def best_answer(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> tuple[Tensor, ...]:
    scores, label = logits.softmax(1).max(1)
    row = ((scores > score) & (label < deltas.shape[1])).nonzero().squeeze(1)
    return decode(deltas[row, label[row]], proposals[row], WEIGHTS), scores[row], label[row]


def first_deltas(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> tuple[Tensor, ...]:
    _, scores, label = look(logits, deltas, proposals, score)
    row = (logits.softmax(1)[:, :-1] > score).nonzero()[:, 0]
    return decode(deltas[row, 0], proposals[row], WEIGHTS), scores, label


def uncorrected(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> tuple[Tensor, ...]:
    _, scores, label = look(logits, deltas, proposals, score)
    return proposals[(logits.softmax(1)[:, :-1] > score).nonzero()[:, 0]], scores, label


def best_first(*arguments) -> tuple[Tensor, ...]:
    boxes, scores, labels = look(*arguments)
    order = scores.argsort(descending=True)
    return boxes[order], scores[order], labels[order]


def class_by_class(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> tuple[Tensor, ...]:
    parts = []
    for label, scores in enumerate(logits.softmax(1)[:, :-1].T):
        row = (scores > score).nonzero().squeeze(1)
        boxes = decode(deltas[row, label], proposals[row], WEIGHTS)
        parts.append((boxes, scores[row], torch.full_like(row, label)))
    return tuple(torch.cat(part) for part in zip(*parts))


def rows_as_labels(logits: Tensor, deltas: Tensor, proposals: Tensor, score: float) -> tuple[Tensor, ...]:
    boxes, scores, _ = look(logits, deltas, proposals, score)
    return boxes, scores, (logits.softmax(1)[:, :-1] > score).nonzero()[:, 0]


def changed_look(change: Callable) -> Callable:
    return lambda *arguments: change(*look(*arguments))


RIGHT_LOOK = {"survivors alone": look, "everything decoded": everything_decoded, "flat": flat}
WRONG_LOOK = {
    "sigmoid": (looking(lambda x: x.sigmoid()[:, :-1]), "a softmax, no sigmoid"),
    "without background": (looking(lambda x: x[:, :-1].softmax(1)), "softmax first, then leave out background"),
    "background first": (looking(lambda x: x.softmax(1)[:, 1:]), "background is the last column"),
    "one class": (best_class, "each class above the score"),
    "one answer": (best_answer, "though background is likelier"),
    "no weights": (looking(weights=(1, 1, 1, 1)), "ten and five times too large"),
    "multiplied": (looking(weights=(0.1, 0.1, 0.2, 0.2)), "the weights divide"),
    "weights exchanged": (looking(weights=(5, 5, 10, 10)), "in this order"),
    "one class's deltas": (first_deltas, "each class has deltas of its own"),
    "the proposals": (uncorrected, "the proposals still"),
    "sorted": (best_first, "NMS sorts later"),
    "down the columns": (looking(lambda x: x.softmax(0)[:, :-1]), "softmax(1), not softmax(0)"),
    "a loop over classes": (class_by_class, "yours go class by class"),
    "from 1": (changed_look(lambda b, s, k: (b, s, k + 1)), "labels count from 0"),
    "rows": (rows_as_labels, "your labels are the rows"),
    "labels second": (changed_look(lambda b, s, k: (b, k, s)), "boxes, scores, labels, in this order"),
}

TestTwoStages = exercise_tests(
    {
        "09-1: 8": (checks.balanced_sample, RIGHT_SAMPLE, WRONG_SAMPLE),
        "09-2: 5": (checks.second_look, RIGHT_LOOK, WRONG_LOOK),
    }
)
