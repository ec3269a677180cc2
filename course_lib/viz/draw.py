"""Boxes, names, scores and masks on an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from course_lib.viz.palette import class_color, contrast_color
from course_lib.viz.picture import Picture, enlarge, load_font, text_size, to_numpy, to_picture
from course_lib.viz.plates import place_plates

# Lengths drawn and left out in turn, in line widths; empty is an unbroken line.
SOLID, DASHED, DASH_DOT, DOTTED = (), (5, 4), (6, 3, 1, 3), (1, 2)
MASK_OPACITY = 0.45
PADDING = 3  # px between a name and the sides of its plate


@dataclass(frozen=True, eq=False)
class Mark:
    """One thing to draw.

    box: (4,) xyxy in pixels of the image. color: "#RRGGBB". text: on the plate; none if empty. dash: SOLID, DASHED,
    DASH_DOT or DOTTED. mask: (H, W) bool, or None.
    """

    box: np.ndarray
    color: str
    text: str = ""
    dash: tuple[int, ...] = SOLID
    mask: np.ndarray | None = None


def draw_boxes(
    image: Picture,
    boxes,
    labels=None,
    scores=None,
    *,
    names: Sequence[str] | None = None,
    masks=None,
    colors: str | Sequence[str] | None = None,
    scale: int | str = "auto",
) -> Image.Image:
    """Draw detections or ground truth on a copy of an image.

    image: uint8 or float tensor (3, H, W), array (H, W, 3), or PIL image.
    boxes: (N, 4) xyxy px. labels: (N,) class indices. scores: (N,) in 0…1. masks: (N, H, W) bool. Tensors, arrays
    or lists; N may be 0.
    names: class names by index; without them the index is written.
    colors: "#RRGGBB" for all boxes or one each; by default the class's own.
    scale: whole factor to enlarge the picture by before drawing; "auto" brings small pictures to about 512 px.
    Returns the enlarged RGB picture. Boxes of higher score lie on top; what lies outside the image is cut off.
    Raises ValueError naming the box, label or argument that does not fit.
    """
    boxes = check_boxes(boxes)
    count = len(boxes)
    labels, scores = _per_box(labels, "labels", count), _per_box(scores, "scores", count)
    masks = _per_box(masks, "masks", count)
    if colors is None:
        colors = [class_color(int(label)) for label in ([0] * count if labels is None else labels)]
    elif isinstance(colors, str):
        colors = [colors] * count
    elif len(colors) != count:
        raise ValueError(f"colors: found {len(colors)}, expected one for each of {count} boxes")
    marks = []
    for i in range(count):
        name = "" if labels is None else class_name(int(labels[i]), names)
        score = "" if scores is None else f"{scores[i]:.2f}"
        mask = None if masks is None else masks[i].astype(bool)
        marks.append(Mark(boxes[i], colors[i], f"{name} {score}".strip(), mask=mask))
    if scores is not None:
        marks = [marks[i] for i in np.argsort(-scores, kind="stable")]
    return draw_marks(image, marks, scale=scale)


def draw_marks(image: Picture, marks: Sequence[Mark], *, scale: int | str = "auto") -> Image.Image:
    """Draw marks on a copy of an image; the first lie on top and choose the places of their plates first.

    image, scale and result are those of `draw_boxes`.
    Raises ValueError if a mask is not of the image's size.
    """
    picture = to_picture(image)
    width, height = picture.size
    for i, mark in enumerate(marks):
        if mark.mask is not None and mark.mask.shape != (height, width):
            raise ValueError(f"mask {i}: found shape {mark.mask.shape}, expected the image's {(height, width)}")
    picture, factor = enlarge(picture, scale)
    for mark in reversed(marks):
        if mark.mask is not None:
            picture = _lay_mask(picture, mark.mask, mark.color, factor)
    limit = np.array(picture.size * 2)
    boxes = np.array([mark.box for mark in marks]).reshape(-1, 4) * factor
    boxes = np.rint(boxes).clip(0, limit)
    pen = ImageDraw.Draw(picture)
    for mark, box in reversed(list(zip(marks, boxes))):
        if (box[2:] > box[:2]).all():
            draw_frame(pen, box, mark.color, line_width(picture), mark.dash)
    _write_plates(picture, pen, marks, boxes)
    return picture


def line_width(picture: Image.Image) -> int:
    """Width in px of a box's line: 1/320 of the longer side, at least 2."""
    return max(2, round(max(picture.size) / 320))


