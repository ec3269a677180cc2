"""Checks of lesson 06: matching detections with objects, the curve that AP is the mean of, recall, kinds of error."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from course_lib.engine import average_precision as ours
from course_lib.engine import errors
from course_lib.lessons.checks.base import Exercise

_INDICES = "indices are int64: start with torch.full((D,), -1), which is"

# ---- 06-1 ---------------------------------------------------------------------------------------------------------


def match_detections(function: Callable[[Tensor, float, Tensor], Tensor]) -> None:
    """Exercise 06-1: `match_detections(overlap, threshold, crowd)`, (D, G), number, (G,) → (D,) int64, −1 for none.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("06-1", function, reference=ours.match_detections, mistakes=_MATCH_MISTAKES)
    # The second takes 1, which it overlaps most; the third would too and has to take 2, the fourth 0; nothing is left.
    overlap = torch.tensor([[0.0, 0.4, 0.0], [0.7, 0.8, 0.2], [0.0, 0.9, 0.5], [0.6, 0.8, 0.1], [0.8, 0.7, 0.0]])
    plain = torch.zeros(3, dtype=torch.bool)
    check.shape("five detections, three objects", overlap, 0.5, plain)
    check.value("five detections, three objects", overlap, 0.5, plain, expected=torch.tensor([-1, 1, 2, 0, -1]))
    check.dtype("five detections, three objects", overlap, 0.5, plain, hint=_INDICES)
    on_crowd = torch.tensor([[0.6, 0.9], [0.0, 0.8], [0.65, 0.6], [0.7, 0.0], [0.0, 0.2]])
    crowd = torch.tensor([False, True])
    check.value("an object and a crowd", on_crowd, 0.5, crowd, expected=torch.tensor([0, 1, 1, -1, -1]))
    generator = torch.Generator().manual_seed(0)
    for count in (30, 60):
        many = torch.rand(count, 12, dtype=torch.float64, generator=generator) ** 2
        crowds = torch.rand(12, generator=generator) < 0.2
        check.value(f"{count} random detections, 12 objects", many, 0.5, crowds)
    empty = "with nothing to match every answer is −1; max() of an empty row is an error, so test first"
    check.value("no objects (G = 0)", overlap[:, :0], 0.5, plain[:0], hint=empty)
    check.value("no detections (D = 0)", overlap[:0], 0.5, plain, hint=empty)
    check.done()


def _match(
    *,
    reach: Callable = float.__ge__,
    once: bool = True,
    only_free: bool = True,
    crowds: str = "last",
    first: bool = False,
    stop: bool = True,
    none: int = -1,
) -> Callable:
    """Matching as in the exercise, with a switch for each thing that can be got wrong.

    crowds: "last" is right; "once", "equal" (no order), "never" are not. first: take the first that reaches, not the
    best. stop: look for no crowd after an object. only_free: look among the free ones alone. once: an object is taken
    once.
    """

    def answer(overlap: Tensor, threshold: float, crowd: Tensor) -> Tensor:
        is_crowd, taken = crowd.tolist(), set()
        matched = torch.full((len(overlap),), none)
        for d, row in enumerate(overlap.tolist()):
            groups = [[g for g in range(len(row)) if not is_crowd[g]], [g for g in range(len(row)) if is_crowd[g]]]
            if crowds == "equal":
                groups = [list(range(len(row)))]
            for group in groups[:1] if crowds == "never" else groups:
                allowed = [g for g in group if not only_free or g not in taken]
                reached = [g for g in allowed if reach(row[g], threshold)]
                best = max(reached, key=lambda g: -g if first else row[g], default=None)
                if best is not None and best not in taken:
                    matched[d] = best
                    if once and (crowds == "once" or not is_crowd[best]):
                        taken.add(best)
                    if stop:
                        break
        return matched

    return answer


def _objects_choose(overlap: Tensor, threshold: float, crowd: Tensor) -> Tensor:
    matched = torch.full((len(overlap),), -1)
    for g in range(overlap.shape[1]):
        d = int(overlap[:, g].argmax())
        if overlap[d, g] >= threshold:
            matched[d] = g
    return matched


def _best_pairs_first(overlap: Tensor, threshold: float, crowd: Tensor) -> Tensor:
    matched, left = torch.full((len(overlap),), -1), overlap.clone()
    while left.numel() and left.max() >= threshold:
        d, g = divmod(int(left.argmax()), left.shape[1])
        matched[d] = g
        left[d] = -1
        if not crowd[g]:
            left[:, g] = -1
    return matched


def _worst_first(overlap: Tensor, threshold: float, crowd: Tensor) -> Tensor:
    return ours.match_detections(overlap.flip(0), threshold, crowd).flip(0)


