"""Town: procedural street scenes that are COCO instances and COCO panoptic in one.

Scene `index` of a split depends on (config, seed, split, index) and on nothing else: neither on how many scenes
are made nor on how many processes make them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from course_lib.datasets.town_ground import (
    GRASS,
    PAVEMENT,
    ROAD,
    SKY,
    Stage,
    cut_noise,
    lay_stage,
    stamp,
)
from course_lib.datasets.town_shapes import (
    ACCENT,
    DARK,
    GLASS,
    HAIR,
    LAMP,
    LIGHT,
    MAIN,
    PARTS,
    SKIN,
    SPRITES,
    TYRE,
    WHITE,
    Sprite,
    averaging,
    proportions,
    render,
)

THINGS = ("person", "car", "sign", "bird", "dog", "van", "kiosk", "bus")  # from common to rare
STUFF = ("sky", "building", "tree", "grass", "pavement", "road", "water")
_COLOURS = (
    (220, 60, 60), (40, 110, 200), (240, 190, 40), (150, 80, 180), (160, 100, 50), (60, 180, 190),
    (230, 120, 180), (20, 60, 120), (150, 200, 235), (120, 120, 135), (50, 120, 55), (140, 190, 90),
    (215, 205, 190), (85, 85, 90), (70, 140, 150),
)  # fmt: skip
CATEGORIES: tuple[dict[str, Any], ...] = tuple(
    {"id": i + 1, "name": name, "supercategory": "thing" if i < len(THINGS) else "stuff",
     "isthing": int(i < len(THINGS)), "color": list(_COLOURS[i])}
    for i, name in enumerate(THINGS + STUFF)
)  # fmt: skip
SPLITS = ("train", "val")

MIN_VISIBLE = 0.2  # a thing with less of its silhouette in view is void
MIN_PIXELS = 12  # … and so is a thing with fewer pixels in view

_PAINTS = (
    (178, 58, 52), (204, 108, 74), (218, 170, 78), (132, 156, 116), (62, 128, 130), (42, 66, 112),
    (112, 158, 196), (236, 226, 206), (240, 240, 238), (66, 68, 76), (118, 70, 106), (58, 98, 70), (176, 182, 188),
)  # fmt: skip
_TROUSERS = ((50, 60, 92), (64, 62, 66), (112, 96, 76), (92, 108, 128), (150, 136, 112), (88, 52, 52))
_SKINS = ((244, 206, 176), (222, 172, 132), (178, 124, 88), (120, 80, 58))
_HAIRS = ((48, 38, 34), (92, 62, 40), (196, 156, 92), (150, 150, 150), (134, 66, 42))
_COATS = ((92, 62, 42), (54, 48, 48), (210, 176, 130), (232, 226, 214), (158, 104, 62))
_FEATHERS = ((246, 246, 246), (58, 58, 66), (112, 92, 82), (70, 84, 108))


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
    crowding: float = 0.75
    rarity: float = 0.33
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


@dataclass
class _Thing:
    kind: int  # index into THINGS
    members: list[
        tuple[Sprite, np.ndarray, int, int, int, int, bool]
    ]  # sprite, palette, base, x, height, width, flip
    base: float
    x: float
    width: float
    height: float
    crowd: bool = False


def draw_scene(config: TownConfig, seed: int, index: int, split: str = "train") -> Scene:
    """Draw one scene; the same arguments give the same bytes."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), index)))
    height, width = config.size
    stage = lay_stage(height, width, rng)
    things = _place(config, stage, rng)
    things.sort(key=lambda thing: thing.base)
    labels = np.zeros((height, width), np.int64)  # 0: stuff; k: the k-th thing
    whole = [0]
    for k, thing in enumerate(things, 1):
        whole.append(_draw(stage, thing, k, labels))
    image = stage.image
    if config.noise:
        image += cut_noise(rng, height, width, height) * np.float32(config.noise)
    image = np.rint(np.clip(image, 0, 255)).astype(np.uint8)
    panoptic, segments = _segments(labels, stage.stuff, things, whole)
    return Scene(np.ascontiguousarray(image.transpose(1, 2, 0)), panoptic, segments)


def _frequencies(config: TownConfig) -> np.ndarray:
    weights = np.exp(-config.rarity * np.arange(len(THINGS)))
    return np.cumsum(weights / weights.sum())


_ALLOWED = {
    "person": (GRASS, PAVEMENT, PAVEMENT, ROAD), "dog": (GRASS, PAVEMENT), "sign": (GRASS, PAVEMENT),
    "kiosk": (GRASS, PAVEMENT), "car": (ROAD,), "van": (ROAD,), "bus": (ROAD,),
}  # fmt: skip


