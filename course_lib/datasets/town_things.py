"""The things of a Town scene: which, where, how large, in what colours; and how one is drawn."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from course_lib.datasets.town_ground import GRASS, PAVEMENT, ROAD, SKY, STUFF, Stage
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
    TYRE,
    WHITE,
    Sprite,
    proportions,
    render,
    stamp,
    unit,
)
from course_lib.datasets.town_sprites import SPRITES

if TYPE_CHECKING:
    from course_lib.datasets.town import TownConfig

THINGS = ("person", "car", "sign", "bird", "dog", "van", "kiosk", "bus")  # from common to rare
_PERSON, _BIRD, _DOG = THINGS.index("person"), THINGS.index("bird"), THINGS.index("dog")

_MOST = 200  # things in one scene
_TRIES = 12  # places that a thing tries
_OVERLAP = 0.6  # the share of the smaller box that a thing seeks to share when it joins another

# Where each thing may stand (a bird: in front of what it may fly).
_PLACES = {
    "person": (GRASS, PAVEMENT, ROAD), "car": (ROAD,), "sign": (GRASS, PAVEMENT), "bird": (SKY,),
    "dog": (GRASS, PAVEMENT), "van": (ROAD,), "kiosk": (GRASS, PAVEMENT), "bus": (ROAD,),
}  # fmt: skip
_ALLOWED = np.array([[stuff in _PLACES[name] for stuff in range(len(STUFF))] for name in THINGS])

# Clothes, cars, vans, buses, kiosks and signs share their colours: colour alone does not tell the class.
_PAINTS = (
    (178, 58, 52), (204, 108, 74), (218, 170, 78), (132, 156, 116), (62, 128, 130), (42, 66, 112),
    (112, 158, 196), (236, 226, 206), (240, 240, 238), (66, 68, 76), (118, 70, 106), (58, 98, 70),
)  # fmt: skip
_COATS = ((92, 62, 42), (54, 48, 48), (210, 176, 130), (232, 226, 214), (158, 104, 62), (120, 84, 60))
_FEATHERS = ((246, 246, 246), (58, 58, 66), (112, 92, 82), (70, 84, 108))
_TROUSERS = ((50, 60, 92), (64, 62, 66), (112, 96, 76), (92, 108, 128), (150, 136, 112), (88, 52, 52))
_SKINS = np.array(((244, 206, 176), (222, 172, 132), (178, 124, 88), (120, 80, 58)))
_HAIRS = np.array(((48, 38, 34), (92, 62, 40), (196, 156, 92), (150, 150, 150)))
_PLATES = tuple(c for c in _PAINTS if min(c) < 200)  # a sign's plate is white inside, its edge is not
_OWN = {"dog": _COATS, "bird": _FEATHERS, "sign": _PLATES}
_MAINS = np.stack([np.resize(_OWN.get(n, _PAINTS), (12, 3)) for n in THINGS])
_ACCENTS = np.stack([np.resize(_TROUSERS if n == "person" else _PAINTS, (12, 3)) for n in THINGS])


@dataclass
class Figure:
    """One sprite in the scene: its foot is at row `base`, its middle at column `x`; sizes in pixels."""

    kind: int
    sprite: Sprite
    base: int
    x: int
    height: int
    width: int
    flip: bool
    palette: np.ndarray  # (4, PARTS)


@dataclass
class Thing:
    """One segment: a single figure, or the figures of a crowd (far to near)."""

    kind: int  # index into THINGS
    figures: list[Figure]
    crowd: bool = False

    @property
    def depth(self) -> int:
        """The row that it stands on; things are painted from small to large."""
        return 0 if self.crowd else self.figures[0].base


def place_things(config: TownConfig, stage: Stage, rng: np.random.Generator) -> list[Thing]:
    """Choose the things of a scene; returns them from far to near."""
    weights = np.exp(-config.rarity * np.arange(len(THINGS)))
    count = min(int(rng.poisson(config.objects)), _MOST)
    kinds = np.searchsorted(np.cumsum(weights / weights.sum())[:-1], rng.random(count), side="right")
    things = [Thing(figure.kind, [figure]) for figure in _scatter(config, stage, kinds, rng)]
    if rng.random() < config.crowds:
        things.append(Thing(_PERSON, _crowd(config, stage, rng), crowd=True))
    return sorted(things, key=lambda thing: thing.depth)


def _scatter(config: TownConfig, stage: Stage, kinds: np.ndarray, rng: np.random.Generator) -> list[Figure]:
    height, width = stage.stuff.shape
    side, depth, count = min(height, width), height - stage.foot, len(kinds)
    sprites = [SPRITES[THINGS[k]][int(u * len(SPRITES[THINGS[k]]))] for k, u in zip(kinds, rng.random(count))]
    vary = rng.uniform(0.9, 1.1, (2, count, 1))
    relative = np.array([s.height for s in sprites]).reshape(-1, 1) * vary[0]
    ratio = np.array([proportions(s) for s in sprites]).reshape(-1, 1) * vary[1]
    u, across = rng.random((2, count, _TRIES))
    # Every thing tries a few places; more of them far away, where the picture has fewer rows for more street.
    bird = (kinds == _BIRD)[:, None]
    near = 0.04 + 0.94 * u * u
    far, close = config.scale[0] * side, config.scale[1] * side
    h = np.where(bird, side * (0.044 + 0.03 * across), far + (close - far) * near) * relative
    h = np.maximum(h, max(5.0, 0.048 * side))
    w = h * ratio
    base = np.where(bird, h + (stage.foot - h) * u, stage.foot + depth * near)
    x = across * width
    ground = stage.stuff[(base - bird * h / 2).astype(int), x.astype(int)]
    fits = _ALLOWED[kinds[:, None], ground] & (w < 0.8 * width)
    flips, joins = ((0.5,), (config.crowding,)) > rng.random((count, 2)).T
    palettes = _palettes(kinds, base.mean(1), stage, rng)
    corners = np.stack([x - w / 2, base - h, x + w / 2, base], 2)  # (count, _TRIES, 4)
    areas, pixels = w * h, np.rint(np.stack([base, x, h, w], 2)).astype(int)
    taken, room = np.zeros((count, 4)), np.zeros(count)  # boxes and areas of the things that have their place
    figures: list[Figure] = []
    for i in np.flatnonzero(fits.any(1)):
        n = len(figures)
        sides = np.minimum(corners[i, :, None, 2:], taken[:n, 2:]) - np.maximum(corners[i, :, None, :2], taken[:n, :2])
        sides = np.maximum(sides, 0)
        overlap = sides[..., 0] * sides[..., 1] / np.minimum(areas[i, :, None], room[:n])
        cost = overlap.sum(1)
        if joins[i]:
            cost = np.abs(cost - _OVERLAP)
        cost[~fits[i]] = np.inf
        pick = cost.argmin()
        taken[n], room[n] = corners[i, pick], areas[i, pick]
        at = pixels[i, pick].tolist()
        figures.append(Figure(int(kinds[i]), sprites[i], at[0], at[1], at[2], at[3], bool(flips[i]), palettes[i]))
    return figures


def _crowd(config: TownConfig, stage: Stage, rng: np.random.Generator) -> list[Figure]:
    """Eight to thirteen people so close together at the far end that they cannot be told apart."""
    height, width = stage.stuff.shape
    count = int(rng.integers(8, 14))
    tall = max(5.0, 1.1 * config.scale[0] * min(height, width))
    middle = rng.uniform(0.15, 0.85) * width
    bases = np.sort(
        stage.foot + (height - stage.foot) * rng.uniform(0.05, 0.12) + tall * rng.uniform(-0.12, 0.12, count)
    )
    xs = middle + tall * count * rng.uniform(-0.1, 0.1, count)
    palettes = _palettes(np.full(count, _PERSON), bases, stage, rng)
    figures = []
    for base, x, palette, u in zip(bases, xs, palettes, rng.random((count, 3))):
        sprite = SPRITES["person"][int(u[0] * len(SPRITES["person"]))]
        h = max(4, round(tall * (0.9 + 0.2 * u[1])))
        w = max(3, round(h * proportions(sprite)))
        figures.append(Figure(_PERSON, sprite, round(base), round(x), h, w, bool(u[2] < 0.5), palette))
    return figures


def _palettes(kinds: np.ndarray, rows: np.ndarray, stage: Stage, rng: np.random.Generator) -> np.ndarray:
    """The colours (N, 4, PARTS) of N things that stand on the given rows, in the scene's light and haze."""
    pick = (rng.random((4, len(kinds))) * [[12], [12], [4], [4]]).astype(int)
    vary = rng.normal(0, 7, (2, len(kinds), 3))
    main, accent = _MAINS[kinds, pick[0]] + vary[0], _ACCENTS[kinds, pick[1]] + vary[1]
    colours = np.zeros((len(kinds), PARTS, 3))
    colours[:, MAIN], colours[:, DARK], colours[:, LIGHT] = main, main * 0.72, main * 0.7 + 76
    colours[:, GLASS], colours[:, TYRE], colours[:, ACCENT] = (92, 116, 134), (42, 42, 48), accent
    colours[:, WHITE], colours[:, LAMP] = (232, 230, 224), (250, 214, 130)
    colours[:, SKIN], colours[:, HAIR] = _SKINS[pick[2]], _HAIRS[pick[3]]
    near = np.clip((rows - stage.foot) / (stage.stuff.shape[0] - stage.foot), 0, 1)
    haze = (0.16 * (1 - near) ** 2)[:, None, None]
    colours = np.rint(np.clip(colours * stage.light * (1 - haze) + stage.haze * haze, 0, 255))
    palettes = np.ones((len(kinds), 4, PARTS), np.float32)
    palettes[:, :3] = colours.transpose(0, 2, 1)
    palettes[:, :, 0] = 0
    return palettes


