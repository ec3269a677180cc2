"""Where the names of Detectron2's backbones and pyramids live here."""

from course_lib.weights.keys import Rule

IGNORED: list[Rule] = [
    (r".*anchor_generator\.cell_anchors.*", None),  # constants that old files carry along
    (r"pixel_(mean|std)", None),  # the preset has them
    (r"(?:.*\.)?(?:stem\.fc|fc1000)\.(?:weight|bias)", None),  # a backbone's own classifier, of ImageNet's classes
    (r"(?:.*\.)?stem\.conv1\.bias", None),  # Caffe's ResNet-50 has one, which its norm takes in
]
BACKBONE: list[Rule] = [
    (r"backbone\.bottom_up\.stem\.conv1\.weight", "backbone.conv1.weight"),
    (r"backbone\.bottom_up\.stem\.conv1\.norm\.(.*)", r"backbone.bn1.\1"),
    *[
        (rf"backbone\.bottom_up\.res{stage + 1}\.(\d+)\.{theirs}", rf"backbone.layer{stage}.\1.{ours}")
        for stage in range(1, 5)
        for theirs, ours in (
            (r"conv(\d)\.weight", r"conv\2.weight"),
            (r"conv(\d)\.norm\.(.*)", r"bn\2.\3"),
            (r"shortcut\.weight", "downsample.0.weight"),
            (r"shortcut\.norm\.(.*)", r"downsample.1.\2"),
        )
    ],
]


def fpn(first_level: int, norm: bool = False) -> list[Rule]:
    """Rules for the pyramid whose finest level is `first_level` (3 for RetinaNet, 2 for the R-CNN family)."""
    rules: list[Rule] = [(r"backbone\.top_block\.(p[67]\..*)", r"fpn.\1")]
    for kind in ("lateral", "output"):
        for level in range(first_level, 6):
            name, place = rf"backbone\.fpn_{kind}{level}", f"fpn.{kind}.{level - first_level}"
            if norm:
                rules += [(rf"{name}\.weight", f"{place}.0.weight"), (rf"{name}\.norm\.(.*)", rf"{place}.1.\1")]
            else:
                rules.append((rf"{name}\.(weight|bias)", rf"{place}.\1"))
    return rules
