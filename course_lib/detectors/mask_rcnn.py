"""Mask R-CNN: Faster R-CNN, and for each box that it finds a small mask.

He, Gkioxari, Dollár, Girshick: Mask R-CNN, 2017. In training the mask head learns from the second stage's positive
proposals, in evaluation it looks at the boxes that were detected: better boxes, and few of them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from course_lib.detectors.faster_rcnn import FasterRCNN, Samples
from course_lib.nn.mask_head import MaskHead
from course_lib.nn.preprocess import Batch, Size, rescale_boxes
from course_lib.ops.masks import crop_masks, mask_loss, of_class, paste_masks


@dataclass(frozen=True, kw_only=True)
class MaskSpec:
    """How masks are brought onto the head's grid and back, where torchvision and Detectron2 differ.

    Attributes:
        aligned, threshold: of the targets, see `crop_masks`; threshold None keeps shares between 0 and 1.
        sampling: of the pasting, see `paste_masks`.
        mask_weight: of the mask loss in the sum.
    """

    aligned: bool = True
    threshold: float | None = 0.5
    sampling: str = "grid"
    mask_weight: float = 1.0


class MaskRCNN(FasterRCNN):
    """Faster R-CNN with a third head.

    Args:
        mask_head: maps and boxes to a mask for each class.
        masks: the spec above.
        parts: the other arguments of `FasterRCNN`.

    Called like a `FasterRCNN`; in training the targets also have `masks` (N, H, W) bool in the pixels of the given
    image, and there is a loss "mask" more. In evaluation the dicts also have `masks` (N, H, W) bool, of the given
    image's size or of `output_sizes`.

    Raises:
        ValueError: also for masks that are missing, or not of the image's size or as many as its boxes.
    """

    uses_masks = True

    def __init__(self, *, mask_head: MaskHead, masks: MaskSpec, **parts):
        super().__init__(**parts)
        self.mask_head = mask_head
        self.mask_spec = masks

    def losses(self, features: list[Tensor], batch: Batch, targets: list[dict]) -> dict[str, Tensor]:
        """All five losses for the pyramid's maps and checked targets."""
        check_masks(targets, batch.original_sizes)
        losses, samples = self.learn_boxes(features, batch, targets)
        positives = [
            Samples(s.boxes[s.labels >= 0], s.labels[s.labels >= 0], s.objects[s.labels >= 0]) for s in samples
        ]
        logits = self.mask_head(features, [p.boxes for p in positives])  # (P, K, S, S)
        wanted = [
            self.mask_targets(p, target["masks"], size, original)
            for p, target, size, original in zip(positives, targets, batch.sizes, batch.original_sizes)
        ]
        loss = mask_loss(logits, torch.cat([p.labels for p in positives]), torch.cat(wanted))
        return losses | {"mask": self.mask_spec.mask_weight * loss}

    @torch.no_grad()
    def mask_targets(self, positives: Samples, masks: Tensor, size: Size, original_size: Size) -> Tensor:
        """What the head should say of an image's P positives: (P, S, S).

        They are cut out of the masks as they were given: the boxes go to the masks' pixels, not the masks to the
        network's.
        """
        boxes = rescale_boxes(positives.boxes, size, original_size)
        side = 2 * self.mask_head.pool.spec.size
        spec = self.mask_spec
        return crop_masks(masks, boxes, positives.objects, side, aligned=spec.aligned, threshold=spec.threshold)

    def outputs(self, features: list[Tensor], batch: Batch, output_sizes: list[Size]) -> list[dict]:
        """What evaluation returns, for the pyramid's maps; the masks are pasted into the images."""
        found = super().outputs(features, batch, output_sizes)
        sampling = self.mask_spec.sampling
        return [
            image | {"masks": paste_masks(image["masks"], image["boxes"], size, sampling=sampling)}
            for image, size in zip(found, output_sizes)
        ]

    def detect(self, features: list[Tensor], proposals: list[Tensor], sizes: list[Size]) -> list[dict[str, Tensor]]:
        """Detections of each image in the network's pixels, with `masks` (N, S, S), probabilities within the box."""
        found = super().detect(features, proposals, sizes)
        logits = self.mask_logits(features, [x["boxes"] for x in found], [x["labels"] for x in found])
        return [image | {"masks": x.sigmoid()} for image, x in zip(found, logits)]

    def mask_logits(self, features: list[Tensor], boxes: list[Tensor], labels: list[Tensor]) -> list[Tensor]:
        """The mask of each box for its class, image by image: boxes (N_i, 4), labels (N_i,) → (N_i, S, S) float32."""
        logits = of_class(self.mask_head(features, boxes), torch.cat(labels)).float()
        return list(logits.split([len(b) for b in boxes]))


def check_masks(targets: list[dict], sizes: list[Size]) -> None:
    """Raise a ValueError that says which image has no masks, too few, or masks of another size."""
    for i, (target, size) in enumerate(zip(targets, sizes)):
        expected = (len(target["boxes"]), *size)
        if "masks" not in target:
            raise ValueError(f"image {i}: the target has no masks, which this detector learns from")
        if tuple(target["masks"].shape) != expected:
            raise ValueError(f"image {i}: masks {tuple(target['masks'].shape)}, expected (N, H, W) = {expected}")
