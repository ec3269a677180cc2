"""Checks of lesson 09's second half: the loss of the mask head, and pasting its answer."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.lessons.checks.base import Exercise
from course_lib.lessons.checks.inputs import normal
from course_lib.ops import masks

# ---- 09-3 ---------------------------------------------------------------------------------------------------------

_NO_BOXES = (
    "an image without objects has no boxes to learn from: give back 0 that still has a gradient, logits.sum() * 0"
)
_ONE_NUMBER = "the loss is one number, of the (P, S, S) cells that belong to the labels"


def mask_loss(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 09-3: `mask_loss(logits, labels, targets)`: the mean cross entropy of each box's own class.

    logits (P, K, S, S), labels (P,) int64, targets (P, S, S) in 0 … 1. Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("09-3", function, reference=masks.mask_loss, mistakes=_LOSS_MISTAKES)
    log3 = torch.tensor(3.0).log()
    logits = torch.tensor([[[[4.0, -1], [2, 0]], [[0, 0], [log3, -log3]]], [[[0, 0], [0, 0]], [[3, 1], [-2, 5]]]])
    labels = torch.tensor([1, 0])  # σ: 0.5, 0.5, 0.75, 0.25 in the first box, 0.5 everywhere in the second
    targets = torch.tensor([[[1.0, 0], [1, 0]], [[1, 0], [0, 0]]])
    expected = (6 * torch.tensor(2.0).log() + 2 * torch.tensor(4 / 3).log()) / 8
    what = "two boxes, of class 1 and class 0, 2 × 2 cells"
    check.shape(what, logits, labels, targets, hint=_ONE_NUMBER)
    check.value(what, logits, labels, targets, expected=expected)
    shares = normal(6, 5, 5, seed=1).sigmoid()
    many = normal(6, 4, 5, 5, seed=0) * 3, torch.tensor([0, 3, 1, 1, 2, 3]), shares
    check.value("6 boxes, 4 classes, targets between 0 and 1", *many)
    check.value("cells that are very sure", many[0] * 100, *many[1:], hint="work on logits: log of a rounded 0 is −inf")
    check.gradient("6 boxes, 4 classes", *many)
    check.value("no boxes (P = 0)", many[0][:0], many[1][:0], many[2][:0], hint=_NO_BOXES)
    check.gradient("no boxes (P = 0), where the loss is a 0 made from the logits", *(x[:0] for x in many))
    check.done()


def _own(logits: Tensor, labels: Tensor) -> Tensor:
    return logits[torch.arange(len(labels)), labels]


def _loss(
    *,
    chosen: Callable[[Tensor, Tensor], Tensor] = _own,
    reduce: Callable[[Tensor], Tensor] = Tensor.mean,
    cell: Callable[[Tensor, Tensor], Tensor] = lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="none"),
) -> Callable:
    """A solution in its steps, one of them replaced; of no boxes it is NaN."""
    return lambda logits, labels, targets: reduce(cell(chosen(logits, labels), targets))


def _all_classes(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, targets[:, None].expand_as(logits))


def _others_empty(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    wanted = torch.zeros_like(logits)
    wanted[torch.arange(len(labels)), labels] = targets
    return F.binary_cross_entropy_with_logits(logits, wanted)


_LOSS_MISTAKES = {
    "no boxes give 0/0, which is NaN and spoils every weight; treat P = 0 first": _loss(),
    "every class's mask learns here; only that of the box's own class may": _all_classes,
    "the masks of other classes must not learn to be empty; they take no part": _others_empty,
    "you took class 0's mask for every box; take that of its label": _loss(chosen=lambda logits, labels: logits[:, 0]),
    "logits[:, labels] gives every box the masks of all labels; logits[torch.arange(P), labels] gives it its own": (
        _loss(chosen=lambda logits, labels: logits[:, labels], cell=lambda x, y: F.softplus(x) - x * y)
    ),
    "the classes compete here (softmax); each cell has a sigmoid, and what the box shows is said elsewhere": (
        _loss(
            chosen=lambda logits, labels: _own(logits.softmax(1), labels),
            cell=lambda x, y: F.binary_cross_entropy(x, y, reduction="none"),
        )
    ),
    "the mean over all cells, not the sum": _loss(reduce=Tensor.sum),
    "divide by the cells too, not by the boxes alone": _loss(reduce=lambda x: x.sum() / len(x)),
    "only cells of the object learn here; cells beside it must learn 0": (
        _loss(cell=lambda x, y: -y * F.logsigmoid(x))
    ),
    "the loss wants logits, and your logits went through a sigmoid first": (
        _loss(chosen=lambda logits, labels: _own(logits, labels).sigmoid())
    ),
    "this is the squared error; the cross entropy grows when a cell is sure and wrong": (
        _loss(cell=lambda x, y: (x.sigmoid() - y) ** 2)
    ),
    "the targets are shares between 0 and 1; you rounded them": (
        _loss(cell=lambda x, y: F.binary_cross_entropy_with_logits(x, (y >= 0.5).to(x.dtype), reduction="none"))
    ),
}


# ---- 09-4 ---------------------------------------------------------------------------------------------------------


def paste_mask(function: Callable[[Tensor, Tensor, tuple[int, int]], Tensor]) -> None:
    """Exercise 09-4: `paste_mask(mask, box, size)`: a mask (S, S) stretched over its box in an image, (H, W) floats.

    box (4,) xyxy; size (height, width). Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("09-4", function, reference=_paste, mistakes=_PASTE_MISTAKES)
    mask = torch.tensor([[1.0, 0.5], [0, 0]])
    box = torch.tensor([1.0, 2, 5, 6])  # the cells' middles are at x = 2 and 4, y = 3 and 5
    across = torch.tensor([0.25, 0.75, 0.875, 0.625, 0.375, 0.125, 0])  # pixels' middles at 0.5, 1.5, …
    down = torch.tensor([0, 0.25, 0.75, 0.75, 0.25, 0, 0, 0])
    what = "a mask of 2 × 2 cells over a box of 4 × 4 pixels"
    check.shape(what, mask, box, (8, 7), hint="the answer has the image's height and width")
    check.value(what, mask, box, (8, 7), expected=down[:, None] * across)
    random = normal(7, 7, seed=0).sigmoid()
    check.value(
        "7 × 7 cells over a wide box", random, torch.tensor([2.3, 4.1, 21.9, 9.7], dtype=torch.float64), (15, 30)
    )
    outside = torch.tensor([-4.5, 3.2, 8.25, 25.0], dtype=torch.float64)
    check.value("a box that sticks out of the image", random, outside, (20, 12))
    away = torch.tensor([-40.0, -40, -20, -20], dtype=torch.float64)
    check.value("a box outside the image", random, away, (6, 5), hint="where there is no mask there is 0")
    check.value("one cell", torch.ones(1, 1), torch.tensor([1.0, 1, 4, 4]), (5, 5))
    check.done()


