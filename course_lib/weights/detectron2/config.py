"""Detectron2's configs as our presets, and our presets as its configs.

What cannot be said on the other side is never dropped: reading names each setting that is unknown or has a value that
these models do not have; writing names each field of the preset that Detectron2 has no word for.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from course_lib.detectors.presets import FAMILIES, Preset
from course_lib.weights.detectron2.defaults import ABSENT, CLASSES, DEFAULTS, FIXED, FIXED_DEFAULTS, IGNORED
from course_lib.weights.detectron2.settings import SETTINGS
from course_lib.weights.detectron2.yaml_files import read_yaml
from course_lib.weights.files import write_text

PRESET = "r50_detectron2"  # of each family; what no setting says is as it is there
OURS_ALONE = ("name", "learning_rate")  # Detectron2 has neither


@dataclass(frozen=True)
class Config:
    """What a config says of the model.

    Attributes:
        preset: ours, named after the file.
        num_classes: foreground classes.
        ignored: keys that were given and say nothing of the model: solver, data sets, other models' parts.
        weights: MODEL.WEIGHTS, or "".
    """

    preset: Preset
    num_classes: int
    ignored: tuple[str, ...]
    weights: str


def read_config(path: Path) -> Config:
    """The model that a YAML config of Detectron2's describes, its bases and Detectron2's defaults included.

    Args:
        path: the file; see `read_yaml`.

    Raises:
        FileNotFoundError, ValueError: as `read_yaml`; and if the model is not one of ours, or a setting is unknown, has
            another type than it should, or a value that these models do not have: all of them are named.
    """
    path = Path(path)
    try:
        return config_from_settings(read_yaml(path), path.stem)
    except _Unsupported as error:
        raise ValueError(f"{path}: {error}") from None


def write_config(path: Path, preset: Preset, num_classes: int, *, weights: str = "") -> None:
    """Write the YAML that describes a preset to Detectron2, so that reading it back gives the same preset.

    The name becomes the file's, and the learning rate, which is for AdamW, is left out.

    Args:
        path: the target.
        preset: of a family that Detectron2 has.
        num_classes: foreground classes.
        weights: what MODEL.WEIGHTS should say.

    Raises:
        ValueError: naming each field that Detectron2 has no word for (torchvision's rounded anchors, for one).
        OSError: if the file cannot be written; what was there before is untouched.
    """
    sections: dict[str, Any] = {}
    for key, value in settings_of(preset, num_classes).items():
        if value == (DEFAULTS | FIXED[preset.family] | FIXED_DEFAULTS).get(key):
            continue  # as Detectron2 has it anyway
        *parents, name = key.split(".")
        section = sections
        for parent in parents:
            section = section.setdefault(parent, {})
        section[name] = value
    sections["MODEL"] |= {"META_ARCHITECTURE": FIXED[preset.family]["MODEL.META_ARCHITECTURE"], "WEIGHTS": weights}
    text = yaml.safe_dump({"VERSION": 2} | sections, sort_keys=True, default_flow_style=None, width=100)
    write_text(Path(path), f"# {preset.family} {preset.name}: what differs from Detectron2's defaults\n{text}")


def config_from_settings(settings: Mapping[str, Any], name: str) -> Config:
    """The model that dotted settings describe, over Detectron2's defaults.

    Raises:
        ValueError: naming all settings that do not fit.
    """
    family = _family(settings)
    faults, ignored = [], []
    fixed, table = FIXED[family], SETTINGS[family]
    known = {key for setting in table for key in setting.keys} | {CLASSES[family]}
    values = {key: DEFAULTS[key] for key in known}
    for key, value in settings.items():
        if key in known:
            if fault := _wrong_type(value, DEFAULTS[key]):
                faults.append(f"{key} is {value!r}, expected {fault}")
            else:
                values[key] = int(value) if type(DEFAULTS[key]) is int else value
        elif key not in fixed:
            if key.startswith((*IGNORED, *ABSENT[family])):
                ignored.append(key)
            else:
                near = difflib.get_close_matches(key, [*known, *fixed], n=1)
                faults.append(f"{key} is unknown" + (f" (did you mean {near[0]}?)" if near else ""))
    for key, supported in fixed.items():
        value = settings.get(key, FIXED_DEFAULTS.get(key, supported))
        if value != supported:
            faults.append(f"{key} is {value!r}, supported is {supported!r}")
    fields = {}
    for setting in table:
        given = [values[key] for key in setting.keys]
        try:
            fields |= dict(zip(setting.fields, setting.read(*given), strict=True))
        except (ValueError, TypeError, IndexError, ZeroDivisionError) as error:
            faults.append(f"{', '.join(setting.keys)}: {error}")
    if (num_classes := values[CLASSES[family]]) < 1:
        faults.append(f"{CLASSES[family]} is {num_classes}, expected at least 1")
    if faults:
        raise _Unsupported(f"{len(faults)} settings of this {family} have no place here: {'; '.join(faults)}")
    preset = _with_fields(FAMILIES[family][PRESET], fields | {"name": name})
    return Config(preset, num_classes, tuple(ignored), str(settings.get("MODEL.WEIGHTS", "")))


def settings_of(preset: Preset, num_classes: int) -> dict[str, Any]:
    """All dotted settings of Detectron2's that describe a preset.

    Raises:
        ValueError: naming each field that Detectron2 has no word for.
    """
    if preset.family not in SETTINGS:
        raise ValueError(f"Detectron2 has no {preset.family}; it has {', '.join(SETTINGS)}")
    settings = dict(FIXED[preset.family]) | {CLASSES[preset.family]: num_classes}
    faults = []
    for setting in SETTINGS[preset.family]:
        try:
            written = setting.write(*(_field(preset, name) for name in setting.fields))
        except ValueError as error:
            faults.append(f"{', '.join(setting.fields)}: {error}")
            continue
        for key, value in zip(setting.keys, written, strict=True):
            settings[key] = float(value) if isinstance(DEFAULTS[key], float) else value
    if not faults:
        again = config_from_settings(settings, preset.name).preset
        faults = [d for d in _differences(preset, again) if not d.startswith(OURS_ALONE)]
    if faults:
        raise ValueError(f"Detectron2 cannot describe this {preset.family} ({preset.name}): {'; '.join(faults)}")
    return settings


class _Unsupported(ValueError):
    """Settings that do not fit; whoever has the file's name puts it in front."""


def _family(settings: Mapping[str, Any]) -> str:
    architecture = settings.get("MODEL.META_ARCHITECTURE", FIXED_DEFAULTS["MODEL.META_ARCHITECTURE"])
    masks = settings.get("MODEL.MASK_ON", False)
    for family, fixed in FIXED.items():
        if fixed["MODEL.META_ARCHITECTURE"] == architecture and fixed.get("MODEL.MASK_ON", masks) == masks:
            return family
    there = sorted({fixed["MODEL.META_ARCHITECTURE"] for fixed in FIXED.values()})
    raise _Unsupported(f"MODEL.META_ARCHITECTURE is {architecture!r}, expected one of {', '.join(there)}")


def _wrong_type(value: Any, default: Any) -> str | None:
    """What is expected in place of a value of another type than the default's, or None."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "True or False"
    if isinstance(default, int):
        fits = isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
        return None if fits else "a whole number"
    if isinstance(default, float):
        return None if isinstance(value, int | float) and not isinstance(value, bool) else "a number"
    return None if isinstance(value, type(default)) else "a list" if isinstance(default, list) else "text"


def _field(preset: Any, name: str) -> Any:
    for part in name.split("."):
        preset = getattr(preset, part)
    return preset


def _with_fields(preset: Any, fields: Mapping[str, Any]) -> Any:
    """The dataclass with dotted fields set."""
    own = {name: value for name, value in fields.items() if "." not in name}
    for parent in {name.partition(".")[0] for name in fields if "." in name}:
        inner = {n.partition(".")[2]: v for n, v in fields.items() if n.startswith(f"{parent}.")}
        own[parent] = _with_fields(getattr(preset, parent), inner)
    return dataclasses.replace(preset, **own)


def _differences(ours: Any, theirs: Any, prefix: str = "") -> list[str]:
    """The dotted fields in which two dataclasses differ, with both values."""
    found = []
    for field in dataclasses.fields(ours):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        if dataclasses.is_dataclass(a) and type(a) is type(b):
            found += _differences(a, b, f"{prefix}{field.name}.")
        elif a != b:
            found.append(f"{prefix}{field.name} is {a!r}, Detectron2 would have {b!r}")
    return found
