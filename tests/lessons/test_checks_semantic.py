"""The checks of lesson 11's semantic head pass right solutions, however they are written, and name each mistake."""

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.lessons import checks
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


def by_all_pairs(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    here = ids[..., None] == listed
    return torch.where(here.any(-1), (here * classes).sum(-1), 255)


def void_last(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    found = ids.clone()
    for number, label in zip(listed, classes):
        found[ids == number] = label
    found[found == 0] = 255
    return found


def begun_anew(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    for number, label in zip(listed, classes):
        found = torch.full_like(ids, 255)
        found[ids == number] = label
    return found


def zeros_exchanged(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    found = torch.zeros_like(ids)
    for number, label in zip(listed, classes):
        found[ids == number] = label if label > 0 else 255
    return found


def by_sorted_ids(ids: Tensor, listed: Tensor, classes: Tensor) -> Tensor:
    place = ids.unique(return_inverse=True)[1] - 1
    return classes[place.clamp(min=0)].where(ids > 0, 255)


RIGHT_MAP = {"pairs": by_all_pairs, "masks": by_masks, "where": by_where, "table": by_table}
WRONG_MAP = {
    "zeros": (void_is_zero, "says that a thing is there"),
    "clone": (void_is_kept, "says that a thing is there"),
    "things ignored": (stuff_alone, "class 0 is a class too"),
    "numbers": (numbers, "not the segment's number"),
    "positions": (lambda i, s, c: torch.cat((torch.tensor([255]), c))[i.clamp(max=3)], "pencil and paper"),
    "places": (lambda i, s, c: by_masks(i, torch.arange(len(s)), c), "compare ids with listed[k]"),
    "places from 1": (lambda i, s, c: by_masks(i, torch.arange(len(s)) + 1, c), "not with k + 1"),
    "exchanged": (lambda i, s, c: by_masks(i, c, s), "looks for the class and writes the id"),
    "anew": (begun_anew, "begun anew for each segment"),
    "sorted": (by_sorted_ids, "unique() sorts the ids"),
    "void last": (void_last, "class 0 is a class too"),
    "two zeros": (zeros_exchanged, "has them exchanged"),
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


def by_gather(logits: Tensor, targets: Tensor) -> Tensor:
    counts = targets != 255
    log_p = enlarged(logits, targets).log_softmax(1).gather(1, targets.where(counts, 0)[:, None])[:, 0]
    return -(log_p * counts).sum() / max(int(counts.sum()), 1)


def without_graph(logits: Tensor, targets: Tensor) -> Tensor:
    return loss(logits, targets) if counted(targets) else torch.zeros(())


def void_in_the_sum(logits: Tensor, targets: Tensor) -> Tensor:
    each = F.cross_entropy(enlarged(logits, targets), targets.where(targets != 255, 0), reduction="none")
    return each.sum() / counted(targets).clamp(min=1)


def scrambled(logits: Tensor, targets: Tensor) -> Tensor:
    rows = enlarged(logits, targets).reshape(-1, logits.shape[1])
    return total(rows, targets.flatten()) / counted(targets).clamp(min=1)


def likelihood(x: Tensor, targets: Tensor) -> Tensor:
    return F.nll_loss(x, targets, ignore_index=255, reduction="sum") / counted(targets).clamp(min=1)


RIGHT_LOSS = {"sum": loss, "rows": loss_of_rows, "gather": by_gather}
WRONG_LOSS = {
    "NaN": (lambda x, t: F.cross_entropy(enlarged(x, t), t, ignore_index=255), "0/0"),
    "all pixels": (lambda x, t: total(enlarged(x, t), t) / t.numel(), "not by all"),
    "sum": (lambda x, t: total(enlarged(x, t), t), "not the sum"),
    "one more": (lambda x, t: total(enlarged(x, t), t) / (counted(t) + 1), "adding 1"),
    "void in the sum": (void_in_the_sum, "their loss is in your sum"),
    "scrambled": (scrambled, "reshape moves no axis"),
    "likelihood of logits": (lambda x, t: likelihood(enlarged(x, t), t), "nll_loss wants log_softmax"),
    "probabilities enlarged": (lambda x, t: likelihood(enlarged(x.softmax(1), t).log(), t), "then take the softmax"),
    "no graph": (without_graph, "no gradient reaches the input"),
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

TestSemantic = exercise_tests(
    {
        "11-1: 5": (checks.semantic_map, RIGHT_MAP, WRONG_MAP),
        "11-2: 6": (checks.semantic_loss, RIGHT_LOSS, WRONG_LOSS),
    }
)
