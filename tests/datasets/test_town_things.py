"""Where the things of a Town scene stand, and how they are drawn over one another."""

from __future__ import annotations

import numpy as np
import pytest

from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_ground import GRASS, PAVEMENT, ROAD, SKY, lay_stage
from course_lib.datasets.town_shapes import PARTS
from course_lib.datasets.town_sprites import SPRITES
from course_lib.datasets.town_things import THINGS, Figure, Thing, draw_thing, place_things

PALETTE = np.full((4, PARTS), 255, np.float32)
PALETTE[3] = 1
PALETTE[:, 0] = 0
VERGE = {GRASS, PAVEMENT}
WHERE = {"person": {*VERGE, ROAD}, "dog": VERGE, "sign": VERGE, "kiosk": VERGE, "bird": {SKY}}
WHERE |= {name: {ROAD} for name in ("car", "van", "bus")}


def placed(config: TownConfig, seed: int):
    rng = np.random.default_rng(seed)
    stage = lay_stage(*config.size, rng)
    return stage, place_things(config, stage, rng)


@pytest.mark.parametrize("seed", range(20))
def test_things_stand_where_they_belong_and_come_from_far_to_near(seed):
    stage, things = placed(TownConfig(objects=12, crowds=0), seed)
    assert [t.depth for t in things] == sorted(t.depth for t in things)
    for thing in things:
        (figure,) = thing.figures
        row = figure.base - (figure.height // 2 if THINGS[thing.kind] == "bird" else 0)
        around = set(stage.stuff[max(row - 2, 0) : row + 3, max(figure.x - 2, 0) : figure.x + 3].ravel().tolist())
        assert around & WHERE[THINGS[thing.kind]]


def test_lower_in_the_picture_is_larger():
    figures = [f for seed in range(60) for t in placed(TownConfig(rarity=3), seed)[1] for f in t.figures if f.kind == 0]
    near = [f.height for f in figures if f.base > 100]
    far = [f.height for f in figures if f.base < 75]
    assert min(near) > max(far)


def figure(name: str, base: int, x: int, height: int, width: int) -> Figure:
    return Figure(THINGS.index(name), SPRITES[name][0], base, x, height, width, False, PALETTE)


def test_the_nearer_thing_hides_the_farther_one():
    stage = lay_stage(128, 128, np.random.default_rng(0))
    labels = np.zeros((128, 128), np.int64)
    whole = draw_thing(stage, Thing(1, [figure("car", 100, 60, 30, 70)]), 1, labels)
    assert whole == (labels == 1).sum()
    before = labels == 1
    person = draw_thing(stage, Thing(0, [figure("person", 110, 60, 44, 18)]), 2, labels)
    assert person == (labels == 2).sum()
    assert (labels == 1).sum() == whole - (before & (labels == 2)).sum() < whole


def test_a_silhouette_counts_only_within_the_picture():
    stage = lay_stage(64, 64, np.random.default_rng(0))
    labels = np.zeros((64, 64), np.int64)
    whole = draw_thing(stage, Thing(1, [figure("car", 50, 0, 20, 46)]), 1, labels)
    assert whole == (labels == 1).sum() > 0
    assert draw_thing(stage, Thing(1, [figure("car", 50, 500, 20, 46)]), 2, labels) == 0


def test_a_crowd_is_one_silhouette():
    stage = lay_stage(64, 64, np.random.default_rng(0))
    labels = np.zeros((64, 64), np.int64)
    crowd = Thing(0, [figure("person", 40, x, 12, 5) for x in (30, 31, 33)], crowd=True)
    assert draw_thing(stage, crowd, 1, labels) == (labels == 1).sum()
