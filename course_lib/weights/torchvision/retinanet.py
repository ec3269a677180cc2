"""torchvision's RetinaNets in ours."""

from collections.abc import Mapping

from torch import Tensor

from course_lib.detectors.presets import R50_TORCHVISION_V1, R50_TORCHVISION_V2, RetinaNetPreset
from course_lib.detectors.retinanet import RetinaNet
from course_lib.weights.keys import load_renamed
from course_lib.weights.torchvision.backbone import BACKBONE, with_their_norms


def retinanet_preset(state: Mapping[str, Tensor]) -> RetinaNetPreset:
    """The preset that a torchvision RetinaNet's state dict asks for.

    A group norm in the heads says v2. Of v1 there are two, see `with_their_norms`.
    """
    if "head.classification_head.conv.0.1.weight" in state:
        return R50_TORCHVISION_V2
    return with_their_norms(R50_TORCHVISION_V1, state)


def retinanet_from_torchvision(state: Mapping[str, Tensor], preset: RetinaNetPreset | None = None) -> RetinaNet:
    """Our RetinaNet with the weights of torchvision's `retinanet_resnet50_fpn` or `retinanet_resnet50_fpn_v2`.

    Args:
        state: its state dict.
        preset: None for `retinanet_preset(state)`; give another for another input size or score threshold.

    Returns:
        the model, in evaluation mode; its labels are torchvision's (91 of them: COCO's category ids).

    Raises:
        ValueError: naming what does not fit.
    """
    preset = preset or retinanet_preset(state)
    last = "head.classification_head.cls_logits.bias"
    if last not in state:
        raise ValueError(f"these are not the weights of a torchvision RetinaNet: there is no {last}")
    outputs = state[last].numel()
    model = preset.build(outputs // (len(preset.anchors.sizes[0]) * len(preset.anchors.ratios)))
    rules = list(BACKBONE)
    for theirs, ours, predictor in (("classification", "class", "cls_logits"), ("regression", "box", "bbox_reg")):
        rules.append((rf"head\.{theirs}_head\.conv\.(\d)\.0\.(weight|bias)", rf"{ours}_head.convs.\1.\2"))
        rules.append((rf"head\.{theirs}_head\.conv\.(\d)\.1\.(weight|bias)", rf"{ours}_head.norms.0.\1.\2"))
        rules.append((rf"head\.{theirs}_head\.{predictor}\.(weight|bias)", rf"{ours}_head.predictor.\1"))
    load_renamed(model, state, rules)
    return model.eval()
