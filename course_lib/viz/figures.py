"""The course's plots, each a matplotlib Figure without pyplot's global state; `show` puts them into a notebook."""

from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib import patheffects
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from course_lib.viz.draw import check_boxes
from course_lib.viz.palette import DASHES, INK, LINE_STYLES, MISSED, PALETTE, TRUTH, class_color, luminance, style
from course_lib.viz.picture import Picture, to_numpy, to_picture

WIDTH = 7.5  # inches: 600 px at 80 dpi
NOT_LOSSES = ("iteration", "minutes", "seconds", "lr")


def learning_curve(records: Sequence[Mapping], *, x: str = "minutes") -> Figure:
    """Plot the losses of a training log, and below them AP where the log has it.

    records: one dict each (`log.jsonl`) with the key of `x`; every other number is a part of the loss, but for
    iteration, minutes, seconds and lr; "AP" (in any case) is average precision in 0…1. x: "minutes" or "iteration".
    Thin lines are the values, thick ones their running mean. An empty log gives empty axes that say so.
    Raises ValueError naming the first record without `x`.
    """
    for i, record in enumerate(records):
        if x not in record:
            raise ValueError(f"record {i}: found {sorted(record)}, expected {x!r} among them")
    keys = dict.fromkeys(key for record in records for key in record)
    parts = [key for key in keys if key not in NOT_LOSSES and key.lower() != "ap"]
    quality = [_series(records, x, key) for key in keys if key.lower() == "ap"]
    quality = [series for series in quality if len(series[0])]
    with style():
        figure = Figure(figsize=(WIDTH, 4.6 if quality else 3.2))
        axes = figure.subplots(2 if quality else 1, sharex=True, squeeze=False)[:, 0]
        axes[0].set(ylabel="loss")
        for part, (color, dash) in zip(parts, LINE_STYLES):
            at, values = _series(records, x, part)
            axes[0].plot(at, values, color=color, linestyle="-", alpha=0.3, linewidth=1)
            axes[0].plot(at, _running_mean(values), color=color, linestyle=dash, label=part.replace("_", " "))
        if parts:
            axes[0].set_ylim(bottom=0)
            axes[0].legend()
        else:
            axes[0].text(0.5, 0.5, "no records yet", transform=axes[0].transAxes, ha="center")
        for at, values in quality:
            axes[1].plot(at, values, color=INK, linestyle="-", marker="o", markersize=5)
            place = {"xytext": (-6, -6), "textcoords": "offset points", "ha": "right", "va": "top"}
            axes[1].annotate(f"{values[-1]:.3f}", (at[-1], values[-1]), **place)
            axes[1].set(ylabel="AP", ylim=(0, 1))
        axes[-1].set(xlabel=x)
        axes[-1].set_xlim(left=0)
    return figure


def precision_recall(curves: Mapping[str, tuple], *, title: str = "") -> Figure:
    """Plot precision over recall, a curve for each class or IoU threshold.

    curves: for each name (recall, precision), both (R,) in 0…1; the k-th has the colour of class k. A curve without
    points appears in the legend alone. Raises ValueError naming the curve whose arrays differ in shape.
    """
    with style():
        columns = max(1, -(-len(curves) // 18))
        figure = Figure(figsize=(5 + 1.6 * columns, 4.2))
        axes = figure.subplots()
        for k, (name, (recall, precision)) in enumerate(curves.items()):
            recall, precision = to_numpy(recall), to_numpy(precision)
            if recall.shape != precision.shape or recall.ndim != 1:
                found = f"recall {recall.shape} and precision {precision.shape}"
                raise ValueError(f"curve {name!r}: found {found}, expected both (R,)")
            color, label = class_color(k), name if len(recall) else f"{name} (none)"
            axes.plot(recall, precision, color=color, linestyle=DASHES[k % 4], label=label, path_effects=_rim(color))
        axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.04), title=title)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", ncols=columns)
    return figure


def ap_per_class(per_class: Mapping[str, Mapping]) -> Figure:
    """Bars of AP for each class, best first, with AP50 as a diamond, the value and the number of objects.

    per_class: for each name "AP" and "AP50" in 0…1 or None (no objects), and "objects", a count.
    Raises ValueError without classes.
    """
    if not per_class:
        raise ValueError("ap_per_class: found no classes, expected at least one")
    names = sorted(per_class, key=lambda name: -1 if per_class[name]["AP"] is None else per_class[name]["AP"])
    ap, ap50 = (np.array([per_class[n][key] for n in names], dtype=float) for key in ("AP", "AP50"))  # None is NaN
    at = np.arange(len(names))
    with style():
        figure = Figure(figsize=(WIDTH, 1.1 + 0.28 * max(len(names), 2)))
        axes = figure.subplots()
        axes.barh(at, np.nan_to_num(ap), height=0.7, color=PALETTE[0], label="AP")
        axes.plot(ap50, at, "D", color=PALETTE[1], markeredgecolor=INK, markersize=6, label="AP50", clip_on=False)
        texts = ["–" if np.isnan(value) else f"{value:.3f}" for value in ap]
        for row, text in enumerate([*texts, "AP"]):
            axes.text(1.04, row, text, transform=axes.get_yaxis_transform(), va="center")
        axes.set_yticks(at, [f"{name} ({per_class[name]['objects']})" for name in names])
        axes.set(xlim=(0, 1), ylim=(-0.6, len(names) - 0.4), xlabel="AP", ylabel="class (objects)")
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper right", ncols=2)
    return figure


