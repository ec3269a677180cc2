"""Checks of lesson 11: the labels and the loss of a semantic head, and the two steps of panoptic fusion."""

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
    check.shape(what, ids, listed, classes, hint="one class a pixel: (H, W)")
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


_MAP_MISTAKES = {
    "void became class 0, which says that a thing is there; where no segment is, put 255": _mapped(
        start=torch.zeros_like
    ),
    "void kept its id 0, and so says that a thing is there; put 255 where no segment is": _mapped(start=Tensor.clone),
    "class 0 is a class too: the pixels of things are learnt as 0, not left out": _mapped(things=False),
    "an id is a name, no place in the list: look for the pixels that have it": _by_position,
    "give each pixel the class of its segment, not the segment's number": _each_its_own,
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
    targets = torch.tensor([[[1, 0, IGNORE, 0]]])
    expected = (torch.tensor(2.0).log() + torch.tensor(4 / 3).log() + torch.tensor(82 / 81).log()) / 3
    what = "two classes, two cells for four pixels, of which three count"
    check.shape(what, logits, targets, hint="the loss is one number")
    check.value(what, logits, targets, expected=expected)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (3, 20, 28), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = IGNORE
    labels[0, 5:] = IGNORE
    many = normal(3, 4, 5, 7, seed=0).float() * 2
    check.value("three images, 5 × 7 cells for 20 × 28 pixels", many, labels)
    check.gradient("three images", many, labels)
    check.value("nothing to learn from", many, torch.full_like(labels, IGNORE), hint=_NOTHING)
    check.done()


def _up(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return semantic.resize_logits(logits, targets.shape[-2:]), targets


def _nearest(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return F.interpolate(logits, targets.shape[-2:]), targets


def _corners(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return F.interpolate(logits, targets.shape[-2:], mode="bilinear", align_corners=True), targets


def _shrunk(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return logits, F.interpolate(targets[:, None].double(), logits.shape[-2:])[:, 0].long()


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
        entropy=lambda x, t: F.cross_entropy(x, t.where(t != IGNORE, 0), reduction="none"),
        reduce=lambda loss, t: loss.mean(),
    ),
    "enlarge the logits to the labels; shrunk labels have lost what is small and thin": _learnt(meet=_shrunk),
    "between the cells is interpolated: mode='bilinear'; yours takes the nearest": _learnt(meet=_nearest),
    "align_corners stretches the grid until its corner cells lie on corner pixels; leave it False": _learnt(
        meet=_corners
    ),
    "cross entropy takes the softmax itself; yours went through one before": _learnt(
        entropy=lambda x, t: F.cross_entropy(x.softmax(1), t, ignore_index=IGNORE, reduction="none")
    ),
}

# ---- 11-3 ---------------------------------------------------------------------------------------------------------


def place_things(function: Callable[[Tensor, Tensor, float, float], Tensor]) -> None:
    """Exercise 11-3: `place_things(masks, scores, least, overlap)`: the number of the instance at each pixel.

    masks (N, H, W) bool, scores (N,); row i is number i + 1, and 0 is no instance. Raises CheckFailed at the first
    wrong answer.
    """
    check = Exercise("11-3", function, reference=_place, mistakes=_PLACE_MISTAKES)
    masks = torch.zeros(6, 1, 12, dtype=torch.bool)
    for mask, (start, end) in zip(masks[:, 0], ((6, 11), (4, 6), (1, 7), (8, 9), (2, 6), (5, 8))):
        mask[start:end] = True
    scores = torch.tensor([0.375, 0.75, 0.5, 0.25, 0.625, 1.0])
    what = "six instances on a row of twelve pixels"
    check.shape(what, masks, scores, 0.375, 0.25, hint="one number a pixel: (H, W)")
    check.dtype(what, masks, scores, 0.375, 0.25, hint="the map holds whole numbers: int64")
    # 6 is the surest; of 2 a half is taken, of 5 a quarter, of 3 five sixths, of 1 two fifths; 4 scores too little
    check.value(what, masks, scores, 0.375, 0.25, expected=torch.tensor([[0, 0, 5, 5, 5, 6, 6, 6, 0, 0, 0, 0]]))
    check.value("overlap 0.5: more of them", masks, scores, 0.375, 0.5)
    check.value("overlap 1: all are let in, but a pixel has one number", masks, scores, 0.25, 1.0)
    for seed in range(3):
        check.value("12 ellipses", *_ellipses(12, seed), 0.4, 0.5)
    empty = torch.cat((masks, torch.zeros_like(masks[:1])))
    surest = torch.cat((scores, torch.ones(1) * 2))
    check.value("a mask without a pixel", empty, surest, 0.375, 0.25, hint=_EMPTY)
    check.value("no instances (N = 0)", masks[:0], scores[:0], 0.375, 0.25, hint="then the map is 0 everywhere")
    check.done()


_EMPTY = "a mask without a pixel makes 0/0; leave it out before you divide"


def _ellipses(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Masks (N, 24, 30) and scores (N,), no two equal."""
    generator = torch.Generator().manual_seed(seed)
    centre, radius = torch.rand(count, 2, generator=generator), torch.rand(count, 2, generator=generator) * 9 + 2
    grid = torch.stack(torch.meshgrid(torch.arange(24.0), torch.arange(30.0), indexing="ij"), -1)
    distance = (grid - centre[:, None, None] * torch.tensor([24.0, 30])) / radius[:, None, None]
    return (distance**2).sum(-1) < 1, torch.randperm(count, generator=generator) / count + 0.01


def _placed(
    *,
    order: Callable[[Tensor], Tensor] = lambda scores: scores.argsort(descending=True),
    enough: Callable[[float, float], bool] = lambda score, least: score >= least,
    share: Callable[[Tensor, Tensor], float] = lambda mask, taken: float((mask & taken).sum() / mask.sum()),
    let_in: Callable[[float, float], bool] = lambda share, overlap: share <= overlap,
    whole: bool = False,
    counted: bool = False,
) -> Callable:
    """A solution in its steps, one of them replaced."""

    def solution(masks: Tensor, scores: Tensor, least: float, overlap: float) -> Tensor:
        found = torch.zeros(masks.shape[1:], dtype=torch.int64)
        number = 0
        for i in order(scores).tolist():
            mask, taken = masks[i], found > 0
            if not enough(float(scores[i]), least) or not mask.any() or not let_in(share(mask, taken), overlap):
                continue
            number += 1
            found[mask if whole else mask & ~taken] = number if counted else i + 1
        return found

    return solution


_place = _placed()
_PLACE_MISTAKES = {
    "the surest comes first, whatever its place in the list; yours go in the list's order": _placed(
        order=lambda scores: torch.arange(len(scores))
    ),
    "the surest comes first; yours is the last, so argsort needs descending=True": _placed(order=Tensor.argsort),
    "a pixel that is taken stays with its owner; yours gives it to the later one": _placed(whole=True),
    "nothing is left out here: an instance of which more than the share `overlap` is taken does not come in": _placed(
        let_in=lambda share, overlap: True
    ),
    "left out is what has more than the share `overlap` taken; exactly that share is let in": _placed(
        let_in=lambda share, overlap: share < overlap
    ),
    "left out is the one with much taken; you left out those with little": _placed(
        let_in=lambda share, overlap: share > overlap
    ),
    "the share is of the instance's own pixels, not of the union with all that is taken (no IoU)": _placed(
        share=lambda mask, taken: float((mask & taken).sum() / (mask | taken).sum())
    ),
    "the share is of the instance's own pixels, not of the whole picture": _placed(
        share=lambda mask, taken: float((mask & taken).float().mean())
    ),
    "instances that score less than `least` stay out": _placed(enough=lambda score, least: True),
    "one that scores exactly `least` comes in": _placed(enough=lambda score, least: score > least),
    "row i of the masks has the number i + 1, in whatever order it came in": _placed(counted=True),
}

# ---- 11-4 ---------------------------------------------------------------------------------------------------------


def fill_stuff(function: Callable[[Tensor, Tensor, int, int], Tensor]) -> None:
    """Exercise 11-4: `fill_stuff(things, semantic, first, area)`: the map of things with stuff of class c as first + c.

    things (H, W) int64 with 0 where it is free, semantic (H, W) int64, 0 "a thing". Raises CheckFailed at the first
    wrong answer.
    """
    check = Exercise("11-4", function, reference=_fill, mistakes=_FILL_MISTAKES)
    things = torch.tensor([[1, 1, 0, 0, 0, 0, 0, 0]])
    classes = torch.tensor([[2, 2, 2, 2, 3, 1, 1, 0]])
    what = "eight pixels, two with a thing; classes 2 2 2 2 3 1 1 0; at least two pixels"
    check.shape(what, things, classes, 100, 2, hint="one number a pixel: (H, W)")
    check.value(what, things, classes, 100, 2, expected=torch.tensor([[1, 1, 102, 102, 0, 101, 101, 0]]))
    check.value("at least three pixels: of class 2 only two are free", things, classes, 100, 3)
    check.value("area 0", things, classes, 100, 0)
    generator = torch.Generator().manual_seed(0)
    many = torch.randint(0, 4, (12, 16), generator=generator), torch.randint(0, 6, (12, 16), generator=generator)
    check.value("three things, five classes of stuff", *many, 50, 9)
    check.value("a picture full of things", torch.ones_like(things), classes, 100, 1)
    check.done()


def _filled(
    *,
    free: Callable[[Tensor], Tensor] = lambda things: things == 0,
    counts: Callable[[Tensor, Tensor], Tensor] = lambda mask, free: mask & free,
    enough: Callable[[int, int], bool] = lambda pixels, area: pixels >= area,
    lowest: int = 1,
    offset: int = 0,
) -> Callable:
    """A solution in its steps, one of them replaced."""

    def solution(things: Tensor, classes: Tensor, first: int, area: int) -> Tensor:
        found = things.clone()
        for label in range(lowest, int(classes.max()) + 1):
            mask, open_ = classes == label, free(things)
            if enough(int(counts(mask, open_).sum()), area):
                found[mask & open_] = first + label - offset
        return found

    return solution


_fill = _filled()
_FILL_MISTAKES = {
    "stuff goes behind the things: only free pixels, where the map is 0, may be filled": _filled(
        free=lambda things: torch.ones_like(things, dtype=torch.bool)
    ),
    "class 0 says that a thing is there; where none was placed the pixel stays 0, void": _filled(lowest=0),
    "`area` is asked of the pixels that the class gets, not of all that it claims": _filled(
        counts=lambda mask, free: mask
    ),
    "a class with exactly `area` pixels is filled in": _filled(enough=lambda pixels, area: pixels > area),
    "classes that get fewer than `area` pixels stay void": _filled(enough=lambda pixels, area: True),
    "the classes that get few pixels are the ones to leave out": _filled(enough=lambda pixels, area: pixels < area),
    "class c becomes first + c": _filled(offset=1),
    "class c becomes first + c, not c": lambda things, classes, first, area: _fill(things, classes, 0, area),
}
