"""SSD's presets: torchvision's SSD300, and one made for two cores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

from course_lib.detectors.presets.retinanet import TINY as RETINANET
from course_lib.detectors.presets.specs import ResNetSpec
from course_lib.detectors.ssd import SSD, DefaultBoxSpec, DetectSpec, LossSpec
from course_lib.nn.backbones import ResNet
from course_lib.nn.preprocess import InputSpec
from course_lib.nn.ssd_vgg import SSDVGG16
from course_lib.ops.anchors import default_scales


@dataclass(frozen=True, kw_only=True)
class SSDPreset:
    """Everything that makes one SSD but its classes; `build` makes it.

    `backbone` is None for `SSDVGG16`, which has levels of its own. `learning_rate` is the peak that suits it with AdamW
    and eight images a step. A plan may set `input.size`, `backbone.levels`, of `anchors` the sizes, ratios and strides
    of as many levels, and, for objects of few cells, a lower `loss.match_iou`.
    """

    family: ClassVar[str] = "ssd"

    name: str
    backbone: ResNetSpec | None = None
    head_depth: int = 0
    head_norm: str | None = None
    head_std: float | None = None
    anchors: DefaultBoxSpec
    loss: LossSpec = field(default_factory=LossSpec)
    detect: DetectSpec = field(default_factory=DetectSpec)
    input: InputSpec = field(default_factory=InputSpec)
    learning_rate: float = 6e-3

    def build(self, num_classes: int) -> SSD:
        """An SSD with fresh weights from torch's global generator: seed it first."""
        return SSD(
            backbone=SSDVGG16() if self.backbone is None else ResNet(**vars(self.backbone)),
            num_classes=num_classes,
            head_depth=self.head_depth,
            head_norm=self.head_norm,
            head_std=self.head_std,
            anchors=self.anchors,
            loss=self.loss,
            detect=self.detect,
            input=self.input,
        )


def with_between(sizes: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """Each level's size and the geometric mean with the next one's (§2.2); the last size is only a next one."""
    return tuple((a, math.sqrt(a * b)) for a, b in pairwise(sizes))


_TWO, _FOUR = (1 / 2, 2.0), (1 / 2, 2.0, 1 / 3, 3.0)

# The scales for COCO: the first level's own, 0.07; then evenly from 0.15 by 0.18.
SSD300_TORCHVISION = SSDPreset(
    name="ssd300_torchvision",
    anchors=DefaultBoxSpec(
        sizes=with_between([300 * scale for scale in (0.07, *default_scales(6, 0.15, 1.05))]),
        ratios=(_TWO, _FOUR, _FOUR, _FOUR, _TWO, _TWO),
        strides=(8, 16, 32, 64, 100, 300),
    ),
    input=InputSpec(
        mean=(0.48235, 0.45882, 0.40784),
        std=(1 / 255, 1 / 255, 1 / 255),
        resize="stretch_float",
        size=(300, 300),
        divisor=1,
    ),
)
# RetinaNet's tiny backbone, box loss and input, and one convolution a head; no pyramid: that is what SSD does without.
# The predictors start small: from Xavier's weights some boxes are so far off that GIoU has no pull on them.
TINY = SSDPreset(
    name="tiny",
    backbone=RETINANET.backbone,
    head_depth=1,
    head_norm="batch",
    head_std=0.01,
    anchors=DefaultBoxSpec(
        sizes=((8.0, 12.0), (18.0, 27.0), (40.0, 60.0), (90.0, 110.0)), ratios=(_FOUR,) * 4, strides=(4, 8, 16, 32)
    ),
    loss=LossSpec(box="giou", box_weight=2.0, delta_weights=(1.0, 1.0, 1.0, 1.0)),
    detect=DetectSpec(topk=200, nms=0.5, detections=100),
    input=RETINANET.input,
)