def draw_thing(stage: Stage, thing: Thing, label: int, labels: np.ndarray) -> int:
    """Draw a thing and its shadow, and write `label` into labels (H, W) where it is solid.

    Returns its silhouette's area within the picture, in pixels.
    """
    silhouette = 0
    for figure in thing.figures:
        if figure.kind != _BIRD:
            _shadow(stage, figure)
        picture = render(figure.sprite, figure.palette, figure.height, figure.width, figure.flip)
        top, left = figure.base - figure.height, figure.x - figure.width // 2
        rows, cols, solid = stamp(stage.image, picture, top, left)
        window = labels[rows, cols]
        if thing.crowd:  # a crowd's members hide one another: count a pixel once
            silhouette -= int(np.count_nonzero(window[solid] == label))
        window[solid] = label
        silhouette += int(np.count_nonzero(solid))
    return silhouette


@functools.lru_cache(maxsize=1024)
def _soft_shadow(tall: int, wide: int) -> np.ndarray:
    y, x = (np.arange(n, dtype=np.float32) * (2 / n) + (1 / n - 1) for n in (tall, wide))  # -1..1
    dark = np.zeros((4, tall, wide), np.float32)
    dark[3] = 0.42 * unit(1.3 * (1 - (y[:, None] ** 2 + x**2)))
    return dark


def _shadow(stage: Stage, figure: Figure) -> None:
    tall = max(2, round(0.16 * figure.height + 0.05 * figure.width))
    wide = max(3, round(1.15 * figure.width))
    left = figure.x - wide // 2 + round(stage.sun * 0.15 * figure.width)
    stamp(stage.image, _soft_shadow(tall, wide), figure.base - tall * 3 // 5, left)
