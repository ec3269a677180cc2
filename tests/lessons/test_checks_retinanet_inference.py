"""Lesson 05's checks of the use pass right solutions, however written, and name the mistake of each wrong one."""

import pytest
import torch
from torchvision.ops import clip_boxes_to_image, nms

from course_lib.detectors.retinanet import select_candidates
from course_lib.lessons import checks
from course_lib.ops.boxes import clip_boxes
from course_lib.ops.coder import decode
from course_lib.ops.nms import batched_nms
from tests.lessons.exercises import exercise_tests

# ---- 05-3 ---------------------------------------------------------------------------------------------------------


def candidates(logits, deltas, anchors, score, topk, *, values=torch.sigmoid, row=None, make=decode, sort=True):
    """Right by default: sigmoid, threshold, the best, decode."""
    scores = values(logits).flatten()
    index = torch.arange(len(scores))[scores > score]
    order = scores[index].argsort(descending=True)[:topk]
    index = index[order if sort else order.sort().values]
    k = logits.shape[1]
    anchor, label = (index // k, index % k) if row is None else row(index, logits)
    return make(deltas[anchor], anchors[anchor]), scores[index], label


def nonzero(logits, deltas, anchors, score, topk):
    probabilities = logits.sigmoid()
    anchor, label = (probabilities > score).nonzero(as_tuple=True)
    scores, best = probabilities[anchor, label].topk(min(topk, len(anchor)))
    return decode(deltas, anchors)[anchor[best]], scores, label[best]


def one_class(logits, deltas, anchors, score, topk):
    scores, label = logits.sigmoid().max(1)
    kept = scores > score
    order = scores[kept].argsort(descending=True)[:topk]
    return decode(deltas, anchors)[kept][order], scores[kept][order], label[kept][order]


def topk_without_min(logits, deltas, anchors, score, topk):
    scores, index = logits.sigmoid().flatten().topk(topk)
    index, scores = index[scores > score], scores[scores > score]
    anchor = index // logits.shape[1]
    return decode(deltas[anchor], anchors[anchor]), scores, index % logits.shape[1]


def order_as_index(logits, deltas, anchors, score, topk):
    flat = logits.sigmoid().flatten()
    scores, order = flat[flat > score].topk(min(topk, int((flat > score).sum())))
    return decode(deltas[order // logits.shape[1]], anchors[order // logits.shape[1]]), scores, order % logits.shape[1]


def cut_before_sorted(logits, deltas, anchors, score, topk):
    anchor, label = (logits.sigmoid() > score).nonzero(as_tuple=True)
    anchor, label = anchor[:topk], label[:topk]
    scores, best = logits.sigmoid()[anchor, label].sort(descending=True)
    return decode(deltas, anchors)[anchor[best]], scores, label[best]


RIGHT_CANDIDATES = {
    "flat": candidates,
    "nonzero": nonzero,
    "the library": lambda x, d, a, score, topk: select_candidates(x, d, a, score=score, topk=topk),
}
WRONG_CANDIDATES = {
    "one class": (one_class, "you kept one class for each anchor"),
    "divmod swapped": (lambda *a: candidates(*a, row=lambda i, x: (i % x.shape[1], i // x.shape[1])), "row and column"),
    "divided by A": (
        lambda *a: candidates(*a, row=lambda i, x: (i // len(x), i % len(x))),
        "you divided the flat index by A",
    ),
    "not decoded": (lambda *a: candidates(*a, make=lambda d, a: a), "your boxes are the anchors still"),
    "deltas": (lambda *a: candidates(*a, make=lambda d, a: d), "your boxes are the deltas"),
    "decode swapped": (lambda *a: candidates(*a, make=lambda d, a: decode(a, d)), "arguments of decode are swapped"),
    "first rows": (
        lambda x, d, a, s, k: (
            decode(d[: len(candidates(x, d, a, s, k)[1])], a[: len(candidates(x, d, a, s, k)[1])]),
            *candidates(x, d, a, s, k)[1:],
        ),
        "first rows of deltas and anchors",
    ),
    "order as index": (order_as_index, "leads back to the flat scores"),
    "cut before sorted": (cut_before_sorted, "before you sorted"),
    "logits returned": (
        lambda *a: (candidates(*a)[0], torch.logit(candidates(*a)[1]), candidates(*a)[2]),
        "your scores are logits",
    ),
    "logits compared": (
        lambda *a: (
            candidates(*a, values=lambda x: x)[0],
            candidates(*a, values=lambda x: x)[1].sigmoid(),
            candidates(*a, values=lambda x: x)[2],
        ),
        "you compared logits with the threshold",
    ),
    "softmax": (lambda *a: candidates(*a, values=lambda x: x.softmax(-1)), "you took a softmax"),
    "unsorted": (lambda *a: candidates(*a, sort=False), "not sorted"),
    "no threshold": (lambda x, d, a, s, k: candidates(x, d, a, -1.0, k), "the score threshold is not used"),
    "no topk": (lambda x, d, a, s, k: candidates(x, d, a, s, 10**6), "topk is not used"),
    "order": (lambda *a: (candidates(*a)[1], candidates(*a)[0], candidates(*a)[2]), "step by step"),
    "shifted labels": (lambda *a: (*candidates(*a)[:2], candidates(*a)[2] + 1), "pencil and paper"),
    "nothing": (lambda *a: None, "returned nothing"),
}

# ---- 05-4 ---------------------------------------------------------------------------------------------------------


def joined(levels):
    return [torch.cat(parts) for parts in zip(*levels)]


def final(levels, size, iou, limit, *, suppress=batched_nms, clip=clip_boxes):
    """Right by default: join, clip, NMS, limit."""
    boxes, scores, labels = joined(levels)
    boxes = clip(boxes, size)
    keep = suppress(boxes, scores, labels, iou)[:limit]
    return boxes[keep], scores[keep], labels[keep]


def class_by_class(boxes, scores, labels, iou):
    """torchvision's NMS of each class, then all by score."""
    parts = [torch.arange(len(labels))[labels == k] for k in labels.unique()]
    parts = [index[nms(boxes[index], scores[index], iou)] for index in parts]
    keep = torch.cat(parts) if parts else labels[:0]
    return keep[scores[keep].argsort(descending=True)]


def after_class(levels, size, iou, limit, *, each=10**6, sort=False):
    boxes, scores, labels = final(levels, size, iou, 10**6)
    keep = torch.cat([torch.arange(len(labels))[labels == k][:each] for k in labels.unique()])
    keep = keep[scores[keep].argsort(descending=True)] if sort else keep
    keep = keep[: 10**6 if sort else limit]
    return boxes[keep], scores[keep], labels[keep]


def level_alone(levels, size, iou, limit):
    return final([final([level], size, iou, 10**6) for level in levels], size, 1.1, limit)


def late(levels, size, iou, limit):
    boxes, scores, labels = final(levels, size, iou, limit, clip=lambda b, s: b)
    return clip_boxes(boxes, size), scores, labels


def early_limit(levels, size, iou, limit):
    boxes, scores, labels = joined(levels)
    best = scores.argsort(descending=True)[:limit]
    return final([(boxes[best], scores[best], labels[best])], size, iou, limit)


RIGHT_FINAL = {
    "batched": final,
    "torchvision's clip": lambda *a: final(*a, clip=clip_boxes_to_image),
    "class by class": lambda *a: final(*a, suppress=class_by_class),
}
WRONG_FINAL = {
    "class-blind": (lambda *a: final(*a, suppress=lambda b, s, k, t: nms(b, s, t)), "blind to classes"),
    "level alone": (level_alone, "in each level alone"),
    "limit first": (early_limit, "NMS first, then the limit"),
    "limit of each class": (lambda s, z, t, n: after_class(s, z, t, n, each=n, sort=True), "all classes together"),
    "class after class": (after_class, "sorted class by class"),
    "clipped late": (late, "you clipped after NMS"),
    "not clipped": (lambda *a: final(*a, clip=lambda b, s: b), "reach beyond the image"),
    "size swapped": (lambda s, z, t, n: final(s, (z[1], z[0]), t, n), "height and width are swapped"),
    "no NMS": (
        lambda *a: final(*a, suppress=lambda b, s, k, t: s.argsort(descending=True, stable=True)),
        "duplicates are still there",
    ),
    "indices unused": (
        lambda *a: final(*a, suppress=lambda b, s, k, t: torch.arange(len(s))),
        "the indices of the boxes that stay",
    ),
    "no limit": (lambda s, z, t, n: final(s, z, t, 10**6), "the limit is not used"),
    "first level": (lambda s, z, t, n: final(s[:1], z, t, n), "only the first level"),
    "labels lost": (lambda *a: final(*a)[:2], "step by step"),
    "nothing": (lambda *a: None, "returned nothing"),
}

EXERCISES = {
    "05-3: 6": (checks.best_candidates, RIGHT_CANDIDATES, WRONG_CANDIDATES),
    "05-4: 5": (checks.final_detections, RIGHT_FINAL, WRONG_FINAL),
}

TestExercises = exercise_tests(EXERCISES)


def test_an_error_of_the_solution_comes_with_the_hint() -> None:
    with pytest.raises(RuntimeError) as caught:
        checks.best_candidates(topk_without_min)
    assert "min(topk, how many there are)" in caught.value.__notes__[0]
