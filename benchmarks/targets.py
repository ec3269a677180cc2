"""Labels for a batch's anchors in one call, against a loop over images with torchvision's IoU and Matcher."""

import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from benchmarks.clock import alternate
from benchmarks.scenes import town_targets
from benchmarks.table import Row
from course_lib.datasets.town import TownConfig
from course_lib.detectors.presets import TINY
from course_lib.detectors.targets import assign
from course_lib.ops.matching import BACKGROUND, IGNORED

BATCH = 16


def run(repeat: int, **_) -> list[Row]:
    """A batch of 16 Town pictures of 128×128 and the anchors of the tiny preset.

    Both sides give every anchor's label and the positives' boxes, which is what the losses need.
    """
    targets = town_targets(TownConfig(), range(BATCH))
    boxes, labels = [t["boxes"] for t in targets], [t["labels"] for t in targets]
    size = TINY.input.size
    model = TINY.build(8)
    grids = [(size[0] // s, size[1] // s) for s in TINY.anchors.strides]
    anchors = torch.cat(model.anchors(size, grids, torch.device("cpu")))
    spec = TINY.matching
    matcher = Matcher(spec.high, spec.low, allow_low_quality_matches=spec.low_quality)

    def ours() -> tuple[Tensor, Tensor]:
        return assign(anchors, boxes, labels, spec)

    def peer() -> tuple[Tensor, Tensor]:
        all_labels, all_boxes = [], []
        for image_boxes, image_labels in zip(boxes, labels):
            matched = matcher(box_iou(image_boxes, anchors))
            positive = matched >= 0
            objects = matched[positive]
            anchor_labels = torch.full_like(matched, BACKGROUND)
            anchor_labels[matched == Matcher.BETWEEN_THRESHOLDS] = IGNORED
            anchor_labels[positive] = image_labels[objects]
            all_labels.append(anchor_labels)
            all_boxes.append(image_boxes[objects])
        return torch.stack(all_labels), torch.cat(all_boxes)

    torch.testing.assert_close(ours(), peer(), rtol=0, atol=0)
    seconds = alternate(ours, peer, repeat)
    what = f"targets of {BATCH} Town pictures, {len(anchors)} anchors each"
    return [Row(what=what, ours=seconds[0], peer=seconds[1], unit="ms", at_most=0.25)]
