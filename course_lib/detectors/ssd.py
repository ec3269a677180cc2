"""SSD: every level of the backbone predicts for itself, and only the hardest background is learnt from.

Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg: SSD, Single Shot MultiBox Detector, 2016. Two years before the focal
loss it answers the same imbalance by leaving most of the background out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.detectors.anchor_pyramid import AnchorPyramid
from course_lib.detectors.targets import check_targets
from course_lib.nn.level_heads import LevelHeads
from course_lib.nn.preprocess import InputSpec, Preprocess, Size, rescale_boxes
from course_lib.ops.anchors import default_boxes, grid_anchors
from course_lib.ops.boxes import box_iou, clip_boxes
from course_lib.ops.coder import decode
from course_lib.ops.losses import box_loss
from course_lib.ops.matching import match_ssd
from course_lib.ops.nms import batched_nms
from course_lib.ops.sampling import hard_negatives


@dataclass(frozen=True, kw_only=True)
class DefaultBoxSpec:
    """Default boxes of each level (§2.2).

    Attributes:
        sizes: for each level two square roots of areas, in pixels of the network's input: that of its boxes, and of a
            second square, between this level's and the next.
        ratios: for each level, height / width of its boxes beside the two squares.
        strides: pixels between neighbouring boxes, by level. The first lies half a stride from the image's corner.
    """

    sizes: tuple[tuple[float, float], ...]
    ratios: tuple[tuple[float, ...], ...]
    strides: tuple[int, ...]

    def __post_init__(self):
        if not len(self.sizes) == len(self.ratios) == len(self.strides):
            raise ValueError(
                f"default boxes: found {len(self.sizes)} sizes, {len(self.ratios)} ratios and {len(self.strides)} "
                "strides, expected one of each a level"
            )


@dataclass(frozen=True, kw_only=True)
class LossSpec:
    """The loss: cross entropy for classes, with `negatives` background boxes for each box on an object, and `box`.

    `match_iou`: a default box learns an object from this IoU on, besides each object's best one. `box`, `beta`: see
    `ops.losses.box_loss`; `delta_weights` scale its deltas, see `ops.coder.encode`, in training and in inference.
    Both sums are divided by the boxes on objects in the batch (Eq. 1); `box_weight` is the paper's α.
    """

    match_iou: float = 0.5
    negatives: float = 3.0
    box: str = "smooth_l1"
    beta: float = 1.0
    box_weight: float = 1.0
    delta_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)


@dataclass(frozen=True, kw_only=True)
class DetectSpec:
    """From dense scores to a short list: above `score`, best `topk` of a class, NMS at IoU `nms`, best `detections`."""

    score: float = 0.01
    topk: int = 400
    nms: float = 0.45
    detections: int = 200


class SSD(nn.Module):
    """A backbone with maps at several scales, and on each of them two predictors.

    Args:
        backbone: images (B, 3, H, W) to a dict of maps, fine to coarse, with `levels`, their names, and `channels`
            (`SSDVGG16`, `ResNet`).
        num_classes: foreground classes K. The classifier has one more, background, the last.
        head_depth, head_norm, head_std: see `LevelHeads`; the paper has only the predictors.
        anchors, loss, detect, input: the specs above and `InputSpec`.

    Called on images (a list of (3, H, W) RGB in 0 … 1, any sizes, or a batch tensor):
        in training, with targets (a list of dicts `boxes` (N, 4), `labels` (N,)), it returns the losses
        {"classification", "bbox_regression"}; an image without objects adds nothing to either.
        In evaluation it returns a list of dicts `boxes` (N, 4), `labels` (N,), `scores` (N,), best first, in the
        pixels of each given image, or of `output_sizes` where given.

    Raises:
        ValueError: for images that are not images, or targets that are missing, not as many as the images,
            out of range, or whose boxes are empty or not finite.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        num_classes: int,
        head_depth: int = 0,
        head_norm: str | None = None,
        head_std: float | None = None,
        anchors: DefaultBoxSpec,
        loss: LossSpec,
        detect: DetectSpec,
        input: InputSpec,
    ):
        super().__init__()
        if len(anchors.sizes) != len(backbone.levels):
            raise ValueError(
                f"default boxes of {len(anchors.sizes)} levels for a backbone of {len(backbone.levels)} levels"
            )
        self.preprocess = Preprocess(input)
        self.backbone = backbone
        channels = [backbone.channels[level] for level in backbone.levels]
        boxes = [2 + len(ratios) for ratios in anchors.ratios]  # of a cell, by level
        head = {"num_anchors": boxes, "depth": head_depth, "norm": head_norm, "std": head_std}
        self.class_head = LevelHeads(channels, outputs=num_classes + 1, **head)
        self.box_head = LevelHeads(channels, outputs=4, **head)
        self.num_classes = num_classes
        self.loss_spec, self.detect_spec = loss, detect
        self.anchors = AnchorPyramid(anchors, lay_out_default_boxes)

    def forward(
        self,
        images: Tensor | list[Tensor],
        targets: list[dict] | None = None,
        output_sizes: list[Size] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training, detections in evaluation; see the class."""
        batch = self.preprocess(images)
        if self.training:
            targets = check_targets(targets, len(batch.sizes), self.num_classes)
        logits, deltas, anchors = self.dense(batch.images)
        if self.training:
            boxes = [rescale_boxes(t["boxes"], *s) for t, *s in zip(targets, batch.original_sizes, batch.sizes)]
            return self.losses(logits, deltas, anchors, boxes, [t["labels"] for t in targets])
        return [
            self.detect(logits[i], deltas[i], anchors, size, output)
            for i, (size, output) in enumerate(zip(batch.sizes, output_sizes or batch.original_sizes))
        ]

    def dense(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A normalised batch (B, 3, H, W) to logits (B, A, K + 1), deltas (B, A, 4) and default boxes (A, 4)."""
        features = list(self.backbone(images).values())
        anchors = self.anchors(tuple(images.shape[-2:]), [tuple(x.shape[-2:]) for x in features], images.device)
        logits, deltas = self.class_head(features), self.box_head(features)
        return torch.cat(logits, 1), torch.cat(deltas, 1), torch.cat(anchors)

    # ---- targets and losses -------------------------------------------------------------------------------------

    def losses(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, boxes: list[Tensor], labels: list[Tensor]
    ) -> dict[str, Tensor]:
        """Both losses for logits (B, A, K + 1), deltas (B, A, 4), default boxes (A, 4) and each image's objects."""
        spec = self.loss_spec
        classes, matched_boxes = self.targets(anchors, boxes, labels)
        class_losses, learnt = self.mine(logits, classes)
        image_index, anchor_index = (classes < self.num_classes).nonzero(as_tuple=True)  # (P,)
        box_losses = box_loss(
            deltas[image_index, anchor_index].float(),
            matched_boxes,
            anchors[anchor_index],
            kind=spec.box,
            beta=spec.beta,
            weights=spec.delta_weights,
        )
        normalizer = max(1, len(matched_boxes))
        return {
            "classification": class_losses[learnt].sum() / normalizer,
            "bbox_regression": box_losses.sum() / normalizer * spec.box_weight,
        }

    def targets(self, anchors: Tensor, boxes: list[Tensor], labels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What each default box of each image shall say.

        Returns:
            classes (B, A) int64, K for background; and for the P boxes on objects, in row-major order, the objects'
            boxes (P, 4).
        """
        matched = [match_ssd(box_iou(b, anchors), threshold=self.loss_spec.match_iou) for b in boxes]  # (A,) each
        classes = torch.full((len(boxes), len(anchors)), self.num_classes, device=anchors.device)
        for row, objects, image_labels in zip(classes, matched, labels):
            row[objects >= 0] = image_labels[objects[objects >= 0]]
        return classes, torch.cat([b[objects[objects >= 0]] for b, objects in zip(boxes, matched)])

    def mine(self, logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of every default box for logits (B, A, K + 1), and which ones are learnt from.

        Returns:
            cross entropy (B, A) float32; and (B, A) bool: all boxes on objects, and of each image's background the
            hardest, `negatives` for each box on an object.
        """
        losses = F.cross_entropy(logits.flatten(0, 1).float(), classes.flatten(), reduction="none")
        losses = losses.reshape(classes.shape)
        positive = classes < self.num_classes
        return losses, positive | hard_negatives(losses.detach(), positive, self.loss_spec.negatives)

    # ---- inference ----------------------------------------------------------------------------------------------

    def detect(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, size: Size, output_size: Size
    ) -> dict[str, Tensor]:
        """Detections of one image from its logits (A, K + 1), deltas (A, 4) and default boxes (A, 4)."""
        spec = self.detect_spec
        scores = logits.float().softmax(-1)[:, :-1]  # (A, K): without background
        anchor_index, labels = (scores > spec.score).nonzero(as_tuple=True)
        scores = scores[anchor_index, labels]
        best = best_of_each_class(scores, labels, spec.topk)
        anchor_index, labels, scores = anchor_index[best], labels[best], scores[best]
        boxes = decode(deltas[anchor_index].float(), anchors[anchor_index], self.loss_spec.delta_weights)
        boxes = clip_boxes(boxes, size)
        # One NMS for all classes shifts each class's boxes by a multiple of its number, and rounds; counted from 1, as
        # where 0 is background, they round as torchvision's do.
        keep = batched_nms(boxes, scores, labels + 1, spec.nms)[: spec.detections]
        return {"boxes": rescale_boxes(boxes[keep], size, output_size), "labels": labels[keep], "scores": scores[keep]}


def lay_out_default_boxes(spec: DefaultBoxSpec, image_size: Size, grids: Sequence[Size]) -> list[Tensor]:
    """Default boxes (A_l, 4) of every level for an input of `image_size` and maps of the given (H_l, W_l)."""
    return [
        grid_anchors(default_boxes(*sizes, ratios, limit=image_size) + stride / 2, grid, (stride, stride))
        for sizes, ratios, stride, grid in zip(spec.sizes, spec.ratios, spec.strides, grids)
    ]


def best_of_each_class(scores: Tensor, labels: Tensor, count: int) -> Tensor:
    """Indices of the `count` best of each class, class by class, best first: (N,), (N,) → (M,) int64."""
    order = scores.argsort(descending=True, stable=True)
    order = order[labels[order].argsort(stable=True)]
    counts = labels.bincount()
    first = (counts.cumsum(0) - counts)[labels[order]]  # where each one's class begins
    rank = torch.arange(len(order), device=order.device) - first
    return order[rank < count]
