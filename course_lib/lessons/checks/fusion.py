"""Checks of lesson 11, second part: the two steps of panoptic fusion."""

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.lessons.checks.base import Exercise
from course_lib.ops.semantic import IGNORE

# ---- 11-3 ---------------------------------------------------------------------------------------------------------


def place_things(function: Callable[[Tensor, Tensor, float, float], Tensor]) -> None:
    """Exercise 11-3: `place_things(masks, scores, least, overlap)`: the number of the instance at each pixel.

    masks (N, H, W) bool, scores (N,); row i is number i + 1, and 0 is no instance. Raises CheckFailed at the first
    wrong answer.
    """
    check = Exercise("11-3", function, reference=_place, mistakes=_PLACE_MISTAKES)
    spans = ((2, 15), (0, 4), (16, 18), (5, 9), (10, 12), (3, 7), (18, 20), (8, 11), (9, 16), (7, 12))
    masks = torch.zeros(10, 1, 20, dtype=torch.bool)
    for mask, (start, end) in zip(masks[:, 0], spans):
        mask[start:end] = True
    scores = torch.tensor([11, 16, 6, 13, 9, 14, 4, 12, 8, 10]) / 16
    what = "ten instances on a row of twenty pixels"
    check.shape(what, masks, scores, 0.375, 0.25, hint="one number a pixel: (H, W)")
    check.dtype(what, masks, scores, 0.375, 0.25, hint="the map holds whole numbers: int64")
    # Sure to unsure: 2 comes in; of 6 a quarter is taken, just so much as may be; of 4 a half; of 8 nothing; of 1, 10,
    # 5 and 9 more than a quarter; 3 scores just enough, 7 too little. Each mistake below gives another map.
    expected = torch.tensor([4 * [2] + 3 * [6] + [0] + 3 * [8] + 5 * [0] + 2 * [3] + 2 * [0]])
    check.value(what, masks, scores, 0.375, 0.25, expected=expected)
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


def _share(mask: Tensor, found: Tensor) -> float:
    return float((mask & (found > 0)).sum() / mask.sum())


def _share_of_one_owner(mask: Tensor, found: Tensor) -> float:
    return max((_share(mask, found * (found == owner)) for owner in found[mask].unique()), default=0.0)


def _placed(
    *,
    order: Callable[[Tensor], Tensor] = lambda scores: scores.argsort(descending=True),
    enough: Callable[[float, float], bool] = lambda score, least: score >= least,
    share: Callable[[Tensor, Tensor], float] = _share,
    let_in: Callable[[float, float], bool] = lambda share, overlap: share <= overlap,
    whole: bool = False,
    ends: bool = False,
    ghosts: bool = False,
    number: Callable[[int, int], int] = lambda row, count: row + 1,
) -> Callable:
    """A solution in its steps, one of them replaced."""

    def solution(masks: Tensor, scores: Tensor, least: float, overlap: float) -> Tensor:
        found = torch.zeros(masks.shape[1:], dtype=torch.int64)
        seen, count = found.clone(), 0
        for i in order(scores).tolist():
            mask = masks[i]
            if not enough(float(scores[i]), least) or not mask.any():
                continue
            comes_in = let_in(share(mask, seen if ghosts else found), overlap)
            seen[mask] = 1
            if comes_in:
                count += 1
                found[mask if whole else mask & (found == 0)] = number(i, count)
            elif ends:
                break
        return found

    return solution


_place = _placed()


def _numbered_anew(choose: Callable[[Tensor, float], Tensor]) -> Callable:
    """Rows are chosen or sorted first, and numbered by their new places."""

    def solution(masks: Tensor, scores: Tensor, least: float, overlap: float) -> Tensor:
        rows = choose(scores, least)
        return _place(masks[rows], scores[rows], least, overlap)

    return solution


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
    "`overlap` is the most that may be taken; you ask for so much that is free": _placed(
        let_in=lambda share, overlap: 1 - share >= overlap
    ),
    "the share is of the instance's own pixels, not of the union with all that is taken (no IoU)": _placed(
        share=lambda mask, found: float((mask & (found > 0)).sum() / (mask | (found > 0)).sum())
    ),
    "the share is of the instance's own pixels, not of the whole picture": _placed(
        share=lambda mask, found: float((mask & (found > 0)).float().mean())
    ),
    "the share is of the instance's own pixels, not of those that are taken": _placed(
        share=lambda mask, found: float((mask & (found > 0)).sum() / (found > 0).sum().clamp(min=1))
    ),
    "what is taken counts together, whoever took it; yours looks at one owner at a time": _placed(
        share=_share_of_one_owner
    ),
    "an instance that was left out takes no pixels": _placed(ghosts=True),
    "one is left out, and those after it have their turn: continue, not break": _placed(ends=True),
    "instances that score less than `least` stay out": _placed(enough=lambda score, least: True),
    "one that scores exactly `least` comes in": _placed(enough=lambda score, least: score > least),
    "row i of the masks has the number i + 1, in whatever order it came in": _placed(number=lambda row, count: count),
    "row i has the number i + 1, since 0 says that nothing is there": _placed(number=lambda row, count: row),
    "after sorting, row i is another instance: number it by its row in `masks`": _numbered_anew(
        lambda scores, least: scores.argsort(descending=True)
    ),
    "after leaving some out, row i is another instance: number it by its row in `masks`": _numbered_anew(
        lambda scores, least: (scores >= least).nonzero()[:, 0]
    ),
}

