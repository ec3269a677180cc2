"""Lesson 01's checks pass right solutions, however written, and name the mistake of each wrong one."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor

from course_lib.lessons import checks
from course_lib.ops.boxes import box_iou, paired_giou
from course_lib.ops.nms import nms_greedy
from tests.lessons.exercises import exercise_tests

# ---- from_yolo ----------------------------------------------------------------------------------------------------


def from_yolo(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    cx, w = boxes[:, 0] * width, boxes[:, 2] * width
    cy, h = boxes[:, 1] * height, boxes[:, 3] * height
    x1, x2 = ((cx + sign * w / 2).clamp(0, width) for sign in (-1, 1))
    y1, y2 = ((cy + sign * h / 2).clamp(0, height) for sign in (-1, 1))
    return torch.stack((x1, y1, x2, y2), dim=1)


def unclipped(boxes: Tensor, size: tuple[int, int], half: float = 0.5) -> Tensor:
    height, width = size
    scaled = boxes * torch.tensor([width, height, width, height])
    return torch.cat((scaled[:, :2] - half * scaled[:, 2:], scaled[:, :2] + half * scaled[:, 2:]), dim=1)


def clip(boxes: Tensor, right: float, bottom: float) -> Tensor:
    limit = torch.tensor([right, bottom, right, bottom], dtype=boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limit)


def with_torchvision(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    scaled = boxes * boxes.new_tensor([width, height, width, height])
    return torchvision.ops.clip_boxes_to_image(torchvision.ops.box_convert(scaled, "cxcywh", "xyxy"), size)


def corner_first(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    scaled = boxes * boxes.new_tensor([width, height, width, height])
    return clip(torch.cat((scaled[:, :2], scaled[:, :2] + scaled[:, 2:]), dim=1), width, height)


def as_xywh(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    found = from_yolo(boxes, size)
    return torch.cat((found[:, :2], found[:, 2:] - found[:, :2]), dim=1)


def cut_then_sides(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    scaled = boxes * boxes.new_tensor([width, height, width, height])
    low = (scaled[:, :2] - scaled[:, 2:] / 2).clamp(min=0)
    return clip(torch.cat((low, low + scaled[:, 2:]), dim=1), width, height)


RIGHT_YOLO = {"columns": from_yolo, "torchvision": with_torchvision}
WRONG_YOLO = {
    "size swapped": (lambda b, s: clip(unclipped(b, s[::-1]), s[1], s[0]), "unpack it in this order"),
    "size swapped, clip too": (lambda b, s: from_yolo(b, s[::-1]), "x is a share of the width, and ends at the width"),
    "clip swapped": (lambda b, s: clip(unclipped(b, s), *s), "you clip x at the height"),
    "corner for centre": (corner_first, "the first two numbers are the centre"),
    "whole sides": (lambda b, s: clip(unclipped(b, s, half=1), s[1], s[0]), "half a side, not a whole one"),
    "shares": (lambda b, s: clip(unclipped(b, (1, 1)), s[1], s[0]), "multiply by its width and height"),
    "not clipped": (unclipped, "must move to its border"),
    "clipped at 0 alone": (lambda b, s: unclipped(b, s).clamp(min=0), "you clip at 0 alone"),
    "last pixel": (lambda b, s: clip(unclipped(b, s), s[1] - 1, s[0] - 1), "not width − 1"),
    "xywh": (as_xywh, "you gave back (left, top, width, height)"),
    "rounded": (lambda b, s: from_yolo(b, s).round(), "do not round"),
    "half precision": (lambda b, s: from_yolo(b, s).half(), "keep the type of the input"),
    "one box": (lambda b, s: from_yolo(b, s)[0], "step by step"),
    "cut, then sides": (cut_then_sides, "you cut the left and top edge before"),
    "cut at the larger": (lambda b, s: unclipped(b, s).clamp(0, max(s)), "not both at the larger"),
    "dropped": (lambda b, s: from_yolo(b, s)[(from_yolo(b, s) == unclipped(b, s)).all(1)], "you left boxes out"),
}

# ---- iou_matrix ---------------------------------------------------------------------------------------------------


def area(a: Tensor) -> Tensor:
    return (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1])


def matrix_sides(a: Tensor, b: Tensor) -> Tensor:
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    return torch.minimum(a[:, None, 2:], b[None, :, 2:]) - low


def matrix_overlap(a: Tensor, b: Tensor) -> Tensor:
    return matrix_sides(a, b).clamp(min=0).prod(2)


def over(inter: Tensor, areas: Tensor) -> Tensor:
    return inter / (areas - inter).clamp(min=1e-9)


def both_areas(a: Tensor, b: Tensor) -> Tensor:
    return area(a)[:, None] + area(b)[None]


def iou_matrix(a: Tensor, b: Tensor) -> Tensor:
    return over(matrix_overlap(a, b), both_areas(a, b))


def with_a_loop(a: Tensor, b: Tensor) -> Tensor:
    rows = [iou_matrix(box[None], b)[0] for box in a]
    return torch.stack(rows) if rows else a.new_zeros((0, len(b)))


def no_area(a: Tensor, b: Tensor) -> Tensor:
    inter = matrix_overlap(a, b)
    return inter / (both_areas(a, b) - inter)


def wider(a: Tensor) -> Tensor:
    return a + torch.tensor([0.0, 0, 1, 1])


def corners(a: Tensor) -> Tensor:
    return torch.cat((a[:, :2], a[:, :2] + a[:, 2:]), dim=1)


WRONG_MATRIX = {
    "transposed": (lambda a, b: iou_matrix(b, a), "your matrix is transposed"),
    "pairs": (lambda a, b: iou_matrix(a, b).diagonal(), "you compared a[n] with b[n] alone"),
    "row of areas": (lambda a, b: over(matrix_overlap(a, b), area(a) + area(b)), "area_a[:, None] + area_b[None]"),
    "axes of the areas": (
        lambda a, b: over(matrix_overlap(a, b), area(a)[None] + area(b)[:, None]),
        "the areas have changed axes",
    ),
    "not clamped": (lambda a, b: over(matrix_sides(a, b).prod(2), both_areas(a, b)), "clamp both at 0"),
    "product clamped": (
        lambda a, b: over(matrix_sides(a, b).prod(2).clamp(min=0), both_areas(a, b)),
        "two negative sides have a positive product",
    ),
    "sum for union": (lambda a, b: matrix_overlap(a, b) / both_areas(a, b), "counts the intersection once"),
    "area of a": (lambda a, b: matrix_overlap(a, b) / area(a)[:, None], "you divided by the area of a"),
    "area of b": (lambda a, b: matrix_overlap(a, b) / area(b)[None], "you divided by the area of b"),
    "intersection": (matrix_overlap, "that is the intersection in pixels"),
    "plus one": (lambda a, b: iou_matrix(wider(a), wider(b)), "you added 1 to the sides"),
    "xywh": (lambda a, b: iou_matrix(corners(a), corners(b)), "you read the boxes as"),
    "0/0": (no_area, "a union of 0"),
    "row by row": (lambda a, b: iou_matrix(a[: len(b)], b[: len(a)]), "a[:, None] is (N, 1, 4)"),
    "half precision": (lambda a, b: iou_matrix(a, b).half(), "keep the type of the input"),
    "rounded": (lambda a, b: (iou_matrix(a, b) * 100).round() / 100, "pencil and paper"),
}

# ---- giou ---------------------------------------------------------------------------------------------------------


def parts(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Intersection, union and hull (N,) of each pair."""
    width = torch.minimum(a[:, 2], b[:, 2]) - torch.maximum(a[:, 0], b[:, 0])
    height = torch.minimum(a[:, 3], b[:, 3]) - torch.maximum(a[:, 1], b[:, 1])
    inter = width.relu() * height.relu()
    low, high = torch.minimum(a, b)[:, :2], torch.maximum(a, b)[:, 2:]
    return inter, area(a) + area(b) - inter, (high - low).prod(1)


