"""Checks of lesson 04, the backbone: the receptive field of a stack of layers, and a residual block."""

import random
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.lessons.checks.base import Exercise
from course_lib.lessons.checks.inputs import NO_IMAGES, Named, fill, normal
from course_lib.nn.backbones import BasicBlock
from course_lib.nn.receptive_field import receptive_field as _reference_field

Layers = Sequence[tuple[int, int]]

# ---- 04-1 ---------------------------------------------------------------------------------------------------------


def receptive_field(function: Callable[[Layers], tuple[int, int]]) -> None:
    """Exercise 04-1: `receptive_field(layers)`, a list of (kernel, stride), gives the field and the stride in px.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("04-1", function, reference=_reference_field, mistakes=_FIELD_MISTAKES)
    check.shape("one layer 3×3", [(3, 1)])
    check.value("three layers 3×3 of stride 1", [(3, 1)] * 3, expected=(7, 1))
    check.value("3×3 of stride 2, 7×7 of stride 2, 3×3", [(3, 2), (7, 2), (3, 1)], expected=(3 + 6 * 2 + 2 * 4, 4))
    pooled = [(2, 2), (1, 2), (3, 3)]
    check.value("a pooling 2×2 and a 1×1 of stride 2, 3×3 of stride 3", pooled, expected=(1 + 1 + 2 * 4, 12))
    dice = random.Random(0)
    many = [(dice.choice((1, 2, 3, 5, 7)), dice.choice((1, 1, 2, 3))) for _ in range(12)]
    check.value("12 random layers", many)
    check.value("no layer at all: a pixel sees itself", [], expected=(1, 1))
    check.done()


def _field(layers: Layers, *, widen: Callable[[int], int] = lambda kernel: kernel - 1, start: int = 1) -> int:
    """The field; `widen` says by how many steps a kernel widens it."""
    steps = accumulate((stride for _, stride in layers), lambda a, b: a * b, initial=1)
    return start + sum(widen(kernel) * step for (kernel, _), step in zip(layers, steps))


def _stride(layers: Layers) -> int:
    return _reference_field(layers)[1]


def _own_stride(layers: Layers) -> tuple[int, int]:
    steps = accumulate((stride for _, stride in layers), lambda a, b: a * b)
    return 1 + sum((kernel - 1) * step for (kernel, _), step in zip(layers, steps)), _stride(layers)


def _last_stride(layers: Layers) -> tuple[int, int]:
    before = [1, *(stride for _, stride in layers)]
    return 1 + sum((kernel - 1) * step for (kernel, _), step in zip(layers, before)), _stride(layers)


def _summed_strides(layers: Layers) -> tuple[int, int]:
    steps = list(accumulate((stride for _, stride in layers), initial=1))
    return 1 + sum((kernel - 1) * step for (kernel, _), step in zip(layers, steps)), steps[-1]


_FIELD_MISTAKES = {
    "the strides are not used: behind a layer of stride 2, a step to the next cell is twice as many pixels": (
        lambda layers: (1 + sum(kernel - 1 for kernel, _ in layers), _stride(layers))
    ),
    "you added whole kernels; neighbours share all but one step, so a kernel k widens the field by k − 1 steps": (
        lambda layers: (_field(layers, widen=lambda kernel: kernel), _stride(layers))
    ),
    "a layer's own stride does not widen its own cells, only those of the layers behind it; multiply afterwards": (
        _own_stride
    ),
    "you took the stride of the layer before alone; all strides before it count, multiplied": _last_stride,
    "you kept the last stride alone; the step from cell to cell is all strides so far, multiplied": (
        lambda layers: (_last_stride(layers)[0], layers[-1][1])
    ),
    "an even kernel widens the field by k − 1 steps too: a pooling 2×2 by one": (
        lambda layers: (_field(layers, widen=lambda kernel: 2 * (kernel // 2)), _stride(layers))
    ),
    "you added the strides up; they multiply: two layers of stride 2 make a step of 4 pixels": _summed_strides,
    "begin with 1: before the first layer a cell is a pixel, and it sees itself": (
        lambda layers: (_field(layers, start=0), _stride(layers))
    ),
    "you went through the layers from the last to the first; start at the image": (
        lambda layers: _reference_field(list(reversed(layers)))
    ),
    "field and stride are swapped": lambda layers: _reference_field(layers)[::-1],
    "give back two numbers, the field and the stride": lambda layers: _field(layers),
    "the second number is the stride of the whole stack, the product of all strides, not that of the last layer": (
        lambda layers: (_field(layers), layers[-1][1])
    ),
    "a kernel of size k reaches (k − 1) / 2 steps to *each* side; you counted one side": (
        lambda layers: (_field(layers, widen=lambda kernel: (kernel - 1) // 2), _stride(layers))
    ),
}

# ---- 04-2 ---------------------------------------------------------------------------------------------------------


_NO_SHORTCUT = "here `shortcut` is None: add x as it is"
_SHORTCUT = "the block changes the shape, so x itself cannot be added: where `shortcut` is not None, add shortcut(x)"


def residual_block(function: Callable[..., Tensor]) -> None:
    """Exercise 04-2: `residual_block(x, conv1, bn1, conv2, bn2, shortcut)` gives relu(F(x) + shortcut(x)).

    Raises CheckFailed at the first wrong answer.
    """

    def solve(x: Tensor, block: Named) -> Tensor:
        b = block.module
        return function(x, b.conv1, b.bn1, b.conv2, b.bn2, b.downsample)

    check = Exercise("04-2", solve, reference=lambda x, block: block.module(x), mistakes=_BLOCK_MISTAKES)
    same, half = _block(4, 4, stride=1, seed=0), _block(3, 4, stride=2, seed=1)
    x = normal(2, 4, 5, 6, seed=2)
    check.shape(
        "a block that keeps the shape",
        x.float(),
        Named("modules in float32", _block(4, 4, 1, 0).float()),
        hint=_NO_SHORTCUT,
    )
    check.dtype("a block that keeps the shape", x, Named("modules in float64", same))
    by_hand = Named("conv1 doubles, conv2 takes −¼, the norms do nothing, no shortcut", _plain_block())
    pixels = torch.tensor([[[[4.0, -4.0, 0.0]]]])
    check.value("three pixels", pixels, by_hand, expected=torch.tensor([[[[2.0, 0.0, 0.0]]]]))
    check.value("random features", x, Named("modules of random weights, no shortcut", same))
    halved = Named("modules of random weights, conv1 of stride 2, a shortcut 1×1 of stride 2", half)
    check.value("a block of stride 2", normal(2, 3, 7, 5, seed=3), halved, hint=_SHORTCUT)
    check.value("no images (B = 0)", x[:0], Named("modules of random weights", same), hint=NO_IMAGES)
    check.gradient("the gradient by x", x, Named("modules of random weights", same))
    check.done()


def _block(in_channels: int, width: int, stride: int, seed: int) -> BasicBlock:
    return fill(BasicBlock(in_channels, width, stride=stride, norm={"kind": "frozen"}, stride_in="3x3"), seed)


def _plain_block() -> BasicBlock:
    block = BasicBlock(1, 1, stride=1, norm={"kind": "frozen", "eps": 0.0}, stride_in="3x3").requires_grad_(False)
    for conv, value in ((block.conv1, 2.0), (block.conv2, -0.25)):
        conv.weight.zero_()[0, 0, 1, 1] = value
    return block


def _branch(x: Tensor, b: BasicBlock, between: Callable = F.relu, norm2: bool = True) -> Tensor:
    x = b.conv2(between(b.bn1(b.conv1(x))))
    return b.bn2(x) if norm2 else x


def _identity(x: Tensor, b: BasicBlock) -> Tensor:
    return x if b.downsample is None else b.downsample(x)


def _wrong_block(formula: Callable[[Tensor, BasicBlock], Tensor]) -> Callable[[Tensor, Named], Tensor]:
    return lambda x, block: formula(x, block.module)


_BLOCK_MISTAKES = {
    "the shortcut is missing: that is what makes the block residual; add it before the last ReLU": (
        _wrong_block(lambda x, b: F.relu(_branch(x, b)))
    ),
    "the last ReLU is missing; it comes after the sum": _wrong_block(lambda x, b: _branch(x, b) + _identity(x, b)),
    "the last ReLU comes after the sum; you applied it to the branch and then added": (
        _wrong_block(lambda x, b: F.relu(_branch(x, b)) + _identity(x, b))
    ),
    "the branch has no ReLU behind bn2: it must be able to take away; the last ReLU comes after the sum": (
        _wrong_block(lambda x, b: F.relu(F.relu(_branch(x, b)) + _identity(x, b)))
    ),
    "the shortcut is added as it is, without a ReLU of its own": (
        _wrong_block(lambda x, b: F.relu(_branch(x, b) + (x if b.downsample is None else F.relu(b.downsample(x)))))
    ),
    "the ReLU between the two convolutions is missing; without it they are one linear map": (
        _wrong_block(lambda x, b: F.relu(_branch(x, b, between=lambda y: y) + _identity(x, b)))
    ),
    "the shortcut takes the block's input x; you gave it what the first convolution made of x": (
        _wrong_block(lambda x, b: F.relu(b.bn2(b.conv2(y := F.relu(b.bn1(b.conv1(x))))) + _identity(y, b)))
    ),
    "bn2 is missing": _wrong_block(lambda x, b: F.relu(_branch(x, b, norm2=False) + _identity(x, b))),
    "bn2 normalises the branch alone; the shortcut is added after it": (
        _wrong_block(lambda x, b: F.relu(b.bn2(_branch(x, b, norm2=False) + _identity(x, b))))
    ),
    "the first norm comes before the ReLU: conv1, bn1, ReLU": (
        _wrong_block(lambda x, b: F.relu(b.bn2(b.conv2(b.bn1(F.relu(b.conv1(x))))) + _identity(x, b)))
    ),
}
