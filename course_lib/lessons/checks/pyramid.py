"""Checks of lesson 04, the pyramid: the top-down path, and a whole feature pyramid."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.lessons.checks.base import CheckFailed, Exercise
from course_lib.lessons.checks.inputs import NO_IMAGES, Named, fill, normal
from course_lib.nn.fpn import FPN

# ---- 04-3 ---------------------------------------------------------------------------------------------------------

_LIST_CHANGED = "your function changed the list `laterals`, which still belongs to whoever passed it in: make a new one"
_SIZE = "on odd sizes a doubled map does not fit: upsample to size=fine.shape[-2:] instead of by scale_factor=2"


def top_down(function: Callable[[list[Tensor]], list[Tensor]]) -> None:
    """Exercise 04-3: `top_down(laterals)`, maps (B, d, H, W) from fine to coarse, gives the merged maps in this order.

    Raises CheckFailed at the first wrong answer.
    """

    def solve(*maps: Tensor) -> list[Tensor]:
        laterals = list(maps)
        merged = function(laterals)
        if len(laterals) != len(maps) or any(a is not b for a, b in zip(laterals, maps)):
            raise CheckFailed(f"04-3\n  Hint: {_LIST_CHANGED}.")
        return merged

    check = Exercise("04-3", solve, reference=_top_down, mistakes=_TOP_DOWN_MISTAKES)
    fine = torch.arange(16.0).reshape(1, 1, 4, 4)
    coarse, top = torch.tensor([[[[10.0, 20.0], [30.0, 40.0]]]]), torch.tensor([[[[100.0]]]])
    check.shape("maps of 4×4, 2×2 and 1×1", fine, coarse, top)
    below = torch.tensor([[[[110.0, 120.0], [130.0, 140.0]]]])
    rows = [[110, 111, 122, 123], [114, 115, 126, 127], [138, 139, 150, 151], [142, 143, 154, 155]]
    worked_out = (torch.tensor([[rows]]).float(), below, top)
    check.value("maps of 4×4, 2×2 and 1×1", fine, coarse, top, expected=worked_out)
    odd = [normal(2, 3, *size, seed=k) for k, size in enumerate(((13, 9), (7, 5), (4, 3), (2, 2)))]
    check.value("maps of odd sizes: 13×9, 7×5, 4×3, 2×2", *odd, hint=_SIZE)
    check.value("a single map", top, expected=(top,))
    check.value("no images (B = 0)", *(m[:0] for m in odd), hint=NO_IMAGES)
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


def _top_alone(*laterals: Tensor) -> list[Tensor]:
    return [*(fine + _up(laterals[-1], fine) for fine in laterals[:-1]), laterals[-1]]


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
    "mode='nearest-exact' picks other cells where the sizes are odd; the pyramid has mode='nearest'": (
        lambda *maps: _merge(maps, lambda a, b: a + _up(b, a, mode="nearest-exact"))
    ),
    "you added the coarsest map to each; add the merged map of the next coarser level": _top_alone,
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

    def solve(c3: Tensor, c4: Tensor, c5: Tensor, fpn: Named) -> list[Tensor]:
        m = fpn.module
        return function([c3, c4, c5], list(m.lateral), list(m.output), m.p6, m.p7)

    check = Exercise("04-4", solve, reference=_wrong_fpn(), mistakes=_FPN_MISTAKES)
    by_hand = Named("lateral and output do nothing, p6 takes −1, p7 takes 1", _plain_fpn())
    c3, c4 = torch.ones(1, 1, 4, 4), torch.tensor([[[[10.0, 20.0], [30.0, 40.0]]]])
    c5 = torch.full((1, 1, 1, 1), 100.0)
    check.shape("one channel, maps of 4×4, 2×2 and 1×1", c3, c4, c5, by_hand, hint="[P3, P4, P5, P6, P7] are five maps")
    p4 = c4 + 100
    p3 = 1 + p4.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    worked_out = (p3, p4, c5, -c5, 0 * c5)
    check.value("one channel, maps of 4×4, 2×2 and 1×1", c3, c4, c5, by_hand, expected=worked_out)
    maps = [normal(2, c, *size, seed=c) for c, size in ((3, (8, 12)), (5, (4, 6)), (4, (2, 3)))]
    check.value("random maps and weights", *maps, _named_fpn(3, 5, 4, seed=1))
    odd = [normal(2, c, *size, seed=c) for c, size in ((3, (13, 9)), (5, (7, 5)), (6, (4, 3)))]
    check.value(
        "odd sizes, C5 of other channels than P5", *odd, _named_fpn(3, 5, 6, seed=2), hint=f"{_SOURCE}; {_SIZE}"
    )
    check.value("no images (B = 0)", *(m[:0] for m in maps), _named_fpn(3, 5, 4, seed=1), hint=NO_IMAGES)
    check.gradient("the gradient by C3", *maps, _named_fpn(3, 5, 4, seed=1))
    check.done()


def _named_fpn(c3: int, c4: int, c5: int, seed: int) -> Named:
    channels = {"c3": c3, "c4": c4, "c5": c5}
    fpn = fill(FPN(channels, channels=4, extra="p6p7_from_c5"), seed)
    return Named("modules of random weights, d = 4", fpn)


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

    def forward(c3: Tensor, c4: Tensor, c5: Tensor, fpn: Named) -> list[Tensor]:
        m = fpn.module
        laterals = [conv(x) for conv, x in zip(m.lateral, (c3, c4, c5))]
        maps = smooth(list(m.output), merge(*laterals))
        return [*maps, *top(m, c5, maps[-1])]

    return forward


def _smooth_first(c3: Tensor, c4: Tensor, c5: Tensor, fpn: Named) -> list[Tensor]:
    """The output convolution inside the top-down path: the next finer map hears of the smoothed one."""
    m = fpn.module
    maps = [m.output[2](m.lateral[2](c5))]
    for k, x in ((1, c4), (0, c3)):
        lateral = m.lateral[k](x)
        maps.insert(0, m.output[k](lateral + _up(maps[0], lateral)))
    return [*maps, p6 := m.p6(c5), m.p7(F.relu(p6))]


def _p6_of_merged(c3: Tensor, c4: Tensor, c5: Tensor, fpn: Named) -> list[Tensor]:
    m = fpn.module
    p6 = m.p6(m.lateral[2](c5))
    return [*_wrong_fpn(top=lambda m, c5, p5: [])(c3, c4, c5, fpn), p6, m.p7(F.relu(p6))]


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
    "you made P6 of M5, the lateral of C5; here it is made of C5 itself": _p6_of_merged,
    "there is no ReLU on the pyramid's outputs: P3, P4 and P5 are what the 3×3 convolutions give": _wrong_fpn(
        smooth=lambda convs, maps: [F.relu(c(m)) for c, m in zip(convs, maps)]
    ),
    "there is no ReLU on the laterals: what is added may be negative": _wrong_fpn(
        merge=lambda *maps: _top_down(*map(F.relu, maps))
    ),
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