def _place(config: TownConfig, stage: Stage, rng: np.random.Generator) -> list[_Thing]:
    height, width = config.size
    side = min(height, width)
    far, near = config.scale[0] * side, config.scale[1] * side
    cumulative = _frequencies(config)
    things: list[_Thing] = []
    for _ in range(min(int(rng.poisson(config.objects)), 200)):
        kind = min(int(np.searchsorted(cumulative, rng.random())), len(THINGS) - 1)
        name = THINGS[kind]
        sprite = SPRITES[name][rng.integers(len(SPRITES[name]))]
        vary = rng.uniform(0.9, 1.1, 2)
        ratio = proportions(sprite) * vary[1]
        if name == "bird":
            h = max(5.0, side * rng.uniform(0.045, 0.08) * sprite.height * vary[0])
            spots = np.stack([rng.uniform(h, max(h + 1, stage.foot), 6), rng.uniform(0, width, 6)])
            heights = np.full(6, h)
            fits = (
                stage.stuff[np.clip(spots[0] - h / 2, 0, height - 1).astype(int), spots[1].astype(int)] == SKY
            )
        else:
            u = rng.random(12)
            rows = stage.foot + (height - stage.foot) * (0.04 + 0.95 * u**2.1)
            spots = np.stack([rows, rng.uniform(0, width, 12)])
            grow = (rows - stage.foot) / (height - stage.foot)
            floor = max(5.0, 0.05 * side)
            heights = np.maximum((far + (near - far) * grow) * sprite.height * vary[0], floor)
            ground = stage.stuff[rows.astype(int), spots[1].astype(int)]
            fits = np.isin(ground, _ALLOWED[name]) & (heights * ratio < 0.8 * width)
        if not fits.any():
            continue
        rows, xs, heights = spots[0][fits], spots[1][fits], heights[fits]
        widths = heights * ratio
        join = rng.random() < config.crowding and things
        if things:
            other = np.array([(t.base, t.x, t.height, t.width) for t in things])
            dx = np.minimum(xs[:, None] + widths[:, None] / 2, other[:, 1] + other[:, 3] / 2) - np.maximum(
                xs[:, None] - widths[:, None] / 2, other[:, 1] - other[:, 3] / 2
            )
            dy = np.minimum(rows[:, None], other[:, 0]) - np.maximum(
                rows[:, None] - heights[:, None], other[:, 0] - other[:, 2]
            )
            overlap = (
                np.maximum(dx, 0)
                * np.maximum(dy, 0)
                / np.minimum((heights * widths)[:, None], other[:, 2] * other[:, 3])
            )
            cost = overlap.sum(1)
            pick = int(np.argmin(np.abs(cost - 0.6) if join else cost))
        else:
            pick = 0
        h, w = max(4, round(heights[pick])), max(3, round(widths[pick]))
        palette = _palette(name, stage, float(rows[pick]), height, rng)
        base, x = round(rows[pick]), round(xs[pick])
        member = (sprite, palette, base, x, h, w, bool(rng.integers(2)))
        depth = -1.0 if name == "bird" else float(rows[pick])
        things.append(_Thing(kind, [member], float(base), float(x), w, h))
        if name == "bird":
            things[-1].base = float(base)
    if rng.random() < config.crowds:
        things.append(_crowd(config, stage, far, near, rng))
    return things


def _crowd(config: TownConfig, stage: Stage, far: float, near: float, rng: np.random.Generator) -> _Thing:
    height, width = config.size
    base = stage.foot + (height - stage.foot) * rng.uniform(0.05, 0.12)
    h = max(5.0, 1.1 * far)
    count = int(rng.integers(8, 14))
    members = []
    x = rng.uniform(0.15, 0.85) * width
    for _ in range(count):
        sprite = SPRITES["person"][rng.integers(4)]
        b, xx = base + rng.uniform(-0.12, 0.12) * h, x + rng.uniform(-1, 1) * count * h * 0.1
        hh = h * rng.uniform(0.9, 1.1)
        members.append(
            (
                sprite,
                _palette("person", stage, b, height, rng),
                round(b),
                round(xx),
                max(4, round(hh)),
                max(3, round(hh * proportions(sprite))),
                bool(rng.integers(2)),
            )
        )
    members.sort(key=lambda m: m[2])
    return _Thing(0, members, base, x, count * h * 0.2, h, crowd=True)


