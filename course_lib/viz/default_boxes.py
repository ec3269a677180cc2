"""SSD's default boxes over an image, a panel for each level: how a cell's boxes look, and which ones get an object."""

from itertools import zip_longest

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from course_lib.detectors.ssd import DefaultBoxSpec, lay_out_default_boxes
from course_lib.ops.boxes import box_iou, xyxy_to_cxcywh
from course_lib.ops.matching import match_ssd
from course_lib.viz.figures import WIDTH
from course_lib.viz.palette import INK, LINE_STYLES, PAPER, PREDICTION, TRUTH, style
from course_lib.viz.picture import Picture, to_numpy, to_picture

COLUMNS = 3
MANY = 400  # points in a panel: from there on they are small and without a rim, or they would cover the image


def cell_boxes(image: Picture, spec: DefaultBoxSpec) -> Figure:
    """The default boxes of one cell in the image's middle, and a point at the centre of every cell, level by level.

    image: as `draw_boxes` takes it, of the network's size. spec: its levels, at least one. Boxes may reach beyond the
    image. Colour and dash tell the boxes of a cell apart.
    """
    levels, grids = _levels(image, spec)
    with style():
        figure, panels = _panels(image, levels)
        for axes, boxes, (height, width), stride in zip(panels, levels, grids, spec.strides):
            shapes = len(boxes) // (height * width)
            cell = (height // 2) * width + width // 2
            for box, (color, dash) in zip(boxes[cell * shapes : (cell + 1) * shapes].tolist(), LINE_STYLES):
                _frame(axes, box, color=color, linestyle=dash, linewidth=1.8)
            axes.set_title(f"stride {stride}\n{height} × {width} cells of {shapes} boxes", fontsize=10)
    return figure


def matched_boxes(image: Picture, spec: DefaultBoxSpec, boxes, *, match_iou: float = 0.5) -> Figure:
    """The default boxes that learn an object, level by level: those that overlap it enough, and its best one.

    image, spec: as `cell_boxes` takes them. boxes: the objects, (N, 4) xyxy px; N may be 0. match_iou: from which
    overlap on a default box learns an object. Objects are blue, thick where a box of the level learns them; the boxes
    that do are orange and thin.
    """
    levels, _ = _levels(image, spec)
    objects = torch.from_numpy(to_numpy(boxes).astype(np.float32)).reshape(-1, 4)
    matched = match_ssd(box_iou(objects, torch.cat(levels)), threshold=match_iou).split([len(x) for x in levels])
    with style():
        figure, panels = _panels(image, levels)
        for axes, defaults, index, stride in zip(panels, levels, matched, spec.strides):
            for box in defaults[index >= 0].tolist():
                _frame(axes, box, color=PREDICTION, linestyle="-", linewidth=1)
            learnt = set(index.tolist()) - {-1}
            for i, box in enumerate(objects.tolist()):
                look = {"linestyle": "-", "linewidth": 2.4} if i in learnt else {"linestyle": ":", "linewidth": 1.2}
                _frame(axes, box, color=TRUTH, **look)
            count = f"{int((index >= 0).sum())} of {len(defaults):,} boxes"
            axes.set_title(f"stride {stride}: {count}\nlearn {len(learnt)} of {len(objects)} objects", fontsize=10)
    return figure


def _levels(image: Picture, spec: DefaultBoxSpec) -> tuple[list[Tensor], list[tuple[int, int]]]:
    """Default boxes (A_l, 4) of every level for the image, and each level's (H_l, W_l)."""
    width, height = to_picture(image).size
    grids = [(-(-height // stride), -(-width // stride)) for stride in spec.strides]
    return lay_out_default_boxes(spec, (height, width), grids), grids


def _panels(image: Picture, levels: list[Tensor]) -> tuple[Figure, list[Axes]]:
    """A panel with the image and the cells' centres for each level."""
    picture = to_picture(image)
    width, height = picture.size
    columns = min(COLUMNS, len(levels))
    rows = -(-len(levels) // columns)
    figure = Figure(figsize=(WIDTH, rows * (WIDTH / columns * height / width + 0.55)))
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, boxes in zip_longest(panels, levels):
        axes.axis("off")
        if boxes is None:
            continue
        axes.imshow(np.asarray(picture), extent=(0, width, height, 0), alpha=0.75)
        centres = xyxy_to_cxcywh(boxes)[:, :2].unique(dim=0)
        point = {
            "markersize": 2.6 if len(centres) <= MANY else 1.4,
            "markeredgewidth": 0.5 if len(centres) <= MANY else 0,
        }
        axes.plot(*centres.T.tolist(), "o", color=PAPER, markeredgecolor=INK, **point)
        axes.set(xlim=(0, width), ylim=(height, 0))
    return figure, panels[: len(levels)]


def _frame(axes: Axes, box: list[float], **look) -> None:
    x1, y1, x2, y2 = box
    axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], **look)
