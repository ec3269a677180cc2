"""Where the names of torchvision's backbones and pyramids live here."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from torch import Tensor

from course_lib.detectors.presets import Preset
from course_lib.weights.keys import Rule

BODY: list[Rule] = [(r"backbone\.body\.(.*)", r"backbone.\1")]
FPN: list[Rule] = [
    (r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.(weight|bias)", r"fpn.lateral.\1.\2"),  # old files lack the .0
    (r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.(weight|bias)", r"fpn.output.\1.\2"),
    (r"backbone\.fpn\.extra_blocks\.(p[67]\..*)", r"fpn.\1"),
]
FPN_WITH_NORMS: list[Rule] = [
    (r"backbone\.fpn\.inner_blocks\.(\d)\.([01]\..*)", r"fpn.lateral.\1.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.([01]\..*)", r"fpn.output.\1.\2"),
]
BACKBONE = BODY + FPN

P = TypeVar("P", bound=Preset)


def with_their_norms(preset: P, state: Mapping[str, Tensor]) -> P:
    """A v1 preset with the norms that the weights were made with.

    They are frozen, with epsilon 0, in the published weights; a network that torchvision builds without them has
    ordinary batch norm, with epsilon 1e-5, which its step counters betray.
    """
    if "backbone.body.bn1.num_batches_tracked" not in state:
        return preset
    return replace(preset, backbone=replace(preset.backbone, norm="batch", norm_eps=1e-5, frozen_stages=0))
