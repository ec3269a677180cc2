"""What one trained detector is worth: AP, the anatomy of its errors, and which objects it finds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from course_lib.datasets.coco import CocoDetection
from course_lib.engine import checkpoint
from course_lib.engine.compare.runs import open_run
from course_lib.engine.errors import Anatomy, error_anatomy
from course_lib.engine.evaluate import detect_dataset, evaluate_results
from course_lib.engine.train import read_log
from course_lib.ops.boxes import box_iou

CROWDED = 0.1  # IoU with another object from which an object counts as crowded
RESULTS = "coco_instances_results.json"  # where Detectron2's own evaluator would leave what was detected


def judge_run(run: Path, val_data: CocoDetection) -> dict:
    """Everything about a finished run but its speed, as JSON can hold it.

    Args:
        run: the run folder.
        val_data: the images to judge on; all detectors see them in fp32, 16 at a time.

    Returns:
        "summary" (COCO's twelve), "per_class", "errors" (`Anatomy.to_dict`), "curve" (minutes, iteration and AP on the
        way), "parameters", "iterations", "minutes", "images_per_second" ("training", "inference"), "found" (see
        `found_by_group`), and "detections": of each image by its id, those as good as the N-th best, N being the
        number of objects. With masks also "masks", COCO's twelve for them; of Detectron2's models "detectron2", its
        version, and what was detected is written to its `RESULTS` in the run folder.
    """
    model, header = open_run(run)
    results, _, seconds = detect_dataset(model, val_data)
    metrics = evaluate_results(val_data.coco, results)
    anatomy = error_anatomy(val_data.coco, results)
    minutes = header["minutes"]
    curve = [{k: r[k] for k in ("iteration", "minutes", "AP")} for r in read_log(run / checkpoint.LOG) if "AP" in r]
    curve.append({"iteration": header["iterations"], "minutes": minutes, "AP": metrics.summary["AP"]})
    trained = header["iterations"] * header["recipe"]["batch_size"]
    judged = {
        "summary": metrics.summary,
        "per_class": metrics.per_class,
        "errors": {"AP50": anatomy.ap50(), "count": anatomy.counts(), "gain": anatomy.gains()},
        "curve": curve,
        "parameters": sum(p.numel() for p in model.parameters()),
        "iterations": header["iterations"],
        "minutes": minutes,
        "learning_rate": header["recipe"]["learning_rate"],
        "input_size": header.get("size", header["preset"]["input"]["size"]),
        "images_per_second": {
            "training": round(trained / max(60 * minutes, 1e-9), 1),
            "inference": round(len(val_data) / max(seconds, 1e-9), 1),
        },
        "found": found_by_group(anatomy, object_groups(val_data)),
        "detections": best_detections(results, len(anatomy.categories)),
    }
    if getattr(model, "uses_masks", False):
        judged["masks"] = evaluate_results(val_data.coco, results, iou_type="segm").summary
    if "detectron2" in header:
        judged["detectron2"] = header["detectron2"]
        checkpoint.write_text(run / RESULTS, json.dumps(results))
    return judged


def object_groups(dataset: CocoDetection) -> dict[str, set[int]]:
    """Annotation ids of the objects that are no crowds, by what may make them hard.

    "small", "medium" and "large" are thirds of this data's objects by their boxes' areas, for COCO's limits of 32² and
    96² px suit photographs; "crowded" are those that overlap another by an IoU of at least `CROWDED`, "alone" the rest.
    """
    objects = [a for a in dataset.coco.dataset["annotations"] if not a["iscrowd"]]
    areas = np.array([a["bbox"][2] * a["bbox"][3] for a in objects])
    limits = np.quantile(areas, [1 / 3, 2 / 3])
    groups: dict[str, set[int]] = {name: set() for name in ("small", "medium", "large", "alone", "crowded")}
    for annotation, third in zip(objects, np.searchsorted(limits, areas)):
        groups[("small", "medium", "large")[third]].add(annotation["id"])
    for image in dataset.image_ids:
        inside = [a for a in dataset.coco.imgToAnns[image] if not a["iscrowd"]]
        boxes = torch.tensor([a["bbox"] for a in inside], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        overlap = box_iou(boxes, boxes).fill_diagonal_(0).amax(1) if len(inside) else []
        for annotation, value in zip(inside, overlap):
            groups["crowded" if value >= CROWDED else "alone"].add(annotation["id"])
    return groups


def found_by_group(anatomy: Anatomy, groups: Mapping[str, set[int]]) -> dict[str, float | None]:
    """The share of the objects of each group that are found at IoU 0.5 by as many detections as there are objects.

    The best-scored N detections for N objects: a detector whose scores are all high or all low gains nothing by it.
    None for a group without objects; "all" is over all objects.
    """
    said = [v for v in anatomy.verdicts if v.kind not in ("missed", "ignored")][: len(anatomy.categories)]
    found = {v.object for v in said if v.kind == "correct"}
    every = {"all": set(anatomy.categories), **groups}
    return {name: len(found & ids) / len(ids) if ids else None for name, ids in every.items()}


def best_detections(results: Sequence[dict], count: int) -> dict[str, list[dict]]:
    """The `count` best-scored COCO results over all images, by image id (as text, for JSON), without masks."""
    kept: dict[str, list[dict]] = {}
    for result in sorted(results, key=lambda r: -r["score"])[:count]:
        kept.setdefault(str(result["image_id"]), []).append(
            {
                "category_id": result["category_id"],
                "score": round(result["score"], 4),
                "bbox": [round(v, 2) for v in result["bbox"]],
            }
        )
    return kept
