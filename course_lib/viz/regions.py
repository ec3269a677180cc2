"""Regions on a map, how well proposals reach the objects, and where a detector's time goes."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from course_lib.ops.boxes import box_iou
from course_lib.ops.regions import align_regions, pool_regions
from course_lib.viz.figures import WIDTH
from course_lib.viz.palette import DASHES, INK, LINE_STYLES, MISSED, PALETTE, PAPER, PREDICTION, style

SHADES = (PALETTE[4], PALETTE[6])  # of neighbouring bins


def rounded_region(boxes: Tensor, stride: int) -> Tensor:
    """What RoIPool reads for boxes (N, 4) in pixels, as boxes (N, 4) in pixels: whole cells, the last one included."""
    cells = (boxes / stride + 0.5).floor()
    first = cells[:, :2]
    last = torch.maximum(cells[:, 2:], first) + 1
    return torch.cat((first, last), 1) * stride


def pool_beside_align(features: Tensor, box: Sequence[float], *, stride: int, size: int, samples: int = 2) -> Figure:
    """One region of a map as RoIPool and as RoIAlign take it.

    features: (H, W), whole numbers. box: xyxy in pixels. stride: pixels a cell. size: bins down and across.
    Left the whole cells that RoIPool reads, tinted by bin (where two bins share cells both tints show). Right the bins
    and points of RoIAlign. In both the box (orange), and below what comes out.
    """
    boxes = torch.tensor([list(box)], dtype=torch.float32)
    region = rounded_region(boxes, stride)
    pooled = pool_regions(features[None].float(), boxes, 1 / stride, size)[0, 0]
    aligned = align_regions(features[None].float(), boxes, 1 / stride, size, samples)[0, 0]
    with style():
        figure = Figure(figsize=(WIDTH, 4.3))
        figure.get_layout_engine().set(rect=(0, 0.02, 1, 0.96))
        left, right = figure.subplots(1, 2)
        for axes, title, values in ((left, "RoIPool", pooled), (right, "RoIAlign", aligned)):
            _draw_map(axes, features, stride)
            rows = "\n".join("  ".join(f"{v:.4g}" for v in row) for row in values.tolist())
            axes.set(title=title, xlabel=f"x, px\n\n{rows}", ylabel="y, px" if axes is left else "")
        _draw_bins(left, (region[0] / stride).int().tolist(), stride, size)
        _draw_points(right, box, size, samples)
        for axes in (left, right):
            x1, y1, x2, y2 = box
            look = {"facecolor": "none", "edgecolor": PREDICTION, "linewidth": 3}
            axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **look))
        left.set_title(f"RoIPool: IoU with the box {box_iou(boxes, region).item():.2f}")
    return figure


def _draw_map(axes: Axes, features: Tensor, stride: int) -> None:
    """The cells, each with its value."""
    height, width = features.shape
    for r in range(height):
        for c in range(width):
            axes.add_patch(Rectangle((c * stride, r * stride), stride, stride, facecolor=PAPER, edgecolor="#999999"))
            place = ((c + 0.12) * stride, (r + 0.12) * stride)
            axes.text(*place, f"{features[r, c]:g}", ha="left", va="top", fontsize=9, zorder=4)
    ticks = [range(0, (n + 1) * stride, stride) for n in (width, height)]
    margin = stride / 4
    axes.set(aspect="equal", xlim=(-margin, width * stride + margin), ylim=(height * stride + margin, -margin))
    axes.set(xticks=ticks[0], yticks=ticks[1])
    axes.grid(visible=False)


def _draw_bins(axes: Axes, region: Sequence[int], stride: int, size: int) -> None:
    """The bins of whole cells, tinted in turn, and the rounded region (red, dashed)."""
    x1, y1, x2, y2 = region
    across, down = x2 - x1, y2 - y1
    for r in range(size):
        top, bottom = r * down // size, -(-(r + 1) * down // size)
        for c in range(size):
            left, right = c * across // size, -(-(c + 1) * across // size)
            corner = ((x1 + left) * stride, (y1 + top) * stride)
            sides = ((right - left) * stride, (bottom - top) * stride)
            axes.add_patch(Rectangle(corner, *sides, facecolor=SHADES[(r + c) % 2], alpha=0.45, edgecolor="none"))
    look = {"facecolor": "none", "edgecolor": MISSED, "linewidth": 2, "linestyle": "--"}
    axes.add_patch(Rectangle((x1 * stride, y1 * stride), across * stride, down * stride, **look))


def _draw_points(axes: Axes, box: Sequence[float], size: int, samples: int) -> None:
    """The borders between the bins and the points at which the map is read."""
    x1, y1, x2, y2 = box
    for k in range(1, size):
        x, y = x1 + k * (x2 - x1) / size, y1 + k * (y2 - y1) / size
        axes.plot([x, x], [y1, y2], color=PREDICTION, linestyle="-", linewidth=1.5)
        axes.plot([x1, x2], [y, y], color=PREDICTION, linestyle="-", linewidth=1.5)
    at = [(k + 0.5) / (size * samples) for k in range(size * samples)]
    points = [(x1 + a * (x2 - x1), y1 + b * (y2 - y1)) for a in at for b in at]
    axes.plot(*zip(*points), "o", color=PALETTE[2], markeredgecolor=INK, markersize=5)


def recall_over_number(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """The share of objects that proposals reach, over how many proposals of an image are looked at.

    curves: for each kind of proposals (number, recall 0 … 1) pairs.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 3.0))
        axes = figure.subplots()
        for (name, points), (color, dash) in zip(curves.items(), LINE_STYLES):
            axes.plot(*zip(*points), color=color, linestyle=dash, marker="o", markersize=5, label=name)
        ticks = sorted({number for points in curves.values() for number, _ in points})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.set_xticks([], minor=True)
        axes.set(xlabel="proposals an image, the first", ylabel="objects reached", ylim=(-0.03, 1.03))
        figure.legend(loc="outside right upper")
    return figure


def time_by_part(rows: Mapping[str, Mapping[str, float]]) -> Figure:
    """Where the time of an image goes: a bar for each detector, a piece for each part, the sum at its end.

    rows: for each detector milliseconds by part.
    """
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))
    longest = max(sum(row.values()) for row in rows.values())
    with style():
        figure = Figure(figsize=(WIDTH, 1.2 + 0.5 * len(rows)))
        axes = figure.subplots()
        for k, row in enumerate(rows.values()):
            start = 0.0
            for part, ms in row.items():
                which = parts.index(part)
                look = {"color": PALETTE[which], "edgecolor": INK, "hatch": ("", "//", "..", "xx")[which % len(DASHES)]}
                axes.barh(k, ms, left=start, height=0.6, linewidth=0.8, **look)
                start += ms
            axes.text(start + longest / 80, k, f"{start:.0f} ms", va="center")
        handles = [
            Rectangle((0, 0), 1, 1, facecolor=PALETTE[i], edgecolor=INK, hatch=("", "//", "..", "xx")[i % len(DASHES)])
            for i in range(len(parts))
        ]
        axes.set_yticks(range(len(rows)), list(rows))
        axes.invert_yaxis()
        axes.set(xlabel="ms an image", xlim=(0, longest * 1.15))
        axes.grid(visible=False, axis="y")
        figure.legend(handles, parts, loc="outside upper right", ncols=len(parts))
    return figure
