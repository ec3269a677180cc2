"""What a network sees: maps of activations, receptive fields, and the pyramid that joins the levels."""

from collections.abc import Sequence
from textwrap import fill

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import ImageOps
from torch import Tensor
from torch.nn import functional as F

from course_lib.viz.figures import WIDTH
from course_lib.viz.palette import INK, PALETTE, PAPER, style
from course_lib.viz.picture import Picture, to_numpy, to_picture

THEORY, EFFECTIVE = PALETTE[4], PALETTE[1]  # sky blue, orange: both stand out on viridis
COLORS = matplotlib.colormaps["viridis"].resampled(32)  # few colours and large cells keep a notebook small
MOST_CELLS = 64  # a side


def activations(
    images: Sequence[Picture], maps: Sequence[Sequence[Tensor]], titles: Sequence[str], *, rows: Sequence[str] = ()
) -> Figure:
    """Rows of an image and its maps, all drawn to one size; each map has its own scale, dark is its least value.

    images: one a row, RGB as `draw_boxes` takes them. maps: for each row as many maps (H, W). titles: one a column,
    the image's first. rows: a name for each row. Raises ValueError if the numbers do not agree.
    """
    rows = rows or [""] * len(images)
    columns = len(titles)
    if not images or not len(maps) == len(images) == len(rows) or any(len(row) != columns - 1 for row in maps):
        found = f"{len(images)} images, rows of {[len(row) for row in maps]} maps, {columns} titles, {len(rows)} names"
        raise ValueError(f"activations: found {found}; expected a row for each image and a title for each column")
    with style():
        side = WIDTH / columns
        figure = Figure(figsize=(WIDTH, len(images) * side + 0.35))
        grid = figure.subplots(len(images), columns, squeeze=False)
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for row, image, values, name in zip(grid, images, maps, rows):
            row[0].imshow(ImageOps.posterize(to_picture(image), 4))
            row[0].set_ylabel(name)
            for axes, value in zip(row[1:], values):
                axes.imshow(to_numpy(value).astype(float), cmap=COLORS)
        for axes, title in zip(grid[0], titles):
            axes.set_title(fill(title, max(8, int(9 * side))), fontsize=10)
    return figure


def receptive_fields(
    fields: Sequence[Tensor], theory: Sequence[int], effective: Sequence[int], titles: Sequence[str], *, rows: int = 1
) -> Figure:
    """Measured fields, brightness the root of the gradient's size, with two squares: theoretical, and effective.

    fields: (H, W) each, on its own scale; where they are large, a cell of the picture is the mean of some pixels.
    theory, effective: sides in px. titles: one each. Raises ValueError if there are not as many of each.
    """
    if not len(fields) == len(theory) == len(effective) == len(titles) or not fields or len(fields) % rows:
        found = f"{len(fields)} fields, {len(theory)} and {len(effective)} sides, {len(titles)} titles, {rows} rows"
        raise ValueError(f"receptive_fields: found {found}; expected as many of each in full rows")
    columns = len(fields) // rows
    with style():
        figure = Figure(figsize=(WIDTH, rows * (WIDTH / columns + 0.3) + 0.45))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, field, outer, inner, title in zip(grid.flat, fields, theory, effective, titles):
            values = to_numpy(field).astype(float)
            height, width = values.shape
            block = -(-max(values.shape) // MOST_CELLS)
            cells = F.avg_pool2d(field[None, None].float(), block, ceil_mode=True)[0, 0]  # the last may be partial
            edges = (-0.5, cells.shape[1] * block - 0.5, cells.shape[0] * block - 0.5, -0.5)  # in pixels
            axes.imshow(to_numpy(cells.sqrt()), cmap=COLORS, extent=edges)
            total = values.sum()
            centre = [float((values.sum(dim) * range(values.shape[1 - dim])).sum() / total) for dim in (0, 1)]
            for side, color, dash, label in (
                (outer, THEORY, "--", "theoretical"),
                (inner, EFFECTIVE, "-", "effective"),
            ):
                corner = [at - side / 2 for at in centre]
                axes.add_patch(
                    Rectangle(corner, side, side, fill=False, edgecolor=color, linestyle=dash, linewidth=2, label=label)
                )
            axes.set(xticks=[0, width - 1], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
            axes.grid(False)
            axes.set_title(title, fontsize=10)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def fpn_diagram() -> Figure:
    """RetinaNet's pyramid as blocks: the backbone's C3 … C5 upwards, laterals, the top-down path, P3 … P7."""
    with style():
        figure = Figure(figsize=(WIDTH, 4.6))
        axes = figure.subplots()
        axes.set(xlim=(-0.9, 6.35), ylim=(-0.85, 5.0))
        axes.set_axis_off()
        for level in (3, 4, 5):
            y = level - 3
            width = 1.5 * 0.72**y
            _box(axes, 0, y, f"C{level}", width, lit=False)
            _box(axes, 2.55, y, f"M{level}", width, lit=False)
            _box(axes, 5.1, y, f"P{level}", width, lit=True)
            _arrow(axes, (width / 2, y), (2.55 - width / 2, y), "1×1")
            _arrow(axes, (2.55 + width / 2, y), (5.1 - width / 2, y), "3×3")
            if level < 5:
                _arrow(axes, (0, y + 0.25), (0, y + 0.75), "stage, ÷ 2", beside=True)
                _arrow(axes, (2.55, y + 0.75), (2.55, y + 0.25), "× 2, add", beside=True)
        _arrow(axes, (0, -0.8), (0, -0.25), "stages before", beside=True)
        _box(axes, 5.1, 3, "P6", 0.55, lit=True)
        _box(axes, 5.1, 4, "P7", 0.42, lit=True)
        axes.plot([0, 0], [2.25, 3], color=INK, linestyle="-", linewidth=1.2, zorder=0)
        _arrow(axes, (0, 3), (5.1 - 0.275, 3), "3×3, stride 2")
        _arrow(axes, (5.1, 3.25), (5.1, 3.75), "ReLU, 3×3, stride 2", beside=True, left=True)
        for x, title in ((0, "backbone"), (2.55, "merged"), (5.1, "pyramid")):
            axes.text(x, 4.75, title, ha="center", va="center", style="italic")
    return figure


def _box(axes, x: float, y: float, text: str, width: float, *, lit: bool) -> None:
    look = {"facecolor": PALETTE[0], "edgecolor": INK} if lit else {"facecolor": PAPER, "edgecolor": INK}
    corner = (x - width / 2, y - 0.25)
    axes.add_patch(FancyBboxPatch(corner, width, 0.5, boxstyle="round,pad=0,rounding_size=0.06", linewidth=1.3, **look))
    axes.text(x, y, text, ha="center", va="center", color=PAPER if lit else INK, weight="bold")


def _arrow(
    axes, start: tuple[float, float], end: tuple[float, float], text: str, *, beside: bool = False, left: bool = False
) -> None:
    """An arrow with its text above it or, `beside` an upright one, to its right or `left`."""
    head = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=head, zorder=0)
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    if beside:
        axes.text(x + (-0.1 if left else 0.1), y, text, ha="right" if left else "left", va="center", fontsize=9)
    else:
        axes.text(x, y + 0.08, text, ha="center", va="bottom", fontsize=9)
