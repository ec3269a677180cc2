"""The first YOLO: one grid, no anchors, one squared-error loss.

Redmon, Divvala, Girshick, Farhadi: You Only Look Once, 2016 (https://arxiv.org/abs/1506.02640), Sec. 2. It is here to
be compared: `yolo.py` is what became of it. The head's numbers are linear, without sigmoid, and as in the authors'
program those for the sides are the square roots of their shares of the image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.detectors.targets import check_targets
from course_lib.nn.darknet import ConvBlock
from course_lib.nn.preprocess import InputSpec, Preprocess, Size, rescale_boxes
from course_lib.ops.boxes import clip_boxes, paired_iou
from course_lib.ops.nms import batched_nms


@dataclass(frozen=True, kw_only=True)
class V1Spec:
    """The numbers of Sec. 2: cells along a side S, boxes of a cell B, and the weights λ of Eq. 3."""

    grid: int = 7
    boxes: int = 2
    coord: float = 5.0
    no_object: float = 0.5


@dataclass(frozen=True)
class CellTargets:
    """What the cells of a batch shall learn: one row for each of P cells with an object.

    Attributes:
        index: image, row and column of each cell, (P,) each.
        place: the centre within its cell, x and y in 0 … 1, (P, 2).
        root: √w and √h, with w and h as shares of the image, (P, 2).
        boxes, labels: the objects themselves, (P, 4) and (P,).
        lost: how many objects had their centre in a cell that was taken.
    """

    index: tuple[Tensor, Tensor, Tensor]
    place: Tensor
    root: Tensor
    boxes: Tensor
    labels: Tensor
    lost: int


def cell_targets(boxes: list[Tensor], labels: list[Tensor], size: Size, grid: int) -> CellTargets:
    """The cell of each object, by its centre; of several in one cell the first is learnt and the others are lost.

    boxes: for each image (N_i, 4) in pixels; labels: (N_i,). size: (height, width). grid: S.
    """
    everything, all_labels = torch.cat(boxes), torch.cat(labels)
    device = everything.device
    counts = torch.tensor([len(b) for b in boxes], device=device)
    image = torch.arange(len(boxes), device=device).repeat_interleave(counts)  # (N,)
    extent = everything.new_tensor(size[::-1])  # (width, height)
    centre = (everything[:, :2] + everything[:, 2:]) / 2 / extent * grid  # in cells
    cell = centre.long().clamp(0, grid - 1)  # a centre on the right edge is in the last cell
    key = (image * grid + cell[:, 1]) * grid + cell[:, 0]
    order = key.argsort(stable=True)  # objects of one cell side by side, the first of them first
    first = torch.ones_like(key, dtype=torch.bool)
    first[1:] = key[order][1:] != key[order][:-1]
    kept = order[first]
    root = ((everything[kept, 2:] - everything[kept, :2]) / extent).sqrt()
    index = image[kept], cell[kept, 1], cell[kept, 0]
    place = centre[kept] - cell[kept]
    return CellTargets(index, place, root, everything[kept], all_labels[kept], len(key) - len(kept))


def v1_boxes(numbers: Tensor, size: Size) -> Tensor:
    """Boxes that the cells' numbers (x, y, √w, √h) mean: (..., S, S, B, 4) → the same shape, xyxy pixels.

    size: (height, width) of the image.
    """
    grid = numbers.shape[-4]
    extent = numbers.new_tensor(size[::-1])
    y, x = torch.meshgrid(*[torch.arange(grid, dtype=numbers.dtype, device=numbers.device)] * 2, indexing="ij")
    corner = torch.stack((x, y), -1)[:, :, None]  # (S, S, 1, 2)
    centre = (numbers[..., :2] + corner) / grid * extent
    half = numbers[..., 2:] ** 2 * extent / 2
    return torch.cat((centre - half, centre + half), -1)


def v1_losses(
    numbers: Tensor, confidence: Tensor, classes: Tensor, targets: CellTargets, size: Size, spec: V1Spec
) -> dict[str, Tensor]:
    """The parts of Eq. 3, each a sum of squares divided by the images.

    In a cell with an object the box that overlaps it most is responsible for it: its numbers learn the object, its
    confidence the IoU. All other boxes' confidences learn 0. Class probabilities are learnt in cells with an object.

    numbers: (N, S, S, B, 4). confidence: (N, S, S, B). classes: (N, S, S, K).
    """
    with torch.no_grad():
        guesses = v1_boxes(numbers, size)[targets.index]  # (P, B, 4)
        iou, responsible = paired_iou(guesses, targets.boxes[:, None].expand_as(guesses)).max(1)  # (P,) each
        wanted, weight = torch.zeros_like(confidence), torch.full_like(confidence, spec.no_object)
        wanted[(*targets.index, responsible)] = iou
        weight[(*targets.index, responsible)] = 1
    mine = numbers[(*targets.index, responsible)]  # (P, 4)
    one_hot = F.one_hot(targets.labels, classes.shape[-1]).to(classes)
    images = len(numbers)
    return {
        "objectness": (weight * (confidence - wanted) ** 2).sum() / images,
        "classification": ((classes[targets.index] - one_hot) ** 2).sum() / images,
        "bbox_regression": spec.coord * ((mine - torch.cat((targets.place, targets.root), 1)) ** 2).sum() / images,
    }


class YOLOv1(nn.Module):
    """A backbone, a convolution, S×S cells: in the detector API of `YOLO`, with the losses of `v1_losses`.

    The paper has two fully connected layers over a 7×7 map; here the coarsest map is pooled to the grid and read by a
    1×1 convolution, so that inputs of any size will do.

    Args:
        backbone: images (B, 3, H, W) to a dict of maps, of which the last is used.
        channels: of that map.
        num_classes: foreground classes K.
        spec, input: see `V1Spec`, `InputSpec`.
        score, nms, detections: least confidence × class probability, NMS threshold, most detections.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        channels: int,
        num_classes: int,
        spec: V1Spec,
        input: InputSpec,
        score: float = 0.05,
        nms: float = 0.5,
        detections: int = 100,
    ):
        super().__init__()
        self.preprocess = Preprocess(input)
        self.backbone = backbone
        self.head = nn.Sequential(
            ConvBlock(channels, 2 * channels, 3),
            nn.AdaptiveAvgPool2d(spec.grid),
            nn.Conv2d(2 * channels, 5 * spec.boxes + num_classes, 1),
        )
        self.num_classes, self.spec = num_classes, spec
        self.score, self.nms, self.detections = score, nms, detections

    def forward(
        self,
        images: Tensor | list[Tensor],
        targets: list[dict] | None = None,
        output_sizes: list[Size] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training, detections in evaluation; see `YOLO`."""
        batch = self.preprocess(images)
        if self.training:
            targets = check_targets(targets, len(batch.sizes), self.num_classes)
        size = tuple(batch.images.shape[-2:])  # the grid lies over the padded image
        numbers, confidence, classes = self.dense(batch.images)
        if self.training:
            boxes = [rescale_boxes(t["boxes"], *s) for t, *s in zip(targets, batch.original_sizes, batch.sizes)]
            cells = cell_targets(boxes, [t["labels"] for t in targets], size, self.spec.grid)
            return v1_losses(numbers, confidence, classes, cells, size, self.spec)
        boxes = v1_boxes(numbers, size).flatten(1, 3)  # (N, S*S*B, 4)
        scores = (confidence.clamp(0, 1)[..., None] * classes.clamp(0, 1)[..., None, :]).flatten(1, 3)  # (N, S*S*B, K)
        outputs = output_sizes or batch.original_sizes
        return [self.detect(*x) for x in zip(boxes, scores, batch.sizes, outputs)]

    def dense(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A normalised batch to numbers (N, S, S, B, 4), confidence (N, S, S, B) and classes (N, S, S, K)."""
        *_, features = self.backbone(images).values()
        outputs = self.head(features).float().permute(0, 2, 3, 1)  # (N, S, S, 5B + K)
        boxes, classes = outputs.split((5 * self.spec.boxes, self.num_classes), -1)
        boxes = boxes.unflatten(-1, (self.spec.boxes, 5))
        return boxes[..., :4], boxes[..., 4], classes

    def detect(self, boxes: Tensor, scores: Tensor, size: Size, output_size: Size) -> dict[str, Tensor]:
        """Detections of one image from its boxes (A, 4) and scores (A, K)."""
        row, labels = (scores > self.score).nonzero(as_tuple=True)
        boxes, scores = clip_boxes(boxes[row], size), scores[row, labels]
        keep = batched_nms(boxes, scores, labels, self.nms)[: self.detections]
        return {"boxes": rescale_boxes(boxes[keep], size, output_size), "labels": labels[keep], "scores": scores[keep]}