_MATCH_MISTAKES = {
    "an object can be found once: mark it as taken, and the next detection on it goes away empty": _match(once=False),
    "a detection whose best object is taken may still take another one that is free: look among the free ones": (
        _match(only_free=False)
    ),
    "an overlap equal to the threshold counts: use >=": _match(reach=float.__gt__),
    "take the free object that is overlapped most, not the first that reaches the threshold": _match(first=True),
    "the threshold is not used": _match(reach=lambda a, b: a > 0),
    "a detection that found nothing has −1; 0 is an object": _match(none=0),
    "the detections choose, best score first; you let each object choose its best detection": _objects_choose,
    "the detections choose in the order of their rows, which is best score first; you gave the largest overlap of all "
    "its way first": _best_pairs_first,
    "the rows come best score first and the first row chooses first; you went from the last to the first": _worst_first,
    "a crowd can be found any number of times: do not mark it as taken": _match(crowds="once"),
    "an object comes before a crowd, however large the overlap with the crowd: look among the objects first": (
        _match(crowds="equal")
    ),
    "a detection that has found an object is done: without a break (or an if) a crowd takes it away again": (
        _match(stop=False)
    ),
    "what lies in a crowd is matched with it: look among the crowds when no object is found": _match(crowds="never"),
}

# ---- 06-2 ---------------------------------------------------------------------------------------------------------

_DOUBLE = "count in float64, correct.double(): in float32 a recall can fall just short of the place where it is read"


def interpolated_precision(function: Callable[[Tensor, int, Tensor], Tensor]) -> None:
    """Exercise 06-2: `interpolated_precision(correct, objects, recalls)`, (N,) bool, count, (R,) → (R,) float64.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("06-2", function, reference=ours.interpolated_precision, mistakes=_CURVE_MISTAKES)
    correct = torch.tensor([True, False, True, True, False])
    places = torch.tensor([0.0, 0.2, 0.3, 0.4, 0.6, 1.0], dtype=torch.float64)
    by_hand = torch.tensor([1.0, 0.75, 0.75, 0.0, 0.0, 0.0], dtype=torch.float64)
    check.shape("five detections of ten objects", correct, 10, places)
    check.value("five detections of ten objects", correct, 10, places, expected=by_hand)
    check.dtype("five detections of ten objects", correct, 10, places, hint=_DOUBLE)
    generator = torch.Generator().manual_seed(0)
    many = torch.rand(300, generator=generator) < torch.linspace(0.9, 0.1, 300)
    check.value("300 random detections of 200 objects, at COCO's 101 recalls", many, 200, ours.RECALLS)
    all_found = torch.tensor([False, True, True])
    check.value("all objects found, the first detection wrong", all_found, 2, places)
    never = "a recall that is never reached has precision 0, so without detections all are 0"
    check.value("nothing right", ~all_found[1:], 5, places, expected=torch.zeros(6), hint=never)
    check.value("no detections (N = 0)", correct[:0], 10, places, expected=torch.zeros(6), hint=never)
    check.done()


def _curve(
    *,
    envelope: Callable[[Tensor], Tensor] = lambda p: p.flip(0).cummax(0).values.flip(0),
    recall: Callable[[Tensor, int], Tensor] = lambda right, objects: right / objects,
    precision: Callable[[Tensor, int], Tensor] = lambda right, objects: right / torch.arange(1, len(right) + 1),
    beyond: float | None = 0.0,
    strictly: bool = False,
) -> Callable:
    """The curve as in the exercise, of parts that can be exchanged; `beyond`: the value after the last recall."""

    def answer(correct: Tensor, objects: int, recalls: Tensor) -> Tensor:
        right = correct.double().cumsum(0)
        curve = envelope(precision(right, objects))
        end = curve[-1:] if beyond is None else curve.new_full((1,), beyond)
        return torch.cat((curve, end))[torch.searchsorted(recall(right, objects), recalls, right=strictly)]

    return answer


def _between(correct: Tensor, objects: int, recalls: Tensor) -> Tensor:
    right = correct.double().cumsum(0)
    curve = right / torch.arange(1, len(right) + 1)
    return torch.from_numpy(np.interp(recalls.numpy(), (right / objects).numpy(), curve.numpy(), right=0.0))


_CURVE_MISTAKES = {
    "that is the saw itself; at each recall take the best precision from there on": _curve(envelope=lambda p: p),
    "you took the best precision so far; take the best from there on: flip, cummax, flip back": (
        _curve(envelope=lambda p: p.cummax(0).values)
    ),
    "a recall that is never reached has precision 0; you carried the last precision on": _curve(beyond=None),
    "recall is a share of the objects that are there: divide by `objects`, not by the correct detections": (
        _curve(recall=lambda right, objects: right / right[-1])
    ),
    "recall is a share of the objects that are there: divide by `objects`, not by the detections": (
        _curve(recall=lambda right, objects: right / len(right))
    ),
    "precision is a share of the detections so far; you divided by all of them": (
        _curve(precision=lambda right, objects: right / len(right))
    ),
    "precision is a share of the detections so far; you divided by the objects": (
        _curve(precision=lambda right, objects: right / objects)
    ),
    "you divided by the detections before this one; count it too: 1, 2, …, N": (
        _curve(precision=lambda right, objects: right / torch.arange(len(right)))
    ),
    "a recall that is reached exactly counts: searchsorted without right=True, or >=": _curve(strictly=True),
    "the curve is a staircase: take no straight lines between its points (np.interp)": _between,
    _DOUBLE: _curve(recall=lambda right, objects: (right.float() / objects).double()),
    "the detections come best score first; you went through them from the end": (
        lambda correct, objects, recalls: ours.interpolated_precision(correct.flip(0), objects, recalls)
    ),
}

# ---- 06-3 ---------------------------------------------------------------------------------------------------------


def average_recall(function: Callable[[Tensor, Tensor, int], float]) -> None:
    """Exercise 06-3: `average_recall(overlap, thresholds, limit)`, (D, G), (T,), count → a number in 0…1.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("06-3", function, reference=_average_recall, mistakes=_RECALL_MISTAKES)
    # The best three: at 0.5 and at 0.65 the first finds object 0, the second 2, and 0 is taken for the third;
    # at 0.75 the second alone is good enough.
    rows = [[0.7, 0.6, 0, 0], [0.6, 0.8, 0.9, 0], [0.7, 0, 0, 0], [0.6, 0.55, 0, 0.9], [0.3, 0.9, 0, 0.6]]
    overlap, thresholds = torch.tensor(rows), torch.tensor([0.5, 0.65, 0.75])
    check.value("the best three of five, four objects", overlap, thresholds, 3, expected=(2 + 2 + 1) / 4 / 3)
    check.value("all five", overlap, thresholds, 100, expected=(4 + 4 + 3) / 4 / 3)
    generator = torch.Generator().manual_seed(0)
    ious = torch.tensor(ours.IOUS, dtype=torch.float64)
    for limit in (10, 100):
        many = torch.rand(40, 25, dtype=torch.float64, generator=generator) ** 3
        check.value(f"40 random detections of 25 objects, limit {limit}", many, ious, limit)
    none = "what is not there finds nothing: recall 0"
    check.value("no detections (D = 0)", overlap[:0], thresholds, 10, expected=0.0, hint=none)
    check.done()


