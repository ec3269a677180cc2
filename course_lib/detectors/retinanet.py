"""RetinaNet: one dense pass, and a loss that is not drowned by easy background.

Lin, Goyal, Girshick, He, Dollár: Focal Loss for Dense Object Detection, 2017. Where torchvision and Detectron2
depart from the paper or from each other the difference is a field of a spec below, set by name in `presets.py`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib.detectors.anchor_pyramid import AnchorPyramid, AnchorSpec
from course_lib.detectors.targets import MatchSpec, assign, check_targets
from course_lib.nn.heads import DenseHead
from course_lib.nn.preprocess import InputSpec, Preprocess, Size, rescale_boxes
from course_lib.ops.boxes import clip_boxes
from course_lib.ops.coder import decode
from course_lib.ops.losses import box_loss, focal_loss_from_labels
from course_lib.ops.nms import batched_nms


@dataclass(frozen=True, kw_only=True)
class LossSpec:
    """The loss: focal for classes, `box` ("l1", "smooth_l1" with `beta`, or "giou") for boxes.

    `normalizer` is what the sums are divided by: "image" (each image's positives, then the mean: torchvision),
    "batch" (the batch's positives) or "ema" (their moving average, from 100 at momentum 0.9: Detectron2).
    Never by all anchors: the easy ones add nothing to the loss, so they must not shrink it (Sec. 4.1).
    """

    alpha: float = 0.25
    gamma: float = 2.0
    box: str = "l1"
    beta: float = 0.1
    box_weight: float = 1.0
    normalizer: str = "image"


@dataclass(frozen=True, kw_only=True)
class DetectSpec:
    """From dense scores to a short list: above `score`, best `topk` of a level, NMS at IoU `nms`, best `detections`.

    `clip` says when boxes are cut at the border: "before_nms" (torchvision) or "after_nms", at the output size and
    dropping what is then empty (Detectron2).
    """

    score: float = 0.05
    topk: int = 1000
    nms: float = 0.5
    detections: int = 100
    clip: str = "before_nms"


class RetinaNet(nn.Module):
    """Backbone, pyramid, two dense heads.

    Args:
        backbone: images (B, 3, H, W) to a dict of maps (`ResNet`, `VGG16`).
        fpn: that dict to a list of maps, one per level.
        num_classes: foreground classes K; there is no background class, K sigmoids say "none" together.
        channels: of the pyramid.
        head_depth, head_norm, prior: see `DenseHead`.
        anchors, matching, loss, detect, input: the specs above and `InputSpec`.

    Called on images (a list of (3, H, W) RGB in 0 … 1, any sizes, or a batch tensor):
        in training, with targets (a list of dicts `boxes` (N, 4), `labels` (N,)), it returns the losses
        {"classification", "bbox_regression"}; an image without objects is ordinary.
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
        fpn: nn.Module,
        num_classes: int,
        channels: int = 256,
        head_depth: int = 4,
        head_norm: str | None = None,
        prior: float = 0.01,
        anchors: AnchorSpec,
        matching: MatchSpec,
        loss: LossSpec,
        detect: DetectSpec,
        input: InputSpec,
    ):
        super().__init__()
        if len(anchors.sizes) != fpn.num_levels:
            raise ValueError(f"{len(anchors.sizes)} levels of anchors for a pyramid of {fpn.num_levels} levels")
        self.preprocess = Preprocess(input)
        self.backbone = backbone
        self.fpn = fpn
        num_anchors = len(anchors.sizes[0]) * len(anchors.ratios)
        head = {"num_anchors": num_anchors, "num_levels": fpn.num_levels, "depth": head_depth, "norm": head_norm}
        self.class_head = DenseHead(channels, outputs=num_classes, prior=prior, **head)
        self.box_head = DenseHead(channels, outputs=4, **head)
        self.num_classes = num_classes
        self.anchor_spec, self.match_spec, self.loss_spec, self.detect_spec = anchors, matching, loss, detect
        self.anchors = AnchorPyramid(anchors)
        if loss.normalizer == "ema":
            self.register_buffer("positives_ema", torch.tensor(100.0))  # saved: a resumed run goes on from it

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
            labels = [t["labels"] for t in targets]
            return self.losses(torch.cat(logits, 1), torch.cat(deltas, 1), torch.cat(anchors), boxes, labels)
        return [
            self.detect([x[i] for x in logits], [x[i] for x in deltas], anchors, size, output)
            for i, (size, output) in enumerate(zip(batch.sizes, output_sizes or batch.original_sizes))
        ]

    def dense(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """A normalised batch (B, 3, H, W) to each level's logits (B, A, K), deltas (B, A, 4) and anchors (A, 4)."""
        features = self.fpn(self.backbone(images))
        anchors = self.anchors(tuple(images.shape[-2:]), [tuple(x.shape[-2:]) for x in features], images.device)
        return self.class_head(features), self.box_head(features), anchors

    # ---- targets and losses -------------------------------------------------------------------------------------

    def losses(
        self, logits: Tensor, deltas: Tensor, anchors: Tensor, boxes: list[Tensor], labels: list[Tensor]
    ) -> dict[str, Tensor]:
        """Both losses for logits (B, A, K), deltas (B, A, 4), anchors (A, 4) and each image's objects."""
        anchor_labels, matched_boxes = assign(anchors, boxes, labels, self.match_spec)
        positive = anchor_labels >= 0  # (B, A)
        image_index, anchor_index = positive.nonzero(as_tuple=True)  # (P,)
        spec = self.loss_spec
        box_losses = box_loss(
            deltas[image_index, anchor_index].float(),
            matched_boxes,
            anchors[anchor_index],
            kind=spec.box,
            beta=spec.beta,
        )
        counts = positive.sum(1)  # (B,)
        if spec.normalizer == "image":
            weight = 1 / counts.clamp(min=1) / len(counts)  # (B,): each image's positives, then the mean
            class_sums = torch.stack(
                [focal_loss_from_labels(x, y, spec.alpha, spec.gamma) for x, y in zip(logits, anchor_labels)]
            )
            classification = (class_sums * weight).sum()
            regression = (box_losses * weight[image_index]).sum()
        else:
            normalizer = self._normalizer(counts.sum())
            classification = focal_loss_from_labels(logits, anchor_labels, spec.alpha, spec.gamma) / normalizer
            regression = box_losses.sum() / normalizer
        return {"classification": classification, "bbox_regression": regression * spec.box_weight}

    def _normalizer(self, positives: Tensor) -> Tensor:
        positives = positives.clamp(min=1).float()
        if self.loss_spec.normalizer == "batch":
            return positives
        self.positives_ema.mul_(0.9).add_(0.1 * positives)
        return self.positives_ema.clone()

    # ---- inference ----------------------------------------------------------------------------------------------

    def detect(
        self, logits: list[Tensor], deltas: list[Tensor], anchors: list[Tensor], size: Size, output_size: Size
    ) -> dict[str, Tensor]:
        """Detections of one image from its levels' logits (A_l, K), deltas (A_l, 4), anchors (A_l, 4)."""
        spec = self.detect_spec
        levels = [
            select_candidates(x.float(), d.float(), a, score=spec.score, topk=spec.topk)
            for x, d, a in zip(logits, deltas, anchors)
        ]
        boxes, scores, labels = (torch.cat(parts) for parts in zip(*levels))
        if spec.clip == "before_nms":
            boxes = clip_boxes(boxes, size)
        keep = batched_nms(boxes, scores, labels, spec.nms)[: spec.detections]
        boxes, scores, labels = rescale_boxes(boxes[keep], size, output_size), scores[keep], labels[keep]
        if spec.clip == "after_nms":
            boxes = clip_boxes(boxes, output_size)
            kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
            boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
        return {"boxes": boxes, "labels": labels, "scores": scores}


def select_candidates(
    logits: Tensor, deltas: Tensor, anchors: Tensor, *, score: float, topk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best boxes of one level of one image, decoded.

    Nearly all of the A·K scores are far below the threshold, so the sigmoid and the decoding are spent on the
    survivors alone; thresholding logits is the same as thresholding probabilities since the sigmoid is monotone.

    Args:
        logits: (A, K).
        deltas: (A, 4).
        anchors: (A, 4).
        score: probabilities must be above this.
        topk: keep at most so many.

    Returns:
        boxes (N, 4), scores (N,), labels (N,), by falling score.
    """
    flat = logits.flatten()
    threshold = math.log(score / (1 - score)) if score > 0 else -math.inf
    index = (flat > threshold - 1e-4).nonzero().squeeze(1)  # the slack covers the rounding of both sides
    scores = flat[index].sigmoid()
    above = scores > score
    index, scores = index[above], scores[above]
    scores, best = scores.topk(min(topk, len(scores)))
    index = index[best]
    anchor_index = index // logits.shape[1]
    boxes = decode(deltas[anchor_index], anchors[anchor_index])
    return boxes, scores, index % logits.shape[1]
