"""Mask R-CNN's presets: Faster R-CNN's of the same names, and a mask head."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from course_lib.detectors.mask_rcnn import MaskRCNN, MaskSpec
from course_lib.detectors.presets import faster_rcnn
from course_lib.detectors.presets.faster_rcnn import FasterRCNNPreset
from course_lib.nn.mask_head import MaskHead
from course_lib.nn.roi import PoolSpec, RoIPool


@dataclass(frozen=True, kw_only=True)
class MaskHeadSpec:
    """Layers of the mask head, see `MaskHead`."""

    channels: int = 256
    depth: int = 4
    norm: str | None = None


@dataclass(frozen=True, kw_only=True)
class MaskRCNNPreset(FasterRCNNPreset):
    """Everything that makes one Mask R-CNN but its classes; to be fitted to data as Faster R-CNN's preset is."""

    family: ClassVar[str] = "mask_rcnn"

    mask_pool: PoolSpec = field(default_factory=lambda: PoolSpec(size=14))
    mask_head: MaskHeadSpec = field(default_factory=MaskHeadSpec)
    masks: MaskSpec = field(default_factory=MaskSpec)

    def build(self, num_classes: int) -> MaskRCNN:
        """A Mask R-CNN with fresh weights from torch's global generator: seed it first."""
        return MaskRCNN(**self.parts(num_classes))

    def parts(self, num_classes: int) -> dict:
        """The arguments of `MaskRCNN`."""
        parts = super().parts(num_classes)
        pool = RoIPool(self.mask_pool, parts["box_head"].pool.strides)
        head = MaskHead(self.channels, num_classes=num_classes, pool=pool, **vars(self.mask_head))
        return parts | {"mask_head": head, "masks": self.masks}


def _with_masks(preset: FasterRCNNPreset, **fields) -> MaskRCNNPreset:
    return MaskRCNNPreset(**vars(preset), **fields)


_TORCHVISION = {
    "mask_pool": PoolSpec(size=14, aligned=False, epsilon="outside"),
    "masks": MaskSpec(aligned=False, threshold=None, sampling="integer"),
}

R50_DETECTRON2 = _with_masks(faster_rcnn.R50_DETECTRON2, mask_pool=PoolSpec(size=14, sampling_ratio=0))
R50_TORCHVISION_V1 = _with_masks(faster_rcnn.R50_TORCHVISION_V1, **_TORCHVISION)
R50_TORCHVISION_V2 = _with_masks(faster_rcnn.R50_TORCHVISION_V2, mask_head=MaskHeadSpec(norm="batch"), **_TORCHVISION)
# 14×14 cells of shares are enough for small objects: true masks brought there and back have a mask AP of 0.99 on Town.
TINY = _with_masks(
    faster_rcnn.TINY,
    mask_pool=replace(faster_rcnn.TINY.pool, size=7),
    mask_head=MaskHeadSpec(channels=64, depth=2),
    masks=MaskSpec(threshold=None),
)
PRESETS = {p.name: p for p in (TINY, R50_TORCHVISION_V1, R50_TORCHVISION_V2, R50_DETECTRON2)}
