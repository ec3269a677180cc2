"""Detectron2's Panoptic FPN in ours."""

from collections.abc import Mapping

from torch import Tensor

from course_lib.detectors.panoptic_fpn import PanopticFPN
from course_lib.weights.detectron2.faster_rcnn import RULES
from course_lib.weights.detectron2.mask_rcnn import MASK_HEAD
from course_lib.weights.keys import Rule, load_renamed

SEMANTIC_HEAD: list[Rule] = [
    # a level is convolution, doubling, convolution, …: its convolutions have the even numbers
    *[
        rule
        for level in range(4)
        for step in range(3)
        for rule in (
            (rf"sem_seg_head\.p{level + 2}\.{2 * step}\.weight", f"semantic_head.levels.{level}.{step}.0.weight"),
            (rf"sem_seg_head\.p{level + 2}\.{2 * step}\.norm\.(.*)", rf"semantic_head.levels.{level}.{step}.1.\1"),
        )
    ],
    (r"sem_seg_head\.predictor\.(.*)", r"semantic_head.predictor.\1"),
]


def load_panoptic_fpn(model: PanopticFPN, state: Mapping[str, Tensor]) -> None:
    """Load a Detectron2 Panoptic FPN's state dict into a preset in its conventions.

    Raises:
        ValueError: naming what does not fit.
    """
    load_renamed(model, state, [*RULES, *MASK_HEAD, *SEMANTIC_HEAD])
