"""What a Detectron2 model is like, from the names and shapes of its tensors, where no config came along."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from course_lib.detectors.presets import FAMILIES
from course_lib.nn.backbones import BLOCKS
from course_lib.weights.detectron2.config import PRESET, settings_of

X101_STD = [57.375, 57.12, 58.395]
BODY = "backbone.bottom_up"


def settings_from_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Detectron2's dotted settings for a whole model's tensors, and what had to be taken for granted.

    Widths, depths, groups, norms and classes can be seen. Where a bottleneck has its stride, the anchors, and every
    threshold cannot: they are the zoo's.

    Raises:
        ValueError: if these are not the tensors of a model that is ours, or not in the zoo's form; a config helps.
    """
    try:
        family = _family(state)
        settings = settings_of(FAMILIES[family][PRESET], 80) | _backbone(state) | _pyramid(state)
        settings |= _retinanet(state) if family == "retinanet" else _two_stages(state)
        if family in ("mask_rcnn", "panoptic_fpn"):
            settings |= _masks(state)
        if family == "panoptic_fpn":
            settings |= _semantics(state)
    except KeyError as error:
        raise ValueError(f"there is no {error.args[0]}; half a file, or another model") from None
    resnext = settings["MODEL.RESNETS.NUM_GROUPS"] > 1
    settings["MODEL.RESNETS.STRIDE_IN_1X1"] = not resnext
    settings["MODEL.PIXEL_STD"] = X101_STD if resnext else settings["MODEL.PIXEL_STD"]
    notes = [
        f"stride of a bottleneck in its {'3×3' if resnext else '1×1'}, anchors and thresholds as in Detectron2's zoo"
    ]
    for key, name in (("MODEL.PIXEL_MEAN", "pixel_mean"), ("MODEL.PIXEL_STD", "pixel_std")):
        if name in state:
            settings[key] = [float(f"{value:.7g}") for value in state[name].flatten().tolist()]
        else:
            notes.append(f"{name} {settings[key]}")
    return settings, (*notes, "input in BGR")


