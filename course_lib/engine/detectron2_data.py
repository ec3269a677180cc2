"""Data sets for Detectron2, and its predictions for us: both systems on the same pictures, judged by one ruler."""

import json
from pathlib import Path
from typing import Any

from pycocotools import mask as mask_utils

from course_lib.datasets.coco import CocoDetection
from course_lib.datasets.label_map import LabelMap
from course_lib.datasets.records import read_json
from course_lib.datasets.segmentations import has_mask
from course_lib.weights.detectron2.checkpoint import read_torch
from course_lib.weights.files import write_text

XYWH_ABS = 1  # detectron2.structures.BoxMode
REGISTER = '''\
"""Register {name} with Detectron2: `import {module}`, then cfg.DATASETS.TRAIN = ("{name}",)."""

import json
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

NAME = {name!r}
DICTS = Path(__file__).with_name({dicts!r})

DatasetCatalog.register(NAME, lambda: json.loads(DICTS.read_text(encoding="utf-8")))
MetadataCatalog.get(NAME).set(
    thing_classes={names!r},
    thing_dataset_id_to_contiguous_id={ids!r},
    json_file={annotations!r},
    image_root={images!r},
    evaluator_type="coco",
)
# In the config: {classes} = {count}{mask_format}
'''


def dataset_dicts(dataset: CocoDetection) -> list[dict[str, Any]]:
    """A data set as Detectron2's "standard dataset dicts".

    Each picture is a dict with `file_name` (absolute), `height`, `width`, `image_id` and `annotations`: of each object
    `bbox` (x, y, width, height) with `bbox_mode`, `category_id` 0 … K−1, `iscrowd`, and `segmentation` where there is
    one, polygons or compressed run lengths.
    """
    labels = dataset.label_map.labels
    by_image: dict[int, list[dict]] = {image_id: [] for image_id in dataset.image_ids}
    for annotation in dataset.coco.dataset["annotations"]:
        found = {
            "bbox": annotation["bbox"],
            "bbox_mode": XYWH_ABS,
            "category_id": labels[annotation["category_id"]],
            "iscrowd": annotation["iscrowd"],
        }
        if has_mask(annotation.get("segmentation")):
            found["segmentation"] = _segmentation(annotation["segmentation"])
        by_image[annotation["image_id"]].append(found)
    return [
        {
            "file_name": str(dataset.image_path(i).resolve()),
            "height": height,
            "width": width,
            "image_id": image_id,
            "annotations": by_image[image_id],
        }
        for i, (image_id, (height, width)) in enumerate(zip(dataset.image_ids, dataset.sizes().tolist()))
    ]


def export_dataset(dataset: CocoDetection, name: str, out: Path) -> list[Path]:
    """Write `NAME.json`, the dataset dicts, and `register_NAME.py`, which makes Detectron2 know them.

    Args:
        dataset: the pictures and objects.
        name: by which Detectron2 shall know them, a Python identifier ("town_train").
        out: the folder, made if it is not there.

    Returns:
        both files.

    Raises:
        ValueError: for a name that is no identifier.
        OSError: if they cannot be written.
    """
    if not name.isidentifier():
        raise ValueError(f"the name is {name!r}, expected letters, digits and _, such as town_train")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    dicts, script = out / f"{name}.json", out / f"register_{name}.py"
    records = dataset_dicts(dataset)
    run_lengths = any(isinstance(a.get("segmentation"), dict) for r in records for a in r["annotations"])
    write_text(dicts, json.dumps(records))
    text = REGISTER.format(
        name=name,
        module=script.stem,
        dicts=dicts.name,
        names=list(dataset.label_map.names),
        ids=dataset.label_map.labels,
        annotations=str(dataset.annotations.resolve()),
        images=str(dataset.images.resolve()),
        classes="MODEL.ROI_HEADS.NUM_CLASSES (or MODEL.RETINANET.NUM_CLASSES)",
        count=len(dataset.label_map),
        mask_format=', INPUT.MASK_FORMAT = "bitmask" (some masks are run lengths)' if run_lengths else "",
    )
    write_text(script, text)
    return [dicts, script]


def read_predictions(path: Path, label_map: LabelMap | None = None) -> list[dict[str, Any]]:
    """Detectron2's detections as COCO results.

    Args:
        path: `coco_instances_results.json`, or `instances_predictions.pth`, which its evaluator writes.
        label_map: give it if the data set was registered without `thing_dataset_id_to_contiguous_id`: then the file's
            category ids are labels 0 … K−1, and become the ids of this map. The `.pth` always holds labels.

    Raises:
        FileNotFoundError, ValueError: if the file is not there, damaged, or holds something else, or a label that the
            map does not have.
    """
    path = Path(path)
    if path.suffix == ".pth":
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such file")
        pictures = read_torch(path)
        if not isinstance(pictures, list) or not all(isinstance(p, dict) and "instances" in p for p in pictures):
            raise ValueError(f"{path}: expected a list of pictures with their instances")
        results = [found for picture in pictures for found in picture["instances"]]
    else:
        results = read_json(path)
    if not isinstance(results, list):
        raise ValueError(f"{path}: expected a JSON list of results, found {type(results).__name__}")
    if label_map is None:
        return results
    labels = range(len(label_map))
    for i, result in enumerate(results):
        found = result.get("category_id") if isinstance(result, dict) else None
        if found not in labels:
            raise ValueError(f"{path}: result {i}: category_id {found!r} is no label 0 … {len(label_map) - 1}")
    return [result | {"category_id": label_map.category_ids[result["category_id"]]} for result in results]


def _segmentation(segmentation: list | dict) -> list | dict:
    """As Detectron2's loader has it: polygons of three points or more, or run lengths as a string."""
    if isinstance(segmentation, list):
        return [polygon for polygon in segmentation if len(polygon) >= 6]
    if isinstance(segmentation["counts"], list):
        encoded = mask_utils.frPyObjects(segmentation, *segmentation["size"])
        return {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}
    return segmentation
