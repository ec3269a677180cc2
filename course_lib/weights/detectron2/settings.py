"""Which of Detectron2's settings is which field of our presets: one table for both directions."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from course_lib.nn.backbones import BLOCKS


@dataclass(frozen=True)
class Setting:
    """Some keys of Detectron2's and the fields of our preset that say the same.

    Attributes:
        keys: Detectron2's.
        fields: of the preset, dotted.
        read: the keys' values to the fields'.
        write: the fields' values to the keys'.
    """

    keys: tuple[str, ...]
    fields: tuple[str, ...]
    read: Callable[..., tuple]
    write: Callable[..., tuple]


def same(key: str, field: str) -> Setting:
    """A setting that is the same on both sides; a list there is a tuple here."""
    return Setting((key,), (field,), lambda v: (_tuple(v),), lambda v: (_list(v),))


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


def _list(value: Any) -> Any:
    return list(map(_list, value)) if isinstance(value, tuple) else value


NORMS = {"": None, "FrozenBN": "frozen", "BN": "batch", "SyncBN": "batch", "nnSyncBN": "batch", "GN": "group"}
NORM_NAMES = {None: "", "frozen": "FrozenBN", "batch": "BN", "group": "GN"}


def _look_up(table: dict, value: Any, what: str) -> Any:
    if value not in table:
        raise ValueError(f"{what} is {value!r}, expected one of {', '.join(map(repr, table))}")
    return table[value]


def _norm(value: Any) -> str | None:
    return _look_up(NORMS, value, "a norm")


def _norm_name(value: Any) -> str:
    return _look_up(NORM_NAMES, value, "a norm")


# ---- backbone ----------------------------------------------------------------------------------------------------


def _read_resnet(depth: int, out: int, groups: int, width: int, norm: str, in_1x1: bool) -> tuple:
    blocks = _look_up(BLOCKS, depth, "DEPTH")
    bottleneck = depth >= 50
    if bottleneck:
        widening, rest = divmod(groups * width * 4, out)
        if out % 4 or rest or not widening:
            raise ValueError(
                f"{groups} groups of {width} channels for {out} out of res2: expected them to be a multiple of {out}/4"
            )
    else:
        widening = 1
        if (out, groups) != (64, 1):
            raise ValueError(f"R{depth} has RES2_OUT_CHANNELS 64 and 1 group, found {out} and {groups}")
    widths = tuple((out // 4 if bottleneck else out) * 2**i for i in range(4))
    return blocks, bottleneck, widths, groups, widening, _norm(norm), "1x1" if in_1x1 else "3x3"


def _write_resnet(
    blocks: tuple, bottleneck: bool, widths: tuple, groups: int, widening: int, norm: str, stride_in: str
) -> tuple:
    depth = next((d for d, b in BLOCKS.items() if b == tuple(blocks) and (d >= 50) == bottleneck), None)
    if depth is None:
        raise ValueError(
            f"a ResNet of {blocks} blocks has no DEPTH in Detectron2; it has {', '.join(map(str, BLOCKS))}"
        )
    out = widths[0] * 4 if bottleneck else widths[0]
    width = widths[0] * widening // groups if bottleneck else 64
    return depth, out, groups, width, _norm_name(norm), stride_in == "1x1"


BACKBONE = [
    Setting(
        (
            "MODEL.RESNETS.DEPTH",
            "MODEL.RESNETS.RES2_OUT_CHANNELS",
            "MODEL.RESNETS.NUM_GROUPS",
            "MODEL.RESNETS.WIDTH_PER_GROUP",
            "MODEL.RESNETS.NORM",
            "MODEL.RESNETS.STRIDE_IN_1X1",
        ),
        tuple(
            f"backbone.{name}" for name in ("blocks", "bottleneck", "widths", "groups", "widening", "norm", "stride_in")
        ),
        _read_resnet,
        _write_resnet,
    ),
    same("MODEL.RESNETS.STEM_OUT_CHANNELS", "backbone.stem_width"),
    same("MODEL.BACKBONE.FREEZE_AT", "backbone.frozen_stages"),
]


# ---- levels and anchors ------------------------------------------------------------------------------------------


def _read_levels(last: str) -> Callable[..., tuple]:
    """A reader for pyramids that end at `last`, the level above the backbone's."""

    def read(out: list, into: list, used: list, sizes: list, ratios: list, *rois: list) -> tuple:
        if into != [f"res{level}" for level in range(6 - len(into), 6)] or not into:
            raise ValueError(f"the pyramid is built on {into}, expected neighbouring stages that end with res5")
        if missing := [stage for stage in into if stage not in out]:
            raise ValueError(f"the pyramid wants {', '.join(missing)}, but OUT_FEATURES are {out}")
        first = 6 - len(into)
        levels = [f"p{level}" for level in range(first, int(last[1]) + 1)]
        if used != levels:
            raise ValueError(f"the heads look at {used}, expected all levels, {levels}")
        if rois and rois[0] != levels[: len(into)]:
            raise ValueError(f"regions are cut from {rois[0]}, expected {levels[: len(into)]}")
        sizes = sizes * len(levels) if len(sizes) == 1 else sizes
        if len(sizes) != len(levels) or len({len(s) for s in sizes}) != 1:
            raise ValueError(f"anchor sizes {sizes} for {len(levels)} levels: expected as many of each level")
        if any(r != ratios[0] for r in ratios) or len(ratios) not in (1, len(levels)):
            raise ValueError(f"anchor ratios {ratios}: expected the same for all levels")
        strides = tuple(2 ** int(level[1]) for level in levels)
        sizes = tuple(tuple(float(v) for v in s) for s in sizes)
        names = tuple(stage.replace("res", "c") for stage in into)
        return names, sizes, tuple(float(r) for r in ratios[0]), strides, 32

    return read


