"""Which of Detectron2's names is which of a preset's tensors."""

from course_lib.detectors.presets import Preset
from course_lib.weights.detectron2 import faster_rcnn, retinanet
from course_lib.weights.detectron2.mask_rcnn import MASK_HEAD
from course_lib.weights.detectron2.panoptic_fpn import SEMANTIC_HEAD
from course_lib.weights.keys import Rule, invert

# What a family has beside Faster R-CNN's names.
MORE: dict[str, list[Rule]] = {
    "faster_rcnn": [],
    "mask_rcnn": MASK_HEAD,
    "panoptic_fpn": [*MASK_HEAD, *SEMANTIC_HEAD],
}


def rules_of(preset: Preset) -> list[Rule]:
    """Rules from Detectron2's names to ours.

    Raises:
        ValueError: for a family that Detectron2 does not have.
    """
    first_level = int(preset.backbone.levels[0][1]) if preset.backbone else 0
    if preset.family == "retinanet":
        return retinanet.rules(first_level)
    if preset.family not in MORE:
        raise ValueError(f"Detectron2 has no {preset.family}; it has retinanet, {', '.join(MORE)}")
    return [*faster_rcnn.rules(first_level, preset.fpn_norm is not None), *MORE[preset.family]]


def rules_back(preset: Preset) -> list[Rule]:
    """Rules from our names to Detectron2's; None for what it does not save."""
    rules = invert(rules_of(preset))
    if getattr(preset, "rpn_depth", 1) > 1:  # then the first convolution, too, has a number
        rules = [(r"rpn\.head\.convs\.(\d)\.(.*)", r"proposal_generator.rpn_head.conv.conv\1.\2"), *rules]
    return [("positives_ema", None), *rules]