def box_sizes(boxes, anchors=None) -> Figure:
    """Show how large and how wide the boxes of a data set are, and whether the anchors suit them.

    boxes: (N, 4) xyxy px. anchors: (A, 4) xyxy px, wherever they lie; only their sizes count.
    Left: histogram of √(width · height), doubling from tick to tick, with a line at each anchor size.
    Right: width and height of each box, and of each anchor (+). Raises ValueError naming a box without area.
    """
    width, height = _sides(boxes, "box")
    anchor_width, anchor_height = _sides([] if anchors is None else anchors, "anchor")
    size, anchor_size = np.sqrt(width * height), np.sqrt(anchor_width * anchor_height)
    everything = np.concatenate((width, height, size, anchor_width, anchor_height, [8, 64]))
    low, high = np.floor(np.log2(everything.min())), np.ceil(np.log2(everything.max()))
    with style():
        figure = Figure(figsize=(WIDTH, 3.4))
        left, right = figure.subplots(1, 2)
        left.hist(size, bins=2 ** np.arange(low, high + 0.25, 0.25), color=TRUTH, label=f"{len(size)} boxes")
        for k, value in enumerate(np.unique(anchor_size.round(2))):
            left.axvline(value, color=MISSED, linestyle="--", label=None if k else "anchors")
        left.set(xlabel="√(width · height), px", ylabel="boxes")
        left.set_ylim(bottom=0)
        right.plot(width, height, ".", color=TRUTH, alpha=0.35, markersize=4)
        right.plot(anchor_width, anchor_height, "+", color=MISSED, markersize=10, markeredgewidth=1.8)
        right.set(xlabel="width, px", ylabel="height, px")
        for axis in (left.xaxis, right.xaxis, right.yaxis):
            _doubling(axis, low, high)
        figure.legend(loc="outside upper right", ncols=2)
    return figure


def image_grid(images: Sequence[Picture], titles: Sequence[str] | None = None, *, columns: int = 4) -> Figure:
    """Show images and maps (scores, features, masks) in rows.

    images: RGB as `draw_boxes` takes them, or maps (H, W); all maps share one colour scale, drawn beside them.
    titles: one each. Raises ValueError without images or if there are not as many titles.
    """
    titles = [""] * len(images) if titles is None else titles
    if not images or len(titles) != len(images):
        raise ValueError(f"image_grid: found {len(images)} images and {len(titles)} titles, expected as many, not none")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    maps = {i: to_numpy(image).astype(float) for i, image in enumerate(images) if getattr(image, "ndim", 3) == 2}
    limits = {"vmin": min(m.min() for m in maps.values()), "vmax": max(m.max() for m in maps.values())} if maps else {}
    with style():
        side = WIDTH / columns
        figure = Figure(figsize=(WIDTH, rows * (side + 0.1)))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for i, (axes, image, title) in enumerate(zip(grid.flat, images, titles)):
            shown = axes.imshow(maps[i], **limits) if i in maps else axes.imshow(to_picture(image))
            axes.set_title(fill(title, max(8, int(9 * side))), fontsize=10)
            if i in maps:
                scale = shown
        if maps:
            figure.colorbar(scale, ax=grid, shrink=0.8)
    return figure


def _series(records: Iterable[Mapping], x: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """The places and values of those records that have a value for the key."""
    pairs = [(record[x], record[key]) for record in records if record.get(key) is not None]
    return tuple(np.array(pairs, dtype=float).reshape(-1, 2).T)


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Mean over a window about each value, a fifteenth of the whole wide, narrower at the ends: it does not lag."""
    half = len(values) // 30
    sums = np.concatenate(([0], values.cumsum()))
    start = (np.arange(len(values)) - half).clip(min=0)
    end = (np.arange(len(values)) + half + 1).clip(max=len(values))
    return (sums[end] - sums[start]) / (end - start)


def _rim(color: str) -> list:
    """A dark rim for lines too light for white paper."""
    return [patheffects.withStroke(linewidth=3, foreground="#777777")] if luminance(color) > 0.5 else []


def _sides(boxes, what: str) -> tuple[np.ndarray, np.ndarray]:
    boxes = check_boxes(boxes)
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    empty = (width <= 0) | (height <= 0)
    if empty.any():
        i = int(empty.argmax())
        raise ValueError(f"{what} {i}: found width {width[i]:g} and height {height[i]:g}, expected more than 0")
    return width, height


def _doubling(axis: Axis, low: float, high: float) -> None:
    """A logarithmic axis from 2^low to 2^high with plain numbers at powers of two."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (2**low, 2**high)})
    axis.set_major_locator(FixedLocator(2 ** np.arange(low, high + 1, max(1, (high - low) // 5))))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(ScalarFormatter())
