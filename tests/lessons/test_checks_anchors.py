"""Lesson 03's checks pass right solutions, however written, and name the mistake of each wrong one."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from course_lib.lessons import checks
from course_lib.ops.anchors import cell_anchors, grid_anchors
from course_lib.ops.coder import decode
from course_lib.ops.matching import match
from tests.lessons.exercises import exercise_tests

# ---- shape_anchors ------------------------------------------------------------------------------------------------


def shape_loop(sizes, ratios, sides: Callable = lambda s, r: (s / r**0.5, s * r**0.5), box: Callable | None = None):
    """The anchors by two plain loops; `sides` gives width and height, `box` the corners."""
    box = box or (lambda w, h: (-w / 2, -h / 2, w / 2, h / 2))
    return torch.tensor([box(*sides(s, r)) for s in sizes for r in ratios]).reshape(-1, 4)


def shape_tensors(sizes, ratios):
    size, root = torch.tensor(sizes)[:, None], torch.tensor(ratios).sqrt()
    half = torch.stack((size / root, size * root), dim=-1).reshape(-1, 2) / 2
    return torch.cat((-half, half), dim=1)


RIGHT_SHAPE = {
    "the library": cell_anchors,
    "loops": shape_loop,
    "tensors": shape_tensors,
}
WRONG_SHAPE = {
    "ratio-major": (lambda s, r: cell_anchors(s, r, order="ratio"), "it must be size by size"),
    "width / height": (lambda s, r: shape_loop(s, [1 / x for x in r]), "width and height are swapped"),
    "no root": (lambda s, r: shape_loop(s, r, lambda s, r: (s / r, s * r)), "take the root of the ratio"),
    "height alone": (lambda s, r: shape_loop(s, r, lambda s, r: (s, s * r)), "the area must stay s²: s × s·r"),
    "width alone": (lambda s, r: shape_loop(s, r, lambda s, r: (s / r, s)), "the area must stay s²: s/r × s"),
    "size as area": (lambda s, r: shape_loop([x**0.5 for x in s], r), "the size is the root of the area"),
    "whole sides": (lambda s, r: shape_loop(s, r, box=lambda w, h: (-w, -h, w, h)), "twice as large"),
    "from zero": (lambda s, r: shape_loop(s, r, box=lambda w, h: (0.0, 0.0, w, h)), "your anchors begin at (0, 0)"),
    "y first": (
        lambda s, r: shape_loop(s, r, box=lambda w, h: (-h / 2, -w / 2, h / 2, w / 2)),
        "swapped",  # the same boxes as with width and height swapped
    ),
    "both x first": (
        lambda s, r: shape_loop(s, r, box=lambda w, h: (-w / 2, w / 2, -h / 2, h / 2)),
        "you put both x first",
    ),
    "stacked in front": (lambda s, r: torch.stack(shape_tensors(s, r).unbind(1)).reshape(-1, 4), "dim=-1"),
    "zipped": (lambda s, r: torch.cat([cell_anchors([a], [b]) for a, b in zip(s, r)]), "every size gets every ratio"),
    "rounded": (lambda s, r: cell_anchors(s, r).round(), "you rounded to whole pixels"),
    "not flat": (lambda s, r: cell_anchors(s, r).reshape(len(s), len(r), 4), "flatten it to (A, 4)"),
    "float64": (lambda s, r: cell_anchors(s, r).double(), "plain float32"),
    "one ratio": (lambda s, r: cell_anchors(s, [1.0]), "look at the shapes"),
    "nothing": (lambda s, r: None, "returned nothing"),
}

# ---- tile_anchors -------------------------------------------------------------------------------------------------


def tile_loop(cell: Tensor, grid, stride) -> Tensor:
    rows = [cell + cell.new_tensor([x, y, x, y]) * stride for y in range(grid[0]) for x in range(grid[1])]
    return torch.stack(rows).reshape(-1, 4) if rows else cell.new_zeros(0, 4)


def tile_broadcast(cell: Tensor, grid, stride, order: str = "yxa") -> Tensor:
    dy, dx = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    shift = torch.stack((dx, dy, dx, dy), -1) * stride  # (H, W, 4)
    boxes = shift[:, :, None] + cell  # (H, W, A, 4)
    return boxes.permute(*["yxa".index(axis) for axis in order], 3).reshape(-1, 4)


def shifted(move: Callable) -> Callable:
    def answer(cell, grid, stride):
        moves = [move(x * stride, y * stride) for y in range(grid[0]) for x in range(grid[1])]
        return torch.cat([cell + cell.new_tensor(m) for m in moves]) if moves else cell.new_zeros(0, 4)

    return answer


RIGHT_TILE = {
    "the library": lambda cell, grid, stride: grid_anchors(cell, grid, (stride, stride)),
    "loops": tile_loop,
    "broadcast": tile_broadcast,
}
WRONG_TILE = {
    "x and y": (shifted(lambda x, y: (y, x, y, x)), "x and y are swapped"),
    "by columns": (lambda *a: tile_broadcast(*a, order="xya"), "your grid runs column by column"),
    "by anchors": (lambda *a: tile_broadcast(*a, order="ayx"), "the anchors of one place must stand together"),
    "half a stride": (lambda c, g, s: tile_loop(c, g, s) + s / 2, "no half stride is added"),
    "no stride": (lambda c, g, s: tile_loop(c, g, 1), "multiply the row and column by the stride"),
    "one corner": (shifted(lambda x, y: (x, y, 0, 0)), "both corners move"),
    "W before H": (lambda c, g, s: tile_loop(c, g[::-1], s), "rows first"),
    "points": (lambda c, g, s: tile_loop(0 * c, g, s), "add the cell's anchors"),
    "not flat": (lambda c, g, s: tile_loop(c, g, s).reshape(*g, -1, 4), "flatten (H, W, A, 4)"),
    "half flat": (lambda c, g, s: tile_loop(c, g, s).reshape(g[0] * g[1], -1, 4), "not the anchors"),
    "float32": (lambda c, g, s: tile_loop(c.float(), g, s), "keep the type of the input"),
    "in place": (lambda c, g, s: tile_loop(c.add_(0.5), g, s), "changed its input in place"),
    "nothing": (lambda c, g, s: None, "returned nothing"),
}

# ---- match_anchors ------------------------------------------------------------------------------------------------


def match_steps(iou: Tensor, low, high, *, ties="all", own=True, matched_on=torch.ge, ignored_on=torch.ge) -> Tensor:
    """Matching step by step, each step with its mistakes."""
    if iou.shape[0] == 0:
        return torch.full((iou.shape[1],), -1)
    best, matched = iou.max(0)
    objects = matched.clone()
    matched[~matched_on(best, high)] = -2
    matched[~ignored_on(best, low)] = -1
    for g, row in enumerate(iou):
        kept = (row == row.max()).nonzero()[:, 0] if ties == "all" else row.argmax()[None] if ties else []
        for a in kept:
            matched[a] = objects[a] if own else g
    return matched


def plain(iou: Tensor, low, high) -> Tensor:
    return match(iou, low=low, high=high, low_quality=True)


def recoded(change: Callable) -> Callable:
    return lambda iou, low, high: change(plain(iou, low, high))


RIGHT_MATCH = {"the library": plain, "steps": match_steps}
WRONG_MATCH = {
    "no low quality": (lambda *a: match_steps(*a, ties=None), "low-quality matches are missing"),
    "kept in the band alone": (
        lambda iou, low, high: torch.where(iou.amax(0) >= low, plain(iou, low, high), -1),
        "whatever the IoU, below `low` too",
    ),
    "claimed": (lambda *a: match_steps(*a, own=False), "learns the object that it overlaps most itself"),
    "first best": (lambda *a: match_steps(*a, ties="first"), "several equally good best anchors"),
    "above high": (lambda *a: match_steps(*a, matched_on=torch.gt), "use >= high"),
    "above low": (lambda *a: match_steps(*a, ignored_on=torch.gt), "background is < low"),
    "no band": (recoded(lambda m: m.clamp(min=-1)), "there is no ignore band"),
    "band matched": (
        lambda iou, low, high: torch.where(plain(iou, low, high) == -2, iou.argmax(0), plain(iou, low, high)),
        "yours learn an object",
    ),
    "codes": (recoded(lambda m: torch.where(m == -1, -2, torch.where(m == -2, -1, m))), "the codes are swapped"),
    "always an object": (lambda iou, low, high: iou.argmax(0), "under low it is background"),
    "yes or no": (recoded(lambda m: (m >= 0).long()), "whether there is one"),
    "from one": (recoded(lambda m: m + (m >= 0)), "objects are numbered from 0"),
    "per object": (lambda iou, low, high: iou.argmax(1), "the best anchor of each object"),
    "the IoUs": (lambda iou, low, high: iou.amax(0), "an index: int64"),
    "other thresholds": (lambda iou, low, high: plain(iou, 0.3, 0.4), "pencil and paper"),
    "nothing": (lambda iou, low, high: None, "returned nothing"),
}

# ---- decode_deltas ------------------------------------------------------------------------------------------------


LIMIT = math.log(62.5)


def decode_steps(deltas, anchors, *, limit=LIMIT, least=-math.inf, exp=torch.exp, unit="anchor", start="centre"):
    """Decoding step by step, each step with its mistakes; gives centre and sides."""
    size = anchors[:, 2:] - anchors[:, :2]
    new = size * exp(deltas[:, 2:].clamp(least, limit))
    unit = {"anchor": size, "new": new, "pixel": 1}[unit]
    place = anchors[:, :2] + (size / 2 if start == "centre" else 0)
    return place + deltas[:, :2] * unit, new


def decoded(share: float = 0.5, **mistakes) -> Callable:
    def answer(deltas, anchors):
        centre, size = decode_steps(deltas, anchors, **mistakes)
        return torch.cat((centre - share * size, centre + share * size), dim=1)

    return answer


def joined(deltas, anchors):
    return torch.cat(decode_steps(deltas, anchors), dim=1)


def from_corner(start: str) -> Callable:
    def answer(deltas, anchors):
        corner, size = decode_steps(deltas, anchors, start=start)
        return torch.cat((corner, corner + size), dim=1)

    return answer


def decoded_sides_limited(deltas, anchors):
    centre, size = decode_steps(deltas, anchors, limit=math.inf)
    return torch.cat((centre - size.clamp(max=62.5) / 2, centre + size.clamp(max=62.5) / 2), dim=1)


RIGHT_DECODE = {"the library": decode, "steps": decoded()}
WRONG_DECODE = {
    "no limit": (decoded(limit=math.inf), "limit dw and dh"),
    "limited below": (decoded(least=-math.log(62.5)), "only growing is limited"),
    "all four limited": (lambda d, a: decode(d.clamp(max=LIMIT), a), "limit dw and dh alone:"),
    "all four limited both ways": (lambda d, a: decode(d.clamp(-LIMIT, LIMIT), a), "and from above alone"),
    "sides limited": (decoded_sides_limited, "not the side in pixels"),
    "pixels": (decoded(unit="pixel"), "multiply dx by its width"),
    "new box": (decoded(unit="new"), "not of the new box's"),
    "from the corner": (decoded(start="corner"), "added to the anchor's centre"),
    "corner to corner": (from_corner("corner"), "you took the shifted corner"),
    "linear": (decoded(exp=lambda x: 1 + x), "not aw · (1 + dw)"),
    "product": (decoded(exp=lambda x: x), "not aw · dw"),
    "base 2": (decoded(exp=torch.exp2), "another base"),
    "centres": (joined, "turn them into corners"),
    "begins at the centre": (from_corner("centre"), "half a side each way"),
    "twice": (decoded(share=1.0), "twice as large"),
    "w and h": (lambda d, a: decode(d[:, [0, 1, 3, 2]], a), "dw and dh are swapped"),
    "x and y": (lambda d, a: decode(d[:, [1, 0, 2, 3]], a), "dx and dy are swapped"),
    "detached": (lambda d, a: decode(d.detach(), a), "no gradient reaches the input"),
    "float32": (lambda d, a: decode(d, a).float(), "keep the type of the input"),
    "nothing": (lambda d, a: None, "returned nothing"),
}

EXERCISES = {
    "03-1: 6": (checks.shape_anchors, RIGHT_SHAPE, WRONG_SHAPE),
    "03-2: 6": (checks.tile_anchors, RIGHT_TILE, WRONG_TILE),
    "03-3: 7": (checks.match_anchors, RIGHT_MATCH, WRONG_MATCH),
    "03-4: 8": (checks.decode_deltas, RIGHT_DECODE, WRONG_DECODE),
}

TestExercises = exercise_tests(EXERCISES)


def test_no_objects_without_a_case_of_their_own_is_an_error_with_a_hint() -> None:
    def no_case(iou, low, high):
        best, matched = iou.max(0)
        kept = (best >= high) | (iou == iou.amax(1, keepdim=True)).any(0)
        return torch.where(kept, matched, torch.where(best >= low, -2, -1))

    with pytest.raises(IndexError) as caught:
        checks.match_anchors(no_case)
    assert "treat G = 0 first" in caught.value.__notes__[0]
