"""The zoo: small trained detectors that come with the course, so that a notebook can analyse one without training it.

They lie in data/zoo/ with a manifest that says of each how it was trained, on what, and which AP it reached.
`course_lib/engine/make_zoo.py` makes them.
"""

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any

from torch import nn

from course_lib.datasets.coco import CocoDetection, open_split
from course_lib.datasets.label_map import LabelMap
from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_writer import VERSION, make_town
from course_lib.weights.files import load_detector

ZOO = Path(__file__).resolve().parents[2] / "data" / "zoo"
MANIFEST = "manifest.json"


def load_zoo(name: str, folder: Path = ZOO) -> tuple[nn.Module, LabelMap, dict[str, Any]]:
    """A trained detector of the zoo, in evaluation mode.

    Args:
        name: such as "town_retinanet".
        folder: where the zoo lies.

    Returns:
        the model, its label map, and its entry in the manifest: command, seed, minutes, AP, data, sha256, …

    Raises:
        FileNotFoundError: if the folder or the file is not there.
        ValueError: if there is no such entry, or the file is not the one that the manifest describes.
    """
    entry = zoo_entry(name, folder)
    path = Path(folder) / entry["file"]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; make it again with `{entry['command']}`")
    found = sha256(path)
    if found != entry["sha256"]:
        raise ValueError(
            f"{path}: the checksum is {found[:12]}…, expected {entry['sha256'][:12]}…: the file was changed or half "
            f"copied; take it from the repository again, or make it with `{entry['command']}`"
        )
    model, label_map, _ = load_detector(path)
    return model, label_map, entry


def zoo_data(name: str, folder: Path, images: int | None = None, zoo: Path = ZOO) -> CocoDetection:
    """The validation images that a detector of the zoo is judged on, or the first of them.

    Args:
        name: such as "town_retinanet".
        folder: where the images are made; what is already there is used.
        images: how many; None for all.
        zoo: where the zoo lies.

    Raises:
        ValueError: if `images` is not in 1 … all, the folder holds something else, or Town draws other pictures now.
    """
    data = zoo_entry(name, zoo)["data"]
    images = data["val"] if images is None else images
    if not 1 <= images <= data["val"]:
        raise ValueError(f"images: found {images}, expected 1 to {data['val']}, which {name} is judged on")
    if data["version"] != VERSION:
        raise ValueError(
            f"{name} was judged on Town of version {data['version']}, this is version {VERSION}; "
            "run python -m course_lib.engine.make_zoo again"
        )
    config = TownConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in data["config"].items()})
    make_town(folder, train=0, val=images, config=config, seed=data["seed"], progress=False)
    return open_split(folder, "val")


def zoo_entry(name: str, folder: Path = ZOO) -> dict[str, Any]:
    """What the manifest says of a detector. Raises FileNotFoundError without a zoo, ValueError without that entry."""
    entries = read_manifest(folder)
    if name not in entries:
        near = difflib.get_close_matches(name, entries, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(entries) or 'nothing'}"
        raise ValueError(f"the zoo has no {name!r}: {hint}")
    return entries[name]


def read_manifest(folder: Path = ZOO) -> dict[str, dict[str, Any]]:
    """All entries by name. Raises FileNotFoundError without a zoo."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no zoo here. It comes with the repository, in data/zoo; "
            "`python -m course_lib.engine.make_zoo --list` says what can be made"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """A file's SHA-256 in hex."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
