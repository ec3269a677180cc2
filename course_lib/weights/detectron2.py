"""Detectron2's weights in our models: where each of its names lives here."""

from collections.abc import Mapping

from torch import Tensor

from course_lib.detectors.retinanet import RetinaNet
from course_lib.weights.keys import Rule, load_renamed

IGNORED: list[Rule] = [
    (r".*anchor_generator\.cell_anchors.*", None),  # constants that old files carry along
    (r"pixel_(mean|std)", None),  # the preset has them
]
BACKBONE: list[Rule] = [
    (r"backbone\.bottom_up\.stem\.conv1\.weight", "backbone.conv1.weight"),
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.(.*)", r"backbone.bn1.\1"),
    *[
        rule
        for stage in range(1, 5)
        for rule in (
            (
                rf"backbone\.bottom_up\.res{stage + 1}\.(\d+)\.conv(\d)\.weight",
                rf"backbone.layer{stage}.\1.conv\2.weight",
            ),
            (
                rf"backbone\.bottom_up\.res{stage + 1}\.(\d+)\.conv(\d)\.norm\.(.*)",
                rf"backbone.layer{stage}.\1.bn\2.\3",
            ),
            (
                rf"backbone\.bottom_up\.res{stage + 1}\.(\d+)\.shortcut\.weight",
                rf"backbone.layer{stage}.\1.downsample.0.weight",
            ),
            (
                rf"backbone\.bottom_up\.res{stage + 1}\.(\d+)\.shortcut\.norm\.(.*)",
                rf"backbone.layer{stage}.\1.downsample.1.\2",
            ),
        )
    ],
]


def fpn(first_level: int) -> list[Rule]:
    """Rules for the pyramid whose finest level is `first_level` (3 for RetinaNet, 2 for the R-CNN family)."""
    rules: list[Rule] = [(r"backbone\.top_block\.(p[67]\..*)", r"fpn.\1")]
    for level in range(first_level, 6):
        rules.append((rf"backbone\.fpn_lateral{level}\.(.*)", rf"fpn.lateral.{level - first_level}.\1"))
        rules.append((rf"backbone\.fpn_output{level}\.(.*)", rf"fpn.output.{level - first_level}.\1"))
    return rules


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
