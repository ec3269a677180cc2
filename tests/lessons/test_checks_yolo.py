"""Checks of lesson 07's second half pass right solutions, however written, and name the mistake of each wrong one."""

import math

import torch

from course_lib.lessons import checks
from course_lib.ops.cells import decode_cells
from course_lib.ops.matching import match
from tests.lessons.exercises import exercise_tests

LIMIT = math.log(1000 / 16)

# ---- cell_boxes ---------------------------------------------------------------------------------------------------


def box_loop(t, cells, *, offset=lambda v: 1 / (1 + math.exp(-v)), factor=lambda v: math.exp(min(v, LIMIT))):
    """Slot by slot in Python's numbers; for the gradient, in tensors."""
    if t.requires_grad:
        return decode_cells(t, cells)
    rows = []
    for (tx, ty, tw, th), (left, top, stride, pw, ph) in zip(t.tolist(), cells.tolist()):
        x, y = left + stride * offset(tx), top + stride * offset(ty)
        w, h = pw * factor(tw), ph * factor(th)
        rows.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return t.new_tensor(rows).reshape(-1, 4)


def box_columns(t, cells, *, half=2, sides=(3, 4), limit=LIMIT, xy=torch.sigmoid, stride=True, corner=True):
    """Column by column, with mistakes on request."""
    step = cells[:, 2] if stride else 1
    x = (cells[:, 0] if corner else 0) + step * xy(t[:, 0])
    y = (cells[:, 1] if corner else 0) + step * xy(t[:, 1])
    w = cells[:, sides[0]] * t[:, 2].clamp(max=limit).exp() / half
    h = cells[:, sides[1]] * t[:, 3].clamp(max=limit).exp() / half
    return torch.stack((x - w, y - h, x + w, y + h), dim=1)


def sides_by(function):
    """The right centre, and sides by `function(t, priors, stride)`."""

    def answer(t, cells):
        centre = cells[:, :2] + cells[:, 2:3] * t[:, :2].sigmoid()
        half = function(t[:, 2:], cells[:, 3:], cells[:, 2:3]) / 2
        return torch.cat((centre - half, centre + half), 1)

    return answer


RIGHT_BOX = {"the library": decode_cells, "a loop": box_loop, "columns": box_columns}
WRONG_BOX = {
    "no sigmoid": (lambda t, c: box_columns(t, c, xy=lambda v: v), "the offsets need a sigmoid"),
    "as RetinaNet": (
        lambda t, c: (
            decode_cells(torch.cat((0 * t[:, :2], t[:, 2:]), 1), c)
            + (c[:, 3:] * t[:, :2] - c[:, 2:3] / 2).repeat(1, 2)  # instead of the cell's middle
        ),
        "you decoded as RetinaNet does",
    ),
    "about the corner": (lambda t, c: box_columns(t, c, xy=lambda v: v.sigmoid() - 0.5), "take nothing off"),
    "from the middle": (lambda t, c: decode_cells(t, c) + c[:, 2:3] / 2, "not from its middle"),
    "no stride": (lambda t, c: box_columns(t, c, stride=False), "multiply it by the stride"),
    "no corner": (lambda t, c: box_columns(t, c, corner=False), "add left and top"),
    "columns and rows": (
        lambda t, c: box_columns(t, torch.cat((c[:, :2] * c[:, 2:3], c[:, 2:]), 1)),
        "left and top are pixels already",
    ),
    "offset of the prior": (
        lambda t, c: (
            box_columns(t, c, corner=True) + (c[:, 3:] - c[:, 2:3]).repeat(1, 2) * t[:, :2].sigmoid().repeat(1, 2)
        ),
        "you took the prior's size",
    ),
    "no exp": (sides_by(lambda t, p, s: p * t), "the sides need exp"),
    "stride as prior": (sides_by(lambda t, p, s: s * t.clamp(max=LIMIT).exp()), "belongs to the prior"),
    "added": (sides_by(lambda t, p, s: p + t.clamp(max=LIMIT).exp()), "do not add"),
    "prior in strides": (sides_by(lambda t, p, s: s * p * t.clamp(max=LIMIT).exp()), "no stride there"),
    "sides limited": (sides_by(lambda t, p, s: (p * t.exp()).clamp(max=1000 / 16)), "you limited the sides"),
    "limit without log": (lambda t, c: box_columns(t, c, limit=1000 / 16), "you took 1000/16"),
    "halved twice": (lambda t, c: box_columns(t, c, half=4), "halve the sides once"),
    "sigmoid on the sides": (sides_by(lambda t, p, s: p * t.sigmoid()), "not a sigmoid"),
    "height and width": (lambda t, c: box_columns(t, c, sides=(4, 3)), "in this order"),
    "no limit": (lambda t, c: box_columns(t, c, limit=1e9), "limit tw and th"),
    "limit below": (sides_by(lambda t, p, s: p * t.clamp(0, LIMIT).exp()), "from above alone"),
    "whole sides": (lambda t, c: box_columns(t, c, half=1), "twice as large"),
    "corner at the place": (
        lambda t, c: decode_cells(t, c) + (c[:, 3:] * t[:, 2:].clamp(max=LIMIT).exp() / 2).repeat(1, 2),
        "not its left upper corner",
    ),
    "centre and size": (
        lambda t, c: torch.cat(
            (c[:, :2] + c[:, 2:3] * t[:, :2].sigmoid(), c[:, 3:] * t[:, 2:].clamp(max=LIMIT).exp()), 1
        ),
        "not centre and size",
    ),
    "float32": (lambda t, c: decode_cells(t.float(), c.float()), "keep the type of the input"),
    "in place": (lambda t, c: decode_cells(t.sub_(0.5), c), "changed its input in place"),
    "cut off": (lambda t, c: decode_cells(t.detach(), c), "no gradient reaches the input"),
    "one slot": (lambda t, c: decode_cells(t, c)[:1], "look at the shapes"),
}