def _write_levels(last: str, rois: bool) -> Callable[..., tuple]:
    def write(names: tuple, sizes: tuple, ratios: tuple, strides: tuple, divisor: int) -> tuple:
        stages = [name.replace("c", "res") for name in names]
        levels = [f"p{level}" for level in range(6 - len(stages), int(last[1]) + 1)]
        more = [levels[: len(stages)]] if rois else []
        return stages, list(stages), levels, _list(sizes), [list(ratios)], *more

    return write


def _levels(last: str, used: str, *rois: str) -> Setting:
    return Setting(
        (
            "MODEL.RESNETS.OUT_FEATURES",
            "MODEL.FPN.IN_FEATURES",
            used,
            "MODEL.ANCHOR_GENERATOR.SIZES",
            "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS",
            *rois,
        ),
        ("backbone.levels", "anchors.sizes", "anchors.ratios", "anchors.strides", "input.divisor"),
        _read_levels(last),
        _write_levels(last, bool(rois)),
    )


# ---- input and losses --------------------------------------------------------------------------------------------


def _read_input(order: str, short: int, long: int) -> tuple:
    bgr = _look_up({"BGR": True, "RGB": False}, order, "FORMAT")
    return (bgr, "shortest_uint8", (short, long)) if short else (bgr, "none", (800, long))


def _write_input(bgr: bool, resize: str, size: tuple) -> tuple:
    return "BGR" if bgr else "RGB", 0 if resize == "none" else size[0], size[1]


