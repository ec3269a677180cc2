"""torchvision's Faster R-CNNs in ours."""

from collections.abc import Mapping

from torch import Tensor

from course_lib.detectors.faster_rcnn import FasterRCNN
from course_lib.detectors.presets.faster_rcnn import R50_TORCHVISION_V1, R50_TORCHVISION_V2, FasterRCNNPreset
from course_lib.weights.keys import Rule, load_renamed
from course_lib.weights.torchvision.backbone import BODY, FPN, FPN_WITH_NORMS, with_their_norms

CLASSES, DELTAS = "roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"
STAGES: list[Rule] = [
    (r"rpn\.head\.conv\.(\d)\.0\.(weight|bias)", r"rpn.head.convs.\1.\2"),
    (r"rpn\.head\.conv\.(weight|bias)", r"rpn.head.convs.0.\1"),  # old files
    (r"rpn\.head\.cls_logits\.(.*)", r"rpn.head.objectness.\1"),
    (r"rpn\.head\.bbox_pred\.(.*)", r"rpn.head.deltas.\1"),
    (r"roi_heads\.box_head\.fc6\.(.*)", r"box_head.fcs.0.\1"),
    (r"roi_heads\.box_head\.fc7\.(.*)", r"box_head.fcs.1.\1"),
    (r"roi_heads\.box_head\.([0-3]\.[01]\..*)", r"box_head.convs.\1"),
    (r"roi_heads\.box_head\.5\.(.*)", r"box_head.fcs.0.\1"),  # after four convolutions and the flattening
    (r"roi_heads\.box_predictor\.cls_score\.(.*)", r"box_head.class_predictor.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(.*)", r"box_head.box_predictor.\1"),
]


def faster_rcnn_preset(state: Mapping[str, Tensor]) -> FasterRCNNPreset:
    """The preset that a torchvision Faster R-CNN's state dict asks for.

    Convolutions in the box head say v2. Of v1 there are two, see `with_their_norms`.
    """
    if "roi_heads.box_head.0.0.weight" in state:
        return R50_TORCHVISION_V2
    return with_their_norms(R50_TORCHVISION_V1, state)


def faster_rcnn_from_torchvision(state: Mapping[str, Tensor], preset: FasterRCNNPreset | None = None) -> FasterRCNN:
    """Our Faster R-CNN with the weights of torchvision's `fasterrcnn_resnet50_fpn` or `fasterrcnn_resnet50_fpn_v2`.

    Args:
        state: its state dict.
        preset: None for `faster_rcnn_preset(state)`; give another for another input size or score threshold.

    Returns:
        the model, in evaluation mode. torchvision's class 0 is background; ours is the last, so our labels are
        torchvision's less one: 90 of them, COCO's category ids less one.

    Raises:
        ValueError: naming what does not fit.
    """
    preset = preset or faster_rcnn_preset(state)
    model = preset.build(count_classes(state, "Faster R-CNN"))
    load_renamed(model, background_last(state), rules(preset))
    return model.eval()


def rules(preset: FasterRCNNPreset) -> list[Rule]:
    """Where a torchvision Faster R-CNN's names live."""
    return [*BODY, *(FPN if preset.fpn_norm is None else FPN_WITH_NORMS), *STAGES]


def count_classes(state: Mapping[str, Tensor], what: str) -> int:
    """Foreground classes of a torchvision R-CNN. Raises ValueError for weights of another model than `what`."""
    if f"{CLASSES}.bias" not in state:
        raise ValueError(f"these are not the weights of a torchvision {what}: there is no {CLASSES}.bias")
    return state[f"{CLASSES}.bias"].numel() - 1


def background_last(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with background, torchvision's class 0, as the last class, and without its box deltas.

    Those exist in torchvision's files and are never used.
    """
    moved = {name: state[name].roll(-1, 0) for name in state if name.startswith(CLASSES)}
    return {**state, **moved, **{name: state[name][4:] for name in state if name.startswith(DELTAS)}}
