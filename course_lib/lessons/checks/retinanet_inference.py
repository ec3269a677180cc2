"""Checks of lesson 05, the use: the candidates of a level, and the detections of an image."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.detectors.retinanet import select_candidates
from course_lib.lessons.checks.base import Exercise
from course_lib.lessons.checks.inputs import normal
from course_lib.ops.boxes import clip_boxes, xywh_to_xyxy
from course_lib.ops.coder import decode
from course_lib.ops.nms import batched_nms

Level = tuple[Tensor, Tensor, Tensor]  # boxes (N, 4), scores (N,), labels (N,)


def _places(count: int, seed: int) -> Tensor:
    """Random boxes (count, 4) float64, many of which overlap; some reach beyond 60 px."""
    numbers = torch.rand(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return xywh_to_xyxy(numbers * torch.tensor([50.0, 50, 20, 20]) + torch.tensor([-3.0, -3, 8, 8]))


# ---- 05-3 ---------------------------------------------------------------------------------------------------------

_TOO_FEW = "there may be fewer candidates than topk: ask topk for min(topk, how many there are)"


def best_candidates(function: Callable[[Tensor, Tensor, Tensor, float, int], Level]) -> None:
    """Exercise 05-3: `best_candidates(logits, deltas, anchors, score, topk)` gives boxes, scores and labels of a level.

    logits (A, K), deltas (A, 4), anchors (A, 4); best score first. Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("05-3", function, reference=_candidates, mistakes=_CANDIDATE_MISTAKES)
    probabilities = torch.tensor([[0.02, 0.9, 0.04], [0.6, 0.03, 0.3], [0.045, 0.01, 0.025], [0.015, 0.022, 0.2]])
    logits = probabilities.logit()
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 40], [5, 5, 15, 15], [40, 40, 60, 60]])
    deltas = torch.zeros(4, 4)
    deltas[1, 0] = 0.5  # half an anchor's width to the right
    boxes = torch.tensor([[0.0, 0, 10, 10], [25, 20, 35, 40], [25, 20, 35, 40]])
    expected = boxes, torch.tensor([0.9, 0.6, 0.3]), torch.tensor([1, 0, 2])
    what = "4 anchors, 3 classes, score > 0.05, the best 3"
    check.shape(what, logits, deltas, anchors, 0.05, 3)
    check.value(what, logits, deltas, anchors, 0.05, 3, expected=expected)
    check.value("a topk that is never reached", logits, deltas, anchors, 0.05, 1000, hint=_TOO_FEW)
    many = normal(40, 5, seed=0) - 2, normal(40, 4, seed=1) * 0.3, _places(40, seed=2)
    check.value("40 random anchors, 5 classes", *many, 0.2, 20)
    none = "no score passes: give back three empty tensors, (0, 4), (0,) and (0,)"
    check.value("a threshold that no score passes", *many, 0.999, 20, hint=none)
    check.value("no anchors (A = 0)", *(x[:0] for x in many), 0.2, 20, hint=none)
    check.done()


def _candidates(logits: Tensor, deltas: Tensor, anchors: Tensor, score: float, topk: int) -> Level:
    return select_candidates(logits, deltas, anchors, score=score, topk=topk)


def _chosen(
    logits: Tensor, score: float, topk: int, value: Callable[[Tensor], Tensor] = torch.sigmoid
) -> tuple[Tensor, Tensor]:
    """Scores and flat indices of the best, as `value` makes scores of logits."""
    scores = value(logits).flatten()
    index = (scores > score).nonzero().squeeze(1)
    order = scores[index].argsort(descending=True)[:topk]
    return scores[index][order], index[order]


def _decoded(logits: Tensor, deltas: Tensor, anchors: Tensor, scores: Tensor, index: Tensor) -> Level:
    row = index // logits.shape[1]
    return decode(deltas[row], anchors[row]), scores, index % logits.shape[1]


def _one_class(logits: Tensor, deltas: Tensor, anchors: Tensor, score: float, topk: int) -> Level:
    best = logits.where(logits == logits.amax(1, keepdim=True), -torch.inf)
    return _candidates(best, deltas, anchors, score, topk)


def _scored(value: Callable[[Tensor], Tensor]) -> Callable:
    """Candidates whose scores are another function of the logits."""
    return lambda x, d, a, score, topk: _decoded(x, d, a, *_chosen(x, score, topk, value))


def _divmod_swapped(logits: Tensor, deltas: Tensor, anchors: Tensor, score: float, topk: int) -> Level:
    scores, index = _chosen(logits, score, topk)
    row = index % logits.shape[1]
    return decode(deltas[row], anchors[row]), scores, index // logits.shape[1]


def _divided_by_anchors(logits: Tensor, deltas: Tensor, anchors: Tensor, score: float, topk: int) -> Level:
    scores, index = _chosen(logits, score, topk)
    row = index // len(logits)
    return decode(deltas[row], anchors[row]), scores, index % len(logits)


