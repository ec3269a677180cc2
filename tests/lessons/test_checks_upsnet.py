"""Lesson 12's checks of UPSNet's head pass right solutions, however they are written, and name each mistake."""

import torch
from torch import Tensor

from course_lib.lessons import checks
from course_lib.panoptic import upsnet_head
from tests.lessons.exercises import exercise_tests

# ---- 12-3 ---------------------------------------------------------------------------------------------------------


def inside(box: Tensor, height: int, width: int, *, at: float = 0.5, more: int = 0, swap: bool = False) -> Tensor:
    """The pixels of a box, (H, W) bool."""
    x1, y1, x2, y2 = box.tolist()
    if swap:
        x1, y1, x2, y2 = y1, x1, y2, x2
    rows, columns = torch.arange(height) + at, torch.arange(width) + at
    return ((rows >= y1) & (rows < y2 + more))[:, None] & ((columns >= x1) & (columns < x2 + more))


def loop(things, boxes, labels, pasted, *, term=None, add=torch.add, outside=0.0, area=inside, order=(0, 1)):
    own = [
        (things[label] if term is None else term(things, label, n)).where(area(box, *things.shape[1:]), outside)
        for n, (box, label) in enumerate(zip(boxes, labels))
    ]
    own = torch.stack(own) if own else pasted
    return tuple((own, add(own, pasted))[i] for i in order)


def by_slices(things, boxes, labels, pasted):
    """Whole rows and columns from the first centre inside to the last."""
    own = torch.zeros_like(pasted, dtype=things.dtype)
    for n, (box, label) in enumerate(zip(boxes, labels)):
        x1, y1, x2, y2 = (box - 0.5).ceil().clamp(min=0).int().tolist()
        own[n, y1:y2, x1:x2] = things[label, y1:y2, x1:x2]
    return own, own + pasted


def by_library(things, boxes, labels, pasted):
    """With masks that say 0 the library's channels are the semantic terms."""
    flat = torch.zeros(len(boxes), 1, 1, dtype=things.dtype)
    own = upsnet_head.panoptic_logits(torch.cat((things[:1], things)), boxes.to(things.dtype), labels, flat, 1)[1:-1]
    return own, own + pasted


def whole_pixels(box: Tensor, height: int, width: int) -> Tensor:
    return inside(box.trunc(), height, width)


def looped(**changes):
    return lambda *arguments: loop(*arguments, **changes)


def pixels(**changes):
    return looped(area=lambda *arguments: inside(*arguments, **changes))


def by_mask(things, boxes, labels, pasted):
    """Where the mask is not 0, in place of the box."""
    own = things[labels] * (pasted != 0)
    return own, own + pasted


def uncut(things, boxes, labels, pasted):
    return loop(things, boxes, labels, pasted)[0], things[labels] + pasted


def without_edge(box: Tensor, height: int, width: int) -> Tensor:
    """The left and the upper edge exclusive."""
    return inside(box + torch.tensor([1e-4, 1e-4, 0, 0]), height, width)


RIGHT_INSTANCES = {"loop": loop, "slices": by_slices, "library": by_library}
WRONG_INSTANCES = {
    "everywhere": (looped(area=lambda box, h, w: torch.ones(h, w, dtype=torch.bool)), "inside the box alone"),
    "−∞": (looped(outside=-torch.inf), "not −∞"),
    "x and y": (pixels(swap=True), "x is the column"),
    "corners": (pixels(at=0.0), "yours asks its corner"),
    "whole pixels": (looped(area=whole_pixels), "cuts the box to whole pixels"),
    "one too many": (pixels(more=1), "a column and a row too many"),
    "the largest": (looped(term=lambda things, label, n: things.amax(0)), "not the largest"),
    "the first": (looped(term=lambda things, label, n: things[n]), "not of the first classes"),
    "times": (looped(add=torch.mul), "is added to the semantic one"),
    "probability": (looped(add=lambda own, pasted: own + pasted.sigmoid()), "not its probability"),
    "mask alone": (looped(add=lambda own, pasted: pasted), "lacks the semantic term"),
    "no mask": (looped(add=lambda own, pasted: own), "lacks the mask's logit"),
    "swapped": (looped(order=(1, 0)), "the semantic term comes first"),
    "by the mask": (by_mask, "the box says what is inside"),
    "uncut": (uncut, "the second result is not cut"),
    "background": (looped(term=lambda things, label, n: things[label - 1]), "labels count from 0"),
    "left edge": (looped(area=without_edge), "only the right and the lower edge"),
    "one": (looped(order=(1,)), "two tensors"),
    "detached": (lambda things, *rest: loop(things.detach(), *rest), "no gradient reaches the input"),
}

