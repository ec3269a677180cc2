"""UPSNet's panoptic head: one argmax over classes of stuff, instances and "unknown", without parameters of its own.

Xiong, Liao, Zhao, Hu, Bai, Yumer, Urtasun: UPSNet, 2019, Sec. 3.1 and Fig. 3. The semantic head's channels are S
classes of stuff, then K things. From them and the instances' boxes and masks come S + N + 1 channels:

    a class of stuff    its semantic logit
    an instance         inside its box the semantic logit of its class plus its mask's logit; outside 0
    unknown             the largest semantic logit of a thing, minus the largest that an instance took over

"Unknown" wins where the semantic head sees a thing and no instance answers for it: better void than a wrong class.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import nms

from course_lib.ops.semantic import IGNORE
from course_lib.panoptic.fusion import Canvas, FusionSpec, pasted_within, place_instances

NOTHING = -1  # a pixel of the panoptic targets that nothing is learnt from; 255 may be an instance there


@dataclass(frozen=True, kw_only=True)
class PruneSpec:
    """Which detections come into the panoptic map (Sec. 3.2 and 4.1).

    Attributes:
        score: above it.
        nms: IoU from which the worse of two boxes is dropped, whatever their classes.
        instances: at most.
        overlap: an instance of which a larger share is taken by better ones of its class is dropped.
        stuff_share: a region whose commonest semantic class is stuff, with this share at least, becomes stuff.
    """

    score: float = 0.6
    nms: float = 0.5
    instances: int = 100
    overlap: float = 0.3
    stuff_share: float = 0.5


# ---- the logits ------------------------------------------------------------------------------------------------------


def panoptic_logits(semantic: Tensor, boxes: Tensor, labels: Tensor, mask_logits: Tensor, num_stuff: int) -> Tensor:
    """The head's channels; differentiable in both kinds of logits.

    Args:
        semantic: (S + K, H, W), stuff first.
        boxes: (N, 4) xyxy in the pixels of `semantic`; they may stick out of it.
        labels: (N,) in 0 … K−1.
        mask_logits: (N, m, m) within the box.
        num_stuff: S, at least 1.

    Returns:
        (S + N + 1, H, W). Without instances nothing can be unknown: that channel is −∞.
    """
    stuff, things = semantic[:num_stuff], semantic[num_stuff:]
    if len(boxes) == 0:
        return torch.cat((stuff, torch.full_like(semantic[:1], -torch.inf)))
    inside_y, down, inside_x, across = _axes(boxes, semantic.shape[-2:], mask_logits.shape[-1])
    inside = inside_y[:, :, None] & inside_x[:, None, :]  # (N, H, W)
    of_class = things[labels] * inside  # (N, H, W)
    pasted = down @ mask_logits.to(down.dtype) @ across.mT  # (N, H, W)
    unknown = things.amax(0) - of_class.amax(0)  # (H, W)
    return torch.cat((stuff, of_class + pasted, unknown[None]))


def _axes(boxes: Tensor, size: tuple[int, int], side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `_axis` says of rows and columns: (N, H), (N, H, m), (N, W), (N, W, m)."""
    x1, y1, x2, y2 = boxes.unbind(1)
    return *_axis(y1, y2, size[0], side), *_axis(x1, x2, size[1], side)


def _axis(low: Tensor, high: Tensor, length: int, side: int) -> tuple[Tensor, Tensor]:
    """Along one axis, the pixels whose centre is in each box (N, L), and their weights on the mask's cells (N, L, m).

    Between the cells' centres is interpolated, beyond the outermost is the outermost; outside the box all are 0.
    """
    centres = torch.arange(length, device=low.device, dtype=low.dtype) + 0.5  # (L,)
    inside = (centres >= low[:, None]) & (centres < high[:, None])  # (N, L)
    share = (centres - low[:, None]) / (high - low).clamp(min=1e-6)[:, None]  # of the box
    position = (share * side - 0.5).clamp(0, side - 1)[..., None]  # in cells, 0 at the middle of the first
    weights = (1 - (position - torch.arange(side, device=low.device)).abs()).clamp(min=0)  # (N, L, m)
    return inside, weights * inside[..., None]


# ---- training --------------------------------------------------------------------------------------------------------


