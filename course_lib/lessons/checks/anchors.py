"""Checks of lesson 03: the anchors of one place and of a grid, matching, and the way back from deltas to boxes."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from course_lib.lessons.checks.base import Exercise
from course_lib.ops.anchors import cell_anchors, grid_anchors
from course_lib.ops.boxes import cxcywh_to_xyxy, xywh_to_xyxy, xyxy_to_cxcywh
from course_lib.ops.coder import decode, encode
from course_lib.ops.matching import BELOW_LOW, BETWEEN, match

_EMPTY = "nothing in, nothing out: work on whole tensors instead of looping, then 0 needs no case of its own"

# ---- 03-1 ---------------------------------------------------------------------------------------------------------


def shape_anchors(function: Callable[[Sequence[float], Sequence[float]], Tensor]) -> None:
    """Exercise 03-1: `shape_anchors(sizes, ratios)` gives the anchors (A, 4) xyxy of one place, centred on (0, 0).

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("03-1", function, reference=cell_anchors, mistakes=_SHAPE_MISTAKES)
    check.shape("two sizes, three ratios", [8.0, 16.0], [0.5, 1.0, 2.0])
    check.dtype("two sizes, three ratios", [8.0, 16.0], [0.5, 1.0, 2.0], hint="plain float32 will do")
    tall = torch.tensor([[-16.0, -4, 16, 4], [-8, -8, 8, 8], [-4, -16, 4, 16]])
    check.value("size 16, ratios 1/4, 1 and 4", [16.0], [0.25, 1.0, 4.0], expected=tall)
    ordered = torch.tensor([[-4.0, -4, 4, 4], [-2, -8, 2, 8], [-8, -8, 8, 8], [-4, -16, 4, 16]])
    check.value("sizes 8 and 16, ratios 1 and 4", [8.0, 16.0], [1.0, 4.0], expected=ordered)
    check.value("the paper's nine at the finest level", [32 * 2 ** (k / 3) for k in range(3)], [0.5, 1.0, 2.0])
    check.value("no sizes", [], [0.5, 1.0], hint=_EMPTY)
    check.done()


