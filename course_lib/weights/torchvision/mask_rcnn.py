"""torchvision's Mask R-CNNs in ours."""

from collections.abc import Mapping

from torch import Tensor

from course_lib.detectors.mask_rcnn import MaskRCNN
from course_lib.detectors.presets.mask_rcnn import R50_TORCHVISION_V1, R50_TORCHVISION_V2, MaskRCNNPreset
from course_lib.weights.keys import Rule, load_renamed
from course_lib.weights.torchvision.backbone import with_their_norms
from course_lib.weights.torchvision.faster_rcnn import background_last, count_classes, rules

MASKS = "roi_heads.mask_predictor.mask_fcn_logits"
MASK_HEAD: list[Rule] = [
    *[(rf"roi_heads\.mask_head\.mask_fcn{i + 1}\.(.*)", rf"mask_head.convs.{i}.\1") for i in range(4)],  # old files
    (r"roi_heads\.mask_head\.(\d)\.0\.(.*)", r"mask_head.convs.\1.\2"),
    (r"roi_heads\.mask_head\.(\d)\.1\.(.*)", r"mask_head.norms.\1.\2"),
    (r"roi_heads\.mask_predictor\.conv5_mask\.(.*)", r"mask_head.upsample.\1"),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(.*)", r"mask_head.predictor.\1"),
]


def mask_rcnn_preset(state: Mapping[str, Tensor]) -> MaskRCNNPreset:
    """The preset that a torchvision Mask R-CNN's state dict asks for, found as for a Faster R-CNN."""
    if "roi_heads.box_head.0.0.weight" in state:
        return R50_TORCHVISION_V2
    return with_their_norms(R50_TORCHVISION_V1, state)


def mask_rcnn_from_torchvision(state: Mapping[str, Tensor], preset: MaskRCNNPreset | None = None) -> MaskRCNN:
    """Our Mask R-CNN with the weights of torchvision's `maskrcnn_resnet50_fpn` or `maskrcnn_resnet50_fpn_v2`.

    Args:
        state: its state dict.
        preset: None for `mask_rcnn_preset(state)`; give another for another input size or score threshold.

    Returns:
        the model, in evaluation mode; its labels are torchvision's less one, as `faster_rcnn_from_torchvision` says.
        The mask of torchvision's class 0, background, exists in its files, is never used, and is left out.

    Raises:
        ValueError: naming what does not fit.
    """
    preset = preset or mask_rcnn_preset(state)
    if f"{MASKS}.bias" not in state:
        raise ValueError(f"these are not the weights of a torchvision Mask R-CNN: there is no {MASKS}.bias")
    model = preset.build(count_classes(state, "Mask R-CNN"))
    state = background_last(state)
    state |= {name: value[1:] for name, value in state.items() if name.startswith(MASKS)}
    load_renamed(model, state, [*rules(preset), *MASK_HEAD])
    return model.eval()
