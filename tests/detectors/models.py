"""Detectors so small that every test may build its own."""

from dataclasses import replace

import torch

from course_lib.detectors.anchor_pyramid import AnchorSpec
from course_lib.detectors.presets import ResNetSpec, RetinaNetPreset, faster_rcnn, mask_rcnn
from course_lib.detectors.presets.faster_rcnn import BoxHeadSpec
from course_lib.detectors.retinanet import LossSpec, RetinaNet
from course_lib.nn.preprocess import InputSpec

SMALL = RetinaNetPreset(
    name="small",
    backbone=ResNetSpec(
        blocks=(1, 1, 1, 1),
        bottleneck=False,
        stem_width=16,  # no fewer: oneDNN's backward of a strided 1×1 convolution on channels-last crashes below 16
        widths=(16, 16, 16, 16),
        stem="3x3",
        norm="batch",
        frozen_stages=0,
    ),
    channels=16,
    fpn_extra="",
    head_depth=1,
    anchors=AnchorSpec(sizes=((8.0, 12.0), (16.0, 24.0), (32.0, 48.0)), strides=(8, 16, 32)),
    loss=LossSpec(normalizer="batch"),
    input=InputSpec(resize="none", size=(64, 64)),
)
_TWO_STAGES = {
    "name": "small",
    "backbone": SMALL.backbone,
    "channels": 16,
    "box_head": BoxHeadSpec(widths=(32,)),
    "anchors": AnchorSpec(sizes=((8.0,), (16.0,), (32.0,)), strides=(8, 16, 32)),
    "input": SMALL.input,
}
SMALL_FASTER_RCNN = replace(faster_rcnn.TINY, **_TWO_STAGES)
SMALL_MASK_RCNN = replace(
    mask_rcnn.TINY, **_TWO_STAGES, mask_head=replace(mask_rcnn.TINY.mask_head, channels=16, depth=1)
)


def small(num_classes: int = 3, *, seed: int = 0, **changes) -> RetinaNet:
    """SMALL with some fields changed, and weights from that seed."""
    torch.manual_seed(seed)
    return replace(SMALL, **changes).build(num_classes)


def target(boxes, labels) -> dict[str, torch.Tensor]:
    return {"boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), "labels": torch.tensor(labels).long()}


EMPTY = target([], [])
