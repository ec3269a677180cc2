"""Checks of lesson 13's second half: weights for another input, anchors in two dialects."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from course_lib.lessons.checks.base import Exercise
from course_lib.lessons.checks.inputs import normal
from course_lib.ops import anchors

# ---- 13-3 ---------------------------------------------------------------------------------------------------------


def to_rgb(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 13-3: `to_rgb(weight, std)`, a first convolution (O, 3, k, k) for BGR 0…255 → for normalised RGB.

    std (3,), of red, green and blue, in 0…1. Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("13-3", function, reference=_to_rgb, mistakes=_RGB_MISTAKES)
    weight, std = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1), torch.tensor([0.5, 0.1, 0.4])
    check.shape("a 1×1 convolution", weight, std)
    by_hand = torch.tensor([382.5, 51.0, 102.0]).reshape(1, 3, 1, 1)
    check.value("a 1×1 convolution", weight, std, expected=by_hand)
    check.dtype("a 1×1 convolution in float64", weight.double(), std.double())
    many, spread = normal(8, 3, 7, 7, seed=0), torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)
    check.value("a random 7×7 convolution", many, spread)
    check.gradient("a random 7×7 convolution", many, spread)
    check.value("no outputs (O = 0)", many[:0], spread, hint="work on the whole tensor, without loops over O")
    check.done()


def _to_rgb(weight: Tensor, std: Tensor) -> Tensor:
    return weight.flip(1) * (255 * std)[:, None, None]


_RGB_MISTAKES = {
    "the first channel is still blue: turn dimension 1, the colours that come in": (
        lambda weight, std: weight * (255 * std)[:, None, None]
    ),
    "std is of red, green, blue: turn the weights first, then multiply": (
        lambda weight, std: (weight * (255 * std)[:, None, None]).flip(1)
    ),
    "flip() of everything mirrors the kernel too; turn dimension 1 alone": (
        lambda weight, std: weight.flip(0, 1, 2, 3) * (255 * std)[:, None, None]
    ),
    "the new input is smaller by std, so the weights must be larger: multiply by std": (
        lambda weight, std: weight.flip(1) * 255 / std[:, None, None]
    ),
    "white is 255 in the old input and 1 in the new one: multiply by 255 too": (
        lambda weight, std: weight.flip(1) * std[:, None, None]
    ),
    "the new input is smaller by 255, so the weights must be larger: multiply": (
        lambda weight, std: weight.flip(1) * std[:, None, None] / 255
    ),
    "the factors are in place, the weights still stand blue, green, red: turn these": (
        lambda weight, std: weight * (255 * std.flip(0))[:, None, None]
    ),
    "the new input is smaller by 255 and by std, so the weights must be larger: multiply by both": (
        lambda weight, std: weight.flip(1) / (255 * std)[:, None, None]
    ),
    "the kernel is mirrored too: flip(1) turns the colours alone": (
        lambda weight, std: weight.flip(1, 2, 3) * (255 * std)[:, None, None]
    ),
    "white is 255, not 256": lambda weight, std: weight.flip(1) * (256 * std)[:, None, None],
    "the new input was divided by std as well: multiply by it": lambda weight, std: weight.flip(1) * 255,
    "you turned the colours round and left their scale: the new input was divided by 255 and by std": (
        lambda weight, std: weight.flip(1)
    ),
    "std[:, None, None] belongs to dimension 1; yours lies along the columns of the kernel": (
        lambda weight, std: weight.flip(1) * (255 * std)
    ),
    "std[:, None, None] belongs to dimension 1; yours lies along the rows of the kernel": (
        lambda weight, std: weight.flip(1) * (255 * std)[:, None]
    ),
    "std[:, None, None] belongs to dimension 1; yours lies along the outputs": (
        lambda weight, std: weight.flip(1) * (255 * std)[:, None, None, None]
    ),
}

# ---- 13-4 ---------------------------------------------------------------------------------------------------------

Anchors = Callable[[Sequence[float], Sequence[float], str, bool], Tensor]
OCTAVE = tuple(32 * 2 ** (k / 3) for k in range(3))


def cell_anchors(function: Anchors) -> None:
    """Exercise 13-4: `cell_anchors(sizes, ratios, order, rounding)`, the anchors (A, 4) of a cell in either dialect.

    order: "size" or "ratio", the outer loop. rounding: sizes lose their fractions, then corners are rounded.
    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("13-4", function, reference=_anchors, mistakes=_ANCHOR_MISTAKES)
    two = [8.0, 16.0], [1.0, 4.0]
    by_size = torch.tensor([[-4.0, -4, 4, 4], [-2, -8, 2, 8], [-8, -8, 8, 8], [-4, -16, 4, 16]])
    check.shape("two sizes, two ratios", *two, "size", False)
    check.value("two sizes, two ratios", *two, "size", False, expected=by_size)
    check.value("the same, ratio after ratio", *two, "ratio", False, expected=by_size[[0, 2, 1, 3]])
    # 57 / √0.5 = 80.61 wide, 57 · √0.5 = 40.31 high, and half of both; then 50 instead of 57.
    for size, corner in ((57.6, (40.0, 20.0)), (50.0, (35.0, 18.0))):
        by_hand = torch.tensor([[-corner[0], -corner[1], *corner]])
        check.value(f"size {size}, ratio 0.5, rounded", [size], [0.5], "size", True, expected=by_hand)
    even = torch.tensor([[-12.0, -12, 12, 12]])
    odd = "half of 25 is 12.5, and torch.round goes to the even neighbour, 12, as torchvision's anchors do"
    check.value("size 25, rounded", [25.0], [1.0], "size", True, expected=even, hint=odd)
    check.value("Detectron2's nine", OCTAVE, (0.5, 1.0, 2.0), "size", False)
    check.value("torchvision's nine", OCTAVE, (0.5, 1.0, 2.0), "ratio", True)
    check.dtype("torchvision's nine", OCTAVE, (0.5, 1.0, 2.0), "ratio", True, hint="plain float32 will do")
    check.done()


