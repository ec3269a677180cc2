"""Where to put the name of a box so that it hides neither another name nor a small object."""

import numpy as np

COVERS_PLATE, COVERS_BOX, LATER_PLACE = 10.0, 1.0, 0.02  # the costs that are weighed


def place_plates(boxes: np.ndarray, sizes: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    """Choose a place for one label plate per box, one after the other.

    boxes: (N, 4) xyxy px. sizes: (N, 2) width and height of the plates, none larger than the canvas; a plate of
    width 0 is no plate and hinders nobody. canvas: (width, height) of the picture.
    Returns (N, 4) xyxy of the plates, all within the canvas. Earlier boxes choose first: put the important ones first.

    Of sixteen places around and inside its box, a plate takes the cheapest: the share of it that lies on plates
    already placed counts most, then the shares of boxes that it hides, its own included, then the order of the places.
    """
    plates = np.zeros((len(boxes), 4))
    for i, (box, size) in enumerate(zip(boxes, sizes)):
        places = _places(box, size, canvas)  # (16, 4)
        on_plates = _overlap(places, plates[:i]).sum(1) / max(size.prod(), 1)
        on_boxes = (_overlap(places, boxes) / np.maximum(_area(boxes), 1)).sum(1)
        cost = COVERS_PLATE * on_plates + COVERS_BOX * on_boxes + LATER_PLACE * np.arange(len(places))
        plates[i] = places[cost.argmin()]
    return plates


def _places(box: np.ndarray, size: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    """Candidates (16, 4), moved into the canvas; of each two, the first is flush left and the other flush right."""
    (x1, y1, x2, y2), (w, h) = box, size
    rows = (y1 - h, y2, y1, y2 - h)  # above, below, inside the top, inside the bottom
    rows += (y1 - 2 * h, y2 + h, y1 - 3 * h, y2 + 2 * h)  # in a crowd: one and two rows off
    corners = np.array([(x, y) for y in rows for x in (x1, x2 - w)])
    corners = corners.clip(0, np.maximum(np.array(canvas) - size, 0))
    return np.concatenate((corners, corners + size), axis=1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Area in px² shared by each of a (N, 4) and each of b (M, 4): (N, M)."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    return sides.clip(min=0).prod(2)
