"""Detectron2's Mask R-CNN in ours."""

from collections.abc import Mapping

from torch import Tensor

from course_lib.detectors.mask_rcnn import MaskRCNN
from course_lib.weights.detectron2.faster_rcnn import DEEPEST, RULES
from course_lib.weights.keys import LoadReport, Rule, load_renamed

MASK_HEAD: list[Rule] = [
    *[
        rule
        for i in range(DEEPEST)
        for rule in (
            (rf"roi_heads\.mask_head\.mask_fcn{i + 1}\.(weight|bias)", rf"mask_head.convs.{i}.\1"),
            (rf"roi_heads\.mask_head\.mask_fcn{i + 1}\.norm\.(.*)", rf"mask_head.norms.{i}.\1"),
        )
    ],
    (r"roi_heads\.mask_head\.deconv\.(.*)", r"mask_head.upsample.\1"),
    (r"roi_heads\.mask_head\.predictor\.(.*)", r"mask_head.predictor.\1"),
]


def load_mask_rcnn(model: MaskRCNN, state: Mapping[str, Tensor]) -> LoadReport:
    """Load a Detectron2 Mask R-CNN's state dict into a preset in its conventions.

    Raises:
        ValueError: naming what does not fit.
    """
    return load_renamed(model, state, [*RULES, *MASK_HEAD])
