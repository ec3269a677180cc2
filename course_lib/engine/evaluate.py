"""How good is a detector? COCO's average precision, computed by pycocotools."""

import contextlib
import io
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from tqdm.auto import tqdm

from course_lib.datasets.coco import CocoDetection, coco_index
from course_lib.datasets.label_map import LabelMap
from course_lib.datasets.records import check_records, raise_problems, read_json
from course_lib.engine.detectron2_data import read_predictions
from course_lib.ops.boxes import xyxy_to_xywh
from course_lib.ops.masks import encode_masks

SUMMARY = (
    "AP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR1",
    "AR10",
    "AR100",
    "AR_small",
    "AR_medium",
    "AR_large",
)
DETECTION = ("boxes", "labels", "scores", "masks")  # what a detector says of its objects


@dataclass
class Metrics:
    """COCO's twelve numbers as fractions, AP per class, and the precision-recall curves behind them.

    A number is None where it has no meaning (no such objects in the ground truth); pycocotools says −1 there.

    Attributes:
        summary: AP, AP50, AP75, AP_small, AP_medium, AP_large (areas below 32², to 96², above), AR1, AR10, AR100 and
            AR by size.
        per_class: for each class name its AP, AP50 and how many objects the ground truth has.
        curves: for each class name, precision at 101 recalls 0, 0.01, … 1 for IoU 0.5; empty without objects.
        images: how many images were judged.
    """

    summary: dict[str, float | None]
    per_class: dict[str, dict[str, float | int | None]]
    curves: dict[str, list[float]]
    images: int

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """The table that `course evaluate` prints."""
        show = lambda v: "    –" if v is None else f"{v:.3f}"  # noqa: E731
        lines = ["  ".join(f"{k} {show(v)}" for k, v in list(self.summary.items())[i : i + 3]) for i in (0, 3, 6, 9)]
        width = max((len(n) for n in self.per_class), default=5)
        lines += [f"{'class':{width}}     AP   AP50  objects"]
        lines += [
            f"{name:{width}}  {show(v['AP'])}  {show(v['AP50'])}  {v['objects']:7d}"
            for name, v in self.per_class.items()
        ]
        return "\n".join(lines)


