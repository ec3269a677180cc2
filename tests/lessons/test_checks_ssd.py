"""Lesson 07's checks of SSD pass right solutions, however written, and name the mistake of each wrong one."""

import torch
from torch import Tensor

from course_lib.lessons import checks
from course_lib.ops.matching import match, match_ssd
from course_lib.ops.sampling import hard_negatives
from tests.lessons.exercises import exercise_tests

# ---- match_default_boxes ------------------------------------------------------------------------------------------


def match_steps(iou: Tensor, threshold, *, reached=torch.ge, force=True, own=False, order="threshold, best") -> Tensor:
    """Matching step by step, each step with its mistakes."""
    matched = torch.full((iou.shape[1],), -1)
    if len(iou) == 0:
        return matched
    overlap, objects = iou.max(0)
    for step in order.split(", "):
        if step == "threshold":
            matched = torch.where(reached(overlap, threshold), objects, matched)
        elif force:
            best = iou.argmax(1)
            matched[best] = objects[best] if own else torch.arange(len(iou))
    return matched


def match_loop(iou: Tensor, threshold, wins="last") -> Tensor:
    """Box by box and object by object, in plain Python."""
    matched = []
    for column in iou.T.tolist():
        best = max(range(len(column)), key=column.__getitem__, default=0)
        matched.append(best if column and column[best] >= threshold else -1)
    rows = list(enumerate(iou.tolist()))
    for g, row in rows if wins == "last" else rows[::-1]:
        matched[row.index(max(row))] = g
    return torch.tensor(matched)


def next_free(iou: Tensor, threshold) -> Tensor:
    """Bipartite: who finds the best box taken looks for another."""
    matched, free = match_steps(iou, threshold, force=False), iou.clone()
    for g in range(len(iou)):
        box = free[g].argmax()
        matched[box], free[:, box] = g, -1
    return matched


def reached_last(iou: Tensor, threshold) -> Tensor:
    matched = torch.full((iou.shape[1],), -1)
    for g in range(len(iou)):
        matched[iou[g] >= threshold] = g
    return matched


def cut_at_last(iou: Tensor, threshold) -> Tensor:
    """First the objects' boxes, then the threshold for all."""
    overlap, matched = iou.max(0)
    matched[iou.argmax(1)] = torch.arange(len(iou))
    matched[overlap < threshold] = -1
    return matched


def float_answer(iou: Tensor, threshold) -> Tensor:
    return match_steps(iou, threshold).float()


RIGHT_MATCH = {
    "the library": lambda iou, threshold: match_ssd(iou, threshold=threshold),
    "steps": match_steps,
    "loops": match_loop,
}
WRONG_MATCH = {
    "threshold alone": (lambda *a: match_steps(*a, force=False), "each object also gets the box that it overlaps most"),
    "best alone": (lambda *a: match_steps(*a, order="best"), "a box that reaches the threshold learns an object too"),
    "its own object": (lambda *a: match_steps(*a, own=True), "you gave it the object that it overlaps most"),
    "threshold last": (lambda *a: match_steps(*a, order="best, threshold"), "your threshold overwrote it"),
    "the first wins": (lambda *a: match_loop(*a, wins="first"), "the last of them gets it"),
    "the next free box": (next_free, "none looks further"),
    "the last it reaches": (reached_last, "not the last that it reaches"),
    "the threshold for all": (cut_at_last, "boxes that objects had taken"),
    "more than": (lambda *a: match_steps(*a, reached=torch.gt), ">=, not >"),
    "zero is background": (lambda *a: match_steps(*a).clamp(min=0), "background is −1"),
    "counted from one": (lambda *a: torch.where(match_steps(*a) < 0, -1, match_steps(*a) + 1), "begin at 0"),
    "as RetinaNet": (lambda iou, t: match(iou, low=t - 0.1, high=t, low_quality=True), "«between»"),
    "a mask": (lambda *a: match_steps(*a) >= 0, "int64"),
    "the IoU": (lambda iou, t: torch.where(match_steps(iou, t) >= 0, iou.amax(0), -1.0), "int64"),
    "floats": (float_answer, "int64"),
    "for each object": (lambda iou, t: iou.argmax(1), "each box's object is asked for"),
    "0.5 whatever is asked": (lambda iou, t: match_steps(iou, 0.5), "not with 0.5"),
    "in place": (lambda iou, t: match_steps(iou.add_(0.0 * iou).mul_(0.5), t), "changed its input in place"),
    "nothing": (lambda iou, t: None, "returned nothing"),
}

# ---- mine_negatives -----------------------------------------------------------------------------------------------


