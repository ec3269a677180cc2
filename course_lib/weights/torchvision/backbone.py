"""Where the names of torchvision's backbones and pyramids live here."""

from course_lib.weights.keys import Rule

BACKBONE: list[Rule] = [
    (r"backbone\.body\.(.*)", r"backbone.\1"),
    (r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.(weight|bias)", r"fpn.lateral.\1.\2"),  # old files lack the .0
    (r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.(weight|bias)", r"fpn.output.\1.\2"),
    (r"backbone\.fpn\.extra_blocks\.(p[67]\..*)", r"fpn.\1"),
]
