"""What may be said: means and spreads over seeds, and no claim where the spreads overlap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np


@dataclass(frozen=True)
class Spread:
    """The values of one quantity over the seeds of one model."""

    values: tuple[float, ...]

    def __post_init__(self):
        if not self.values:
            raise ValueError("a spread needs at least one value")

    @property
    def mean(self) -> float:
        """Arithmetic mean."""
        return float(np.mean(self.values))

    @property
    def low(self) -> float:
        """The least value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.values)

    def overlaps(self, other: "Spread") -> bool:
        """Whether some value of the one lies among those of the other, or at the same place."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Quantity:
    """Something to be compared: its name in a sentence, what the better one is, how it is written."""

    name: str
    better: str = "better"
    form: str = "{:.3f}"
    higher_is_better: bool = True

    def write(self, spread: Spread) -> str:
        """The mean and, of several values, the range."""
        mean = self.form.format(spread.mean)
        if len(spread.values) == 1:
            return mean
        return f"{mean} ({self.form.format(spread.low)}–{self.form.format(spread.high)})"


QUANTITIES = {
    "AP": Quantity("AP", "more accurate"),
    "AP50": Quantity("AP at an overlap of 0.50"),
    "AP75": Quantity("AP at an overlap of 0.75"),
    "AP_small": Quantity("AP of small objects"),
    "AP_medium": Quantity("AP of medium objects"),
    "AP_large": Quantity("AP of large objects"),
    "mask_AP": Quantity("AP of masks", "more accurate in its masks"),
    "mask_AP50": Quantity("AP of masks at an overlap of 0.50"),
    "mask_AP75": Quantity("AP of masks at an overlap of 0.75"),
    "AR100": Quantity("recall with 100 detections an image"),
    "found_small": Quantity("the share of the smallest third that is found", form="{:.2f}"),
    "found_large": Quantity("the share of the largest third that is found", form="{:.2f}"),
    "found_crowded": Quantity("the share of the crowded objects that is found", form="{:.2f}"),
    "latency": Quantity("milliseconds an image", "faster", "{:.1f}", higher_is_better=False),
    "training": Quantity("images a second in training", "faster in training", "{:.0f}"),
}


def pair_verdict(quantity: Quantity, one: str, a: Spread, other: str, b: Spread) -> str:
    """One sentence on two models: which is better in a quantity, or why nothing is said.

    Args:
        quantity: what is compared.
        one, other: the models' names.
        a, b: their values over the seeds.
    """
    numbers = f"{one} {quantity.write(a)}, {other} {quantity.write(b)}"
    if min(len(a.values), len(b.values)) < 2:
        return f"No claim between {one} and {other}: a single seed has no spread ({quantity.name}: {numbers})."
    if a.overlaps(b):
        return f"No claim between {one} and {other}: their spreads overlap ({quantity.name}: {numbers})."
    if (a.mean > b.mean) != quantity.higher_is_better:
        one, a, other, b = other, b, one, a
    return f"{one} is {quantity.better} than {other}: {quantity.name} {quantity.write(a)} against {quantity.write(b)}."


def pair_verdicts(quantity: Quantity, spreads: Mapping[str, Spread]) -> list[str]:
    """`pair_verdict` of every two models, the best mean first."""
    order = ranking(quantity, spreads)
    return [pair_verdict(quantity, a, spreads[a], b, spreads[b]) for a, b in combinations(order, 2)]


def ranking(quantity: Quantity, spreads: Mapping[str, Spread]) -> list[str]:
    """The models' names, the best mean first."""
    sign = -1 if quantity.higher_is_better else 1
    return sorted(spreads, key=lambda name: sign * spreads[name].mean)


def leader(quantity: Quantity, spreads: Mapping[str, Spread]) -> str | None:
    """The model whose spread lies beyond all others', or None: then no one leads. One seed leads nowhere."""
    if any(len(spread.values) < 2 for spread in spreads.values()):
        return None
    first, *others = ranking(quantity, spreads)
    return first if not any(spreads[first].overlaps(spreads[name]) for name in others) else None


def lead_verdict(quantity: Quantity, spreads: Mapping[str, Spread]) -> str:
    """One sentence on all models: who leads in a quantity, or between whom nothing is decided."""
    first, *others = ranking(quantity, spreads)
    lead = f"{first} {quantity.write(spreads[first])}"
    if not others:
        return f"In {quantity.name} there is nothing to compare: {lead}."
    if any(len(spread.values) < 2 for spread in spreads.values()):
        return f"In {quantity.name} no one leads, for a single seed has no spread; the best value is {lead}."
    close = [name for name in others if spreads[first].overlaps(spreads[name])]
    if close:
        level = ", ".join(f"{name} {quantity.write(spreads[name])}" for name in close)
        return f"In {quantity.name} no one leads: the spread of {lead} overlaps that of {level}."
    second = f"{others[0]} {quantity.write(spreads[others[0]])}"
    return f"In {quantity.name} {first} leads: {quantity.write(spreads[first])}, then {second}."


def frontier(accuracy: Mapping[str, Spread], latency: Mapping[str, Spread]) -> list[str]:
    """The models than which none is both more accurate and faster beyond the spreads, the fastest first."""
    worse = lambda name, other: (  # noqa: E731
        accuracy[other].low > accuracy[name].high and latency[other].high < latency[name].low
    )
    kept = [name for name in accuracy if not any(worse(name, other) for other in accuracy if other != name)]
    return sorted(kept, key=lambda name: latency[name].mean)


def both_verdict(accuracy: Mapping[str, Spread], latency: Mapping[str, Spread]) -> str:
    """One sentence or two on accuracy and speed together: who is on the `frontier`, and who is not."""
    if any(len(spread.values) < 2 for spread in accuracy.values()):
        return "Of accuracy and speed together nothing is claimed: a single seed has no spread."
    best = frontier(accuracy, latency)
    beaten = [name for name in accuracy if name not in best]
    text = f"Beaten in neither accuracy nor speed, the fastest first: {', '.join(best)}."
    if beaten:
        text += f" Others are both more accurate and faster than {' and than '.join(beaten)}."
    return text


def chance_of_separation(seeds: int) -> float:
    """How often two models that are alike would seem to differ: that `seeds` values each do not overlap by luck.

    Of the ways to order 2n values, two have all of the one model's below all of the other's.

    Raises:
        ValueError: for fewer than one seed.
    """
    if seeds < 1:
        raise ValueError(f"seeds: found {seeds}, expected at least 1")
    return 2 / comb(2 * seeds, seeds)


def caution(seeds: Sequence[int], pairs: int) -> str:
    """What a reader must know of the verdicts: how often luck alone makes one."""
    if len(seeds) < 2:
        return "One seed was trained, so nothing is claimed: the next one might turn the order round."
    chance = chance_of_separation(len(seeds))
    here = "there is one pair here" if pairs == 1 else f"there are {pairs} pairs here"
    return (
        f"A claim is made only where the spreads of {len(seeds)} seeds do not overlap. Two models that are alike would "
        f"still be told apart in one of {round(1 / chance)} comparisons by luck; {here}."
    )
