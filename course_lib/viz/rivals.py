"""Figures of a comparison of models: accuracy against time, what an image costs, which objects are found."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from course_lib.viz.figures import WIDTH
from course_lib.viz.palette import INK, LINE_STYLES, PALETTE, luminance, style

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---")


def ap_over_time(curves: Mapping[str, Sequence[Sequence[tuple[float, float]]]]) -> Figure:
    """AP on the way through training, a colour, dash and marker for each model: thin each seed, thick their mean.

    curves: by model, for each seed its (minutes, AP), at least one point. Where a seed was measured more often than
    another, which happens in short trainings, the mean is taken at the places of the one with the fewest.
    Raises ValueError without models.
    """
    if not curves:
        raise ValueError("ap_over_time: found no models, expected at least one")
    with style():
        figure = Figure(figsize=(WIDTH, 3.8))
        axes = figure.subplots()
        for (name, seeds), (color, dash), marker in zip(curves.items(), LINE_STYLES, MARKERS):
            every = [np.array(points, dtype=float) for points in seeds]  # (N, 2) each
            fewest = min(every, key=len)
            aligned = [p if len(p) == len(fewest) else _read_at(p, fewest[:, 0]) for p in every]
            values = np.stack(aligned)  # (S, N, 2)
            for points in every if len(every) > 1 else ():
                axes.plot(*points.T, color=color, linestyle="-", linewidth=0.8, alpha=0.45)
            look = {"color": color, "linestyle": dash, "marker": marker, "markersize": 6, "markeredgecolor": INK}
            axes.plot(*values.mean(0).T, **look, markeredgewidth=0.6, label=name)
        axes.set(xlabel="minutes of training", ylabel="AP")
        axes.margins(0.08)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        figure.legend(loc="outside upper left", ncols=5, columnspacing=1.2, handletextpad=0.5)
    return figure


def _read_at(points: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A curve (N, 2) read at other places (M,), on straight lines between its points: (M, 2)."""
    return np.stack((places, np.interp(places, *points.T)), axis=1)


def speed_accuracy(points: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """AP over the milliseconds that an image takes: up and to the left is better. The axes do not begin at 0.

    points: by model, for each seed (milliseconds, AP): small marks; the large one is their mean, with the ranges as a
    cross. Raises ValueError without models or for a model without points.
    """
    if not points or not all(points.values()):
        raise ValueError("speed_accuracy: found a model without points or no models, expected at least one of each")
    with style():
        figure = Figure(figsize=(WIDTH, 3.8))
        axes = figure.subplots()
        for (name, seeds), color, marker in zip(points.items(), PALETTE, MARKERS):
            time, ap = np.array(seeds, dtype=float).T
            look = {"color": color, "marker": marker, "linestyle": "none", "markeredgecolor": INK}
            axes.plot(time, ap, **look, markersize=4, alpha=0.6)
            axes.plot([time.min(), time.max()], [ap.mean()] * 2, color=INK, linestyle="-", linewidth=1)
            axes.plot([time.mean()] * 2, [ap.min(), ap.max()], color=INK, linestyle="-", linewidth=1)
            axes.plot([time.mean()], [ap.mean()], **look, markersize=11, label=name)
        axes.set(xlabel="milliseconds an image (median)", ylabel="AP")
        axes.margins(0.15)
        figure.legend(loc="outside upper left", ncols=5, columnspacing=1.2, handletextpad=0.5)
    return figure


def time_parts(parts: Mapping[str, Mapping[str, float]]) -> Figure:
    """Where the milliseconds of an image go: a bar for each model, a stretch with a colour and hatch for each part.

    parts: by model, by part in the order in which an image passes them, milliseconds; all models have the same parts.
    Raises ValueError without models, or naming the model that has other parts.
    """
    if not parts:
        raise ValueError("time_parts: found no models, expected at least one")
    names = list(parts)
    kinds = list(parts[names[0]])
    for name in names:
        if list(parts[name]) != kinds:
            raise ValueError(f"model {name!r}: found {list(parts[name])}, expected {kinds}")
    with style():
        figure = Figure(figsize=(WIDTH, 1.2 + 0.42 * len(names)))
        axes = figure.subplots()
        at, left = np.arange(len(names)), np.zeros(len(names))
        for kind, color, hatch in zip(kinds, PALETTE, HATCHES):
            values = np.array([parts[name][kind] for name in names])
            ink = INK if luminance(color) > 0.2 else "#FFFFFF"
            axes.barh(
                at, values, left=left, height=0.7, color=color, hatch=hatch, edgecolor=ink, linewidth=0, label=kind
            )
            left += values
        for row, total in enumerate(left):
            place = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
            axes.annotate(f"{total:.1f}", (total, row), **place)
        axes.set_yticks(at, names)
        axes.set(xlabel="milliseconds an image (mean)", ylim=(len(names) - 0.5, -0.5))
        axes.margins(x=0.1)
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper left", ncols=5, columnspacing=1.2, handletextpad=0.5)
    return figure


def ranges_by_group(values: Mapping[str, Mapping[str, Sequence[float]]], label: str) -> Figure:
    """A quantity of each model, group by group: a mark at the mean, a line over the seeds.

    values: by model, by group, the values of its seeds, at least one; all models have the same groups.
    label: what it is, for the axis, which starts at 0.
    Raises ValueError without models, or naming the model that has other groups.
    """
    if not values:
        raise ValueError("ranges_by_group: found no models, expected at least one")
    names = list(values)
    groups = list(values[names[0]])
    for name in names:
        if list(values[name]) != groups:
            raise ValueError(f"model {name!r}: found {list(values[name])}, expected {groups}")
    step = 0.7 / len(names)
    with style():
        figure = Figure(figsize=(WIDTH, 1.2 + 0.13 * len(names) * len(groups) + 0.12 * len(groups)))
        axes = figure.subplots()
        for k, (name, color, marker) in enumerate(zip(names, PALETTE, MARKERS)):
            at = np.arange(len(groups)) - 0.35 + (k + 0.5) * step
            ranges = [values[name][group] for group in groups]
            means = [float(np.mean(found)) for found in ranges]
            axes.hlines(at, [min(v) for v in ranges], [max(v) for v in ranges], color=INK, linewidth=1.2)
            axes.plot(
                means,
                at,
                marker=marker,
                color=color,
                markeredgecolor=INK,
                linestyle="none",
                markersize=7,
                clip_on=False,
                label=name,
            )
        axes.set_yticks(np.arange(len(groups)), groups)
        axes.set(xlabel=label, ylim=(len(groups) - 0.5, -0.5))
        axes.margins(x=0.08)
        axes.set_xlim(left=0)
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper left", ncols=5, columnspacing=1.2, handletextpad=0.5)
    return figure
