"""Checks of lesson 12's second half: the channels of UPSNet's panoptic head."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.lessons.checks.base import Exercise
from course_lib.lessons.checks.inputs import normal

# ---- 12-3 ---------------------------------------------------------------------------------------------------------


def instance_logits(function: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """Exercise 12-3: `instance_logits(things, boxes, labels, pasted)`: an instance's semantic term, and its channel.

    things (K, H, W), boxes (N, 4) xyxy pixels, labels (N,), pasted (N, H, W) mask logits, 0 outside the box → twice
    (N, H, W). Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("12-3", function, reference=_instances, mistakes=_INSTANCE_MISTAKES)
    what = "cars and persons on six pixels in a row, a car's box over four of them"
    check.shape(what, *_ROW, hint="two tensors, each with a map for each instance: (N, H, W)")
    own = torch.tensor([[[4.0, 4, 4, 4, 0, 0]]])
    check.value(what, *_ROW, expected=(own, torch.tensor([[[7.0, 7, 1, 5, 0, 0]]])))
    flat = torch.ones(1, 3, 6), torch.tensor([[1.5, 0.6, 4.5, 9.0]]), torch.tensor([0]), torch.zeros(1, 3, 6)
    inside = torch.tensor([[[0.0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0]]])
    check.value("a box from 1.5 to 4.5 and from 0.6 to below the image", *flat, expected=(inside, inside), hint=_CENTRE)
    for seed in range(3):
        check.value("five instances, six classes, 12 × 14 pixels", *_instances_of(seed))
    check.gradient("five instances", *_instances_of(0))
    things, boxes, labels, pasted = _instances_of(1)
    check.value("no instances (N = 0)", things, boxes[:0], labels[:0], pasted[:0], hint="then both are (0, H, W)")
    check.done()


_CENTRE = "a pixel is inside when its centre is: at j + 0.5; only the right and the lower edge are exclusive"
_ROW = (
    torch.tensor([[[4.0, 4, 4, 4, 1, -1]], [[0, 0, 0, 3, 3, 0]]]),
    torch.tensor([[0.0, 0, 4, 1]]),
    torch.tensor([0]),
    torch.tensor([[[3.0, 3, -3, 1, 0, 0]]]),
)


def _instances_of(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits of six classes, five boxes of which some stick out, and mask logits that are 0 outside them."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(5, 2, dtype=torch.float64, generator=generator) * 10 - 2
    sides = torch.rand(5, 2, dtype=torch.float64, generator=generator) * 7 + 2
    boxes, labels = torch.cat((corner, corner + sides), 1), torch.randint(0, 6, (5,), generator=generator)
    pasted = normal(5, 12, 14, seed=seed + 10) * 2
    return normal(6, 12, 14, seed=seed), boxes, labels, pasted * _inside(boxes, 12, 14)


def _inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """The pixels whose centre is in each box: (N, H, W) bool."""
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)  # (N, 1) each
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    return ((y >= y1) & (y < y2))[:, :, None] & ((x >= x1) & (x < x2))[:, None]


def _corners(boxes: Tensor, height: int, width: int) -> Tensor:
    """The pixels whose left upper corner is in each box."""
    return _inside(boxes + 0.5, height, width)


def _with_edge(boxes: Tensor, height: int, width: int) -> Tensor:
    """The same with a column and a row more."""
    return _inside(boxes + boxes.new_tensor((0, 0, 1, 1)), height, width)


def _said(
    *,
    inside: Callable[[Tensor, int, int], Tensor] = _inside,
    of_class: Callable[[Tensor, Tensor], Tensor] = lambda things, labels: things[labels],
    outside: Callable[[Tensor, Tensor], Tensor] = lambda own, inside: own * inside,
    channel: Callable[[Tensor, Tensor], Tensor] = torch.add,
    answer: Callable[[Tensor, Tensor], tuple] = lambda own, whole: (own, whole),
) -> Callable:
    """A solution in its steps, one of them replaced."""

    def solution(things: Tensor, boxes: Tensor, labels: Tensor, pasted: Tensor) -> tuple[Tensor, Tensor]:
        own = outside(of_class(things, labels), inside(boxes, *things.shape[1:]))
        return answer(own, channel(own, pasted))

    return solution