def _shapes(sides: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], corners: Callable | None = None) -> Callable:
    """A solution whose width and height are `sides(size, √ratio)`, both broadcast to (sizes, ratios)."""

    def answer(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
        size = torch.tensor(sizes, dtype=torch.float64)[:, None]
        w, h = sides(size, torch.tensor(ratios, dtype=torch.float64).sqrt())
        w, h = torch.broadcast_tensors(w, h)
        boxes = torch.stack((-w / 2, -h / 2, w / 2, h / 2) if corners is None else corners(w, h), dim=-1)
        return boxes.reshape(-1, 4).float()

    return answer


def _right_sides(size: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    return size / root, size * root


_NOT_CENTRED = "your anchors begin at (0, 0); their centre lies there: from −w/2 to w/2, from −h/2 to h/2"
_SHAPE_MISTAKES = {
    "the order is ratio by ratio; it must be size by size: all ratios of the first size come first": (
        lambda sizes, ratios: cell_anchors(sizes, ratios, order="ratio")
    ),
    "width and height are swapped: a ratio is height / width, so a ratio of 4 stands upright": (
        _shapes(lambda size, root: (size * root, size / root))
    ),
    "take the root of the ratio: with s/r and s·r the ratio of the sides is r²": (
        _shapes(lambda size, root: (size / root**2, size * root**2))
    ),
    "the area must stay s²: s × s·r is larger for tall anchors; spread the ratio over both sides, √r each": (
        _shapes(lambda size, root: (size + 0 * root, size * root**2))
    ),
    "the area must stay s²: s/r × s is smaller for tall anchors; spread the ratio over both sides, √r each": (
        _shapes(lambda size, root: (size / root**2, size + 0 * root))
    ),
    "the size is the root of the area, not the area: w = s/√r, without another root": (
        _shapes(lambda size, root: (size.sqrt() / root, size.sqrt() * root))
    ),
    "your anchors are twice as large: the corners lie half a width and half a height from the centre": (
        _shapes(_right_sides, lambda w, h: (-w, -h, w, h))
    ),
    _NOT_CENTRED: _shapes(_right_sides, lambda w, h: (0 * w, 0 * h, w, h)),
    "a box is (x1, y1, x2, y2): the upper left corner, then the lower right; you put both x first": (
        _shapes(_right_sides, lambda w, h: (-w / 2, w / 2, -h / 2, h / 2))
    ),
    "the four numbers of a box are torn apart: stack them along a new last dimension, dim=-1, before the reshape": (
        lambda sizes, ratios: cell_anchors(sizes, ratios).T.reshape(-1, 4)
    ),
    "you paired sizes with ratios one by one; every size gets every ratio": (
        lambda sizes, ratios: torch.cat([cell_anchors([s], [r]) for s, r in zip(sizes, ratios)])
    ),
    "you rounded to whole pixels; torchvision does, but here anchors keep their fractions": (
        lambda sizes, ratios: cell_anchors(sizes, ratios).round()
    ),
    "the sizes and ratios make a grid; flatten it to (A, 4)": (
        lambda sizes, ratios: cell_anchors(sizes, ratios).reshape(len(sizes), len(ratios), 4)
    ),
}

# ---- 03-2 ---------------------------------------------------------------------------------------------------------


def tile_anchors(function: Callable[[Tensor, tuple[int, int], int], Tensor]) -> None:
    """Exercise 03-2: `tile_anchors(cell, grid, stride)` copies the cell (A, 4) to a grid of (H, W): (H·W·A, 4).

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("03-2", function, reference=_tiles, mistakes=_TILE_MISTAKES)
    cell = torch.tensor([[-4.0, -4, 4, 4], [-2, -8, 2, 8]])
    check.shape("two anchors, 2 rows, 3 columns", cell, (2, 3), 8)
    check.dtype("two anchors in float64", cell.double(), (2, 3), 8)
    centres = torch.tensor([(x, y) for y in (0, 8) for x in (0, 8, 16)]).repeat(1, 2)
    check.value("one anchor, 2 rows, 3 columns", cell[:1], (2, 3), 8, expected=centres + cell[:1])
    check.value("two anchors, 2 rows, 3 columns", cell, (2, 3), 8)
    random = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 20
    check.value("five random anchors, 7 rows, 4 columns", random, (7, 4), 16)
    check.value("a grid without rows", cell, (0, 3), 8, hint=_EMPTY)
    check.done()


def _tiles(cell: Tensor, grid: tuple[int, int], stride: float) -> Tensor:
    return grid_anchors(cell, grid, (stride, stride))


def _as_grid(cell: Tensor, grid: tuple[int, int], stride: float) -> Tensor:
    """The right answer as (H, W, A, 4)."""
    return _tiles(cell, grid, stride).reshape(*grid, len(cell), 4)


def _moved(cell: Tensor, grid: tuple[int, int], stride: float, move: Callable) -> Tensor:
    """The cell plus `move(x, y)`, four numbers for each grid point."""
    y, x = torch.meshgrid(torch.arange(grid[0]) * stride, torch.arange(grid[1]) * stride, indexing="ij")
    return (torch.stack(move(x, y), dim=-1).reshape(-1, 1, 4) + cell).reshape(-1, 4)


_TILE_MISTAKES = {
    "x and y are swapped in the shift: columns move an anchor to the right, rows move it down": (
        lambda *a: _moved(*a, lambda x, y: (y, x, y, x))
    ),
    "your grid runs column by column; a head's output runs row by row: x changes first": (
        lambda *a: _as_grid(*a).transpose(0, 1).reshape(-1, 4)
    ),
    "the anchors of one place must stand together; yours run through the whole grid with one anchor, then the next": (
        lambda *a: _as_grid(*a).permute(2, 0, 1, 3).reshape(-1, 4)
    ),
    "the first centre is (0, 0), not the middle of the first cell: no half stride is added": (
        lambda cell, grid, stride: _tiles(cell, grid, stride) + stride / 2
    ),
    "multiply the row and column by the stride: neighbours lie a stride apart, not a pixel": (
        lambda cell, grid, stride: _tiles(cell, grid, 1)
    ),
    "you moved the upper left corner alone; both corners move": lambda *a: _moved(
        *a, lambda x, y: (x, y, 0 * x, 0 * y)
    ),
    "a grid is (H, W), rows first; you read it as (W, H)": (
        lambda cell, grid, stride: _tiles(cell, (grid[1], grid[0]), stride)
    ),
    "these are the grid points alone; add the cell's anchors to them": (
        lambda cell, grid, stride: _tiles(torch.zeros_like(cell), grid, stride)
    ),
    "you flattened the grid, not the anchors: flatten everything before the last dimension, to (H·W·A, 4)": (
        lambda *a: _as_grid(*a).flatten(0, 1)
    ),
    "the order is right, the shape is not: flatten (H, W, A, 4) to (H·W·A, 4)": _as_grid,
}

# ---- 03-3 ---------------------------------------------------------------------------------------------------------


def match_anchors(function: Callable[[Tensor, float, float], Tensor]) -> None:
    """Exercise 03-3: `match_anchors(iou, low, high)`, IoU (G, A), gives each anchor its object, −1 or −2: (A,) int64.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("03-3", function, reference=_match, mistakes=_MATCH_MISTAKES)
    by_hand = torch.tensor([[0.70, 0.50, 0.45, 0.40, 0.10, 0.00], [0.10, 0.00, 0.47, 0.10, 0.20, 0.30]])
    one_answer = "the answer has one number for each anchor, so the maximum goes over the objects, dimension 0"
    check.shape("two objects, six anchors", by_hand, 0.4, 0.5, hint=one_answer)
    check.dtype("two objects, six anchors", by_hand, 0.4, 0.5, hint="an object's number is an index: int64")
    plain = torch.tensor([[0.70, 0.50, 0.49, 0.40, 0.39, 0.00], [0.10, 0.10, 0.20, 0.00, 0.39, 0.80]])
    check.value("thresholds", plain, 0.4, 0.5, expected=torch.tensor([0, 0, -2, -2, -1, 1]))
    check.value("an object that no anchor reaches", by_hand, 0.4, 0.5, expected=torch.tensor([0, 0, 1, -2, -1, -1]))
    equals = torch.tensor([[0.10, 0.60, 0.10, 0.10], [0.30, 0.30, 0.20, 0.30]])
    check.value("several equal best anchors", equals, 0.4, 0.5, expected=torch.tensor([1, 0, -1, 1]))
    random = torch.rand(6, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) ** 3
    check.value("6 objects, 300 anchors", (random * 100).round() / 100, 0.4, 0.5)
    none = "without objects every anchor is background; a maximum over no objects is an error, so treat G = 0 first"
    check.value("no objects (G = 0)", plain[:0], 0.4, 0.5, hint=none)
    check.done()


def _match(iou: Tensor, low: float, high: float) -> Tensor:
    return match(iou, low=low, high=high, low_quality=True)


def _plain_match(iou: Tensor, low: float, high: float) -> Tensor:
    return match(iou, low=low, high=high, low_quality=False)


def _forced(iou: Tensor, low: float, high: float) -> Tensor:
    """Each object claims its best anchors for itself."""
    matched = _plain_match(iou, low, high)
    for g, row in enumerate(iou):
        matched[row == row.max()] = g
    return matched


def _first_best(iou: Tensor, low: float, high: float) -> Tensor:
    """Low-quality matches without the further ones of several equal bests."""
    matched, best = _plain_match(iou, low, high), iou.argmax(1)
    matched[best] = iou.argmax(0)[best]
    return matched


def _in_band(iou: Tensor, low: float, high: float) -> Tensor:
    """Low-quality matches between low and high alone."""
    if len(iou) == 0:
        return _match(iou, low, high)
    return torch.where(iou.amax(0) < low, BELOW_LOW, _match(iou, low, high))


def _strict(iou: Tensor, low: float, high: float) -> Tensor:
    return _match(iou, low, math.nextafter(high, 1) if iou.dtype == torch.float64 else high + 1e-7)


def _strict_low(iou: Tensor, low: float, high: float) -> Tensor:
    return _match(iou, math.nextafter(low, 1) if iou.dtype == torch.float64 else low + 1e-7, high)


def _where(iou: Tensor, low: float, high: float, found: Callable) -> Tensor:
    matched = _match(iou, low, high)
    return found(matched, iou.argmax(0))


_MATCH_MISTAKES = {
    "an object's best anchor is kept whatever the IoU, below `low` too; yours are kept in the band alone": _in_band,
    "low-quality matches are missing: an object that no anchor reaches keeps its best anchor, whatever the IoU": (
        _plain_match
    ),
    "a low-quality anchor learns the object that it overlaps most itself, which may be another one": _forced,
    "an object may have several equally good best anchors; each of them is kept, not only the first": _first_best,
    "an IoU that equals the upper threshold is a match: use >= high": _strict,
    "an IoU that equals the lower threshold is ignored, not background: background is < low": _strict_low,
    "there is no ignore band: from low to high an anchor is neither object nor background, so −2": (
        lambda *a: _where(*a, lambda matched, _: matched.clamp(min=BELOW_LOW))
    ),
    "anchors between low and high are ignored (−2); yours learn an object": (
        lambda *a: _where(*a, lambda matched, best: torch.where(matched == BETWEEN, best, matched))
    ),
    "the codes are swapped: background is −1, ignored is −2": (
        lambda *a: _where(*a, lambda matched, _: torch.where(matched < 0, -3 - matched, matched))
    ),
    "every anchor got an object; under low it is background, −1": lambda iou, low, high: iou.argmax(0),
    "a match is the object's number, 0 … G − 1; yours says only whether there is one": (
        lambda *a: _where(*a, lambda matched, _: matched.clamp(max=1) * 0 + (matched >= 0).long())
    ),
    "objects are numbered from 0; yours begin at 1": (
        lambda *a: _where(*a, lambda matched, _: torch.where(matched >= 0, matched + 1, matched))
    ),
    "that is the best anchor of each object; asked for is the object of each anchor": (
        lambda iou, low, high: iou.argmax(1)
    ),
}

# ---- 03-4 ---------------------------------------------------------------------------------------------------------


def decode_deltas(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 03-4: `decode_deltas(deltas, anchors)`, (N, 4) each, gives the boxes (N, 4) xyxy that they make.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("03-4", function, reference=decode, mistakes=_DECODE_MISTAKES)
    anchors = torch.tensor([[0.0, 0, 16, 16], [10, 20, 30, 30]])
    deltas = torch.tensor([[0.5, -0.25, math.log(1.5), 0], [0.1, 0.2, 0, math.log(2)]])
    check.shape("two anchors", deltas, anchors)
    check.dtype("two anchors in float64", deltas.double(), anchors.double())
    check.value("deltas of 0 leave an anchor as it is", 0 * deltas, anchors, expected=anchors)
    moved = torch.tensor([[4.0, -4, 28, 12], [12, 17, 32, 37]])
    check.value("two anchors, worked out by hand", deltas, anchors, expected=moved)
    generator = torch.Generator().manual_seed(0)
    start, objects = (
        xywh_to_xyxy(5 + 60 * torch.rand(40, 4, dtype=torch.float64, generator=generator)) for _ in range(2)
    )
    check.value("the way back from `encode`, 40 pairs", encode(objects, start), start, expected=objects)
    huge = torch.tensor([[0.0, 0, 9, -9], [5, -5, 0, 4.2]])
    check.value("an untrained head asks for giants", huge, anchors, hint=_LIMIT)
    check.value("no anchors (N = 0)", deltas[:0], anchors[:0], hint=_EMPTY)
    check.gradient("the gradient by the deltas", encode(objects, start), start)
    check.done()


_LIMIT = "limit dw and dh to at most log(1000/16) before the exponential, or an untrained head's boxes overflow"


def _decoder(centre: Callable, sides: Callable, corners: Callable = cxcywh_to_xyxy) -> Callable:
    """A solution from the shifted centre, the sides, and what makes corners of (cx, cy, w, h), each (N, 2) halves."""

    def answer(deltas: Tensor, anchors: Tensor) -> Tensor:
        place, size = xyxy_to_cxcywh(anchors).split(2, dim=1)
        shift, log = deltas.split(2, dim=1)
        new = sides(size, log)
        return corners(torch.cat((centre(place, size, shift, new), new), dim=1))

    return answer


def _centre(place: Tensor, size: Tensor, shift: Tensor, new: Tensor) -> Tensor:
    return place + shift * size


def _sides(size: Tensor, log: Tensor) -> Tensor:
    return size * log.clamp(max=math.log(1000 / 16)).exp()


def _double(boxes: Tensor) -> Tensor:
    """Corners a whole width and height from the centre."""
    return torch.cat((boxes[:, :2] - boxes[:, 2:], boxes[:, :2] + boxes[:, 2:]), dim=1)


_DECODE_MISTAKES = {
    _LIMIT: _decoder(_centre, lambda size, log: size * log.exp()),
    "only growing is limited: a very negative dw makes a small box, and that is no danger": (
        _decoder(_centre, lambda size, log: size * log.clamp(-math.log(1000 / 16), math.log(1000 / 16)).exp())
    ),
    "limit dw and dh alone: dx and dy are shifts, they go into no exponential": (
        lambda deltas, anchors: decode(deltas.clamp(max=math.log(1000 / 16)), anchors)
    ),
    "limit dw and dh alone, and from above alone: dx and dy are shifts, they go into no exponential": (
        lambda deltas, anchors: decode(deltas.clamp(-math.log(1000 / 16), math.log(1000 / 16)), anchors)
    ),
    "62.5 limits how many times a side grows, not the side in pixels: clamp dw and dh, before the exponential": (
        _decoder(_centre, lambda size, log: (size * log.exp()).clamp(max=1000 / 16))
    ),
    "the shift is in units of the anchor's size: multiply dx by its width and dy by its height": (
        _decoder(lambda place, size, shift, new: place + shift, _sides)
    ),
    "the shift is in units of the anchor's size, not of the new box's": (
        _decoder(lambda place, size, shift, new: place + shift * new, _sides)
    ),
    "the shift is added to the anchor's centre, not to its upper left corner": (
        _decoder(lambda place, size, shift, new: place - size / 2 + shift * size, _sides)
    ),
    "dx and dy belong to the centre; you took the shifted corner for the new box's corner": (
        _decoder(lambda place, size, shift, new: place - size / 2 + shift * size, _sides, xywh_to_xyxy)
    ),
    "dw is the logarithm of a ratio: the new width is aw · exp(dw), not aw · (1 + dw)": (
        _decoder(_centre, lambda size, log: size * (1 + log))
    ),
    "dw is the logarithm of a ratio: the new width is aw · exp(dw), not aw · dw": (
        _decoder(_centre, lambda size, log: size * log)
    ),
    "the exponential is multiplied with the anchor's size, not added to it": (
        _decoder(_centre, lambda size, log: size + log.exp())
    ),
    "the exponential undoes the natural logarithm; you used another base": (
        _decoder(_centre, lambda size, log: size * 2**log)
    ),
    "your boxes are (centre x, centre y, width, height); turn them into corners": _decoder(
        _centre, _sides, lambda b: b
    ),
    "your boxes are (x, y, width, height) or begin at the centre: from the centre it is half a side each way": (
        _decoder(_centre, _sides, xywh_to_xyxy)
    ),
    "your boxes are twice as large: from the centre it is half a side each way": _decoder(_centre, _sides, _double),
    "dw and dh are swapped: the order is (dx, dy, dw, dh)": (
        lambda deltas, anchors: decode(deltas[:, [0, 1, 3, 2]], anchors)
    ),
    "dx and dy are swapped: the order is (dx, dy, dw, dh)": (
        lambda deltas, anchors: decode(deltas[:, [1, 0, 2, 3]], anchors)
    ),
}
