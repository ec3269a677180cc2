"""COCO's average precision and average recall of boxes, written to be read.

`evaluate.py` calls pycocotools, which everybody's numbers come from; this file says the same in a few functions and is
tested equal to it. From the bottom up: detections of one image are matched with its objects (`match_detections`);
their being right or wrong, best score first, gives precision over recall (`interpolated_precision`); its mean is AP
(`average_precision_101`); means over classes, IoUs, sizes and limits are COCO's twelve numbers (`coco_summary`).

Source: Lin et al. 2014, Microsoft COCO, and its evaluation code; Everingham et al. 2010, The PASCAL Visual Object
Classes (VOC) Challenge, section 4.2, for the eleven points.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pycocotools.coco import COCO
from torch import Tensor

from course_lib.ops.boxes import box_area, box_iou, xywh_to_xyxy

RECALLS = torch.from_numpy(np.linspace(0, 1, 101))  # where COCO reads the curve
IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())
AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}  # px², both included
LIMITS = (1, 10, 100)  # detections of one class in one image


def match_detections(overlap: Tensor, threshold: float, crowd: Tensor, outside: Tensor | None = None) -> Tensor:
    """Which object each detection of one class in one image has found: (D, G) → (D,) int64, −1 for none.

    In the order of the rows, which is best score first, each detection takes the free object that it overlaps most, if
    by at least the threshold. An object is taken once, a crowd any number of times, and only by what finds no object.

    Args:
        overlap: (D, G) in 0…1, as `overlaps` gives it.
        threshold: least overlap that counts.
        crowd: (G,) bool, the objects that are crowds.
        outside: (G,) bool, objects of a size that is not asked for; like a crowd they come second, but are taken once.
    """
    ignored = crowd.numpy() if outside is None else (crowd | outside).numpy()
    matched, free = torch.full((len(overlap),), -1), np.ones(overlap.shape[1], dtype=bool)
    table = overlap.numpy()
    for d in np.flatnonzero((table >= threshold).any(1)):
        for group in (~ignored, ignored):
            suits = np.where(group & free, table[d], -1.0)
            if suits.max(initial=-1.0) >= threshold:
                best = len(suits) - 1 - int(suits[::-1].argmax())  # of equals the last one, as pycocotools does
                matched[d], free[best] = best, bool(crowd[best])
                break
    return matched


def overlaps(boxes: Tensor, objects: Tensor, crowd: Tensor) -> Tensor:
    """How far detections (D, 4) xyxy lie on objects (G, 4): (D, G) in 0…1.

    IoU; for a crowd (G,) bool, which is larger than any one object in it, the share of the detection inside it.
    """
    iou = box_iou(boxes, objects)
    areas = box_area(boxes)[:, None]
    inside = iou / (1 + iou) * (areas + box_area(objects))  # intersection: iou = i / (a + b − i)
    return torch.where(crowd, inside / areas.clamp(min=1e-12), iou)


def interpolated_precision(correct: Tensor, objects: int, recalls: Tensor = RECALLS) -> Tensor:
    """The best precision that is reached at each recall or beyond it: (R,) float64; 0 where recall never comes.

    Args:
        correct: (N,) bool, whether each detection is right, best score first.
        objects: how many there are, found or not; at least 1.
        recalls: (R,) float64 in 0…1, where the curve is read.
    """
    right = correct.double().cumsum(0)
    precision = right / torch.arange(1, len(correct) + 1)
    best_from_here = precision.flip(0).cummax(0).values.flip(0)
    places = torch.searchsorted(right / objects, recalls)  # the first detection that reaches the recall
    return torch.cat((best_from_here, best_from_here.new_zeros(1)))[places]


def average_precision_101(correct: Tensor, objects: int) -> float:
    """COCO's AP of one class at one IoU: the mean of the interpolated precision at the recalls 0, 0.01, … 1."""
    return interpolated_precision(correct, objects).mean().item()


def average_precision_11(correct: Tensor, objects: int) -> float:
    """PASCAL VOC's AP up to 2009: the mean at the recalls 0, 0.1, … 1."""
    return interpolated_precision(correct, objects, torch.from_numpy(np.linspace(0, 1, 11))).mean().item()


def average_precision_all(correct: Tensor, objects: int) -> float:
    """PASCAL VOC's AP from 2010: the area under the interpolated curve, each of its steps counted."""
    reached = torch.arange(1, objects + 1, dtype=torch.float64) / objects  # recall grows by one object at a time
    return interpolated_precision(correct, objects, reached).mean().item()


