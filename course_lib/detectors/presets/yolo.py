"""YOLO's presets: YOLOv3 on Darknet-53, and one made for two cores."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from course_lib.detectors.presets.retinanet import TINY as RETINANET_TINY
from course_lib.detectors.presets.specs import ResNetSpec
from course_lib.detectors.yolo import YOLO, PriorSpec, YOLODetectSpec, YOLOLossSpec, YOLOMatchSpec
from course_lib.nn.backbones import ResNet
from course_lib.nn.darknet import ConcatPyramid, Darknet
from course_lib.nn.preprocess import InputSpec


@dataclass(frozen=True, kw_only=True)
class YOLOPreset:
    """Everything that makes one YOLO but its classes; `build` makes it.

    To fit one to a data set (`engine.plan`): `priors` by `PriorSpec.from_shapes(kmeans_anchors(…), strides)` of the
    boxes' widths and heights in network pixels, and `input.size`. The levels stay: every object has a slot at any size.
    `backbone` None is Darknet-53. `learning_rate` is the peak that suits it with AdamW and eight images a step.
    """

    family: ClassVar[str] = "yolo"

    name: str
    backbone: ResNetSpec | None = None
    widths: tuple[int, ...] = (128, 256, 512)
    depth: int = 2
    prior: float | None = None
    priors: PriorSpec
    matching: YOLOMatchSpec = field(default_factory=YOLOMatchSpec)
    loss: YOLOLossSpec = field(default_factory=YOLOLossSpec)
    detect: YOLODetectSpec = field(default_factory=YOLODetectSpec)
    input: InputSpec = field(default_factory=InputSpec)
    learning_rate: float = 6e-3

    def build(self, num_classes: int) -> YOLO:
        """A YOLO with fresh weights from torch's global generator: seed it first."""
        backbone = Darknet() if self.backbone is None else ResNet(**vars(self.backbone))
        levels = ("c3", "c4", "c5") if self.backbone is None else self.backbone.levels
        return YOLO(
            backbone=backbone,
            fpn=ConcatPyramid({x: backbone.channels[x] for x in levels}, widths=self.widths, depth=self.depth),
            num_classes=num_classes,
            prior=self.prior,
            priors=self.priors,
            matching=self.matching,
            loss=self.loss,
            detect=self.detect,
            input=self.input,
        )


# Priors of the paper, for COCO at 416 pixels (Sec. 2.3).
_COCO = PriorSpec(
    shapes=(
        ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
        ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
        ((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
    )
)
DARKNET53 = YOLOPreset(
    name="darknet53",
    priors=_COCO,
    detect=YOLODetectSpec(score=0.005, nms=0.45),
    input=InputSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), resize="fit", size=(416, 416)),
)
# Made for two cores, with the backbone of RetinaNet's. Its priors and input size suit Town; `engine.plan` sets them.
TINY = YOLOPreset(
    name="tiny",
    backbone=replace(RETINANET_TINY.backbone, levels=("c2", "c3", "c4")),
    widths=(32, 48, 64),
    depth=1,
    prior=0.01,
    priors=PriorSpec(
        shapes=(
            ((6.4, 12.0), (9.0, 9.0), (14.0, 8.0)),
            ((12.0, 26.0), (32.0, 14.0), (24.0, 27.0)),
            ((44.0, 20.0), (40.0, 38.0), (60.0, 48.0)),
        ),
        strides=(4, 8, 16),
    ),
    loss=YOLOLossSpec(normalizer="positives"),
    input=InputSpec(resize="fit", size=(128, 128), divisor=16),
)
