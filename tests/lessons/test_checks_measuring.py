"""Lesson 06's checks pass right solutions, however written, and name the mistake of each wrong one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from course_lib.engine import average_precision, errors
from course_lib.lessons import checks
from tests.lessons.exercises import exercise_tests

# Matching


def greedy(overlap: Tensor, threshold: float, crowd: Tensor) -> Tensor:
    """In plain Python."""
    matched, taken = [], set()
    for row in overlap.tolist():
        objects = [g for g in range(len(row)) if not crowd[g] and g not in taken and row[g] >= threshold]
        crowds = [g for g in range(len(row)) if crowd[g] and row[g] >= threshold]
        best = max(objects or crowds, key=lambda g: row[g], default=-1)
        matched.append(best)
        taken |= {best} & set(objects)
    return torch.tensor(matched, dtype=torch.int64)


def with_masks(overlap: Tensor, threshold: float, crowd: Tensor) -> Tensor:
    free, matched = ~crowd, torch.full((len(overlap),), -1)
    for d in range(len(overlap)):
        for group in (free, crowd):
            row = overlap[d].masked_fill(~group, -1.0)
            if matched[d] < 0 and len(row) and row.max() >= threshold:
                matched[d] = row.argmax()
        if matched[d] >= 0:
            free[matched[d]] = False
    return matched


def loop(overlap: Tensor, threshold: float, crowd: Tensor, *, wrong: str) -> Tensor:
    """The learner's loop, with one line wrong."""
    matched, taken = torch.full((len(overlap),), 0 if wrong == "none" else -1), torch.zeros_like(crowd)
    order = range(len(overlap) - 1, -1, -1) if wrong == "order" else range(len(overlap))
    for d in order:
        for group in (~crowd, crowd) if wrong != "crowd equal" else (torch.ones_like(crowd),):
            if wrong == "no crowd" and group is crowd:
                continue
            row = torch.where(group if wrong == "not free" else group & ~taken, overlap[d], -1.0)
            reached = row > threshold if wrong == "strict" else row >= (1e-6 if wrong == "no threshold" else threshold)
            if not reached.any():
                continue
            best = int(reached.nonzero()[0, 0] if wrong == "first" else row.argmax())
            if taken[best]:
                break
            matched[d] = best
            taken[best] = wrong != "shared" and (not crowd[best] or wrong == "crowd once")
            if wrong != "no break":
                break
    return matched


def by_object(overlap: Tensor, threshold: float, crowd: Tensor) -> Tensor:
    matched = torch.full((len(overlap),), -1)
    if overlap.numel():
        for g, (value, d) in enumerate(zip(*overlap.max(0))):
            if value >= threshold:
                matched[d] = g
    return matched


def by_pair(overlap: Tensor, threshold: float, crowd: Tensor) -> Tensor:
    matched, taken = torch.full((len(overlap),), -1), set()
    pairs = [(-v, d, g) for d, row in enumerate(overlap.tolist()) for g, v in enumerate(row) if v >= threshold]
    for _, d, g in sorted(pairs):
        if matched[d] < 0 and g not in taken:
            matched[d] = g
            if not crowd[g]:
                taken.add(g)
    return matched


def mistake(name: str) -> Callable:
    return lambda overlap, threshold, crowd: loop(overlap, threshold, crowd, wrong=name)


RIGHT_MATCH = {
    "plain Python": greedy,
    "masks": with_masks,
    "the loop": mistake("nothing"),
    "the library": average_precision.match_detections,
}
WRONG_MATCH = {
    "shared": (mistake("shared"), "mark it as taken"),
    "gives up": (mistake("not free"), "may still take another one that is free"),
    "strict": (mistake("strict"), "use >="),
    "first": (mistake("first"), "not the first that reaches"),
    "no threshold": (mistake("no threshold"), "the threshold is not used"),
    "zero for none": (mistake("none"), "0 is an object"),
    "from the end": (mistake("order"), "you went from the last to the first"),
    "objects choose": (by_object, "you let each object choose"),
    "largest overlap first": (by_pair, "you gave the largest overlap of all its way first"),
    "crowd once": (mistake("crowd once"), "do not mark it as taken"),
    "crowd before object": (mistake("crowd equal"), "an object comes before a crowd"),
    "no break": (mistake("no break"), "is done"),
    "crowd forgotten": (mistake("no crowd"), "look among the crowds"),
    "float": (lambda *a: greedy(*a).double(), "indices are int64"),
    "a mask": (lambda *a: greedy(*a) >= 0, "pencil and paper"),
}

# The curve


def staircase(correct: Tensor, objects: int, recalls: Tensor) -> Tensor:
    right = correct.double().cumsum(0)
    recall, precision = right / objects, right / (torch.arange(len(correct)) + 1)
    reached = [precision[recall >= r] for r in recalls]
    return torch.stack([p.max() if len(p) else torch.zeros((), dtype=torch.float64) for p in reached])