@dataclass(frozen=True, eq=False)
class Scene:
    """The detections and objects of one class in one image.

    overlap: (D, G), the detections best score first. scores: (D,). areas: (D,) px². object_areas: (G,) px².
    crowd: (G,) bool.
    """

    overlap: Tensor
    scores: Tensor
    areas: Tensor
    object_areas: Tensor
    crowd: Tensor

    def judge(self, threshold: float, area: tuple[float, float] = AREAS["all"]) -> tuple[Tensor, Tensor, int]:
        """Whether each detection is right (D,) bool, whether it counts (D,) bool, and how many objects count.

        A crowd counts not, nor does an object whose area is not in the range; what finds one of them counts neither,
        nor does a detection outside the range that finds nothing.
        """
        low, high = area
        outside = (self.object_areas < low) | (self.object_areas > high)
        ignored = self.crowd | outside
        matched = match_detections(self.overlap, threshold, self.crowd, outside)
        found = matched >= 0
        in_range = (self.areas >= low) & (self.areas <= high)
        counts = torch.where(found, ~torch.cat((ignored, ignored.new_zeros(1)))[matched], in_range)  # −1: the last
        return found & counts, counts, int((~ignored).sum())


def scenes(truth: COCO, results: Sequence[dict], limit: int = LIMITS[-1]) -> dict[int, list[Scene]]:
    """For each category the scenes of all images that have such an object or detection, in the order of image ids.

    results: COCO results with boxes. limit: detections of one class in one image that are looked at, best score first.
    """
    detections, objects = defaultdict(list), defaultdict(list)
    for result in results:
        detections[result["category_id"], result["image_id"]].append(result)
    for annotation in truth.dataset["annotations"]:
        objects[annotation["category_id"], annotation["image_id"]].append(annotation)
    by_category: dict[int, list[Scene]] = {category: [] for category in sorted(truth.getCatIds())}
    for category, image in sorted(detections.keys() | objects.keys()):
        best_first = sorted(detections[category, image], key=lambda r: -r["score"])[:limit]  # stable: ties keep order
        by_category[category].append(_scene(best_first, objects[category, image]))
    return by_category


def _scene(detections: list[dict], objects: list[dict]) -> Scene:
    found, there = boxes_of(detections), boxes_of(objects)
    crowd = torch.tensor([bool(o["iscrowd"]) for o in objects], dtype=torch.bool)
    scores = torch.tensor([d["score"] for d in detections], dtype=torch.float64)
    areas = torch.tensor([d["bbox"][2] * d["bbox"][3] for d in detections], dtype=torch.float64)
    object_areas = torch.tensor([o["area"] for o in objects], dtype=torch.float64)
    return Scene(overlaps(found, there, crowd), scores, areas, object_areas, crowd)


def boxes_of(records: Sequence[dict]) -> Tensor:
    """The boxes of COCO records (xywh) as (N, 4) xyxy float64."""
    return xywh_to_xyxy(torch.tensor([r["bbox"] for r in records], dtype=torch.float64).reshape(-1, 4))


def judge_class(
    scenes: Sequence[Scene], threshold: float, area: tuple[float, float] = AREAS["all"], limit: int = LIMITS[-1]
) -> tuple[Tensor, int]:
    """One class over all images: whether each detection that counts is right (N,) bool, best score first; the objects.

    All images are sorted together, never one by one: a score must mean the same everywhere.
    """
    scores, correct, objects = [torch.zeros(0)], [torch.zeros(0, dtype=torch.bool)], 0
    for scene in scenes:
        right, counts, there = scene.judge(threshold, area)
        scores.append(scene.scores[:limit][counts[:limit]])
        correct.append(right[:limit][counts[:limit]])
        objects += there
    order = torch.cat(scores).sort(descending=True, stable=True).indices
    return torch.cat(correct)[order], objects


def coco_summary(truth: COCO, results: Sequence[dict]) -> dict[str, float | None]:
    """COCO's twelve numbers of box results, under the names of `evaluate.SUMMARY`; None where there is no such object.

    pycocotools says −1 there. A class without an object (of the size) has no AP; the means are over those that have.
    """
    by_category = list(scenes(truth, results).values())
    judged = {
        (name, limit): [[judge_class(c, iou, AREAS[name], limit) for c in by_category] for iou in IOUS]
        for name, limit in [(name, LIMITS[-1]) for name in AREAS] + [("all", limit) for limit in LIMITS[:-1]]
    }

    def mean(value, name: str = "all", limit: int = LIMITS[-1], ious=slice(None)) -> float | None:
        rows = judged[name, limit][ious]
        values = [value(correct, objects) for row in rows for correct, objects in row if objects]
        return float(np.mean(values)) if values else None

    def recall(correct: Tensor, objects: int) -> float:
        return correct.sum().item() / objects

    summary = {"AP": mean(average_precision_101)}
    summary["AP50"] = mean(average_precision_101, ious=slice(0, 1))
    summary["AP75"] = mean(average_precision_101, ious=slice(5, 6))
    summary |= {f"AP_{name}": mean(average_precision_101, name) for name in list(AREAS)[1:]}
    summary |= {f"AR{limit}": mean(recall, limit=limit) for limit in LIMITS}
    return summary | {f"AR_{name}": mean(recall, name) for name in list(AREAS)[1:]}
