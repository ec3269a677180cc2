"""Lesson 05's checks of the training pass right solutions, however written, and name the mistake of each wrong one."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from course_lib.lessons import checks
from course_lib.nn.heads import DenseHead
from course_lib.ops.losses import focal_loss_from_labels
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
    "cut, then turned": (lambda x, k: x.reshape(x.shape[0], k, -1).transpose(1, 2), "into K parts before"),
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
    "squared": (lambda *a: (losses(*a)[0], losses(*a, box=lambda d: (d**2).sum())[1]), "you squared the differences"),
    "probabilities": (lambda x, *a: losses(x.sigmoid(), *a), "sigmoid_focal_loss takes logits"),
    "class 0 is none": (lambda *a: losses(*a, by=max(int((a[2] > 0).sum()), 1)), "class 0 is a class"),
    "one more": (lambda *a: losses(*a, by=(a[2] >= 0).sum() + 1), "pencil and paper"),
    "detached": (lambda *a: tuple(x.detach() for x in losses(*a)), "no gradient reaches the input"),
    "nothing": (lambda *a: None, "returned nothing"),
}

EXERCISES = {
    "05-1: 6": (checks.anchor_rows, RIGHT_ROWS, WRONG_ROWS),
    "05-2: 5": (checks.batch_losses, RIGHT_LOSSES, WRONG_LOSSES),
}

TestExercises = exercise_tests(EXERCISES)
