"""Checks of lesson 01: a box format, the IoU of all pairs, the generalised IoU, greedy NMS."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.lessons.checks.base import Exercise
from course_lib.ops.boxes import (
    box_area,
    box_iou,
    clip_boxes,
    cxcywh_to_xyxy,
    paired_giou,
    paired_iou,
    pairwise_giou,
    xywh_to_xyxy,
    xyxy_to_xywh,
)
from course_lib.ops.nms import nms_greedy

_EMPTY = "nothing in, nothing out: work on whole tensors instead of looping, then N = 0 needs no case of its own"

# ---- 01-1 ---------------------------------------------------------------------------------------------------------


def from_yolo(function: Callable[[Tensor, tuple[int, int]], Tensor]) -> None:
    """Exercise 01-1: `from_yolo(boxes, size)`, shares (N, 4) cxcywh and (height, width), gives xyxy px (N, 4), clipped.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("01-1", function, reference=_from_yolo, mistakes=_FROM_YOLO_MISTAKES)
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.5], [0.25, 0.75, 0.1, 0.25]])
    check.shape("two boxes in an image 100 px high, 200 px wide", boxes, (100, 200))
    check.dtype("two boxes in an image 100 px high, 200 px wide", boxes, (100, 200))
    worked_out = torch.tensor([[80.0, 25, 120, 75], [40, 62.5, 60, 87.5]])
    check.value("two boxes in an image 100 px high, 200 px wide", boxes, (100, 200), expected=worked_out)
    outside = torch.tensor([[0.0, 0.5, 0.2, 0.5], [1.0, 1.0, 0.5, 0.5]])
    cut = torch.tensor([[0.0, 25, 20, 75], [150, 75, 200, 100]])
    check.value("boxes that stick out of the image", outside, (100, 200), expected=cut)
    many = torch.rand(60, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    check.value("60 random boxes in an image 480 px high, 640 px wide", many, (480, 640))
    check.value("no boxes at all (N = 0)", boxes[:0], (100, 200), hint=_EMPTY)
    check.done()


def _pixels(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Shares of the image to pixels, in the same format."""
    height, width = size
    return boxes * boxes.new_tensor((width, height, width, height))


def _from_yolo(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    return clip_boxes(cxcywh_to_xyxy(_pixels(boxes, size)), size)


def _corner_cut(boxes: Tensor) -> Tensor:
    """cxcywh to xywh whose corner is cut at 0 and whose sides are not."""
    return torch.cat(((boxes[:, :2] - boxes[:, 2:] / 2).clamp(min=0), boxes[:, 2:]), dim=1)


_FROM_YOLO_MISTAKES = {
    "size is (height, width), but x and w are shares of the width: unpack it in this order": (
        lambda boxes, size: clip_boxes(cxcywh_to_xyxy(_pixels(boxes, size[::-1])), size)
    ),
    "size is (height, width): x is a share of the width, and ends at the width": (
        lambda boxes, size: _from_yolo(boxes, size[::-1])
    ),
    "you clip x at the height and y at the width; size is (height, width)": (
        lambda boxes, size: clip_boxes(cxcywh_to_xyxy(_pixels(boxes, size)), size[::-1])
    ),
    "the first two numbers are the centre, not the upper left corner": (
        lambda boxes, size: clip_boxes(xywh_to_xyxy(_pixels(boxes, size)), size)
    ),
    "from the centre to an edge it is half a side, not a whole one": (
        lambda boxes, size: clip_boxes(cxcywh_to_xyxy(_pixels(boxes, size) * boxes.new_tensor((1, 1, 2, 2))), size)
    ),
    "the numbers are shares of the image; multiply by its width and height to get pixels": (
        lambda boxes, size: clip_boxes(cxcywh_to_xyxy(boxes), size)
    ),
    "corners outside the image must move to its border: clip x to 0 … width, y to 0 … height": (
        lambda boxes, size: cxcywh_to_xyxy(_pixels(boxes, size))
    ),
    "you clip at 0 alone; right and bottom end at the width and the height": (
        lambda boxes, size: cxcywh_to_xyxy(_pixels(boxes, size)).clamp(min=0)
    ),
    "the right and bottom edge are exclusive: the last possible edge is the width itself, not width − 1": (
        lambda boxes, size: clip_boxes(cxcywh_to_xyxy(_pixels(boxes, size)), (size[0] - 1, size[1] - 1))
    ),
    "you gave back (left, top, width, height); the last two numbers must be the right and bottom edge": (
        lambda boxes, size: xyxy_to_xywh(_from_yolo(boxes, size))
    ),
    "do not round: a box need not end on a whole pixel": lambda boxes, size: _from_yolo(boxes, size).round(),
    "you cut the left and top edge before you added the sides: work out all four edges, then cut": (
        lambda boxes, size: clip_boxes(xywh_to_xyxy(_corner_cut(_pixels(boxes, size))), size)
    ),
    "x ends at the width and y at the height, not both at the larger of the two": (
        lambda boxes, size: clip_boxes(cxcywh_to_xyxy(_pixels(boxes, size)), (max(size), max(size)))
    ),
    "you left boxes out; one that sticks out is kept, with its corners moved to the border": (
        lambda b, size: _from_yolo(b, size)[(_from_yolo(b, size) == cxcywh_to_xyxy(_pixels(b, size))).all(1)]
    ),
}

# ---- 01-2 ---------------------------------------------------------------------------------------------------------

_AXES = "give each a its own row and each b its own column: a[:, None] is (N, 1, 4), b[None] is (1, M, 4)"
_AREAS = "a row of the areas belongs to one a, a column to one b: area_a[:, None] + area_b[None] is (N, M)"
_NO_AREA = "two boxes without area have a union of 0, and 0 / 0 is nan; clamp the union at a tiny number"


def iou_matrix(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 01-2: `iou_matrix(a, b)`, boxes (N, 4) and (M, 4), gives the IoU (N, M) of every pair.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("01-2", function, reference=box_iou, mistakes=_IOU_MATRIX_MISTAKES)
    a = torch.tensor([[0.0, 0, 4, 4], [10, 2, 12, 8]])
    b = torch.tensor([[10.0, 6, 14, 8], [1, 0, 8, 4], [0, 0, 4, 4]])
    check.value("two boxes and two", a, b[:2], expected=torch.tensor([[0, 12 / 32], [4 / 16, 0]]))
    check.shape("two boxes and three", a, b, hint=_AXES)
    check.dtype("two boxes and three", a, b)
    check.value("40 random boxes and 25", _boxes(40, seed=2), _boxes(25, seed=3))
    point = torch.tensor([[3.0, 3, 3, 3]])
    check.value("a box without area", point, torch.cat((a, point)), expected=torch.zeros(1, 3), hint=_NO_AREA)
    check.value("no boxes in a (N = 0)", a[:0], b, hint=_EMPTY)
    check.done()


def _boxes(count: int, seed: int) -> Tensor:
    """Random boxes (count, 4) float64 about the same place, sides of 100 to 1,100 px: many overlap, some do not."""
    numbers = torch.rand(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return xywh_to_xyxy(numbers * 1000 + torch.tensor([0, 0, 100, 100]))


def _matrix_sides(a: Tensor, b: Tensor) -> Tensor:
    """Width and height of every intersection (N, M, 2), negative where boxes are apart."""
    return torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2])


def _matrix_overlap(a: Tensor, b: Tensor) -> Tensor:
    return _matrix_sides(a, b).clamp(min=0).prod(-1)


def _matrix_over(inter: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return inter / (box_area(a)[:, None] + box_area(b)[None] - inter)


def _one_more(boxes: Tensor) -> Tensor:
    """Boxes whose sides are one pixel longer."""
    return boxes + boxes.new_tensor((0, 0, 1, 1))


_IOU_MATRIX_MISTAKES = {
    _NO_AREA: lambda a, b: _matrix_over(_matrix_overlap(a, b), a, b),
    "your matrix is transposed: row n belongs to a[n], column m to b[m]": lambda a, b: box_iou(a, b).T,
    "you compared a[n] with b[n] alone; here every a meets every b": paired_iou,
    _AREAS: lambda a, b: _matrix_overlap(a, b) / (box_area(a) + box_area(b) - _matrix_overlap(a, b)),
    "apart boxes have an intersection of negative width or height; clamp both at 0 before you multiply": (
        lambda a, b: _matrix_over(_matrix_sides(a, b).prod(-1), a, b)
    ),
    "two negative sides have a positive product; clamp width and height at 0, not their product": (
        lambda a, b: _matrix_over(_matrix_sides(a, b).prod(-1).clamp(min=0), a, b)
    ),
    "you divided by the sum of the areas; the union counts the intersection once, so subtract it": (
        lambda a, b: _matrix_overlap(a, b) / (box_area(a)[:, None] + box_area(b)[None])
    ),
    "you divided by the area of a; IoU divides by the union of both": (
        lambda a, b: _matrix_overlap(a, b) / box_area(a)[:, None]
    ),
    "you divided by the area of b; IoU divides by the union of both": (
        lambda a, b: _matrix_overlap(a, b) / box_area(b)[None]
    ),
    "that is the intersection in pixels; divide it by the union": _matrix_overlap,
    "you added 1 to the sides; here the right and bottom edge are exclusive, so a width is x2 − x1": (
        lambda a, b: box_iou(_one_more(a), _one_more(b))
    ),
    "you read the boxes as (x, y, width, height); the last two numbers are the right and bottom edge": (
        lambda a, b: box_iou(xywh_to_xyxy(a), xywh_to_xyxy(b))
    ),
    f"the areas have changed axes. {_AREAS[0].upper()}{_AREAS[1:]}": (
        lambda a, b: _matrix_over(_matrix_overlap(a, b), b, a)
    ),
}


# ---- 01-3 ---------------------------------------------------------------------------------------------------------


def giou(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 01-3: `giou(a, b)`, boxes (N, 4) each, gives the generalised IoU (N,) of each pair.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("01-3", function, reference=paired_giou, mistakes=_GIOU_MISTAKES)
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 2, 2]])
    b = torch.tensor([[4.0, 0, 6, 2], [2, 2, 6, 6], [1, 1, 3, 3], [0, 0, 2, 2]])
    check.shape("four pairs of boxes", a, b)
    check.dtype("four pairs of boxes", a, b)
    # hulls 12, 36, 16, 4; unions 8, 28, 16, 4; intersections 0, 4, 4, 4
    worked_out = torch.tensor([-4 / 12, 4 / 28 - 8 / 36, 4 / 16, 1])
    check.value("four pairs: apart, overlapping, one in the other, equal", a, b, expected=worked_out)
    far = torch.tensor([[8.0, 8, 10, 10]])
    check.value("boxes apart in both directions", a[:1], far, expected=torch.tensor([-92 / 100]))
    check.value("50 random pairs", _boxes(50, seed=0), _boxes(50, seed=1))
    check.value("no boxes at all (N = 0)", a[:0], b[:0], hint=_EMPTY)
    check.gradient("the gradient by the first boxes", _boxes(20, seed=2), _boxes(20, seed=3))
    check.done()


def _sides(a: Tensor, b: Tensor) -> Tensor:
    """Width and height of each pair's intersection (N, 2), negative where the boxes are apart."""
    return torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])