# ---- 12-4 ---------------------------------------------------------------------------------------------------------


def join(stuff, things, own, instances, *, unknown=lambda k, o, n: k.amax(0) - o.amax(0), order="sni", empty=None):
    height, width = stuff.shape[1:]
    if len(own):
        last = unknown(things, own, instances)
    else:
        last = torch.full((height, width), -torch.inf if empty is None else empty)
    parts = {"s": stuff, "n": instances, "i": last[None], "k": things}
    return torch.cat([parts[part] for part in order])


def lowest_of_differences(stuff, things, own, instances):
    """Each instance's difference, the least of them; of none the least is +∞, so it is set."""
    if not len(own):
        return torch.cat((stuff, torch.full_like(stuff[:1], -torch.inf)))
    last = (things.amax(0) - own).amin(0, keepdim=True)
    return torch.cat((stuff, instances, last))


def joined(**changes):
    return lambda *arguments: join(*arguments, **changes)


def straight(stuff, things, own, instances):
    return torch.cat((stuff, instances, (things.amax(0) - own.amax(0))[None]))


RIGHT_CHANNELS = {"cat": join, "differences": lowest_of_differences}
WRONG_CHANNELS = {
    "no unknown": (joined(order="sn"), "there is a channel more"),
    "things too": (joined(order="skni"), "are no channels of their own"),
    "things first": (joined(order="nsi"), "stuff comes first"),
    "unknown first": (joined(order="isn"), "unknown is the last channel"),
    "the largest thing": (joined(unknown=lambda k, o, n: k.amax(0)), "is subtracted"),
    "channels": (joined(unknown=lambda k, o, n: k.amax(0) - n.amax(0)), "not the channels"),
    "a sum": (joined(unknown=lambda k, o, n: k.amax(0) - o.sum(0)), "not their sum"),
    "turned round": (joined(unknown=lambda k, o, n: o.amax(0) - k.amax(0)), "the sign of the opposite"),
    "cut": (joined(unknown=lambda k, o, n: (k.amax(0) - o.amax(0)).relu()), "leave negative numbers"),
    "semantic terms": (lambda s, k, o, n: torch.cat((s, o, join(s, k, o, n)[-1:])), "is its semantic term alone"),
    "nobody": (joined(empty=0.0), "without instances nothing is unknown"),
    "detached": (lambda stuff, *rest: join(stuff.detach(), *rest), "no gradient reaches the input"),
}

TestUPSNet = exercise_tests(
    {
        "12-3: 8": (checks.instance_logits, RIGHT_INSTANCES, WRONG_INSTANCES),
        "12-4: 7": (checks.panoptic_logits, RIGHT_CHANNELS, WRONG_CHANNELS),
    }
)


def test_the_exercises_together_are_the_librarys_head() -> None:
    """On flat masks, where pasting is the same however it is done."""
    generator = torch.Generator().manual_seed(0)
    semantic = torch.randn(6, 9, 11, generator=generator)
    boxes = torch.tensor([[1.0, 1, 6.5, 5], [3.2, 2, 9, 8], [0, 0, 11, 9]])
    labels, says = torch.tensor([2, 0, 3]), torch.tensor([1.5, -0.5, 2.0])
    pasted = torch.stack([says[n] * inside(box, 9, 11) for n, box in enumerate(boxes)])
    own, instances = loop(semantic[2:], boxes, labels, pasted)
    wanted = upsnet_head.panoptic_logits(semantic, boxes, labels, says[:, None, None].expand(3, 4, 4), 2)
    torch.testing.assert_close(join(semantic[:2], semantic[2:], own, instances), wanted)
    none = join(semantic[:2], semantic[2:], own[:0], instances[:0])
    assert torch.equal(none, upsnet_head.panoptic_logits(semantic, boxes[:0], labels[:0], torch.zeros(0, 4, 4), 2))


def test_an_error_without_instances_comes_with_advice() -> None:
    try:
        checks.panoptic_logits(straight)
    except (IndexError, RuntimeError) as error:
        assert "stuff decides alone" in "".join(error.__notes__)
    else:
        raise AssertionError("amax of nothing did not fail")