# ---- 11-4 ---------------------------------------------------------------------------------------------------------


def fill_stuff(function: Callable[[Tensor, Tensor, int, int], Tensor]) -> None:
    """Exercise 11-4: `fill_stuff(things, semantic, first, area)`: the map of things with stuff of class c as first + c.

    things (H, W) int64 with 0 where it is free, semantic (H, W) int64, 0 "a thing". Raises CheckFailed at the first
    wrong answer.
    """
    check = Exercise("11-4", function, reference=_fill, mistakes=_FILL_MISTAKES)
    things = torch.tensor([[1, 1] + 18 * [0]])
    classes = torch.tensor([4 * [2] + 3 * [1] + 5 * [4] + [5] + 4 * [6] + 3 * [0]])
    filled = torch.tensor([[1, 1, 0, 0] + 3 * [101] + 5 * [104] + [0] + 4 * [106] + 3 * [0]])
    what = "twenty pixels, the first two with a thing; classes 2222 111 44444 5 6666 000; at least three pixels"
    check.shape(what, things, classes, 100, 3, hint="one number a pixel: (H, W)")
    check.value(what, things, classes, 100, 3, expected=filled)
    check.value("area 0", things, classes, 100, 0)
    check.value("no things, and no pixel of class 0", torch.zeros_like(things), classes.clamp(min=1), 100, 3)
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
    chosen: Callable[[Tensor], Tensor] = lambda present: present[present > 0],
    number: Callable[[int, int, int], int] = lambda first, label, count: first + label,
) -> Callable:
    """A solution in its steps, one of them replaced."""

    def solution(things: Tensor, classes: Tensor, first: int, area: int) -> Tensor:
        found = things.clone()
        for count, label in enumerate(chosen(classes.unique()).tolist(), start=1):
            mask, open_ = classes == label, free(things)
            if enough(int(counts(mask, open_).sum()), area):
                found[mask & open_] = number(first, label, count)
        return found

    return solution


_fill = _filled()


def _things_lost(things: Tensor, classes: Tensor, first: int, area: int) -> Tensor:
    return _fill(things, classes, first, area) * (things == 0)


def _void_255(things: Tensor, classes: Tensor, first: int, area: int) -> Tensor:
    found = _fill(things, classes, first, area)
    return found.where(found != 0, IGNORE)


_FILL_MISTAKES = {
    "stuff goes behind the things: only free pixels, where the map is 0, may be filled": _filled(
        free=lambda things: torch.ones_like(things, dtype=torch.bool)
    ),
    "class 0 says that a thing is there; where none was placed the pixel stays 0, void": _filled(
        chosen=lambda present: present
    ),
    "class 0 is no stuff, and a class that gets fewer than `area` pixels stays void": _filled(
        chosen=lambda present: present, enough=lambda pixels, area: True
    ),
    "class 0 need not occur: leave it out by its number, not as the first that unique() gives": _filled(
        chosen=lambda present: present[1:]
    ),
    "the highest class is missing: range(1, n) ends before n": _filled(
        chosen=lambda present: present[(present > 0) & (present < present.max())]
    ),
    "the map is begun anew for each class, and the last one is left; copy `things` once, before the loop": _filled(
        chosen=lambda present: present[-1:]
    ),
    "the things stay in the map; begin with a copy of it": _things_lost,
    "what nobody gets stays 0 in this map; 255 is void in labels": _void_255,
    "`area` is asked of the pixels that the class gets, not of all that it claims": _filled(
        counts=lambda mask, free: mask
    ),
    "a class with exactly `area` pixels is filled in": _filled(enough=lambda pixels, area: pixels > area),
    "classes that get fewer than `area` pixels stay void": _filled(enough=lambda pixels, area: True),
    "the classes that get few pixels are the ones to leave out": _filled(enough=lambda pixels, area: pixels < area),
    "class c becomes first + c": _filled(number=lambda first, label, count: first + label - 1),
    "class c becomes first + c, not c": _filled(number=lambda first, label, count: label),
    "class c becomes first + c; all of yours become first": _filled(number=lambda first, label, count: first),
    "class c becomes first + c, whichever others occur; yours are numbered as they come": _filled(
        number=lambda first, label, count: first + count
    ),
}
