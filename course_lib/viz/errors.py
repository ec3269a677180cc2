"""Figures of measuring: the saw of precision and how it is read, what errors cost, a detection beside its object."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from course_lib.viz.draw import DASHED, Mark, draw_marks
from course_lib.viz.figures import WIDTH
from course_lib.viz.palette import INK, LINE_STYLES, PALETTE, PREDICTION, TRUTH, style
from course_lib.viz.picture import Picture, to_numpy, to_picture

MARKERS = ("o", "s", "^", "D")


def read_curve(correct, objects: int, readings: Mapping[str, tuple]) -> Figure:
    """Plot the saw of precision over recall, detection by detection, and beside it each way of reading it.

    correct: (N,) bool, best score first, N at least 1. objects: how many there are. readings: by title (recalls,
    precisions), both (R,), the points that are read; the first panel is the saw alone.
    """
    right = np.cumsum(to_numpy(correct))
    recall, precision = right / objects, right / np.arange(1, len(right) + 1)
    with style():
        figure = Figure(figsize=(WIDTH, 2.7))
        panels = figure.subplots(1, 1 + len(readings), sharey=True)
        panels = np.atleast_1d(panels)
        for axes in panels:
            axes.plot(recall, precision, color=INK, linestyle="-", linewidth=1.2, marker=".", markersize=8)
            axes.set(xlabel="recall", xlim=(-0.05, 1.05), ylim=(-0.05, 1.08))
        panels[0].set(ylabel="precision", title="the saw")
        for k, (title, (at, values)) in enumerate(readings.items()):
            look = {"color": PALETTE[5], "linestyle": "none", "marker": MARKERS[k % 4]}
            size = 4 if len(at) < 40 else 2
            panels[k + 1].vlines(at, 0, values, color=PALETTE[1], linewidth=1)
            panels[k + 1].plot(at, values, **look, markersize=size)
            panels[k + 1].set_title(title)
    return figure


def error_costs(gains: Mapping[str, Mapping[str, float]]) -> Figure:
    """Bars of the AP that each kind of error costs, for one or more groups.

    gains: by group (in the legend), by kind of error, the gain; all groups have the same kinds. Raises ValueError
    naming the group that has others.
    """
    groups = list(gains)
    kinds = list(gains[groups[0]])
    for group in groups:
        if list(gains[group]) != kinds:
            raise ValueError(f"group {group!r}: found {list(gains[group])}, expected {kinds}")
    height = 0.8 / len(groups)
    with style():
        figure = Figure(figsize=(WIDTH, 1.0 + 0.34 * len(kinds) * max(1.0, 0.55 * len(groups))))
        axes = figure.subplots()
        for k, group in enumerate(groups):
            at = np.arange(len(kinds)) - 0.4 + (k + 0.5) * height
            values = [gains[group][kind] for kind in kinds]
            axes.barh(at, values, height=height, color=LINE_STYLES[k][0], edgecolor=INK, linewidth=0.5, label=group)
            for y, value in zip(at, values):
                place = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
                axes.annotate(f"{value:+.3f}", (max(value, 0), y), **place)
        axes.set_yticks(np.arange(len(kinds)), kinds)
        axes.set(xlabel="AP50 gained if put right", ylim=(len(kinds) - 0.5, -0.5))
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")
        if len(groups) > 1:
            figure.legend(loc="outside upper right", ncols=len(groups))
    return figure


def draw_error(
    image: Picture,
    box: Sequence[float] | None,
    text: str,
    other: Sequence[float] | None = None,
    other_text: str = "",
    side: int = 160,
) -> Image.Image:
    """The neighbourhood of an error: the detection in unbroken orange, the object that it is about in dashed blue.

    box: xyxy px of the detection, None for a missed object. text: its class and score. other: xyxy px of the object,
    None where there is none. other_text: its class. side: the longer one of the picture that is returned, in px.
    Raises ValueError without either box.
    """
    marks = [(box, PREDICTION, text, ()), (other, TRUTH, other_text, DASHED)]
    marks = [(np.asarray(b, dtype=float), *more) for b, *more in marks if b is not None]
    if not marks:
        raise ValueError("draw_error: found no box and no object, expected at least one")
    picture = to_picture(image)
    corners = np.concatenate([b for b, *_ in marks]).reshape(-1, 2)
    reach = np.ptp(corners, axis=0).max() * 1.6 + 8  # the object and some of what is about it
    reach = np.minimum(reach, picture.size)
    low = np.clip((corners.min(0) + corners.max(0) - reach) / 2, 0, picture.size - reach)
    scale = side / reach.max()
    size = tuple(int(v) for v in np.rint(reach * scale))
    crop = picture.resize(size, Image.Resampling.BILINEAR, box=(*low, *(low + reach)))
    return draw_marks(crop, [Mark((b - np.tile(low, 2)) * scale, *more) for b, *more in marks], scale=1)