def draw_known(count: int, drop: float, generator: torch.Generator) -> Tensor:
    """Which of `count` instances the head is told of in training, in order; of the others it shall say "unknown".

    All but a share `drop` of them, and one at least where there is one.
    """
    known = min(count, max(1, round(count * (1 - drop))))
    return torch.randperm(count, generator=generator)[:known].sort().values


def things_apart(semantic: Tensor, masks: Tensor, labels: Tensor, num_stuff: int) -> Tensor:
    """The semantic head's targets: `semantic` (H, W) in the classes S + K, from one with 0 for every thing.

    Stuff 1 … S becomes 0 … S−1. A thing's pixel gets the class of the instance that is there, masks (N, H, W) and
    labels (N,), the first of several; without one (a crowd) it is `IGNORE`.
    """
    of_thing = torch.cat((labels + num_stuff, labels.new_tensor([IGNORE])))
    return _with_instances(semantic, masks, of_thing, IGNORE)


def panoptic_targets(semantic: Tensor, masks: Tensor, known: Tensor, num_stuff: int) -> Tensor:
    """What `panoptic_logits` of the known instances should say: (H, W) int64 channels, `NOTHING` where all is well.

    Args:
        semantic: (H, W), 0 for things, 1 … S for stuff, `IGNORE`.
        masks: (N, H, W) bool, of all instances.
        known: (M,) the rows of those that are told; the pixels of the others are unknown.
        num_stuff: S.
    """
    channels = torch.full((len(masks) + 1,), num_stuff + len(known), device=semantic.device)  # unknown
    channels[known] = torch.arange(num_stuff, num_stuff + len(known), device=semantic.device)
    channels[-1] = NOTHING
    return _with_instances(semantic, masks, channels, NOTHING)


def _with_instances(semantic: Tensor, masks: Tensor, channels: Tensor, ignore: int) -> Tensor:
    """Stuff from 0; at things the channel of the first mask that is there, the last channel where none is."""
    padded = torch.cat((masks, torch.ones_like(semantic, dtype=torch.bool)[None]))  # (N + 1, H, W)
    thing = channels[padded.byte().argmax(0)]  # of equals, the first
    stuff = torch.where(semantic == IGNORE, ignore, semantic - 1)
    return torch.where(semantic == 0, thing, stuff)


def panoptic_loss(logits: list[Tensor], targets: list[Tensor]) -> Tensor:
    """Mean cross entropy over the pixels of all images that are not `NOTHING`; 0 where there are none.

    logits: of each image (S + N_i + 1, H, W). targets: of each (H, W).
    """
    totals = [F.cross_entropy(x[None], t[None], ignore_index=NOTHING, reduction="sum") for x, t in zip(logits, targets)]
    return torch.stack(totals).sum() / sum((t != NOTHING).sum() for t in targets).clamp(min=1)


# ---- inference -------------------------------------------------------------------------------------------------------


def prune(boxes: Tensor, scores: Tensor, labels: Tensor, masks: Tensor, spec: PruneSpec) -> Tensor:
    """The rows of the detections that come into the map, best first: boxes (N, 4), masks (N, H, W) bool → (M,).

    The masks are those that `paste_masks` made of the boxes.
    """
    rows = (scores > spec.score).nonzero().squeeze(1)
    rows = rows[nms(boxes[rows], scores[rows], spec.nms)[: spec.instances]]
    rule = FusionSpec(score=-torch.inf, overlap=spec.overlap)
    kept = []
    for label in labels[rows].unique():
        same = rows[labels[rows] == label]
        canvas = Canvas.empty(*masks.shape[-2:])
        place_instances(canvas, masks[same], scores[same], labels[same], spec=rule, boxes=pasted_within(boxes[same]))
        kept += [int(same[s["instance"]]) for s in canvas.segments]
    kept = torch.tensor(kept, dtype=torch.int64, device=rows.device)
    return rows[torch.isin(rows, kept)]