def _half(w: Tensor, h: Tensor) -> tuple[Tensor, ...]:
    return -w / 2, -h / 2, w / 2, h / 2


def _laid_out(
    *,
    root: Callable[[Tensor], Tensor] = Tensor.sqrt,
    box: Callable[[Tensor, Tensor], tuple[Tensor, ...]] = _half,
    truncated: Callable[[Tensor], Tensor] = Tensor.trunc,
    sides: Callable[[Tensor], Tensor] = lambda side: side,
    corners: Callable[[Tensor], Tensor] = Tensor.round,
) -> Anchors:
    """A solution in its steps, one of them replaced; `truncated`, `sides` and `corners` are what `rounding` does."""

    def answer(sizes: Sequence[float], ratios: Sequence[float], order: str, rounding: bool) -> Tensor:
        size, ratio = torch.tensor(sizes), root(torch.tensor(ratios))
        size = truncated(size) if rounding else size
        size, ratio = (size[:, None], ratio) if order == "size" else (size, ratio[:, None])
        w, h = (sides(side) if rounding else side for side in (size / ratio, size * ratio))
        boxes = torch.stack(box(w, h), dim=-1).reshape(-1, 4)
        return corners(boxes) if rounding else boxes

    return answer


def _anchors(sizes: Sequence[float], ratios: Sequence[float], order: str, rounding: bool) -> Tensor:
    return anchors.cell_anchors(sizes, ratios, order=order, rounding=rounding)


def _with(order: str | None = None, rounding: bool | None = None) -> Anchors:
    """The right anchors with one switch stuck."""
    return lambda sizes, ratios, o, r: _anchors(sizes, ratios, order or o, r if rounding is None else rounding)


def _cut_always(sizes: Sequence[float], ratios: Sequence[float], order: str, rounding: bool) -> Tensor:
    return _anchors([int(size) for size in sizes], ratios, order, rounding)


_ANCHOR_MISTAKES = {
    "a ratio is height / width, and a corner is x, then y: a ratio above 1 is tall": (
        _laid_out(box=lambda w, h: (-h / 2, -w / 2, h / 2, w / 2))
    ),
    "a corner lies half a width and half a height from the centre": _laid_out(box=lambda w, h: (-w, -h, w, h)),
    "width and height have the root of the ratio: h / w is to be r, not r²": _laid_out(root=lambda ratio: ratio),
    "give both corners; yours end in width and height": _laid_out(box=lambda w, h: (-w / 2, -h / 2, w, h)),
    "the corners of a box centred on (0, 0) lie on both sides of 0; yours begin there": _laid_out(
        box=lambda w, h: (0 * w, 0 * h, w, h)
    ),
    "sizes keep their fraction where rounding is False": _cut_always,
    'order is not used; "ratio" makes the ratios the outer loop': _with(order="size"),
    '"size" means that the sizes are the outer loop, "ratio" the ratios': _with(order="ratio"),
    "rounding is not used": _with(rounding=False),
    "you round even where rounding is False": _with(rounding=True),
    "the size loses its fraction before anything else: 57.6 becomes 57": _laid_out(truncated=lambda size: size),
    "the size is cut, not rounded: 57.6 becomes 57": _laid_out(truncated=Tensor.round),
    "the corners are rounded, too": _laid_out(corners=lambda boxes: boxes),
    "round the corners, not width and height: half of a whole number need not be whole": (
        _laid_out(sides=Tensor.round, corners=lambda boxes: boxes)
    ),
    "round the corners alone; you rounded width and height before": _laid_out(sides=Tensor.round),
    "corners are rounded to the nearest, not cut": _laid_out(corners=Tensor.trunc),
    "corners are rounded to the nearest, not down": _laid_out(corners=Tensor.floor),
    "half of 25 is 12.5, and torch.round goes to the even neighbour, 12, as torchvision's anchors do": (
        _laid_out(corners=lambda boxes: boxes.sign() * (boxes.abs() + 0.5).floor())
    ),
}
