"""The checks of lesson 11's fusion pass right solutions, however they are written, and name each mistake."""

import torch
from torch import Tensor

from course_lib.lessons import checks
from course_lib.panoptic.fusion import Canvas, FusionSpec, fuse, place_instances
from tests.lessons.exercises import exercise_tests

# ---- 11-3 ---------------------------------------------------------------------------------------------------------


def place(masks, scores, least, overlap, *, order=None, whole=False, test=None, score=None, numbered=False):
    found = torch.zeros(masks.shape[1:], dtype=torch.int64)
    rows = scores.argsort(descending=True) if order is None else order(scores)
    count = 0
    for i in rows.tolist():
        mask, area = masks[i], masks[i].sum()
        if not (scores[i] >= least if score is None else score(scores[i], least)) or area == 0:
            continue
        taken = (mask & (found > 0)).sum()
        if not (taken / area <= overlap if test is None else test(mask, found, overlap)):
            continue
        count += 1
        found[mask if whole else mask & (found == 0)] = count if numbered else i + 1
    return found


def by_library(masks, scores, least, overlap):
    canvas = Canvas.empty(*masks.shape[1:])
    spec = FusionSpec(score=least, overlap=overlap)
    place_instances(canvas, masks, scores, torch.zeros(len(masks), dtype=torch.int64), spec=spec)
    found = torch.zeros(masks.shape[1:], dtype=torch.int64)
    for segment in canvas.segments:
        found[canvas.panoptic == segment["id"]] = segment["instance"] + 1
    return found


def without_empty_masks(masks, scores, least, overlap):
    """Of an empty mask the share is NaN, which is not at most anything."""
    found = torch.zeros(masks.shape[1:], dtype=torch.int64)
    for i in scores.argsort(descending=True).tolist():
        if scores[i] >= least and (found[masks[i]] > 0).double().mean() <= overlap:
            found[masks[i] & (found == 0)] = i + 1
    return found


def chosen_first(masks, scores, least, overlap, *, rows):
    return place(masks[rows], scores[rows], least, overlap)


def one_owner(mask, found, overlap):
    shares = [(mask & (found == owner)).sum() / mask.sum() for owner in found[mask].unique() if owner > 0]
    return max(shares, default=0) <= overlap


def with_ghosts(masks, scores, least, overlap):
    rows = scores.argsort(descending=True)
    rows = rows[scores[rows] >= least]
    found = torch.zeros(masks.shape[1:], dtype=torch.int64)
    before = masks[rows].cumsum(0) - masks[rows].long() > 0  # (N, H, W) in any surer mask
    for i, taken in zip(rows.tolist(), before):
        if masks[i].any() and (masks[i] & taken).sum() / masks[i].sum() <= overlap:
            found[masks[i] & (found == 0)] = i + 1
    return found


def broken_off(masks, scores, least, overlap):
    found = torch.zeros(masks.shape[1:], dtype=torch.int64)
    for i in scores.argsort(descending=True).tolist():
        taken = (masks[i] & (found > 0)).sum() / masks[i].sum()
        if scores[i] < least or taken > overlap:
            break
        found[masks[i] & (found == 0)] = i + 1
    return found


def from_zero(masks, scores, least, overlap):
    found = torch.zeros(masks.shape[1:], dtype=torch.int64)
    for i in scores.argsort(descending=True).tolist():
        mask, taken = masks[i], found > 0
        if scores[i] >= least and (mask & taken).sum() <= overlap * mask.sum():
            found[mask & ~taken] = i
    return found


def by_sorted_masks(masks, scores, least, overlap):
    rows = scores.argsort(descending=True)
    found = torch.zeros(masks.shape[1:], dtype=torch.int64)
    for score, mask, row in zip(scores[rows], masks[rows], rows):
        free = mask & (found == 0)
        if score >= least and free.sum() >= (1 - overlap) * mask.sum():
            found = torch.where(free, row + 1, found)
    return found


def painted_by_rising_score(masks, scores, least, overlap):
    found = torch.zeros(masks.shape[1:], dtype=torch.int64)
    for i in scores.argsort().tolist():
        if scores[i] >= least:
            found[masks[i]] = i + 1
    return found


def placed(**changes):
    return lambda *arguments: place(*arguments, **changes)


RIGHT_PLACE = {"loop": place, "sorted masks": by_sorted_masks, "library": by_library, "mean": without_empty_masks}
WRONG_PLACE = {
    "in order": (placed(order=lambda s: torch.arange(len(s))), "whatever its place in the list"),
    "ascending": (placed(order=Tensor.argsort), "descending=True"),
    "painted over": (placed(whole=True), "stays with its owner"),
    "all let in": (placed(test=lambda *_: True), "nothing is left out here"),
    "below": (
        placed(test=lambda m, f, o: (m & (f > 0)).sum() / m.sum() < o),
        "exactly that share is let in",
    ),
    "IoU": (placed(test=lambda m, f, o: (m & (f > 0)).sum() / (m | (f > 0)).sum() <= o), "no IoU"),
    "of the picture": (placed(test=lambda m, f, o: (m & (f > 0)).float().mean() <= o), "not of the whole picture"),
    "turned round": (placed(test=lambda m, f, o: (m & (f > 0)).sum() / m.sum() > o), "those with little"),
    "all scores": (placed(score=lambda s, least: True), "stay out"),
    "above": (placed(score=lambda s, least: s > least), "comes in"),
    "counted": (placed(numbered=True), "row i of the masks has the number i + 1"),
    "of the free": (
        placed(test=lambda m, f, o: (m & (f == 0)).sum() / m.sum() > o),
        "you ask for so much that is free",
    ),
    "of the taken": (
        placed(test=lambda m, f, o: not (m & (f > 0)).sum() / (f > 0).sum() > o),
        "not of those that are taken",
    ),
    "one owner": (placed(test=one_owner), "whoever took it"),
    "ghosts": (with_ghosts, "left out takes no pixels"),
    "broken off": (broken_off, "continue, not break"),
    "rising": (painted_by_rising_score, "nothing is left out here"),
    "from 0": (from_zero, "0 says that nothing is there"),
    "sorted": (lambda m, s, *a: chosen_first(m, s, *a, rows=s.argsort(descending=True)), "after sorting"),
    "chosen": (lambda m, s, least, o: chosen_first(m, s, least, o, rows=s >= least), "after leaving some out"),
    "float": (lambda *a: place(*a).float(), "whole numbers"),
    "bool": (lambda *a: place(*a) > 0, "whole numbers"),
}

