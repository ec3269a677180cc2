"""Panoptic FPN: Mask R-CNN and a semantic head on one pyramid; a rule makes one map of their two answers.

Kirillov, Girshick, He, Dollár: Panoptic Feature Pyramid Networks, 2019. The semantic head knows every class of stuff,
and 0, "a thing", for all things together, as Detectron2 has it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.detectors.mask_rcnn import MaskRCNN
from course_lib.nn.preprocess import Batch, Size
from course_lib.ops.semantic import IGNORE, resize_labels, resize_logits, semantic_loss
from course_lib.panoptic.fusion import Canvas, FusionSpec, fuse, pasted_within


@dataclass(frozen=True, kw_only=True)
class PanopticLossSpec:
    """Weights in the sum of the losses: of all of Mask R-CNN's, and of the semantic head's (Sec. 3, λ_i and λ_s)."""

    instances: float = 1.0
    semantic: float = 0.5


class PanopticFPN(MaskRCNN):
    """Mask R-CNN with a semantic head beside it.

    Args:
        semantic_head: the pyramid's maps to logits (B, S + 1, H/s, W/s) at the finest level's stride s; class 0 is
            "a thing".
        num_stuff: classes of stuff S.
        panoptic_loss: weights.
        fusion: thresholds of `fuse`.
        parts: the other arguments of `MaskRCNN`.

    The pyramid may have levels beyond the anchors'; only the semantic head looks at them.

    Called like a `MaskRCNN`; in training the targets also have `semantic` (H, W) int64 of the given image: 1 … S a
    class of stuff, 0 a thing, 255 nothing to learn; and there is a loss "semantic" more. In evaluation the dicts also
    have, at the size of the masks, `semantic` (H, W) int64 of such classes, `panoptic` (H, W) int32 segment ids, 0 for
    void, and `segments`, a list of dicts with `id`, `isthing`, `label` (a thing's 0 … K−1, or 1 … S), `area` in pixels,
    and of things `score` and `instance`, their row among the detections.

    Raises:
        ValueError: also for semantic maps that are missing, not of the image's size, or with other values.
    """

    uses_semantic = True

    def __init__(
        self,
        *,
        semantic_head: nn.Module,
        num_stuff: int,
        panoptic_loss: PanopticLossSpec,
        fusion: FusionSpec,
        **parts,
    ):
        super().__init__(**parts)
        self.semantic_head = semantic_head
        self.num_stuff = num_stuff
        self.panoptic_loss = panoptic_loss
        self.fusion = fusion

    # ---- training -----------------------------------------------------------------------------------------------

    def losses(self, features: list[Tensor], batch: Batch, targets: list[dict]) -> dict[str, Tensor]:
        """All six losses for the pyramid's maps and checked targets."""
        check_semantic(targets, batch.original_sizes, self.num_stuff)
        weight = self.panoptic_loss.instances
        losses = {name: weight * loss for name, loss in super().losses(features, batch, targets).items()}
        return losses | self.semantic_losses(features, self.semantic_head(features), batch, targets)

    def semantic_losses(
        self, features: list[Tensor], logits: Tensor, batch: Batch, targets: list[dict]
    ) -> dict[str, Tensor]:
        """What is learnt from the semantic head's logits (B, S + 1, H/s, W/s): one loss."""
        wanted = to_batch([t["semantic"] for t in targets], batch, IGNORE)
        return {"semantic": self.panoptic_loss.semantic * semantic_loss(logits, wanted)}

    # ---- inference ----------------------------------------------------------------------------------------------

    def outputs(self, features: list[Tensor], batch: Batch, output_sizes: list[Size]) -> list[dict]:
        """What evaluation returns, for the pyramid's maps; see the class."""
        found = super().outputs(features, batch, output_sizes)
        padded, logits = tuple(batch.images.shape[-2:]), self.semantic_head(features)
        return [
            image | self.combine(image, to_size(x, padded, *sizes))
            for image, x, *sizes in zip(found, logits, batch.sizes, output_sizes)
        ]

    def combine(self, found: dict[str, Tensor], logits: Tensor) -> dict:
        """One image's `semantic`, `panoptic` and `segments` from its detections and semantic logits (S + 1, H, W)."""
        semantic = logits.argmax(0)
        return {"semantic": semantic} | as_output(self.fuse_by_rule(found, semantic))

    def fuse_by_rule(self, found: dict[str, Tensor], semantic: Tensor) -> Canvas:
        """The rule of the paper, `fuse`, for one image's detections and its classes (H, W)."""
        instances = (found[key].cpu() for key in ("masks", "scores", "labels"))
        return fuse(*instances, semantic, spec=self.fusion, boxes=pasted_within(found["boxes"].cpu()))


def as_output(canvas: Canvas) -> dict:
    """A canvas as the entries of a detector's output."""
    return {"panoptic": canvas.panoptic, "segments": canvas.segments}


def to_batch(maps: list[Tensor], batch: Batch, fill: int) -> Tensor:
    """Maps of labels (H_i, W_i) of the given images as one (B, H, W) in the batch's pixels, `fill` in the padding."""
    height, width = batch.images.shape[-2:]
    resized = [resize_labels(m, size) for m, size in zip(maps, batch.sizes)]
    return torch.stack([F.pad(m, (0, width - m.shape[1], 0, height - m.shape[0]), value=fill) for m in resized])


def to_size(logits: Tensor, padded: Size, size: Size, output_size: Size) -> Tensor:
    """One image's logits (C, h, w) at the size that is asked for: (C, *output_size) float32.

    As Detectron2 does it: up to the batch's pixels, the padding cut off, then to the output's, each bilinearly.
    """
    full = resize_logits(logits[None], padded)[..., : size[0], : size[1]]  # (1, C, *size)
    return resize_logits(full, output_size)[0]


def check_semantic(targets: list[dict], sizes: list[Size], num_stuff: int) -> None:
    """Raise a ValueError that says which image has no semantic map, one of another size, or one of other classes."""
    for i, (target, size) in enumerate(zip(targets, sizes)):
        if "semantic" not in target:
            raise ValueError(f"image {i}: the target has no semantic map, which this detector learns from")
        semantic = target["semantic"]
        if tuple(semantic.shape) != tuple(size):
            raise ValueError(f"image {i}: semantic map {tuple(semantic.shape)}, expected (H, W) = {tuple(size)}")
        wrong = (semantic != IGNORE) & ((semantic < 0) | (semantic > num_stuff))
        if wrong.any():
            value = int(semantic[wrong][0])
            raise ValueError(
                f"image {i}: semantic map holds {value}, expected 0 (a thing), 1 … {num_stuff}, or {IGNORE}"
            )
