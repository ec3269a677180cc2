"""Lesson 11's checks pass right solutions, however they are written, and name each mistake."""

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.lessons import checks
from course_lib.panoptic.fusion import Canvas, FusionSpec, fuse, place_instances
from tests.lessons.exercises import exercise_tests

# ---- 11-1 ---------------------------------------------------------------------------------------------------------


def by_masks(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    found = torch.full(ids.shape, 255)
    for number, label in zip(listed.tolist(), classes.tolist()):
        found[ids == number] = label
    return found


def by_where(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    found = torch.full_like(ids, 255)
    for number, label in zip(listed, classes):
        found = torch.where(ids == number, label, found)
    return found


def by_table(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    table = torch.full((int(max(ids.max(), *listed.tolist(), 0)) + 1,), 255)
    table[listed] = classes
    return table[ids]


def void_is_zero(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    found = torch.zeros_like(ids)
    for number, label in zip(listed, classes):
        found[ids == number] = label
    return found


def void_is_kept(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    found = ids.clone()
    for number, label in zip(listed, classes):
        found[ids == number] = label
    return found


def stuff_alone(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    return by_masks(ids, listed[classes > 0], classes[classes > 0])


def numbers(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    return by_masks(ids, listed, torch.arange(len(listed)))


def in_place(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    ids[ids == 0] = 255
    return ids


RIGHT_MAP = {"masks": by_masks, "where": by_where, "table": by_table}
WRONG_MAP = {
    "zeros": (void_is_zero, "says that a thing is there"),
    "clone": (void_is_kept, "says that a thing is there"),
    "things ignored": (stuff_alone, "class 0 is a class too"),
    "numbers": (numbers, "not the segment's number"),
    "positions": (lambda i, s, c: torch.cat((torch.tensor([255]), c))[i.clamp(max=3)], "pencil and paper"),
    "in place": (in_place, "changed its input in place"),
    "floats": (lambda i, s, c: by_masks(i, s, c).float(), "int64"),
    "one row": (lambda i, s, c: by_masks(i, s, c).flatten(), "one class a pixel"),
}

# ---- 11-2 ---------------------------------------------------------------------------------------------------------


def enlarged(logits: Tensor, targets: Tensor, **options) -> Tensor:
    options = {"mode": "bilinear", "align_corners": False} | options
    return F.interpolate(logits, size=targets.shape[-2:], **options)


def total(x: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(x, targets, ignore_index=255, reduction="sum")


def counted(targets: Tensor) -> Tensor:
    return (targets != 255).sum()


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    return total(enlarged(logits, targets), targets) / counted(targets).clamp(min=1)


def loss_of_rows(logits: Tensor, targets: Tensor) -> Tensor:
    x = enlarged(logits, targets).permute(0, 2, 3, 1)[targets != 255]
    if len(x) == 0:
        return logits.sum() * 0
    return F.cross_entropy(x, targets[targets != 255])


def of_images(logits: Tensor, targets: Tensor) -> Tensor:
    x = enlarged(logits, targets)
    return torch.stack([F.cross_entropy(a[None], b[None], ignore_index=255) for a, b in zip(x, targets)]).mean()


def small_labels(logits: Tensor, targets: Tensor) -> Tensor:
    labels = F.interpolate(targets[:, None].float(), logits.shape[-2:])[:, 0].long()
    return F.cross_entropy(logits, labels, ignore_index=255)


def as_class_0(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(enlarged(logits, targets), targets.where(targets != 255, 0))


def softmax_first(logits: Tensor, targets: Tensor) -> Tensor:
    return total(enlarged(logits, targets).softmax(1), targets) / counted(targets).clamp(min=1)


RIGHT_LOSS = {"sum": loss, "rows": loss_of_rows}
WRONG_LOSS = {
    "NaN": (lambda x, t: F.cross_entropy(enlarged(x, t), t, ignore_index=255), "0/0"),
    "all pixels": (lambda x, t: total(enlarged(x, t), t) / t.numel(), "not by all"),
    "sum": (lambda x, t: total(enlarged(x, t), t), "not the sum"),
    "by image": (of_images, "not a mean of the images' means"),
    "class 0": (as_class_0, "255 is no class"),
    "small labels": (small_labels, "enlarge the logits"),
    "nearest": (
        lambda x, t: total(F.interpolate(x, t.shape[-2:]), t) / counted(t).clamp(min=1),
        "yours takes the nearest",
    ),
    "corners": (
        lambda x, t: total(enlarged(x, t, align_corners=True), t) / counted(t).clamp(min=1),
        "align_corners",
    ),
    "softmax": (softmax_first, "takes the softmax itself"),
    "detached": (lambda x, t: loss(x.detach(), t), "no gradient reaches the input"),
}

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
        if not (taken / area <= overlap if test is None else test(mask, found > 0, overlap)):
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


def placed(**changes):
    return lambda *arguments: place(*arguments, **changes)


RIGHT_PLACE = {"loop": place, "library": by_library, "mean": without_empty_masks}
WRONG_PLACE = {
    "in order": (placed(order=lambda s: torch.arange(len(s))), "whatever its place in the list"),
    "ascending": (placed(order=Tensor.argsort), "descending=True"),
    "painted over": (placed(whole=True), "stays with its owner"),
    "all let in": (placed(test=lambda *_: True), "nothing is left out here"),
    "below": (
        placed(test=lambda m, t, o: (m & t).sum() / m.sum() < o),
        "exactly that share is let in",
    ),
    "IoU": (placed(test=lambda m, t, o: (m & t).sum() / (m | t).sum() <= o), "no IoU"),
    "of the picture": (placed(test=lambda m, t, o: (m & t).float().mean() <= o), "not of the whole picture"),
    "turned round": (placed(test=lambda m, t, o: (m & t).sum() / m.sum() > o), "those with little"),
    "all scores": (placed(score=lambda s, least: True), "stay out"),
    "above": (placed(score=lambda s, least: s > least), "comes in"),
    "counted": (placed(numbered=True), "row i of the masks has the number i + 1"),
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


RIGHT_FILL = {"loop": fill, "library": by_fuse}
WRONG_FILL = {
    "over things": (filled(free=False), "behind the things"),
    "class 0": (filled(lowest=0), "class 0 says that a thing is there"),
    "claimed": (filled(claimed=True), "not of all that it claims"),
    "above": (filled(enough=lambda p, a: p > a), "exactly `area` pixels is filled in"),
    "no limit": (filled(enough=lambda p, a: True), "stay void"),
    "turned round": (filled(enough=lambda p, a: p < a), "the ones to leave out"),
    "off by one": (lambda t, s, f, a: fill(t, s, f - 1, a), "class c becomes first + c"),
    "without first": (lambda t, s, f, a: fill(t, s, 0, a), "not c"),
    "in place": (in_the_input, "changed its input in place"),
}

TestPanoptic = exercise_tests(
    {
        "11-1: 5": (checks.semantic_map, RIGHT_MAP, WRONG_MAP),
        "11-2: 5": (checks.semantic_loss, RIGHT_LOSS, WRONG_LOSS),
        "11-3: 10": (checks.place_things, RIGHT_PLACE, WRONG_PLACE),
        "11-4: 6": (checks.fill_stuff, RIGHT_FILL, WRONG_FILL),
    }
)
