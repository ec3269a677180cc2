"""Lesson 05's checks pass right solutions, however written, and name the mistake of each wrong one."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import clip_boxes_to_image, nms, sigmoid_focal_loss

from course_lib.detectors.retinanet import select_candidates
from course_lib.lessons import checks
from course_lib.nn.heads import DenseHead
from course_lib.ops.boxes import clip_boxes
from course_lib.ops.coder import decode
from course_lib.ops.losses import focal_loss_from_labels
from course_lib.ops.nms import batched_nms
from tests.lessons.exercises import exercise_tests

# ---- 05-1 ---------------------------------------------------------------------------------------------------------


def rows(x: Tensor, outputs: int) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, c // outputs, outputs, h, w).permute(0, 3, 4, 1, 2).reshape(b, h * w * c // outputs, outputs)


def loop(x: Tensor, outputs: int) -> Tensor:
    _, c, h, w = x.shape
    parts = [
        x[:, a * outputs : (a + 1) * outputs, i, j] for i in range(h) for j in range(w) for a in range(c // outputs)
    ]
    return torch.stack(parts, dim=1)


def dense_head(x: Tensor, outputs: int) -> Tensor:
    """The library's head, its tower empty and its predictor the identity."""
    head = DenseHead(x.shape[1], num_anchors=x.shape[1] // outputs, outputs=outputs, num_levels=1, depth=0).to(x.dtype)
    torch.nn.init.dirac_(head.predictor.weight)
    return head([x])[0]


RIGHT_ROWS = {
    "permute, reshape": lambda x, k: x.permute(0, 2, 3, 1).reshape(len(x), -1, k),
    "split, permute": rows,
    "loop": loop,
    "movedim": lambda x, k: x.movedim(1, -1).unflatten(-1, (-1, k)).flatten(1, 3),
    "the library's head": dense_head,
}
WRONG_ROWS = {
    "view alone": (lambda x, k: x.reshape(x.shape[0], -1, k), "without moving the channels to the end"),
    "flat view": (
        lambda x, k: x.flatten(2).reshape(x.shape[0], x[0].numel() // k, k),
        "without moving the channels to the end",
    ),
    "columns first": (lambda x, k: x.transpose(1, 3).reshape(x.shape[0], -1, k), "H comes before W"),
    "anchor by anchor": (
        lambda x, k: torch.cat([part.movedim(1, -1).flatten(1, 2) for part in x.split(k, dim=1)], 1),
        "anchors of one place stand together",
    ),
    "class-major": (
        lambda x, k: x.unflatten(1, (k, -1)).permute(0, 3, 4, 2, 1).flatten(1, 3),
        "anchor by anchor, the K numbers",
    ),
    "rows of A": (
        lambda x, k: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1] // k),
        "yours has the A anchors",
    ),
    "rows of all": (lambda x, k: x.permute(0, 2, 3, 1).flatten(1, 2), "all A·K channels"),
    "no batch": (lambda x, k: rows(x, k).reshape(-1, k), "images of the batch are run together"),
    "transposed": (lambda x, k: rows(x, k).transpose(1, 2), "last two axes are swapped"),
    "sigmoid": (lambda x, k: torch.sigmoid(rows(x, k)), "losses and thresholds work on logits"),
    "doubled": (lambda x, k: 2 * rows(x, k), "pencil and paper"),
    "detached": (lambda x, k: rows(x, k).detach(), "no gradient reaches the input"),
    "nothing": (lambda x, k: None, "returned nothing"),
}

# ---- 05-2 ---------------------------------------------------------------------------------------------------------


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Targets (…, K): zeros for background and ignored."""
    return F.one_hot(labels.clamp(min=-1) + 1, classes + 1)[..., 1:].double()


def losses(logits, deltas, labels, targets, *, by=None, kept=None, alpha=0.25, gamma=2.0, box=None):
    """Right by default; `by` normalises, `kept` chooses anchors, `box` sums up the box loss."""
    kept = labels != -2 if kept is None else kept
    truth = one_hot(labels, logits.shape[-1])
    classification = sigmoid_focal_loss(logits[kept].double(), truth[kept], alpha, gamma, "sum")
    distance = (deltas[labels >= 0] - targets).abs()
    by = max(int((labels >= 0).sum()), 1) if by is None else by
    return classification / by, (distance.sum() if box is None else box(distance)) / by


def from_labels(logits, deltas, labels, targets):
    count = (labels >= 0).sum().clamp(min=1)
    return focal_loss_from_labels(logits, labels) / count, F.l1_loss(
        deltas[labels >= 0], targets, reduction="sum"
    ) / count


def image_by_image(logits, deltas, labels, targets):
    counts = (labels >= 0).sum(1).tolist()
    rows = [from_labels(*part) for part in zip(logits, deltas, labels, targets.split(counts))]
    return sum(r[0] for r in rows) / len(rows), sum(r[1] for r in rows) / len(rows)


def last_class(logits, deltas, labels, targets):
    truth = torch.zeros_like(logits)
    index = (labels >= -1).nonzero(as_tuple=True)
    truth[(*index, labels[index])] = 1
    kept = labels != -2
    return sigmoid_focal_loss(logits[kept], truth[kept], reduction="sum") / max(1, (labels >= 0).sum()), losses(
        logits, deltas, labels, targets
    )[1]


RIGHT_LOSSES = {"one-hot": losses, "from labels": from_labels}
WRONG_LOSSES = {
    "all anchors": (lambda *a: losses(*a, by=a[2].numel()), "you divided by all anchors; easy background"),
    "kept anchors": (lambda *a: losses(*a, by=(a[2] > -2).sum()), "all anchors that are not ignored"),
    "images": (lambda *a: losses(*a, by=len(a[2])), "number of images"),
    "sums": (lambda *a: losses(*a, by=1), "gave back sums"),
    "each image": (image_by_image, "as torchvision does"),
    "no clamp": (lambda *a: losses(*a, by=(a[2] >= 0).sum()), "has no positives, and you divided by 0"),
    "mean of deltas": (lambda *a: losses(*a, box=lambda d: d.sum() / 4), "add the four deltas"),
    "box sum": (lambda *a: (losses(*a)[0], losses(*a, by=1)[1]), "the box loss is a sum still"),
    "ignored is background": (lambda *a: losses(*a, kept=a[2] > -9), "label −2 are ignored"),
    "positives alone": (lambda *a: losses(*a, kept=a[2] >= 0), "background is missing"),
    "last class": (last_class, "means the last class"),
    "no alpha": (lambda *a: losses(*a, alpha=-1), "the weight α is missing"),
    "alpha turned": (lambda *a: losses(*a, alpha=0.75), "wrong way round"),
    "cross entropy": (lambda *a: losses(*a, gamma=0), "that is cross entropy"),
    "swapped": (lambda *a: losses(*a)[::-1], "the two losses are swapped"),
    "smooth": (
        lambda *a: (
            losses(*a)[0],
            F.smooth_l1_loss(a[1][a[2] >= 0], a[3], reduction="sum") / max(1, (a[2] >= 0).sum()),
        ),
        "quadratic near 0",
    ),
    "squared": (lambda *a: (losses(*a)[0], losses(*a, box=lambda d: (d**2).sum())[1]), "pencil and paper"),
    "detached": (lambda *a: tuple(x.detach() for x in losses(*a)), "no gradient reaches the input"),
    "nothing": (lambda *a: None, "returned nothing"),
}

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
    "no limit": (lambda s, z, t, n: final(s, z, t, 10**6), "the limit is not used"),
    "first level": (lambda s, z, t, n: final(s[:1], z, t, n), "only the first level"),
    "labels lost": (lambda *a: final(*a)[:2], "step by step"),
    "nothing": (lambda *a: None, "returned nothing"),
}

EXERCISES = {
    "05-1: 6": (checks.anchor_rows, RIGHT_ROWS, WRONG_ROWS),
    "05-2: 5": (checks.batch_losses, RIGHT_LOSSES, WRONG_LOSSES),
    "05-3: 6": (checks.best_candidates, RIGHT_CANDIDATES, WRONG_CANDIDATES),
    "05-4: 5": (checks.final_detections, RIGHT_FINAL, WRONG_FINAL),
}

TestExercises = exercise_tests(EXERCISES)


def test_an_error_of_the_solution_comes_with_the_hint() -> None:
    with pytest.raises(RuntimeError) as caught:
        checks.best_candidates(topk_without_min)
    assert "min(topk, how many there are)" in caught.value.__notes__[0]
