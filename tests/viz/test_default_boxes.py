import numpy as np
import pytest
import torch

from course_lib.detectors.ssd import DefaultBoxSpec
from course_lib.viz.default_boxes import cell_boxes, matched_boxes
from course_lib.viz.palette import PREDICTION, TRUTH
from tests.viz.fits import drawn_whole

GREY = np.full((32, 48, 3), 120, np.uint8)
SPEC = DefaultBoxSpec(sizes=((8.0, 12.0), (16.0, 22.0)), ratios=((0.5, 2.0), ()), strides=(8, 16))
FOUR = DefaultBoxSpec(sizes=((8.0, 12.0),) * 4, ratios=((),) * 4, strides=(8, 8, 16, 32))
OBJECTS = [(8, 8, 16, 16), (0, 0, 45, 31)]


def frames(axes, color=None):
    """The boxes drawn, as xyxy."""
    lines = [line for line in axes.lines if len(line.get_xdata()) == 5 and line.get_linestyle() != "None"]
    lines = [line for line in lines if color is None or line.get_color() == color]
    return [(min(x), min(y), max(x), max(y)) for x, y in ((line.get_xdata(), line.get_ydata()) for line in lines)]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: cell_boxes(GREY, SPEC),
        lambda: cell_boxes(GREY, FOUR),
        lambda: matched_boxes(GREY, SPEC, OBJECTS),
        lambda: matched_boxes(GREY, FOUR, torch.zeros(0, 4)),
    ],
)
def test_nothing_is_clipped(draw):
    drawn_whole(draw)


def test_one_cells_boxes_and_every_cells_centre():
    fine, coarse = cell_boxes(GREY, SPEC).axes
    # 4×6 cells of 8 px: the one in row 2, column 3 has its centre at (28, 20).
    assert frames(fine)[:2] == [(24, 16, 32, 24), (22, 14, 34, 26)]
    assert len(frames(fine)) == 4
    assert frames(coarse)[0] == (16, 16, 32, 32)  # row 1 of 2, column 1 of 3
    assert [len(axes.lines[0].get_xdata()) for axes in (fine, coarse)] == [24, 6]
    assert fine.get_title(loc="left") == "stride 8\n4 × 6 cells of 4 boxes"


def test_matched_boxes_are_those_of_the_matching():
    fine, coarse = matched_boxes(GREY, SPEC, OBJECTS).axes
    # The first object is the square of a cell, IoU 1; the square of 12 around it reaches 64 / 144, the others 0.55.
    assert (8, 8, 16, 16) in frames(fine, PREDICTION)
    assert len(frames(fine, PREDICTION)) == 3
    # No box overlaps the second one, of 1,395 px², by half; its best is a coarse one.
    assert len(frames(coarse, PREDICTION)) == 1
    assert fine.get_title(loc="left") == "stride 8: 3 of 96 boxes\nlearn 1 of 2 objects"
    assert coarse.get_title(loc="left") == "stride 16: 1 of 12 boxes\nlearn 1 of 2 objects"
    widths = [line.get_linewidth() for line in fine.lines if line.get_color() == TRUTH]
    assert widths[0] > widths[1]  # the object that the level learns, and the other one
    more = matched_boxes(GREY, SPEC, OBJECTS, match_iou=0.4).axes[0]
    assert len(frames(more, PREDICTION)) > 3


def test_without_objects_no_box_is_drawn():
    for axes in matched_boxes(GREY, SPEC, []).axes:
        assert frames(axes) == []
        assert axes.get_title(loc="left").endswith("learn 0 of 0 objects")


def test_panels_without_a_level_stay_empty():
    figure = cell_boxes(GREY, FOUR)
    assert len(figure.axes) == 6
    assert [bool(axes.lines) for axes in figure.axes] == [True] * 4 + [False] * 2
    assert not any(axes.axison for axes in figure.axes)
