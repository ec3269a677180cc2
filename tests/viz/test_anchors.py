import numpy as np
import pytest
import torch
from PIL import ImageColor

from course_lib.ops.anchors import cell_anchors
from course_lib.viz.anchors import best_iou_figure, draw_reach, shapes_figure
from course_lib.viz.palette import INK, MISSED, PREDICTION, TRUTH
from tests.viz.fits import drawn_whole

GREY = np.full((32, 48, 3), 120, np.uint8)
CELL = cell_anchors([8], [1.0])


def has(picture, color):
    return bool((np.asarray(picture) == ImageColor.getrgb(color)).all(-1).any())


def test_reached_and_missed_objects_look_different():
    reached = draw_reach(GREY, [(12, 12, 21, 21)], CELL, 8)
    assert reached.size == (192, 128)
    assert has(reached, TRUTH) and has(reached, PREDICTION) and not has(reached, MISSED)
    missed = draw_reach(GREY, [(0, 0, 30, 30)], CELL, 8)
    assert has(missed, MISSED) and has(missed, PREDICTION) and not has(missed, TRUTH)
    assert not has(draw_reach(GREY, [(0, 0, 30, 30)], CELL, 8, high=0.05), MISSED)


@pytest.mark.parametrize("boxes", [[], torch.zeros(0, 4)])
def test_without_objects_only_the_grid_is_drawn(boxes):
    picture = draw_reach(GREY, boxes, CELL, 8)
    assert not has(picture, PREDICTION)
    pixels = np.asarray(picture)
    ink = (pixels == ImageColor.getrgb(INK)).all(-1)
    assert ink[31:34, 31:34].sum() == 8  # the point (8, 8) four times enlarged: a white dot in a dark rim
    assert not ink[8:28, 8:28].any()


@pytest.mark.parametrize(
    "draw",
    [
        lambda: shapes_figure(cell_anchors([8, 16], [0.5, 1, 2]), "sizes 8 and 16"),
        lambda: best_iou_figure({"a": (np.array([4, 90]), np.array([0.1, 1.0])), "b": (np.ones(3), np.zeros(3))}, 0.5),
        lambda: best_iou_figure({"nothing": (np.zeros(0), np.zeros(0))}, 0.4),
    ],
)
def test_axes_are_labelled_and_nothing_is_clipped(draw):
    figure = drawn_whole(draw)
    assert figure.axes[0].get_xlabel() and figure.axes[0].get_ylabel()


def test_shapes_are_drawn_in_pixels_and_coloured_by_size():
    lines = shapes_figure(cell_anchors([8, 16], [1.0, 4.0])).axes[0].lines
    assert lines[1].get_xydata().tolist() == [[-2, -8], [2, -8], [2, 8], [-2, 8], [-2, -8]]
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color()


def test_every_object_is_a_point():
    sizes, best = np.array([4.0, 8, 16]), np.array([0.1, 0.6, 0.7])
    axes = best_iou_figure({"one": (sizes, best)}, 0.4).axes[0]
    assert axes.lines[0].get_xydata().tolist() == np.stack((sizes, best), 1).tolist()
    assert axes.lines[1].get_ydata()[0] == 0.4
    with pytest.raises(ValueError, match="one: found 3 sizes and 2 IoUs"):
        best_iou_figure({"one": (sizes, best[:2])}, 0.4)
