"""Checks of lesson 07's second half: a cell's box, and which slots learn that something is there."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.lessons.checks.base import Exercise
from course_lib.ops.boxes import xyxy_to_cxcywh
from course_lib.ops.cells import MAX_RATIO, decode_cells

_EMPTY = "nothing in, nothing out: work on whole tensors instead of looping, then 0 needs no case of its own"

# ---- 07-3 ---------------------------------------------------------------------------------------------------------


def cell_boxes(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 07-3: `cell_boxes(t, cells)`: boxes (N, 4) xyxy of (tx, ty, tw, th) (N, 4) in their slots (N, 5).

    A slot is (left, top, stride, prior width, prior height). Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("07-3", function, reference=decode_cells, mistakes=_CELL_MISTAKES)
    slots = torch.tensor([[16.0, 8, 8, 10, 20], [0, 32, 16, 30, 12]])
    numbers = torch.tensor([[-math.log(3), math.log(3), math.log(2), -math.log(2)], [0.3, -0.8, 0.2, -0.1]])
    check.shape("two slots", numbers, slots)
    check.dtype("two slots in float64", numbers.double(), slots.double())
    # σ(−log 3) = 1/4, σ(log 3) = 3/4: the centre is (18, 14); twice as wide, half as high.
    check.value("as worked out by hand", numbers[:1], slots[:1], expected=torch.tensor([[8.0, 9, 28, 19]]))
    middle = torch.tensor([[15.0, 2, 25, 22]])
    check.value("all numbers 0: the prior in the middle of its cell", 0 * numbers[:1], slots[:1], expected=middle)
    generator = torch.Generator().manual_seed(0)
    t = torch.randn(50, 4, dtype=torch.float64, generator=generator)
    cells = torch.rand(50, 5, dtype=torch.float64, generator=generator) * 40 + 4
    check.value("50 random slots", t, cells)
    check.value("numbers of an untrained head", torch.tensor([[0.0, 0, 80, 5]]), slots[:1])
    check.gradient("50 random slots", t, cells)
    check.value("no slots", t[:0], cells[:0], hint=_EMPTY)
    check.done()


def _cells(
    *,
    place: Callable = torch.sigmoid,
    step: Callable = lambda cells: cells[:, 2:3],
    corner: Callable = lambda cells: cells[:, :2],
    side: Callable = lambda t, cells: cells[:, 3:] * t.clamp(max=math.log(MAX_RATIO)).exp(),
    join: Callable = lambda centre, size: (centre - size / 2, centre + size / 2),
) -> Callable:
    """A solution in its steps, one of them replaced."""

    def answer(t: Tensor, cells: Tensor) -> Tensor:
        centre = corner(cells) + step(cells) * place(t[:, :2])
        return torch.cat(join(centre, side(t[:, 2:], cells)), dim=1)

    return answer


def _factor(t: Tensor) -> Tensor:
    return t.clamp(max=math.log(MAX_RATIO)).exp()


_CELL_MISTAKES = {
    "the offsets need a sigmoid: σ(tx) is the share of the way through the cell": _cells(place=lambda t: t),
    "you decoded as RetinaNet does, by prior size · tx; here the offset is stride · σ(tx)": _cells(
        place=lambda t: t, step=lambda cells: cells[:, 3:]
    ),
    "σ(tx) is 0 at the cell's left edge and 1 at its right: take nothing off": _cells(
        place=lambda t: t.sigmoid() - 0.5
    ),
    "start from the cell's left upper corner, not from its middle: σ(0) = ½ leads there": _cells(
        place=lambda t: t.sigmoid() + 0.5
    ),
    "σ(tx) is a share of the cell; multiply it by the stride to have pixels": _cells(step=lambda cells: 1.0),
    "start from the cell's left upper corner: add left and top to the offset": _cells(corner=lambda cells: 0.0),
    "the offset is a share of the cell, so it is multiplied by the stride; you took the prior's size": (
        _cells(step=lambda cells: cells[:, 3:])
    ),
    "left and top are pixels already, not a column and a row": _cells(
        corner=lambda cells: cells[:, :2] * cells[:, 2:3]
    ),
    "the sides need exp: the prior is multiplied by a factor, and exp(0) = 1 leaves it as it is": (
        _cells(side=lambda t, cells: cells[:, 3:] * t)
    ),
    "the factor belongs to the prior, not to the stride: w = prior width · exp(tw)": (
        _cells(side=lambda t, cells: cells[:, 2:3] * _factor(t))
    ),
    "the prior's sides are pixels already: no stride there": (
        _cells(side=lambda t, cells: cells[:, 2:3] * cells[:, 3:] * _factor(t))
    ),
    "limit tw and th themselves, before exp; you limited the sides to 1000/16 px": (
        _cells(side=lambda t, cells: (cells[:, 3:] * t.exp()).clamp(max=MAX_RATIO))
    ),
    "the limit of tw and th is a logarithm, log(1000/16); you took 1000/16": (
        _cells(side=lambda t, cells: cells[:, 3:] * t.clamp(max=MAX_RATIO).exp())
    ),
    "multiply the prior by exp(tw), do not add": _cells(side=lambda t, cells: cells[:, 3:] + _factor(t)),
    "the sides have exp, not a sigmoid: a box may be larger than its prior": (
        _cells(side=lambda t, cells: cells[:, 3:] * t.sigmoid())
    ),
    "the prior is (width, height) in the slot's last two numbers, in this order": (
        _cells(side=lambda t, cells: cells[:, 3:].flip(1) * _factor(t))
    ),
    "limit tw and th to log(1000/16) before exp; an untrained head may say anything": (
        _cells(side=lambda t, cells: cells[:, 3:] * t.exp())
    ),
    "the limit holds from above alone; a box may well be much smaller than its prior": (
        _cells(side=lambda t, cells: cells[:, 3:] * t.clamp(0, math.log(MAX_RATIO)).exp())
    ),
    "your boxes are twice as large: the corners lie half a width and half a height from the centre": (
        _cells(join=lambda centre, size: (centre - size, centre + size))
    ),
    "your boxes are half as large: halve the sides once": (
        _cells(join=lambda centre, size: (centre - size / 4, centre + size / 4))
    ),
    "the place is the centre of the box, not its left upper corner": (
        _cells(join=lambda centre, size: (centre, centre + size))
    ),
    "give corners (x1, y1, x2, y2), not centre and size": lambda t, cells: xyxy_to_cxcywh(decode_cells(t, cells)),
}

# ---- 07-4 ---------------------------------------------------------------------------------------------------------


def objectness_targets(function: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Exercise 07-4: `objectness_targets(overlap, responsible, threshold)`: 1, 0 or −1 for each slot, (A,) int64.

    overlap: IoU of G objects with the boxes predicted in A slots, (G, A). responsible: each object's slot, (G,) int64.
    1 for these slots, −1 (left out) for others whose box overlaps some object by more than the threshold, else 0.
    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("07-4", function, reference=_targets, mistakes=_TARGET_MISTAKES)
    overlap = torch.tensor([[0.60, 0.90, 0.50, 0.10, 0.00, 0.20], [0.10, 0.70, 0.30, 0.55, 0.20, 0.40]])
    slots = torch.tensor([0, 4])
    one_answer = "the answer has one number for each slot, so the maximum goes over the objects, dimension 0"
    check.shape("two objects, six slots", overlap, slots, 0.5, hint=one_answer)
    check.dtype("two objects, six slots", overlap, slots, 0.5, hint="1, 0 and −1 are whole numbers: int64")
    # Slot 0 is object 0's, slot 4 object 1's, however little its box overlaps yet. 1 and 3 are left out.
    check.value("as worked out by hand", overlap, slots, 0.5, expected=torch.tensor([1, -1, 0, -1, 1, 0]))
    check.value("with threshold 0.15", overlap, slots, 0.15)
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(7, 200, dtype=torch.float64, generator=generator) ** 4
    places = torch.randint(0, 200, (7,), generator=generator)
    check.value("7 objects, 200 slots", random, places, 0.5)
    none = "without objects every slot learns 0; a maximum over no objects is an error, so treat G = 0 first"
    check.value("no objects (G = 0)", overlap[:0], slots[:0], 0.5, hint=none)
    check.done()


def _targets(overlap: Tensor, responsible: Tensor, threshold: float) -> Tensor:
    targets = torch.zeros(overlap.shape[1], dtype=torch.int64)
    targets[(overlap > threshold).any(0)] = -1
    targets[responsible] = 1
    return targets


def _late(overlap: Tensor, responsible: Tensor, threshold: float) -> Tensor:
    """The ignored last, over the objects' slots."""
    targets = _targets(overlap, responsible, 2.0)
    targets[(overlap > threshold).any(0)] = -1
    return targets