def _recalls(overlap: Tensor, thresholds: Tensor, found: Callable[[Tensor, float], int]) -> list[float]:
    """At each threshold, found(overlap, threshold) as a share of the objects."""
    return [found(overlap, t) / overlap.shape[1] for t in thresholds.tolist()]


def _found(overlap: Tensor, threshold: float) -> int:
    """How many objects are found."""
    crowd = torch.zeros(overlap.shape[1], dtype=torch.bool)
    return int((ours.match_detections(overlap, threshold, crowd) >= 0).sum())


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _average_recall(overlap: Tensor, thresholds: Tensor, limit: int) -> float:
    return _mean(_recalls(overlap[:limit], thresholds, _found))


_RECALL_MISTAKES = {
    "the limit is not used: keep overlap[:limit], the best-scored detections": (
        lambda overlap, thresholds, limit: _average_recall(overlap, thresholds, len(overlap))
    ),
    "you limited the objects: the detections are the rows, overlap[:limit]": (
        lambda overlap, thresholds, limit: _average_recall(overlap[:, :limit], thresholds, len(overlap))
    ),
    "the limit is on the detections that may look, not on those that find: cut the rows before you match": (
        lambda overlap, thresholds, limit: _mean(
            [min(limit / overlap.shape[1], r) for r in _recalls(overlap, thresholds, _found)]
        )
    ),
    "you divided by the detections, which is precision; recall divides by the objects, overlap.shape[1]": (
        lambda overlap, thresholds, limit: (
            _average_recall(overlap, thresholds, limit) * overlap.shape[1] / len(overlap[:limit])
        )
    ),
    "that is the recall at the first threshold alone; average over all of them": (
        lambda overlap, thresholds, limit: _average_recall(overlap, thresholds[:1], limit)
    ),
    "that is a recall for each threshold; give back their mean, one number": (
        lambda overlap, thresholds, limit: torch.tensor(_recalls(overlap[:limit], thresholds, _found)).double()
    ),
    "you added the recalls up; divide by the number of thresholds": (
        lambda overlap, thresholds, limit: sum(_recalls(overlap[:limit], thresholds, _found))
    ),
    "you counted detections that lie on an object; two on the same one find one object: match them": (
        lambda overlap, thresholds, limit: _mean(
            _recalls(overlap[:limit], thresholds, lambda o, t: int((o >= t).any(1).sum()))
        )
    ),
    "you let one detection find two objects: match them, so that each detection takes one": (
        lambda overlap, thresholds, limit: _mean(
            _recalls(overlap[:limit], thresholds, lambda o, t: int((o >= t).any(0).sum()))
        )
    ),
    "you counted pairs of a detection and an object; match them, so that each is in one pair": (
        lambda overlap, thresholds, limit: _mean(
            _recalls(overlap[:limit], thresholds, lambda o, t: int((o >= t).sum()))
        )
    ),
}

