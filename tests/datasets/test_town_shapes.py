"""The sprites' machinery: painting, averaging, blending."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.datasets.town_shapes import (
    MAIN,
    PARTS,
    WHITE,
    Canvas,
    Sprite,
    averaging,
    proportions,
    render,
    stamp,
    unit,
)
from course_lib.datasets.town_sprites import SPRITES, TREES

GREY = np.full((4, PARTS), 100, np.float32)
GREY[3] = 255
GREY[:, 0] = 0


def test_canvas_shapes():
    c = Canvas(10, 2.0)
    assert c.index.shape == (10, 20)
    c.box(MAIN, 0.5, 0.2, 1.0, 0.4)
    assert (c.index == MAIN).sum() == 5 * 2
    c.ellipse(WHITE, 1.5, 0.5, 0.3)
    assert abs((c.index == WHITE).sum() - np.pi * 9) < 4
    c.index[:] = 0
    c.poly(MAIN, (0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    assert (c.index[:, :10] == MAIN).all() and not c.index[:, 10:].any()
    c.index[:] = 0
    c.limb(MAIN, 0.5, 0.5, 1.5, 0.5, 0.2)
    assert (c.index[4:6, 5:15] == MAIN).all() and not c.index[:3].any()


@given(st.integers(1, 200), st.integers(1, 64))
def test_averaging_weights(source, target):
    weights = averaging(source, target)
    assert weights.shape == (target, source) and weights.dtype == np.float32
    assert (weights >= 0).all() and (weights.sum(1) == 64).all()
    assert (weights == np.rint(weights)).all()  # whole numbers: sums are exact in float32


def test_averaging_by_hand():
    assert averaging(4, 2).tolist() == [[32, 32, 0, 0], [0, 0, 32, 32]]
    assert averaging(2, 2).tolist() == [[64, 0], [0, 64]]


@pytest.mark.parametrize("name", [*SPRITES, "tree"])
@pytest.mark.parametrize("height", [5, 9, 20, 60])
def test_every_sprite_fills_its_box(name, height):
    """A sprite touches all four sides of its box and covers a fair part of it, at any size."""
    for sprite in SPRITES.get(name, TREES):
        width = max(3, round(height * proportions(sprite)))
        picture = render(sprite, GREY, height, width)
        assert picture.shape == (4, height, width)
        assert picture[3].min() >= 0 and 0.95 < picture[3].max() <= 1 and picture[:3].max() <= 100
        assert all(edge.max() > 0.05 for edge in (picture[3, 0], picture[3, -1], picture[3, :, 0], picture[3, :, -1]))
        assert 0.25 < picture[3].mean() < 1


def test_flip_is_a_mirror():
    sprite = SPRITES["car"][0]
    assert np.array_equal(render(sprite, GREY, 12, 26, flip=True), render(sprite, GREY, 12, 26)[:, :, ::-1])


def test_a_full_sprite_renders_to_its_colour_exactly():
    square = Sprite(lambda c: c.box(MAIN, 0, 0, 1, 1), 1.0, 1.0)
    picture = render(square, GREY, 7, 5)
    assert (picture[:3] == 100).all() and (picture[3] == 1).all() and proportions(square) == 1


def test_stamp_blends_and_clips():
    picture = np.zeros((4, 4, 4), np.float32)
    picture[3], picture[:3] = 0.5, 50  # half-transparent, colour 100
    picture[3, 0], picture[:3, 0] = 1, 100
    image = np.full((3, 6, 6), 20, np.float32)
    rows, cols, solid = stamp(image, picture, 4, -2)
    assert (rows, cols) == (slice(4, 6), slice(0, 2)) and solid.all()
    assert (image[:, 4, :2] == 100).all() and (image[:, 5, :2] == 60).all()
    assert (image[:, :4] == 20).all() and (image[:, :, 2:] == 20).all()


@pytest.mark.parametrize(("top", "left"), [(-9, 0), (0, -9), (6, 0), (0, 6), (50, 50)])
def test_stamp_outside_changes_nothing(top, left):
    image = np.full((3, 6, 6), 20, np.float32)
    _, _, solid = stamp(image, np.ones((4, 4, 4), np.float32), top, left)
    assert solid.size == 0 and (image == 20).all()


def test_unit():
    assert unit(np.array([-1.0, 0.25, 3.0])).tolist() == [0, 0.25, 1]
