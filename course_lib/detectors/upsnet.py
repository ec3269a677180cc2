"""UPSNet: Panoptic FPN with a semantic head that tells the things apart, and a panoptic head in place of the rule.

Xiong et al.: UPSNet, 2019. The panoptic head has no parameters; its loss teaches the two other heads to answer so that
one argmax over stuff, instances and "unknown" comes out right.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import roi_align

from course_lib.detectors.faster_rcnn import FasterRCNN
from course_lib.detectors.panoptic_fpn import PanopticFPN, as_output, to_batch
from course_lib.nn.preprocess import Batch, Size, rescale_boxes
from course_lib.ops.semantic import IGNORE, crop_labels, resize_labels, semantic_loss
from course_lib.panoptic.fusion import Canvas
from course_lib.panoptic.upsnet_head import (
    NOTHING,
    PruneSpec,
    decide,
    draw_known,
    panoptic_logits,
    panoptic_loss,
    panoptic_targets,
    prune,
    things_apart,
    to_canvas,
)


@dataclass(frozen=True, kw_only=True)
class UPSNetLossSpec:
    """What UPSNet learns beside Panoptic FPN's losses (Sec. 3.2).

    Attributes:
        panoptic: weight of the panoptic head's loss.
        region: weight of the semantic loss within the objects' boxes, where small objects count as much as large ones.
        region_side: of the grid over a box that it is taken on.
        drop: share of the instances that the head is not told of.
    """

    panoptic: float = 0.1
    region: float = 0.04
    region_side: int = 28
    drop: float = 0.3


class UPSNet(PanopticFPN):
    """Panoptic FPN with UPSNet's heads.

    Args:
        semantic_head: the pyramid's maps to logits (B, S + K, H/s, W/s): stuff, then things.
        upsnet_loss: weights and shares of its own losses.
        pruning: which detections come into the panoptic map.
        heuristic: fuse by Panoptic FPN's rule all the same, to compare the two on one network's answers.
        parts: the other arguments of `PanopticFPN`; `fusion.stuff_area` counts for both ways.

    Called like a `PanopticFPN`, with the same targets and outputs; there are the losses "region" and "panoptic" more.
    """

    def __init__(self, *, upsnet_loss: UPSNetLossSpec, pruning: PruneSpec, heuristic: bool = False, **parts):
        super().__init__(**parts)
        if self.num_stuff + self.num_classes > IGNORE:
            found = f"{self.num_stuff} stuff and {self.num_classes} things"
            raise ValueError(f"{found}: a semantic map holds {IGNORE} classes at most")
        self.upsnet_loss, self.pruning, self.heuristic = upsnet_loss, pruning, heuristic

    # ---- training -----------------------------------------------------------------------------------------------

    def semantic_losses(
        self, features: list[Tensor], logits: Tensor, batch: Batch, targets: list[dict]
    ) -> dict[str, Tensor]:
        """What is learnt from the semantic head's logits (B, S + K, H/s, W/s): three losses."""
        wanted = [things_apart(t["semantic"], t["masks"], t["labels"], self.num_stuff) for t in targets]
        wanted = to_batch(wanted, batch, IGNORE)  # (B, H, W)
        boxes = [rescale_boxes(t["boxes"], *s) for t, *s in zip(targets, batch.original_sizes, batch.sizes)]
        spec = self.upsnet_loss
        return {
            "semantic": self.panoptic_loss.semantic * semantic_loss(logits, wanted),
            "region": spec.region * self.region_loss(logits, wanted, boxes),
            "panoptic": spec.panoptic * self.map_loss(features, logits, batch, targets, boxes),
        }

    def region_loss(self, logits: Tensor, wanted: Tensor, boxes: list[Tensor]) -> Tensor:
        """Semantic loss on a grid over each object's box (G_i, 4), in the network's pixels."""
        side, scale = self.upsnet_loss.region_side, logits.shape[-1] / wanted.shape[-1]
        regions = roi_align(logits.float(), boxes, side, scale, aligned=True)  # (G, S + K, side, side)
        labels = torch.cat([crop_labels(w, b, side) for w, b in zip(wanted, boxes)])  # (G, side, side)
        return semantic_loss(regions, labels)

    def map_loss(
        self, features: list[Tensor], logits: Tensor, batch: Batch, targets: list[dict], boxes: list[Tensor]
    ) -> Tensor:
        """The panoptic head's loss at the semantic logits' resolution, for the objects' own boxes."""
        labels = [t["labels"] for t in targets]
        known = [draw_known(len(x), self.upsnet_loss.drop, self.generator).to(x.device) for x in labels]
        wanted = [panoptic_targets(t["semantic"], t["masks"], k, self.num_stuff) for t, k in zip(targets, known)]
        wanted = to_batch(wanted, batch, NOTHING)
        boxes, labels = [b[k] for b, k in zip(boxes, known)], [x[k] for x, k in zip(labels, known)]
        masks = self.mask_logits(features, boxes, labels)
        scale = logits.shape[-1] / wanted.shape[-1]
        said = [
            panoptic_logits(x.float(), b * scale, c, m, self.num_stuff)
            for x, b, c, m in zip(logits, boxes, labels, masks)
        ]
        return panoptic_loss(said, [resize_labels(w, logits.shape[-2:]) for w in wanted])

    # ---- inference ----------------------------------------------------------------------------------------------

    def detect(self, features: list[Tensor], proposals: list[Tensor], sizes: list[Size]) -> list[dict[str, Tensor]]:
        """As Mask R-CNN's, with `mask_logits` (N, m, m) besides."""
        found = FasterRCNN.detect(self, features, proposals, sizes)
        logits = self.mask_logits(features, [x["boxes"] for x in found], [x["labels"] for x in found])
        return [image | {"masks": x.sigmoid(), "mask_logits": x} for image, x in zip(found, logits)]

    def combine(self, found: dict[str, Tensor], logits: Tensor) -> dict:
        """One image's `semantic`, `panoptic` and `segments` from its detections and semantic logits (S + K, H, W)."""
        classes = logits.argmax(0)  # (H, W)
        semantic = torch.where(classes < self.num_stuff, classes + 1, 0)
        if self.heuristic:
            return {"semantic": semantic} | as_output(self.fuse_by_rule(found, semantic))
        return {"semantic": semantic} | as_output(self.fuse_by_head(found, logits, classes))

    def fuse_by_head(self, found: dict[str, Tensor], logits: Tensor, classes: Tensor) -> Canvas:
        """The panoptic head's answer, for one image's detections, its logits and their argmax (H, W)."""
        boxes, labels, scores, masks = (found[key] for key in ("boxes", "labels", "scores", "masks"))
        rows = prune(boxes, scores, labels, masks, self.pruning)
        winners = decide(logits, boxes[rows], labels[rows], found["mask_logits"][rows], self.num_stuff)
        return to_canvas(
            winners,
            classes,
            labels[rows],
            scores[rows],
            rows,
            num_stuff=self.num_stuff,
            stuff_share=self.pruning.stuff_share,
            stuff_area=self.fusion.stuff_area,
        )