def _unsorted(logits: Tensor, deltas: Tensor, anchors: Tensor, score: float, topk: int) -> Level:
    scores, index = _chosen(logits, score, topk)
    order = index.argsort()
    return _decoded(logits, deltas, anchors, scores[order], index[order])


def _first_rows(logits: Tensor, deltas: Tensor, anchors: Tensor, score: float, topk: int) -> Level:
    scores, index = _chosen(logits, score, topk)
    return decode(deltas[: len(index)], anchors[: len(index)]), scores, index % logits.shape[1]


def _order_as_index(logits: Tensor, deltas: Tensor, anchors: Tensor, score: float, topk: int) -> Level:
    flat = logits.sigmoid().flatten()
    scores, order = flat[flat > score].sort(descending=True)
    return _decoded(logits, deltas, anchors, scores[:topk], order[:topk])


def _first_topk(logits: Tensor, deltas: Tensor, anchors: Tensor, score: float, topk: int) -> Level:
    flat = logits.sigmoid().flatten()
    index = (flat > score).nonzero().squeeze(1)[:topk]
    scores, order = flat[index].sort(descending=True)
    return _decoded(logits, deltas, anchors, scores, index[order])


def _boxes_of(pick: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """Candidates whose boxes are what `pick` makes of their deltas and anchors."""

    def candidates(logits: Tensor, deltas: Tensor, anchors: Tensor, score: float, topk: int) -> Level:
        scores, index = _chosen(logits, score, topk)
        row = index // logits.shape[1]
        return pick(deltas[row], anchors[row]), scores, index % logits.shape[1]

    return candidates


def _logits_compared(logits: Tensor, deltas: Tensor, anchors: Tensor, score: float, topk: int) -> Level:
    values, index = _chosen(logits, score, topk, lambda x: x)
    return _decoded(logits, deltas, anchors, values.sigmoid(), index)


def _logits_returned(logits: Tensor, deltas: Tensor, anchors: Tensor, score: float, topk: int) -> Level:
    boxes, scores, labels = _candidates(logits, deltas, anchors, score, topk)
    return boxes, scores.logit(), labels


_CANDIDATE_MISTAKES = {
    "you kept one class for each anchor; each of the A·K scores stands for itself, and NMS sorts them out later": (
        _one_class
    ),
    "row and column are swapped: in the flattened logits, index // K is the anchor and index % K the class": (
        _divmod_swapped
    ),
    "you divided the flat index by A; a row of the logits has K numbers": _divided_by_anchors,
    "your boxes are the anchors still; decode(deltas, anchors) moves them": _boxes_of(lambda d, a: a),
    "your boxes are the deltas; decode(deltas, anchors) makes boxes of them": _boxes_of(lambda d, a: d),
    "the arguments of decode are swapped: deltas first, then anchors": _boxes_of(lambda d, a: decode(a, d)),
    "your boxes belong to the first rows of deltas and anchors; take the rows of the survivors": _first_rows,
    "topk and sort count within the candidates; index[order] leads back to the flat scores": _order_as_index,
    "you cut down to topk before you sorted, so the first stay instead of the best": _first_topk,
    "your scores are logits; the sigmoid makes probabilities of them": _logits_returned,
    "you compared logits with the threshold, which is a probability: take the sigmoid first": _logits_compared,
    "you took a softmax over the classes; RetinaNet's classes are independent, each has its own sigmoid": (
        _scored(lambda x: x.softmax(1))
    ),
    "the candidates are not sorted: best score first": _unsorted,
    "the score threshold is not used": lambda x, d, a, score, topk: _candidates(x, d, a, 0.0, topk),
    "the limit topk is not used": lambda x, d, a, score, topk: _candidates(x, d, a, score, x.numel()),
}


# ---- 05-4 ---------------------------------------------------------------------------------------------------------


def final_detections(function: Callable[[list[Level], tuple[int, int], float, int], Level]) -> None:
    """Exercise 05-4: `final_detections(levels, size, iou, limit)` gives boxes, scores and labels of one image.

    levels: boxes (N, 4), scores (N,), labels (N,) of each. Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("05-4", function, reference=_final, mistakes=_FINAL_MISTAKES)
    fine = _level([[0, 0, 10, 10], [0, 0, 10, 8], [20, 5, 30, 15]], [0.9, 0.8, 0.3], [0, 0, 2])
    coarse = [[0, 0, 10, 10], [0, 0, 10, 9], [50, 30, 70, 50], [50, 30, 60, 50], [30, 0, 40, 10], [30, 20, 40, 30]]
    coarse = _level(coarse, [0.7, 0.6, 0.5, 0.4, 0.2, 0.1], [1, 0, 1, 1, 1, 1])
    size = (40, 60)
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [50, 30, 60, 40]])
    expected = boxes, torch.tensor([0.9, 0.7, 0.5]), torch.tensor([0, 1, 1])
    what = "9 candidates of two levels, an image of 40 × 60, the best 3"
    check.shape(what, [fine, coarse], size, 0.5, 3)
    check.value(what, [fine, coarse], size, 0.5, 3, expected=expected)
    levels = [_random_level(60, seed) for seed in (0, 1, 2)]
    check.value("three levels of 60 candidates, the best 20", levels, size, 0.4, 20)
    check.value("a limit that is never reached", levels, size, 0.4, 1000)
    none = "there may be no candidates: give back empty tensors, (0, 4), (0,) and (0,)"
    check.value(
        "levels without candidates", [tuple(x[:0] for x in level) for level in levels], size, 0.4, 20, hint=none
    )
    check.done()


def _level(boxes: list, scores: list, labels: list) -> Level:
    return torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores), torch.tensor(labels)


def _random_level(count: int, seed: int) -> Level:
    generator = torch.Generator().manual_seed(seed + 10)
    scores = torch.rand(count, dtype=torch.float64, generator=generator)
    return _places(count, seed), scores, torch.randint(3, (count,), generator=generator)


def _joined(levels: list[Level]) -> Level:
    boxes, scores, labels = (torch.cat(parts) for parts in zip(*levels))
    return boxes, scores, labels


def _take(parts: Level, index: Tensor) -> Level:
    return tuple(part[index] for part in parts)


def _clipped(parts: Level, size: tuple[int, int]) -> Level:
    return clip_boxes(parts[0], size), *parts[1:]


def _suppressed(parts: Level, iou: float) -> Level:
    return _take(parts, batched_nms(*parts, iou))


def _sorted(parts: Level) -> Level:
    return _take(parts, parts[1].argsort(descending=True, stable=True))


def _final(levels: list[Level], size: tuple[int, int], iou: float, limit: int) -> Level:
    parts = _suppressed(_clipped(_joined(levels), size), iou)
    return tuple(part[:limit] for part in parts)


def _class_blind(levels: list[Level], size: tuple[int, int], iou: float, limit: int) -> Level:
    boxes, scores, labels = _clipped(_joined(levels), size)
    return _take((boxes, scores, labels), batched_nms(boxes, scores, torch.zeros_like(labels), iou)[:limit])


def _level_by_level(levels: list[Level], size: tuple[int, int], iou: float, limit: int) -> Level:
    parts = _joined([_suppressed(_clipped(level, size), iou) for level in levels])
    return tuple(part[:limit] for part in _sorted(parts))


def _limit_first(levels: list[Level], size: tuple[int, int], iou: float, limit: int) -> Level:
    best = tuple(part[:limit] for part in _sorted(_joined(levels)))
    return _suppressed(_clipped(best, size), iou)


def _by_class(parts: Level, limit: int) -> list[Level]:
    """The best of each class."""
    return [tuple(part[parts[2] == k][:limit] for part in parts) for k in parts[2].unique()]


def _limit_by_class(levels: list[Level], size: tuple[int, int], iou: float, limit: int) -> Level:
    return _sorted(_joined(_by_class(_final(levels, size, iou, 10**6), limit)))


def _class_after_class(levels: list[Level], size: tuple[int, int], iou: float, limit: int) -> Level:
    return tuple(part[:limit] for part in _joined(_by_class(_final(levels, size, iou, 10**6), 10**6)))


def _clipped_late(levels: list[Level], size: tuple[int, int], iou: float, limit: int) -> Level:
    return _clipped(tuple(part[:limit] for part in _suppressed(_joined(levels), iou)), size)


def _not_clipped(levels: list[Level], size: tuple[int, int], iou: float, limit: int) -> Level:
    return tuple(part[:limit] for part in _suppressed(_joined(levels), iou))


_FINAL_MISTAKES = {
    "your NMS is blind to classes: a person in front of a car is no duplicate of the car": _class_blind,
    "you ran NMS in each level alone; two levels often find the same object, so join them first": _level_by_level,
    "you cut down to the limit before NMS, where one object's duplicates fill it: NMS first, then the limit": (
        _limit_first
    ),
    "you cut down each class to the limit; it holds for all classes together": _limit_by_class,
    "the result is sorted class by class; best score first, whatever the class": _class_after_class,
    "you clipped after NMS; what sticks out changes the IoU, so clip first": _clipped_late,
    "the boxes reach beyond the image: clip them to `size`": _not_clipped,
    "height and width are swapped: size is (height, width), x goes with the width": (
        lambda levels, size, iou, limit: _final(levels, size[::-1], iou, limit)
    ),
    "NMS is missing: the duplicates are still there": (
        lambda levels, size, iou, limit: tuple(part[:limit] for part in _sorted(_clipped(_joined(levels), size)))
    ),
    "batched_nms gives the indices of the boxes that stay; you did not use them": (
        lambda levels, size, iou, limit: tuple(part[:limit] for part in _clipped(_joined(levels), size))
    ),
    "the limit is not used": lambda levels, size, iou, limit: _final(levels, size, iou, 10**6),
    "only the first level is used; join all of them": (
        lambda levels, size, iou, limit: _final(levels[:1], size, iou, limit)
    ),
}
