"""Faster R-CNN's presets: torchvision's two, Detectron2's, and one made for two cores."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from course_lib.detectors.anchor_pyramid import AnchorSpec
from course_lib.detectors.faster_rcnn import BoxDetectSpec, BoxHead, BoxSpec, FasterRCNN
from course_lib.detectors.presets.retinanet import R50_DETECTRON2 as RETINANET_DETECTRON2
from course_lib.detectors.presets.retinanet import TINY as TINY_RETINANET
from course_lib.detectors.presets.specs import ResNetSpec
from course_lib.detectors.rpn import RPN, ProposalSpec, RPNLossSpec
from course_lib.detectors.targets import MatchSpec
from course_lib.nn.backbones import ResNet
from course_lib.nn.fpn import FPN
from course_lib.nn.preprocess import InputSpec
from course_lib.nn.roi import PoolSpec, RoIPool


@dataclass(frozen=True, kw_only=True)
class BoxHeadSpec:
    """Layers of the second stage, see `BoxHead`."""

    convs: int = 0
    norm: str | None = None
    widths: tuple[int, ...] = (1024, 1024)


@dataclass(frozen=True, kw_only=True)
class FasterRCNNPreset:
    """Everything that makes one Faster R-CNN but its classes; `build` makes it.

    `anchors`, `matching` and the backbone's levels are the RPN's to fit to data, as RetinaNet's are. Regions are cut
    from the levels that come from the backbone. `learning_rate` is the peak that suits it with AdamW and eight images
    a step.
    """

    family: ClassVar[str] = "faster_rcnn"

    name: str
    backbone: ResNetSpec = field(default_factory=lambda: ResNetSpec(levels=("c2", "c3", "c4", "c5")))
    channels: int = 256
    fpn_extra: str = "p6_pool"
    fpn_norm: str | None = None
    rpn_depth: int = 1
    rpn_norm: str | None = None
    anchors: AnchorSpec
    matching: MatchSpec = field(default_factory=lambda: MatchSpec(low=0.3, high=0.7))
    proposals: ProposalSpec = field(default_factory=ProposalSpec)
    rpn_loss: RPNLossSpec = field(default_factory=RPNLossSpec)
    pool: PoolSpec = field(default_factory=PoolSpec)
    box_head: BoxHeadSpec = field(default_factory=BoxHeadSpec)
    boxes: BoxSpec = field(default_factory=BoxSpec)
    detect: BoxDetectSpec = field(default_factory=BoxDetectSpec)
    input: InputSpec = field(default_factory=InputSpec)
    learning_rate: float = 2e-3

    def build(self, num_classes: int) -> FasterRCNN:
        """A Faster R-CNN with fresh weights from torch's global generator: seed it first."""
        return FasterRCNN(**self.parts(num_classes))

    def parts(self, num_classes: int) -> dict:
        """The arguments of `FasterRCNN`."""
        backbone = ResNet(**vars(self.backbone))
        in_channels = {level: backbone.channels[level] for level in self.backbone.levels}
        rpn = RPN(
            self.channels,
            depth=self.rpn_depth,
            norm=self.rpn_norm,
            anchors=self.anchors,
            matching=self.matching,
            proposals=self.proposals,
            loss=self.rpn_loss,
        )
        pool = RoIPool(self.pool, self.anchors.strides[: len(in_channels)])
        return {
            "backbone": backbone,
            "fpn": FPN(in_channels, channels=self.channels, extra=self.fpn_extra, norm=self.fpn_norm),
            "rpn": rpn,
            "box_head": BoxHead(self.channels, num_classes=num_classes, pool=pool, **vars(self.box_head)),
            "num_classes": num_classes,
            "boxes": self.boxes,
            "detect": self.detect,
            "input": self.input,
        }


_ANCHORS = AnchorSpec(sizes=((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)), strides=(4, 8, 16, 32, 64))
_LEVELS = ("c2", "c3", "c4", "c5")

R50_DETECTRON2 = FasterRCNNPreset(
    name="r50_detectron2",
    backbone=ResNetSpec(stride_in="1x1", levels=_LEVELS),
    anchors=_ANCHORS,
    pool=PoolSpec(sampling_ratio=0),
    input=RETINANET_DETECTRON2.input,
)
R50_TORCHVISION_V1 = FasterRCNNPreset(
    name="r50_torchvision_v1",
    backbone=ResNetSpec(norm="frozen_scale_shift", norm_eps=0.0, levels=_LEVELS),
    anchors=replace(_ANCHORS, order="ratio", rounding=True, stride_mode="grid"),
    proposals=ProposalSpec(after_nms=(2000, 1000), min_size=1e-3, rank_by="probability"),
    rpn_loss=RPNLossSpec(box="smooth_l1", normalizer="drawn"),
    pool=PoolSpec(aligned=False, epsilon="outside"),
    boxes=BoxSpec(box="smooth_l1"),
    detect=BoxDetectSpec(min_size=1e-2),
    input=InputSpec(resize="shortest_float"),
)
R50_TORCHVISION_V2 = replace(
    R50_TORCHVISION_V1,
    name="r50_torchvision_v2",
    backbone=ResNetSpec(norm="batch", frozen_stages=0, levels=_LEVELS),
    fpn_norm="batch",
    rpn_depth=2,
    box_head=BoxHeadSpec(convs=4, norm="batch", widths=(1024,)),
)
# Made for two cores, on the same backbone, pyramid and input as RetinaNet's `tiny`; `engine.plan` fits it alike.
TINY = FasterRCNNPreset(
    name="tiny",
    backbone=TINY_RETINANET.backbone,
    channels=TINY_RETINANET.channels,
    fpn_extra="",
    rpn_norm="batch",
    anchors=AnchorSpec(
        sizes=((8.0, 13.0), (21.0, 34.0), (55.0, 88.0), (140.0, 220.0)),
        strides=(4, 8, 16, 32),
    ),
    matching=MatchSpec(low=0.3, high=0.6),
    proposals=ProposalSpec(before_nms=(200, 200), after_nms=(200, 100)),
    pool=PoolSpec(sampling_ratio=1, canonical_size=112.0),  # most of a step's time is in its points
    box_head=BoxHeadSpec(widths=(256, 256)),
    boxes=BoxSpec(samples=64),
    input=TINY_RETINANET.input,
)
PRESETS = {p.name: p for p in (TINY, R50_TORCHVISION_V1, R50_TORCHVISION_V2, R50_DETECTRON2)}