def _palette(name: str, stage: Stage, row: float, height: int, rng: np.random.Generator) -> np.ndarray:
    def pick(colours: tuple, spread: float = 9.0) -> np.ndarray:
        return np.asarray(colours[rng.integers(len(colours))]) + rng.normal(0, spread, 3)

    main = pick({"dog": _COATS, "bird": _FEATHERS}.get(name, _PAINTS))
    accent = pick(_TROUSERS if name == "person" else _PAINTS)
    colours = np.zeros((PARTS, 3))
    colours[MAIN], colours[DARK], colours[LIGHT] = main, main * 0.72, main * 0.7 + 76
    colours[GLASS], colours[TYRE], colours[ACCENT] = (92, 116, 134), (42, 42, 48), accent
    colours[WHITE], colours[LAMP] = (232, 230, 224), (250, 214, 130)
    if name == "person":
        colours[SKIN], colours[HAIR] = pick(_SKINS, 4), pick(_HAIRS, 4)
    near = min(max((row - stage.foot) / (height - stage.foot), 0.0), 1.0)
    haze = 0.16 * (1 - near) ** 2
    colours = colours * stage.light * (1 - haze) + stage.haze * haze
    palette = np.zeros((4, PARTS), np.float32)
    palette[:3, 1:] = np.rint(np.clip(colours[1:], 0, 255)).T
    palette[3, 1:] = 255
    return palette


def _draw(stage: Stage, thing: _Thing, k: int, labels: np.ndarray) -> int:
    """Draw a thing with its shadow; write k into labels; return the area of its silhouette within the picture."""
    whole = 0
    for sprite, palette, base, x, h, w, flip in thing.members:
        if THINGS[thing.kind] != "bird":
            _shadow(stage, base, x, h, w)
        rows, cols, solid = stamp(stage.image, render(sprite, palette, h, w, flip), base - h, x - w // 2)
        window = labels[rows, cols]
        if thing.crowd:
            whole -= int(np.count_nonzero(window[solid] == k))
        window[solid] = k
        whole += int(np.count_nonzero(solid))
    return whole


_grid = (np.arange(-31.5, 32) / 32) ** 2
_SOFT = np.rint(255 * np.clip(1.3 * (1 - (_grid[:, None] + _grid)), 0, 1)).astype(np.float32)


def _shadow(stage: Stage, base: int, x: int, h: int, w: int) -> None:
    tall, wide = max(2, round(0.16 * h + 0.05 * w)), max(3, round(1.15 * w))
    soft = averaging(64, tall) @ _SOFT @ averaging(64, wide).T
    top, left = base - (tall * 3) // 5, x - wide // 2 + round(stage.sun * 0.15 * w)
    y0, x0 = max(top, 0), max(left, 0)
    window = stage.image[:, y0 : max(top + tall, 0), x0 : max(left + wide, 0)]
    window *= 1 - soft[y0 - top :, x0 - left :][: window.shape[1], : window.shape[2]] * np.float32(
        0.42 / (255 * 4096)
    )


def _segments(
    labels: np.ndarray, stuff: np.ndarray, things: list[_Thing], whole: list[int]
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    height, width = labels.shape
    count = len(things) + 1
    merged = np.where(labels > 0, labels, count + stuff)
    total = count + len(STUFF) + 1
    by_row = np.bincount((merged * height + np.arange(height)[:, None]).ravel(), minlength=total * height)
    by_col = np.bincount((merged * width + np.arange(width)).ravel(), minlength=total * width)
    by_row, by_col = by_row.reshape(total, height), by_col.reshape(total, width)
    areas = by_row.sum(1)
    ids = np.zeros(total, np.int32)
    segments = []
    seen = [0] * len(CATEGORIES)
    for k in np.flatnonzero(areas):
        area = int(areas[k])
        hidden, crowd = 0.0, 0
        if k < count:
            thing = things[k - 1]
            if area < max(MIN_VISIBLE * whole[k], MIN_PIXELS):
                continue
            category, crowd = thing.kind, int(thing.crowd)
            hidden = round(1 - area / whole[k], 4)
        else:
            category = len(THINGS) + int(k) - count - 1
        red, green, blue = _COLOURS[category]
        ids[k] = (red + 37 * seen[category]) % 256 + 256 * green + 65536 * blue
        seen[category] += 1
        ys, xs = np.flatnonzero(by_row[k]), np.flatnonzero(by_col[k])
        box = [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)]
        segments.append(
            {
                "id": int(ids[k]),
                "category_id": category + 1,
                "isthing": int(k < count),
                "iscrowd": crowd,
                "area": area,
                "bbox": box,
                "hidden": hidden,
            }
        )
    return ids[merged], segments
