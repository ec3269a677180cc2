"""The checks of lesson 10: each passes right solutions, and names the mistake of wrong ones that people write."""

import math
import statistics
from collections.abc import Callable
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from course_lib.engine.compare.verdict import Spread, chance_of_separation
from course_lib.engine.compare.verdict import frontier as library_frontier
from course_lib.lessons import checks
from tests.lessons.exercises import exercise_tests

# Latency


def by_numpy(seconds: Tensor, warm_up: int) -> tuple[float, float]:
    counted = 1000 * seconds[warm_up:].numpy()
    return float(np.median(counted)), float(np.quantile(counted, 0.95))


def by_statistics(seconds: Tensor, warm_up: int) -> tuple[float, float]:
    counted = [1000 * s for s in seconds.tolist()[warm_up:]]
    place = 0.95 * (len(counted) - 1)
    low = math.floor(place)
    counted.sort()
    high = counted[min(low + 1, len(counted) - 1)]
    return statistics.median(counted), counted[low] + (place - low) * (high - counted[low])


RIGHT_LATENCY = {
    "quantiles": lambda s, w: tuple((1000 * s[w:]).quantile(q) for q in (0.5, 0.95)),
    "one call": lambda s, w: tuple(1000 * s[w:].quantile(torch.tensor([0.5, 0.95], dtype=s.dtype))),
    "numpy": by_numpy,
    "statistics": by_statistics,
}
WRONG_LATENCY = {
    "no warm-up": (lambda s, w: by_numpy(s, 0), "are not counted"),
    "sorted first": (lambda s, w: by_numpy(s.sort().values, w), "before anything is sorted"),
    "slowest dropped": (lambda s, w: by_numpy(s.sort(descending=True).values, w), "you dropped the slowest"),
    "mean": (lambda s, w: (1000 * s[w:].mean(), by_numpy(s, w)[1]), "take the median"),
    "seconds": (lambda s, w: by_numpy(s / 1000, w), "give milliseconds"),
    "maximum": (lambda s, w: (by_numpy(s, w)[0], 1000 * s[w:].max()), "the slowest time"),
    "fast end": (lambda s, w: (by_numpy(s, w)[0], (1000 * s[w:]).quantile(0.05)), "5 % quantile"),
    "order": (lambda s, w: by_numpy(s, w)[::-1], "first the median"),
    "torch's median": (lambda s, w: (1000 * s[w:].median(), by_numpy(s, w)[1]), "lower of two middle values"),
    "last dropped": (lambda s, w: by_numpy(s[: len(s) - w], 0), "you dropped the last"),
    "one too many": (lambda s, w: by_numpy(s, w + 1), "one image too many"),
    "upper middle": (lambda s, w: (1000 * s[w:].sort().values[len(s[w:]) // 2], by_numpy(s, w)[1]), "two are in the"),
    "nearest rank": (
        lambda s, w: (by_numpy(s, w)[0], 1000 * s[w:].quantile(0.95, interpolation="nearest")),
        "a straight line between two",
    ),
    "one tensor": (lambda s, w: torch.tensor(by_numpy(s, w)), "return median, p95"),
    "rounded": (lambda s, w: tuple(map(round, by_numpy(s, w))), "pencil and paper"),
}

# Claims


def by_loops_of(better: Callable[[Tensor, Tensor], bool], least: int = 2) -> Callable[[Tensor], Tensor]:
    """Claims by two loops over the models; better(row, column) of their seeds (S,)."""

    def answer(ap: Tensor) -> Tensor:
        rows = [[0] * len(ap) for _ in ap]
        for i, a in enumerate(ap):
            for j, b in enumerate(ap):
                if len(a) >= least:
                    rows[i][j] = int(bool(better(a, b))) - int(bool(better(b, a)))
        return torch.tensor(rows)

    return answer


def plain(a: Tensor, b: Tensor) -> bool:
    return a.min() > b.max()


def broadcast(ap: Tensor) -> Tensor:
    above = (ap.amin(1)[:, None] > ap.amax(1)).long()
    return (above - above.T) * (ap.shape[1] > 1)


RIGHT_CLAIMS = {"loops": by_loops_of(plain), "broadcast": broadcast}
WRONG_CLAIMS = {
    "means": (by_loops_of(lambda a, b: a.mean() > b.mean()), "the means differ nearly always"),
    "best": (by_loops_of(lambda a, b: a.max() > b.max()), "the best seeds"),
    "worst": (by_loops_of(lambda a, b: a.min() > b.min()), "the worst seeds"),
    "touching": (by_loops_of(lambda a, b: a.min() >= b.max()), "the spreads touch"),
    "one seed": (by_loops_of(plain, least=1), "a single seed has no spread"),
    "one side": (lambda ap: broadcast(ap).clamp(min=0), "the column may be the better one"),
    "swapped": (lambda ap: broadcast(ap).T, "1 stands for the row"),
    "deviations": (
        by_loops_of(lambda a, b: a.mean() - a.std() > b.mean() + b.std()),
        "not a standard deviation",
    ),
    "deviations over S": (
        by_loops_of(lambda a, b: a.mean() - a.std(correction=0) > b.mean() + b.std(correction=0)),
        "not a standard deviation",
    ),
    "medians": (by_loops_of(lambda a, b: a.median() > b.median()), "medians of a few seeds"),
    "transpose added": (lambda ap: broadcast(ap).abs(), "take the transpose away"),
    "no zero": (lambda ap: 2 * broadcast(ap).clamp(min=0) - 1, "is 0, not −1"),
    "seed by seed": (by_loops_of(lambda a, b: (a > b).all()), "compare all with all"),
    "float": (lambda ap: broadcast(ap).float(), "int64"),
    "always the row": (lambda ap: torch.ones(len(ap), len(ap)).long(), "pencil and paper"),
}

# Luck


def by_counting(a: int, b: int) -> float:
    places = list(combinations(range(min(a + b, 20)), a))
    apart = [p for p in places if p[-1] < a or p[0] >= b]
    return len(apart) / len(places)


RIGHT_LUCK = {
    "comb": lambda a, b: 2 / math.comb(a + b, b),
    "factorials": lambda a, b: 2 * math.factorial(a) * math.factorial(b) / math.factorial(a + b),
    "counting": by_counting,
}
WRONG_LUCK = {
    "one order": (lambda a, b: 1 / math.comb(a + b, a), "two such orders"),
    "orders within": (lambda a, b: 2 / math.factorial(a + b), "among themselves"),
    "coins": (lambda a, b: 2 * 0.5**a, "for a coin"),
    "all coins": (lambda a, b: 2 * 0.5 ** (a + b), "took all seeds for coins"),
    "the rest": (lambda a, b: 1 - 2 / math.comb(a + b, a), "how often the spreads do overlap"),
    "only a": (lambda a, b: chance_of_separation(a), "not 2a choose a"),
    "pairs": (lambda a, b: 2 / (a * b), "compared pairs of seeds"),
    "ordered": (lambda a, b: 2 / math.perm(a + b, a), "math.comb in place of math.perm"),
    "per cent": (lambda a, b: 200 / math.comb(a + b, a), "not in per cent"),
    "a sum": (lambda a, b: 2 / (a + b), "pencil and paper"),
}

# Frontier


def by_loops(accuracy: Tensor, latency: Tensor) -> Tensor:
    kept = []
    for m in range(len(accuracy)):
        beaten = any(
            accuracy[o].min() > accuracy[m].max() and latency[o].max() < latency[m].min() for o in range(len(accuracy))
        )
        kept.append(not beaten)
    return torch.tensor(kept, dtype=torch.bool)


def of_the_library(accuracy: Tensor, latency: Tensor) -> Tensor:
    names = [str(k) for k in range(len(accuracy))]
    ap, ms = ({n: Spread(tuple(row)) for n, row in zip(names, x.tolist())} for x in (accuracy, latency))
    kept = library_frontier(ap, ms)
    return torch.tensor([name in kept for name in names], dtype=torch.bool)


def means(x: Tensor) -> Tensor:
    return x.mean(1, keepdim=True).expand_as(x)


def by_rule(more: Callable[[Tensor, Tensor], bool], less: Callable[[Tensor, Tensor], bool]) -> Callable:
    """The frontier by two loops: o beats m where more(accuracy of o, of m) and less(times of o, of m), each (S,)."""

    def answer(accuracy: Tensor, latency: Tensor) -> Tensor:
        kept = [
            not any(
                bool(more(accuracy[o], accuracy[m])) and bool(less(latency[o], latency[m]))
                for o in range(len(accuracy))
            )
            for m in range(len(accuracy))
        ]
        return torch.tensor(kept, dtype=torch.bool)

    return answer


def below(a: Tensor, b: Tensor) -> bool:
    return a.max() < b.min()


def one_of_two(accuracy: Tensor, latency: Tensor) -> Tensor:
    kept = []
    for m in range(len(accuracy)):
        beaten = any(
            accuracy[o].min() > accuracy[m].max() or latency[o].max() < latency[m].min() for o in range(len(accuracy))
        )
        kept.append(not beaten)
    return torch.tensor(kept, dtype=torch.bool)


RIGHT_FRONTIER = {"loops": by_loops, "the library": of_the_library}
WRONG_FRONTIER = {
    "or": (one_of_two, "better in both, not in one"),
    "slower is better": (lambda a, t: by_loops(a, -t), "fewer milliseconds are better"),
    "the beaten": (lambda a, t: ~by_loops(a, t), "marked the models that are beaten"),
    "means": (lambda a, t: by_loops(means(a), means(t)), "you compared means"),
    "means of AP": (lambda a, t: by_loops(means(a), t), "the accuracies are compared by their means"),
    "means of time": (lambda a, t: by_loops(a, means(t)), "the times are compared by their means"),
    "the best only": (
        lambda a, t: torch.tensor([not any(y.min() > x.max() for y in a) for x in a], dtype=torch.bool),
        "at accuracy alone",
    ),
    "the fastest only": (
        lambda a, t: torch.tensor([not any(y.max() < x.min() for y in t) for x in t], dtype=torch.bool),
        "at speed alone",
    ),
    "who beats no one": (
        lambda a, t: by_loops(-a, -t),
        "beat no one",
    ),
    "touching accuracy": (by_rule(lambda a, b: a.min() >= b.max(), below), "accuracy that touches"),
    "touching time": (by_rule(plain, lambda a, b: a.max() <= b.min()), "time that touches"),
    "touching": (by_rule(lambda a, b: a.min() >= b.max(), lambda a, b: a.max() <= b.min()), "or times that touch"),
    "loose": (by_rule(lambda a, b: a.max() > b.min(), lambda a, b: a.min() < b.max()), "best with the other's worst"),
    "loose accuracy": (by_rule(lambda a, b: a.max() > b.min(), below), "the accuracies: the one's lowest"),
    "loose time": (by_rule(plain, lambda a, b: a.min() < b.max()), "the times: the one's highest"),
    "best seeds": (by_rule(lambda a, b: a.max() > b.max(), lambda a, b: a.min() < b.min()), "best with best"),
    "worst seeds": (by_rule(lambda a, b: a.min() > b.min(), lambda a, b: a.max() < b.max()), "worst with worst"),
    "seed by seed": (by_rule(lambda a, b: (a > b).all(), lambda a, b: (a < b).all()), "compare all with all"),
    "float": (lambda a, t: by_loops(a, t).float(), "a bool for each model"),
    "all of them": (lambda a, t: torch.ones(len(a), dtype=torch.bool), "by one other, not by all"),
}

EXERCISES = {
    "10-1: 6": (checks.latency, RIGHT_LATENCY, WRONG_LATENCY),
    "10-2: 7": (checks.claims, RIGHT_CLAIMS, WRONG_CLAIMS),
    "10-3: 7": (checks.luck, RIGHT_LUCK, WRONG_LUCK),
    "10-4: 7": (checks.frontier, RIGHT_FRONTIER, WRONG_FRONTIER),
}

TestExercises = exercise_tests(EXERCISES)
