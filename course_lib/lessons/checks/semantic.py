"""Checks of lesson 11, first part: the labels and the loss of a semantic head."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.lessons.checks.base import Exercise
from course_lib.lessons.checks.inputs import normal
from course_lib.ops import semantic
from course_lib.ops.semantic import IGNORE

# ---- 11-1 ---------------------------------------------------------------------------------------------------------


def semantic_map(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 11-1: `semantic_map(ids, listed, classes)`: the class of each pixel of a panoptic map, 255 for none.

    ids (H, W) int64, listed (N,) the segments' ids, classes (N,) 0 … S. Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("11-1", function, reference=_semantic_map, mistakes=_MAP_MISTAKES)
    ids = torch.tensor([[7, 7, 0, 3], [9, 9, 3, 3]])
    listed, classes = torch.tensor([3, 7, 9]), torch.tensor([2, 0, 0])
    expected = torch.tensor([[0, 0, 255, 2], [0, 0, 2, 2]])
    what = "two things, 7 and 9, stuff 3 of class 2, and a pixel of void"
    check.shape(what, ids, listed, classes, hint="one class a pixel, (H, W); an id is a name, no place in a list")
    check.dtype(what, ids, listed, classes, hint="class numbers are int64, as ids are")
    check.value(what, ids, listed, classes, expected=expected)
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(1, 256**3, (12,), generator=generator)
    many = torch.cat((colours, torch.zeros(1, dtype=torch.int64)))[torch.randint(0, 13, (20, 30), generator=generator)]
    check.value("12 segments with ids up to 16 million", many, colours, torch.randint(0, 5, (12,), generator=generator))
    check.value("no segments (N = 0)", torch.zeros_like(ids), listed[:0], classes[:0], hint="then all pixels are 255")
    check.done()


def _mapped(
    *, start: Callable[[Tensor], Tensor] = lambda ids: torch.full_like(ids, IGNORE), things: bool = True
) -> Callable:
    """A solution in its steps, one of them replaced."""

    def solution(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
        found = start(ids)
        for number, label in zip(listed, classes):
            if things or label > 0:
                found[ids == number] = label
        return found

    return solution


_semantic_map = _mapped()


def _by_position(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    return torch.cat((torch.tensor([IGNORE]), classes))[ids]


def _each_its_own(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    found = torch.full_like(ids, IGNORE)
    for number, _ in enumerate(listed):
        found[ids == listed[number]] = number
    return found


def _at(first: int) -> Callable:
    """The pixels whose id is a place in the list are looked for."""
    return lambda ids, listed, classes: _semantic_map(ids, torch.arange(len(listed)) + first, classes)


def _anew(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    return _semantic_map(ids, listed[-1:], classes[-1:])


def _by_unique(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    return _semantic_map(ids, listed.sort().values, classes)


def _zeros_exchanged(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    return _mapped(start=torch.zeros_like)(ids, listed, classes.where(classes > 0, IGNORE))


_MAP_MISTAKES = {
    "void became class 0, which says that a thing is there; where no segment is, put 255": _mapped(
        start=torch.zeros_like
    ),
    "void kept its id 0, and so says that a thing is there; put 255 where no segment is": _mapped(start=Tensor.clone),
    "class 0 is a class too: the pixels of things are learnt as 0, not left out": _mapped(things=False),
    "an id is a name, no place in the list: look for the pixels that have it": _by_position,
    "an id is a name, no place in the list; compare ids with listed[k], not with k": _at(0),
    "an id is a name, no place in the list; compare ids with listed[k], not with k + 1": _at(1),
    "unique() sorts the ids; the list has an order of its own": _by_unique,
    "give each pixel the class of its segment, not the segment's number": _each_its_own,
    "look for the pixels of an id and write the class; yours looks for the class and writes the id": (
        lambda ids, listed, classes: _semantic_map(ids, classes, listed)
    ),
    "the map keeps what it had; yours is begun anew for each segment, and the last one is left": _anew,
    "255 is void and 0 is 'a thing'; yours has them exchanged": _zeros_exchanged,
}

# ---- 11-2 ---------------------------------------------------------------------------------------------------------

_NOTHING = "without a pixel to learn from it is 0/0, which is NaN and spoils every weight; divide by 1 at least"


def semantic_loss(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 11-2: `semantic_loss(logits, targets)`: mean cross entropy at the targets' size, without the pixels 255.

    logits (B, C, h, w), targets (B, H, W) int64. Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("11-2", function, reference=semantic.semantic_loss, mistakes=_SEMANTIC_MISTAKES)
    log3 = torch.tensor(3.0).log()
    logits = torch.stack((torch.tensor([[0.0, 4 * log3]]), torch.zeros(1, 2)))[None]  # on four pixels 0, 1, 3, 4 log 3
    targets = torch.tensor([[[1, 0, IGNORE, 0], [IGNORE] * 4]])
    expected = (torch.tensor(2.0).log() + torch.tensor(4 / 3).log() + torch.tensor(82 / 81).log()) / 3
    what = "two classes, two cells for two rows of four pixels, of which three count"
    check.shape(
        what, logits, targets, hint="logits as large as the targets, 255 left out (ignore_index), and one number"
    )
    check.value(what, logits, targets, expected=expected)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (3, 20, 28), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = IGNORE
    labels[0, 5:] = IGNORE
    many = normal(3, 4, 5, 7, seed=0).float() * 2
    check.value("three images, 5 × 7 cells for 20 × 28 pixels", many, labels)
    check.gradient("three images", many, labels)
    void = torch.full_like(labels, IGNORE)
    check.value("nothing to learn from", many, void, hint=_NOTHING)
    check.gradient("nothing to learn from", many, void)
    check.done()


def _up(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return semantic.resize_logits(logits, targets.shape[-2:]), targets


def _nearest(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return F.interpolate(logits, targets.shape[-2:]), targets


def _corners(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return F.interpolate(logits, targets.shape[-2:], mode="bilinear", align_corners=True), targets


def _shrunk(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return logits, F.interpolate(targets[:, None].double(), logits.shape[-2:])[:, 0].long()


def _scrambled(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    full, _ = _up(logits, targets)
    return full.reshape(*targets.shape, -1).movedim(-1, 1), targets


def _likelihood(x: Tensor, t: Tensor) -> Tensor:
    return F.nll_loss(x, t, ignore_index=IGNORE, reduction="none")


def _void_as_0(x: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(x, t.where(t != IGNORE, 0), reduction="none")


def _learnt(
    *,
    meet: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = _up,
    entropy: Callable[[Tensor, Tensor], Tensor] = lambda x, t: F.cross_entropy(
        x, t, ignore_index=IGNORE, reduction="none"
    ),
    reduce: Callable[[Tensor, Tensor], Tensor] = lambda loss, t: loss.sum() / (t != IGNORE).sum().clamp(min=1),
) -> Callable:
    """A solution in its steps, one of them replaced."""

    def solution(logits: Tensor, targets: Tensor) -> Tensor:
        x, t = meet(logits, targets)
        return reduce(entropy(x, t), t)

    return solution


_SEMANTIC_MISTAKES = {
    _NOTHING: _learnt(reduce=lambda loss, t: loss.sum() / (t != IGNORE).sum()),
    "divide by the pixels that count, not by all": _learnt(reduce=lambda loss, t: loss.mean()),
    "the mean over the pixels, not the sum": _learnt(reduce=lambda loss, t: loss.sum()),
    "one mean over the pixels of all images, not a mean of the images' means": _learnt(
        reduce=lambda loss, t: (loss.sum((1, 2)) / (t != IGNORE).sum((1, 2))).mean()
    ),
    "255 is no class and not class 0 either; ignore_index leaves such pixels out": _learnt(
        entropy=_void_as_0, reduce=lambda loss, t: loss.mean()
    ),
    "pixels of 255 are not counted, but their loss is in your sum; ignore_index leaves them out": _learnt(
        entropy=_void_as_0
    ),
    "divide by the number of pixels, .clamp(min=1); adding 1 makes every mean too small": _learnt(
        reduce=lambda loss, t: loss.sum() / ((t != IGNORE).sum() + 1)
    ),
    "enlarge the logits to the labels; shrunk labels have lost what is small and thin": _learnt(meet=_shrunk),
    "between the cells is interpolated: mode='bilinear'; yours takes the nearest": _learnt(meet=_nearest),
    "align_corners stretches the grid until its corner cells lie on corner pixels; leave it False": _learnt(
        meet=_corners
    ),
    "cross entropy takes the softmax itself; yours went through one before": _learnt(
        entropy=lambda x, t: F.cross_entropy(x.softmax(1), t, ignore_index=IGNORE, reduction="none")
    ),
    "nll_loss wants log_softmax; cross_entropy takes the logits as they are": _learnt(entropy=_likelihood),
    "reshape moves no axis: movedim(1, -1) first puts the classes last": _learnt(meet=_scrambled),
    "enlarge the logits, then take the softmax; between probabilities the values are others": _learnt(
        meet=lambda x, t: _up(x.softmax(1), t), entropy=lambda x, t: _likelihood(x.log(), t)
    ),
}
