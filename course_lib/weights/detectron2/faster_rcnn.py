"""Detectron2's Faster R-CNN in ours."""

from collections.abc import Mapping

from torch import Tensor

from course_lib.detectors.faster_rcnn import FasterRCNN
from course_lib.weights.detectron2.backbone import BACKBONE, IGNORED, fpn
from course_lib.weights.keys import Rule, load_renamed

RULES: list[Rule] = [
    *IGNORED,
    *BACKBONE,
    *fpn(first_level=2),
    (r"proposal_generator\.rpn_head\.conv\.(.*)", r"rpn.head.convs.0.\1"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(.*)", r"rpn.head.objectness.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(.*)", r"rpn.head.deltas.\1"),
    (r"roi_heads\.box_head\.fc1\.(.*)", r"box_head.fcs.0.\1"),
    (r"roi_heads\.box_head\.fc2\.(.*)", r"box_head.fcs.1.\1"),
    (r"roi_heads\.box_predictor\.cls_score\.(.*)", r"box_head.class_predictor.\1"),  # background is last, as here
    (r"roi_heads\.box_predictor\.bbox_pred\.(.*)", r"box_head.box_predictor.\1"),
]


def load_faster_rcnn(model: FasterRCNN, state: Mapping[str, Tensor]) -> None:
    """Load a Detectron2 Faster R-CNN's state dict into a preset in its conventions.

    Raises:
        ValueError: naming what does not fit.
    """
    load_renamed(model, state, RULES)
