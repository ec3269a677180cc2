"""Checks of lesson 04: the receptive field, a residual block, the top-down path, a whole feature pyramid."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.lessons.checks.base import Exercise
from course_lib.nn.backbones import BasicBlock
from course_lib.nn.fpn import FPN
from course_lib.nn.receptive_field import receptive_field as _reference_field

Layers = Sequence[tuple[int, int]]
_NO_IMAGES = "a batch of no images is a batch too: B = 0 needs no case of its own"

# ---- 04-1 ---------------------------------------------------------------------------------------------------------


def receptive_field(function: Callable[[Layers], tuple[int, int]]) -> None:
    """Exercise 04-1: `receptive_field(layers)`, a list of (kernel, stride), gives the field and the stride in px.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("04-1", function, reference=_reference_field, mistakes=_FIELD_MISTAKES)
    check.shape("one layer 3×3", [(3, 1)])
    check.value("three layers 3×3 of stride 1", [(3, 1)] * 3, expected=(7, 1))
    check.value("3×3 of stride 2, 7×7 of stride 2, 3×3", [(3, 2), (7, 2), (3, 1)], expected=(3 + 6 * 2 + 2 * 4, 4))
    check.value("1×1 of stride 2 and 3×3 of stride 3", [(1, 2), (3, 3)], expected=(5, 6))
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


@dataclass(frozen=True)
class _Named:
    """Modules as an argument of a check: an error shows the text instead of a page of layers."""

    text: str
    module: nn.Module

    def __str__(self) -> str:
        return self.text


_SHORTCUT = "the block changes the shape, so x itself cannot be added: where `shortcut` is not None, add shortcut(x)"


def residual_block(function: Callable[..., Tensor]) -> None:
    """Exercise 04-2: `residual_block(x, conv1, bn1, conv2, bn2, shortcut)` gives relu(F(x) + shortcut(x)).

    Raises CheckFailed at the first wrong answer.
    """

    def solve(x: Tensor, block: _Named) -> Tensor:
        b = block.module
        return function(x, b.conv1, b.bn1, b.conv2, b.bn2, b.downsample)

    check = Exercise("04-2", solve, reference=lambda x, block: block.module(x), mistakes=_BLOCK_MISTAKES)
    same, half = _block(4, 4, stride=1, seed=0), _block(3, 4, stride=2, seed=1)
    x = _random(2, 4, 5, 6, seed=2)
    check.shape("a block that keeps the shape", x.float(), _Named("modules in float32", _block(4, 4, 1, 0).float()))
    check.dtype("a block that keeps the shape", x, _Named("modules in float64", same))
    by_hand = _Named("conv1 doubles, conv2 takes −¼, the norms do nothing, no shortcut", _plain_block())
    pixels = torch.tensor([[[[4.0, -4.0, 0.0]]]])
    check.value("three pixels", pixels, by_hand, expected=torch.tensor([[[[2.0, 0.0, 0.0]]]]))
    check.value("random features", x, _Named("modules of random weights, no shortcut", same))
    halved = _Named("modules of random weights, conv1 of stride 2, a shortcut 1×1 of stride 2", half)
    check.value("a block of stride 2", _random(2, 3, 7, 5, seed=3), halved, hint=_SHORTCUT)
    check.value("no images (B = 0)", x[:0], _Named("modules of random weights", same), hint=_NO_IMAGES)
    check.gradient("the gradient by x", x, _Named("modules of random weights", same))
    check.done()


def _random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _fill(module: nn.Module, seed: int) -> nn.Module:
    """Random float64 weights, biases and statistics, the same on every machine; the global generator is left alone."""
    module = module.double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for value in module.state_dict().values():
        value.copy_(0.5 * torch.randn(value.shape, dtype=torch.float64, generator=generator))
    for layer in module.modules():
        if hasattr(layer, "running_var"):
            layer.running_var.abs_().add_(0.5)
    return module


def _block(in_channels: int, width: int, stride: int, seed: int) -> BasicBlock:
    return _fill(BasicBlock(in_channels, width, stride=stride, norm={"kind": "frozen"}, stride_in="3x3"), seed)


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