def with_numpy(correct: Tensor, objects: int, recalls: Tensor) -> Tensor:
    right = np.cumsum(correct.numpy())
    precision = np.append(right / np.arange(1, len(right) + 1), 0.0)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return torch.from_numpy(best[np.searchsorted(right / objects, recalls.numpy())].copy())


def steps(
    correct: Tensor,
    objects: int,
    recalls: Tensor,
    *,
    so_far: Callable = lambda n: torch.arange(1, n + 1),
    of: Callable = lambda right, objects: objects,
    recall: Callable | None = None,
    best: Callable = lambda reached: reached.max(),
    strict: bool = False,
    end: float | None = 0.0,
) -> Tensor:
    """One recall after the other, of parts that can be wrong."""
    right = correct.double().cumsum(0)
    reached, precision = right / of(right, objects), right / so_far(len(right))
    if recall is not None:
        reached = recall(right, objects)
    answers = []
    for r in recalls:
        places = (reached > r if strict else reached >= r).nonzero().flatten()
        last = precision[-1] if len(precision) and end is None else torch.tensor(0.0, dtype=torch.float64)
        answers.append(best(precision[places[0] :]) if len(places) else last)
    return torch.stack(answers)


def cumulative_from_the_left(correct: Tensor, objects: int, recalls: Tensor) -> Tensor:
    right = correct.double().cumsum(0)
    best = (right / torch.arange(1, len(right) + 1)).cummax(0).values
    return torch.cat((best, torch.zeros(1)))[torch.searchsorted(right / objects, recalls)]


def straight_lines(correct: Tensor, objects: int, recalls: Tensor) -> Tensor:
    right = np.cumsum(correct.numpy())
    return torch.from_numpy(np.interp(recalls, right / objects, right / np.arange(1, len(right) + 1), right=0.0))


RIGHT_CURVE = {
    "a staircase": staircase,
    "numpy": with_numpy,
    "steps": steps,
    "the library": average_precision.interpolated_precision,
}
WRONG_CURVE = {
    "the saw": (lambda *a: steps(*a, best=lambda p: p[0]), "the saw itself"),
    "best so far": (cumulative_from_the_left, "you took the best precision so far"),
    "carried on": (lambda *a: steps(*a, best=lambda p: p.max(), end=None), "you carried the last precision on"),
    "of the correct": (lambda *a: steps(*a, of=lambda right, n: right[-1:]), "not by the correct detections"),
    "of the detections": (lambda *a: steps(*a, of=lambda right, n: len(right)), "not by the detections"),
    "of all made": (lambda *a: steps(*a, so_far=lambda n: n), "you divided by all of them"),
    "of the objects": (
        lambda correct, n, r: steps(correct, n, r, so_far=lambda _: n),
        "you divided by the objects",
    ),
    "from 0": (lambda *a: steps(*a, so_far=lambda n: torch.arange(n)), "count it too"),
    "strict": (lambda *a: steps(*a, strict=True), "a recall that is reached exactly counts"),
    "straight lines": (straight_lines, "take no straight lines"),
    "from the end": (lambda c, n, r: steps(c.flip(0), n, r), "from the end"),
    "float32": (lambda *a: staircase(*a).float(), "count in float64"),
    "float32 recall": (lambda *a: steps(*a, recall=lambda right, n: (right.float() / n).double()), "count in float64"),
    "one number": (lambda *a: staircase(*a).mean(), "step by step"),
}

# Recall


def mean_recall(overlap: Tensor, thresholds: Tensor, limit: int, found: Callable | None = None) -> float:
    crowd = torch.zeros(overlap.shape[1], dtype=torch.bool)
    found = found or (lambda o, t: (greedy(o, t, crowd) >= 0).sum().item())
    return sum(found(overlap[:limit], t) for t in thresholds.tolist()) / overlap.shape[1] / len(thresholds)


def as_tensor(overlap: Tensor, thresholds: Tensor, limit: int) -> Tensor:
    crowd = torch.zeros(overlap.shape[1], dtype=torch.bool)
    rows = [average_precision.match_detections(overlap[:limit], t.item(), crowd) >= 0 for t in thresholds]
    return torch.stack(rows).double().sum(1).div(overlap.shape[1]).mean()