@torch.no_grad()
def decide(semantic: Tensor, boxes: Tensor, labels: Tensor, mask_logits: Tensor, num_stuff: int) -> Tensor:
    """The winning channel of each pixel: (H, W) int64, `panoptic_logits(…).argmax(0)` without making the channels.

    An instance's is worked out inside its box alone. Elsewhere it says 0; of all who say so at a pixel the first
    counts. The boxes of the first 1, 2, … instances share smaller and smaller rectangles, so it is found at once.
    """
    best, winners = semantic[:num_stuff].max(0)  # (H, W), (H, W)
    count = len(boxes)
    if count == 0:
        return winners
    inside_y, down, inside_x, across = _axes(boxes, semantic.shape[-2:], mask_logits.shape[-1])
    rows, columns = _spans(inside_y), _spans(inside_x)
    outside, taken = torch.zeros_like(winners), torch.zeros_like(best)
    top, bottom, left, right = 0, len(best), 0, best.shape[1]
    for i, ((y1, y2), (x1, x2)) in enumerate(zip(rows, columns)):
        top, bottom, left, right = max(top, y1), min(bottom, y2), max(left, x1), min(right, x2)
        outside[top:bottom, left:right] = i + 1
    taken[outside == count] = -torch.inf  # in all boxes: nobody says 0
    for i, ((y1, y2), (x1, x2), label) in enumerate(zip(rows, columns, labels.tolist())):
        here = slice(y1, y2), slice(x1, x2)
        of_class = semantic[num_stuff + label][here]
        says = of_class + down[i, y1:y2] @ mask_logits[i].to(down.dtype) @ across[i, x1:x2].T
        better = says > best[here]
        winners[here].masked_fill_(better, num_stuff + i)
        best[here] = torch.maximum(best[here], says)
        taken[here] = torch.maximum(taken[here], of_class)
    zero = (outside < count) & ((best < 0) | (best == 0) & (winners > num_stuff + outside))
    winners = torch.where(zero, num_stuff + outside, winners)
    unknown = semantic[num_stuff:].amax(0) - taken
    return winners.masked_fill_(unknown > best.masked_fill_(zero, 0.0), num_stuff + count)


def _spans(inside: Tensor) -> list[tuple[int, int]]:
    """The first pixel inside and one past the last, of each row of (N, L) bool; twice the same where there is none."""
    first = inside.int().argmax(1)
    return list(zip(first.tolist(), (first + inside.sum(1)).tolist()))


def to_canvas(
    winners: Tensor,
    classes: Tensor,
    labels: Tensor,
    scores: Tensor,
    rows: Tensor,
    *,
    num_stuff: int,
    stuff_share: float,
    stuff_area: int,
) -> Canvas:
    """Segments from the winning channels.

    A region of an instance that the semantic head mostly calls one class of stuff becomes that stuff; stuff of fewer
    than `stuff_area` pixels and what is unknown becomes void.

    Args:
        winners: (H, W), of N instances, as `decide` gives them.
        classes: (H, W), the semantic head's: stuff, then things.
        labels, scores, rows: (N,) of the instances; `rows` are their places among the detections.
        num_stuff: S.
        stuff_share: how much of a region is "mostly".
        stuff_area: pixels.

    Returns:
        things, in the order of the instances, then stuff; labels of stuff are 1 … S, as of `fuse`.
    """
    winners, classes = winners.cpu().numpy(), classes.cpu().numpy()
    channels, width = num_stuff + len(labels) + 1, int(classes.max(initial=num_stuff)) + 1
    shared = np.bincount((winners * width + classes).ravel(), minlength=channels * width).reshape(channels, width)
    areas = shared.sum(1)
    becomes = np.arange(channels)
    for channel in range(num_stuff, channels - 1):
        commonest = shared[channel].argmax()
        if commonest < num_stuff and areas[channel] and shared[channel, commonest] >= stuff_share * areas[channel]:
            becomes[channel] = commonest
    areas = np.bincount(becomes, weights=areas, minlength=channels).astype(np.int64).tolist()
    canvas = Canvas.empty(*winners.shape)
    ids = np.zeros(channels, dtype=np.int32)
    for n, (label, score, row) in enumerate(zip(labels.tolist(), scores.tolist(), rows.tolist()), start=num_stuff):
        if areas[n] > 0:
            ids[n] = canvas.new_segment(label, areas[n], isthing=True, score=score, instance=row)
    for n in range(num_stuff):
        if areas[n] > 0 and areas[n] >= stuff_area:
            ids[n] = canvas.new_segment(n + 1, areas[n], isthing=False)
    canvas.panoptic = torch.from_numpy(ids[becomes].take(winners))
    return canvas
