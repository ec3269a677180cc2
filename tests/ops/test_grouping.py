"""Grouping against hand-worked cases and a search that looks at every pair of regions in every step."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from course_lib.datasets.coco import open_split
from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_writer import make_town
from course_lib.ops.boxes import box_iou
from course_lib.ops.grouping import GroupingSpec, group, segment, selective_search

ALL = ("colour", "texture", "size", "fill")


def stripes(*greys: int, width: int = 6, height: int = 12) -> np.ndarray:
    """Upright stripes, each of one grey."""
    row = np.repeat(np.array(greys, np.uint8), width)
    return np.repeat(np.tile(row, (height, 1))[..., None], 3, 2)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# ---- the first cut ------------------------------------------------------------------------------------------------


def test_each_stripe_is_a_region() -> None:
    labels = segment(stripes(0, 200, 90), 30, 1)
    middles = labels[:, [3, 9, 15]]
    assert (middles == middles[0]).all()
    assert len(set(middles[0])) == 3


def test_one_grey_is_one_region_and_a_pixel_too() -> None:
    assert (segment(stripes(70), 30, 1) == 0).all()
    assert segment(noise(1, 1), 30, 8).tolist() == [[0]]


def test_a_larger_scale_makes_fewer_regions() -> None:
    counts = [segment(noise(24, 24), scale, 1).max() + 1 for scale in (1, 100, 1000, 100_000)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 100
    assert counts[-1] == 1


def test_small_regions_join_a_neighbour_and_all_are_connected() -> None:
    labels = segment(noise(20, 30), 20, 8)
    assert np.bincount(labels.ravel()).min() >= 8
    for k in range(labels.max() + 1):
        assert np.array_equal(flood(labels == k), labels == k)


def flood(mask: np.ndarray) -> np.ndarray:
    """What can be reached from the mask's first pixel within it, up, down, left and right."""
    seen, todo = np.zeros_like(mask), [tuple(np.argwhere(mask)[0])]
    while todo:
        y, x = todo.pop()
        if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not seen[y, x]:
            seen[y, x] = True
            todo += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    return seen


# ---- grouping -----------------------------------------------------------------------------------------------------


def test_the_similar_stripes_are_joined_first() -> None:
    image = stripes(100, 104, 220)
    labels = np.repeat(np.tile(np.repeat([0, 1, 2], 6), (12, 1)), 1, 0)
    found = group(image, labels, ("colour",)).tolist()
    assert found == [[0, 0, 6, 12], [6, 0, 12, 12], [12, 0, 18, 12], [0, 0, 12, 12], [0, 0, 18, 12]]


def test_size_joins_the_small_ones_and_fill_what_fits_together() -> None:
    columns = np.repeat([0, 1, 2], (12, 3, 3))
    found = group(stripes(5, 5, 5), np.tile(columns, (12, 1)), ("size",))
    assert found[3].tolist() == [12, 0, 18, 12]
    hole = np.zeros((9, 12), int)  # 1 lies within 0, 2 beside it
    hole[3:6, 3:6], hole[:, 9:] = 1, 2
    assert group(noise(9, 12), hole, ("fill",))[3].tolist() == [0, 0, 9, 9]


def test_one_region_stays_alone() -> None:
    assert group(noise(4, 5), np.zeros((4, 5), int), ALL).tolist() == [[0, 0, 5, 4]]


@pytest.mark.parametrize("cues", [ALL, ("texture", "size", "fill"), ("colour", "fill"), ("colour",)])
def test_as_a_search_of_all_pairs(cues: tuple[str, ...]) -> None:
    image = noise(17, 23, seed=1)
    labels = segment(image, 40, 6)
    assert labels.max() > 10
    assert np.array_equal(group(image, labels, cues), all_pairs(image, labels, cues))


def all_pairs(image: np.ndarray, labels: np.ndarray, cues: tuple[str, ...]) -> np.ndarray:
    """The same from masks of pixels, in float64, every similarity anew in each step."""
    regions = [labels == k for k in range(labels.max() + 1)]
    boxes, alive = [box(mask) for mask in regions], list(range(len(regions)))
    while len(alive) > 1:
        pairs = [pair for pair in itertools.combinations(alive, 2) if touch(*(regions[k] for k in pair))]
        i, j = max(pairs, key=lambda pair: similarity(image, *(regions[k] for k in pair), cues))
        regions.append(regions[i] | regions[j])
        boxes.append(box(regions[-1]))
        alive = [k for k in alive if k not in (i, j)] + [len(regions) - 1]
    return np.array(boxes)


