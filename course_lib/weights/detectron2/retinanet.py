"""Detectron2's RetinaNet in ours."""

from collections.abc import Mapping

from torch import Tensor

from course_lib.detectors.retinanet import RetinaNet
from course_lib.weights.detectron2.backbone import BACKBONE, IGNORED, fpn
from course_lib.weights.keys import LoadReport, Rule, load_renamed

DEEPEST = 16  # convolutions in a subnet


def rules(first_level: int = 3) -> list[Rule]:
    """Where a RetinaNet's names live."""
    return [
        *IGNORED,
        *BACKBONE,
        *fpn(first_level),
        # a subnet is Conv, ReLU, Conv, ReLU, …: its convolutions have the even numbers
        *[
            (rf"head\.{theirs}_subnet\.{2 * i}\.(.*)", rf"{ours}_head.convs.{i}.\1")
            for theirs, ours in (("cls", "class"), ("bbox", "box"))
            for i in range(DEEPEST)
        ],
        (r"head\.cls_score\.(.*)", r"class_head.predictor.\1"),
        (r"head\.bbox_pred\.(.*)", r"box_head.predictor.\1"),
    ]


def load_retinanet(model: RetinaNet, state: Mapping[str, Tensor]) -> LoadReport:
    """Load a Detectron2 RetinaNet's state dict into a preset in its conventions.

    Raises:
        ValueError: naming what does not fit.
    """
    return load_renamed(model, state, rules())
