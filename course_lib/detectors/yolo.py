"""YOLOv3: one box for each prior of each cell, and a number that says whether anything is there.

Redmon & Farhadi: YOLOv3: An Incremental Improvement, 2018 (https://arxiv.org/abs/1804.02767); priors by k-means as in
YOLO9000, 2017. Where the authors' program departs from their text the difference is a field of a spec below. The first
YOLO, without priors, is in `yolo_v1.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.detectors.targets import check_targets
from course_lib.nn.darknet import ScaleHeads
from course_lib.nn.preprocess import InputSpec, Preprocess, Size, rescale_boxes
from course_lib.ops.boxes import box_iou, clip_boxes
from course_lib.ops.cells import decode_cells, encode_cells, grid_cells
from course_lib.ops.kmeans import shape_iou
from course_lib.ops.losses import giou_loss
from course_lib.ops.nms import batched_nms


@dataclass(frozen=True, kw_only=True)
class PriorSpec:
    """The priors: anchor shapes, three of each scale in the paper.

    Attributes:
        shapes: for each level, fine to coarse, (width, height) of each prior in pixels of the network's input.
        strides: side of a cell in pixels, by level.
    """

    shapes: tuple[tuple[tuple[float, float], ...], ...]
    strides: tuple[int, ...] = (8, 16, 32)

    @classmethod
    def from_shapes(cls, shapes: Tensor, strides: tuple[int, ...]) -> "PriorSpec":
        """Shapes (k, 2) by rising area, as `kmeans_anchors` gives them, shared out evenly: the small to the fine level.

        Raises:
            ValueError: if the levels do not divide k.
        """
        if len(shapes) == 0 or len(shapes) % len(strides):
            raise ValueError(f"priors: found {len(shapes)} shapes, expected a multiple of the {len(strides)} levels")
        rows = [(round(w, 1), round(h, 1)) for w, h in shapes.tolist()]
        each = len(rows) // len(strides)
        return cls(shapes=tuple(tuple(rows[i : i + each]) for i in range(0, len(rows), each)), strides=strides)


@dataclass(frozen=True, kw_only=True)
class YOLOMatchSpec:
    """Which slots answer for an object: in the cell of its centre, the prior of all levels whose shape fits best.

    Attributes:
        extra: if given, also every other prior whose shape has at least this IoU with the object's, each at its own
            level. The paper has one slot an object; later YOLOs have several, and learn faster.
        ignore: a slot without an object whose box overlaps one by more than this learns no objectness.
        ignore_by: the box that is meant: "prior" (the text of Sec. 2.1) or "prediction" (the authors' program).
    """

    extra: float | None = None
    ignore: float = 0.5
    ignore_by: str = "prediction"

    def __post_init__(self):
        if self.ignore_by not in ("prior", "prediction"):
            raise ValueError(f"ignore_by must be 'prior' or 'prediction', not {self.ignore_by!r}")


@dataclass(frozen=True, kw_only=True)
class YOLOLossSpec:
    """Cross entropy for objectness and, class by class, for the classes of slots with an object; `box` for their boxes.

    Attributes:
        box: "squared", or "giou" on decoded boxes. "squared" has the gradient of Sec. 2.1, prediction − truth, at the
            head's output, as in the authors' program: half the square for tw and th, cross entropy for σ(tx) and σ(ty),
            less what a perfect prediction costs. It is weighted by 2 − the object's share of the image, for small ones.
        box_weight, class_weight: of these terms; objectness has 1.
        normalizer: the sums are divided by the "images" of the batch (the authors' program) or by its "positives".
    """

    box: str = "squared"
    box_weight: float = 1.0
    class_weight: float = 1.0
    normalizer: str = "images"

    def __post_init__(self):
        if self.box not in ("squared", "giou"):
            raise ValueError(f"box must be 'squared' or 'giou', not {self.box!r}")
        if self.normalizer not in ("images", "positives"):
            raise ValueError(f"normalizer must be 'images' or 'positives', not {self.normalizer!r}")


@dataclass(frozen=True, kw_only=True)
class YOLODetectSpec:
    """From slots to a short list: objectness × class above `score`, best `topk`, NMS at `nms`, best `detections`."""

    score: float = 0.05
    topk: int = 1000
    nms: float = 0.5
    detections: int = 100


class YOLO(nn.Module):
    """Backbone, concatenating neck, one head a scale.

    Args:
        backbone: images (B, 3, H, W) to a dict of maps (`Darknet`, `ResNet`).
        fpn: that dict to a list of maps, one per level (`ConcatPyramid`).
        num_classes: foreground classes K.
        prior: objectness at the start, see `ScaleHeads`.
        priors, matching, loss, detect, input: the specs above and `InputSpec`.

    Called on images (a list of (3, H, W) RGB in 0 … 1, any sizes, or a batch tensor):
        in training, with targets (a list of dicts `boxes` (N, 4), `labels` (N,)), it returns the losses
        {"objectness", "classification", "bbox_regression"}; an image without objects is ordinary.
        In evaluation it returns a list of dicts `boxes` (N, 4), `labels` (N,), `scores` (N,), best first, in the
        pixels of each given image, or of `output_sizes` where given.

    Raises:
        ValueError: for levels that do not belong together, for images that are not images, and for targets as
            `check_targets` says.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        fpn: nn.Module,
        num_classes: int,
        prior: float | None = None,
        priors: PriorSpec,
        matching: YOLOMatchSpec,
        loss: YOLOLossSpec,
        detect: YOLODetectSpec,
        input: InputSpec,
    ):
        super().__init__()
        if not len(priors.shapes) == len(priors.strides) == fpn.num_levels:
            raise ValueError(
                f"{len(priors.shapes)} levels of priors, {len(priors.strides)} strides, {fpn.num_levels} of the neck"
            )
        self.preprocess = Preprocess(input)
        self.backbone = backbone
        self.fpn = fpn
        self.head = ScaleHeads(fpn.widths, num_anchors=len(priors.shapes[0]), outputs=5 + num_classes, prior=prior)
        self.num_classes = num_classes
        self.prior_spec, self.match_spec, self.loss_spec, self.detect_spec = priors, matching, loss, detect
        self._cells: dict = {}

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
        outputs, cells, grids = self.dense(batch.images)
        if self.training:
            boxes = [rescale_boxes(t["boxes"], *s) for t, *s in zip(targets, batch.original_sizes, batch.sizes)]
            labels = [t["labels"] for t in targets]
            return self.losses(torch.cat(outputs, 1), torch.cat(cells), grids, boxes, labels)
        return [
            self.detect(torch.cat([x[i] for x in outputs]), torch.cat(cells), size, output)
            for i, (size, output) in enumerate(zip(batch.sizes, output_sizes or batch.original_sizes))
        ]

    def dense(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], list[Size]]:
        """A normalised batch (B, 3, H, W) to each level's outputs (B, A, 5 + K), slots (A, 5) and (H_l, W_l)."""
        features = self.fpn(self.backbone(images))
        grids = [tuple(x.shape[-2:]) for x in features]
        return self.head(features), self.cells(grids, images.device), grids

    def cells(self, grids: Sequence[Size], device: torch.device) -> list[Tensor]:
        """The slots (A_l, 5) of every level for maps of the given (H_l, W_l), see `ops.cells`; computed once."""
        spec = self.prior_spec
        if torch.compiler.is_exporting():  # as in `AnchorPyramid`
            return lay_out_cells(spec, grids)
        key = (spec, tuple(grids), device)
        if key not in self._cells:
            self._cells[key] = [x.to(device) for x in lay_out_cells(spec, grids)]
        return self._cells[key]

    # ---- targets and losses -------------------------------------------------------------------------------------

    def losses(
        self, outputs: Tensor, cells: Tensor, grids: Sequence[Size], boxes: list[Tensor], labels: list[Tensor]
    ) -> dict[str, Tensor]:
        """The three losses for outputs (B, A, 5 + K), slots (A, 5) and each image's objects."""
        t, objectness, logits = outputs.float().split((4, 1, self.num_classes), -1)
        objectness = objectness.squeeze(-1)  # (B, A)
        image, slot, which = responsible_slots(boxes, grids, self.prior_spec, self.match_spec.extra)  # (P,) each
        true_boxes, true_labels = torch.cat(boxes)[which], torch.cat(labels)[which]
        present = torch.zeros_like(objectness)
        present[image, slot] = 1
        counted = ~self._ignored(t, cells, boxes) | present.bool()
        objectness_loss = F.binary_cross_entropy_with_logits(objectness, present, counted.float(), reduction="sum")
        classes = F.one_hot(true_labels, self.num_classes).float()  # (P, K)
        class_loss = F.binary_cross_entropy_with_logits(logits[image, slot], classes, reduction="sum")
        box_loss = self._box_loss(t[image, slot], cells[slot], true_boxes, grids)
        spec = self.loss_spec
        normalizer = len(boxes) if spec.normalizer == "images" else max(1, len(image))
        return {
            "objectness": objectness_loss / normalizer,
            "classification": spec.class_weight * class_loss / normalizer,
            "bbox_regression": spec.box_weight * box_loss / normalizer,
        }

    @torch.no_grad()
    def _ignored(self, t: Tensor, cells: Tensor, boxes: list[Tensor]) -> Tensor:
        """Mask (B, A) of the slots whose box overlaps an object too much to be called background."""
        spec = self.match_spec
        guesses = decode_cells(t if spec.ignore_by == "prediction" else torch.zeros_like(t), cells)  # (B, A, 4)
        ignored = torch.zeros(guesses.shape[:2], dtype=torch.bool, device=t.device)
        for i, (mine, objects) in enumerate(zip(guesses, boxes)):
            if len(objects):
                ignored[i] = box_iou(objects, mine).amax(0) > spec.ignore
        return ignored

    def _box_loss(self, t: Tensor, cells: Tensor, boxes: Tensor, grids: Sequence[Size]) -> Tensor:
        """Summed loss for the numbers t (P, 4) of slots (P, 5) that answer for boxes (P, 4)."""
        if self.loss_spec.box == "giou":
            return giou_loss(decode_cells(t, cells), boxes).sum()
        truth = encode_cells(boxes, cells)
        place, size = truth[:, :2], truth[:, 2:]  # (P, 2) each
        entropy = -(torch.xlogy(place, place) + torch.xlogy(1 - place, 1 - place))
        place_loss = F.binary_cross_entropy_with_logits(t[:, :2], place, reduction="none") - entropy
        loss = place_loss + 0.5 * (t[:, 2:] - size) ** 2
        image_area = grids[0][0] * grids[0][1] * self.prior_spec.strides[0] ** 2
        share = (boxes[:, 2:] - boxes[:, :2]).prod(1) / image_area
        return ((2 - share) * loss.sum(1)).sum()

    # ---- inference ----------------------------------------------------------------------------------------------

    def detect(self, outputs: Tensor, cells: Tensor, size: Size, output_size: Size) -> dict[str, Tensor]:
        """Detections of one image from its outputs (A, 5 + K) and slots (A, 5).

        A score is at most the slot's objectness, so classes are looked at where that passes the threshold.
        """
        spec = self.detect_spec
        threshold = math.log(spec.score / (1 - spec.score)) if spec.score > 0 else -math.inf
        outputs = outputs.float()
        slots = (outputs[:, 4] > threshold - 1e-4).nonzero().squeeze(1)  # the slack covers the rounding of both sides
        scores = outputs[slots, 4:5].sigmoid() * outputs[slots, 5:].sigmoid()  # (N, K)
        row, labels = (scores > spec.score).nonzero(as_tuple=True)
        scores, best = scores[row, labels].topk(min(spec.topk, len(row)))
        slots, labels = slots[row[best]], labels[best]
        boxes = clip_boxes(decode_cells(outputs[slots, :4], cells[slots]), size)
        keep = batched_nms(boxes, scores, labels, spec.nms)[: spec.detections]
        return {"boxes": rescale_boxes(boxes[keep], size, output_size), "labels": labels[keep], "scores": scores[keep]}