# ---- 11-4 ---------------------------------------------------------------------------------------------------------


def fill(things, semantic, first, area, *, free=True, claimed=False, enough=None, lowest=1):
    found = things.clone()
    for label in semantic.unique().tolist():
        if label < lowest:
            continue
        mask = (semantic == label) & (things == 0) if free else semantic == label
        pixels = (semantic == label).sum() if claimed else mask.sum()
        if pixels >= area if enough is None else enough(pixels, area):
            found[mask] = first + label
    return found


def by_fuse(things, semantic, first, area):
    numbers = [n for n in things.unique().tolist() if n > 0]
    masks = torch.stack([things == n for n in numbers]) if numbers else torch.zeros(0, *things.shape, dtype=torch.bool)
    count = len(numbers)
    spec = FusionSpec(stuff_area=area)
    canvas = fuse(masks, torch.ones(count), torch.zeros(count).long(), semantic, spec=spec)
    found = things.clone()
    for segment in canvas.segments:
        if not segment["isthing"]:
            found[canvas.panoptic == segment["id"]] = first + segment["label"]
    return found


def filled(**changes):
    return lambda *arguments: fill(*arguments, **changes)


def in_the_input(things, semantic, first, area):
    for label in semantic.unique().tolist():
        mask = (semantic == label) & (things == 0)
        if label and mask.sum() >= area:
            things[mask] = first + label
    return things


def by_count(things, semantic, first, area):
    free = (things == 0) & (semantic > 0)
    pixels = semantic[free].bincount(minlength=int(semantic.max()) + 1)
    return torch.where(free & (pixels[semantic] >= area), first + semantic, things)


def renumbered(things, semantic, first, area):
    found = things.clone()
    for count, label in enumerate(semantic[semantic > 0].unique(), start=1):
        mask = (semantic == label) & (things == 0)
        if mask.sum() >= area:
            found[mask] = first + count
    return found


def without_the_first(things, semantic, first, area):
    found = things.clone()
    for label in semantic.unique()[1:].tolist():
        mask = (semantic == label) & (things == 0)
        if mask.sum() >= area:
            found[mask] = first + label
    return found


def without_the_last(things, semantic, first, area):
    found = things.clone()
    for label in range(1, int(semantic.max())):
        mask = (semantic == label) & (things == 0)
        if mask.sum() >= area:
            found[mask] = first + label
    return found


def copied_in_the_loop(things, semantic, first, area):
    for label in semantic.unique().tolist():
        found = things.clone()
        mask = (semantic == label) & (things == 0)
        if label > 0 and mask.sum() >= area:
            found[mask] = first + label
    return found


RIGHT_FILL = {"loop": fill, "count": by_count, "library": by_fuse}
WRONG_FILL = {
    "over things": (filled(free=False), "behind the things"),
    "class 0": (filled(lowest=0), "class 0 says that a thing is there"),
    "claimed": (filled(claimed=True), "not of all that it claims"),
    "above": (filled(enough=lambda p, a: p > a), "exactly `area` pixels is filled in"),
    "no limit": (filled(enough=lambda p, a: True), "stay void"),
    "turned round": (filled(enough=lambda p, a: p < a), "the ones to leave out"),
    "off by one": (lambda t, s, f, a: fill(t, s, f - 1, a), "class c becomes first + c"),
    "without first": (lambda t, s, f, a: fill(t, s, 0, a), "not c"),
    "first alone": (lambda t, s, f, a: fill(t, s, f, a).clamp(max=f), "all of yours become first"),
    "renumbered": (renumbered, "numbered as they come"),
    "all of it": (lambda t, s, f, a: torch.where(t > 0, t, f + s), "class 0 is no stuff"),
    "unique()[1:]": (without_the_first, "not as the first that unique() gives"),
    "range": (without_the_last, "ends before n"),
    "copied in the loop": (copied_in_the_loop, "copy `things` once"),
    "stuff alone": (lambda t, s, f, a: fill(t, s, f, a) * (t == 0), "the things stay"),
    "void 255": (lambda t, s, f, a: fill(t, s, f, a).where(fill(t, s, f, a) > 0, 255), "255 is void in labels"),
    "in place": (in_the_input, "changed its input in place"),
}

TestFusion = exercise_tests(
    {
        "11-3: 10": (checks.place_things, RIGHT_PLACE, WRONG_PLACE),
        "11-4: 6": (checks.fill_stuff, RIGHT_FILL, WRONG_FILL),
    }
)
