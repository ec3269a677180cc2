"""Checks of lesson 10: latency, a verdict that spreads allow, the luck in it, who is beaten in both of two things."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.lessons.checks.base import Exercise

# ---- 10-1 ---------------------------------------------------------------------------------------------------------


def latency(function: Callable[[Tensor, int], tuple[float, float]]) -> None:
    """Exercise 10-1: `latency(seconds, warm_up)`, (N,) and a count → median and 95 % quantile in milliseconds.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("10-1", function, reference=_latency, mistakes=_LATENCY_MISTAKES)
    seconds = torch.tensor([0.09, 0.03, 0.01, 0.2, 0.01, 0.05], dtype=torch.float64)
    check.shape("one to warm up, five counted", seconds, 1, hint="give back two numbers: return median, p95")
    check.value("one to warm up, five counted", seconds, 1, expected=(30.0, 170.0))
    check.value("all six counted", seconds, 0)
    generator = torch.Generator().manual_seed(0)
    for count, warm_up in ((40, 10), (101, 1)):
        times = torch.rand(count, dtype=torch.float64, generator=generator) ** 4 + 0.01
        times[:warm_up] += 3
        check.value(f"{count} random times, {warm_up} to warm up", times, warm_up)
    check.value("a single image", seconds[:2], 1)
    check.done()


def _latency(
    seconds: Tensor, warm_up: int, *, scale: float = 1000.0, middle: float = 0.5, high: float = 0.95
) -> tuple[Tensor, Tensor]:
    counted = scale * seconds[warm_up:].double()
    return counted.quantile(middle), counted.quantile(high)


def _latency_mean(seconds: Tensor, warm_up: int) -> tuple[Tensor, Tensor]:
    counted = 1000 * seconds[warm_up:].double()
    return counted.mean(), counted.quantile(0.95)