def evaluate_results(
    truth: COCO, results: list[dict], *, iou_type: str = "bbox", image_ids: list[int] | None = None
) -> Metrics:
    """Judge COCO results against COCO ground truth.

    Args:
        truth: the annotations.
        results: dicts with image_id, category_id, score and bbox (xywh) or segmentation (RLE); may be empty.
        iou_type: "bbox" or "segm".
        image_ids: judge these images alone; None for all.

    Returns:
        The metrics.

    Raises:
        ValueError: if a result lacks a field, or names an image or category that the truth does not have; or if the
            truth has no masks and masks are to be judged.
    """
    shape = "bbox" if iou_type == "bbox" else "segmentation"
    check_results(truth, results, shape)
    # Masks go without their boxes: pycocotools would sort them into small, medium and large by the boxes' areas.
    fields = ("image_id", "category_id", "score", shape)
    copies = [{field: result[field] for field in fields} for result in results]  # pycocotools adds to what it is given
    with contextlib.redirect_stdout(io.StringIO()):  # … and reports to the terminal as it goes
        detections = truth.loadRes(copies) if results else _no_results(truth)
        evaluation = COCOeval(truth, detections, iou_type)
        if image_ids is not None:
            evaluation.params.imgIds = sorted(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # (T, R, K): all areas, 100 detections
    images = evaluation.params.imgIds
    per_class, curves = {}, {}
    for k, category in enumerate(evaluation.params.catIds):
        name = truth.cats[category]["name"]
        annotations = truth.loadAnns(truth.getAnnIds(imgIds=images, catIds=[category], iscrowd=False))
        per_class[name] = {
            "AP": _mean(precision[:, :, k]),
            "AP50": _mean(precision[0, :, k]),
            "objects": len(annotations),
        }
        curves[name] = [] if (precision[0, :, k] < 0).any() else [round(float(p), 4) for p in precision[0, :, k]]
    stats = [None if s < 0 else float(s) for s in evaluation.stats]
    return Metrics(dict(zip(SUMMARY, stats)), per_class, curves, len(images))


def check_results(truth: COCO, results: list[dict], shape: str = "bbox") -> None:
    """Raise ValueError unless truth and results can be compared by `shape`: "bbox" or "segmentation".

    It names the annotation without that shape, or the result that lacks a field or names an image or category that
    the truth does not have.
    """
    known_images, known_categories = set(truth.getImgIds()), set(truth.getCatIds())
    for annotation in truth.dataset["annotations"]:
        if shape not in annotation:
            raise ValueError(f"the ground truth's annotation {annotation['id']} has no {shape}")
    for i, result in enumerate(results):
        if fault := _fault(result, shape):
            raise ValueError(f"result {i}: {fault}")
        if result["image_id"] not in known_images:
            raise ValueError(f"result {i}: image_id {result['image_id']!r} is not in the ground truth")
        if result["category_id"] not in known_categories:
            raise ValueError(f"result {i}: category_id {result['category_id']!r} is not in the ground truth")


def _fault(result: dict, shape: str) -> str | None:
    """What is wrong with one result, or None."""
    if not isinstance(result, dict):
        return f"found {type(result).__name__}, expected a record with image_id, category_id, score and {shape}"
    if missing := [field for field in ("image_id", "category_id", "score", shape) if field not in result]:
        return f"has no {', '.join(missing)}"
    numbers = [result["score"], *(result["bbox"] if shape == "bbox" else [])]
    if len(numbers) not in (1, 5) or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        return f"score {result['score']}, {shape} {result[shape]}: expected finite numbers, a box of four"
    return None


def _mean(precision: np.ndarray) -> float | None:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def _no_results(truth: COCO) -> COCO:
    empty = COCO()
    empty.dataset = {**truth.dataset, "annotations": []}
    empty.createIndex()
    return empty


def evaluate_files(
    ground_truth: Path, detections: Path, *, iou_type: str = "bbox", from_labels: bool = False
) -> Metrics:
    """Judge a COCO results file against a COCO annotation file, whoever made it.

    Args:
        ground_truth, detections: the files; the latter may be Detectron2's `instances_predictions.pth`.
        iou_type: "bbox" or "segm".
        from_labels: the results name classes 0 … K−1, not category ids; see `read_predictions`.

    Raises:
        ValueError: if either file is not what it should be; it names file and record.
    """
    truth, results = read_results(ground_truth, detections, from_labels=from_labels)
    try:
        return evaluate_results(truth, results, iou_type=iou_type)
    except ValueError as error:
        raise ValueError(f"{detections}: {error}") from None


def read_results(ground_truth: Path, detections: Path, *, from_labels: bool = False) -> tuple[COCO, list]:
    """Open a COCO annotation file, checked, and a results file, of which only its being a list is checked.

    Raises:
        ValueError: if either file is not what it should be; it names the file.
    """
    data = read_json(ground_truth)
    raise_problems(check_records(data, Path(ground_truth)))
    label_map = LabelMap.from_categories(data["categories"]) if from_labels else None
    return coco_index(data), read_predictions(detections, label_map)


def to_coco_results(outputs: Iterable[dict], image_ids: Iterable[int], category_ids: tuple[int, ...]) -> list[dict]:
    """A detector's outputs as COCO results.

    Args:
        outputs: for each image `boxes` (N, 4) xyxy, `labels` (N,), `scores` (N,) and perhaps `masks` (N, H, W).
        image_ids: their ids.
        category_ids: the COCO category of each label.
    """
    results = []
    for output, image_id in zip(outputs, image_ids):
        boxes = xyxy_to_xywh(output["boxes"]).tolist()
        rles = encode_masks(output["masks"]) if "masks" in output else [None] * len(boxes)
        for box, label, score, rle in zip(boxes, output["labels"].tolist(), output["scores"].tolist(), rles):
            result = {"image_id": image_id, "category_id": category_ids[label], "score": score, "bbox": box}
            results.append(result if rle is None else {**result, "segmentation": rle})
    return results


def detect_dataset(
    model: nn.Module,
    dataset: CocoDetection,
    *,
    indices: list[int] | None = None,
    batch_size: int = 16,
    precision: str = "fp32",
    progress: bool = False,
) -> tuple[list[dict], list[dict], float]:
    """Run a detector over a data set.

    Args:
        model: a detector; put in evaluation mode here and back afterwards.
        dataset: its images and label map.
        indices: of the images; None for all.
        batch_size: images at a time.
        precision: "fp32" or "bf16" (autocast).
        progress: show a bar.

    Returns:
        COCO results, with `segmentation` where the detector finds masks; each image's outputs (on the CPU), without the
        masks, which for many images are larger than memory; and the seconds that the model took.
    """
    results, outputs, seconds = [], [], 0.0
    indices = list(range(len(dataset))) if indices is None else indices
    settings = {"batch_size": batch_size, "precision": precision, "progress": progress}
    for index, answer, spent in answers(model, dataset, indices, **settings):
        found = {k: answer[k] for k in DETECTION if k in answer}
        outputs.append({k: v for k, v in found.items() if k != "masks"})
        results += to_coco_results([found], [dataset.image_ids[index]], dataset.label_map.category_ids)
        seconds += spent
    return results, outputs, seconds


@torch.inference_mode()
def answers(
    model: nn.Module,
    dataset: CocoDetection,
    indices: Sequence[int],
    *,
    batch_size: int = 16,
    precision: str = "fp32",
    progress: bool = False,
) -> Iterator[tuple[int, dict, float]]:
    """A detector's answers to a data set's images, one after the other; arguments as of `detect_dataset`.

    Yields:
        the image's number, what the detector says of it, its tensors on the CPU, and the seconds that the model took
        for it: a batch's time, shared evenly.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    try:
        for start in tqdm(range(0, len(indices), batch_size), desc="evaluate", disable=not progress, leave=False):
            chunk = indices[start : start + batch_size]
            images = [dataset[i][0].as_subclass(Tensor).to(device) for i in chunk]
            begin = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                found = model(images)
            seconds = (time.perf_counter() - begin) / len(chunk)
            for index, answer in zip(chunk, found):
                yield index, {k: v.cpu() if isinstance(v, Tensor) else v for k, v in answer.items()}, seconds
    finally:
        model.train(was_training)
