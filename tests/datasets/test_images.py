"""Reading image files of every kind that turns up in data sets."""

import numpy as np
import pytest
from PIL import Image

from course_lib.datasets.images import WrongSize, read_image, scaled_size, upright_size

RAMP = np.arange(12 * 9 * 3, dtype=np.uint8).reshape(9, 12, 3)


@pytest.mark.parametrize(
    ("height", "width", "limit", "wanted"),
    [(480, 640, None, (480, 640)), (480, 640, 640, (480, 640)), (480, 640, 320, (240, 320)),
     (100, 50, 200, (100, 50)), (1, 1000, 10, (1, 10)), (3, 7, 5, (2, 5))],
)  # fmt: skip
def test_scaled_size_never_enlarges(height, width, limit, wanted):
    assert scaled_size(height, width, limit) == wanted


def test_rgb_is_read_as_it_is(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png", expected=(9, 12))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, RAMP)
    pixels[0] = 0  # writable


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA"])
def test_modes_become_rgb(tmp_path, mode):
    image = Image.fromarray(RAMP).convert(mode)
    image.save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    assert pixels.shape == (9, 12, 3)
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))


def test_alpha_is_dropped_not_blended(tmp_path):
    Image.fromarray(np.full((2, 2, 4), (10, 20, 30, 0), dtype=np.uint8)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(("dtype", "name"), [("<u2", "a.png"), (">u2", "a.tif"), ("<i4", "a.tif")])
def test_sixteen_bits_keep_the_upper_eight(tmp_path, dtype, name):
    Image.fromarray(np.array([[0, 255, 256, 65535]], dtype=dtype)).save(tmp_path / name)
    assert read_image(tmp_path / name)[0, :, 0].tolist() == [0, 0, 1, 255]


def test_one_pixel(tmp_path):
    Image.new("L", (1, 1), 7).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", max_size=1).tolist() == [[[7, 7, 7]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=exif)
    turned = {  # what a viewer shows, in numpy's words (EXIF 2.3, tag 0x0112)
        1: RAMP, 2: RAMP[:, ::-1], 3: RAMP[::-1, ::-1], 4: RAMP[::-1], 5: RAMP.transpose(1, 0, 2),
        6: np.rot90(RAMP, -1), 7: RAMP[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(RAMP),
    }[orientation]  # fmt: skip
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), turned)
    with Image.open(tmp_path / "a.png") as image:
        assert upright_size(image) == turned.shape[:2]


def test_a_rotated_large_jpeg_is_scaled_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, shown turned clockwise
    stored = np.zeros((300, 800, 3), dtype=np.uint8)
    stored[:, :400] = 255  # left half white: the upper half once upright
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=exif, quality=95)
    pixels = read_image(tmp_path / "a.jpg", max_size=100, expected=(800, 300))
    assert pixels.shape == (100, 38, 3)
    assert pixels[:48].min() > 245
    assert pixels[52:].max() < 10


def test_annotations_of_the_stored_pixels_get_the_stored_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", expected=RAMP.shape[:2]), RAMP)
    assert read_image(tmp_path / "a.png", expected=RAMP.shape[1::-1]).shape[:2] == RAMP.shape[1::-1]


def test_another_size_names_both(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    with pytest.raises(WrongSize, match=r"a\.png: the file is 12x9, its record says 7x8; correct"):
        read_image(tmp_path / "a.png", expected=(8, 7))


def test_files_that_are_no_images(tmp_path):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"gone\.png: no such image file"):
        read_image(tmp_path / "gone.png")
    (tmp_path / "text.png").write_text("not an image")
    for name in ("a.png", "a.jpg"):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    (tmp_path / "zero.png").write_bytes(b"")
    for name in ("text.png", "a.png", "a.jpg", "zero.png"):
        with pytest.raises(ValueError, match=rf"{name}: not a readable image .*replace the file"):
            read_image(tmp_path / name)
