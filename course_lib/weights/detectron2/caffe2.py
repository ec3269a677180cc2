"""The names of Caffe2's Detectron, of which Detectron2 is the successor, as Detectron2's."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

NORM_PARTS = {
    "s": "weight",
    "gamma": "weight",
    "b": "bias",
    "beta": "bias",
    "rm": "running_mean",
    "running_mean": "running_mean",
    "riv": "running_var",
    "running_var": "running_var",
}
LAYERS = [
    (r"(?:res_)?conv1", "backbone.bottom_up.stem.conv1"),
    (r"res(\d)_(\d+)_branch1", r"backbone.bottom_up.res\1.\2.shortcut"),
    *[(rf"res(\d)_(\d+)_branch2{x}", rf"backbone.bottom_up.res\1.\2.conv{i}") for i, x in enumerate("abc", start=1)],
    (r"fpn_inner_res(\d)_\d+_sum(?:_lateral)?", r"backbone.fpn_lateral\1"),
    (r"fpn_res(\d)_\d+_sum", r"backbone.fpn_output\1"),
    (r"conv_rpn(?:_fpn2)?", "proposal_generator.rpn_head.conv"),  # level 2 holds what all levels share
    (r"rpn_cls_logits(?:_fpn2)?", "proposal_generator.rpn_head.objectness_logits"),
    (r"rpn_bbox_pred(?:_fpn2)?", "proposal_generator.rpn_head.anchor_deltas"),
    (r"fc6", "roi_heads.box_head.fc1"),
    (r"fc7", "roi_heads.box_head.fc2"),
    (r"head_conv(\d)", r"roi_heads.box_head.conv\1"),
    (r"cls_score", "roi_heads.box_predictor.cls_score"),
    (r"bbox_pred", "roi_heads.box_predictor.bbox_pred"),
    (r"_\[mask\]_fcn(\d)", r"roi_heads.mask_head.mask_fcn\1"),
    (r"conv5_mask", "roi_heads.mask_head.deconv"),
    (r"mask_fcn_logits", "roi_heads.mask_head.predictor"),
    (r"fc1000|pred", "stem.fc"),  # a backbone's classifier
]


def from_caffe2(blobs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Caffe2 model's tensors under Detectron2's names and in its order of classes.

    Background is class 0 there. It becomes the last score; the boxes and masks of background, which mean nothing, go.
    The optimiser's momenta go too. A norm without statistics has them folded in: it gets mean 0 and variance 1.
    Names that are not known stay as they are.
    """
    state: dict[str, Tensor] = {}
    for name, value in blobs.items():
        if not name.endswith("_momentum"):
            state[_name(name)] = _without_background(_name(name), value)
    for name in [n for n in state if n.startswith("backbone.bottom_up.") and n.endswith(".norm.weight")]:
        norm = name.removesuffix("weight")
        state.setdefault(f"{norm}running_mean", torch.zeros_like(state[name]))
        state.setdefault(f"{norm}running_var", torch.ones_like(state[name]))
    return state


def _name(name: str) -> str:
    match = re.fullmatch(r"(.+?)(?:_(w|b)|_[bg]n_(\w+))", name)
    if not match:
        return name
    layer, plain, part = match.groups()
    tail = {"w": "weight", "b": "bias"}[plain] if plain else f"norm.{NORM_PARTS.get(part, part)}"
    for pattern, theirs in LAYERS:
        if found := re.fullmatch(pattern, layer):
            return f"{found.expand(theirs)}.{tail}"
    return name


def _without_background(name: str, value: Tensor) -> Tensor:
    if ".cls_score." in name:
        return value.roll(-1, 0)
    if ".bbox_pred." in name:
        return value[4:]
    return value[1:] if ".mask_head.predictor." in name else value