def _parts_of(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Areas of each pair's intersection, union and hull, (N,) each."""
    inter = _sides(a, b).clamp(min=0).prod(1)
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    return inter, box_area(a) + box_area(b) - inter, hull


def _from_parts(formula: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A function as in the exercise that gives what `formula` makes of intersection, union and hull."""
    return lambda a, b: formula(*_parts_of(a, b))


def _giou_unclamped(a: Tensor, b: Tensor) -> Tensor:
    inter, hull = _sides(a, b).prod(1), _parts_of(a, b)[2]
    union = box_area(a) + box_area(b) - inter
    return inter / union - (hull - union) / hull


_GIOU_MISTAKES = {
    "that is IoU alone; subtract the empty share of the hull": paired_iou,
    "you added the empty share of the hull; it is a penalty, so subtract it": (
        _from_parts(lambda i, u, c: i / u + (c - u) / c)
    ),
    "you divided the empty part of the hull by the union; it is a share of the hull": (
        _from_parts(lambda i, u, c: i / u - (c - u) / u)
    ),
    "the empty part of the hull is what the union leaves free, not what the intersection leaves free": (
        _from_parts(lambda i, u, c: i / u - (c - i) / c)
    ),
    "you subtracted the share of the hull that is covered; subtract the empty one, (C − union) / C": (
        _from_parts(lambda i, u, c: i / u - u / c)
    ),
    "you subtracted the empty part in pixels; divide it by the hull": _from_parts(lambda i, u, c: i / u - (c - u)),
    "that is 1 − GIoU, a loss; give back GIoU itself": _from_parts(lambda i, u, c: 1 - i / u + (c - u) / c),
    "your hull is the intersection: it reaches from the smaller left edge to the larger right edge": (
        lambda a, b: _giou_of(a, b, _sides(a, b).prod(1))
    ),
    "your hull is the clamped intersection: it reaches from the smaller left edge to the larger right edge": (
        lambda a, b: _giou_of(a, b, _sides(a, b).clamp(min=0).prod(1))
    ),
    "apart boxes have an intersection of negative width or height; clamp both at 0 before you multiply": (
        _giou_unclamped
    ),
    "you compared every a with every b; here a[n] meets b[n] alone": pairwise_giou,
    "the hull is cut off from the gradient; it depends on the boxes as the intersection does": (
        _from_parts(lambda i, u, c: i / u - (c.detach() - u) / c.detach())
    ),
    "your union is the sum of the areas; it counts the intersection once, so subtract it": (
        _from_parts(lambda i, u, c: i / (u + i) - (c - u - i) / c)
    ),
    "the union in your penalty is the sum of the areas; it counts the intersection once, so subtract it": (
        _from_parts(lambda i, u, c: i / u - (c - u - i) / c)
    ),
    "the IoU part is a share of the union; only the penalty is a share of the hull": (
        _from_parts(lambda i, u, c: i / c - (c - u) / c)
    ),
}


def _giou_of(a: Tensor, b: Tensor, hull: Tensor) -> Tensor:
    inter, union, _ = _parts_of(a, b)
    return inter / union - (hull - union) / hull


# ---- 01-4 ---------------------------------------------------------------------------------------------------------

_INDICES = "indices are whole numbers (int64); torch.tensor([]) is float32 and indexes nothing: say dtype=torch.int64"
_NOTHING_LEFT = "without boxes there is no best one: let the loop's condition see that nothing is left"


def nms(function: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Exercise 01-4: `nms(boxes, scores, iou_threshold)`, (N, 4) and (N,), gives kept indices (M,), best score first.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("01-4", function, reference=nms_greedy, mistakes=_NMS_MISTAKES)
    boxes = torch.tensor([[20.0, 0, 30, 10], [1, 0, 11, 10], [0, 0, 10, 10], [21, 0, 31, 10], [28, 0, 38, 10]])
    scores = torch.tensor([0.8, 0.5, 0.9, 0.6, 0.7])
    check.shape("five boxes, two pairs of which overlap", boxes, scores, 0.5)
    check.value("five boxes, two pairs of which overlap", boxes, scores, 0.5, expected=torch.tensor([2, 0, 4]))
    check.dtype("five boxes, two pairs of which overlap", boxes, scores, 0.5, hint=_INDICES)
    chain = torch.tensor([[6.0, 0, 16, 10], [3, 0, 13, 10], [0, 0, 10, 10]])  # IoU 0.54 with the next, 0.25 beyond
    values = torch.tensor([0.7, 0.8, 0.9])
    check.value("a chain: the first overlaps the second, the second the third", chain, values, 0.5,
                expected=torch.tensor([2, 0]))  # fmt: skip
    half = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    check.value("an IoU that equals the threshold", half, values[1:], 0.5, expected=torch.tensor([1, 0]))
    generator = torch.Generator().manual_seed(0)
    check.value("80 random boxes", _boxes(80, seed=0), torch.rand(80, dtype=torch.float64, generator=generator), 0.4)
    check.value("no boxes at all (N = 0)", boxes[:0], scores[:0], 0.5, hint=_NOTHING_LEFT)
    check.dtype("no boxes at all (N = 0)", boxes[:0], scores[:0], 0.5, hint=_INDICES)
    check.done()


def _greedy(drops: Callable[[Tensor, float], Tensor], order: Callable[[Tensor], Tensor]) -> Callable:
    """Greedy NMS that visits in an `order` and lets a kept box drop those whose overlap `drops` says."""

    def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
        left, keep = order(scores), []
        while len(left):
            keep.append(left[0])
            left = left[1:]
            left = left[~drops(box_iou(boxes[keep[-1], None], boxes[left])[0], iou_threshold)]
        return torch.stack(keep)

    return suppress


def _best_first(scores: Tensor) -> Tensor:
    return scores.argsort(descending=True, stable=True)


def _ranks(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Kept places in the sorted order instead of in the input."""
    return _best_first(scores).argsort()[nms_greedy(boxes, scores, iou_threshold)]


def _one_pass(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Drops all that overlap any better box, a dropped one too."""
    order = _best_first(scores)
    overlaps = box_iou(boxes[order], boxes[order]).triu(1) > iou_threshold
    return order[~overlaps.any(0)]


def _last_alone(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Compares each box with the last kept one alone."""
    keep: list[Tensor] = []
    for i in _best_first(scores):
        if not keep or paired_iou(boxes[i], boxes[keep[-1]]) <= iou_threshold:
            keep.append(i)
    return torch.stack(keep)


def _one_round(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Keeps the best box and all that do not overlap it."""
    order = _best_first(scores)
    overlaps = box_iou(boxes[order[:1]], boxes[order])[0] > iou_threshold
    return torch.cat((order[:1], order[1:][~overlaps[1:]]))


def _drops_both(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Keeps the boxes that overlap no other."""
    order = _best_first(scores)
    overlaps = box_iou(boxes[order], boxes[order]).fill_diagonal_(0) > iou_threshold
    return order[~overlaps.any(0)]


def _as_mask(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    mask = torch.zeros(len(boxes), dtype=torch.bool)
    mask[nms_greedy(boxes, scores, iou_threshold)] = True
    return mask


_NMS_MISTAKES = {
    "those are places in the sorted order; give back indices into the boxes as they came in: order[place]": _ranks,
    "you went through the boxes as they came in; sort them by score first": (
        _greedy(torch.gt, lambda scores: torch.arange(len(scores)))
    ),
    "you began with the worst box; argsort needs descending=True": _greedy(torch.gt, Tensor.argsort),
    "a box that was dropped still drops others; only kept boxes may": _one_pass,
    "an IoU that equals the threshold is allowed: drop what overlaps by more": _greedy(torch.ge, _best_first),
    "you dropped what overlaps little and kept what overlaps much; turn the comparison round": (
        _greedy(torch.le, _best_first)
    ),
    "the threshold is not used: you dropped every box that touches a kept one": (
        _greedy(lambda overlap, _: overlap > 0, _best_first)
    ),
    "the kept indices come in the order of the boxes; give them best score first": (
        lambda boxes, scores, t: nms_greedy(boxes, scores, t).sort().values
    ),
    "compare a box with all that were kept, not with the last one alone": _last_alone,
    "that is a mask (N,); give back indices, best score first": _as_mask,
    "those are the kept boxes; give back their indices": lambda boxes, scores, t: boxes[nms_greedy(boxes, scores, t)],
    "those are the kept scores; give back their indices": lambda boxes, scores, t: scores[nms_greedy(boxes, scores, t)],
    "you gave back a Python list; make a tensor of it: torch.tensor(keep, dtype=torch.int64)": (
        lambda boxes, scores, t: nms_greedy(boxes, scores, t).tolist()
    ),
    "you went one round; repeat with the best of what is left, until nothing is": _one_round,
    "of two boxes that overlap you dropped both; the one with the better score stays": _drops_both,
}