def lay_out_cells(spec: PriorSpec, grids: Sequence[Size]) -> list[Tensor]:
    """The slots (A_l, 5) of every level for maps of the given (H_l, W_l)."""
    levels = zip(spec.shapes, grids, spec.strides)
    return [grid_cells(torch.tensor(shapes), grid, stride) for shapes, grid, stride in levels]


@torch.no_grad()
def responsible_slots(
    boxes: list[Tensor], grids: Sequence[Size], spec: PriorSpec, extra: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The slots that answer for the objects of a batch.

    Args:
        boxes: for each of B images (N_i, 4), in pixels of the network's input; N_i may be 0.
        grids: (H_l, W_l) of each level.
        spec: priors and strides.
        extra: see `YOLOMatchSpec`.

    Returns:
        image (P,), slot (P,) in the order of the concatenated levels, and object (P,), an index into all boxes
        concatenated. A slot has one object: of several that claim it, one for which it is the best, then the one
        whose shape fits better, then the first.
    """
    everything = torch.cat(boxes)
    device = everything.device
    image_of = torch.arange(len(boxes), device=device).repeat_interleave(
        torch.tensor([len(b) for b in boxes], device=device)
    )
    each = len(spec.shapes[0])
    levels = [(*grid, stride, each * h * w) for grid, stride in zip(grids, spec.strides) for h, w in (grid,)]
    height, width, stride, count = torch.tensor(levels, device=device).unbind(1)  # (L,) each
    first = count.cumsum(0) - count  # of each level's slots
    iou = shape_iou(everything[:, 2:] - everything[:, :2], everything.new_tensor(spec.shapes).reshape(-1, 2))
    claims = F.one_hot(iou.argmax(1), iou.shape[1]).bool()  # (N, priors): the best
    quality = iou + claims
    if extra is not None:
        claims |= iou >= extra
    which, prior = claims.nonzero(as_tuple=True)  # (C,) each
    level = prior // each
    centre = (everything[which, :2] + everything[which, 2:]) / 2
    column, row = (centre / stride[level, None]).long().unbind(1)
    column = torch.minimum(column.clamp(min=0), width[level] - 1)  # a centre on the right edge is in the last cell
    row = torch.minimum(row.clamp(min=0), height[level] - 1)
    slot = first[level] + (row * width[level] + column) * each + prior % each
    order = quality[which, prior].argsort(descending=True, stable=True)
    key = (image_of[which] * count.sum() + slot)[order]
    place = key.argsort(stable=True)  # claims of a slot side by side, the strongest first
    key = key[place]
    winner = torch.ones_like(key, dtype=torch.bool)
    winner[1:] = key[1:] != key[:-1]
    chosen = order[place[winner]]
    return image_of[which[chosen]], slot[chosen], which[chosen]