RIGHT_RECALL = {"numbers": mean_recall, "a tensor": as_tensor}
WRONG_RECALL = {
    "no limit": (lambda o, t, n: mean_recall(o, t, 10**6), "the limit is not used"),
    "limited objects": (lambda o, t, n: mean_recall(o[:, :n], t, 10**6), "you limited the objects"),
    "limit after": (
        lambda o, t, n: sum(min(n, mean_recall(o, x[None], 10**6) * o.shape[1]) for x in t) / o.shape[1] / len(t),
        "cut the rows before you match",
    ),
    "precision": (
        lambda o, t, n: mean_recall(o, t, n) * o.shape[1] / max(len(o[:n]), 1),
        "you divided by the detections",
    ),
    "first threshold": (lambda o, t, n: mean_recall(o, t[:1], n), "the first threshold alone"),
    "no mean": (lambda o, t, n: torch.tensor([mean_recall(o, x[None], n) for x in t]), "one number"),
    "sum": (lambda o, t, n: mean_recall(o, t, n) * len(t), "divide by the number of thresholds"),
    "detections on objects": (
        lambda o, t, n: mean_recall(o, t, n, lambda o, x: (o.amax(1) >= x).sum().item()),
        "two on the same one find one object",
    ),
    "objects under detections": (
        lambda o, t, n: mean_recall(o, t, n, lambda o, x: (o.amax(0) >= x).sum().item()),
        "you let one detection find two objects",
    ),
    "pairs": (lambda o, t, n: mean_recall(o, t, n, lambda o, x: (o >= x).sum().item()), "you counted pairs"),
    "per cent": (lambda *a: 100 * mean_recall(*a), "pencil and paper"),
}

# Kinds of error


def kind(same: float, other: float, order: str = "lcdb") -> int:
    rules = {
        "l": (0, 0.1 <= same < 0.5),
        "c": (1, other >= 0.5),
        "d": (2, same >= 0.5),
        "b": (3, max(same, other) < 0.1),
    }
    return next((rules[letter][0] for letter in order if rules[letter][1]), 4)


def each(function: Callable[[float, float], int]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda same, other: torch.tensor([function(*p) for p in zip(same.tolist(), other.tolist())]).long()


def nested(same: Tensor, other: Tensor) -> Tensor:
    rest = torch.where(torch.maximum(same, other) < 0.1, 3, 4)
    good = torch.where(other >= 0.5, 1, torch.where(same >= 0.5, 2, rest))
    return torch.where((same >= 0.1) & (same < 0.5), 0, good)


def renamed(names: dict[int, int]) -> Callable:
    return each(lambda s, o: names.get(kind(s, o), kind(s, o)))


RIGHT_KIND = {"rules": each(kind), "where": nested, "the library": errors.error_type}
WRONG_KIND = {
    "classification first": (each(lambda s, o: kind(s, o, "cldb")), "localisation is asked before classification"),
    "duplicate second": (each(lambda s, o: kind(s, o, "ldcb")), "classification is asked before duplicate"),
    "duplicate first": (each(lambda s, o: kind(s, o, "dclb")), "go before localisation in your order"),
    "no lower end": (each(lambda s, o: 0 if s < 0.5 else kind(s, o)), "localisation needs same >= 0.1"),
    "no upper end": (each(lambda s, o: 0 if s >= 0.1 else kind(s, o)), "a good box, same >= 0.5"),
    "own background": (
        each(lambda s, o: 3 if s < 0.1 and o < 0.5 else kind(s, o)),
        "other must be small too",
    ),
    "strict": (each(lambda s, o: 0 if s == 0.5 else kind(s, o)), "exactly 0.5"),
    "swapped arguments": (lambda s, o: errors.error_type(o, s), "you swapped `same` and `other`"),
    "3 for 4": (renamed({3: 4, 4: 3}), "background and both are swapped"),
    "0 for 1": (renamed({0: 1, 1: 0}), "localisation and classification are swapped"),
    "no duplicates": (each(lambda s, o: kind(s, o, "lcb")), "is a duplicate, 2"),
    "float": (lambda s, o: nested(s, o).double(), "kinds are int64"),
    "one number": (lambda s, o: nested(s, o).sum(), "step by step"),
    "always both": (lambda s, o: torch.full(s.shape, 4), "pencil and paper"),
}

EXERCISES = {
    "06-1: 8": (checks.match_detections, RIGHT_MATCH, WRONG_MATCH),
    "06-2: 7": (checks.interpolated_precision, RIGHT_CURVE, WRONG_CURVE),
    "06-3: 5": (checks.average_recall, RIGHT_RECALL, WRONG_RECALL),
    "06-4: 6": (checks.error_type, RIGHT_KIND, WRONG_KIND),
}

TestExercises = exercise_tests(EXERCISES)


def test_an_error_of_the_solution_comes_with_the_hint() -> None:
    def no_care(overlap: Tensor, threshold: float, crowd: Tensor) -> Tensor:
        overlap.max(1)
        return greedy(overlap, threshold, crowd)

    with pytest.raises(IndexError) as caught:
        checks.match_detections(no_care)
    assert "max() of an empty row is an error" in caught.value.__notes__[0]
