"""Presets: which parts a detector is made of, by family and name. Frozen dataclasses, values that JSON can hold."""

import dataclasses
import difflib
import typing
from typing import Any

from torch import nn

from course_lib.detectors.presets.faster_rcnn import PRESETS as FASTER_RCNN
from course_lib.detectors.presets.faster_rcnn import FasterRCNNPreset
from course_lib.detectors.presets.mask_rcnn import PRESETS as MASK_RCNN
from course_lib.detectors.presets.mask_rcnn import MaskRCNNPreset
from course_lib.detectors.presets.panoptic_fpn import PRESETS as PANOPTIC_FPN
from course_lib.detectors.presets.panoptic_fpn import PanopticFPNPreset
from course_lib.detectors.presets.retinanet import (
    R50_DETECTRON2,
    R50_TORCHVISION_V1,
    R50_TORCHVISION_V2,
    TINY,
    RetinaNetPreset,
    octaves,
)
from course_lib.detectors.presets.specs import ResNetSpec
from course_lib.detectors.presets.ssd import SSD300_TORCHVISION, SSDPreset
from course_lib.detectors.presets.ssd import TINY as SSD_TINY
from course_lib.detectors.presets.upsnet import PRESETS as UPSNET
from course_lib.detectors.presets.upsnet import UPSNetPreset
from course_lib.detectors.presets.yolo import DARKNET53, YOLOPreset
from course_lib.detectors.presets.yolo import TINY as YOLO_TINY
from course_lib.nn.preprocess import InputSpec

__all__ = [
    "DARKNET53",
    "FAMILIES",
    "R50_DETECTRON2",
    "R50_TORCHVISION_V1",
    "R50_TORCHVISION_V2",
    "SSD300_TORCHVISION",
    "SSD_TINY",
    "TINY",
    "TITLES",
    "YOLO_TINY",
    "FasterRCNNPreset",
    "MaskRCNNPreset",
    "PanopticFPNPreset",
    "Preset",
    "ResNetSpec",
    "RetinaNetPreset",
    "SSDPreset",
    "UPSNetPreset",
    "YOLOPreset",
    "get_family",
    "get_preset",
    "octaves",
    "preset_from_dict",
    "preset_to_dict",
]


class Preset(typing.Protocol):
    """What every family's preset has; it is a frozen dataclass besides."""

    family: typing.ClassVar[str]
    name: str
    learning_rate: float
    input: InputSpec

    def build(self, num_classes: int) -> nn.Module:
        """A detector with fresh weights from torch's global generator: seed it first."""


CLASSES: dict[str, type] = {
    kind.family: kind
    for kind in (
        RetinaNetPreset,
        SSDPreset,
        YOLOPreset,
        FasterRCNNPreset,
        MaskRCNNPreset,
        PanopticFPNPreset,
        UPSNetPreset,
    )
}
FAMILIES: dict[str, dict[str, Preset]] = {
    "retinanet": {p.name: p for p in (TINY, R50_TORCHVISION_V1, R50_TORCHVISION_V2, R50_DETECTRON2)},
    "ssd": {p.name: p for p in (SSD_TINY, SSD300_TORCHVISION)},
    "yolo": {p.name: p for p in (YOLO_TINY, DARKNET53)},
    "faster_rcnn": FASTER_RCNN,
    "mask_rcnn": MASK_RCNN,
    "panoptic_fpn": PANOPTIC_FPN,
    "upsnet": UPSNET,
}
TITLES = {  # the families' names for a reader
    "retinanet": "RetinaNet",
    "ssd": "SSD",
    "yolo": "YOLO",
    "faster_rcnn": "Faster R-CNN",
    "mask_rcnn": "Mask R-CNN",
    "panoptic_fpn": "Panoptic FPN",
    "upsnet": "UPSNet",
}


def get_family(family: str) -> dict[str, Preset]:
    """The presets of a family, by name. Raises ValueError if there is none; it names the nearest."""
    return _look_up(FAMILIES, family, "model")


def get_preset(name: str, family: str = "retinanet") -> Preset:
    """The preset of that family and name. Raises ValueError if there is none; it names the nearest."""
    return _look_up(get_family(family), name, "preset")


def _look_up(table: dict[str, Any], name: str, what: str) -> Any:
    if name not in table:
        near = difflib.get_close_matches(name, table, n=1, cutoff=0.0)
        raise ValueError(f"unknown {what} {name!r}: did you mean {near[0]!r}? There are: {', '.join(table)}")
    return table[name]


def preset_to_dict(preset: Preset) -> dict:
    """The preset as plain values that JSON can hold."""
    return {"family": preset.family, **dataclasses.asdict(preset)}


def preset_from_dict(values: dict) -> Preset:
    """The preset that `preset_to_dict` wrote, also after a journey through JSON; without a family, a RetinaNet's.

    Raises:
        ValueError: for an unknown family, unknown or missing fields.
    """
    fields = dict(values)
    return _from_dict(_look_up(CLASSES, fields.pop("family", "retinanet"), "model"), fields)


def _from_dict(cls: type, values: dict) -> Any:
    types = typing.get_type_hints(cls)
    names = {field.name for field in dataclasses.fields(cls)}
    if unknown := set(values) - names:
        raise ValueError(f"{cls.__name__} has no {', '.join(sorted(unknown))}")
    try:
        return cls(**{k: _restore(types[k], v) for k, v in values.items()})
    except TypeError as error:
        raise ValueError(f"{cls.__name__}: {error}") from None


def _restore(kind: type, value: Any) -> Any:
    kinds = [k for k in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(k)]  # one that may be None, too
    if kinds and value is not None:
        return _from_dict(kinds[0], value)
    return _tuples(value) if isinstance(value, list) else value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
