"""Where the names of Detectron2's backbones and pyramids live here."""

from course_lib.weights.keys import Rule

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
