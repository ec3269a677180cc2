import numpy as np
import pytest
import torch

from course_lib.viz.sheet import GAP, side_by_side


def plain(height, width, value=100):
    return np.full((height, width, 3), value, np.uint8)


def test_pictures_stand_in_rows():
    sheet = side_by_side([plain(10, 20, k) for k in (10, 20, 30)], columns=2)
    assert sheet.size == (20 + GAP + 20, 10 + GAP + 10)
    values = np.asarray(sheet)[..., 0]
    assert (values[:10, :20] == 10).all()
    assert (values[:10, 20 + GAP :] == 20).all()
    assert (values[10 + GAP :, :20] == 30).all()
    assert (values[10 + GAP :, 20:] == 255).all()


def test_by_default_one_row():
    assert side_by_side([plain(10, 20)] * 3).size == (3 * 20 + 2 * GAP, 10)
    assert side_by_side([plain(10, 20)], columns=5).size == (20, 10)


def test_captions_stand_above_and_break_into_lines():
    bare, short = side_by_side([plain(50, 90)]), side_by_side([plain(50, 90)], ["truth"])
    long = side_by_side([plain(50, 90)], ["a caption of several words and averyveryverylongwordwithoutanyspace"])
    assert bare.height < short.height < long.height
    for sheet in (short, long):
        head = np.asarray(sheet)[: sheet.height - 50, :, 0]
        assert (head < 100).any()
        assert (head[:, -1] == 255).all()  # nothing is cut off at the right
        assert (np.asarray(sheet)[-50:] == 100).all()


def test_sizes_and_kinds_may_differ_and_small_ones_grow():
    sheet = side_by_side([torch.zeros(3, 10, 20), plain(30, 10)], scale=2)
    assert sheet.size == (40 + GAP + 40, 60)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="no images"):
        side_by_side([])
    with pytest.raises(ValueError, match="found 1 titles, expected one for each of 2"):
        side_by_side([plain(4, 4)] * 2, ["one"])
