"""The grid of the first YOLO on an image: which cell answers for which object, and who is lost."""

import numpy as np
import torch
from PIL import Image, ImageDraw

from course_lib.detectors.yolo_v1 import cell_targets
from course_lib.viz.draw import DASHED, Mark, draw_marks
from course_lib.viz.palette import INK, MISSED, PAPER, TRUTH
from course_lib.viz.picture import Picture, to_numpy, to_picture


def draw_cells(image: Picture, boxes, grid: int, *, scale: int = 4) -> Image.Image:
    """An image under `grid` × `grid` cells, with each object's box and centre.

    image: as `draw_boxes` takes it. boxes: the objects, (N, 4) xyxy px; N may be 0. scale: whole factor to enlarge by.
    An object that its cell learns is blue, one whose cell was taken by an earlier object red and dashed.
    """
    width, height = to_picture(image).size
    boxes = torch.from_numpy(to_numpy(boxes).astype(np.float32)).reshape(-1, 4)
    numbers = torch.arange(len(boxes))  # as labels, so that the targets say which objects were kept
    kept = set(cell_targets([boxes], [numbers], (height, width), grid).labels.tolist())
    looks = [{"color": TRUTH} if i in kept else {"color": MISSED, "dash": DASHED} for i in range(len(boxes))]
    picture = draw_marks(image, [Mark(box, **look) for box, look in zip(boxes.numpy(), looks)], scale=scale)
    pen = ImageDraw.Draw(picture)
    for i in range(1, grid):
        x, y = round(i * width * scale / grid), round(i * height * scale / grid)
        pen.line((x, 0, x, height * scale), fill=PAPER)
        pen.line((0, y, width * scale, y), fill=PAPER)
    for (x1, y1, x2, y2), look in zip(boxes.tolist(), looks):
        x, y = (x1 + x2) / 2 * scale, (y1 + y2) / 2 * scale
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=look["color"], outline=INK)
    return picture
