"""Faster R-CNN: proposals first, then each of them is looked at again.

Ren, He, Girshick, Sun: Faster R-CNN, 2015; the second stage from Girshick: Fast R-CNN, 2015; over a pyramid, Lin et
al.: Feature Pyramid Networks, 2017, Sec. 4.2. Where torchvision and Detectron2 depart from one another the difference
is a field of a spec, set by name in `presets/faster_rcnn.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.detectors.rpn import RPN
from course_lib.detectors.targets import check_targets
from course_lib.nn.backbones import initialise
from course_lib.nn.norm import make_norm
from course_lib.nn.preprocess import Batch, InputSpec, Preprocess, Size, rescale_boxes
from course_lib.nn.roi import RoIPool
from course_lib.ops.boxes import box_iou, clip_boxes, remove_small
from course_lib.ops.coder import decode
from course_lib.ops.losses import box_loss
from course_lib.ops.matching import BACKGROUND, match
from course_lib.ops.nms import batched_nms
from course_lib.ops.sampling import sample_balanced


@dataclass(frozen=True, kw_only=True)
class BoxSpec:
    """What the second stage learns from, and how its boxes are encoded.

    Attributes:
        iou: a proposal that overlaps an object by this is the object's, else background.
        samples: proposals drawn of each image.
        positive_fraction: of them at most; the rest is background.
        weights: of the deltas, see `encode`.
        box, beta: kind of the box loss, see `box_loss`.
        box_weight: of that loss in the sum.
    """

    iou: float = 0.5
    samples: int = 512
    positive_fraction: float = 0.25
    weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)
    box: str = "l1"
    beta: float = 1 / 9
    box_weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class BoxDetectSpec:
    """From scored proposals to detections: above `score`, NMS at IoU `nms` within a class, best `detections`.

    Attributes:
        min_size: boxes with a side under so many of the network's pixels are dropped before NMS (torchvision: 0.01;
            Detectron2 keeps even the empty ones until the end).
    """

    score: float = 0.05
    nms: float = 0.5
    detections: int = 100
    min_size: float = 0.0


@dataclass(frozen=True)
class Samples:
    """The proposals of one image that the second stage learns from.

    Attributes:
        boxes: (S, 4), positives first.
        labels: (S,), a class 0 … K−1 or `BACKGROUND`.
        objects: (S,), which of the image's objects each answers for; `BACKGROUND` for none.
    """

    boxes: Tensor
    labels: Tensor
    objects: Tensor


class BoxHead(nn.Module):
    """The second stage: cut each proposal from the pyramid, name it and correct its box.

    Args:
        channels: of the pyramid.
        num_classes: foreground classes K; the softmax has one column more, the last, for background.
        pool: cuts the regions.
        convs: 3×3 convolutions on each region, 0 (two fully connected layers follow in most) or 4 (torchvision's v2).
        norm: of these convolutions, None or a name that `make_norm` knows.
        widths: of the fully connected layers.

    Shapes: maps and each image's boxes (R_i, 4) to logits (R, K + 1) and each class's deltas (R, K, 4), R = ΣR_i.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_classes: int,
        pool: RoIPool,
        convs: int = 0,
        norm: str | None = None,
        widths: Sequence[int] = (1024, 1024),
    ):
        super().__init__()
        self.pool = pool
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1, bias=norm is None),
                nn.Identity() if norm is None else make_norm(norm, channels),
            )
            for _ in range(convs)
        )
        inputs = (channels * pool.spec.size**2, *widths)
        self.fcs = nn.ModuleList(nn.Linear(a, b) for a, b in zip(inputs, widths))
        self.class_predictor = nn.Linear(inputs[-1], num_classes + 1)
        self.box_predictor = nn.Linear(inputs[-1], num_classes * 4)
        initialise(self)
        for layer in self.fcs:
            nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.normal_(self.class_predictor.weight, std=0.01)
        nn.init.normal_(self.box_predictor.weight, std=0.001)
        for layer in (*self.fcs, self.class_predictor, self.box_predictor):
            nn.init.zeros_(layer.bias)

    def forward(self, features: list[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (R, K + 1) and deltas (R, K, 4) of all images' boxes, image after image."""
        return self.predict(self.pool(features, boxes))

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (R, K + 1) and deltas (R, K, 4) of regions as the pool cuts them, (R, C, S, S)."""
        for conv in self.convs:
            x = F.relu(conv(x), inplace=True)
        x = x.flatten(1)  # (R, C*S*S)
        for fc in self.fcs:
            x = F.relu(fc(x), inplace=True)
        return self.class_predictor(x), self.box_predictor(x).unflatten(1, (-1, 4))


class FasterRCNN(nn.Module):
    """Backbone, pyramid, proposals, second stage.

    Args:
        backbone: images (B, 3, H, W) to a dict of maps (`ResNet`, `VGG16`).
        fpn: that dict to a list of maps, one per level.
        rpn: these maps to proposals.
        box_head: maps and proposals to logits and deltas.
        num_classes: foreground classes K.
        boxes, detect, input: the specs above and `InputSpec`.

    Called on images (a list of (3, H, W) RGB in 0 … 1, any sizes, or a batch tensor):
        in training, with targets (a list of dicts `boxes` (N, 4), `labels` (N,)), it returns the losses
        {"rpn_objectness", "rpn_bbox_regression", "classification", "bbox_regression"}; an image without objects is
        ordinary. `generator` draws the samples.
        In evaluation it returns a list of dicts `boxes` (N, 4), `labels` (N,), `scores` (N,), best first, in the
        pixels of each given image, or of `output_sizes` where given.

    Raises:
        ValueError: for images that are not images, or targets that are missing, not as many as the images,
            out of range, or whose boxes are empty or not finite.
    """

    uses_semantic = False  # a semantic head, which others add, also looks at levels coarser than the anchors'

    def __init__(
        self,
        *,
        backbone: nn.Module,
        fpn: nn.Module,
        rpn: RPN,
        box_head: BoxHead,
        num_classes: int,
        boxes: BoxSpec,
        detect: BoxDetectSpec,
        input: InputSpec,
    ):
        super().__init__()
        levels = len(rpn.anchors.spec.sizes)
        if levels != fpn.num_levels and not (self.uses_semantic and levels < fpn.num_levels):
            raise ValueError(f"{levels} levels of anchors for a pyramid of {fpn.num_levels} levels")
        self.preprocess = Preprocess(input)
        self.backbone = backbone
        self.fpn = fpn
        self.rpn = rpn
        self.box_head = box_head
        self.num_classes = num_classes
        self.box_spec, self.detect_spec = boxes, detect
        self.generator = torch.Generator()

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
        features = self.fpn(self.backbone(batch.images))
        if self.training:
            return self.losses(features, batch, targets)
        return self.outputs(features, batch, output_sizes or batch.original_sizes)

    # ---- training -----------------------------------------------------------------------------------------------

    def losses(self, features: list[Tensor], batch: Batch, targets: list[dict]) -> dict[str, Tensor]:
        """All four losses for the pyramid's maps and checked targets."""
        losses, _ = self.learn_boxes(features, batch, targets)
        return losses

    def learn_boxes(
        self, features: list[Tensor], batch: Batch, targets: list[dict]
    ) -> tuple[dict[str, Tensor], list[Samples]]:
        """The four losses, and each image's samples, which a mask head learns from too."""
        boxes = [rescale_boxes(t["boxes"], *s) for t, *s in zip(targets, batch.original_sizes, batch.sizes)]
        padded_size = tuple(batch.images.shape[-2:])
        proposals, losses = self.rpn(features, padded_size, batch.sizes, boxes, self.generator)
        second, samples = self.learn_proposals(features, proposals, boxes, [t["labels"] for t in targets])
        return losses | second, samples

    def learn_proposals(
        self, features: list[Tensor], proposals: list[Tensor], boxes: list[Tensor], labels: list[Tensor]
    ) -> tuple[dict[str, Tensor], list[Samples]]:
        """The second stage's two losses for proposals (R_i, 4) from anywhere, and each image's samples.

        All boxes are in the network's pixels; an image's objects have `boxes` (G_i, 4) and `labels` (G_i,).
        """
        samples = [draw_samples(*image, self.box_spec, self.generator) for image in zip(proposals, boxes, labels)]
        logits, deltas = self.box_head(features, [s.boxes for s in samples])
        return self.box_losses(logits, deltas, samples, boxes), samples

    def box_losses(
        self, logits: Tensor, deltas: Tensor, samples: list[Samples], boxes: list[Tensor]
    ) -> dict[str, Tensor]:
        """Cross entropy of all samples and box loss of the positives, both divided by the number of samples.

        Args:
            logits: (R, K + 1), K is background.
            deltas: (R, K, 4).
            samples: of each image.
            boxes: of each image's objects (G_i, 4).
        """
        spec = self.box_spec
        labels = torch.cat([s.labels for s in samples])  # (R,)
        positive = (labels >= 0).nonzero().squeeze(1)
        matched = torch.cat([b[s.objects[s.labels >= 0]] for b, s in zip(boxes, samples)])  # (P, 4)
        box_losses = box_loss(
            deltas[positive, labels[positive]].float(),
            matched,
            torch.cat([s.boxes for s in samples])[positive],
            kind=spec.box,
            beta=spec.beta,
            weights=spec.weights,
        )
        columns = torch.where(labels == BACKGROUND, self.num_classes, labels)
        classification = F.cross_entropy(logits.float(), columns, reduction="sum")
        count = max(len(labels), 1)
        return {
            "classification": classification / count,
            "bbox_regression": spec.box_weight * box_losses.sum() / count,
        }

    # ---- inference ----------------------------------------------------------------------------------------------

    def outputs(self, features: list[Tensor], batch: Batch, output_sizes: list[Size]) -> list[dict]:
        """What evaluation returns, for the pyramid's maps."""
        found = self.detect(features, self.propose(features, batch), batch.sizes)
        return [to_output(image, *sizes) for image, *sizes in zip(found, batch.sizes, output_sizes)]

    def propose(self, features: list[Tensor], batch: Batch) -> list[Tensor]:
        """Each image's proposals (R_i, 4)."""
        return self.rpn(features, tuple(batch.images.shape[-2:]), batch.sizes)[0]

    def detect(self, features: list[Tensor], proposals: list[Tensor], sizes: list[Size]) -> list[dict[str, Tensor]]:
        """Detections of each image in the network's pixels; the proposals (R_i, 4) may come from anywhere."""
        logits, deltas = self.box_head(features, proposals)
        counts = [len(p) for p in proposals]
        images = zip(logits.split(counts), deltas.split(counts), proposals, sizes)
        return [select_detections(*image, self.box_spec.weights, self.detect_spec) for image in images]


@torch.no_grad()
def draw_samples(
    proposals: Tensor, boxes: Tensor, labels: Tensor, spec: BoxSpec, generator: torch.Generator
) -> Samples:
    """A balanced few of an image's proposals (R, 4) and of its objects' own boxes (G, 4), with labels (G,).

    The objects' boxes are among the candidates, so that the second stage has positives while proposals are still poor.
    """
    candidates = torch.cat((proposals, boxes))  # (R + G, 4)
    objects = match(box_iou(boxes, candidates), low=spec.iou, high=spec.iou, low_quality=False)
    drawn = torch.cat(sample_balanced(objects, spec.samples, spec.positive_fraction, generator))  # (S,)
    objects = objects[drawn]
    sample_labels = objects.clone()
    sample_labels[objects >= 0] = labels[objects[objects >= 0]]
    return Samples(candidates[drawn], sample_labels, objects)


def select_detections(
    logits: Tensor,
    deltas: Tensor,
    proposals: Tensor,
    size: Size,
    weights: Sequence[float],
    spec: BoxDetectSpec,
) -> dict[str, Tensor]:
    """Detections of one image, best first, in the network's pixels. Only boxes above the score are decoded.

    Args:
        logits: (R, K + 1), the last column is background.
        deltas: (R, K, 4).
        proposals: (R, 4).
        size: (height, width) at whose border the boxes are cut.
        weights: of the deltas.
        spec: thresholds.
    """
    scores = logits.float().softmax(1)[:, :-1]  # (R, K)
    row, labels = (scores > spec.score).nonzero(as_tuple=True)  # (N,), (N,): a box may count for several classes
    scores = scores[row, labels]
    boxes = clip_boxes(decode(deltas[row, labels].float(), proposals[row], weights), size)
    kept = remove_small(boxes, spec.min_size)
    boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    keep = batched_nms(boxes, scores, labels, spec.nms)[: spec.detections]
    return {"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]}


def to_output(found: dict[str, Tensor], size: Size, output_size: Size) -> dict[str, Tensor]:
    """Detections of an image of `size` in the pixels of `output_size`, cut there, without those that are then empty."""
    boxes = clip_boxes(rescale_boxes(found["boxes"], size, output_size), output_size)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return {name: value[kept] for name, value in (found | {"boxes": boxes}).items()}
