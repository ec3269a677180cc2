"""Anchors on an image: what reaches which object, and how well a whole data set is covered."""

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from course_lib.ops.anchors import grid_anchors
from course_lib.ops.boxes import box_iou, xyxy_to_cxcywh
from course_lib.viz.draw import DASHED, Mark, draw_marks
from course_lib.viz.figures import WIDTH
from course_lib.viz.palette import INK, LINE_STYLES, MISSED, PAPER, PREDICTION, TRUTH, style
from course_lib.viz.picture import Picture, to_numpy, to_picture

MARKERS = ("o", "x", "^", "s")


def draw_reach(image: Picture, boxes, cell: Tensor, stride: int, *, high: float = 0.5, scale: int = 4) -> Image.Image:
    """Each object with the anchor that fits it best, on a grid of points.

    image: as `draw_boxes` takes it. boxes: the objects, (N, 4) xyxy px; N may be 0. cell: the anchors of one grid
    point, centred on (0, 0), (A, 4). stride: px between points. high: IoU from which an object counts as reached.
    scale: whole factor to enlarge by.
    Reached objects are blue, the others red and dashed; the best anchor of each is orange and carries its IoU.
    """
    width, height = to_picture(image).size
    anchors = grid_anchors(cell, (-(-height // stride), -(-width // stride)), (stride, stride))
    boxes = torch.from_numpy(to_numpy(boxes).astype(np.float32)).reshape(-1, 4)
    best, index = box_iou(boxes, anchors).max(1)
    marks = []
    for box, anchor, iou in zip(boxes.tolist(), anchors[index].tolist(), best.tolist()):
        look = {"color": TRUTH} if iou >= high else {"color": MISSED, "dash": DASHED}
        marks += [Mark(np.array(box), **look), Mark(np.array(anchor), PREDICTION, f"{iou:.2f}")]
    return _dot(draw_marks(image, marks, scale=scale), (height, width), stride, scale)


def _dot(picture: Image.Image, size: tuple[int, int], stride: int, scale: int) -> Image.Image:
    """A small square on every grid point."""
    pen = ImageDraw.Draw(picture)
    for y in range(0, size[0], stride):
        for x in range(0, size[1], stride):
            pen.rectangle((x * scale - 1, y * scale - 1, x * scale + 1, y * scale + 1), fill=PAPER, outline=INK)
    return picture


def shapes_figure(cell: Tensor, title: str = "") -> Figure:
    """The anchors of one grid point about their common centre, in pixels.

    cell: (A, 4) xyxy. Colour and dash go with the size (the root of the area), the smallest first.
    """
    width, height = xyxy_to_cxcywh(cell)[:, 2:].unbind(1)
    sizes = [round(s, 1) for s in (width * height).sqrt().tolist()]
    distinct = sorted(set(sizes))
    reach = float(cell.abs().max()) * 1.1
    with style():
        figure = Figure(figsize=(WIDTH / 2, WIDTH / 2))
        axes = figure.subplots()
        for (x1, y1, x2, y2), size in zip(cell.tolist(), sizes):
            color, dash = LINE_STYLES[distinct.index(size) % len(LINE_STYLES)]
            axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=color, linestyle=dash)
        axes.plot(0, 0, marker="o", color=INK)
        axes.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal", xlabel="x in px", ylabel="y in px")
        axes.set_title(title)
    return figure


def best_iou_figure(sets: Mapping[str, tuple[np.ndarray, np.ndarray]], high: float) -> Figure:
    """Best IoU of every object over its size, for one or more sets of anchors.

    sets: by name the objects' sizes (N,) in px and their best IoU (N,). high: drawn as the line that must be reached.
    Raises ValueError naming a set whose arrays differ in length.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 3.4))
        axes = figure.subplots()
        for (name, (sizes, best)), (color, _), marker in zip(sets.items(), LINE_STYLES, MARKERS):
            if len(sizes) != len(best):
                raise ValueError(f"{name}: found {len(sizes)} sizes and {len(best)} IoUs, expected as many")
            axes.plot(sizes, best, marker=marker, linestyle="", markersize=3.5, alpha=0.6, color=color, label=name)
        axes.axhline(high, color=INK, linestyle="--", linewidth=1.2)
        axes.text(0.995, high, f"IoU {high:g}", transform=axes.get_yaxis_transform(), ha="right", va="bottom")
        axes.set(xlabel="size of the object, √area in px", ylabel="best IoU with any anchor", ylim=(0, 1))
        axes.set_xscale("log", base=2)
        drawn = np.concatenate([[], *(sizes for sizes, _ in sets.values())])
        axes.set_xlim(*(drawn.min() / 1.2, drawn.max() * 1.2) if len(drawn) else (1, 512))
        axes.xaxis.set_major_formatter("{x:g}")
        figure.legend(loc="outside upper left", ncols=len(sets) or 1, markerscale=2)
    return figure
