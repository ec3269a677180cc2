"""What `course weights` prints and writes."""

import json
from dataclasses import asdict
from pathlib import Path

from torchvision.models import get_model_weights

from course_lib.weights.detectron2.checkpoint import write_checkpoint
from course_lib.weights.detectron2.config import settings_of, write_config
from course_lib.weights.imported import Imported
from course_lib.weights.torchvision.imagenet import BACKBONES
from course_lib.weights.torchvision.models import MODELS, cached
from course_lib.weights.zoo import ZOO, read_manifest


def list_models() -> list[dict]:
    """The models that have a name: origin, AP on their data, megabytes, and whether they are here already."""
    models = []
    for name in MODELS:
        weights = get_model_weights(name).DEFAULT
        numbers = weights.meta["_metrics"]["COCO-val2017"]
        models.append(
            {
                "name": name,
                "origin": "torchvision",
                "weights": str(weights),
                "data": "COCO",
                "AP": round(numbers["box_map"] / 100, 3),
                "megabytes": round(weights.meta["_file_size"]),
                "here": cached(weights).is_file(),
            }
        )
    entries = read_manifest() if (ZOO / "manifest.json").is_file() else {}
    for name, entry in entries.items():
        path = ZOO / entry["file"]
        size = round(path.stat().st_size / 1e6) if path.is_file() else 0
        numbers = {"AP": entry["AP"], "megabytes": size, "here": path.is_file()}
        models.append(
            {"name": name, "origin": "course", "weights": entry["file"], "data": entry["data"]["name"]} | numbers
        )
    return models


def format_models(models: list[dict]) -> str:
    """A table of them, and what else can be imported."""
    width = max(len(m["name"]) for m in models)
    lines = [f"{'model':{width}}  origin       data     AP     MB"]
    for m in models:
        here = "here" if m["here"] else "to fetch"
        lines.append(
            f"{m['name']:{width}}  {m['origin']:11}  {m['data']:5}  {m['AP']:.3f}  {m['megabytes']:4d}  {here}"
        )
    lines.append(
        "Files: torchvision's .pth of these models; Detectron2's .pkl and .pth of RetinaNet, Faster and "
        "Mask R-CNN with a pyramid, and Panoptic FPN."
    )
    lines.append(f"Backbones for `course train MODEL --weights`: {', '.join(BACKBONES)}.")
    return "\n".join(lines)


def format_import(found: Imported, out: Path, *, as_json: bool) -> str:
    """What was imported, from where, what is taken for granted, and what became of every tensor."""
    if as_json:
        values = {"out": str(out), "family": found.preset.family, "classes": len(found.label_map)}
        more = {"source": found.source, "notes": list(found.notes), "report": asdict(found.report)}
        return json.dumps(values | more, indent=1)
    notes = [f"taken for granted: {note}" for note in found.notes]
    what = f"{out}: a {found.preset.family} of {len(found.label_map)} classes, from {found.source}"
    return "\n".join([what, *notes, str(found.report)])


def save_as(found: Imported, out: Path) -> list[Path]:
    """Write a detector in the form that the name asks for: `.safetensors` ours, `.pth` and `.pkl` Detectron2's.

    Returns:
        the files that were written: for Detectron2 the checkpoint, and beside it its YAML.

    Raises:
        ValueError: for another name, or if Detectron2 has no word for some of the model's conventions.
        OSError: if it cannot be written.
    """
    out = Path(out)
    if out.suffix == ".safetensors":
        found.save(out)
        return [out]
    if out.suffix not in (".pth", ".pkl"):
        raise ValueError(f"{out}: expected a name that ends with .safetensors, .pth or .pkl")
    settings_of(found.preset, len(found.label_map))  # before anything is written
    write_checkpoint(out, found.model, found.preset)
    config = out.with_suffix(".yaml")
    write_config(config, found.preset, len(found.label_map), weights=str(out))
    return [out, config]
