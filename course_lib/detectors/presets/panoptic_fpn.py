"""Panoptic FPN's presets: Mask R-CNN's of the same names, and a semantic head."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import nn

from course_lib.detectors.panoptic_fpn import PanopticFPN, PanopticLossSpec
from course_lib.detectors.presets import mask_rcnn
from course_lib.detectors.presets.mask_rcnn import MaskRCNNPreset
from course_lib.nn.semantic_head import SemanticHead
from course_lib.panoptic.fusion import FusionSpec


@dataclass(frozen=True, kw_only=True)
class SemanticHeadSpec:
    """Layers of the semantic head, see `SemanticHead`."""

    channels: int = 128
    norm: str = "group"


@dataclass(frozen=True, kw_only=True)
class PanopticFPNPreset(MaskRCNNPreset):
    """Everything that makes one Panoptic FPN but its things.

    `num_stuff` and `fusion.stuff_area` are to be fitted to data, and what Mask R-CNN's preset has.
    """

    family: ClassVar[str] = "panoptic_fpn"

    num_stuff: int = 53
    semantic_head: SemanticHeadSpec = field(default_factory=SemanticHeadSpec)
    panoptic_loss: PanopticLossSpec = field(default_factory=PanopticLossSpec)
    fusion: FusionSpec = field(default_factory=FusionSpec)

    def build(self, num_classes: int) -> PanopticFPN:
        """A Panoptic FPN with fresh weights from torch's global generator: seed it first."""
        return PanopticFPN(**self.parts(num_classes))

    def parts(self, num_classes: int) -> dict:
        """The arguments of `PanopticFPN`."""
        return super().parts(num_classes) | {
            "semantic_head": self.make_semantic_head(num_classes),
            "num_stuff": self.num_stuff,
            "panoptic_loss": self.panoptic_loss,
            "fusion": self.fusion,
        }

    def make_semantic_head(self, num_classes: int) -> nn.Module:
        """The head for K things, which it takes together, and the preset's stuff."""
        return SemanticHead(
            self.channels,
            num_classes=1 + self.num_stuff,
            num_levels=len(self.backbone.levels),
            **vars(self.semantic_head),
        )


R50_DETECTRON2 = PanopticFPNPreset(**vars(mask_rcnn.R50_DETECTRON2))
# `engine.plan` sets what the data has of stuff; the limit of its area is COCO's share of a picture.
TINY = PanopticFPNPreset(
    **vars(mask_rcnn.TINY),
    num_stuff=7,
    semantic_head=SemanticHeadSpec(channels=64, norm="batch"),
    fusion=replace(FusionSpec(), stuff_area=218),
)
PRESETS = {p.name: p for p in (TINY, R50_DETECTRON2)}
