"""A small detector of each family that becomes graphs, with random numbers in every layer."""

from dataclasses import replace

import torch

from course_lib.detectors.presets import SSD_TINY, YOLO_TINY, Preset
from course_lib.weights.imported import Imported, generic_labels
from course_lib.weights.keys import LoadReport
from tests.detectors.models import SMALL, SMALL_FASTER_RCNN, SMALL_MASK_RCNN
from tests.detectors.panoptic_models import SMALL_FPN, SMALL_UPSNET
from tests.nn.randomise import randomise_norms

LEVELS = ("c2", "c3", "c4", "c5")
PRESETS: dict[str, Preset] = {
    "retinanet": SMALL,
    "ssd": replace(SSD_TINY, backbone=replace(SMALL.backbone, levels=LEVELS), input=SMALL.input),
    "yolo": replace(
        YOLO_TINY, backbone=replace(SMALL.backbone, levels=LEVELS[:3]), widths=(16, 16, 16), input=SMALL.input
    ),
    "faster_rcnn": SMALL_FASTER_RCNN,
    "mask_rcnn": SMALL_MASK_RCNN,
    "panoptic_fpn": SMALL_FPN,
    "upsnet": SMALL_UPSNET,
}


def detector(preset: Preset, num_classes: int = 3) -> Imported:
    """The preset's detector as if it came from a file; a fresh head says nearly the same everywhere, this one not."""
    generator = torch.Generator().manual_seed(0)
    model = randomise_norms(preset.build(num_classes)).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.copy_(torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5)
    return Imported(model, preset, generic_labels(num_classes), LoadReport(), "a test")
