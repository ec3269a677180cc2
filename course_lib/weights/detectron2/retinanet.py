"""Detectron2's RetinaNet in ours."""

from collections.abc import Mapping

from torch import Tensor

from course_lib.detectors.retinanet import RetinaNet
from course_lib.weights.detectron2.backbone import BACKBONE, IGNORED, fpn
from course_lib.weights.keys import load_renamed


def load_retinanet(model: RetinaNet, state: Mapping[str, Tensor]) -> None:
    """Load a Detectron2 RetinaNet's state dict into a preset in its conventions.

    Raises:
        ValueError: naming what does not fit.
    """
    rules = [
        *IGNORED,
        *BACKBONE,
        *fpn(first_level=3),
        # a subnet is Conv, ReLU, Conv, ReLU, …: its convolutions have the even numbers
        *[(rf"head\.cls_subnet\.{2 * i}\.(.*)", rf"class_head.convs.{i}.\1") for i in range(4)],
        *[(rf"head\.bbox_subnet\.{2 * i}\.(.*)", rf"box_head.convs.{i}.\1") for i in range(4)],
        (r"head\.cls_score\.(.*)", r"class_head.predictor.\1"),
        (r"head\.bbox_pred\.(.*)", r"box_head.predictor.\1"),
    ]
    load_renamed(model, state, rules)