INPUT = [
    Setting(
        ("INPUT.FORMAT", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"),
        ("input.bgr", "input.resize", "input.size"),
        _read_input,
        _write_input,
    ),
    same("MODEL.PIXEL_MEAN", "input.mean"),
    same("MODEL.PIXEL_STD", "input.std"),
    same("TEST.DETECTIONS_PER_IMAGE", "detect.detections"),
]


def _box_loss(prefix: str, beta_key: str, spec: str, unused_beta: float) -> Setting:
    """Smooth L1 with beta 0 is L1; where beta is not used, ours keeps `unused_beta`."""

    def read(kind: str, beta: float) -> tuple:
        _look_up({"smooth_l1": 1, "giou": 1}, kind, "BBOX_REG_LOSS_TYPE")
        if kind == "giou" or beta == 0:
            return "giou" if kind == "giou" else "l1", unused_beta
        return "smooth_l1", float(beta)

    def write(kind: str, beta: float) -> tuple:
        return "giou" if kind == "giou" else "smooth_l1", float(beta) if kind == "smooth_l1" else 0.0

    return Setting(
        (f"{prefix}.BBOX_REG_LOSS_TYPE", f"{prefix}.{beta_key}"), (f"{spec}.box", f"{spec}.beta"), read, write
    )


def _thresholds(key: str, low: str, high: str) -> Setting:
    def read(thresholds: list) -> tuple:
        if len(thresholds) != 2:
            raise ValueError(f"{thresholds}, expected two numbers")
        return tuple(map(float, thresholds))

    return Setting((key,), (low, high), read, lambda a, b: ([a, b],))


RETINANET = [
    *BACKBONE,
    *INPUT,
    same("MODEL.FPN.OUT_CHANNELS", "channels"),
    _levels("p7", "MODEL.RETINANET.IN_FEATURES"),
    _thresholds("MODEL.RETINANET.IOU_THRESHOLDS", "matching.low", "matching.high"),
    _box_loss("MODEL.RETINANET", "SMOOTH_L1_LOSS_BETA", "loss", 0.1),
    same("MODEL.RETINANET.NUM_CONVS", "head_depth"),
    same("MODEL.RETINANET.PRIOR_PROB", "prior"),
    same("MODEL.RETINANET.SCORE_THRESH_TEST", "detect.score"),
    same("MODEL.RETINANET.TOPK_CANDIDATES_TEST", "detect.topk"),
    same("MODEL.RETINANET.NMS_THRESH_TEST", "detect.nms"),
    same("MODEL.RETINANET.FOCAL_LOSS_GAMMA", "loss.gamma"),
    same("MODEL.RETINANET.FOCAL_LOSS_ALPHA", "loss.alpha"),
]


# ---- two stages --------------------------------------------------------------------------------------------------


def _read_widths(out: int, dims: list, fcs: int, fc_dim: int, convs: int, conv_dim: int, norm: str) -> tuple:
    if any(d not in (-1, out) for d in dims):
        raise ValueError(f"RPN.CONV_DIMS are {dims}, expected the pyramid's {out} channels, or -1")
    if convs and conv_dim != out:
        raise ValueError(f"ROI_BOX_HEAD.CONV_DIM is {conv_dim}, expected the pyramid's {out} channels")
    return out, len(dims), (fc_dim,) * fcs, convs, _norm(norm)


def _write_widths(channels: int, rpn_depth: int, widths: tuple, convs: int, norm: str | None) -> tuple:
    if len(set(widths)) != 1:
        raise ValueError(f"the box head's layers are {widths} wide; Detectron2 has one FC_DIM for all")
    return channels, [-1] * rpn_depth, len(widths), widths[0], convs, channels, _norm_name(norm)


def _pair(keys: tuple[str, str], field: str) -> Setting:
    return Setting(keys, (field,), lambda train, test: ((train, test),), lambda pair: tuple(pair))


def _read_min_size(value: float) -> tuple:
    """Detectron2 keeps what is larger than this, ours what is not smaller."""
    return (float(np.nextafter(np.float32(value), np.float32(math.inf))) if value else TINIEST,)


def _write_min_size(value: float) -> tuple:
    below = 0.0 if value == TINIEST else float(np.nextafter(np.float32(value), np.float32(0)))
    if below != int(below):
        raise ValueError(f"{value:.3g} pixels; Detectron2 has whole numbers")
    return (int(below),)


TINIEST = float(np.finfo(np.float32).tiny)
_POOLERS = {"ROIAlignV2": ("align", True), "ROIAlign": ("align", False), "ROIPool": ("pool", True)}


def _pooler(head: str, spec: str) -> list[Setting]:
    return [
        same(f"MODEL.{head}.POOLER_RESOLUTION", f"{spec}.size"),
        same(f"MODEL.{head}.POOLER_SAMPLING_RATIO", f"{spec}.sampling_ratio"),
        Setting(
            (f"MODEL.{head}.POOLER_TYPE",),
            (f"{spec}.kind", f"{spec}.aligned"),
            lambda name: _look_up(_POOLERS, name, "POOLER_TYPE"),
            lambda kind, aligned: ("ROIPool" if kind == "pool" else "ROIAlignV2" if aligned else "ROIAlign",),
        ),
    ]


FASTER_RCNN = [
    *BACKBONE,
    *INPUT,
    Setting(("MODEL.FPN.NORM",), ("fpn_norm",), lambda v: (_norm(v),), lambda v: (_norm_name(v),)),
    _levels("p6", "MODEL.RPN.IN_FEATURES", "MODEL.ROI_HEADS.IN_FEATURES"),
    Setting(
        (
            "MODEL.FPN.OUT_CHANNELS",
            "MODEL.RPN.CONV_DIMS",
            "MODEL.ROI_BOX_HEAD.NUM_FC",
            "MODEL.ROI_BOX_HEAD.FC_DIM",
            "MODEL.ROI_BOX_HEAD.NUM_CONV",
            "MODEL.ROI_BOX_HEAD.CONV_DIM",
            "MODEL.ROI_BOX_HEAD.NORM",
        ),
        ("channels", "rpn_depth", "box_head.widths", "box_head.convs", "box_head.norm"),
        _read_widths,
        _write_widths,
    ),
    _thresholds("MODEL.RPN.IOU_THRESHOLDS", "matching.low", "matching.high"),
    same("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "rpn_loss.samples"),
    same("MODEL.RPN.POSITIVE_FRACTION", "rpn_loss.positive_fraction"),
    _box_loss("MODEL.RPN", "SMOOTH_L1_BETA", "rpn_loss", 1 / 9),
    _pair(("MODEL.RPN.PRE_NMS_TOPK_TRAIN", "MODEL.RPN.PRE_NMS_TOPK_TEST"), "proposals.before_nms"),
    _pair(("MODEL.RPN.POST_NMS_TOPK_TRAIN", "MODEL.RPN.POST_NMS_TOPK_TEST"), "proposals.after_nms"),
    same("MODEL.RPN.NMS_THRESH", "proposals.nms"),
    Setting(("MODEL.PROPOSAL_GENERATOR.MIN_SIZE",), ("proposals.min_size",), _read_min_size, _write_min_size),
    Setting(("MODEL.ROI_HEADS.IOU_THRESHOLDS",), ("boxes.iou",), tuple, lambda v: ([v],)),
    same("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "boxes.samples"),
    same("MODEL.ROI_HEADS.POSITIVE_FRACTION", "boxes.positive_fraction"),
    same("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "detect.score"),
    same("MODEL.ROI_HEADS.NMS_THRESH_TEST", "detect.nms"),
    same("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", "boxes.weights"),
    same("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT", "boxes.box_weight"),
    _box_loss("MODEL.ROI_BOX_HEAD", "SMOOTH_L1_BETA", "boxes", 1 / 9),
    *_pooler("ROI_BOX_HEAD", "pool"),
]
MASK_RCNN = [
    *FASTER_RCNN,
    *_pooler("ROI_MASK_HEAD", "mask_pool"),
    same("MODEL.ROI_MASK_HEAD.NUM_CONV", "mask_head.depth"),
    same("MODEL.ROI_MASK_HEAD.CONV_DIM", "mask_head.channels"),
    Setting(("MODEL.ROI_MASK_HEAD.NORM",), ("mask_head.norm",), lambda v: (_norm(v),), lambda v: (_norm_name(v),)),
]
PANOPTIC_FPN = [
    *MASK_RCNN,
    # class 0 of the semantic head is "a thing"
    Setting(("MODEL.SEM_SEG_HEAD.NUM_CLASSES",), ("num_stuff",), lambda n: (n - 1,), lambda n: (n + 1,)),
    same("MODEL.SEM_SEG_HEAD.CONVS_DIM", "semantic_head.channels"),
    Setting(("MODEL.SEM_SEG_HEAD.NORM",), ("semantic_head.norm",), lambda v: (_norm(v),), lambda v: (_norm_name(v),)),
    same("MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", "panoptic_loss.semantic"),
    same("MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT", "panoptic_loss.instances"),
    same("MODEL.PANOPTIC_FPN.COMBINE.OVERLAP_THRESH", "fusion.overlap"),
    same("MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", "fusion.stuff_area"),
    same("MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", "fusion.score"),
]
SETTINGS = {
    "retinanet": RETINANET,
    "faster_rcnn": FASTER_RCNN,
    "mask_rcnn": MASK_RCNN,
    "panoptic_fpn": PANOPTIC_FPN,
}