def _family(state: Mapping[str, Tensor]) -> str:
    if "head.cls_score.weight" in state:
        return "retinanet"
    if "roi_heads.box_predictor.cls_score.weight" in state and "backbone.fpn_output5.weight" in state:
        if "sem_seg_head.predictor.weight" in state:
            return "panoptic_fpn"
        return "mask_rcnn" if "roi_heads.mask_head.predictor.weight" in state else "faster_rcnn"
    raise ValueError(
        "these are not all tensors of a RetinaNet, of a Faster or Mask R-CNN with a pyramid, or of a Panoptic FPN; a "
        "backbone alone needs a config and leave to be partial (`course weights import --config … --allow-partial`)"
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers stand where the pattern has its group."""
    compiled = re.compile(pattern)
    return len({match.group(1) for name in state if (match := compiled.fullmatch(name))})


def _rows(state: Mapping[str, Tensor], name: str) -> int:
    return state[name].shape[0]


def _norm(state: Mapping[str, Tensor], layer: str) -> str:
    """Of what comes after a layer."""
    if f"{layer}.norm.weight" not in state:
        return ""
    if f"{layer}.norm.running_mean" not in state:
        return "GN"
    return "BN" if f"{layer}.norm.num_batches_tracked" in state else "FrozenBN"


def _backbone(state: Mapping[str, Tensor]) -> dict[str, Any]:
    blocks = tuple(_count(state, rf"{re.escape(BODY)}\.res{s}\.(\d+)\.conv1\.weight") for s in range(2, 6))
    bottleneck = f"{BODY}.res2.0.conv3.weight" in state
    depth = next((d for d, b in BLOCKS.items() if b == blocks and (d >= 50) == bottleneck), None)
    if depth is None:
        raise ValueError(f"a ResNet of {blocks} blocks; expected one of depth {', '.join(map(str, BLOCKS))}")
    middle = state[f"{BODY}.res2.0.conv2.weight"]
    groups = middle.shape[0] // middle.shape[1] if bottleneck else 1
    return {
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.RESNETS.NORM": _norm(state, f"{BODY}.res2.0.conv1"),
        "MODEL.RESNETS.NUM_GROUPS": groups,
        "MODEL.RESNETS.WIDTH_PER_GROUP": middle.shape[0] // groups if bottleneck else 64,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": _rows(state, f"{BODY}.res2.0.conv{3 if bottleneck else 2}.weight"),
        "MODEL.RESNETS.STEM_OUT_CHANNELS": _rows(state, f"{BODY}.stem.conv1.weight"),
    }


def _pyramid(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        "MODEL.FPN.OUT_CHANNELS": _rows(state, "backbone.fpn_output5.weight"),
        "MODEL.FPN.NORM": _norm(state, "backbone.fpn_output5"),
    }


def _retinanet(state: Mapping[str, Tensor]) -> dict[str, Any]:
    anchors = _rows(state, "head.bbox_pred.weight") // 4
    if anchors != 9:
        raise ValueError(f"{anchors} anchors at each place, the zoo has 9; give the config")
    return {
        "MODEL.RETINANET.NUM_CLASSES": _rows(state, "head.cls_score.weight") // anchors,
        "MODEL.RETINANET.NUM_CONVS": _count(state, r"head\.cls_subnet\.(\d+)\.weight"),
    }


def _two_stages(state: Mapping[str, Tensor]) -> dict[str, Any]:
    if (anchors := _rows(state, "proposal_generator.rpn_head.objectness_logits.weight")) != 3:
        raise ValueError(f"{anchors} anchors at each place, the zoo has 3; give the config")
    classes = _rows(state, "roi_heads.box_predictor.cls_score.weight") - 1
    if (deltas := _rows(state, "roi_heads.box_predictor.bbox_pred.weight")) != 4 * classes:
        raise ValueError(f"{deltas} deltas for {classes} classes; expected a box of each class")
    head = r"roi_heads\.box_head"
    convs = _count(state, rf"{head}\.conv(\d)\.weight")
    first = state["roi_heads.box_head.fc1.weight"]
    settings = {
        "MODEL.ROI_HEADS.NUM_CLASSES": classes,
        "MODEL.RPN.CONV_DIMS": [-1] * max(1, _count(state, r"proposal_generator\.rpn_head\.conv\.conv(\d)\.weight")),
        "MODEL.ROI_BOX_HEAD.NUM_FC": _count(state, rf"{head}\.fc(\d)\.weight"),
        "MODEL.ROI_BOX_HEAD.FC_DIM": first.shape[0],
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": math.isqrt(
            first.shape[1] // _rows(state, "backbone.fpn_output5.weight")
        ),
        "MODEL.ROI_BOX_HEAD.NUM_CONV": convs,
        "MODEL.ROI_BOX_HEAD.NORM": _norm(state, "roi_heads.box_head.conv1"),
    }
    if convs:
        settings["MODEL.ROI_BOX_HEAD.CONV_DIM"] = _rows(state, "roi_heads.box_head.conv1.weight")
    return settings


def _masks(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        "MODEL.ROI_MASK_HEAD.NUM_CONV": _count(state, r"roi_heads\.mask_head\.mask_fcn(\d)\.weight"),
        "MODEL.ROI_MASK_HEAD.CONV_DIM": _rows(state, "roi_heads.mask_head.deconv.weight"),
        "MODEL.ROI_MASK_HEAD.NORM": _norm(state, "roi_heads.mask_head.mask_fcn1"),
    }


def _semantics(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": _rows(state, "sem_seg_head.predictor.weight"),
        "MODEL.SEM_SEG_HEAD.CONVS_DIM": _rows(state, "sem_seg_head.p2.0.weight"),
        "MODEL.SEM_SEG_HEAD.NORM": _norm(state, "sem_seg_head.p2.0"),
    }