# ---- 06-4 ---------------------------------------------------------------------------------------------------------


def error_type(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 06-4: `error_type(same, other)`, IoUs (N,) each → (N,) int64, 0 to 4, the kind of each wrong detection.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("06-4", function, reference=errors.error_type, mistakes=_KIND_MISTAKES)
    same = torch.tensor([0.30, 0.00, 0.70, 0.05, 0.02, 0.30, 0.60, 0.50])
    other = torch.tensor([0.00, 0.80, 0.05, 0.02, 0.30, 0.75, 0.65, 0.00])
    check.shape("eight wrong detections", same, other)
    check.value("eight wrong detections", same, other, expected=torch.tensor([0, 1, 2, 3, 4, 0, 1, 2]))
    check.dtype("eight wrong detections", same, other, hint="kinds are int64: start with torch.full_like(…, 4).long()")
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 200, dtype=torch.float64, generator=generator)
    check.value("200 random ones", a, b)
    check.value("200 random ones, mostly on nothing", a**4, b**4)
    check.value("none (N = 0)", same[:0], other[:0], hint="nothing in, nothing out: use masks instead of a loop")
    check.done()


def _kinds(*rules: tuple[int, Callable[[Tensor, Tensor], Tensor]], rest: int = 4) -> Callable:
    """The first rule that holds gives the kind."""

    def answer(same: Tensor, other: Tensor) -> Tensor:
        kinds = torch.full(same.shape, rest)
        for kind, holds in reversed(rules):
            kinds[holds(same, other)] = kind
        return kinds

    return answer


_LOCALISATION = (0, lambda same, other: (same >= 0.1) & (same < 0.5))
_CLASSIFICATION = (1, lambda same, other: other >= 0.5)
_DUPLICATE = (2, lambda same, other: same >= 0.5)
_BACKGROUND = (3, lambda same, other: (same <= 0.1) & (other <= 0.1))

_KIND_MISTAKES = {
    "localisation is asked before classification: the first that holds counts": (
        _kinds(_CLASSIFICATION, _LOCALISATION, _DUPLICATE, _BACKGROUND)
    ),
    "classification is asked before duplicate: the first that holds counts": (
        _kinds(_LOCALISATION, _DUPLICATE, _CLASSIFICATION, _BACKGROUND)
    ),
    "classification and duplicate go before localisation in your order; it is asked first": (
        _kinds(_DUPLICATE, _CLASSIFICATION, _LOCALISATION, _BACKGROUND)
    ),
    "below 0.1 a box is on nothing: localisation needs same >= 0.1 too": (
        _kinds((0, lambda same, other: same < 0.5), _CLASSIFICATION, _DUPLICATE, _BACKGROUND)
    ),
    "a good box, same >= 0.5, is no localisation error; it is a duplicate": (
        _kinds((0, lambda same, other: same >= 0.1), _CLASSIFICATION, _DUPLICATE, _BACKGROUND)
    ),
    "background touches no object of any class: other must be small too": (
        _kinds(_LOCALISATION, _CLASSIFICATION, _DUPLICATE, (3, lambda same, other: same <= 0.1))
    ),
    "an IoU of exactly 0.5 is a good box: use >= for the duplicate": (
        _kinds(
            (0, lambda same, other: (same >= 0.1) & (same <= 0.5)),
            _CLASSIFICATION,
            (2, lambda same, other: same > 0.5),
            _BACKGROUND,
        )
    ),
    "you swapped `same` and `other`: a box on an object of its own class is no classification error": (
        lambda same, other: errors.error_type(other, same)
    ),
    "background and both are swapped: 3 touches nothing, 4 touches another class a little": (
        _kinds(_LOCALISATION, _CLASSIFICATION, _DUPLICATE, (4, _BACKGROUND[1]), rest=3)
    ),
    "localisation and classification are swapped: 0 is localisation": (
        _kinds((1, _LOCALISATION[1]), (0, _CLASSIFICATION[1]), _DUPLICATE, _BACKGROUND)
    ),
    "a good box on an object of its class that is wrong all the same is a duplicate, 2": (
        _kinds(_LOCALISATION, _CLASSIFICATION, _BACKGROUND)
    ),
}