def box(mask: np.ndarray) -> list[int]:
    y, x = np.nonzero(mask)
    return [x.min(), y.min(), x.max() + 1, y.max() + 1]


def touch(a: np.ndarray, b: np.ndarray) -> bool:
    across = (a[:, 1:] & b[:, :-1]) | (a[:, :-1] & b[:, 1:])
    return bool(across.any() or (a[1:] & b[:-1]).any() or (a[:-1] & b[1:]).any())


def similarity(image: np.ndarray, a: np.ndarray, b: np.ndarray, cues: tuple[str, ...]) -> float:
    total = 0.0
    if "colour" in cues:
        total += sum(
            intersection([image[m][:, c] for m in (a, b)], np.linspace(0, 256, 26)) / 3  # over three channels
            for c in range(3)
        )
    if "texture" in cues:
        wide = np.pad(image.astype(float), [(1, 1), (1, 1), (0, 0)], mode="edge")
        down, right = (np.gradient(wide, axis=axis)[1:-1, 1:-1] for axis in (0, 1))
        for angle in range(8):
            slope = math.cos(angle * math.pi / 4) * right + math.sin(angle * math.pi / 4) * down
            slope = slope.clip(0, 127.5) / 128 * 10
            bins = np.arange(11)
            total += sum(intersection([slope[m][:, c] for m in (a, b)], bins) / 24 for c in range(3))
    both, (x1, y1, x2, y2) = a | b, box(a | b)
    if "size" in cues:
        total += 1 - both.mean()
    if "fill" in cues:
        total += 1 - ((x2 - x1) * (y2 - y1) - both.sum()) / both.size
    return total


def intersection(values: list[np.ndarray], bins: np.ndarray) -> float:
    a, b = (np.histogram(v, bins)[0] / len(v) for v in values)
    return np.minimum(a, b).sum()


# ---- the whole ----------------------------------------------------------------------------------------------------


def test_large_regions_come_first_and_none_twice() -> None:
    found = selective_search(stripes(0, 200, 90))
    assert found.dtype == np.float32
    assert found[0].tolist() == [0, 0, 18, 12]
    assert len(np.unique(found, axis=0)) == len(found)
    assert (found[:, 2:] - found[:, :2] >= 3).all()


def test_more_strategies_find_more() -> None:
    image = noise(32, 32)
    spec = GroupingSpec(scales=(40.0,), cues=(ALL,))
    few = {tuple(b) for b in selective_search(image, spec)}
    many = {tuple(b) for b in selective_search(image, replace(spec, cues=(ALL, ("size",))))}
    assert few < many


def test_a_pixel_has_no_box_of_three_pixels() -> None:
    assert selective_search(noise(1, 1)).shape == (0, 4)
    assert selective_search(noise(1, 1), GroupingSpec(min_side=1)).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("image", [noise(4, 4)[..., 0], noise(4, 4) / 255, noise(0, 4), np.zeros((3, 4, 4), np.uint8)])
def test_what_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\)"):
        selective_search(image)


def test_an_unknown_cue_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown cues \['shape'\]"):
        group(noise(4, 4), np.zeros((4, 4), int), ("colour", "shape"))


def test_it_finds_most_things_in_town(tmp_path: Path) -> None:
    make_town(tmp_path, train=0, val=8, config=TownConfig(), seed=0, progress=False)
    data = open_split(tmp_path, "val")
    best, counts = [], []
    for i, boxes in enumerate(data.all_boxes()):
        pixels = data[i][0].as_subclass(torch.Tensor).permute(1, 2, 0).numpy()
        found = selective_search(pixels)
        counts.append(len(found))
        best.append(box_iou(torch.from_numpy(boxes), torch.from_numpy(found)).amax(1))
    assert (torch.cat(best) >= 0.5).float().mean() > 0.8
    assert np.mean(counts) < 1000