def _upper_middle(seconds: Tensor) -> Tensor:
    return 1000 * seconds.double().sort().values[len(seconds) // 2]


_LATENCY_MISTAKES = {
    "the first `warm_up` times are not counted: caches are cold, memory is being taken": (
        lambda seconds, warm_up: _latency(seconds, 0)
    ),
    "the warm-up comes first, before anything is sorted; you dropped the fastest": (
        lambda seconds, warm_up: _latency(seconds.sort().values, warm_up)
    ),
    "you dropped the slowest; the warm-up is what comes first": (
        lambda seconds, warm_up: _latency(seconds.sort(descending=True).values, warm_up)
    ),
    "you dropped the last; the warm-up is what comes first": (
        lambda seconds, warm_up: _latency(seconds[: len(seconds) - warm_up], 0)
    ),
    "that is one image too many; count from seconds[warm_up] on": (
        lambda seconds, warm_up: _latency(seconds, warm_up + 1)
    ),
    "you counted the warm-up and dropped the rest": lambda seconds, warm_up: _latency(seconds[:warm_up], 0),
    "that is the mean, which one slow image drags along; take the median": _latency_mean,
    "the times are in seconds; give milliseconds": lambda seconds, warm_up: _latency(seconds, warm_up, scale=1.0),
    "that is the slowest time; the 95 % quantile lies on a straight line between two of the times: .quantile(0.95)": (
        lambda seconds, warm_up: _latency(seconds, warm_up, high=1.0)
    ),
    "that is the 5 % quantile: the fast end": lambda seconds, warm_up: _latency(seconds, warm_up, high=0.05),
    "first the median, then the 95 % quantile": lambda seconds, warm_up: _latency(seconds, warm_up)[::-1],
    "torch's .median() takes the lower of two middle values; the median is their mean: quantile(0.5)": (
        lambda seconds, warm_up: (1000 * seconds[warm_up:].median(), _latency(seconds, warm_up)[1])
    ),
    "of an even number of times two are in the middle; the median is their mean: quantile(0.5)": (
        lambda seconds, warm_up: (_upper_middle(seconds[warm_up:]), _latency(seconds, warm_up)[1])
    ),
}

# ---- 10-2 ---------------------------------------------------------------------------------------------------------

_ONE_SEED = "a single seed has no spread: with S = 1 every answer is 0"


def claims(function: Callable[[Tensor], Tensor]) -> None:
    """Exercise 10-2: `claims(ap)`, (M, S) of M models and S seeds → (M, M) int64: 1 row better, −1 column, 0 no claim.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("10-2", function, reference=_claims, mistakes=_CLAIM_MISTAKES)
    ap = torch.tensor([[0.60, 0.49, 0.56], [0.49, 0.48, 0.49], [0.49, 0.49, 0.49], [0.58, 0.57, 0.51]])
    by_hand = torch.tensor([[0, 0, 0, 0], [0, 0, 0, -1], [0, 0, 0, -1], [0, 1, 1, 0]])  # 0.49 touches 0.49
    check.shape("four models, three seeds", ap)
    check.value("four models, three seeds", ap, expected=by_hand)
    check.dtype(
        "four models, three seeds", ap, hint="the answers are int64: a bool minus a bool is an error, so .long()"
    )
    touching = torch.tensor([[0.50, 0.53], [0.53, 0.60]])
    check.value("the lowest of the one is the highest of the other", touching, expected=torch.zeros(2, 2))
    check.value("one seed (S = 1)", ap[:, :1], expected=torch.zeros(4, 4), hint=_ONE_SEED)
    generator = torch.Generator().manual_seed(0)
    for models, seeds in ((6, 2), (8, 5)):
        level = torch.rand(models, 1, dtype=torch.float64, generator=generator)
        many = level + 0.2 * torch.rand(models, seeds, dtype=torch.float64, generator=generator)
        check.value(f"{models} random models, {seeds} seeds", many)
    check.done()


def _better(low: Tensor, high: Tensor) -> Tensor:
    """(M, M): where a row's value is above a column's; one for each model in both arguments."""
    return low[:, None] > high


def _signed(above: Tensor, seeds: int, least: int = 2) -> Tensor:
    return (above.long() - above.T.long()) * (seeds >= least)


def _claims(ap: Tensor, *, least: int = 2) -> Tensor:
    return _signed(_better(ap.amin(1), ap.amax(1)), ap.shape[1], least)


def _by_one(value: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda ap: _signed(_better(value(ap), value(ap)), ap.shape[1])


def _deviations(ap: Tensor) -> Tensor:
    mean, deviation = ap.double().mean(1), ap.double().std(1)
    return _signed(_better(mean - deviation, mean + deviation), ap.shape[1])


_CLAIM_MISTAKES = {
    "the means differ nearly always; compare the row's lowest with the column's highest": _by_one(
        lambda ap: ap.mean(1)
    ),
    "you compared the best seeds, which luck chooses; compare the row's lowest with the column's highest": (
        _by_one(lambda ap: ap.amax(1))
    ),
    "you compared the worst seeds; compare the row's lowest with the column's highest": _by_one(lambda ap: ap.amin(1)),
    "where the lowest of the one is the highest of the other the spreads touch, and nothing is claimed: use >": (
        lambda ap: _signed(ap.amin(1)[:, None] >= ap.amax(1), ap.shape[1])
    ),
    "medians of a few seeds differ nearly always; compare the row's lowest with the column's highest": _by_one(
        lambda ap: ap.median(1).values
    ),
    _ONE_SEED: lambda ap: _claims(ap, least=1),
    "where the column is better the answer is −1: take the transpose away, do not add it": lambda ap: _claims(ap).abs(),
    "where the spreads overlap the answer is 0, not −1": (
        lambda ap: torch.where(_better(ap.amin(1), ap.amax(1)), 1, -1) * (ap.shape[1] > 1)
    ),
    "the column may be the better one: then the answer is −1": lambda ap: _claims(ap).clamp(min=0),
    "1 stands for the row, −1 for the column": lambda ap: -_claims(ap),
    "the spread here is from the lowest to the highest seed, not a standard deviation": _deviations,
    "a seed has nothing in common with the same seed of another model: compare all with all": (
        lambda ap: _signed((ap[:, None] > ap).all(2), ap.shape[1])
    ),
}

# ---- 10-3 ---------------------------------------------------------------------------------------------------------


def luck(function: Callable[[int, int], float]) -> None:
    """Exercise 10-3: `luck(a, b)`, numbers of seeds → how often models that are alike do not overlap, 0…1.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("10-3", function, reference=_luck, mistakes=_LUCK_MISTAKES)
    check.value("three seeds against seven", 3, 7, expected=1 / 60)
    check.value("one seed each", 1, 1, expected=1.0)
    check.value("two seeds each", 2, 2, expected=1 / 3)
    check.value("three seeds each", 3, 3, expected=1 / 10)
    check.value("two against three", 2, 3, expected=1 / 5)
    check.value("ten each", 10, 10)
    check.value("one against nineteen", 1, 19, expected=1 / 10)
    check.done()


def _luck(a: int, b: int) -> float:
    return 2 / math.comb(a + b, a)


_LUCK_MISTAKES = {
    "A may be the one below or the one above: there are two such orders": lambda a, b: 1 / math.comb(a + b, a),
    "the values of one model may stand in any order among themselves: a + b choose a, not (a + b)!": (
        lambda a, b: 2 / math.factorial(a + b)
    ),
    "you divided by one side's orders only: (a + b)! / (a! · b!)": (
        lambda a, b: 2 * math.factorial(a) / math.factorial(a + b)
    ),
    "the order of A's values among themselves does not count: a + b choose a, math.comb in place of math.perm": (
        lambda a, b: 2 / math.perm(a + b, a)
    ),
    "from 0 to 1, not in per cent": lambda a, b: 100 * _luck(a, b),
    "you took each of A's seeds for a coin: what counts is where all a + b values stand": lambda a, b: 2 * 0.5**a,
    "you took all seeds for coins: count the orders of a + b values instead": lambda a, b: 2 * 0.5 ** (a + b),
    "that is how often the spreads do overlap; luck is the rest": lambda a, b: 1 - _luck(a, b),
    "b may differ from a: a + b choose a, not 2a choose a": lambda a, b: 2 / math.comb(2 * a, a),
    "b may differ from a: a + b choose a, not 2b choose b": lambda a, b: 2 / math.comb(2 * b, b),
    "you compared pairs of seeds, of which there are a · b": lambda a, b: 2 / (a * b),
}

# ---- 10-4 ---------------------------------------------------------------------------------------------------------


def frontier(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 10-4: `frontier(accuracy, latency)`, (M, S) each → (M,) bool: beaten by no model in both.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("10-4", function, reference=_frontier, mistakes=_FRONTIER_MISTAKES)
    accuracy = torch.tensor([[38, 48, 50], [42, 41, 41], [52, 58, 58], [50, 47, 48], [47, 42, 59], [42, 41, 37]]) / 100
    latency = torch.tensor([[16, 8, 11], [13, 15, 15], [15, 21, 18], [19, 20, 16], [19, 31, 25], [31, 33, 24]]).float()
    by_hand = torch.tensor([True, True, True, True, True, False])  # 5 is beaten by 2, and by no other
    check.shape("six models, three seeds", accuracy, latency)
    check.value("six models, three seeds", accuracy, latency, expected=by_hand)
    check.dtype("six models, three seeds", accuracy, latency, hint="the answer is a bool for each model")
    close = torch.tensor(  # four pairs: accuracies touch, times touch, accuracies overlap, times overlap
        [[20, 22], [22, 24], [30, 31], [33, 34], [40, 44], [43, 45], [50, 51], [53, 54]]
    )
    times = torch.tensor([[4, 5], [1, 2], [12, 14], [10, 12], [24, 25], [20, 21], [32, 36], [33, 31]]).float()
    check.value("pairs that touch or overlap in one of the two", close / 100, times)
    generator = torch.Generator().manual_seed(0)
    for models in (5, 9):
        ap = torch.rand(models, 1, dtype=torch.float64, generator=generator)
        ms = 10 * torch.rand(models, 1, dtype=torch.float64, generator=generator) + 10 * ap
        noise = 0.03 * torch.rand(models, 3, dtype=torch.float64, generator=generator)
        check.value(f"{models} random models, three seeds", ap + noise, ms + noise)
    check.value("no models (M = 0)", accuracy[:0], latency[:0], hint="without models the answer is empty, (0,) bool")
    check.done()


def _beaten(
    accuracy: Tensor,
    latency: Tensor,
    *,
    more: Callable[[Tensor, Tensor], Tensor] = lambda x, y: x.amin(1)[:, None] > y.amax(1),
    less: Callable[[Tensor, Tensor], Tensor] = lambda x, y: x.amax(1)[:, None] < y.amin(1),
    both: Callable[[Tensor, Tensor], Tensor] = torch.logical_and,
) -> Tensor:
    """(M, M): whether row beats column."""
    return both(more(accuracy, accuracy), less(latency, latency))


def _frontier(accuracy: Tensor, latency: Tensor, **parts: Callable) -> Tensor:
    if len(accuracy) == 0:
        return torch.zeros(0, dtype=torch.bool)
    return ~_beaten(accuracy, latency, **parts).any(0)


def _with(**parts: Callable) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda accuracy, latency: _frontier(accuracy, latency, **parts)


_FRONTIER_MISTAKES = {
    "a model is beaten by one that is better in both, not in one of the two": _with(both=torch.logical_or),
    "fewer milliseconds are better: the other's slowest must be below one's own fastest": (
        _with(less=lambda x, y: x.amin(1)[:, None] > y.amax(1))
    ),
    "you marked the models that are beaten; mark the others": lambda a, t: ~_frontier(a, t),
    "you marked the models that beat another; mark those that none beats": (
        lambda a, t: _beaten(a, t).any(1) if len(a) else a.new_zeros(0).bool()
    ),
    "you kept the models that beat no one; keep those that no one beats: .any(0), over the rows": (
        lambda a, t: ~_beaten(a, t).any(1) if len(a) else a.new_zeros(0).bool()
    ),
    "you compared means; where the spreads overlap no one beats anyone": _with(
        more=lambda x, y: x.mean(1)[:, None] > y.mean(1), less=lambda x, y: x.mean(1)[:, None] < y.mean(1)
    ),
    "the accuracies are compared by their means; they too may overlap": (
        _with(more=lambda x, y: x.mean(1)[:, None] > y.mean(1))
    ),
    "the times are compared by their means; they too may overlap": (
        _with(less=lambda x, y: x.mean(1)[:, None] < y.mean(1))
    ),
    "an accuracy that touches another is not above it: use >": _with(more=lambda x, y: x.amin(1)[:, None] >= y.amax(1)),
    "a time that touches another is not below it: use <": _with(less=lambda x, y: x.amax(1)[:, None] <= y.amin(1)),
    "accuracies or times that touch are neither above nor below: use > and <": _with(
        more=lambda x, y: x.amin(1)[:, None] >= y.amax(1), less=lambda x, y: x.amax(1)[:, None] <= y.amin(1)
    ),
    "you compared the one's best with the other's worst; its worst must beat the other's best": _with(
        more=lambda x, y: x.amax(1)[:, None] > y.amin(1), less=lambda x, y: x.amin(1)[:, None] < y.amax(1)
    ),
    "the accuracies: the one's lowest must be above the other's highest, not the highest above the lowest": (
        _with(more=lambda x, y: x.amax(1)[:, None] > y.amin(1))
    ),
    "the times: the one's highest must be below the other's lowest, not the lowest below the highest": (
        _with(less=lambda x, y: x.amin(1)[:, None] < y.amax(1))
    ),
    "you compared best with best, which luck chooses; the one's worst must beat the other's best": _with(
        more=lambda x, y: x.amax(1)[:, None] > y.amax(1), less=lambda x, y: x.amin(1)[:, None] < y.amin(1)
    ),
    "you compared worst with worst; the one's worst must beat the other's best": _with(
        more=lambda x, y: x.amin(1)[:, None] > y.amin(1), less=lambda x, y: x.amax(1)[:, None] < y.amax(1)
    ),
    "a seed has nothing in common with the same seed of another model: compare all with all": _with(
        more=lambda x, y: (x[:, None] > y).all(2), less=lambda x, y: (x[:, None] < y).all(2)
    ),
    "you looked at accuracy alone": _with(both=lambda more, less: more),
    "you looked at speed alone": _with(both=lambda more, less: less),
    "a model must be beaten by one other, not by all": (
        lambda a, t: ~_beaten(a, t).all(0) if len(a) else a.new_zeros(0).bool()
    ),
}
