"""Fusion: from overlapping instances and a semantic map to one segment a pixel, by rules without parameters.

Kirillov, Girshick, He, Dollár: Panoptic Feature Pyramid Networks, 2019, Sec. 3. Sure instances come first, and each
takes the pixels that are still free; then stuff fills what is left. Two rules of stuff: from a semantic map, as
Detectron2 does, or from a list of masks in their order, as panopticapi's merge does.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_lib.ops.boxes import clip_boxes


@dataclass(frozen=True, kw_only=True)
class FusionSpec:
    """Thresholds; the defaults are Detectron2's and panopticapi's.

    Attributes:
        score: instances below it are left out.
        overlap: an instance of which a larger share is taken already is left out.
        stuff_area: pixels that a class of stuff must fill, else they stay void.
    """

    score: float = 0.5
    overlap: float = 0.5
    stuff_area: int = 4096


@dataclass
class Canvas:
    """A panoptic map while it is filled.

    Attributes:
        panoptic: (H, W) int32 segment ids, 0 is void.
        segments: one dict for each id 1, 2, …: `id`, `isthing`, `label`, `area` in pixels, and of things `score` and
            `instance`, their place in the input.
    """

    panoptic: Tensor
    segments: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def empty(cls, height: int, width: int) -> "Canvas":
        """All void."""
        return cls(torch.zeros((height, width), dtype=torch.int32))

    def new_segment(self, label: int, area: int, **facts: Any) -> int:
        """Note a segment; returns its id."""
        self.segments.append({"id": len(self.segments) + 1, "label": label, "area": area, **facts})
        return len(self.segments)


def fuse(
    masks: Tensor,
    scores: Tensor,
    labels: Tensor,
    semantic: Tensor,
    *,
    spec: FusionSpec,
    boxes: Tensor | None = None,
) -> Canvas:
    """Detectron2's rule.

    Args:
        masks: (N, H, W) bool.
        scores, labels: (N,), in any order.
        semantic: (H, W) int64, the class of stuff of each pixel; 0 means "a thing" and is never filled in.
        spec: thresholds.
        boxes: (N, 4) xyxy pixels outside which the masks are known to be empty; makes it faster.

    Returns:
        the filled canvas; things and stuff have separate ranges of labels.
    """
    canvas = Canvas.empty(*semantic.shape)
    place_instances(canvas, masks, scores, labels, spec=spec, boxes=boxes)
    panoptic = canvas.panoptic.numpy()
    left = semantic.cpu().numpy() * (panoptic == 0)  # (H, W) what the free pixels say
    areas = np.bincount(left.ravel()).tolist()
    ids = np.zeros(len(areas), dtype=np.int32)
    for label, area in enumerate(areas[1:], start=1):
        if area > 0 and area >= spec.stuff_area:
            ids[label] = canvas.new_segment(label, area, isthing=False)
    panoptic += ids.take(left)
    return canvas


def merge_predictions(
    masks: Tensor,
    scores: Tensor,
    labels: Tensor,
    stuff_masks: Tensor,
    stuff_labels: Tensor,
    *,
    spec: FusionSpec,
) -> Canvas:
    """panopticapi's rule: as `fuse`, with stuff from masks (M, H, W) bool of labels (M,), in their order."""
    canvas = Canvas.empty(*stuff_masks.shape[-2:])
    place_instances(canvas, masks, scores, labels, spec=spec)
    for mask, label in zip(stuff_masks, stuff_labels.tolist()):
        left = mask & (canvas.panoptic == 0)
        area = int(left.sum())
        if area > 0 and area >= spec.stuff_area:
            canvas.panoptic[left] = canvas.new_segment(label, area, isthing=False)
    return canvas


def place_instances(
    canvas: Canvas, masks: Tensor, scores: Tensor, labels: Tensor, *, spec: FusionSpec, boxes: Tensor | None = None
) -> None:
    """Put the instances on the canvas, by falling score; arguments as of `fuse`.

    One of which more than `spec.overlap` is taken is a second look at the same thing, or hidden: it is left out. Any
    other gets its free pixels.
    """
    height, width = canvas.panoptic.shape
    regions = _regions(boxes, len(masks), height, width)
    panoptic, pixels = canvas.panoptic.numpy(), masks.cpu().numpy()  # small pieces: numpy has no threads to wake
    # Not a stable sort: Detectron2 has none, and in its recorded maps (`data/peers`) there are equal scores that a
    # stable one leaves in another order.
    order = torch.argsort(-scores)
    for instance, score, label in zip(order.tolist(), scores[order].tolist(), labels[order].tolist()):
        if score < spec.score:
            break
        rows, columns = regions[instance]
        mask, taken = pixels[instance, rows, columns], panoptic[rows, columns]
        free = mask & (taken == 0)
        area, kept = int(np.count_nonzero(mask)), int(np.count_nonzero(free))
        if kept > 0 and (area - kept) / area <= spec.overlap:
            np.copyto(taken, canvas.new_segment(label, kept, isthing=True, score=score, instance=instance), where=free)


def pasted_within(boxes: Tensor) -> Tensor:
    """Boxes (N, 4) that hold whatever `paste_masks` makes of these: rounding may go a pixel further out."""
    return boxes + boxes.new_tensor((-1, -1, 1, 1))


def _regions(boxes: Tensor | None, count: int, height: int, width: int) -> list[tuple[slice, slice]]:
    """The rows and columns of each mask that need a look."""
    if boxes is None:
        return [(slice(None), slice(None))] * count
    left_top, right_bottom = clip_boxes(boxes, (height, width)).split(2, dim=1)
    whole = torch.cat((left_top.floor(), right_bottom.ceil()), dim=1).int().tolist()
    return [(slice(y1, y2), slice(x1, x2)) for x1, y1, x2, y2 in whole]
