"""A detector that came from a file of someone else's, ready to use or to save as ours."""

import cmath
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.datasets.label_map import LabelMap
from course_lib.detectors.presets import Preset, preset_to_dict
from course_lib.weights.blank import without_initialisation
from course_lib.weights.files import save_tensors
from course_lib.weights.keys import LoadReport


@dataclass(frozen=True)
class Imported:
    """A detector with what is known of it.

    Attributes:
        model: in evaluation mode.
        preset: which built it.
        label_map: what its labels mean.
        report: what became of every tensor of the file.
        source: where it came from, in words.
        notes: what was taken for granted since the file does not say it.
        stuff_map: of a panoptic detector's stuff 1 … S.
    """

    model: nn.Module
    preset: Preset
    label_map: LabelMap
    report: LoadReport
    source: str
    notes: tuple[str, ...] = ()
    stuff_map: LabelMap | None = None

    @property
    def header(self) -> dict[str, Any]:
        """What a file of ours says about its weights."""
        stuff = {} if self.stuff_map is None else {"stuff_map": self.stuff_map.to_dict()}
        return stuff | {
            "preset": preset_to_dict(self.preset),
            "label_map": self.label_map.to_dict(),
            "source": self.source,
            "notes": list(self.notes),
        }

    def save(self, path: Path) -> None:
        """Write it as a safetensors file of this course. Raises OSError if that cannot be done."""
        save_tensors(path, self.model.state_dict(), self.header)


def with_classes(found: Imported, label_map: LabelMap) -> Imported:
    """The same detector for other classes: what predicts classes starts afresh, all else keeps its weights.

    The new predictor has the initial bias that its preset gives it (RetinaNet's prior), from torch's global generator:
    seed it first.
    """
    model = found.preset.build(len(label_map))
    fresh = class_tensors(found.preset)
    weights = {name: value for name, value in found.model.state_dict().items() if name not in fresh}
    model.load_state_dict(weights, strict=False, assign=True)
    report = replace(found.report, fresh=tuple(fresh))
    return replace(found, model=model.eval(), label_map=label_map, report=report)


def class_tensors(preset: Preset) -> list[str]:
    """The names of the tensors whose shape depends on the number of classes; of things, if it also tells stuff."""
    with without_initialisation(memory=False):
        return _of_other_shapes(preset.build(3), preset.build(4))


def stuff_tensors(preset: Preset) -> list[str]:
    """The names of the tensors whose shape depends on the number of classes of stuff."""
    with without_initialisation(memory=False):
        return _of_other_shapes(*(replace(preset, num_stuff=count).build(3) for count in (3, 4)))


def _of_other_shapes(few: nn.Module, more: nn.Module) -> list[str]:
    shapes = {name: value.shape for name, value in more.state_dict().items()}
    return [name for name, value in few.state_dict().items() if value.shape != shapes[name]]


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Raise a ValueError that names the first tensor with NaN or infinity, if there is one."""
    if bad := [name for name, value in state.items() if not finite(value)]:
        raise ValueError(f"{source}: {len(bad)} tensors hold NaN or infinity, the first is {bad[0]}")


def finite(value: Tensor) -> bool:
    """Whether no number is NaN or infinite. Their sum would be, so that one pass without a copy is enough."""
    return cmath.isfinite(value.sum().item()) or bool(torch.isfinite(value).all())


def generic_labels(num_classes: int) -> LabelMap:
    """Labels of which only the number is known."""
    return LabelMap(tuple(f"class {i}" for i in range(num_classes)), tuple(range(1, num_classes + 1)))