def _wrong_block(formula: Callable[[Tensor, BasicBlock], Tensor]) -> Callable[[Tensor, _Named], Tensor]:
    return lambda x, block: formula(x, block.module)


_BLOCK_MISTAKES = {
    "the shortcut is missing: that is what makes the block residual; add it before the last ReLU": (
        _wrong_block(lambda x, b: F.relu(_branch(x, b)))
    ),
    "the last ReLU is missing; it comes after the sum": _wrong_block(lambda x, b: _branch(x, b) + _identity(x, b)),
    "the last ReLU comes after the sum; you applied it to the branch and then added": (
        _wrong_block(lambda x, b: F.relu(_branch(x, b)) + _identity(x, b))
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

# ---- 04-3 ---------------------------------------------------------------------------------------------------------

_SIZE = "on odd sizes a doubled map does not fit: upsample to size=fine.shape[-2:] instead of by scale_factor=2"


def top_down(function: Callable[[list[Tensor]], list[Tensor]]) -> None:
    """Exercise 04-3: `top_down(laterals)`, maps (B, d, H, W) from fine to coarse, gives the merged maps in this order.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("04-3", lambda *maps: function(list(maps)), reference=_top_down, mistakes=_TOP_DOWN_MISTAKES)
    fine = torch.arange(16.0).reshape(1, 1, 4, 4)
    coarse, top = torch.tensor([[[[10.0, 20.0], [30.0, 40.0]]]]), torch.tensor([[[[100.0]]]])
    check.shape("maps of 4×4, 2×2 and 1×1", fine, coarse, top)
    below = torch.tensor([[[[110.0, 120.0], [130.0, 140.0]]]])
    rows = [[110, 111, 122, 123], [114, 115, 126, 127], [138, 139, 150, 151], [142, 143, 154, 155]]
    worked_out = (torch.tensor([[rows]]).float(), below, top)
    check.value("maps of 4×4, 2×2 and 1×1", fine, coarse, top, expected=worked_out)
    odd = [_random(2, 3, *size, seed=k) for k, size in enumerate(((13, 9), (7, 5), (4, 3), (2, 2)))]
    check.value("maps of odd sizes: 13×9, 7×5, 4×3, 2×2", *odd, hint=_SIZE)
    check.value("a single map", top, expected=(top,))
    check.value("no images (B = 0)", *(m[:0] for m in odd), hint=_NO_IMAGES)
    check.gradient("the gradient by the finest map", *odd)
    check.done()


def _up(coarse: Tensor, fine: Tensor, **options) -> Tensor:
    return F.interpolate(coarse, size=fine.shape[-2:], **{"mode": "nearest", **options})


def _merge(laterals: Sequence[Tensor], step: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    """From the coarsest to the finest, `step(fine lateral, merged coarse)`."""
    merged = [laterals[-1]]
    for lateral in reversed(laterals[:-1]):
        merged.insert(0, step(lateral, merged[0]))
    return merged


def _top_down(*laterals: Tensor) -> list[Tensor]:
    return _merge(laterals, lambda fine, coarse: fine + _up(coarse, fine))


def _bottom_up(*laterals: Tensor) -> list[Tensor]:
    merged = [laterals[0]]
    for lateral in laterals[1:]:
        merged.append(lateral + F.interpolate(merged[-1], size=lateral.shape[-2:], mode="nearest"))
    return merged


def _one_level_down(*laterals: Tensor) -> list[Tensor]:
    return [*(fine + _up(coarse, fine) for fine, coarse in pairwise(laterals)), laterals[-1]]


def _all_levels_down(*laterals: Tensor) -> list[Tensor]:
    merged = [laterals[-1]]
    for lateral in reversed(laterals[:-1]):
        merged.insert(0, lateral + sum(_up(coarse, lateral) for coarse in merged))
    return merged


_TOP_DOWN_MISTAKES = {
    "the maps came back as they were: every map but the coarsest gets the upsampled coarser one added": (
        lambda *maps: list(maps)
    ),
    "you added the coarser *lateral*; add the coarser *merged* map, or the top is heard one level down only": (
        _one_level_down
    ),
    "upsample by mode='nearest'; you blended neighbours, which the 3×3 convolution behind it is there for": (
        lambda *maps: _merge(maps, lambda a, b: a + _up(b, a, mode="bilinear", align_corners=False))
    ),
    "upsample by mode='nearest'; you blended neighbours (align_corners=True)": (
        lambda *maps: _merge(maps, lambda a, b: a + _up(b, a, mode="bilinear", align_corners=True))
    ),
    "the lateral is missing: add the upsampled map to it, or all detail of the fine map is lost": (
        lambda *maps: _merge(maps, lambda a, b: _up(b, a))
    ),
    "you went from fine to coarse; the top-down path starts at the coarsest map": _bottom_up,
    "the result is from coarse to fine; give it back from fine to coarse, like the laterals": (
        lambda *maps: _top_down(*maps)[::-1]
    ),
    "the coarsest map is missing; it has nothing above it, but it belongs to the pyramid": (
        lambda *maps: _top_down(*maps)[:-1]
    ),
    "lateral and upsampled map are added, not averaged": (lambda *maps: _merge(maps, lambda a, b: (a + _up(b, a)) / 2)),
    "lateral and upsampled map are added, not concatenated: d channels come in, d go out": (
        lambda *maps: _merge(maps, lambda a, b: torch.cat((a, _up(b, a)), 1))
    ),
    "a merged map has heard of *all* coarser maps already; you added them once more": _all_levels_down,
}

# ---- 04-4 ---------------------------------------------------------------------------------------------------------

_SOURCE = "P6 is made of C5, the backbone's last map, with p6's strided convolution; P5 has other channels"


def fpn_forward(function: Callable[..., list[Tensor]]) -> None:
    """Exercise 04-4: `fpn_forward(features, lateral, output, p6, p7)`, maps [C3, C4, C5], gives [P3, …, P7].

    Raises CheckFailed at the first wrong answer.
    """

    def solve(c3: Tensor, c4: Tensor, c5: Tensor, fpn: _Named) -> list[Tensor]:
        m = fpn.module
        return function([c3, c4, c5], list(m.lateral), list(m.output), m.p6, m.p7)

    check = Exercise("04-4", solve, reference=_wrong_fpn(), mistakes=_FPN_MISTAKES)
    by_hand = _Named("lateral and output do nothing, p6 takes −1, p7 takes 1", _plain_fpn())
    c3, c4 = torch.ones(1, 1, 4, 4), torch.tensor([[[[10.0, 20.0], [30.0, 40.0]]]])
    c5 = torch.full((1, 1, 1, 1), 100.0)
    check.shape("one channel, maps of 4×4, 2×2 and 1×1", c3, c4, c5, by_hand, hint="[P3, P4, P5, P6, P7] are five maps")
    p4 = c4 + 100
    p3 = 1 + p4.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    worked_out = (p3, p4, c5, -c5, 0 * c5)
    check.value("one channel, maps of 4×4, 2×2 and 1×1", c3, c4, c5, by_hand, expected=worked_out)
    maps = [_random(2, c, *size, seed=c) for c, size in ((3, (8, 12)), (5, (4, 6)), (4, (2, 3)))]
    check.value("random maps and weights", *maps, _named_fpn(3, 5, 4, seed=1))
    odd = [_random(2, c, *size, seed=c) for c, size in ((3, (13, 9)), (5, (7, 5)), (6, (4, 3)))]
    check.value(
        "odd sizes, C5 of other channels than P5", *odd, _named_fpn(3, 5, 6, seed=2), hint=f"{_SOURCE}; {_SIZE}"
    )
    check.value("no images (B = 0)", *(m[:0] for m in maps), _named_fpn(3, 5, 4, seed=1), hint=_NO_IMAGES)
    check.gradient("the gradient by C3", *maps, _named_fpn(3, 5, 4, seed=1))
    check.done()


def _named_fpn(c3: int, c4: int, c5: int, seed: int) -> _Named:
    channels = {"c3": c3, "c4": c4, "c5": c5}
    fpn = _fill(FPN(channels, channels=4, extra="p6p7_from_c5"), seed)
    return _Named("modules of random weights, d = 4", fpn)


def _plain_fpn() -> FPN:
    fpn = FPN({"c3": 1, "c4": 1, "c5": 1}, channels=1, extra="p6p7_from_c5").requires_grad_(False)
    for conv, value in [*((c, 1.0) for c in (*fpn.lateral, *fpn.output, fpn.p7)), (fpn.p6, -1.0)]:
        middle = conv.kernel_size[0] // 2
        conv.weight.zero_()[0, 0, middle, middle] = value
    return fpn


def _wrong_fpn(
    *,
    merge: Callable[..., list[Tensor]] = _top_down,
    smooth: Callable[[list, list[Tensor]], list[Tensor]] = lambda convs, maps: [c(m) for c, m in zip(convs, maps)],
    top: Callable[[FPN, Tensor, Tensor], list[Tensor]] = lambda m, c5, p5: [p := m.p6(c5), m.p7(F.relu(p))],
) -> Callable[..., list[Tensor]]:
    """A pyramid with one part replaced; with none it is the right one."""

    def forward(c3: Tensor, c4: Tensor, c5: Tensor, fpn: _Named) -> list[Tensor]:
        m = fpn.module
        laterals = [conv(x) for conv, x in zip(m.lateral, (c3, c4, c5))]
        maps = smooth(list(m.output), merge(*laterals))
        return [*maps, *top(m, c5, maps[-1])]

    return forward


def _smooth_first(c3: Tensor, c4: Tensor, c5: Tensor, fpn: _Named) -> list[Tensor]:
    """The output convolution inside the top-down path: the next finer map hears of the smoothed one."""
    m = fpn.module
    maps = [m.output[2](m.lateral[2](c5))]
    for k, x in ((1, c4), (0, c3)):
        lateral = m.lateral[k](x)
        maps.insert(0, m.output[k](lateral + _up(maps[0], lateral)))
    return [*maps, p6 := m.p6(c5), m.p7(F.relu(p6))]


_FPN_MISTAKES = {
    "the top-down path is missing: add the upsampled coarser map to each lateral": _wrong_fpn(
        merge=lambda *maps: list(maps)
    ),
    "you upsampled the coarser *lateral*; the top-down path goes on with the merged map": _wrong_fpn(
        merge=_one_level_down
    ),
    "the 3×3 output convolutions are missing": _wrong_fpn(smooth=lambda convs, maps: maps),
    "smooth each merged map at the end; you passed the smoothed map down, which convolves it again at each level": (
        _smooth_first
    ),
    "you smoothed the laterals and merged afterwards; the output convolution comes last": _wrong_fpn(
        merge=lambda *maps: list(maps),
        smooth=lambda convs, maps: _top_down(*(conv(m) for conv, m in zip(convs, maps))),
    ),
    "the output convolutions are in the wrong order: the first belongs to P3, the finest": _wrong_fpn(
        smooth=lambda convs, maps: [c(m) for c, m in zip(reversed(convs), maps)]
    ),
    "you made P6 of P5; here it is made of C5": _wrong_fpn(top=lambda m, c5, p5: [p := m.p6(p5), m.p7(F.relu(p))]),
    "the ReLU between P6 and P7 is missing; two convolutions in a row are one linear map": _wrong_fpn(
        top=lambda m, c5, p5: [p := m.p6(c5), m.p7(p)]
    ),
    "the ReLU belongs to the input of p7; P6 itself goes to the heads as it is": _wrong_fpn(
        top=lambda m, c5, p5: [p := F.relu(m.p6(c5)), m.p7(p)]
    ),
    "P7 comes without a ReLU behind it; the one ReLU is between P6 and P7": _wrong_fpn(
        top=lambda m, c5, p5: [p := m.p6(c5), F.relu(m.p7(F.relu(p)))]
    ),
    "P6 and P7 are missing: the pyramid has five maps": _wrong_fpn(top=lambda m, c5, p5: []),
    "P7 is missing: it is made of P6 by p7": _wrong_fpn(top=lambda m, c5, p5: [m.p6(c5)]),
    "the list is from coarse to fine; give it back from P3 to P7": (lambda *arguments: _wrong_fpn()(*arguments)[::-1]),
    "you upsampled by blending neighbours; the top-down path repeats them (mode='nearest')": _wrong_fpn(
        merge=lambda *maps: _merge(maps, lambda a, b: a + _up(b, a, mode="bilinear", align_corners=False))
    ),
}