_instances = _said()
_INSTANCE_MISTAKES = {
    "the box says what is inside, not the mask: its logit may be 0 there too": lambda things, boxes, labels, pasted: (
        things[labels] * (pasted != 0),
        things[labels] * (pasted != 0) + pasted,
    ),
    "the second result is not cut to the box: outside an instance says 0 in both": (
        lambda things, boxes, labels, pasted: (
            _instances(things, boxes, labels, pasted)[0],
            things[labels] + pasted,
        )
    ),
    "labels count from 0, and things has no channel for background: things[labels]": _said(
        of_class=lambda things, labels: things[labels - 1]
    ),
    "the semantic logit counts inside the box alone; outside an instance says 0": _said(
        inside=lambda boxes, height, width: torch.ones(len(boxes), height, width, dtype=torch.bool)
    ),
    "outside its box an instance says 0, not −∞": _said(
        outside=lambda own, inside: own.masked_fill(~inside, -torch.inf)
    ),
    "x is the column, y the row: a box is (x1, y1, x2, y2)": _said(
        inside=lambda boxes, height, width: _inside(boxes[:, [1, 0, 3, 2]], height, width)
    ),
    "a pixel is inside when its centre is, at + 0.5; yours asks its corner": _said(inside=_corners),
    "the centres decide as they are; yours cuts the box to whole pixels first": _said(
        inside=lambda boxes, height, width: _inside(boxes.trunc(), height, width)
    ),
    "the right and the lower edge are exclusive; yours has a column and a row too many": _said(inside=_with_edge),
    "take the logit of the instance's own class, things[labels], not the largest": _said(
        of_class=lambda things, labels: things.amax(0).expand(len(labels), -1, -1)
    ),
    "take the logit of the instance's own class, things[labels], not of the first classes": _said(
        of_class=lambda things, labels: things[: len(labels)]
    ),
    "a mask's logit is added to the semantic one: both are logits of the same question": _said(channel=torch.mul),
    "the mask's logit is added, not its probability: a cell that says no must be able to lower the sum": _said(
        channel=lambda own, pasted: own + pasted.sigmoid()
    ),
    "the second result lacks the semantic term: it is the sum of both": _said(channel=lambda own, pasted: pasted),
    "the second result lacks the mask's logit: it is the sum of both": _said(channel=lambda own, pasted: own),
    "the semantic term comes first, the sum second": _said(answer=lambda own, whole: (whole, own)),
}

# ---- 12-4 ---------------------------------------------------------------------------------------------------------


def panoptic_logits(function: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 12-4: `panoptic_logits(stuff, things, own, instances)`: all channels, (S + N + 1, H, W).

    stuff (S, H, W), things (K, H, W), and of 12-3 the semantic terms and the channels, (N, H, W) each; without
    instances the last channel is −∞. Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("12-4", function, reference=_channels, mistakes=_CHANNEL_MISTAKES)
    things, *others = _ROW
    row = torch.full((1, 1, 6), 2.0), things, *_instances(things, *others)
    what = "one kind of stuff, one car, six pixels in a row"
    check.shape(what, *row, hint="stuff, then the instances, then one channel for unknown: (S + N + 1, H, W)")
    expected = torch.tensor([[[2.0, 2, 2, 2, 2, 2]], [[7, 7, 1, 5, 0, 0]], [[0, 0, 0, 0, 3, 0]]])
    check.value(what, *row, expected=expected)
    for seed in range(3):
        check.value("two kinds of stuff, five instances", *_channels_of(seed))
    check.gradient("five instances", *_channels_of(0))
    stuff, things, own, instances = _channels_of(1)
    check.value("no instances (N = 0)", stuff, things, own[:0], instances[:0], hint=_NOBODY)
    check.done()


_NOBODY = "without instances nothing is unknown: the last channel is −∞, and stuff decides alone"


def _channels_of(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    things, *others = _instances_of(seed)
    return normal(2, 12, 14, seed=seed + 20), things, *_instances(things, *others)


def _joined(
    *,
    unknown: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda things, own, instances: things.amax(0) - own.amax(0),
    order: Callable[[Tensor, Tensor, Tensor, Tensor], tuple] = lambda s, k, n, u: (s, n, u),
    nobody: float = -torch.inf,
) -> Callable:
    """A solution in its steps, one of them replaced."""

    def solution(stuff: Tensor, things: Tensor, own: Tensor, instances: Tensor) -> Tensor:
        last = unknown(things, own, instances) if len(own) else torch.full_like(stuff[0], nobody)
        return torch.cat(order(stuff, things, instances, last[None]))

    return solution


_channels = _joined()
_CHANNEL_MISTAKES = {
    "an instance's channel is the sum, instances; own is its semantic term alone, for unknown": (
        lambda stuff, things, own, instances: torch.cat((stuff, own, _channels(stuff, things, own, instances)[-1:]))
    ),
    "there is a channel more: unknown, where the semantic head sees a thing that no instance claims": _joined(
        order=lambda s, k, n, u: (s, n)
    ),
    "the things' semantic logits are no channels of their own; they went into the instances and into unknown": _joined(
        order=lambda s, k, n, u: (s, k, n, u)
    ),
    "stuff comes first, then the instances": _joined(order=lambda s, k, n, u: (n, s, u)),
    "unknown is the last channel": _joined(order=lambda s, k, n, u: (u, s, n)),
    "what the instances took over is subtracted; yours is the largest thing alone": _joined(
        unknown=lambda things, own, instances: things.amax(0)
    ),
    "subtract the semantic terms, not the channels: whatever the mask says, the box answers for this thing": _joined(
        unknown=lambda things, own, instances: things.amax(0) - instances.amax(0)
    ),
    "subtract the largest of the semantic terms, not their sum": _joined(
        unknown=lambda things, own, instances: things.amax(0) - own.sum(0)
    ),
    "unknown is the largest thing minus the largest instance; yours has the sign of the opposite": _joined(
        unknown=lambda things, own, instances: own.amax(0) - things.amax(0)
    ),
    "unknown is no probability and has no lowest value: leave negative numbers as they are": _joined(
        unknown=lambda things, own, instances: (things.amax(0) - own.amax(0)).clamp(min=0)
    ),
    _NOBODY: _joined(nobody=0.0),
}
