"""The map of the course: a detector's parts in their order, with those of today's lesson lit."""

from collections.abc import Collection

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from course_lib.viz.figures import WIDTH
from course_lib.viz.palette import INK, PALETTE, PAPER, style

# By name: title, what it gives, and the centre (column, row) of its block.
BLOCKS = {
    "data": ("data", "images, boxes", (0, 1)),
    "backbone": ("backbone", "features", (1, 1)),
    "fpn": ("FPN", "at every scale", (2, 1)),
    "heads": ("heads", "class, box", (3, 1)),
    "matching": ("matching", "of anchors", (4, 2)),
    "loss": ("loss", "focal + box", (5, 2)),
    "nms": ("NMS", "one box each", (4, 0)),
    "ap": ("AP", "how good?", (5, 0)),
}
_SIZE = (0.78, 0.72)  # of a block, in columns and rows
_AFTER = (("data", "backbone"), ("backbone", "fpn"), ("fpn", "heads"), ("matching", "loss"), ("nms", "ap"))


def pipeline(*lit: str) -> Figure:
    """Draw the way from images to a measured detector.

    lit: names of the blocks to light (keys of BLOCKS); none lights all.
    Above, what training adds: the true boxes are matched with anchors, and the loss corrects the parts before it.
    Below, what use adds. Raises ValueError for a block that is not there.
    """
    if unknown := [name for name in lit if name not in BLOCKS]:
        raise ValueError(f"pipeline: found {', '.join(map(repr, unknown))}, expected some of {', '.join(BLOCKS)}")
    with style():
        figure = Figure(figsize=(WIDTH, 2.9))
        axes = figure.subplots()
        axes.set(xlim=(-0.45, 5.45), ylim=(-0.5, 2.55))
        axes.set_axis_off()
        for name in BLOCKS:
            _draw_block(axes, name, lit or BLOCKS)
        for start, end in _AFTER:
            _draw_arrow(axes, [_edge(start, 1, 0), _edge(end, -1, 0)])
        for end, y in (("matching", 1.85), ("nms", 0)):
            _draw_arrow(axes, [_edge("heads", 1, 0), (3.5, 1), (3.5, y), (_edge(end, -1, 0)[0], y)])
        _draw_arrow(axes, [_edge("data", 0, 1), (0, 2.15), (_edge("matching", -1, 0)[0], 2.15)])
        axes.text(0.08, 2.2, "the true boxes", va="bottom", fontsize=9)
        axes.text(5.39, 1.5, "training", ha="right", va="center", style="italic")
        axes.text(5.39, 0.5, "use", ha="right", va="center", style="italic")
    return figure


def _draw_block(axes, name: str, lit: Collection[str]) -> None:
    title, gives, (x, y) = BLOCKS[name]
    shines = name in lit
    width, height = _SIZE
    corner = (x - width / 2, y - height / 2)
    look = {"facecolor": PALETTE[0], "edgecolor": INK, "linewidth": 2} if shines else {"facecolor": PAPER}
    look = {"edgecolor": "#888888", "linewidth": 1.2} | look
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle="round,pad=0,rounding_size=0.08", **look))
    color = PAPER if shines else INK
    axes.text(x, y + 0.13, title, ha="center", va="center", color=color, weight="bold" if shines else "normal")
    axes.text(x, y - 0.17, gives, ha="center", va="center", color=color, fontsize=9)


def _edge(name: str, right: int, up: int) -> tuple[float, float]:
    """The middle of a block's edge; right and up are −1, 0 or 1."""
    x, y = BLOCKS[name][2]
    return x + right * _SIZE[0] / 2, y + up * _SIZE[1] / 2


def _draw_arrow(axes, points: list[tuple[float, float]]) -> None:
    """A line through the points, with a head at the last."""
    x, y = zip(*points)
    axes.plot(x, y, color=INK, linestyle="-", linewidth=1.2, zorder=0)
    head = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", points[-1], points[-2], arrowprops=head, zorder=0)
