"""Lesson 09's checks of the mask loss and of pasting pass right solutions, however written, and name each mistake."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.lessons import checks
from tests.lessons.exercises import exercise_tests

# ---- 09-3 ---------------------------------------------------------------------------------------------------------


def own(logits: Tensor, labels: Tensor) -> Tensor:
    return logits[torch.arange(len(labels)), labels]


def loss(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    if len(labels) == 0:
        return logits.sum() * 0
    return F.binary_cross_entropy_with_logits(own(logits, labels), targets)


def by_hand(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    x = own(logits, labels)
    cells = targets * F.softplus(-x) + (1 - targets) * F.softplus(x)
    return cells.sum() / max(cells.numel(), 1)


def one_by_one(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    total = logits.sum() * 0
    for x, label, target in zip(logits, labels, targets):
        total = total + F.binary_cross_entropy_with_logits(x[label], target) / len(labels)
    return total


def mean_of(cell: Callable) -> Callable:
    def solution(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        return cell(own(logits, labels), targets).mean() if len(labels) else logits.sum() * 0

    return solution


def all_classes(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets[:, None].expand(logits.shape))


def one_hot(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    wanted = F.one_hot(labels, logits.shape[1])[:, :, None, None] * targets[:, None]
    return F.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype))


def competing(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    p = own(logits.softmax(1), labels)
    return F.binary_cross_entropy(p, targets)


def all_labels(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    x = logits[:, labels]  # (P, P, S, S)
    return (targets * F.softplus(-x) + (1 - targets) * F.softplus(x)).mean() if len(labels) else logits.sum() * 0


RIGHT_LOSS = {"library": loss, "by hand": by_hand, "one by one": one_by_one}
WRONG_LOSS = {
    "NaN": (lambda x, k, y: F.binary_cross_entropy_with_logits(own(x, k), y), "no boxes give 0/0"),
    "all classes": (all_classes, "every class's mask learns here"),
    "one-hot": (one_hot, "must not learn to be empty"),
    "class 0": (lambda x, k, y: F.binary_cross_entropy_with_logits(x[:, 0], y), "you took class 0's mask"),
    "softmax": (competing, "the classes compete here"),
    "sum": (
        lambda x, k, y: F.binary_cross_entropy_with_logits(own(x, k), y, reduction="sum"),
        "the mean over all cells, not the sum",
    ),
    "by box": (
        lambda x, k, y: F.binary_cross_entropy_with_logits(own(x, k), y, reduction="sum") / max(len(k), 1),
        "divide by the cells too",
    ),
    "ones alone": (mean_of(lambda x, y: -y * F.logsigmoid(x)), "only cells of the object learn here"),
    "sigmoid twice": (
        mean_of(lambda x, y: F.binary_cross_entropy_with_logits(x.sigmoid(), y, reduction="none")),
        "went through a sigmoid first",
    ),
    "squared": (mean_of(lambda x, y: (x.sigmoid() - y) ** 2), "this is the squared error"),
    "rounded": (
        mean_of(lambda x, y: F.binary_cross_entropy_with_logits(x, (y >= 0.5).to(x), reduction="none")),
        "you rounded them",
    ),
    "probabilities": (
        mean_of(lambda x, y: -(y * x.sigmoid().log() + (1 - y) * (1 - x.sigmoid()).log())),
        "log of a rounded 0 is −inf",
    ),
    "all labels": (all_labels, "gives every box the masks of all labels"),
    "no boxes, no gradient": (lambda x, k, y: loss(x, k, y) if len(k) else torch.tensor(0.0), "no gradient reaches"),
    "detached": (lambda x, k, y: loss(x.detach(), k, y), "no gradient reaches the input"),
}

# ---- 09-4 ---------------------------------------------------------------------------------------------------------


def weights(low: float, high: float, length: int, side: int, dtype: torch.dtype) -> Tensor:
    place = (torch.arange(length, dtype=dtype) + 0.5 - low) / (high - low) * side - 0.5
    return (1 - (place[:, None] - torch.arange(side, dtype=dtype)).abs()).clamp(min=0)


def paste(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    x1, y1, x2, y2 = box.tolist()
    down = weights(y1, y2, size[0], len(mask), mask.dtype)
    return down @ mask @ weights(x1, x2, size[1], len(mask), mask.dtype).T


def by_grid_sample(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    x1, y1, x2, y2 = box.tolist()
    y = (torch.arange(size[0], dtype=mask.dtype) + 0.5 - y1) / (y2 - y1) * 2 - 1
    x = (torch.arange(size[1], dtype=mask.dtype) + 0.5 - x1) / (x2 - x1) * 2 - 1
    grid = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None]), 2)
    return F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]


def pixel_by_pixel(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    side, (x1, y1, x2, y2) = len(mask), box.tolist()
    padded = F.pad(mask, (1, 1, 1, 1))
    result = mask.new_zeros(size)
    for r in range(size[0]):
        for c in range(size[1]):
            v, u = (r + 0.5 - y1) / (y2 - y1) * side + 0.5, (c + 0.5 - x1) / (x2 - x1) * side + 0.5  # in the padded one
            if 0 <= v <= side + 1 and 0 <= u <= side + 1:
                i, j = min(int(v), side), min(int(u), side)
                a, b = v - i, u - j
                upper = (1 - b) * padded[i, j] + b * padded[i, j + 1]
                lower = (1 - b) * padded[i + 1, j] + b * padded[i + 1, j + 1]
                result[r, c] = (1 - a) * upper + a * lower
    return result


def placed(pixel: float = 0.5, cell: float = 0.5, less: int = 0, weigh: Callable | None = None) -> Callable:
    """A solution with another place of pixels or cells, or other weights."""

    def solution(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
        x1, y1, x2, y2 = box.tolist()
        sides = []
        for low, high, length in ((y1, y2, size[0]), (x1, x2, size[1])):
            place = (torch.arange(length, dtype=mask.dtype) + pixel - low) / (high - low) * (len(mask) - less) - cell
            distance = (place[:, None] - torch.arange(len(mask), dtype=mask.dtype)).abs()
            sides.append((1 - distance).clamp(min=0) if weigh is None else weigh(place, distance, len(mask)))
        return sides[0] @ mask @ sides[1].T

    return solution


def held(inside_alone: bool) -> Callable:
    def weigh(place: Tensor, distance: Tensor, side: int) -> Tensor:
        within = place.clamp(0, side - 1)
        result = (1 - (within[:, None] - torch.arange(side, dtype=place.dtype)).abs()).clamp(min=0)
        outside = (place < -0.5) | (place > side - 0.5)
        return result.masked_fill(outside[:, None], 0) if inside_alone else result

    return placed(weigh=weigh)


def sum_to_one(place: Tensor, distance: Tensor, side: int) -> Tensor:
    tent = (1 - distance).clamp(min=0)
    return tent / tent.sum(1, keepdim=True).clamp(min=1e-6)


RIGHT_PASTE = {"two matrices": paste, "grid_sample": by_grid_sample, "pixel by pixel": pixel_by_pixel}
WRONG_PASTE = {
    "pixel's corner": (placed(pixel=0), "a pixel's middle is at x + 0.5"),
    "cell's edge": (placed(cell=0), "take 0.5 off the place"),
    "no halves": (placed(pixel=0, cell=0), "both left out"),
    "corners aligned": (placed(cell=0, less=1), "S cells fill the box"),
    "exchanged": (lambda mask, box, size: paste(mask.T, box, size), "rows go with y"),
    "rounded box": (lambda mask, box, size: paste(mask, box.round(), size), "no rounding"),
    "nearest": (placed(weigh=lambda place, distance, side: (distance <= 0.5).to(place)), "you took the nearest cell"),
    "held to the edge": (held(True), "fall to 0 over one cell"),
    "held for ever": (held(False), "outside its box a mask is 0"),
    "compared": (lambda mask, box, size: (paste(mask, box, size) >= 0.5).to(mask), "give back the values"),
    "y, x, y, x": (lambda mask, box, size: paste(mask, box[[1, 0, 3, 2]], size), "read as y, x, y, x"),
    "x, x, y, y": (lambda mask, box, size: paste(mask, box[[0, 2, 1, 3]], size), "read them as x1, x2, y1, y2"),
    "on its side": (lambda mask, box, size: paste(mask, box, size).T, "rows first: the matrix of the rows"),
    "tent not cut off": (placed(weigh=lambda place, distance, side: 1 - distance), "cut the tent off at 0"),
    "sum to one": (placed(weigh=sum_to_one), "need not sum to 1"),
    "width first": (lambda mask, box, size: paste(mask, box, size[::-1]), "so rows come first"),
}

TestMasks = exercise_tests(
    {
        "09-3: 7": (checks.mask_loss, RIGHT_LOSS, WRONG_LOSS),
        "09-4: 6": (checks.paste_mask, RIGHT_PASTE, WRONG_PASTE),
    }
)