def _paste(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    return masks.paste_masks(mask[None], box[None], size, threshold=None)[0]


def _pasted(
    *,
    pixel: float = 0.5,
    cell: float = 0.5,
    cells: Callable[[int], int] = lambda side: side,
    edges: Callable[[Tensor], Tensor] = lambda box: box,
    weigh: Callable[[Tensor, int], Tensor] | None = None,
    joined: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda down, mask, across: down @ mask @ across.T,
) -> Callable:
    """A solution in its steps, one of them replaced."""
    weigh = weigh or _tent

    def paste(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
        x1, y1, x2, y2 = edges(box).tolist()
        axes = []
        for low, high, length in ((y1, y2, size[0]), (x1, x2, size[1])):
            middles = torch.arange(length, dtype=mask.dtype) + pixel
            place = (middles - low) / (high - low) * cells(len(mask)) - cell
            axes.append(weigh(place, len(mask)))
        return joined(axes[0], mask, axes[1])

    return paste


def _tent(place: Tensor, side: int) -> Tensor:
    return (1 - (place[:, None] - torch.arange(side, dtype=place.dtype)).abs()).clamp(min=0)


def _nearest(place: Tensor, side: int) -> Tensor:
    return ((place[:, None] - torch.arange(side, dtype=place.dtype)).abs() <= 0.5).to(place.dtype)


def _uncut(place: Tensor, side: int) -> Tensor:
    return 1 - (place[:, None] - torch.arange(side, dtype=place.dtype)).abs()


def _sum_to_one(place: Tensor, side: int) -> Tensor:
    tent = _tent(place, side)
    return tent / tent.sum(1, keepdim=True).clamp(min=1e-9)


def _held(place: Tensor, side: int) -> Tensor:
    """The outermost cells go on to the edge of the box, and end there."""
    inside = (place >= -0.5) & (place <= side - 0.5)
    return _tent(place.clamp(0, side - 1), side) * inside[:, None]


def _everywhere(place: Tensor, side: int) -> Tensor:
    return _tent(place.clamp(0, side - 1), side)


def _transposed(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    return _paste(mask.T, box, size)


_PASTE_MISTAKES = {
    "a pixel's middle is at x + 0.5, not at its corner": _pasted(pixel=0.0),
    "a cell's middle lies half a cell after its edge: take 0.5 off the place": _pasted(cell=0.0),
    "box and mask have their halves both left out; pixels have their middle at x + 0.5, cells at j + 0.5": (
        _pasted(pixel=0.0, cell=0.0)
    ),
    "S cells fill the box from edge to edge; S − 1 would put the outermost middles on the edges": (
        _pasted(cells=lambda side: side - 1, cell=0.0)
    ),
    "rows go with y and columns with x; yours are exchanged": _transposed,
    "rows go with y1 and y2, columns with x1 and x2; your box is read as y, x, y, x": (
        _pasted(edges=lambda box: box[[1, 0, 3, 2]])
    ),
    "the box's numbers are x1, y1, x2, y2; you read them as x1, x2, y1, y2": _pasted(
        edges=lambda box: box[[0, 2, 1, 3]]
    ),
    "rows first: the matrix of the rows stands on the left of the mask, that of the columns on its right": (
        lambda mask, box, size: _paste(mask, box, size).T
    ),
    "cut the tent off at 0: no weight is negative": _pasted(weigh=_uncut),
    "the weights of a pixel at the rim need not sum to 1: the rest is nothing, which is 0": _pasted(weigh=_sum_to_one),
    "the box need not lie on whole pixels: no rounding": _pasted(edges=lambda box: box.round()),
    "interpolate between the cells' middles; you took the nearest cell": _pasted(weigh=_nearest),
    "beyond the outermost middles the values fall to 0 over one cell; yours stay as they are up to the edge": (
        _pasted(weigh=_held)
    ),
    "outside its box a mask is 0; yours goes on to the border of the image": _pasted(weigh=_everywhere),
    "give back the values; where they are 0.5 or more is the next step": (
        lambda mask, box, size: (_paste(mask, box, size) >= 0.5).to(mask.dtype)
    ),
    "size is (height, width), so rows come first": lambda mask, box, size: _paste(mask, box, size[::-1]),
}