def draw_frame(pen: ImageDraw.ImageDraw, box, color: str, width: int, dash: tuple[int, ...] = SOLID) -> None:
    """Draw a rectangle's line just within its edges, on a thin rim of black or white that lifts it off the image.

    box: xyxy px in the picture. width: of the line in px; a broken one is 1 px wider. dash: see Mark.
    """
    x1, y1, x2, y2 = (int(v) for v in box)
    line = max(1, min(width + bool(dash), (x2 - x1) // 2, (y2 - y1) // 2))
    strokes = []
    for start, end in _dashes(x1, x2, width, dash):
        strokes += [(start, y1, end, y1 + line), (start, y2 - line, end, y2)]
    for start, end in _dashes(y1, y2, width, dash):
        strokes += [(x1, start, x1 + line, end), (x2 - line, start, x2, end)]
    for left, top, right, bottom in strokes:
        pen.rectangle((left - 1, top - 1, right, bottom), fill=contrast_color(color))
    for left, top, right, bottom in strokes:
        pen.rectangle((left, top, right - 1, bottom - 1), fill=color)  # PIL's right and bottom are inclusive


def check_boxes(boxes) -> np.ndarray:
    """Boxes as an array (N, 4) float; an empty list is no boxes.

    Raises ValueError for another shape, and naming the first box that is not finite or has x2 < x1 or y2 < y1.
    """
    boxes = to_numpy(boxes).astype(float)
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: found shape {boxes.shape}, expected (N, 4)")
    bad = ~(np.isfinite(boxes).all(1) & (boxes[:, 2:] >= boxes[:, :2]).all(1))
    if bad.any():
        i = int(bad.argmax())
        raise ValueError(f"box {i}: found {boxes[i].tolist()}, expected finite x1 <= x2 and y1 <= y2")
    return boxes


def class_name(label: int, names: Sequence[str] | None) -> str:
    """Name of a class index, or the index itself without names. Raises ValueError if there is no such name."""
    if names is None:
        return str(label)
    if not 0 <= label < len(names):
        raise ValueError(f"label {label}: found {len(names)} names, expected 0…{len(names) - 1}")
    return names[label]


def _per_box(values, what: str, count: int) -> np.ndarray | None:
    if values is None:
        return None
    values = to_numpy(values)
    if len(values) != count:
        raise ValueError(f"{what}: found {len(values)}, expected one for each of {count} boxes")
    return values


def _lay_mask(picture: Image.Image, mask: np.ndarray, color: str, factor: int) -> Image.Image:
    """A translucent fill; within the mask's edge, a rim of black or white and an opaque line, 1 px each."""
    whole = mask.repeat(factor, 0).repeat(factor, 1)
    within = _erode(whole)
    opacity = np.where(_erode(within), MASK_OPACITY, whole.astype(float))
    alpha = Image.fromarray(np.rint(opacity * 255).astype(np.uint8))
    paint = Image.new("RGB", picture.size, color)
    paint.paste(contrast_color(color), mask=Image.fromarray(~within))
    return Image.composite(paint, picture, alpha)


def _erode(mask: np.ndarray) -> np.ndarray:
    """The mask without its outermost pixels; the picture's border is an edge too."""
    inner = np.pad(mask, 1)
    return mask & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]


def _dashes(start: int, end: int, width: int, dash: tuple[int, ...]) -> list[tuple[int, int]]:
    """Pieces of the line from start to end (exclusive) that are drawn."""
    if not dash:
        return [(start, end)]
    pieces, at, turn = [], start, 0
    while at < end:
        length = dash[turn % len(dash)] * width
        if turn % 2 == 0:
            pieces.append((at, min(at + length, end)))
        at, turn = at + length, turn + 1
    return pieces


def _write_plates(picture: Image.Image, pen: ImageDraw.ImageDraw, marks: Sequence[Mark], boxes: np.ndarray) -> None:
    font = load_font(text_size(picture))
    height = sum(font.getmetrics())
    visible = (boxes[:, 2:] > boxes[:, :2]).all(1) & (height <= picture.height)
    texts = [_shorten(m.text, font, picture.width - 2 * PADDING) if v else "" for m, v in zip(marks, visible)]
    sizes = np.array([(np.ceil(font.getlength(t)) + 2 * PADDING, height) if t else (0, 0) for t in texts])
    plates = place_plates(boxes, sizes.reshape(-1, 2), picture.size)
    for mark, text, (x1, y1, x2, y2) in reversed(list(zip(marks, texts, plates))):
        if text:
            pen.rectangle((x1, y1, x2 - 1, y2 - 1), fill=mark.color)
            pen.text((x1 + PADDING, y1), text, fill=contrast_color(mark.color), font=font)


def _shorten(text: str, font, width: int) -> str:
    """The text, cut to end in … if it is wider than `width` px; empty if not even that fits."""
    shown, kept = text, len(text)
    while shown and font.getlength(shown) > width:
        kept -= 1
        shown = text[:kept] + "…" if kept >= 0 else ""
    return shown
