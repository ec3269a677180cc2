"""UPSNet's presets: Panoptic FPN's parts with its own semantic head, and the paper's."""

from dataclasses import dataclass, field
from typing import ClassVar

from course_lib.detectors.panoptic_fpn import PanopticLossSpec
from course_lib.detectors.presets import panoptic_fpn
from course_lib.detectors.presets.panoptic_fpn import PanopticFPNPreset, SemanticHeadSpec
from course_lib.detectors.upsnet import UPSNet, UPSNetLossSpec
from course_lib.nn.semantic_head import SharedSemanticHead
from course_lib.panoptic.upsnet_head import PruneSpec


@dataclass(frozen=True, kw_only=True)
class SharedHeadSpec(SemanticHeadSpec):
    """Layers of the semantic head, see `SharedSemanticHead`."""

    depth: int = 3
    deformable: bool = True


@dataclass(frozen=True, kw_only=True)
class UPSNetPreset(PanopticFPNPreset):
    """Everything that makes one UPSNet but its things; to be fitted to data as Panoptic FPN's preset is."""

    family: ClassVar[str] = "upsnet"

    semantic_head: SharedHeadSpec = field(default_factory=SharedHeadSpec)
    panoptic_loss: PanopticLossSpec = field(default_factory=lambda: PanopticLossSpec(semantic=0.2))
    upsnet_loss: UPSNetLossSpec = field(default_factory=UPSNetLossSpec)
    pruning: PruneSpec = field(default_factory=PruneSpec)

    def build(self, num_classes: int) -> UPSNet:
        """A UPSNet with fresh weights from torch's global generator: seed it first."""
        return UPSNet(**self.parts(num_classes))

    def parts(self, num_classes: int) -> dict:
        """The arguments of `UPSNet`."""
        return super().parts(num_classes) | {"upsnet_loss": self.upsnet_loss, "pruning": self.pruning}

    def make_semantic_head(self, num_classes: int) -> SharedSemanticHead:
        """The head for K things and the preset's stuff."""
        return SharedSemanticHead(
            self.channels,
            num_classes=self.num_stuff + num_classes,
            num_levels=len(self.backbone.levels),
            **vars(self.semantic_head),
        )


def _from(preset: PanopticFPNPreset, **fields) -> UPSNetPreset:
    return UPSNetPreset(**vars(preset) | fields)


R50 = _from(
    panoptic_fpn.R50_DETECTRON2,
    name="r50",
    semantic_head=SharedHeadSpec(),
    panoptic_loss=PanopticLossSpec(semantic=0.2),
)
TINY = _from(
    panoptic_fpn.TINY,
    semantic_head=SharedHeadSpec(channels=64, norm="batch", depth=2, deformable=False),
)
PRESETS = {p.name: p for p in (TINY, R50)}
