import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from course_lib.panoptic.format import LARGEST_ID, ids_to_rgb, read_ids, rgb_to_ids, write_ids

IDS = arrays.arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, LARGEST_ID))


def test_the_colour_of_an_id():
    # 16757838 = 0xFFB44E: red is the lowest byte.
    assert ids_to_rgb(np.array([[16757838, 0]])).tolist() == [[[0x4E, 0xB4, 0xFF], [0, 0, 0]]]
    assert rgb_to_ids(np.array([[[1, 2, 3]]], np.uint8)).tolist() == [[1 + 2 * 256 + 3 * 65536]]


@given(IDS)
def test_there_and_back(ids):
    assert np.array_equal(rgb_to_ids(ids_to_rgb(ids)), ids)


@pytest.mark.parametrize("ids", [[[-1]], [[LARGEST_ID + 1]]])
def test_an_id_that_three_bytes_cannot_hold(ids):
    with pytest.raises(ValueError, match=r"ids from .*: expected 0 … 16777215"):
        ids_to_rgb(np.array(ids))


def test_no_pixels():
    assert ids_to_rgb(np.zeros((0, 4), int)).shape == (0, 4, 3)


def test_a_file_there_and_back(tmp_path):
    ids = np.random.default_rng(0).integers(0, LARGEST_ID, (37, 53), dtype=np.int32)
    write_ids(tmp_path / "a.png", ids)
    found = read_ids(tmp_path / "a.png")
    assert found.dtype == np.int32
    assert np.array_equal(found, ids)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_files_that_are_no_panoptic_png(tmp_path):
    with pytest.raises(ValueError, match=r"none\.png: no such panoptic PNG"):
        read_ids(tmp_path / "none.png")
    Image.new("P", (4, 4)).save(tmp_path / "palette.png")
    with pytest.raises(ValueError, match=r"palette\.png: mode is P, expected RGB with id = R \+ 256 G \+ 65536 B"):
        read_ids(tmp_path / "palette.png")
    write_ids(tmp_path / "half.png", np.ones((30, 30), int))
    (tmp_path / "half.png").write_bytes((tmp_path / "half.png").read_bytes()[:50])
    with pytest.raises(ValueError, match=r"half\.png: not readable as a picture"):
        read_ids(tmp_path / "half.png")
