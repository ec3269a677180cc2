"""Two boxes and how far they overlap; pixels and the edges between them."""

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from course_lib.ops.boxes import paired_giou, paired_iou
from course_lib.viz.figures import WIDTH
from course_lib.viz.palette import INK, PALETTE, PAPER, PREDICTION, TRUTH, style

SIDE = 10.0  # of the boxes in `slide`, px
REACH = 30.0  # how far its curves go to the right, px


def slide(right: float, down: float = 0.0) -> Figure:
    """Show a box of 10 × 10 px, an equal one moved by `right` and `down` px, and their IoU and GIoU.

    Left: both boxes and, dashed, their hull. Right: IoU and GIoU over the shift to the right, this one marked.
    """
    fixed, moved = _pair(torch.tensor([right]), down)
    iou, giou = paired_iou(fixed, moved).item(), paired_giou(fixed, moved).item()
    with style():
        figure = Figure(figsize=(WIDTH, 3.1))
        plane, curves = figure.subplots(1, 2)
        _draw_pair(plane, fixed[0].tolist(), moved[0].tolist())
        shifts = torch.linspace(-REACH / 6, REACH, 176)
        fixed, moved = _pair(shifts, down)
        for name, values, here, color, dash in (
            ("IoU", paired_iou(fixed, moved), iou, PALETTE[2], "-"),
            ("GIoU", paired_giou(fixed, moved), giou, PALETTE[5], "--"),
        ):
            curves.plot(shifts, values, color=color, linestyle=dash, label=f"{name} {here:.2f}")
            curves.plot([right], [here], "o", color=color, markeredgecolor=INK, markersize=8)
        curves.axhline(0, color=INK, linestyle="-", linewidth=0.8)
        curves.set(xlabel="shift to the right, px", ylabel="overlap", ylim=(-1.05, 1.05))
        curves.legend(loc="lower left")
    return figure


def _pair(right: torch.Tensor, down: float) -> tuple[torch.Tensor, torch.Tensor]:
    """For each shift (N,) the fixed and the moved box, (N, 4) each."""
    fixed = torch.tensor([0.0, 0.0, SIDE, SIDE]).expand(len(right), 4)
    below = torch.full_like(right, down)
    return fixed, fixed + torch.stack((right, below, right, below), dim=1)


def _draw_pair(axes: Axes, a: Sequence[float], b: Sequence[float]) -> None:
    """Both boxes, named, and the hull around them."""
    hull = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    for (x1, y1, x2, y2), color, name in ((a, TRUTH, "A"), (b, PREDICTION, "B")):
        look = {"facecolor": color, "alpha": 0.55, "edgecolor": INK, "linewidth": 1.5}
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **look))
        axes.text(x1 + 0.6, y1 + 0.6, name, va="top", weight="bold")
    look = {"facecolor": "none", "edgecolor": INK, "linestyle": "--", "linewidth": 1.5}
    axes.add_patch(Rectangle(hull[:2], hull[2] - hull[0], hull[3] - hull[1], **look))
    axes.text(hull[0], hull[3] + 0.6, "C, the hull", va="top")
    low, high = -6, REACH + SIDE + 1
    axes.set(xlim=(low, high), ylim=(high - 8, low), aspect="equal", xlabel="x, px", ylabel="y, px")


def pixels_and_edges(first: int, last: int) -> Figure:
    """Show a row of pixels of which an object covers those from `first` to `last`, and the edges between pixels.

    Raises ValueError unless 0 <= first <= last.
    """
    if not 0 <= first <= last:
        raise ValueError(f"pixels_and_edges: found first {first} and last {last}, expected 0 <= first <= last")
    count = last + 3
    with style():
        figure = Figure(figsize=(WIDTH, 1.9))
        axes = figure.subplots()
        for x in range(count):
            covered = first <= x <= last
            axes.add_patch(Rectangle((x, 0), 1, 1, facecolor=TRUTH if covered else PAPER, edgecolor=INK))
            axes.text(x + 0.5, 0.5, str(x), ha="center", va="center", color=PAPER if covered else INK)
            axes.text(x, 1.12, str(x), ha="center", va="bottom")
        axes.text(count, 1.12, str(count), ha="center", va="bottom")
        for edge, words, side in ((first, "left edge", "right"), (last + 1, "right edge", "left")):
            axes.plot([edge, edge], [-0.35, 1.1], color=PALETTE[5], linestyle="-", linewidth=3)
            axes.text(edge + (0.1 if side == "left" else -0.1), -0.3, f"{words} {edge}", ha=side, va="center")
        axes.text(-0.25, 0.5, "pixels", ha="right", va="center")
        axes.text(-0.25, 1.12, "edges", ha="right", va="bottom")
        axes.set(xlim=(-1.6, count + 0.4), ylim=(1.75, -0.6))
        axes.invert_yaxis()
        axes.set_axis_off()
    return figure
