"""Town: procedural street scenes that are COCO instances and COCO panoptic in one.

Scene `index` of a split depends on (config, seed, split, index) and on nothing else: neither on how many scenes
are made nor on how many processes make them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from course_lib.datasets.town_ground import STUFF, lay_stage, sensor_noise
from course_lib.datasets.town_things import THINGS, Thing, draw_thing, place_things

_COLOURS = (  # of each category in panoptic pictures; green and blue together are unique
    (220, 60, 60), (90, 120, 215), (240, 190, 40), (150, 80, 180), (160, 100, 50), (80, 180, 190),
    (230, 120, 180), (60, 60, 130), (150, 200, 235), (120, 120, 135), (50, 120, 55), (140, 190, 90),
    (215, 205, 190), (85, 85, 90), (70, 140, 150),
)  # fmt: skip
CATEGORIES: tuple[dict[str, Any], ...] = tuple(
    {
        "id": i,
        "name": name,
        "supercategory": "thing" if name in THINGS else "stuff",
        "isthing": int(name in THINGS),
        "color": list(colour),
    }
    for i, (name, colour) in enumerate(zip(THINGS + STUFF, _COLOURS), 1)
)
SPLITS = ("train", "val")

MIN_VISIBLE = 0.2  # a thing with a smaller share of its silhouette in view is not annotated but void
MIN_PIXELS = 12  # … and so is a thing with fewer pixels in view


@dataclass(frozen=True)
class TownConfig:
    """The dials of Town.

    size: picture (height, width) in pixels; one number means a square. At least 32 each. (Fast lessons: small.)
    objects: mean number of things placed in a scene (Poisson); 0 gives empty streets. (Focal loss: imbalance.)
    scale: height of a standing person at the far end and at the viewer, as a share of the shorter side.
        (FPN: the span of sizes.)
    crowding: chance 0..1 that a thing is put so that it overlaps another. (NMS, masks, panoptic fusion.)
    rarity: each class is exp(-rarity) times as frequent as the one before it in THINGS; 0 makes all equal.
        (Class imbalance, AP per class.)
    noise: standard deviation of the sensor's noise, of 255 levels. (Robustness.)
    crowds: chance 0..1 of a far group of people, annotated as one `iscrowd` segment. (Evaluation.)
    """

    size: int | tuple[int, int] = 128
    objects: float = 6.5
    scale: tuple[float, float] = (0.08, 0.4)
    crowding: float = 0.85
    rarity: float = 0.32
    noise: float = 4.0
    crowds: float = 0.06

    def __post_init__(self) -> None:
        size = (self.size, self.size) if isinstance(self.size, int) else tuple(int(s) for s in self.size)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "scale", tuple(float(s) for s in self.scale))
        checks = {
            "size": (len(size) == 2 and min(size) >= 32, "one or two numbers of at least 32"),
            "objects": (0 <= self.objects <= 60, "0..60"),
            "scale": (
                len(self.scale) == 2 and 0.02 <= self.scale[0] <= self.scale[1] <= 1,
                "0.02 <= far <= near <= 1",
            ),
            "crowding": (0 <= self.crowding <= 1, "0..1"),
            "rarity": (0 <= self.rarity <= 3, "0..3"),
            "noise": (0 <= self.noise <= 64, "0..64"),
            "crowds": (0 <= self.crowds <= 1, "0..1"),
        }
        for name, (fine, expected) in checks.items():
            if not fine:
                raise ValueError(f"TownConfig: {name}={getattr(self, name)!r}, expected {expected}")

    def to_dict(self) -> dict[str, Any]:
        """The dials as plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass
class Scene:
    """A drawn scene.

    image: uint8 (H, W, 3) RGB. panoptic: int32 (H, W) segment ids, 0 is void (id = R + 256 G + 65536 B).
    segments: one dict per segment in view: id, category_id, isthing, iscrowd, area (pixels), bbox ([x, y, w, h] of the
    visible pixels), hidden (share of the silhouette within the picture that nearer things cover; 0 for stuff).
    """

    image: np.ndarray
    panoptic: np.ndarray
    segments: list[dict[str, Any]]


def draw_scene(config: TownConfig, seed: int, index: int, split: str = "train") -> Scene:
    """Draw scene `index` of a split; the same arguments give the same bytes.

    Raises ValueError if the split is neither train nor val, or if seed or index is negative.
    """
    if split not in SPLITS or seed < 0 or index < 0:
        raise ValueError(
            f"draw_scene: split={split!r}, seed={seed}, index={index}; expected train or val, and numbers of at least 0"
        )
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), index)))
    height, width = config.size
    stage = lay_stage(height, width, rng)
    things = place_things(config, stage, rng)
    labels = stage.stuff.copy()  # 0…6 stuff, then one label for each thing
    silhouettes = [draw_thing(stage, thing, len(STUFF) + k, labels) for k, thing in enumerate(things)]
    image = stage.image + 0.5  # rounds to the nearest
    if config.noise:
        image += sensor_noise(height, width, rng) * np.float32(config.noise)
    image = np.clip(image, 0, 255, out=image).astype(np.uint8)
    panoptic, segments = _segments(labels, things, silhouettes)
    return Scene(np.stack(list(image), axis=-1), panoptic, segments)


def _segments(
    labels: np.ndarray, things: list[Thing], silhouettes: list[int]
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The panoptic picture and its records, from labels (H, W): stuff first, then things."""
    height, width = labels.shape
    count = len(STUFF) + len(things)
    by_row = np.bincount((labels * height + np.arange(height)[:, None]).ravel(), minlength=count * height)
    by_col = np.bincount((labels * width + np.arange(width)).ravel(), minlength=count * width)
    by_row, by_col = by_row.reshape(count, height), by_col.reshape(count, width)  # pixels of each label
    areas = by_row.sum(1)
    boxes = np.stack([*_extent(by_col > 0), *_extent(by_row > 0)], 1)[:, [0, 2, 1, 3]].tolist()  # x, y, w, h
    ids = np.zeros(count, np.int32)  # void where nothing is written
    seen = [0] * len(CATEGORIES)
    segments = []
    for label in np.flatnonzero(areas):
        area, k = int(areas[label]), int(label) - len(STUFF)
        if k < 0:
            category, hidden, crowd = len(THINGS) + int(label), 0.0, False
        else:
            if area < max(MIN_VISIBLE * silhouettes[k], MIN_PIXELS):
                continue
            category, hidden, crowd = things[k].kind, 1 - area / silhouettes[k], things[k].crowd
        red, green, blue = _COLOURS[category]
        ids[label] = (red - 19 * seen[category]) % 256 + 256 * green + 65536 * blue
        seen[category] += 1
        segments.append(
            {
                "id": int(ids[label]),
                "category_id": category + 1,
                "isthing": int(k >= 0),
                "iscrowd": int(crowd),
                "area": area,
                "bbox": boxes[label],
                "hidden": round(hidden, 4),
            }
        )
    return ids[labels], segments


def _extent(present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each row of `present` (N, L) has its first True, and the length from there to its last."""
    first = present.argmax(1)
    return first, present.shape[1] - present[:, ::-1].argmax(1) - first
