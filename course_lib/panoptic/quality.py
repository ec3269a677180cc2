"""Panoptic quality: one number for things and stuff.

Kirillov, He, Girshick, Rother, Dollár: Panoptic Segmentation, 2019, Sec. 4. A predicted segment matches a true one of
its class when their IoU is above ½, so a segment has at most one match. Over a class, SQ is the mean IoU of the
matches, RQ = TP / (TP + ½ FP + ½ FN) the F1 score of finding them, and PQ = SQ · RQ.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from course_lib.panoptic.format import VOID

CROWD_RULES = ("all", "last")


@dataclass
class Tally:
    """What is counted of one class: matches, their IoUs summed, segments invented and missed."""

    iou: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0


@dataclass(frozen=True)
class Quality:
    """PQ, SQ and RQ as fractions, the mean over `classes` classes; NaN where there is none."""

    pq: float
    sq: float
    rq: float
    classes: int


@dataclass
class Matching:
    """What became of each segment of one image.

    Attributes:
        matched: true id, predicted id and IoU of each match.
        missed: true ids without a match, crowds left out (FN).
        invented: predicted ids without a match that count as false (FP).
        forgiven: predicted ids without a match that lie mostly on void or on a crowd of their class; not counted.
    """

    matched: list[tuple[int, int, float]] = field(default_factory=list)
    missed: list[int] = field(default_factory=list)
    invented: list[int] = field(default_factory=list)
    forgiven: list[int] = field(default_factory=list)


def match_segments(
    truth_ids: np.ndarray,
    truth: Sequence[dict[str, Any]],
    found_ids: np.ndarray,
    found: Sequence[dict[str, Any]],
    *,
    crowds: str = "all",
) -> Matching:
    """Match the segments of one image.

    Args:
        truth_ids, found_ids: (H, W) maps of ids, 0 is void.
        truth: segments with `id`, `category_id`, `area` in pixels and perhaps `iscrowd`.
        found: segments with `id` and `category_id`; their areas are counted.
        crowds: "all": an unmatched prediction is forgiven for what lies on any crowd region of its class. "last": on
            the one listed last, as panopticapi has it, which keeps one region a class.

    Void is not held against a prediction: its pixels there leave the union, and a prediction of which more than half
    lies on void or crowd is forgiven. The true area is the JSON's, as in panopticapi.

    Raises:
        ValueError: if the maps differ in size, or an id is in map or list only, or listed twice.
    """
    if crowds not in CROWD_RULES:
        raise ValueError(f"crowds: found {crowds!r}, expected one of {', '.join(CROWD_RULES)}")
    shared = intersections(truth_ids, [s["id"] for s in truth], found_ids, [s["id"] for s in found])
    areas = shared.sum(axis=0)  # of the predictions; 0 is void
    kinds = np.array([s["category_id"] for s in truth]), np.array([s["category_id"] for s in found])
    crowd = np.array([bool(s.get("iscrowd", 0)) for s in truth], dtype=bool)
    candidates = (shared[1:, 1:] > 0) & (kinds[0][:, None] == kinds[1][None]) & ~crowd[:, None]
    result = Matching()
    matched_truth, matched_found = set(), set()
    for t, f in zip(*(index.tolist() for index in candidates.nonzero())):
        overlap = int(shared[t + 1, f + 1])
        union = int(areas[f + 1]) + int(truth[t]["area"]) - overlap - int(shared[0, f + 1])
        if 2 * overlap > union:
            result.matched.append((truth[t]["id"], found[f]["id"], overlap / union))
            matched_truth.add(t)
            matched_found.add(f)
    crowd_rows = defaultdict(list)
    for t in crowd.nonzero()[0].tolist():
        crowd_rows[truth[t]["category_id"]].append(t + 1)
    result.missed = [s["id"] for t, s in enumerate(truth) if t not in matched_truth and not crowd[t]]
    for f, segment in enumerate(found):
        if f not in matched_found:
            rows = crowd_rows[segment["category_id"]]
            excused = int(shared[[0, *(rows if crowds == "all" else rows[-1:])], f + 1].sum())
            (result.forgiven if 2 * excused > areas[f + 1] else result.invented).append(segment["id"])
    return result


def intersections(a: np.ndarray, a_ids: Sequence[int], b: np.ndarray, b_ids: Sequence[int]) -> np.ndarray:
    """Pixels that each pair of segments shares: maps (H, W) and their M and N ids → (1 + M, 1 + N) int64, 0 is void.

    Raises:
        ValueError: if the maps differ in size, or an id is in map or list only, or listed twice.
    """
    if a.shape != b.shape:
        raise ValueError(f"the maps differ in size: {a.shape[1]}×{a.shape[0]} and {b.shape[1]}×{b.shape[0]} pixels")
    columns = 1 + len(b_ids)
    joint = _places(a, a_ids) * np.intp(columns)  # (H, W)
    joint += _places(b, b_ids)
    shared = np.bincount(joint.ravel(), minlength=(1 + len(a_ids)) * columns).reshape(-1, columns)
    for ids, listed, areas in ((a, a_ids, shared.sum(axis=1)), (b, b_ids, shared.sum(axis=0))):
        if areas[0] != np.count_nonzero(ids == VOID):
            unknown = ids[(ids != VOID) & ~np.isin(ids, listed)]
            raise ValueError(f"{len(unknown)} pixels have id {unknown[0]} or the like, but no such segment is listed")
        if len(absent := (areas == 0)[1:].nonzero()[0]):
            raise ValueError(f"segment {listed[absent[0]]} is listed, but no pixel has this id")
    return shared


def _places(ids: np.ndarray, listed: Sequence[int]) -> np.ndarray:
    """Each pixel's place in the list, from 1; 0 for void and for ids that are not listed: (H, W) int32.

    By a table over all ids: of its many pages the few that hold listed ids are ever touched.
    """
    if len(set(listed)) < len(listed) or VOID in listed:
        raise ValueError(f"ids {sorted(listed)[:8]}: expected each once, and none of them {VOID}, which is void")
    top = max(int(ids.max(initial=VOID)), max(listed, default=VOID))
    table = np.zeros(top + 1, dtype=np.int32)
    table[list(listed)] = np.arange(1, 1 + len(listed))
    return table.take(ids)


class PanopticQuality:
    """PQ of any number of images, one at a time; memory grows with the classes alone.

    Args:
        categories: dicts with `id` and `isthing`.
        crowds: see `match_segments`.
    """

    def __init__(self, categories: Iterable[dict[str, Any]], *, crowds: str = "all"):
        self.is_thing = {category["id"]: bool(category["isthing"]) for category in categories}
        self.crowds = crowds
        self.tallies = {category: Tally() for category in self.is_thing}

    def add(
        self, truth_ids: np.ndarray, truth: Sequence[dict], found_ids: np.ndarray, found: Sequence[dict]
    ) -> Matching:
        """Count one image; arguments and errors as of `match_segments`, and ValueError for an unknown category."""
        for segment in (*truth, *found):
            if segment["category_id"] not in self.tallies:
                raise ValueError(f"segment {segment['id']} has category_id {segment['category_id']}, which is unknown")
        result = match_segments(truth_ids, truth, found_ids, found, crowds=self.crowds)
        category = {s["id"]: s["category_id"] for s in truth}, {s["id"]: s["category_id"] for s in found}
        for true_id, _, iou in result.matched:
            tally = self.tallies[category[0][true_id]]
            tally.tp += 1
            tally.iou += iou
        for segment_id in result.missed:
            self.tallies[category[0][segment_id]].fn += 1
        for segment_id in result.invented:
            self.tallies[category[1][segment_id]].fp += 1
        return result

    def merge(self, other: "PanopticQuality") -> None:
        """Add what another one, of the same categories, has counted."""
        for category, tally in other.tallies.items():
            mine = self.tallies[category]
            self.tallies[category] = Tally(
                mine.iou + tally.iou, mine.tp + tally.tp, mine.fp + tally.fp, mine.fn + tally.fn
            )

    def per_class(self) -> dict[int, Quality]:
        """PQ, SQ and RQ of each category; NaN where it occurs neither in truth nor in a counted prediction."""
        return {category: _quality(tally) for category, tally in self.tallies.items()}

    def summary(self) -> dict[str, Quality]:
        """The means over "all" classes that occur, the "things" and the "stuff" among them."""
        qualities = self.per_class()
        groups = {"all": (True, False), "things": (True,), "stuff": (False,)}
        return {
            name: _mean([q for c, q in qualities.items() if q.classes and self.is_thing[c] in wanted])
            for name, wanted in groups.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: `summary`, and `per_class` with the counts; None in place of NaN."""
        per_class = self.per_class()
        return {
            **{name: _plain(quality) for name, quality in self.summary().items()},
            "per_class": {
                str(category): {**_plain(per_class[category]), **asdict(tally)}
                for category, tally in self.tallies.items()
            },
        }


def _quality(tally: Tally) -> Quality:
    segments = tally.tp + 0.5 * tally.fp + 0.5 * tally.fn
    if segments == 0:
        return Quality(math.nan, math.nan, math.nan, 0)
    sq = tally.iou / tally.tp if tally.tp else 0.0
    return Quality(tally.iou / segments, sq, tally.tp / segments, 1)


def _mean(qualities: Sequence[Quality]) -> Quality:
    if not qualities:
        return Quality(math.nan, math.nan, math.nan, 0)
    return Quality(*(float(np.mean([getattr(q, k) for q in qualities])) for k in ("pq", "sq", "rq")), len(qualities))


def _plain(quality: Quality) -> dict[str, Any]:
    return {key: None if value != value else value for key, value in asdict(quality).items()}