def mine_topk(loss: Tensor, positive: Tensor, ratio, *, hide=True, clean=True, least=0, largest=True, more=0) -> Tensor:
    """Image by image with topk, each step with its mistakes."""
    kept = torch.zeros_like(positive)
    for row, (values, objects) in enumerate(zip(loss, positive)):
        count = max(least, int(objects.sum())) * ratio + more
        worst = -torch.inf if largest else torch.inf
        values = values.masked_fill(objects, worst) if hide else values
        kept[row, values.topk(min(count, len(values)), largest=largest).indices] = True
    return kept & ~positive if clean else kept


def mine_sorted(loss: Tensor, positive: Tensor, ratio, *, twice=True) -> Tensor:
    order = loss.masked_fill(positive, -1).argsort(-1, descending=True)
    rank = order.argsort(-1) if twice else order
    return (rank < ratio * positive.sum(-1, keepdim=True)) & ~positive


def upwards(loss: Tensor, positive: Tensor, ratio) -> Tensor:
    rank = loss.masked_fill(positive, -torch.inf).argsort(-1).argsort(-1)
    return (rank < ratio * positive.sum(-1, keepdim=True)) & ~positive


def along(dim: int, fill=-torch.inf):
    """Ranked along a dimension, the objects' loss replaced."""

    def answer(loss: Tensor, positive: Tensor, ratio) -> Tensor:
        rank = loss.masked_fill(positive, fill).argsort(dim, descending=True).argsort(dim)
        return (rank < ratio * positive.sum(-1, keepdim=True)) & ~positive

    return answer


def in_the_background(loss: Tensor, positive: Tensor, ratio) -> Tensor:
    """The indices are those of the background picked out."""
    kept = torch.zeros_like(positive)
    for row, objects in enumerate(positive):
        background = loss[row][~objects]
        kept[row, background.sort(descending=True).indices[: ratio * int(objects.sum())]] = True
    return kept


def flat(loss: Tensor, positive: Tensor, ratio) -> Tensor:
    return mine_topk(loss.reshape(1, -1), positive.reshape(1, -1), ratio).reshape(loss.shape)


def over_batch(loss: Tensor, positive: Tensor, ratio) -> Tensor:
    order = loss.masked_fill(positive, -1).argsort(-1, descending=True)
    return (order.argsort(-1) < ratio * positive.sum()) & ~positive


RIGHT_MINE = {
    "the library": hard_negatives,
    "topk": mine_topk,
    "sorted twice": mine_sorted,
}
WRONG_MINE = {
    "the whole batch": (flat, "you ranked the whole batch together"),
    "the batch's count": (over_batch, "of the whole batch"),
    "objects among them": (lambda *a: mine_topk(*a, hide=False), "took places among the hardest"),
    "objects kept": (lambda *a: mine_topk(*a, hide=False, clean=False), "your mask holds boxes on objects"),
    "objects as filling": (lambda *a: mine_topk(*a, clean=False), "end with & ~positive"),
    "objects, too": (lambda loss, positive, r: mine_topk(loss, positive, r) | positive, "the background alone"),
    "sorted once": (lambda *a: mine_sorted(*a, twice=False), "not each place's rank"),
    "the easiest": (lambda *a: mine_topk(*a, largest=False), "you kept the easiest"),
    "objects counted in": (lambda loss, positive, r: mine_topk(loss, positive, r - 1), "you counted the objects in"),
    "objects first": (along(-1, torch.inf), "put them first with +∞"),
    "ranked over the images": (along(0), "rank along the last dimension"),
    "background counted": (lambda loss, positive, r: ~positive, "count the boxes on objects"),
    "upwards": (upwards, "the sort goes upwards"),
    "indices in the background": (in_the_background, "the mask counts all boxes"),
    "one too many": (lambda *a: mine_topk(*a, more=1), "one box too many"),
    "no ratio": (lambda loss, positive, r: mine_topk(loss, positive, 1), "the ratio is missing"),
    "at least one": (lambda *a: mine_topk(*a, least=1), "no clamp(min=1) here"),
    "all": (lambda loss, positive, r: ~positive, "that is all background"),
    "the losses": (lambda loss, positive, r: loss * mine_topk(loss, positive, r), "a mask is bool"),
    "indices": (lambda loss, positive, r: loss.topk(r).indices, "one bool for each box"),
    "in place": (
        lambda loss, positive, r: mine_topk(loss.masked_fill_(positive, -9.0), positive, r),
        "changed its input in place",
    ),
    "nothing": (lambda loss, positive, r: None, "returned nothing"),
}


TestExercises = exercise_tests(
    {
        "07-1: 6": (checks.match_default_boxes, RIGHT_MATCH, WRONG_MATCH),
        "07-2: 7": (checks.mine_negatives, RIGHT_MINE, WRONG_MINE),
    }
)
