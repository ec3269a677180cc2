"""Rows of figures, and the one table that they make."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

UNITS = {"ms": (1e3, "ms"), "MB": (1 / 2**20, "MB")}  # how a figure in seconds or bytes is shown


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured thing.

    Attributes:
        what: it is.
        ours, peer: the figures, in seconds for unit "ms", in bytes for "MB", else as they are shown. Without a peer
            the target is for our figure itself, else for the ratio ours / peer.
        unit: of the figures.
        at_most, at_least: the target, one of them or none.
    """

    what: str
    ours: float
    peer: float | None = None
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours / peer."""
        return None if self.peer is None else self.ours / self.peer

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        figure = self.ours if self.peer is None else self.ratio
        if self.at_most is not None:
            return figure <= self.at_most
        return None if self.at_least is None else figure >= self.at_least

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {**vars(self), "ratio": self.ratio, "met": self.met}

    def cells(self) -> tuple[str, ...]:
        """What, ours, peer, ratio, target, verdict, as text."""
        limit, sign = (self.at_most, "≤") if self.at_most is not None else (self.at_least, "≥")
        return (
            self.what,
            self._show(self.ours),
            "" if self.peer is None else self._show(self.peer),
            "" if self.ratio is None else f"{self.ratio:.2f}",
            "" if limit is None else f"{sign} {_number(limit)}",
            {True: "ok", False: "MISSED", None: ""}[self.met],
        )

    def _show(self, figure: float) -> str:
        factor, unit = UNITS.get(self.unit, (1, self.unit))
        return f"{_number(figure * factor)} {unit}".strip()


def _number(value: float) -> str:
    """Three significant digits; whole numbers from 100 on."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) < 1e-3:
        return f"{value:.1e}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text and abs(value) < 1 else text


def format_table(rows: Iterable[Row]) -> str:
    """The rows under their headings, columns aligned: names to the left, figures to the right."""
    head = ("what", "ours", "peer", "ours/peer", "target", "")
    lines = [head, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(_aligned(line, widths) for line in lines)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *figures, verdict = cells
    parts = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(figures, widths[1:])), verdict]
    return "  ".join(parts).rstrip()
