"""From COCO's panoptic format to others and back: lists of masks, semantic maps, the two-channel picture.

A panoptic annotation here is a map `ids` (H, W) of integers and its `segments`, dicts with `id`, `category_id` and
perhaps `iscrowd`. What comes back has `area` in pixels and `bbox` (x, y, width, height) besides, as in COCO's files.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_lib.ops.masks import encode_masks, masks_to_boxes
from course_lib.panoptic.format import VOID

Segments = list[dict[str, Any]]
CROWD = 255  # the instance number of a crowd in the two-channel picture


def segment_masks(ids: np.ndarray, segments: Sequence[dict]) -> Tensor:
    """The mask of each segment: (N, H, W) bool."""
    wanted = np.array([s["id"] for s in segments], dtype=ids.dtype)
    return torch.from_numpy(ids[None] == wanted[:, None, None])


def describe(ids: np.ndarray, segments: Sequence[dict]) -> Segments:
    """The segments with `iscrowd`, `area` and `bbox` read off the map."""
    masks = segment_masks(ids, segments)
    boxes = masks_to_boxes(masks).int().tolist()
    areas = masks.sum((1, 2)).tolist()
    return [
        {"iscrowd": 0, **s, "area": area, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for s, area, (x1, y1, x2, y2) in zip(segments, areas, boxes)
    ]


# ---- one mask a segment, as COCO's detection annotations have them ---------------------------------------------------


def to_annotations(ids: np.ndarray, segments: Sequence[dict], image_id: int) -> list[dict[str, Any]]:
    """Each segment as a COCO annotation with an RLE; things and stuff alike, `id` counts from 0."""
    described = describe(ids, segments)
    rles = encode_masks(segment_masks(ids, segments))
    keys = ("area", "iscrowd", "bbox", "category_id")
    return [
        {"segmentation": rle, **{key: s[key] for key in keys}, "image_id": image_id, "id": number}
        for number, (rle, s) in enumerate(zip(rles, described))
    ]


def from_masks(
    masks: Tensor, categories: Sequence[int], crowds: Sequence[int], size: tuple[int, int]
) -> tuple[np.ndarray, Segments]:
    """Masks (N, H, W) bool that do not overlap, as a panoptic annotation with ids 1 … N; no masks give a map of void.

    Raises:
        ValueError: naming the first two that share pixels, or one that is empty.
    """
    ids = np.zeros(size, dtype=np.int32)
    for number, mask in enumerate(masks.numpy(), start=1):
        if taken := int(ids[mask].max(initial=VOID)):
            raise ValueError(f"masks {taken - 1} and {number - 1} overlap; in a panoptic map a pixel has one segment")
        if not mask.any():
            raise ValueError(f"mask {number - 1} is empty; a segment needs a pixel")
        ids[mask] = number
    segments = [{"id": n, "category_id": c, "iscrowd": w} for n, (c, w) in enumerate(zip(categories, crowds), start=1)]
    return ids, describe(ids, segments)


# ---- instances and a semantic map ------------------------------------------------------------------------------------


def to_semantic(ids: np.ndarray, segments: Sequence[dict], labels: Mapping[int, int], ignore: int = 255) -> np.ndarray:
    """The class of each pixel: (H, W) int64 of `labels[category]`; `ignore` on void and where a category has no label.

    With every category of things mapped to 0 and stuff to 1, 2, … it is what Detectron2 trains its semantic head on.
    """
    semantic = np.full(ids.shape, ignore, dtype=np.int64)
    for segment in segments:
        if segment["category_id"] in labels:
            semantic[ids == segment["id"]] = labels[segment["category_id"]]
    return semantic


def from_instances(
    masks: Tensor, categories: Sequence[int], crowds: Sequence[int], semantic: np.ndarray, stuff: Collection[int]
) -> tuple[np.ndarray, Segments]:
    """Instances and a semantic map of categories as one panoptic annotation.

    Args:
        masks, categories, crowds: the things, as of `from_masks`.
        semantic: (H, W) category of each pixel. Where no thing is, each category of `stuff` becomes one segment;
            any other value becomes void.
        stuff: categories.
    """
    ids, segments = from_masks(masks, categories, crowds, semantic.shape)
    free = ids == VOID
    for category in sorted(set(np.unique(semantic[free]).tolist()) & set(stuff)):
        segments.append({"id": len(segments) + 1, "category_id": category, "iscrowd": 0})
        ids[free & (semantic == category)] = len(segments)
    return ids, describe(ids, segments)


# ---- the two-channel picture -----------------------------------------------------------------------------------------


def to_two_channels(ids: np.ndarray, segments: Sequence[dict]) -> np.ndarray:
    """A picture (H, W, 3) uint8 of category, number within the category (`CROWD` for a crowd), and 0; void is black.

    Raises:
        ValueError: for a category outside 1 … 255, or more than 255 segments of one.
    """
    picture = np.zeros((*ids.shape, 3), dtype=np.uint8)
    seen: Counter = Counter()
    for segment in segments:
        category, crowd = segment["category_id"], bool(segment.get("iscrowd", 0))
        if not 1 <= category <= 255:
            raise ValueError(f"category {category}: the two-channel format holds 1 … 255, 0 is void")
        if not crowd and seen[category] == CROWD:
            raise ValueError(f"category {category} has more than {CROWD} segments; the second channel holds no more")
        picture[ids == segment["id"]] = category, CROWD if crowd else seen[category], 0
        seen[category] += not crowd
    return picture


def from_two_channels(picture: np.ndarray) -> tuple[np.ndarray, Segments]:
    """The panoptic annotation of a two-channel picture; ids count from 1, by category and number."""
    category, number = (picture[..., channel].astype(np.int32) for channel in (0, 1))
    keys, ids = np.unique((category * 256 + number) * (category > 0), return_inverse=True)
    if keys[0] != 0:
        ids = ids + 1  # no void: the first key is a segment
    ids = ids.reshape(category.shape).astype(np.int32)
    found = [(int(key) // 256, int(key) % 256) for key in keys if key != 0]
    segments = [{"id": n, "category_id": c, "iscrowd": int(w == CROWD)} for n, (c, w) in enumerate(found, start=1)]
    return ids, describe(ids, segments)
