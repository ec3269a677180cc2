"""Data sets for Detectron2, and its predictions for us: both systems on the same pictures, judged by one ruler."""

import json
from pathlib import Path
from typing import Any

from PIL import Image
from pycocotools import mask as mask_utils

from course_lib.datasets.coco import CocoDetection
from course_lib.datasets.coco_panoptic import PanopticTruth, panoptic_file
from course_lib.datasets.label_map import LabelMap
from course_lib.datasets.records import read_json
from course_lib.datasets.segmentations import has_mask
from course_lib.ops.semantic import IGNORE
from course_lib.weights.detectron2.checkpoint import read_torch
from course_lib.weights.files import write_beside, write_text

XYWH_ABS = 1  # detectron2.structures.BoxMode has this number; where it is read back, it must become a BoxMode again
REGISTER = '''\
"""Register {name} with Detectron2: `import {module}`, then cfg.DATASETS.TRAIN = ("{name}",)."""

import json
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

NAME = {name!r}
DICTS = Path(__file__).with_name({dicts!r})


def load():
    records = json.loads(DICTS.read_text(encoding="utf-8"))
    for record in records:
        for known in record["annotations"]:
            known["bbox_mode"] = BoxMode(known["bbox_mode"])
    return records


DatasetCatalog.register(NAME, load)
MetadataCatalog.get(NAME).set(
{metadata}
)
# In the config: {settings}
'''


def dataset_dicts(dataset: CocoDetection, *, run_lengths: bool = False) -> list[dict[str, Any]]:
    """A data set as Detectron2's "standard dataset dicts".

    Each picture is a dict with `file_name` (absolute), `height`, `width`, `image_id` and `annotations`: of each object
    `bbox` (x, y, width, height) with `bbox_mode`, `category_id` 0 … K−1, `iscrowd`, and `segmentation` where there is
    one: polygons or compressed run lengths; with `run_lengths` these alone, for to crop a polygon Detectron2 wants the
    package shapely. With panoptic truth (`with_panoptic`) also `pan_seg_file_name` and `segments_info`, with the labels
    of things 0 … K−1 and of stuff 1 … S.
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
            masks = dataset.coco.annToRLE(annotation) if run_lengths else annotation["segmentation"]
            found["segmentation"] = _segmentation(masks)
        by_image[annotation["image_id"]].append(found)
    return [
        {
            "file_name": str(dataset.image_path(i).resolve()),
            "height": height,
            "width": width,
            "image_id": image_id,
            "annotations": by_image[image_id],
            **(_panoptic_fields(dataset.panoptic, image_id) if dataset.panoptic is not None else {}),
        }
        for i, (image_id, (height, width)) in enumerate(zip(dataset.image_ids, dataset.sizes().tolist()))
    ]


def _panoptic_fields(truth: PanopticTruth, image_id: int) -> dict[str, Any]:
    """What a picture's dict has of its panoptic truth: the PNG of segment ids, and what each id is."""
    segments = [
        {"id": s["id"], "category_id": s["label"], "isthing": s["isthing"], "iscrowd": s.get("iscrowd", 0)}
        for s in truth.labelled(image_id)
    ]
    return {"pan_seg_file_name": str(truth.png(image_id).resolve()), "segments_info": segments}


def export_dataset(dataset: CocoDetection, name: str, out: Path) -> list[Path]:
    """Write `NAME.json`, the dataset dicts, and `register_NAME.py`, which makes Detectron2 know them.

    Where there is panoptic truth beside the instances, the dicts have it too, and the folder `NAME_semantic` gets a
    grey PNG of each picture's classes, from which Detectron2's Panoptic FPN learns: 0 a thing, 1 … S stuff, 255 void.

    Args:
        dataset: the pictures and objects.
        name: by which Detectron2 shall know them, a Python identifier ("town_train").
        out: the folder, made if it is not there.

    Returns:
        both files, and that folder.

    Raises:
        ValueError: for a name that is no identifier, or panoptic truth that is damaged.
        OSError: if they cannot be written.
    """
    if not name.isidentifier():
        raise ValueError(f"the name is {name!r}, expected letters, digits and _, such as town_train")
    if panoptic_file(dataset.annotations).is_file():
        dataset = dataset.with_panoptic()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    dicts, script = out / f"{name}.json", out / f"register_{name}.py"
    records, written = dataset_dicts(dataset), [dicts, script]
    if dataset.panoptic is not None:
        written.append(out / f"{name}_semantic")
        _write_semantic(dataset.panoptic, records, written[-1])
    write_text(dicts, json.dumps(records))
    text = REGISTER.format(
        name=name,
        module=script.stem,
        dicts=dicts.name,
        metadata="\n".join(f"    {key}={value!r}," for key, value in _metadata(dataset).items()),
        settings=", ".join(_settings(dataset, records)),
    )
    write_text(script, text)
    return written


def _write_semantic(truth: PanopticTruth, records: list[dict[str, Any]], folder: Path) -> None:
    """Write each picture's semantic map, and its name into the picture's dict."""
    folder.mkdir(exist_ok=True)
    for record in records:
        path = folder / truth.png(record["image_id"]).name
        picture = Image.fromarray(truth.semantic(record["image_id"], (record["height"], record["width"])).numpy())
        write_beside(path, lambda temporary, picture=picture: picture.save(temporary, format="PNG"))
        record["sem_seg_file_name"] = str(path.resolve())


def _metadata(dataset: CocoDetection) -> dict[str, Any]:
    """What Detectron2's evaluators and visualiser want to know, by its names."""
    found: dict[str, Any] = {
        "thing_classes": list(dataset.label_map.names),
        "thing_dataset_id_to_contiguous_id": dataset.label_map.labels,
        "json_file": str(dataset.annotations.resolve()),
        "image_root": str(dataset.images.resolve()),
        "evaluator_type": "coco",
    }
    if (truth := dataset.panoptic) is not None:
        stuff = truth.stuff_map
        found |= {
            "stuff_classes": ["things", *stuff.names],
            "stuff_dataset_id_to_contiguous_id": {0: 0} | {i: n for n, i in enumerate(stuff.category_ids, start=1)},
            "panoptic_json": str(truth.path.resolve()),
            "panoptic_root": str(truth.path.with_suffix("").resolve()),
            "ignore_label": IGNORE,
            "evaluator_type": "coco_panoptic_seg",
        }
    return found


def _settings(dataset: CocoDetection, records: list[dict[str, Any]]) -> list[str]:
    """What a config must say to suit the data."""
    found = [f"MODEL.ROI_HEADS.NUM_CLASSES (or MODEL.RETINANET.NUM_CLASSES) = {len(dataset.label_map)}"]
    if dataset.panoptic is not None:
        found.append(f"MODEL.SEM_SEG_HEAD.NUM_CLASSES = {1 + len(dataset.panoptic.stuff_map)}")
    if any(isinstance(a.get("segmentation"), dict) for r in records for a in r["annotations"]):
        found.append('INPUT.MASK_FORMAT = "bitmask" (some masks are run lengths)')
    return found


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
        segmentation = mask_utils.frPyObjects(segmentation, *segmentation["size"])
    counts = segmentation["counts"]
    return {"size": segmentation["size"], "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
