"""Why is AP not 1? Every wrong detection and every missed object gets one of six names, and each name a price.

The price of a kind of error is the AP that would be gained if it alone were put right. All at IoU 0.5.

Source: Bolya, Foley, Hays, Hoffman 2020, TIDE: A General Toolbox for Identifying Object Detection Errors, section 2.
Where its definitions overlap, errors are tried in the order of `error_type`, which is that of the authors' program.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pycocotools.coco import COCO
from torch import Tensor

from course_lib.engine.average_precision import (
    LIMITS,
    average_precision_101,
    boxes_of,
    match_detections,
    overlaps,
)
from course_lib.engine.evaluate import check_results, read_results

ERRORS = ("localisation", "classification", "duplicate", "background", "both", "missed")
FOREGROUND, BACKGROUND = 0.5, 0.1  # IoU from which a box is on an object, and up to which it is on none


def error_type(same: Tensor, other: Tensor, foreground: float = FOREGROUND, background: float = BACKGROUND) -> Tensor:
    """The kind of error that each wrong detection is: (N,), (N,) → (N,) int64, an index of ERRORS.

    Args:
        same: (N,) the largest IoU with an object of the detection's own class; 0 where there is none.
        other: (N,) the largest IoU with an object of another class.
        foreground: IoU from which a box is on an object.
        background: IoU up to which it is on none.

    The first that holds: 0 localisation, a poor box on an object of its class; 1 classification, a good box on an
    object of another class; 2 duplicate, a good box on an object of its class, which a better detection has taken;
    3 background, on nothing; else 4 both, a poor box on an object of another class.
    """
    kinds = torch.full(same.shape, ERRORS.index("both"))
    kinds[(same <= background) & (other <= background)] = ERRORS.index("background")
    kinds[same >= foreground] = ERRORS.index("duplicate")
    kinds[other >= foreground] = ERRORS.index("classification")
    kinds[(same >= background) & (same < foreground)] = ERRORS.index("localisation")
    return kinds


@dataclass(frozen=True)
class Verdict:
    """What became of one detection, or of one object that no detection explains.

    kind: "correct", "ignored" (on a crowd), or one of ERRORS. image, category: COCO ids; for a missed object its own
    category. score: 0 for a missed object. box: xywh px, the detection's or the missed object's. object: annotation id
    of the object that is meant, the one overlapped most; None on background or a crowd. area: px², of that object or
    else of the box.
    """

    kind: str
    image: int
    category: int
    score: float
    box: tuple[float, float, float, float]
    object: int | None
    area: float


@dataclass(frozen=True)
class Anatomy:
    """The errors of a set of detections, and what each kind costs.

    verdicts: on all detections, best score first, then on the missed objects. categories: by annotation id, the
    category of each object that is not a crowd. names: by category id.
    """

    verdicts: tuple[Verdict, ...]
    categories: dict[int, int]
    names: dict[int, str]

    def ap50(self, fixed: Collection[str] = (), where: Callable[[Verdict], bool] = lambda verdict: True) -> float:
        """AP at IoU 0.5 (mean over classes that have objects), once errors of the kinds `fixed` are put right.

        A poor box is moved onto its object and a wrong class corrected, if the object is free; of several only the best
        score is kept. Every other wrong detection is struck out. A missed object is no longer counted; a class that
        has no other object is left out of the mean if it has no wrong detection either, else its AP stays 0.

        Args:
            fixed: some of ERRORS.
            where: only the errors for which this holds.

        Raises:
            ValueError: for a kind that is not there, or if there is no object at all.
        """
        if not self.categories:
            raise ValueError("there is no object, so AP has no meaning")
        if unknown := set(fixed) - set(ERRORS):
            raise ValueError(f"fixed: found {', '.join(sorted(unknown))}, expected some of {', '.join(ERRORS)}")
        rows: dict[int, list[bool]] = {category: [] for category in self.names}
        objects = Counter(self.categories.values())
        taken = {v.object for v in self.verdicts if v.kind == "correct"}
        for verdict in self.verdicts:
            if verdict.kind == "ignored":
                continue
            if verdict.kind not in fixed or not where(verdict):
                if verdict.kind != "missed":
                    rows[verdict.category].append(verdict.kind == "correct")
            elif verdict.kind == "missed":
                objects[verdict.category] -= 1
            elif verdict.kind in ("localisation", "classification") and verdict.object not in taken:
                taken.add(verdict.object)
                rows[self.categories[verdict.object]].append(True)
        values = [
            average_precision_101(torch.tensor(rows[category], dtype=torch.bool), count) if count else 0.0
            for category, count in objects.items()
            if count or rows[category]
        ]
        return sum(values) / len(values) if values else 1.0  # nothing is left to be found, and nothing is wrong

    def gains(self, where: Callable[[Verdict], bool] = lambda verdict: True) -> dict[str, float]:
        """For each kind of error, the AP50 gained by putting it right, and it alone. The gains do not add up."""
        now = self.ap50()
        return {kind: self.ap50((kind,), where) - now for kind in ERRORS}

    def counts(self, where: Callable[[Verdict], bool] = lambda verdict: True) -> dict[str, int]:
        """How many errors there are of each kind."""
        kinds = [verdict.kind for verdict in self.verdicts if where(verdict)]
        return {kind: kinds.count(kind) for kind in ERRORS}

    def to_dict(self) -> dict:
        """Plain values for JSON: AP50, and of each kind the count and the gain."""
        counts = self.counts()
        return {"AP50": self.ap50()} | {k: {"count": counts[k], "gain": gain} for k, gain in self.gains().items()}

    def __str__(self) -> str:
        """The table that `course evaluate --errors` prints, the dearest error first."""
        counts, gains = self.counts(), self.gains()
        lines = [f"AP50 {self.ap50():.3f}; what each kind of error costs, if it alone were put right:"]
        lines += [f"{'error':14}  count  AP50 gained"]
        for kind in sorted(ERRORS, key=lambda kind: -gains[kind]):
            lines.append(f"{kind:14} {counts[kind]:6d}  {gains[kind]:+11.3f}")
        return "\n".join(lines)


def error_anatomy(
    truth: COCO, results: Sequence[dict], *, foreground: float = FOREGROUND, background: float = BACKGROUND
) -> Anatomy:
    """Give every detection and every missed object a verdict.

    Args:
        truth: the annotations.
        results: COCO results with boxes; of each class the best 100 in an image are looked at, as for AP.
        foreground: IoU from which a box is on an object.
        background: IoU up to which it is on none.

    Raises:
        ValueError: as `evaluate_results`; or if the thresholds are not 0 ≤ background < foreground ≤ 1.
    """
    if not 0 <= background < foreground <= 1:
        found = f"background {background}, foreground {foreground}"
        raise ValueError(f"found {found}, expected 0 ≤ background < foreground ≤ 1")
    check_results(truth, list(results))
    found: dict[int, list[dict]] = {image: [] for image in sorted(truth.getImgIds())}
    for result in results:
        found[result["image_id"]].append(result)
    verdicts = []
    for image, detections in found.items():
        verdicts += _judge_image(image, _best(detections), truth.imgToAnns[image], foreground, background)
    verdicts.sort(key=lambda verdict: (verdict.kind == "missed", -verdict.score))
    objects = {a["id"]: a["category_id"] for a in truth.dataset["annotations"] if not a["iscrowd"]}
    return Anatomy(tuple(verdicts), objects, {k: truth.cats[k]["name"] for k in sorted(truth.getCatIds())})


def errors_of_files(ground_truth: Path, detections: Path) -> Anatomy:
    """`error_anatomy` of a COCO results file against a COCO annotation file.

    Raises:
        ValueError: if either file is not what it should be; it names file and record.
    """
    truth, results = read_results(ground_truth, detections)
    try:
        return error_anatomy(truth, results)
    except ValueError as error:
        raise ValueError(f"{detections}: {error}") from None


def _best(detections: Iterable[dict]) -> list[dict]:
    """The detections of an image, best score first, at most a hundred of each class."""
    kept, seen = [], {}
    for detection in sorted(detections, key=lambda d: -d["score"]):
        k = detection["category_id"]
        seen[k] = seen.get(k, 0) + 1
        if seen[k] <= LIMITS[-1]:
            kept.append(detection)
    return kept


def _judge_image(
    image: int, detections: list[dict], objects: list[dict], foreground: float, background: float
) -> list[Verdict]:
    crowd = torch.tensor([bool(o["iscrowd"]) for o in objects], dtype=torch.bool)
    overlap = overlaps(boxes_of(detections), boxes_of(objects), crowd)  # (D, G)
    claimed, classes = (torch.tensor([r["category_id"] for r in records]) for records in (detections, objects))
    own = claimed[:, None] == classes  # (D, G)
    # Classes do not meet: an overlap of 0 keeps the other classes' objects out of reach.
    matched = match_detections(torch.where(own, overlap, 0.0), foreground, crowd)
    iou = torch.cat((torch.where(crowd, 0.0, overlap), overlap.new_zeros(len(detections), 1)), dim=1)  # and a none
    own = torch.cat((own, own.new_ones(len(detections), 1)), dim=1)
    same, nearest_same = torch.where(own, iou, -1.0).max(1)
    other, nearest_other = torch.where(own, 0.0, iou).max(1)
    kinds = [ERRORS[k] for k in error_type(same.clamp(min=0), other, foreground, background).tolist()]
    verdicts, explained = [], set()
    for d, detection in enumerate(detections):
        kind, target = kinds[d], matched[d].item()
        if target >= 0:
            kind = "ignored" if crowd[target] else "correct"
        elif kind in ("localisation", "duplicate"):
            target = nearest_same[d].item()
        elif kind in ("classification", "both"):
            target = nearest_other[d].item()
        meant = objects[target] if target >= 0 and kind not in ("background", "ignored") else None
        if kind in ("correct", "localisation", "classification"):
            explained.add(meant["id"])
        verdicts.append(_verdict(kind, detection, meant))
    missed = [o for o in objects if not o["iscrowd"] and o["id"] not in explained]
    return verdicts + [_verdict("missed", o, o) for o in missed]


def _verdict(kind: str, record: dict, meant: dict | None) -> Verdict:
    """A verdict on a detection or a missed object, `meant` the annotation that it is about."""
    box = tuple(float(v) for v in record["bbox"])
    area = box[2] * box[3] if meant is None else float(meant["area"])
    score = float(record.get("score", 0.0)) if kind != "missed" else 0.0
    return Verdict(
        kind, record["image_id"], record["category_id"], score, box, None if meant is None else meant["id"], area
    )