def _object_by_object(overlap: Tensor, responsible: Tensor, threshold: float) -> Tensor:
    """−1 and 1 object by object: the −1 of a later object overwrites the 1 of an earlier one."""
    targets = torch.zeros(overlap.shape[1], dtype=torch.int64)
    for row, slot in zip(overlap, responsible):
        targets[row > threshold] = -1
        targets[slot] = 1
    return targets


_TARGET_MISTAKES = {
    "compare with `threshold`, not with 0.5": lambda o, r, t: _targets(o, r, 0.5),
    "a later object's −1 overwrote an earlier one's 1: first all the −1, then all the 1": _object_by_object,
    "a responsible slot learns 1 however little its box overlaps now; else it would never begin": (
        lambda o, r, t: _targets(o, r[o.gather(1, r[:, None])[:, 0] > t], t)
    ),
    "a slot that is responsible is never left out: write the ones last": _late,
    "exactly the threshold is not over it: use >": lambda o, r, t: _targets(
        o, r, t - 1e-12 if o.dtype == torch.float64 else t - 1e-6
    ),
    "a good box of another slot is neither 1 nor 0: it is left out, −1": (lambda o, r, t: _targets(o, r, t).abs()),
    "boxes that overlap an object well are called background here; leave them out, −1": lambda o, r, t: _targets(
        o, r, 2.0
    ),
    "the object's slot is given: that of its cell and best prior; you took the one whose box overlaps most now": (
        lambda o, r, t: _targets(o, o.argmax(1), t)
    ),
    "you left out what overlaps little; left out is what overlaps *more* than the threshold": (
        lambda o, r, t: _flipped(o, r, t)
    ),
    "one object is enough: a slot is left out if its box overlaps *any* object well, not all": (
        lambda o, r, t: _with(o, r, (o > t).all(0))
    ),
    "look at the largest overlap with an object, not at the sum over the objects": (
        lambda o, r, t: _with(o, r, o.sum(0) > t)
    ),
    "0 is background and −1 left out; you have them the other way round": (
        lambda o, r, t: torch.where(_targets(o, r, t) == 1, 1, -1 - _targets(o, r, t))
    ),
}


def _with(overlap: Tensor, responsible: Tensor, ignored: Tensor) -> Tensor:
    """Targets with a mask (A,) of what is left out."""
    targets = -ignored.long()
    targets[responsible] = 1
    return targets


def _flipped(overlap: Tensor, responsible: Tensor, threshold: float) -> Tensor:
    return _with(overlap, responsible, overlap.amax(0) < threshold)
