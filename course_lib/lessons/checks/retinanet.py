"""Checks of lesson 05: a head's output as rows of anchors, the losses of a batch, candidates, final detections."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.detectors.retinanet import select_candidates
from course_lib.lessons.checks.base import Exercise
from course_lib.ops.boxes import clip_boxes, xywh_to_xyxy
from course_lib.ops.coder import decode
from course_lib.ops.losses import focal_loss_from_labels, sigmoid_focal_loss, smooth_l1
from course_lib.ops.matching import IGNORED
from course_lib.ops.nms import batched_nms

Level = tuple[Tensor, Tensor, Tensor]  # boxes (N, 4), scores (N,), labels (N,)


def _random(*shape: int, seed: int) -> Tensor:
    """Normal numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _places(count: int, seed: int) -> Tensor:
    """Random boxes (count, 4) float64, many of which overlap; some reach beyond 60 px."""
    numbers = torch.rand(count, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return xywh_to_xyxy(numbers * torch.tensor([50.0, 50, 20, 20]) + torch.tensor([-3.0, -3, 8, 8]))


# ---- 05-1 ---------------------------------------------------------------------------------------------------------


def anchor_rows(function: Callable[[Tensor, int], Tensor]) -> None:
    """Exercise 05-1: `anchor_rows(x, outputs)`, a map (B, A·K, H, W), gives a row of K numbers an anchor (B, H·W·A, K).

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("05-1", function, reference=_rows, mistakes=_ROWS_MISTAKES)
    small = torch.tensor([[0.0, 1, 2], [10, 11, 12], [20, 21, 22], [30, 31, 32]]).reshape(1, 4, 1, 3)
    by_hand = torch.tensor([[0.0, 10], [20, 30], [1, 11], [21, 31], [2, 12], [22, 32]])[None]
    check.value("one row of three places, A = 2, K = 2", small, 2, expected=by_hand)
    large = _random(2, 12, 3, 5, seed=0)
    check.shape("two images, A = 3, K = 4, a grid of 3 × 5", large, 4)
    check.dtype("two images, A = 3, K = 4, a grid of 3 × 5", large, 4)
    check.value("two images, A = 3, K = 4, a grid of 3 × 5", large, 4)
    check.value("four deltas an anchor", _random(2, 24, 4, 3, seed=1), 4)
    check.gradient("the gradient", large, 4)
    check.done()


def _rows(x: Tensor, outputs: int) -> Tensor:
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(batch, height * width * (channels // outputs), outputs)


def _split(x: Tensor, outputs: int, *order: int) -> Tensor:
    """The map as (B, A, K, H, W), its axes in another order, as rows of K."""
    batch, channels, height, width = x.shape
    split = x.reshape(batch, channels // outputs, outputs, height, width)
    return split.permute(*order).reshape(batch, -1, outputs)


def _class_major(x: Tensor, outputs: int) -> Tensor:
    batch, channels, height, width = x.shape
    split = x.reshape(batch, outputs, channels // outputs, height, width)
    return split.permute(0, 3, 4, 2, 1).reshape(batch, -1, outputs)


_ROWS_MISTAKES = {
    "you reshaped without moving the channels to the end, so a row holds neighbouring places of one channel: "
    "the shape is right, the numbers belong to other anchors; permute to (B, H, W, A·K) first": (
        lambda x, outputs: x.reshape(len(x), -1, outputs)
    ),
    "your grid runs column by column; anchors are listed row by row, so H comes before W": (
        lambda x, outputs: x.permute(0, 3, 2, 1).reshape(len(x), -1, outputs)
    ),
    "your rows list one anchor over the whole grid, then the next; the anchors of one place stand together": (
        lambda x, outputs: _split(x, outputs, 0, 1, 3, 4, 2)
    ),
    "your rows mix anchors: channels come anchor by anchor, the K numbers of one anchor side by side": _class_major,
    "the last axis must have K numbers, one for each output; yours has the A anchors": (
        lambda x, outputs: x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1] // outputs)
    ),
    "the last axis still has all A·K channels of a place; split it into A rows of K": (
        lambda x, outputs: x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1])
    ),
    "the images of the batch are run together; the first axis stays B": lambda x, outputs: _rows(x, outputs).flatten(
        0, 1
    ),
    "the last two axes are swapped: one row for each anchor, K numbers in it": lambda x, outputs: _rows(x, outputs).mT,
    "leave the numbers as they are: losses and thresholds work on logits, and deltas are no probabilities": (
        lambda x, outputs: _rows(x, outputs).sigmoid()
    ),
}

# ---- 05-2 ---------------------------------------------------------------------------------------------------------

_NO_POSITIVES = "a batch without an object has no positives, and you divided by 0: divide by 1 at least (clamp)"


def batch_losses(function: Callable[[Tensor, Tensor, Tensor, Tensor], tuple]) -> None:
    """Exercise 05-2: `batch_losses(logits, deltas, labels, targets)` gives the classification and the box loss.

    logits (B, A, K), deltas (B, A, 4), labels (B, A) with −1 background and −2 ignored, targets (P, 4).
    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("05-2", function, reference=_batch_losses, mistakes=_LOSS_MISTAKES)
    labels = torch.tensor([[1, -1, -1, -2], [-1, 0, 0, -1]])
    logits, deltas = torch.zeros(2, 4, 2), torch.zeros(2, 4, 4)
    targets = torch.tensor([[0.5, -0.5, 0, 0], [0, 0, 1, 2], [0, 0, 0, 2.0]])
    check.shape("two images, 3 positives", logits, deltas, labels, targets)
    # At p = 0.5 a right class costs 0.25 · 0.5² · ln 2, each of the 11 zeros 0.75 · 0.5² · ln 2.
    expected = ((3 * 0.25 + 11 * 0.75) * 0.25 * math.log(2) / 3, (1 + 3 + 2) / 3)
    check.value("every score 0.5, 3 positives", logits, deltas, labels, targets, expected=expected)
    many = _random(3, 50, 4, seed=0)
    generator = torch.Generator().manual_seed(1)
    there = torch.randint(-2, 4, (3, 50), generator=generator).where(torch.rand(3, 50, generator=generator) < 0.3, -1)
    there[2] = -1  # an image without objects
    positives = int((there >= 0).sum())
    arguments = many, _random(3, 50, 4, seed=2), there, _random(positives, 4, seed=3)
    check.value("three images, one of them empty", *arguments)
    check.gradient("the gradient by the logits", *arguments)
    nothing = many[2:], arguments[1][2:], there[2:], targets[:0].double()
    check.value("no object in the batch (P = 0)", *nothing, hint=_NO_POSITIVES)
    check.done()


def _batch_losses(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    classification, box = _sums(logits, deltas, labels, targets)
    positives = (labels >= 0).sum().clamp(min=1)
    return classification / positives, box / positives


def _sums(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor, **focal) -> tuple[Tensor, Tensor]:
    """Both losses before they are divided."""
    box = (deltas[labels >= 0] - targets).abs().sum()
    return focal_loss_from_labels(logits, labels, **focal), box


def _divided(by: Callable[[Tensor], Tensor], box_by: Callable[[Tensor], Tensor] | None = None, **focal) -> Callable:
    """Losses divided by numbers made of the labels."""

    def losses(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        classification, box = _sums(logits, deltas, labels, targets, **focal)
        return classification / by(labels), box / (box_by or by)(labels)

    return losses


def _with_labels(change: Callable[[Tensor], Tensor]) -> Callable:
    """Losses whose classification sees other labels."""

    def losses(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        positives = (labels >= 0).sum().clamp(min=1)
        box = _sums(logits, deltas, labels, targets)[1]
        return focal_loss_from_labels(logits, change(labels)) / positives, box / positives

    return losses


def _counted_from_the_end(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    one_hot = F.one_hot(labels % logits.shape[-1], logits.shape[-1])
    positives = (labels >= 0).sum().clamp(min=1)
    kept = labels != IGNORED
    classification = sigmoid_focal_loss(logits[kept], one_hot[kept], reduction="sum")
    return classification / positives, _sums(logits, deltas, labels, targets)[1] / positives


def _image_by_image(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    parts = zip(logits, deltas, labels, targets.split((labels >= 0).sum(1).tolist()))
    means = [torch.stack(_batch_losses(*part)) for part in parts]
    classification, box = torch.stack(means).mean(0)
    return classification, box


def _smooth(logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    positives = (labels >= 0).sum().clamp(min=1)
    box = smooth_l1(deltas[labels >= 0], targets, beta=1.0).sum()
    return focal_loss_from_labels(logits, labels) / positives, box / positives


def _positives(labels: Tensor) -> Tensor:
    return (labels >= 0).sum().clamp(min=1)


_LOSS_MISTAKES = {
    "you divided by all anchors; easy background adds next to nothing to the sum, so it must not shrink it: "
    "divide by the positives": _divided(lambda y: torch.tensor(y.numel())),
    "you divided by all anchors that are not ignored; divide by the positives, labels ≥ 0": (
        _divided(lambda y: (y != IGNORED).sum())
    ),
    "you divided by the number of images; an image with ten objects would weigh ten times one with one: "
    "divide by the positives": _divided(lambda y: torch.tensor(len(y))),
    "you gave back sums; divide both by the positives": _divided(lambda y: torch.tensor(1)),
    "you divided each image by its own positives and took the mean, as torchvision does; here both sums are divided "
    "by the positives of the whole batch": _image_by_image,
    _NO_POSITIVES: _divided(lambda y: (y >= 0).sum()),
    "you divided the box loss by four times the positives: add the four deltas of an anchor up, do not average them": (
        _divided(_positives, lambda y: 4 * _positives(y))
    ),
    "the box loss is a sum still; divide it by the positives too": _divided(_positives, lambda y: torch.tensor(1)),
    "anchors with label −2 are ignored: they belong neither to a class nor to background": (
        _with_labels(lambda y: y.clamp(min=-1))
    ),
    "background is missing from the classification loss: only anchors with label −2 stay out": (
        _with_labels(lambda y: y.where(y >= 0, IGNORED))
    ),
    "label −1 was used as an index, and −1 means the last class: a background anchor has a target of 0 everywhere": (
        _counted_from_the_end
    ),
    "the weight α is missing: 0.25 where the target is 1, 0.75 where it is 0": _divided(_positives, alpha=None),
    "the weights α are the wrong way round: 0.25 where the target is 1, 0.75 where it is 0": (
        _divided(_positives, alpha=0.75)
    ),
    "that is cross entropy, γ = 0; the focal loss has γ = 2": _divided(_positives, gamma=0.0),
    "the two losses are swapped: classification first": lambda *arguments: _batch_losses(*arguments)[::-1],
    "your box loss is quadratic near 0 (smooth L1); here it is the plain absolute difference": _smooth,
}

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
    many = _random(40, 5, seed=0) - 2, _random(40, 4, seed=1) * 0.3, _places(40, seed=2)
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
    "the limit is not used": lambda levels, size, iou, limit: _final(levels, size, iou, 10**6),
    "only the first level is used; join all of them": (
        lambda levels, size, iou, limit: _final(levels[:1], size, iou, limit)
    ),
}
