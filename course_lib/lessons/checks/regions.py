"""Checks of lesson 08: warped crops, RoIPool, bilinear reading, RoIAlign."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.lessons.checks.base import Exercise
from course_lib.ops import regions

_NOTHING = "no boxes (R = 0) are boxes too: begin with new_zeros(len(boxes), C, size, size) and fill it"


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _boxes(count: int, width: float, height: float, seed: int = 1) -> Tensor:
    """Boxes (count, 4) float64 within an image, each with an area."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(count, 2, dtype=torch.float64, generator=generator) * 0.6
    side = 0.1 + torch.rand(count, 2, dtype=torch.float64, generator=generator) * 0.3
    return torch.cat((first, first + side), 1) * torch.tensor([width, height, width, height])


def _turned(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same with x and y of the boxes exchanged."""
    return lambda x, boxes, *rest: function(x, boxes[:, [1, 0, 3, 2]], *rest)


def _transposed(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same with rows and columns of the result exchanged."""
    return lambda *arguments: function(*arguments).transpose(-1, -2)


# ---- 08-1 ---------------------------------------------------------------------------------------------------------

_BORDER = "cut the box at the border first: a negative start of a slice counts from the end"
_PIXEL = "a box without area has one pixel: its start is at most the last pixel, its end at least its start + 1"
_STRETCH = "stretch each crop to side × side, whatever its shape; nothing is padded"


def warp_regions(function: Callable[[Tensor, Tensor, int], Tensor]) -> None:
    """Exercise 08-1: `warp_regions(image, boxes, side)`, (C, H, W) and (R, 4) xyxy px, gives (R, C, side, side).

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("08-1", function, reference=regions.crop_and_warp, mistakes=_WARP_MISTAKES)
    image = torch.arange(16.0).reshape(1, 4, 4)
    check.shape("two boxes of an image 3×20×30", _random(3, 20, 30), _boxes(2, 30, 20), 5)
    copied = torch.tensor([[[[5.0, 6], [9, 10]]]])
    top = torch.tensor([[[[1.0, 2], [5, 6]]]])
    check.value("a box of the right size", image, torch.tensor([[1.0, 0, 3, 2]]), 2, expected=top)
    check.value("corners between pixels", image, torch.tensor([[1.2, 1.9, 2.1, 2.5]]), 2, expected=copied)
    check.value("a box twice as wide as high", image, torch.tensor([[0.0, 1, 4, 3]]), 3, hint=_STRETCH)
    check.value("over the border", image, torch.tensor([[-3.0, -1, 1.5, 2], [2, 3, 9, 9]]), 2, hint=_BORDER)
    check.value("a box without area", image, torch.tensor([[2.0, 1, 2, 1], [4, 4, 4, 4]]), 2, hint=_PIXEL)
    check.value("random boxes", _random(3, 20, 30), _boxes(9, 30, 20), 7)
    check.dtype("float64", _random(3, 20, 30), _boxes(2, 30, 20), 5)
    check.shape("no boxes (R = 0)", image, torch.zeros(0, 4), 2, hint=_NOTHING)
    check.gradient("the gradient by the image", _random(2, 9, 9), _boxes(4, 9, 9), 4)
    check.done()


def _warp(
    first: Callable[[Tensor], Tensor] = torch.floor, last: Callable[[Tensor], Tensor] = torch.ceil, **options
) -> Callable[[Tensor, Tensor, int], Tensor]:
    """Cutting and stretching with other roundings or another interpolation."""

    def warp(image: Tensor, boxes: Tensor, side: int) -> Tensor:
        height, width = image.shape[1:]
        limits = boxes.new_tensor([width, height])
        start = first(boxes[:, :2]).clamp(min=0).minimum(limits - 1)
        stop = last(boxes[:, 2:]).minimum(limits).maximum(start + 1)
        crops = image.new_zeros(len(boxes), image.shape[0], side, side)
        stretch = {"mode": "bilinear", "align_corners": False, **options}
        for i, (x1, y1, x2, y2) in enumerate(torch.cat((start, stop), 1).int().tolist()):
            crops[i] = F.interpolate(image[None, :, y1:y2, x1:x2], (side, side), **stretch)[0]
        return crops

    return warp


def _as_xywh(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    return regions.crop_and_warp(image, torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1), side)


_WARP_MISTAKES = {
    "rows and columns are exchanged: an image is (C, H, W), so y comes first, image[:, y1:y2, x1:x2]": (
        _turned(regions.crop_and_warp)
    ),
    "the far edges are rounded down, which loses the last pixel; widen the box: floor of x1, y1, ceil of x2, y2": (
        _warp(last=torch.floor)
    ),
    "you rounded to the nearest pixel; widen the box: floor of x1, y1, ceil of x2, y2": (
        _warp(first=torch.round, last=torch.round)
    ),
    "right and bottom are exclusive: a slice up to x2 has the last pixel already, without + 1": (
        _warp(last=lambda edges: edges.ceil() + 1)
    ),
    "interpolate with align_corners=False; with True the outer pixels' centres are put on the edges": (
        _warp(align_corners=True)
    ),
    "interpolate with mode='bilinear'; the default repeats the nearest pixel": (
        _warp(mode="nearest", align_corners=None)
    ),
    "boxes are (x1, y1, x2, y2); you took the last two for width and height": _as_xywh,
}

# ---- 08-2 ---------------------------------------------------------------------------------------------------------


def pool_regions(function: Callable[[Tensor, Tensor, float, int], Tensor]) -> None:
    """Exercise 08-2: `pool_regions(features, boxes, scale, size)`, (C, H, W) and (R, 4) px, gives (R, C, size, size).

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("08-2", function, reference=regions.pool_regions, mistakes=_POOL_MISTAKES)
    cells = torch.arange(25.0).reshape(1, 5, 5)
    check.shape("two boxes, size 3", _random(4, 9, 13), _boxes(2, 104, 72), 1 / 8, 3)
    two, by_hand = torch.tensor([[6.0, 10, 27, 30], [16, 8, 31, 23]]), torch.tensor([[[12.0, 13], [22, 23]]])
    by_hand = torch.stack((by_hand, torch.tensor([[[13.0, 14], [18, 19]]])))
    check.value("the box of the example, and another", cells, two, 1 / 8, 2, expected=by_hand)
    half = torch.tensor([[[[11.0, 11], [11, 11]]]])
    check.value("edges at half a cell", cells, torch.tensor([[4.0, 12, 4, 12]]), 1 / 8, 2, expected=half)
    over = torch.tensor([[32.0, 0, 47, 8], [-10, -22, 12, 12]])  # columns 4 to 6, rows 0 and 1; then −1 to 2, −3 to 2
    border = torch.tensor([[[[4.0, 0], [9, 0]]], [[[0, 0], [10, 12]]]])
    check.value("over the border", cells, over, 1 / 8, 2, expected=border, hint=_OVER)
    check.value("random boxes, size 3", _random(4, 9, 13), _boxes(12, 104, 72), 1 / 8, 3)
    check.value("size 7: more bins than cells", _random(4, 9, 13), _boxes(12, 104, 72), 1 / 8, 7)
    check.dtype("float64", _random(4, 9, 13), _boxes(2, 104, 72), 1 / 8, 3)
    check.shape("no boxes (R = 0)", cells, torch.zeros(0, 4), 1 / 8, 2, hint=_NOTHING)
    check.gradient("the gradient by the map", _random(2, 9, 13), _boxes(4, 104, 72), 1 / 8, 3)
    check.done()


_OVER = "a bin outside the map is 0: cut each bin at the border, at 0 too, and leave out the empty ones"


def _halves_up(cells: Tensor) -> Tensor:
    return (cells + 0.5).floor()


def _pool(
    *,
    rounding: Callable[[Tensor], Tensor] = _halves_up,
    included: int = 1,
    spread: Callable[[int, int, int], tuple[int, int]] = lambda k, n, size: (k * n // size, -(-(k + 1) * n // size)),
    best: Callable[[Tensor], Tensor] = lambda cells: cells.amax((1, 2)),
    cut_first: bool = False,
    counted: bool = True,
    exchanged: bool = False,
) -> Callable[[Tensor, Tensor, float, int], Tensor]:
    """RoIPool with one part replaced; with none it is the right one."""

    def bins(first: int, last: int, size: int, end: int) -> list[tuple[int, int]]:
        if cut_first:
            first, last = min(max(first, 0), end - 1), min(max(last, 0), end - 1)
        count = max(last - first + included, 1)
        edges, start = [spread(k, count, size) for k in range(size)], first if counted else 0
        return [(min(max(start + a, 0), end), min(max(start + b, 0), end)) for a, b in edges]

    def pool(features: Tensor, boxes: Tensor, scale: float, size: int) -> Tensor:
        height, width = reversed(features.shape[1:]) if exchanged else features.shape[1:]
        pooled = features.new_zeros(len(boxes), features.shape[0], size, size)
        for i, (x1, y1, x2, y2) in enumerate(rounding(boxes * scale).int().tolist()):
            for r, (top, bottom) in enumerate(bins(y1, y2, size, height)):
                for c, (left, right) in enumerate(bins(x1, x2, size, width)):
                    if top < bottom and left < right:
                        pooled[i, :, r, c] = best(features[:, top:bottom, left:right])
        return pooled

    return pool


def _one_step(k: int, n: int, size: int) -> tuple[int, int]:
    step = max(n // size, 1)
    return k * step, (k + 1) * step


_POOL_MISTAKES = {
    "boxes are in pixels, the map in cells: multiply them by scale, which is 1 / stride": (
        lambda x, boxes, scale, size: regions.pool_regions(x, boxes, 1.0, size)
    ),
    "the last cell belongs to the region: it has last − first + 1 columns": _pool(included=0),
    "you rounded down; RoIPool rounds to the nearest cell, floor(v + 0.5)": _pool(rounding=torch.floor),
    "round takes 0.5 to 0 and 1.5 to 2 (halves to the even number); take floor(v + 0.5)": _pool(rounding=torch.round),
    "you widened the box, floor and ceil, as in 08-1; RoIPool rounds each edge, floor(v + 0.5)": (
        _pool(rounding=lambda cells: torch.cat((cells[:, :2].floor(), cells[:, 2:].ceil()), 1))
    ),
    "int cuts towards 0, so −0.75 becomes 0; math.floor gives −1": _pool(rounding=lambda cells: (cells + 0.5).trunc()),
    "the bins count from the region's first column: add first to start and stop": _pool(counted=False),
    "the ceil is where a bin stops, not its last column; do not take 1 off": (
        _pool(spread=lambda k, n, size: (k * n // size, -(-(k + 1) * n // size) - 1))
    ),
    "the map's height and width are exchanged: rows end at H, columns at W": _pool(exchanged=True),
    "RoIPool takes the largest value of a bin, you took the mean": _pool(best=lambda cells: cells.mean((1, 2))),
    "bin k ends before the ceil of (k + 1)·w / size; with the floor some bins are empty and columns get lost": (
        _pool(spread=lambda k, n, size: (k * n // size, (k + 1) * n // size))
    ),
    "the bins have all the same whole number of cells, so the rest of the region is lost; use k·w / size": (
        _pool(spread=_one_step)
    ),
    "you cut the region at the border and then made the bins; make the bins first, then cut each of them": (
        _pool(cut_first=True)
    ),
    "rows and columns are exchanged: y counts the rows, features[:, y, x]": _turned(regions.pool_regions),
    "the result is transposed: pooled[i, :, r, c], row first": _transposed(regions.pool_regions),
}

# ---- 08-3 ---------------------------------------------------------------------------------------------------------

_EDGE = "the neighbour below the last row is not there: clamp bottom to H − 1 and right to W − 1"
_PAIRS = "one value a point, (C, P): index with both tensors at once, features[:, top, left]"
_OUTSIDE = "a point beyond the outermost centres is moved onto them: clamp rows to 0 … H − 1 first, columns likewise"


def bilinear_sample(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 08-3: `bilinear_sample(features, rows, columns)`, (C, H, W) and (P,) twice, gives (C, P).

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("08-3", function, reference=regions.bilinear, mistakes=_BILINEAR_MISTAKES)
    cells = torch.arange(25.0).reshape(1, 5, 5)
    rows, columns = _points(9, 13)
    check.shape("six points", _random(4, 9, 13), rows[:6], columns[:6], hint=_PAIRS)
    check.value("on a centre", cells, torch.tensor([1.0]), torch.tensor([2.0]), expected=torch.tensor([[7.0]]))
    between = torch.tensor([1.25, 2.75]), torch.tensor([2.0, 0.25])
    check.value("between centres", cells, *between, expected=torch.tensor([[8.25, 14.0]]))
    last = torch.tensor([4.0, 3.5]), torch.tensor([4.0, 4.0])
    check.value("in the last row and column", cells, *last, expected=torch.tensor([[24.0, 21.5]]), hint=_EDGE)
    out = torch.tensor([-0.5, 4.5]), torch.tensor([2.0, 0.0])
    check.value("half a cell beyond", cells, *out, expected=torch.tensor([[2.0, 20.0]]), hint=_OUTSIDE)
    check.value("random points", _random(4, 9, 13), rows, columns)
    check.dtype("float64", _random(4, 9, 13), rows, columns)
    check.shape("no points (P = 0)", cells, torch.zeros(0), torch.zeros(0))
    check.gradient("the gradient by the map", _random(4, 9, 13), rows, columns)
    check.done()


def _points(height: int, width: int) -> tuple[Tensor, Tensor]:
    places = torch.rand(2, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return places[0] * (height - 1), places[1] * (width - 1)


def _mix(weigh: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Bilinear reading with (down, across) as `weigh` makes them."""

    def sample(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        height, width = features.shape[1:]
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        top, left = rows.floor().long(), columns.floor().long()
        bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
        down, across = weigh(rows - top, columns - left)
        above = features[:, top, left] * (1 - across) + features[:, top, right] * across
        below = features[:, bottom, left] * (1 - across) + features[:, bottom, right] * across
        return above * (1 - down) + below * down

    return sample


def _exchanged_ends(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    height, width = features.shape[1:]
    return regions.bilinear(features, rows.clamp(0, width - 1), columns.clamp(0, height - 1))


def _up_to_the_ceil(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """0 where a row or column is a whole number: both weights are."""
    return regions.bilinear(features, rows, columns) * (rows != rows.floor()) * (columns != columns.floor())


def _zero_outside(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    height, width = features.shape[1:]
    inside = (rows >= 0) & (rows <= height - 1) & (columns >= 0) & (columns <= width - 1)
    return regions.bilinear(features, rows, columns) * inside


def _half_moved(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return regions.bilinear(features, rows - 0.5, columns - 0.5)


_BILINEAR_MISTAKES = {
    "you took the nearest cell; weigh all four by their distances": (
        _mix(lambda down, across: (down.round(), across.round()))
    ),
    "you took the cell above and to the left alone; weigh all four": _mix(lambda down, across: (0 * down, 0 * across)),
    "the weights are exchanged: a point near the top takes most from the top, 1 − (row − top)": (
        _mix(lambda down, across: (1 - down, 1 - across))
    ),
    "the two distances, or two of the corners, are exchanged: δy weighs top against bottom, δx left against right": (
        _mix(lambda down, across: (across, down))
    ),
    "the limits are exchanged: clamp rows to 0 … H − 1 and columns to 0 … W − 1": _exchanged_ends,
    "rows and columns are exchanged: features[:, row, column]": (
        lambda x, rows, columns: regions.bilinear(x, columns, rows)
    ),
    "you added the four up without weights that sum to 1; halves are right in the middle alone": (
        _mix(lambda down, across: (0 * down + 0.5, 0 * across + 0.5))
    ),
    _OUTSIDE: _zero_outside,
    "on a centre floor and ceil agree, and both weights are 0; take top + 1 for bottom, left + 1 for right": (
        _up_to_the_ceil
    ),
    "here the centre of cell (r, c) is at (r, c) itself; the half a cell is taken off before, in RoIAlign": _half_moved,
}

# ---- 08-4 ---------------------------------------------------------------------------------------------------------


def align_regions(function: Callable[[Tensor, Tensor, float, int], Tensor]) -> None:
    """Exercise 08-4: `align_regions(features, boxes, scale, size)`, (C, H, W) and (R, 4) px, gives (R, C, size, size).

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("08-4", function, reference=regions.align_regions, mistakes=_ALIGN_MISTAKES)
    cells = torch.arange(25.0).reshape(1, 5, 5)
    box = torch.tensor([[6.0, 10, 27, 30]])
    check.shape("two boxes, size 3", _random(4, 9, 13), _boxes(2, 104, 72), 1 / 8, 3)
    check.value("the box of the example, one bin", cells, box, 1 / 8, 1, expected=torch.tensor([[[[11.5625]]]]))
    rows, columns = torch.tensor([[6.875], [13.125]]), torch.tensor([[0.90625, 2.21875]])  # 5·1.375, 5·2.625
    check.value("the box of the example, 2 × 2 bins", cells, box, 1 / 8, 2, expected=(rows + columns)[None, None])
    check.value("random boxes, size 3", _random(4, 9, 13), _boxes(12, 104, 72), 1 / 8, 3)
    check.value("another scale", _random(4, 18, 26), _boxes(12, 104, 72), 1 / 4, 7)
    check.dtype("float64", _random(4, 9, 13), _boxes(2, 104, 72), 1 / 8, 3)
    check.shape("no boxes (R = 0)", cells, torch.zeros(0, 4), 1 / 8, 2, hint=_NOTHING)
    check.gradient("the gradient by the map", _random(2, 9, 13), _boxes(4, 104, 72), 1 / 8, 3)
    check.done()


def _steps(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.float64)


def _align(
    *,
    place: Callable[[Tensor, float], Tensor] = lambda boxes, scale: boxes * scale - 0.5,
    points: Callable[[int], Tensor] = lambda size: (_steps(2 * size) + 0.5) / (2 * size),
    collect: Callable[[Tensor], Tensor] = lambda values: values.mean((3, 5)),
) -> Callable[[Tensor, Tensor, float, int], Tensor]:
    """RoIAlign with one part replaced; with none it is the right one. `points` are shares of a side, whole per bin."""

    def align(features: Tensor, boxes: Tensor, scale: float, size: int) -> Tensor:
        boxes, steps = place(boxes, scale), points(size).to(boxes.dtype)
        columns = boxes[:, :1] + steps * (boxes[:, 2:3] - boxes[:, :1])
        rows = boxes[:, 1:2] + steps * (boxes[:, 3:] - boxes[:, 1:2])
        count = len(steps)
        y = rows[:, :, None].expand(-1, count, count).flatten()
        x = columns[:, None, :].expand(-1, count, count).flatten()
        values = regions.bilinear(features, y, x)
        each = count // size
        return collect(values.reshape(len(features), len(boxes), size, each, size, each)).transpose(0, 1)

    return align


_ALIGN_MISTAKES = {
    "the half is missing: the centre of cell 0 is half a cell from the border, so take 0.5 off the scaled box": (
        _align(place=lambda boxes, scale: boxes * scale)
    ),
    "you took half a *pixel* off; scale first, then take off half a cell": (
        _align(place=lambda boxes, scale: (boxes - 0.5) * scale)
    ),
    "you added the half; the box's coordinates count from the border, those of bilinear from the first centre": (
        _align(place=lambda boxes, scale: boxes * scale + 0.5)
    ),
    "boxes are in pixels, the map in cells: multiply them by scale": _align(place=lambda boxes, scale: boxes - 0.5),
    "you rounded the box; RoIAlign rounds nothing": _align(
        place=lambda boxes, scale: (boxes * scale + 0.5).floor() - 0.5
    ),
    "one point in the middle of a bin is not enough here: two down and two across": (
        _align(points=lambda size: (_steps(size) + 0.5) / size)
    ),
    "the points lie within the bin, at a quarter and three quarters of it, not on its borders": (
        _align(points=lambda size: torch.stack((_steps(size), _steps(size) + 1), 1).flatten() / size)
    ),
    "the steps are float32, which is too coarse for float64 boxes: torch.arange(2 * size, dtype=boxes.dtype)": (
        _align(points=lambda size: (torch.arange(2 * size) + 0.5) / (2 * size))
    ),
    "the half step is missing: point k is at (k + ½) / (2·size) of a side": (
        _align(points=lambda size: _steps(2 * size) / (2 * size))
    ),
    "the points run from border to border; point k is at (k + ½) / (2·size) of a side": (
        _align(points=lambda size: torch.linspace(0, 1, 2 * size, dtype=torch.float64))
    ),
    "a bin's points are no neighbours in memory: reshape to (C, size, 2, size, 2), then the mean over 2 and 4": (
        _align(collect=lambda v: v.reshape(*v.shape[:2], v.shape[2], v.shape[2], 2, 2).mean((4, 5)))
    ),
    "boxes are (x1, y1, x2, y2): the width is x2 − x1": (
        _align(place=lambda boxes, s: torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1) * s - 0.5)
    ),
    "take the mean of a bin's four points, not the largest": _align(collect=lambda values: values.amax((3, 5))),
    "take the mean of a bin's four points, not the sum": _align(collect=lambda values: values.sum((3, 5))),
    "rows and columns are exchanged: y makes the rows": _turned(_align()),
    "the result is transposed: aligned[i, :, r, c], row first": _transposed(_align()),
}
