"""The panoptic truth of a split: COCO's panoptic JSON and its PNGs, as segments and as semantic maps to learn from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_lib.datasets.label_map import LabelMap
from course_lib.datasets.panoptic_records import check_panoptic
from course_lib.datasets.records import raise_problems, read_json
from course_lib.ops.semantic import IGNORE, resize_labels
from course_lib.panoptic.convert import to_semantic
from course_lib.panoptic.format import VOID, read_ids


def panoptic_file(instances: Path) -> Path:
    """The panoptic JSON beside a split's instances: panoptic_SPLIT.json for instances_SPLIT.json."""
    instances = Path(instances)
    return instances.with_name(instances.name.replace("instances", "panoptic", 1))


class PanopticTruth:
    """A panoptic JSON, checked, and its PNGs, read when they are asked for.

    path: the JSON; its PNGs lie in the folder of its name without suffix.
    things: the categories that are things, of the detection labels.
    image_ids: the images that must have an annotation.
    stuff_map: of a map made elsewhere (a checkpoint's); by default the file's own categories that are not things.

    Raises ValueError naming file and record if the file is not sound, an image has no annotation, its things are not
    those of `things`, or its stuff not in `stuff_map`.
    """

    def __init__(
        self, path: Path, *, things: LabelMap, image_ids: Sequence[int], stuff_map: LabelMap | None = None
    ) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(f"{self.path}: no such panoptic annotation file, which this detector learns stuff from")
        data = read_json(self.path)
        annotations, problems = check_panoptic(data, self.path)
        raise_problems(problems)
        self.categories: list[dict[str, Any]] = data["categories"]
        stuff = [c for c in self.categories if not c["isthing"]]
        self.things, self.stuff_map = things, stuff_map or LabelMap.from_categories(stuff)
        self._annotations = {a["image_id"]: a for a, _ in annotations}
        self._sizes = {a["image_id"]: size for a, size in annotations}
        self._check_categories(stuff)
        if missing := [i for i in image_ids if i not in self._annotations]:
            raise ValueError(f"{self.path}: no annotation of {len(missing)} of the images, the first is {missing[0]}")

    def _check_categories(self, stuff: list[dict]) -> None:
        found, wanted = {c["id"] for c in self.categories if c["isthing"]}, set(self.things.category_ids)
        if found != wanted:
            raise ValueError(
                f"{self.path}: things {sorted(found ^ wanted)} are in the panoptic or the instance categories alone"
            )
        if unknown := sorted({c["id"] for c in stuff} - set(self.stuff_map.category_ids)):
            raise ValueError(f"{self.path}: stuff {unknown} is not among the detector's classes {self.stuff_map.names}")
        if not 1 <= len(self.stuff_map) < IGNORE:
            raise ValueError(f"{self.path}: {len(self.stuff_map)} classes of stuff, expected 1 … {IGNORE - 1}")

    def png(self, image_id: int) -> Path:
        """The PNG of an image."""
        return self.path.with_suffix("") / self._annotations[image_id]["file_name"]

    def segments(self, image_id: int) -> list[dict[str, Any]]:
        """The segments of an image as the JSON has them: `id`, `category_id`, `area` and perhaps more."""
        return self._annotations[image_id]["segments_info"]

    def ids(self, image_id: int) -> np.ndarray:
        """The map of segment ids (H, W) int32 of an image.

        Raises ValueError naming the PNG if it cannot be read, is not of its image's size, or has an id that the JSON
        does not list.
        """
        ids = read_ids(self.png(image_id))
        if ids.shape != self._sizes[image_id]:
            height, width = self._sizes[image_id]
            raise ValueError(
                f"{self.png(image_id)}: the PNG is {ids.shape[1]}x{ids.shape[0]}, its image {width}x{height}"
            )
        listed = [VOID, *(s["id"] for s in self.segments(image_id))]
        if (unlisted := ~np.isin(ids, listed)).any():
            raise ValueError(
                f"{self.png(image_id)}: id {ids[unlisted][0]} is in the PNG, but no such segment in the JSON"
            )
        return ids

    def semantic(self, image_id: int, size: tuple[int, int]) -> Tensor:
        """The semantic map of an image at `size` (h, w): 0 a thing, 1 … S the stuff of `stuff_map`, 255 void; uint8."""
        labels = dict.fromkeys(self.things.category_ids, 0)
        labels |= {c: label for label, c in enumerate(self.stuff_map.category_ids, start=1)}
        full = to_semantic(self.ids(image_id), self.segments(image_id), labels, IGNORE).astype(np.uint8)
        return resize_labels(torch.from_numpy(full), size)

    def labelled(self, image_id: int) -> list[dict[str, Any]]:
        """The segments of an image with `isthing` and `label` as detectors say them: 0 … K−1 a thing, 1 … S stuff."""
        things, stuff = self.things.labels, self.stuff_map.labels
        return [
            segment | {"isthing": c in things, "label": things[c] if c in things else stuff[c] + 1}
            for segment in self.segments(image_id)
            for c in [segment["category_id"]]
        ]


def to_segments_info(segments: Sequence[dict], things: LabelMap, stuff_map: LabelMap) -> list[dict[str, Any]]:
    """A detector's segments as a panoptic JSON's: `id`, `category_id`, `area`, and of things their `score`."""
    return [
        {
            "id": s["id"],
            "category_id": things.category_ids[s["label"]] if s["isthing"] else stuff_map.category_ids[s["label"] - 1],
            "area": s["area"],
            **({"score": round(s["score"], 4)} if "score" in s else {}),
        }
        for s in segments
    ]
