"""Detectron2's Faster R-CNN in ours."""

from collections.abc import Mapping

from torch import Tensor

from course_lib.detectors.faster_rcnn import FasterRCNN
from course_lib.weights.detectron2.backbone import BACKBONE, IGNORED, fpn
from course_lib.weights.keys import LoadReport, Rule, load_renamed

DEEPEST = 8  # layers of a kind in the box head


def rules(first_level: int = 2, fpn_norm: bool = False) -> list[Rule]:
    """Where a Faster R-CNN's names live."""
    return [
        *IGNORED,
        *BACKBONE,
        *fpn(first_level, fpn_norm),
        (r"proposal_generator\.rpn_head\.conv\.(weight|bias)", r"rpn.head.convs.0.\1"),
        (r"proposal_generator\.rpn_head\.conv\.conv(\d)\.(.*)", r"rpn.head.convs.\1.\2"),  # more than one
        (r"proposal_generator\.rpn_head\.objectness_logits\.(.*)", r"rpn.head.objectness.\1"),
        (r"proposal_generator\.rpn_head\.anchor_deltas\.(.*)", r"rpn.head.deltas.\1"),
        *[
            rule
            for i in range(DEEPEST)
            for rule in (
                (rf"roi_heads\.box_head\.conv{i + 1}\.(weight|bias)", rf"box_head.convs.{i}.0.\1"),
                (rf"roi_heads\.box_head\.conv{i + 1}\.norm\.(.*)", rf"box_head.convs.{i}.1.\1"),
                (rf"roi_heads\.box_head\.fc{i + 1}\.(.*)", rf"box_head.fcs.{i}.\1"),
            )
        ],
        (r"roi_heads\.box_predictor\.cls_score\.(.*)", r"box_head.class_predictor.\1"),  # background is last, as here
        (r"roi_heads\.box_predictor\.bbox_pred\.(.*)", r"box_head.box_predictor.\1"),
    ]


RULES = rules()


def load_faster_rcnn(model: FasterRCNN, state: Mapping[str, Tensor]) -> LoadReport:
    """Load a Detectron2 Faster R-CNN's state dict into a preset in its conventions.

    Raises:
        ValueError: naming what does not fit.
    """
    return load_renamed(model, state, RULES)
