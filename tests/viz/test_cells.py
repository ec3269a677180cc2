import numpy as np
import pytest
import torch
from PIL import ImageColor

from course_lib.viz.cells import draw_cells
from course_lib.viz.palette import MISSED, PAPER, TRUTH

GREY = np.full((40, 80, 3), 120, np.uint8)
APART = [(4, 4, 12, 12), (50, 20, 60, 36)]
TOGETHER = [(4, 0, 12, 8), (6, 1, 14, 9)]


def has(picture, color):
    return bool((np.asarray(picture) == ImageColor.getrgb(color)).all(-1).any())


def test_an_object_is_lost_where_its_cell_is_taken():
    picture = draw_cells(GREY, APART, 4)
    assert picture.size == (320, 160)
    assert has(picture, TRUTH) and not has(picture, MISSED)
    assert has(draw_cells(GREY, TOGETHER, 4), MISSED)  # both centres in the cell from (0, 0) to (20, 10)
    assert not has(draw_cells(GREY, TOGETHER, 40), MISSED)


@pytest.mark.parametrize("boxes", [[], torch.zeros(0, 4)])
def test_without_objects_only_the_grid_is_drawn(boxes):
    pixels = np.asarray(draw_cells(GREY, boxes, 4, scale=2))
    lines = (pixels == ImageColor.getrgb(PAPER)).all(-1)
    assert lines[:, 40].all() and lines[20].all()
    assert lines.sum() == 3 * 80 + 3 * 160 - 9
