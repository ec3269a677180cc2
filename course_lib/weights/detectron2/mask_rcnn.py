"""Detectron2's Mask R-CNN in ours."""

from collections.abc import Mapping

from torch import Tensor

from course_lib.detectors.mask_rcnn import MaskRCNN
from course_lib.weights.detectron2.faster_rcnn import RULES
from course_lib.weights.keys import Rule, load_renamed

MASK_HEAD: list[Rule] = [
    *[(rf"roi_heads\.mask_head\.mask_fcn{i + 1}\.(.*)", rf"mask_head.convs.{i}.\1") for i in range(4)],
    (r"roi_heads\.mask_head\.deconv\.(.*)", r"mask_head.upsample.\1"),
    (r"roi_heads\.mask_head\.predictor\.(.*)", r"mask_head.predictor.\1"),
]


def load_mask_rcnn(model: MaskRCNN, state: Mapping[str, Tensor]) -> None:
    """Load a Detectron2 Mask R-CNN's state dict into a preset in its conventions.

    Raises:
        ValueError: naming what does not fit.
    """
    load_renamed(model, state, [*RULES, *MASK_HEAD])
