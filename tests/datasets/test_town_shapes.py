"""The sprites' machinery: painting, averaging, blending."""

from __future__ import annotations

import numpy as np
import pytest

from course_lib.datasets.town_shapes import (
    MAIN,
    PARTS,
    WHITE,
    Canvas,
    Sprite,
    proportions,
    render,
    stamp,
    unit,
)
from course_lib.datasets.town_sprites import SPRITES, TREES

GREY = np.full((4, PARTS), 100, np.float32)
GREY[3] = 1
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


@pytest.mark.parametrize(("rows", "height", "width"), [(96, 12, 20), (96, 32, 9), (192, 33, 50)])
def test_render_is_the_mean_of_the_painted_cells(rows, height, width):
    """Against the definition: cut the painting into height × width rectangles, take each one's mean colour."""
    sprite = SPRITES["kiosk"][0]
    palette = np.random.default_rng(0).uniform(0, 255, (4, PARTS)).astype(np.float32)
    palette[:, 0] = 0
    canvas = Canvas(rows, sprite.aspect)
    sprite.paint(canvas)
    ys, xs = np.nonzero(canvas.index)
    fine = palette[:, canvas.index[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]]
    y = np.rint(np.arange(height + 1) * (fine.shape[1] / height)).astype(int)
    x = np.rint(np.arange(width + 1) * (fine.shape[2] / width)).astype(int)
    expected = [[fine[:, y[i] : y[i + 1], x[j] : x[j + 1]].mean((1, 2)) for j in range(width)] for i in range(height)]
    picture = render(sprite, palette, height, width)
    np.testing.assert_allclose(picture.transpose(1, 2, 0), expected, rtol=1e-4)


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
