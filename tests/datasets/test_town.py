"""Town's scenes: determinism, exact annotations, and the hardness that the course's results rest on."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from course_lib.datasets.town import CATEGORIES, MIN_PIXELS, MIN_VISIBLE, THINGS, TownConfig, draw_scene
from course_lib.datasets.town_ground import STUFF
from course_lib.datasets.town_writer import VERSION


def digest(config: TownConfig, seed: int, count: int) -> str:
    h = hashlib.sha256()
    for i in range(count):
        scene = draw_scene(config, seed, i)
        h.update(scene.image.tobytes() + scene.panoptic.tobytes() + repr(scene.segments).encode())
    return h.hexdigest()


def check_scene(scene, height: int, width: int) -> None:
    """Every record agrees with the panoptic picture, to the pixel."""
    assert scene.image.shape == (height, width, 3) and scene.image.dtype == np.uint8
    assert scene.panoptic.shape == (height, width) and scene.panoptic.dtype == np.int32
    ids = [s["id"] for s in scene.segments]
    assert len(set(ids)) == len(ids) and 0 not in ids and max(ids) < 2**24
    assert set(np.unique(scene.panoptic)) - {0} == set(ids)
    for s in scene.segments:
        mask = scene.panoptic == s["id"]
        ys, xs = np.nonzero(mask)
        assert s["area"] == len(ys)
        assert s["bbox"] == [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
        category = CATEGORIES[s["category_id"] - 1]
        assert s["isthing"] == category["isthing"]
        if s["isthing"]:
            assert s["area"] >= MIN_PIXELS and 0 <= s["hidden"] <= 1 - MIN_VISIBLE
        else:
            assert s["iscrowd"] == 0 and s["hidden"] == 0
    stuff = [s["category_id"] for s in scene.segments if not s["isthing"]]
    assert len(stuff) == len(set(stuff))  # one segment for each stuff class


def test_categories_are_stable():
    assert [c["id"] for c in CATEGORIES] == list(range(1, 16))
    assert tuple(c["name"] for c in CATEGORIES) == THINGS + STUFF
    assert len({tuple(c["color"][1:]) for c in CATEGORIES}) == 15  # what makes panoptic ids unique


def test_same_arguments_give_the_same_bytes_in_another_process():
    code = "from tests.datasets.test_town import TownConfig, digest\nprint(digest(TownConfig(crowds=0.5), 7, 8))"
    there = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == digest(TownConfig(crowds=0.5), 7, 8)


def test_these_are_the_scenes_of_version_1():
    """If this fails, old settings give other scenes than before: raise VERSION in town_writer.py."""
    scenes = [draw_scene(TownConfig(), 0, i) for i in range(20)]
    panoptic = hashlib.sha256(b"".join(s.panoptic.astype("<i4").tobytes() for s in scenes)).hexdigest()
    assert (VERSION, panoptic[:16]) == (1, "bd7e20b7f7d42345")
    assert np.mean([s.image for s in scenes]) == pytest.approx(140.938, abs=0.01)


def test_scenes_do_not_depend_on_what_was_drawn_before():
    first = draw_scene(TownConfig(), 3, 5)
    draw_scene(TownConfig(size=64), 1, 9)
    again = draw_scene(TownConfig(), 3, 5)
    assert np.array_equal(first.image, again.image) and first.segments == again.segments


def test_seed_split_and_index_each_give_another_scene():
    scenes = [draw_scene(TownConfig(), *a) for a in ((0, 0), (1, 0), (0, 1), (0, 0, "val"))]
    for k, a in enumerate(scenes):
        for b in scenes[:k]:
            assert not np.array_equal(a.image, b.image)


@pytest.mark.parametrize("size", [32, 64, 128, 256, (96, 160), (160, 96), (33, 77)])
def test_annotations_agree_with_the_picture_at_any_size(size):
    config = TownConfig(size=size, crowds=0.3, objects=8)
    for i in range(12):
        check_scene(draw_scene(config, 2, i), *config.size)


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(TownConfig(), 11, i) for i in range(300)]


@pytest.fixture(scope="module")
def objects(scenes):
    return [s for scene in scenes for s in scene.segments if s["isthing"] and not s["iscrowd"]]


def test_default_hardness(objects):
    """Over 4,000 scenes: 6.0 things a scene, 22.4 % under 14 px, 18.8 % more than a third hidden."""
    assert 5.4 < len(objects) / 300 < 6.6
    assert 0.20 <= np.mean([max(s["bbox"][2:]) < 14 for s in objects]) < 0.27
    assert 0.15 <= np.mean([s["hidden"] > 1 / 3 for s in objects]) < 0.23


def test_long_tail(objects):
    count = np.bincount([s["category_id"] for s in objects], minlength=len(THINGS) + 1)[1:] / len(objects)
    assert 0.25 < count[THINGS.index("person")] < 0.36 and count.argmax() == THINGS.index("person")
    assert 0.01 < count[THINGS.index("bus")] < 0.04 and count.argmin() == THINGS.index("bus")


def test_every_stuff_class_occurs(scenes):
    seen = {s["category_id"] for scene in scenes for s in scene.segments if not s["isthing"]}
    assert seen == {c["id"] for c in CATEGORIES if not c["isthing"]}


def test_void_is_rare(scenes):
    assert np.mean([np.mean(scene.panoptic == 0) for scene in scenes]) < 0.005


def test_no_objects():
    config = TownConfig(objects=0, crowds=0)
    for i in range(5):
        scene = draw_scene(config, 0, i)
        check_scene(scene, 128, 128)
        assert not any(s["isthing"] for s in scene.segments) and (scene.panoptic > 0).all()


def test_crowds():
    config = TownConfig(objects=0, crowds=1)
    for i in range(10):
        scene = draw_scene(config, 0, i)
        check_scene(scene, 128, 128)
        crowd = [s for s in scene.segments if s["isthing"]]
        assert [s["iscrowd"] for s in crowd] == [1] and crowd[0]["category_id"] == 1
        assert crowd[0]["hidden"] == 0  # its members hide one another, but nothing hides the crowd


def test_objects_dial():
    mean = [
        np.mean([sum(s["isthing"] for s in draw_scene(TownConfig(objects=n), 0, i).segments) for i in range(80)])
        for n in (2, 6, 15)
    ]
    assert mean[0] < 3 < mean[1] < 8 < mean[2]


def test_scale_dial_moves_sizes():
    def median(scale):
        scenes = [draw_scene(TownConfig(scale=scale, rarity=3), 0, i) for i in range(60)]
        return np.median([s["bbox"][3] for c in scenes for s in c.segments if s["category_id"] == 1])

    assert median((0.06, 0.15)) < median((0.08, 0.4)) < median((0.3, 0.6))


def test_crowding_dial_moves_hiding():
    def hidden(crowding):
        scenes = [draw_scene(TownConfig(crowding=crowding), 0, i) for i in range(100)]
        return np.mean([s["hidden"] > 1 / 3 for c in scenes for s in c.segments if s["isthing"]])

    assert hidden(0) < 0.09 < 0.15 < hidden(1)


def test_rarity_dial_moves_the_tail():
    def share_of_bus(rarity):
        scenes = [draw_scene(TownConfig(rarity=rarity, crowding=0), 0, i) for i in range(100)]
        return np.mean([s["category_id"] == 8 for c in scenes for s in c.segments if s["isthing"]])

    assert share_of_bus(1) < 0.01 < 0.06 < share_of_bus(0)


def test_noise_dial_changes_only_the_picture():
    clean, noisy = (draw_scene(TownConfig(noise=n), 0, 0) for n in (0, 12))
    assert clean.segments == noisy.segments and np.array_equal(clean.panoptic, noisy.panoptic)
    assert 9 < np.std(noisy.image.astype(int) - clean.image) < 13


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 31}, {"size": (64, 16)}, {"size": (64, 64, 3)}, {"objects": -1}, {"objects": float("nan")},
        {"scale": (0.5, 0.1)}, {"scale": (0.0, 0.1)}, {"crowding": 1.5}, {"rarity": -0.1}, {"noise": -1}, {"crowds": 2},
    ],
)  # fmt: skip
def test_wrong_dials_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TownConfig(**wrong)


@pytest.mark.parametrize("arguments", [(0, 0, "test"), (-1, 0), (0, -1)])
def test_wrong_scene_is_refused(arguments):
    with pytest.raises(ValueError, match="expected train or val"):
        draw_scene(TownConfig(), *arguments)


def test_config_survives_json():
    config = TownConfig(size=(96, 160), scale=(0.1, 0.3))
    assert TownConfig(**config.to_dict()) == config
    assert TownConfig(size=64).size == (64, 64)


def test_town_needs_no_torch():
    """Spawned workers import Town; torch would cost each of them seconds."""
    code = "import sys, course_lib.datasets.town_writer; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