def giou(a: Tensor, b: Tensor) -> Tensor:
    inter, union, hull = parts(a, b)
    return inter / union - (hull - union) / hull


def made_of(formula: Callable) -> Callable:
    return lambda a, b: formula(*parts(a, b))


def unclamped(a: Tensor, b: Tensor) -> Tensor:
    inter = (torch.minimum(a, b)[:, 2:] - torch.maximum(a, b)[:, :2]).prod(1)
    union, hull = area(a) + area(b) - inter, parts(a, b)[2]
    return inter / union - (hull - union) / hull


def small_hull(a: Tensor, b: Tensor, least: float = -9e9) -> Tensor:
    inter, union, _ = parts(a, b)
    hull = (torch.minimum(a, b)[:, 2:] - torch.maximum(a, b)[:, :2]).clamp(min=least).prod(1)
    return inter / union - (hull - union) / hull


RIGHT_GIOU = {
    "parts": giou,
    "torchvision's diagonal": lambda a, b: torchvision.ops.generalized_box_iou(a, b).diagonal(),
    "one fraction less": made_of(lambda i, u, c: i / u + u / c - 1),
    "the library": paired_giou,
}
WRONG_GIOU = {
    "IoU": (made_of(lambda i, u, c: i / u), "that is IoU alone"),
    "plus": (made_of(lambda i, u, c: i / u + (c - u) / c), "it is a penalty, so subtract it"),
    "by the union": (made_of(lambda i, u, c: i / u - (c - u) / u), "you divided the empty part of the hull"),
    "without the intersection": (made_of(lambda i, u, c: i / u - (c - i) / c), "not what the intersection leaves free"),
    "covered share": (made_of(lambda i, u, c: i / u - u / c), "the share of the hull that is covered"),
    "in pixels": (made_of(lambda i, u, c: i / u - (c - u)), "the empty part in pixels"),
    "loss": (lambda a, b: 1 - giou(a, b), "that is 1 − GIoU"),
    "hull of the intersection": (small_hull, "your hull is the intersection"),
    "clamped hull": (lambda a, b: small_hull(a, b, least=0), "your hull is the clamped intersection"),
    "not clamped": (unclamped, "clamp both at 0"),
    "all pairs": (torchvision.ops.generalized_box_iou, "you compared every a with every b"),
    "hull detached": (made_of(lambda i, u, c: i / u - (c.detach() - u) / c.detach()), "the hull is cut off"),
    "sum for union": (made_of(lambda i, u, c: i / (u + i) - (c - u - i) / c), "your union is the sum"),
    "sum in the penalty": (made_of(lambda i, u, c: i / u - (c - u - i) / c), "the union in your penalty"),
    "all by the hull": (made_of(lambda i, u, c: i / c - (c - u) / c), "the IoU part is a share of the union"),
    "numpy": (lambda a, b: torch.from_numpy(giou(a.detach(), b.detach()).numpy()), "no gradient reaches the input"),
    "never negative": (lambda a, b: giou(a, b).clamp(min=0), "pencil and paper"),
}