# ---- objectness_targets -------------------------------------------------------------------------------------------


def target_loop(overlap, responsible, threshold, *, over=lambda a, b: a > b, ones_last=True, ignored=-1, some=any):
    """Slot by slot, with mistakes on request."""
    targets = []
    for a in range(overlap.shape[1]):
        mine = a in responsible.tolist()
        left_out = len(overlap) > 0 and some(over(v, threshold) for v in overlap[:, a].tolist())
        if mine and (ones_last or not left_out):
            targets.append(1)
        else:
            targets.append(ignored if left_out else 0)
    return torch.tensor(targets)


def target_object_by_object(overlap, responsible, threshold):
    targets = torch.zeros(overlap.shape[1], dtype=torch.int64)
    for g in range(len(overlap)):
        targets[overlap[g] > threshold] = -1
        targets[responsible[g]] = 1
    return targets


def target_if_good(overlap, responsible, threshold):
    """A responsible slot counts only if its box is good already."""
    good = [slot for g, slot in enumerate(responsible.tolist()) if overlap[g, slot] > threshold]
    return target_max(overlap, torch.tensor(good, dtype=torch.int64), threshold)


def target_max(overlap, responsible, threshold):
    best = overlap.amax(0) if len(overlap) else overlap.new_zeros(overlap.shape[1])
    return torch.where(best > threshold, -1, 0).index_fill(0, responsible, 1)


RIGHT_TARGETS = {"a loop": target_loop, "the maximum": target_max}
WRONG_TARGETS = {
    "ignored last": (lambda *a: target_loop(*a, ones_last=False), "never left out"),
    "at the threshold": (
        lambda o, r, t: target_loop(o, r, t, over=lambda a, b: a >= b - 1e-9),
        "exactly the threshold is not over it",
    ),
    "ignored as objects": (lambda *a: target_loop(*a, ignored=1), "neither 1 nor 0"),
    "nothing left out": (lambda *a: target_loop(*a, ignored=0), "are called background here"),
    "best box now": (lambda o, r, t: target_loop(o, o.argmax(1), t), "the object's slot is given"),
    "under the threshold": (lambda *a: target_loop(*a, over=lambda a, b: a < b, some=all), "overlaps *more*"),
    "all objects": (lambda *a: target_loop(*a, some=all), "overlaps *any* object"),
    "the sum": (lambda o, r, t: target_max(o.sum(0, keepdim=True), r, t), "not at the sum"),
    "codes swapped": (
        lambda *a: torch.tensor([{1: 1, 0: -1, -1: 0}[v] for v in target_max(*a).tolist()]),
        "the other way round",
    ),
    "object by object": (target_object_by_object, "first all the −1"),
    "only good boxes": (target_if_good, "however little its box overlaps now"),
    "0.5 whatever is asked": (lambda o, r, t: target_max(o, r, 0.5), "not with 0.5"),
    "as RetinaNet": (lambda o, r, t: match(o, low=t, high=t, low_quality=False), "pencil and paper"),
    "floats": (lambda *a: target_max(*a).float(), "int64"),
    "per object": (lambda o, r, t: (o > t).long(), "dimension 0"),
}

TestExercises = exercise_tests(
    {
        "07-3: 8": (checks.cell_boxes, RIGHT_BOX, WRONG_BOX),
        "07-4: 6": (checks.objectness_targets, RIGHT_TARGETS, WRONG_TARGETS),
    }
)
