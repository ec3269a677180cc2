"""RetinaNet's presets: torchvision's two, Detectron2's, and one made for two cores."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from course_lib.detectors.anchor_pyramid import AnchorSpec
from course_lib.detectors.presets.specs import ResNetSpec
from course_lib.detectors.retinanet import DetectSpec, LossSpec, RetinaNet
from course_lib.detectors.targets import MatchSpec
from course_lib.nn.backbones import ResNet
from course_lib.nn.fpn import FPN
from course_lib.nn.preprocess import InputSpec


@dataclass(frozen=True, kw_only=True)
class RetinaNetPreset:
    """Everything that makes one RetinaNet but its classes; `build` makes it.

    `learning_rate` is the peak that suits it with AdamW and eight images a step.
    """

    family: ClassVar[str] = "retinanet"

    name: str
    backbone: ResNetSpec = field(default_factory=ResNetSpec)
    channels: int = 256
    fpn_extra: str = "p6p7_from_c5"
    head_depth: int = 4
    head_norm: str | None = None
    prior: float = 0.01
    anchors: AnchorSpec
    matching: MatchSpec = field(default_factory=MatchSpec)
    loss: LossSpec = field(default_factory=LossSpec)
    detect: DetectSpec = field(default_factory=DetectSpec)
    input: InputSpec = field(default_factory=InputSpec)
    learning_rate: float = 6e-3

    def build(self, num_classes: int) -> RetinaNet:
        """A RetinaNet with fresh weights from torch's global generator: seed it first."""
        backbone = ResNet(**vars(self.backbone))
        in_channels = {level: backbone.channels[level] for level in self.backbone.levels}
        return RetinaNet(
            backbone=backbone,
            fpn=FPN(in_channels, channels=self.channels, extra=self.fpn_extra),
            num_classes=num_classes,
            channels=self.channels,
            head_depth=self.head_depth,
            head_norm=self.head_norm,
            prior=self.prior,
            anchors=self.anchors,
            matching=self.matching,
            loss=self.loss,
            detect=self.detect,
            input=self.input,
        )


def octaves(base: int, rounding: bool) -> tuple[float, ...]:
    """Three anchor sizes from `base`, a third of an octave apart (Sec. 4); torchvision drops the fractions."""
    sizes = tuple(base * 2 ** (k / 3) for k in range(3))
    return tuple(float(int(s)) for s in sizes) if rounding else sizes


_PAPER_ANCHORS = AnchorSpec(sizes=tuple(octaves(base, rounding=False) for base in (32, 64, 128, 256, 512)))
_TORCHVISION_ANCHORS = AnchorSpec(
    sizes=tuple(octaves(base, rounding=True) for base in (32, 64, 128, 256, 512)),
    order="ratio",
    rounding=True,
    stride_mode="grid",
)

R50_DETECTRON2 = RetinaNetPreset(
    name="r50_detectron2",
    backbone=ResNetSpec(stride_in="1x1"),
    anchors=_PAPER_ANCHORS,
    loss=LossSpec(normalizer="ema"),
    detect=DetectSpec(clip="after_nms"),
    input=InputSpec(
        mean=(103.53, 116.28, 123.675), std=(1.0, 1.0, 1.0), bgr=True, scale=255.0, resize="shortest_uint8"
    ),
)
R50_TORCHVISION_V1 = RetinaNetPreset(
    name="r50_torchvision_v1",
    backbone=ResNetSpec(norm="frozen_scale_shift", norm_eps=0.0),
    fpn_extra="p6p7_from_p5",
    anchors=_TORCHVISION_ANCHORS,
    detect=DetectSpec(detections=300),
    input=InputSpec(resize="shortest_float"),
)
R50_TORCHVISION_V2 = replace(
    R50_TORCHVISION_V1,
    name="r50_torchvision_v2",
    backbone=ResNetSpec(norm="batch", frozen_stages=0),
    fpn_extra="p6p7_from_c5",
    head_norm="group",
    loss=LossSpec(box="giou"),
)
# Made for two cores: a finest level of stride 4 instead of larger images, one convolution a head, batch norm (it trains
# fast). Its anchors and input size suit Town; `engine.plan` sets them, and the number of levels, from the data at hand.
TINY = RetinaNetPreset(
    name="tiny",
    backbone=ResNetSpec(
        blocks=(1, 2, 2, 1),
        bottleneck=False,
        stem_width=16,
        widths=(48, 64, 96, 128),
        stem="3x3",
        norm="batch",
        frozen_stages=0,
        levels=("c2", "c3", "c4", "c5"),
    ),
    channels=64,
    fpn_extra="",
    head_depth=1,
    head_norm="batch",
    anchors=AnchorSpec(
        sizes=((7.0, 11.0, 17.0), (25.0, 38.0, 59.0), (80.0, 110.0, 150.0), (200.0, 270.0, 370.0)),
        strides=(4, 8, 16, 32),
    ),
    loss=LossSpec(box="giou", box_weight=2.0, normalizer="batch"),
    input=InputSpec(resize="fit", size=(128, 128), divisor=16),
)
