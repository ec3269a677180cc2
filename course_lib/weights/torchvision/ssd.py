"""torchvision's SSD300 in ours."""

from collections.abc import Mapping

from torch import Tensor

from course_lib.detectors.presets import SSD300_TORCHVISION, SSDPreset
from course_lib.detectors.ssd import SSD
from course_lib.weights.keys import Rule, load_renamed

_RULES: list[Rule] = [
    (r"backbone\.scale_weight", "backbone.norm.weight"),
    (r"backbone\.features\.(\d+)\.(.*)", r"backbone.vgg.features.\1.\2"),
    # its first extra block: pool4, three convolutions and their ReLUs, then pool5, fc6, ReLU, fc7, ReLU
    *[(rf"backbone\.extra\.0\.{i}\.(weight|bias)", rf"backbone.vgg.features.{23 + i}.\1") for i in (1, 3, 5)],
    (r"backbone\.extra\.0\.7\.1\.(.*)", r"backbone.fc6.\1"),
    (r"backbone\.extra\.0\.7\.3\.(.*)", r"backbone.fc7.\1"),
    *[(rf"backbone\.extra\.{i + 1}\.(\d)\.(.*)", rf"backbone.extras.{i}.\1.\2") for i in range(4)],
    (r"head\.classification_head\.module_list\.(\d)\.(.*)", r"class_head.predictors.\1.\2"),
    (r"head\.regression_head\.module_list\.(\d)\.(.*)", r"box_head.predictors.\1.\2"),
]


def ssd_from_torchvision(state: Mapping[str, Tensor], preset: SSDPreset = SSD300_TORCHVISION) -> SSD:
    """Our SSD with the weights of torchvision's `ssd300_vgg16`.

    Args:
        state: its state dict.
        preset: give another for another score threshold or other limits.

    Returns:
        the model, in evaluation mode. torchvision's class 0 is background, ours is the last; so its label l is our
        l − 1, of 90 (COCO's category ids less 1).

    Raises:
        ValueError: naming what does not fit.
    """
    first = "head.classification_head.module_list.0.bias"
    if first not in state:
        raise ValueError(f"these are not the weights of a torchvision SSD: there is no {first}")
    per_cell = [2 + len(ratios) for ratios in preset.anchors.ratios]  # boxes of each level
    classes = state[first].numel() // per_cell[0]  # with background
    state = dict(state)
    for level, boxes in enumerate(per_cell):
        for part in ("weight", "bias"):
            name = f"head.classification_head.module_list.{level}.{part}"
            if name in state and len(state[name]) == boxes * classes:
                state[name] = state[name].unflatten(0, (boxes, classes)).roll(-1, 1).flatten(0, 1)
    model = preset.build(classes - 1)
    load_renamed(model, state, _RULES)
    return model.eval()
