"""Write a Town to disk: pictures, COCO instances and COCO panoptic, in the layout that `datasets/coco.py` reads.

    OUT/images/{train,val}_000000.png
    OUT/annotations/instances_{train,val}.json
    OUT/annotations/panoptic_{train,val}.json and panoptic_{train,val}/{train,val}_000000.png
    OUT/dataset.json        the settings that made it

The folder is built beside OUT and renamed at the end, so OUT is either complete or absent.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zlib
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle
from tqdm.auto import tqdm

from course_lib.datasets.town import CATEGORIES, SPLITS, Scene, TownConfig, draw_scene
from course_lib.datasets.workers import ordered_map
from course_lib.panoptic.format import ids_to_rgb

VERSION = 1  # raised whenever the same settings would give other pictures
_CHUNK = 50  # scenes a worker draws at a time
_ALONE = 150  # below this many scenes, starting workers takes longer than it saves


def make_town(
    out: Path, *, train: int, val: int, config: TownConfig, seed: int, workers: int = 2, progress: bool = True
) -> None:
    """Write a Town of `train` and `val` scenes to the folder `out`.

    If `out` already holds this very Town, nothing is done. The result does not depend on `workers`.
    Raises ValueError if a count is negative, or if `out` holds anything else (nothing is ever overwritten).
    """
    counts = {"train": train, "val": val}
    for split, count in counts.items():
        if count < 0:
            raise ValueError(f"make_town: {split}={count}, expected a number of images of at least 0")
    settings = {"name": "town", "version": VERSION, "seed": seed, **counts, "config": config.to_dict()}
    out = Path(out).resolve()
    if _already_made(out, settings):
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    build = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        _build(build, counts, config, seed, workers, progress)
        _write_json(build / "dataset.json", settings, indent=1)
        build.chmod(0o755)  # mkdtemp makes a private folder
        try:
            if out.is_dir():
                out.rmdir()  # empty, or _already_made would have raised
            build.replace(out)
        except OSError:  # perhaps another process has just finished the same Town
            if not _already_made(out, settings):
                raise
    finally:
        shutil.rmtree(build, ignore_errors=True)


def _already_made(out: Path, settings: dict[str, Any]) -> bool:
    """Whether `out` holds this Town; raises ValueError if it holds something else."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise ValueError(f"{out}: found a file, expected a folder to write Town to")
    if not any(out.iterdir()):
        return False
    record = out / "dataset.json"
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f"{out}: found a folder with other files, expected an empty or new one") from None
    if found == settings:
        return True
    keys = [k for k in settings if not isinstance(found, dict) or found.get(k) != settings[k]]
    raise ValueError(
        f"{record}: found a Town made with other settings ({', '.join(keys)} differ), "
        "expected the same ones; choose another folder or delete this one"
    )


def _build(build: Path, counts: dict[str, int], config: TownConfig, seed: int, workers: int, progress: bool) -> None:
    (build / "images").mkdir()
    for split in SPLITS:
        (build / "annotations" / f"panoptic_{split}").mkdir(parents=True)
    chunks = [
        (split, range(i, min(i + _CHUNK, count))) for split, count in counts.items() for i in range(0, count, _CHUNK)
    ]
    draw = partial(_draw_chunk, build, config, seed)
    records: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    total = sum(counts.values())
    results = ordered_map(draw, chunks, workers if total >= _ALONE else 1)
    with closing(results), tqdm(total=total, desc="Town", unit="image", disable=not progress) as bar:
        for split, chunk in results:
            records[split] += chunk
            bar.update(len(chunk))
    for split in SPLITS:
        _write_annotations(build / "annotations", split, records[split], config)


def _draw_chunk(
    build: Path, config: TownConfig, seed: int, chunk: tuple[str, range]
) -> tuple[str, list[dict[str, Any]]]:
    split, indices = chunk
    return split, [_write_scene(build, split, i, draw_scene(config, seed, i, split)) for i in indices]


def _write_scene(build: Path, split: str, index: int, scene: Scene) -> dict[str, Any]:
    """Write both pictures of a scene; returns its segments, those of things with their RLE."""
    name = f"{split}_{index:06d}.png"
    # Noise does not repeat: entropy coding alone is smaller than a search for repeats, and faster.
    coding = {"compress_level": 1, "compress_type": zlib.Z_HUFFMAN_ONLY}
    Image.fromarray(scene.image).save(build / "images" / name, **coding)
    ids = scene.panoptic
    Image.fromarray(ids_to_rgb(ids)).save(build / "annotations" / f"panoptic_{split}" / name, compress_level=1)
    things = [s for s in scene.segments if s["isthing"]]
    masks = []
    if things:
        wanted = np.array([s["id"] for s in things], np.int32)
        stack = np.equal(ids.T, wanted[:, None, None], order="C")  # (N, W, H)
        masks = [r["counts"].decode() for r in rle.encode(stack.view(np.uint8).T)]  # column by column, as COCO
    return {"file_name": name, "segments": scene.segments, "masks": masks}


def _write_annotations(folder: Path, split: str, records: list[dict[str, Any]], config: TownConfig) -> None:
    height, width = config.size
    images, annotations, panoptic = [], [], []
    for image_id, record in enumerate(records, 1):
        name = record["file_name"]
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        things = [s for s in record["segments"] if s["isthing"]]
        for segment, counts in zip(things, record["masks"]):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": segment["category_id"],
                    "bbox": segment["bbox"],
                    "area": segment["area"],
                    "iscrowd": segment["iscrowd"],
                    "segmentation": {"size": [height, width], "counts": counts},
                    "hidden": segment["hidden"],
                }
            )
        keys = ("id", "category_id", "area", "bbox", "iscrowd")
        segments = [{k: s[k] for k in keys} for s in record["segments"]]
        panoptic.append({"image_id": image_id, "file_name": name, "segments_info": segments})
    head = {
        "info": {"description": "Town, procedural street scenes", "version": str(VERSION)},
        "licenses": [],
    }
    things = [{k: c[k] for k in ("id", "name", "supercategory")} for c in CATEGORIES if c["isthing"]]
    _write_json(
        folder / f"instances_{split}.json",
        head | {"images": images, "categories": things, "annotations": annotations},
    )
    _write_json(
        folder / f"panoptic_{split}.json",
        head | {"images": images, "categories": list(CATEGORIES), "annotations": panoptic},
    )


def _write_json(path: Path, value: dict[str, Any], indent: int | None = None) -> None:
    path.write_text(json.dumps(value, indent=indent), encoding="utf-8")
