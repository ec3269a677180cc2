"""Weights from anywhere, by one name: a run, a file of ours, of torchvision's or Detectron2's, or a published model."""

import difflib
from pathlib import Path

from course_lib.datasets.label_map import LabelMap
from course_lib.detectors.presets import preset_from_dict
from course_lib.weights.detectron2.checkpoint import Checkpoint, read_checkpoint
from course_lib.weights.detectron2.models import import_detectron2
from course_lib.weights.files import load_detector
from course_lib.weights.imported import Imported, generic_labels, with_classes
from course_lib.weights.keys import LoadReport
from course_lib.weights.torchvision.imagenet import BACKBONES, Backbone, backbone_of, is_backbone, open_backbone
from course_lib.weights.torchvision.models import FAMILIES, MODELS, import_state, import_torchvision, published_weights
from course_lib.weights.zoo import ZOO, read_manifest, zoo_entry

RUN_WEIGHTS = "weights.safetensors"


def open_weights(
    source: str | Path,
    *,
    config: Path | None = None,
    label_map: LabelMap | None = None,
    num_classes: int | None = None,
    partial: bool = False,
    download: bool = True,
) -> Imported:
    """A detector, from whatever holds one.

    Args:
        source: a run folder, a file (our safetensors, torchvision's `.pth`, Detectron2's `.pkl` or `.pth`), a model
            that torchvision publishes, a member of its weights enums by name, or one of the course's zoo.
        config: Detectron2's YAML, with its file.
        label_map: of the labels of a peer's file; COCO's or numbers by default.
        num_classes: start the class predictor afresh for so many classes; all else keeps its weights.
        partial: take a Detectron2 file that does not hold every tensor of the model, or holds more.
        download: whether published weights may be fetched from the net.

    Raises:
        FileNotFoundError: if a file is not there, or not in the cache and may not be fetched.
        ValueError: for a name that nobody has, a damaged or hostile file, or weights that do not fit.
        OSError: if the net cannot be reached.
    """
    path = Path(source)
    if not path.exists() and published_weights(str(source), MODELS):
        found = import_torchvision(str(source), label_map=label_map, download=download)
    elif path.is_dir() or path.suffix == ".safetensors":
        found = _ours(path / RUN_WEIGHTS if path.is_dir() else path)
    elif path.exists():
        found = _theirs(path, read_checkpoint(path), config, label_map, partial)
    elif _in_zoo(str(source)):
        found = _ours(ZOO / zoo_entry(str(source))["file"])
    elif published_weights(str(source), BACKBONES):
        raise ValueError(
            f"{source} is a backbone without a detector; `course train MODEL --weights {source}` starts from it"
        )
    else:
        near = difflib.get_close_matches(str(source), [*published(), *BACKBONES], n=1)
        hint = f"did you mean {near[0]}?" if near else "`course weights list` says which models there are"
        raise FileNotFoundError(f"{source}: no such file, and no model of that name; {hint}")
    return found if num_classes is None else with_classes(found, generic_labels(num_classes))


def open_start(source: str | Path, *, download: bool = True) -> Imported | Backbone:
    """What a training can start from: a detector, as `open_weights` finds it, or torchvision's ImageNet classifier.

    Args:
        source: what `open_weights` takes, or a classifier: a name of `BACKBONES`, a member of its enum, its file.
        download: whether published weights may be fetched from the net.

    Raises:
        FileNotFoundError, ValueError, OSError: as `open_weights`.
    """
    path = Path(source)
    if not path.exists() and published_weights(str(source), BACKBONES):
        return open_backbone(str(source), download=download)
    if path.is_file() and path.suffix != ".safetensors":
        checkpoint = read_checkpoint(path)
        return backbone_of(path, checkpoint.state) if is_backbone(checkpoint.state) else _theirs(path, checkpoint)
    return open_weights(source, download=download)


def published() -> list[str]:
    """The names that `open_weights` knows without a file."""
    return [*MODELS, *(read_manifest() if (ZOO / "manifest.json").is_file() else ())]


def _in_zoo(name: str) -> bool:
    return name in published()


def _ours(path: Path) -> Imported:
    model, label_map, header = load_detector(path)
    report = LoadReport(used={name: name for name in model.state_dict()})
    source = header.get("source", f"course file {path.name}")
    stuff = LabelMap.from_dict(header["stuff_map"]) if "stuff_map" in header else None
    return Imported(model, preset_from_dict(header["preset"]), label_map, report, source, stuff_map=stuff)


def _theirs(
    path: Path,
    checkpoint: Checkpoint,
    config: Path | None = None,
    label_map: LabelMap | None = None,
    partial: bool = False,
) -> Imported:
    if config is None and any(family.sign in checkpoint.state for family in FAMILIES):
        return import_state(path, checkpoint.state, label_map=label_map)
    return import_detectron2(path, config=config, label_map=label_map, partial=partial, checkpoint=checkpoint)
