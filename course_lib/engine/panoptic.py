"""How good is a panoptic detector? AP of its boxes and masks, IoU of its semantic map, panoptic quality."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from course_lib.datasets.coco import CocoDetection
from course_lib.datasets.coco_panoptic import to_segments_info
from course_lib.engine.evaluate import Metrics, answers, evaluate_results, to_coco_results
from course_lib.engine.panoptic_files import PanopticWriter
from course_lib.engine.pq import format_pq
from course_lib.ops.semantic import class_ious, confusion
from course_lib.panoptic.fusion import Canvas
from course_lib.panoptic.quality import PanopticQuality, match_segments


@dataclass
class PanopticMetrics:
    """All of a panoptic detector's figures.

    Attributes:
        boxes, masks: COCO's average precision.
        ious: of each semantic class that occurs: "things", all together, and each of stuff.
        quality: PQ, SQ, RQ.
        categories: of the panoptic truth.
    """

    boxes: Metrics
    masks: Metrics
    ious: dict[str, float]
    quality: PanopticQuality
    categories: list[dict[str, Any]]

    @property
    def miou(self) -> float | None:
        """The mean of `ious`; None where no class occurs."""
        return float(np.mean(list(self.ious.values()))) if self.ious else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the boxes' as of `Metrics`, then "masks", "miou", "ious" and "pq"."""
        return {
            **self.boxes.to_dict(),
            "masks": self.masks.to_dict(),
            "miou": self.miou,
            "ious": self.ious,
            "pq": self.quality.to_dict(),
        }

    def __str__(self) -> str:
        """The tables that `course evaluate` prints."""
        ap = lambda metrics: "–" if metrics.summary["AP"] is None else f"{metrics.summary['AP']:.3f}"  # noqa: E731
        miou = "–" if self.miou is None else f"{self.miou:.3f}"
        head = f"box AP {ap(self.boxes)}  mask AP {ap(self.masks)}  mIoU {miou}"
        return f"{head}\n\n{format_pq(self.quality, self.categories)}"


def evaluate_panoptic(
    model: nn.Module,
    dataset: CocoDetection,
    *,
    batch_size: int = 16,
    precision: str = "fp32",
    progress: bool = False,
    save: Path | None = None,
) -> tuple[PanopticMetrics, list[dict], float]:
    """Judge a panoptic detector on a data set with panoptic truth; one map at a time is kept.

    Args:
        model: one with `panoptic`, `semantic` and `segments` in its answers.
        dataset: opened with `with_panoptic`.
        batch_size, precision, progress: see `detect_dataset`.
        save: a JSON to write the panoptic maps to, in COCO's format.

    Returns:
        the metrics, the COCO results of boxes and masks, and the seconds that the model took, fusion included.

    Raises:
        ValueError: naming the file, if truth is damaged.
    """
    truth = dataset.panoptic
    writer = PanopticWriter(save, truth.things, truth.stuff_map) if save else None
    quality, results, seconds = PanopticQuality(truth.categories), [], 0.0
    names = ("things", *truth.stuff_map.names)
    matrix = np.zeros((len(names), len(names)), dtype=np.int64)
    settings = {"batch_size": batch_size, "precision": precision, "progress": progress}
    for index, answer, spent in answers(model, dataset, range(len(dataset)), **settings):
        image_id = dataset.image_ids[index]
        results += to_coco_results([answer], [image_id], truth.things.category_ids)
        found = to_segments_info(answer["segments"], truth.things, truth.stuff_map)
        quality.add(truth.ids(image_id), truth.segments(image_id), answer["panoptic"].numpy(), found)
        semantic = truth.semantic(image_id, tuple(answer["semantic"].shape))
        matrix += confusion(semantic.numpy(), answer["semantic"].numpy(), len(names))
        if writer:
            writer.add(image_id, dataset.image_path(index).stem, answer)
        seconds += spent
    if writer:
        writer.close()
    ious = {name: float(iou) for name, iou in zip(names, class_ious(matrix)) if iou == iou}
    boxes, masks = (evaluate_results(dataset.coco, results, iou_type=kind) for kind in ("bbox", "segm"))
    return PanopticMetrics(boxes, masks, ious, quality, truth.categories), results, seconds


def fusion_quality(
    dataset: CocoDetection, answers: Iterable[tuple[int, dict]], fuse: Callable[[dict], Canvas]
) -> PanopticQuality:
    """PQ of the same answers fused in some way: what a rule is worth, the network being the same.

    Args:
        dataset: opened with `with_panoptic`.
        answers: images' numbers, and what the detector says of each.
        fuse: from such an answer to a canvas.
    """
    quality = PanopticQuality(dataset.panoptic.categories)
    for pair in map_pairs(dataset, answers, fuse):
        quality.add(*pair)
    return quality


def found_by_area(
    dataset: CocoDetection, answers: Iterable[tuple[int, dict]], fuse: Callable[[dict], Canvas], edges: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """How many true things of each size have a match: a fusion's recall, small things apart from large ones.

    Args:
        dataset, answers, fuse: as of `fusion_quality`.
        edges: (E,) rising areas in pixels; a thing of exactly an edge's area belongs above it.

    Returns:
        of each of the E + 1 ranges of area the true things, crowds left out, and those of them that are matched:
        (E + 1,) int64 each.
    """
    things = [category["id"] for category in dataset.panoptic.categories if category["isthing"]]
    ranges = {True: [], False: []}  # by whether a thing is matched
    for truth_ids, truth, found_ids, found in map_pairs(dataset, answers, fuse):
        matched = {true_id for true_id, _, _ in match_segments(truth_ids, truth, found_ids, found).matched}
        for s in truth:
            if s["category_id"] in things and not s.get("iscrowd"):
                ranges[s["id"] in matched].append(np.searchsorted(edges, s["area"], side="right"))
    missed, matched = (np.bincount(np.array(ranges[k], np.int64), minlength=len(edges) + 1) for k in (False, True))
    return missed + matched, matched


def map_pairs(
    dataset: CocoDetection, answers: Iterable[tuple[int, dict]], fuse: Callable[[dict], Canvas]
) -> Iterator[tuple[np.ndarray, list[dict], np.ndarray, list[dict]]]:
    """Of each answer the true map and its segments, the fused one and its segments: what `PanopticQuality.add` takes.

    Arguments as of `fusion_quality`.
    """
    truth = dataset.panoptic
    for index, answer in answers:
        image_id, canvas = dataset.image_ids[index], fuse(answer)
        found = to_segments_info(canvas.segments, truth.things, truth.stuff_map)
        yield truth.ids(image_id), truth.segments(image_id), canvas.panoptic.numpy(), found