# ---- nms ----------------------------------------------------------------------------------------------------------


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """With the whole matrix, a mask of what is left, and Python numbers."""
    overlap = iou_matrix(boxes, boxes)
    gone, keep = torch.zeros(len(boxes), dtype=torch.bool), []
    for i in scores.argsort(descending=True).tolist():
        if not gone[i]:
            keep.append(i)
            gone |= overlap[i] > iou_threshold
    return torch.tensor(keep, dtype=torch.int64)


def in_input_order(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return nms(boxes, torch.arange(len(boxes), 0, -1), iou_threshold)


def ranks(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    order = scores.argsort(descending=True)
    return nms(boxes[order], scores[order], iou_threshold)


def drops_all(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """A box survives if it overlaps no better box, kept or not."""
    better = scores[None] > scores[:, None]
    dropped = ((iou_matrix(boxes, boxes) > iou_threshold) & better).any(1)
    keep = (~dropped).nonzero()[:, 0]
    return keep[scores[keep].argsort(descending=True)]


def last_alone(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    overlap, keep = iou_matrix(boxes, boxes), []
    for i in scores.argsort(descending=True).tolist():
        if not keep or overlap[i, keep[-1]] <= iou_threshold:
            keep.append(i)
    return torch.tensor(keep)


def at_least(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return nms(boxes, scores, iou_threshold - 1e-6)


def turned(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    left, keep = scores.argsort(descending=True).tolist(), []
    while left:
        keep.append(left.pop(0))
        left = [i for i in left if iou_matrix(boxes[i, None], boxes[keep[-1], None]) > iou_threshold]
    return torch.tensor(keep)


def kept_mask(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    kept = nms(boxes, scores, iou_threshold)
    return torch.tensor([i in kept.tolist() for i in range(len(boxes))])


def no_dtype(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return torch.tensor(nms(boxes, scores, iou_threshold).tolist())


def one_round(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    order = scores.argsort(descending=True).tolist()
    return torch.tensor([i for i in order if i == order[0] or iou_matrix(boxes, boxes)[i, order[0]] <= iou_threshold])


def drops_both(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    alone = (iou_matrix(boxes, boxes) > iou_threshold).sum(1) == 1
    return torch.tensor([i for i in scores.argsort(descending=True).tolist() if alone[i]])


RIGHT_NMS = {"matrix": nms, "torchvision": torchvision.ops.nms, "the library": nms_greedy}
WRONG_NMS = {
    "ranks": (ranks, "places in the sorted order"),
    "not sorted": (in_input_order, "sort them by score first"),
    "ascending": (lambda b, s, t: nms(b, -s, t), "argsort needs descending=True"),
    "dropped drop": (drops_all, "a box that was dropped still drops others"),
    "at least": (at_least, "drop what overlaps by more"),
    "turned round": (turned, "turn the comparison round"),
    "no threshold": (lambda b, s, t: nms(b, s, 0.0), "the threshold is not used"),
    "order of the boxes": (lambda b, s, t: nms(b, s, t).sort().values, "give them best score first"),
    "last alone": (last_alone, "with all that were kept"),
    "one round": (one_round, "you went one round"),
    "both dropped": (drops_both, "you dropped both"),
    "mask": (kept_mask, "that is a mask"),
    "boxes": (lambda b, s, t: b[nms(b, s, t)], "those are the kept boxes"),
    "scores": (lambda b, s, t: s[nms(b, s, t)], "those are the kept scores"),
    "list": (lambda b, s, t: nms(b, s, t).tolist(), "make a tensor of it"),
    "floats": (lambda b, s, t: nms(b, s, t).float(), "indices are whole numbers"),
    "empty is float": (no_dtype, "say dtype=torch.int64"),
    "no return": (lambda b, s, t: None, "returned nothing"),
    "fixed threshold": (lambda b, s, t: nms(b, s, 0.5), "pencil and paper"),
}

EXERCISES = {
    "01-1: 6": (checks.from_yolo, RIGHT_YOLO, WRONG_YOLO),
    "01-2: 6": (
        checks.iou_matrix,
        {"broadcast": iou_matrix, "loop": with_a_loop, "the library": box_iou},
        WRONG_MATRIX,
    ),
    "01-3: 7": (checks.giou, RIGHT_GIOU, WRONG_GIOU),
    "01-4: 8": (checks.nms, RIGHT_NMS, WRONG_NMS),
}

TestExercises = exercise_tests(EXERCISES)


def test_an_error_of_the_solution_comes_with_the_hint() -> None:
    def without_axes(a: Tensor, b: Tensor) -> Tensor:
        return torch.minimum(a, b) if len(a) != len(b) else iou_matrix(a, b)

    def needs_a_best_one(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
        return nms(boxes, scores, iou_threshold) if scores.max() > 0 else scores

    with pytest.raises(RuntimeError) as caught:
        checks.iou_matrix(without_axes)
    assert "a[:, None] is (N, 1, 4)" in caught.value.__notes__[0]
    with pytest.raises(RuntimeError) as caught:
        checks.nms(needs_a_best_one)
    assert "without boxes there is no best one" in caught.value.__notes__[0]
