"""Lesson 08's checks pass right solutions, however written, and name the mistake of each wrong one."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align, roi_pool

from course_lib.lessons import checks
from course_lib.ops import regions
from tests.lessons.exercises import exercise_tests

# ---- 08-1 ---------------------------------------------------------------------------------------------------------


def warp(
    image: Tensor, boxes: Tensor, side: int, *, low: Callable = math.floor, high: Callable = math.ceil, **options
) -> Tensor:
    """A loop over boxes with Python's numbers."""
    height, width = image.shape[1:]
    crops = image.new_zeros(len(boxes), len(image), side, side)
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        left, top = min(max(low(x1), 0), width - 1), min(max(low(y1), 0), height - 1)
        right, bottom = max(min(high(x2), width), left + 1), max(min(high(y2), height), top + 1)
        stretch = {"mode": "bilinear", **options}
        crops[i] = F.interpolate(image[None, :, top:bottom, left:right], size=(side, side), **stretch)[0]
    return crops


def warp_without_clipping(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    crops = image.new_zeros(len(boxes), len(image), side, side)
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        region = image[None, :, math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)]
        crops[i] = F.interpolate(region, size=(side, side), mode="bilinear")[0]
    return crops


def warp_without_a_pixel(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    height, width = image.shape[1:]
    limits = torch.tensor([width, height, width, height])
    return warp_without_clipping(image, boxes.clamp(min=0).minimum(limits), side)


def warp_stacked(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    return torch.stack([warp(image, box[None], side)[0] for box in boxes])


def warp_padded(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    """The aspect is kept, the rest is 0."""
    out = image.new_zeros(len(boxes), len(image), side, side)
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        scale = side / max(math.ceil(x2) - math.floor(x1), math.ceil(y2) - math.floor(y1))
        tall, wide = (round((math.ceil(b) - math.floor(a)) * scale) for a, b in ((y1, y2), (x1, x2)))
        crop = warp(image, boxes[i : i + 1], side)
        out[i, :, :tall, :wide] = F.interpolate(crop, size=(tall, wide), mode="bilinear")[0]
    return out


def warp_pixel_before_border(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    """One pixel at least first, then cut: empty at the right border."""
    first = boxes[:, :2].floor().clamp(min=0)
    last = boxes[:, 2:].ceil().maximum(first + 1).minimum(torch.tensor([image.shape[2], image.shape[1]]))
    return warp_without_clipping(image, torch.cat((first, last), 1), side)


RIGHT_WARP = {"a loop": warp, "the library": regions.crop_and_warp}
WRONG_WARP = {
    "x and y": (lambda x, b, s: warp(x, b[:, [1, 0, 3, 2]], s), "y comes first"),
    "int of all": (lambda x, b, s: warp(x, b, s, low=int, high=int), "loses the last pixel"),
    "rounded": (lambda x, b, s: warp(x, b, s, low=round, high=round), "you rounded to the nearest pixel"),
    "corners": (lambda x, b, s: warp(x, b, s, align_corners=True), "align_corners=False"),
    "nearest": (lambda x, b, s: warp(x, b, s, mode="nearest"), "repeats the nearest pixel"),
    "one more": (lambda x, b, s: warp(x, b, s, high=lambda v: math.ceil(v) + 1), "right and bottom are exclusive"),
    "padded": (warp_padded, "nothing is padded"),
    "xywh": (lambda x, b, s: warp(x, torch.cat((b[:, :2], b[:, :2] + b[:, 2:]), 1), s), "for width and height"),
    "float32": (lambda x, b, s: warp(x.float(), b, s), "keep the type"),
    "detached": (lambda x, b, s: warp(x.detach(), b, s), "no gradient reaches the input"),
    "doubled": (lambda x, b, s: 2 * warp(x, b, s), "part by part"),
}

# ---- 08-2 ---------------------------------------------------------------------------------------------------------


def pool(
    x: Tensor, boxes: Tensor, scale: float, size: int, *, low: Callable = math.floor, high: Callable = math.ceil,
    nearest: Callable = lambda v: math.floor(v + 0.5), more: int = 1, best: Callable = torch.amax,
    least: int = 0, counted: bool = True, turned: bool = False,
) -> Tensor:  # fmt: skip
    """RoIPool with floats, as the paper's text has it."""
    height, width = x.shape[:0:-1] if turned else x.shape[1:]
    out = x.new_zeros(len(boxes), len(x), size, size)
    for i, box in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = (nearest(v * scale) for v in box)
        tall, wide = (max(end - start + more, 1) / size for start, end in ((y1, y2), (x1, x2)))
        x1, y1 = (x1, y1) if counted else (0, 0)
        for r in range(size):
            top, bottom = max(y1 + low(r * tall), least), min(y1 + high((r + 1) * tall), height)
            for c in range(size):
                left, right = max(x1 + low(c * wide), least), min(x1 + high((c + 1) * wide), width)
                if bottom > top and right > left:
                    out[i, :, r, c] = best(x[:, top:bottom, left:right], (1, 2))
    return out


def adaptive(x: Tensor, boxes: Tensor, scale: float, size: int) -> Tensor:
    """torch's own bins, on the region cut at the border."""
    _, height, width = x.shape
    out = x.new_zeros(len(boxes), len(x), size, size)
    for i, box in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = (math.floor(v * scale + 0.5) for v in box)
        (top, bottom), (left, right) = (
            (max(a, 0), min(b, end - 1)) for a, b, end in ((y1, y2, height), (x1, x2, width))
        )
        region = x[:, top : max(bottom, top) + 1, left : max(right, left) + 1]
        out[i] = F.adaptive_max_pool2d(region, size)
    return out


def equal_bins(x: Tensor, boxes: Tensor, scale: float, size: int) -> Tensor:
    """Each bin has w // size columns."""

    def bins(first: int, last: int, end: int) -> list[tuple[int, int]]:
        step = max((last - first + 1) // size, 1)
        return [(max(first + k * step, 0), min(first + (k + 1) * step, end)) for k in range(size)]

    out = x.new_zeros(len(boxes), len(x), size, size)
    for i, box in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = (math.floor(v * scale + 0.5) for v in box)
        for r, (top, bottom) in enumerate(bins(y1, y2, x.shape[1])):
            for c, (left, right) in enumerate(bins(x1, x2, x.shape[2])):
                if bottom > top and right > left:
                    out[i, :, r, c] = x[:, top:bottom, left:right].amax((1, 2))
    return out


def widened(x: Tensor, boxes: Tensor, scale: float, size: int) -> Tensor:
    cells = torch.cat(((boxes[:, :2] * scale).floor(), (boxes[:, 2:] * scale).ceil()), 1)
    return pool(x, cells, 1, size)


RIGHT_POOL = {
    "with floats": pool,
    "the library": regions.pool_regions,
    "torchvision": lambda x, b, scale, size: roi_pool(x[None], [b], size, scale),
}
WRONG_POOL = {
    "no scale": (lambda x, b, scale, size: pool(x, b, 1, size), "multiply them by scale"),
    "divided": (lambda x, b, scale, size: pool(x, b, 1 / scale, size), "which is 1 / stride"),
    "last cell": (lambda *a: pool(*a, more=0), "the last cell belongs to the region"),
    "rounded down": (lambda *a: pool(*a, nearest=math.floor), "you rounded down"),
    "python's round": (lambda *a: pool(*a, nearest=round), "halves to the even number"),
    "widened": (widened, "you widened the box"),
    "python's int": (lambda *a: pool(*a, nearest=lambda v: int(v + 0.5)), "int cuts towards 0"),
    "from 0": (lambda *a: pool(*a, counted=False), "add first to start and stop"),
    "less one": (lambda *a: pool(*a, high=lambda v: math.ceil(v) - 1), "do not take 1 off"),
    "map turned": (lambda *a: pool(*a, turned=True), "rows end at H"),
    "mean": (lambda *a: pool(*a, best=torch.mean), "you took the mean"),
    "floor twice": (lambda *a: pool(*a, high=math.floor), "columns get lost"),
    "equal bins": (equal_bins, "the same whole number of cells"),
    "cut first": (adaptive, "make the bins first"),
    "x and y": (lambda x, b, *a: pool(x, b[:, [1, 0, 3, 2]], *a), "y counts the rows"),
    "transposed": (lambda *a: pool(*a).transpose(2, 3), "the result is transposed"),
    "float32": (lambda x, *a: pool(x.float(), *a), "keep the type"),
    "detached": (lambda x, *a: pool(x.detach(), *a), "no gradient reaches the input"),
}

# ---- 08-3 ---------------------------------------------------------------------------------------------------------


def bilinear(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Four corners, four weights."""
    _, height, width = x.shape
    y, z = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    y0, z0 = y.long(), z.long()
    y1, z1 = (y0 + 1).clamp(max=height - 1), (z0 + 1).clamp(max=width - 1)
    a, b = y - y0, z - z0
    corners = (x[:, y0, z0], x[:, y0, z1], x[:, y1, z0], x[:, y1, z1])
    weights = ((1 - a) * (1 - b), (1 - a) * b, a * (1 - b), a * b)
    return sum(w * c for w, c in zip(weights, corners))


def grid_sampled(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    _, height, width = x.shape
    grid = torch.stack((2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1), 1).to(x.dtype)
    found = F.grid_sample(x[None], grid[None, None], align_corners=True, padding_mode="border")
    return found[0, :, 0]


def hats(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The weight of a cell is max(0, 1 − distance), by both axes."""
    _, height, width = x.shape
    down = (1 - (rows.clamp(0, height - 1)[:, None] - torch.arange(height)).abs()).clamp(min=0)
    across = (1 - (columns.clamp(0, width - 1)[:, None] - torch.arange(width)).abs()).clamp(min=0)
    return torch.einsum("chw,ph,pw->cp", x, down, across)


def weighed(x: Tensor, rows: Tensor, columns: Tensor, weights: Callable) -> Tensor:
    _, height, width = x.shape
    y, z = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    a, b = weights(y - y.floor()), weights(z - z.floor())
    return bilinear(x, y.floor() + a * (y < height - 1), z.floor() + b * (z < width - 1))


def without_neighbour(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    y0, z0 = rows.long(), columns.long()
    a, b = rows - y0, columns - z0
    above = x[:, y0, z0] * (1 - b) + x[:, y0, z0 + 1] * b
    return above * (1 - a) + (x[:, y0 + 1, z0] * (1 - b) + x[:, y0 + 1, z0 + 1] * b) * a


def up_to_the_ceil(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    _, height, width = x.shape
    y, z = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    y0, z0, y1, z1 = (p.long() for p in (y.floor(), z.floor(), y.ceil(), z.ceil()))
    above = x[:, y0, z0] * (z1 - z) + x[:, y0, z1] * (z - z0)
    return above * (y1 - y) + (x[:, y1, z0] * (z1 - z) + x[:, y1, z1] * (z - z0)) * (y - y0)


def two_corners(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The upper right and the lower left cell are exchanged."""
    _, height, width = x.shape
    y, z = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    y0, z0 = y.long(), z.long()
    y1, z1, a, b = (y0 + 1).clamp(max=height - 1), (z0 + 1).clamp(max=width - 1), y - y0, z - z0
    above, below = x[:, y0, z0] * (1 - b) + x[:, y1, z0] * b, x[:, y0, z1] * (1 - b) + x[:, y1, z1] * b
    return above * (1 - a) + below * a


def zeros_outside(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    inside = (rows >= 0) & (rows <= x.shape[1] - 1) & (columns >= 0) & (columns <= x.shape[2] - 1)
    return bilinear(x, rows, columns) * inside


RIGHT_BILINEAR = {"corners": bilinear, "grid_sample": grid_sampled, "hats": hats, "the library": regions.bilinear}
WRONG_BILINEAR = {
    "nearest": (lambda x, y, z: bilinear(x, y.round(), z.round()), "you took the nearest cell"),
    "floor": (lambda x, y, z: bilinear(x, y.floor(), z.floor()), "the cell above and to the left alone"),
    "exchanged weights": (lambda *a: weighed(*a, lambda t: 1 - t), "the weights are exchanged"),
    "a quarter each": (lambda *a: weighed(*a, lambda t: 0 * t + 0.5), "halves are right in the middle alone"),
    "x and y": (lambda x, y, z: bilinear(x, z, y), "rows and columns are exchanged"),
    "ceil": (up_to_the_ceil, "floor and ceil agree"),
    "corners": (two_corners, "two of the corners"),
    "limits": (
        lambda x, y, z: bilinear(x, y.clamp(0, x.shape[2] - 1), z.clamp(0, x.shape[1] - 1)),
        "the limits are exchanged",
    ),
    "a grid": (lambda x, y, z: x[:, y.long()][:, :, z.long()], "one value a point"),
    "zeros outside": (zeros_outside, "moved onto them"),
    "half a cell": (lambda x, y, z: bilinear(x, y - 0.5, z - 0.5), "is at (r, c) itself"),
    "float32": (lambda x, *a: bilinear(x.float(), *(p.float() for p in a)), "keep the type"),
    "detached": (lambda x, *a: bilinear(x.detach(), *a), "no gradient reaches the input"),
    "negated": (lambda *a: -bilinear(*a), "part by part"),
}

# ---- 08-4 ---------------------------------------------------------------------------------------------------------


def align(
    x: Tensor, boxes: Tensor, scale: float, size: int, *, place: Callable = lambda v, scale: v * scale - 0.5,
    at: tuple[float, ...] = (0.25, 0.75), collect: Callable = lambda values: values.mean(1),
) -> Tensor:  # fmt: skip
    """Bin by bin."""
    out = x.new_zeros(len(boxes), len(x), size, size)
    for i, (x1, y1, x2, y2) in enumerate(place(boxes, scale)):
        tall, wide = (y2 - y1) / size, (x2 - x1) / size
        for r in range(size):
            for c in range(size):
                points = [(y1 + (r + a) * tall, x1 + (c + b) * wide) for a in at for b in at]
                out[i, :, r, c] = collect(regions.bilinear(x, *(torch.stack(p) for p in zip(*points))))
    return out


def align_on_a_grid(x: Tensor, boxes: Tensor, scale: float, size: int, *, steps: Callable, right: bool) -> Tensor:
    """All points of a region at once, as the hints have it."""
    out = x.new_zeros(len(boxes), len(x), size, size)
    for i, (x1, y1, x2, y2) in enumerate(boxes * scale - 0.5):
        at = steps(size).to(boxes.dtype)
        y, z = torch.meshgrid(y1 + at * (y2 - y1), x1 + at * (x2 - x1), indexing="ij")
        values = regions.bilinear(x, y.flatten(), z.flatten())
        shape, over = ((size, 2, size, 2), (2, 4)) if right else ((size, size, 2, 2), (3, 4))
        out[i] = values.reshape(len(x), *shape).mean(over)
    return out


def halves(size: int) -> Tensor:
    return (torch.arange(2 * size, dtype=torch.float64) + 0.5) / (2 * size)


def coarse(size: int) -> Tensor:
    return (torch.arange(2 * size) + 0.5) / (2 * size)


def whole(size: int) -> Tensor:
    return torch.arange(2 * size) / (2 * size)


def line(size: int) -> Tensor:
    return torch.linspace(0, 1, 2 * size, dtype=torch.float64)


RIGHT_ALIGN = {
    "on a grid": lambda *a: align_on_a_grid(*a, steps=halves, right=True),
    "bin by bin": align,
    "the library": regions.align_regions,
    "torchvision": lambda x, b, scale, size: roi_align(x[None], [b], size, scale, 2, aligned=True),
}
WRONG_ALIGN = {
    "no half": (lambda *a: align(*a, place=lambda v, s: v * s), "the half is missing"),
    "half a pixel": (lambda *a: align(*a, place=lambda v, s: (v - 0.5) * s), "you took half a *pixel* off"),
    "the half added": (lambda *a: align(*a, place=lambda v, s: v * s + 0.5), "you added the half"),
    "no scale": (lambda *a: align(*a, place=lambda v, s: v - 0.5), "multiply them by scale"),
    "rounded": (lambda *a: align(*a, place=lambda v, s: (v * s + 0.5).floor() - 0.5), "RoIAlign rounds nothing"),
    "one point": (lambda *a: align(*a, at=(0.5,)), "one point in the middle"),
    "corners": (lambda *a: align(*a, at=(0.0, 1.0)), "not on its borders"),
    "reshaped": (lambda *a: align_on_a_grid(*a, steps=halves, right=False), "no neighbours in memory"),
    "coarse steps": (lambda *a: align_on_a_grid(*a, steps=coarse, right=True), "the steps are float32"),
    "no half step": (lambda *a: align_on_a_grid(*a, steps=whole, right=True), "the half step is missing"),
    "linspace": (lambda *a: align_on_a_grid(*a, steps=line, right=True), "from border to border"),
    "xywh": (lambda x, b, *a: align(x, torch.cat((b[:, :2], b[:, :2] + b[:, 2:]), 1), *a), "the width is x2 − x1"),
    "max": (lambda *a: align(*a, collect=lambda v: v.amax(1)), "not the largest"),
    "sum": (lambda *a: align(*a, collect=lambda v: v.sum(1)), "not the sum"),
    "x and y": (lambda x, b, *a: align(x, b[:, [1, 0, 3, 2]], *a), "y makes the rows"),
    "transposed": (lambda *a: align(*a).transpose(2, 3), "the result is transposed"),
    "float32": (lambda x, *a: align(x.float(), *a), "keep the type"),
    "detached": (lambda x, *a: align(x.detach(), *a), "no gradient reaches the input"),
}

EXERCISES = {
    "08-1: 10": (checks.warp_regions, RIGHT_WARP, WRONG_WARP),
    "08-2: 9": (checks.pool_regions, RIGHT_POOL, WRONG_POOL),
    "08-3: 9": (checks.bilinear_sample, RIGHT_BILINEAR, WRONG_BILINEAR),
    "08-4: 8": (checks.align_regions, RIGHT_ALIGN, WRONG_ALIGN),
}

TestExercises = exercise_tests(EXERCISES)


@pytest.mark.parametrize(
    ("check", "function", "words"),
    [
        (checks.warp_regions, warp_without_clipping, "a negative start of a slice counts from the end"),
        (checks.warp_regions, warp_without_a_pixel, "has one pixel"),
        (checks.warp_regions, warp_pixel_before_border, "at most the last pixel"),
        (checks.pool_regions, lambda *a: pool(*a, least=-99), "at 0 too"),
        (checks.warp_regions, warp_stacked, "begin with new_zeros"),
        (checks.bilinear_sample, without_neighbour, "clamp bottom to H − 1"),
    ],
)
def test_an_error_of_the_solution_comes_with_the_hint(check: Callable, function: Callable, words: str) -> None:
    with pytest.raises((RuntimeError, IndexError)) as caught:
        check(function)
    assert words in caught.value.__notes__[0]
