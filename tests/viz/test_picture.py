import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from course_lib.viz.picture import enlarge, load_font, text_size, to_picture

RED = np.zeros((2, 3, 3), np.uint8)
RED[..., 0] = 255


@pytest.mark.parametrize(
    "image",
    [
        RED,
        RED / 255,
        torch.from_numpy(RED).permute(2, 0, 1),
        torch.from_numpy(RED).permute(2, 0, 1).float() / 255,
        torch.from_numpy(RED).permute(2, 0, 1).bfloat16() / 255,
        torch.from_numpy(RED).permute(2, 0, 1).float().div(255).requires_grad_(),
        tv_tensors.Image(torch.from_numpy(RED).permute(2, 0, 1)),
        Image.fromarray(RED).convert("RGBA"),
    ],
)
def test_every_kind_of_image_becomes_the_same_picture(image):
    picture = to_picture(image)
    assert picture.mode == "RGB"
    assert picture.size == (3, 2)
    assert (np.asarray(picture) == RED).all()


def test_overshoot_is_clipped():
    assert np.asarray(to_picture(np.full((1, 1, 3), 1.01)))[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(2, 3, 3), r"found shape \(2, 3, 3\), expected \(3, H, W\)"),
        (torch.zeros(1, 3, 4, 4), r"expected \(3, H, W\)"),
        (np.zeros((3, 4, 4)), r"expected \(H, W, 3\)"),
        (np.zeros((0, 4, 3)), "with pixels in it"),
        (np.full((2, 2, 3), 200.0), r"found values 200…200, expected 0…1"),
        (np.full((2, 2, 3), np.nan), "expected 0…1"),
        (np.zeros((2, 2, 3), np.int64), "found int64, expected uint8"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        to_picture(image)


def test_enlarging_keeps_every_pixel_a_square():
    picture, factor = enlarge(to_picture(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)), 3)
    assert factor == 3
    assert (np.asarray(picture) == np.arange(12).reshape(2, 2, 3).repeat(3, 0).repeat(3, 1)).all()


@pytest.mark.parametrize(
    ("size", "factor"), [((128, 128), 4), ((320, 240), 2), ((640, 480), 1), ((2000, 10), 1), ((1, 1), 512)]
)
def test_auto_brings_small_pictures_near_512(size, factor):
    assert enlarge(Image.new("RGB", size))[1] == factor


@pytest.mark.parametrize("scale", [0, 1.5, "large"])
def test_scale_must_be_whole(scale):
    with pytest.raises(ValueError, match="whole number"):
        enlarge(Image.new("RGB", (4, 4)), scale)


def test_text_is_legible_and_knows_letters():
    assert text_size(Image.new("RGB", (128, 64))) == 11
    assert text_size(Image.new("RGB", (640, 480))) == 16
    font = load_font(14)
    unknown = font.getmask("\U0010fffe").getbbox(), bytes(font.getmask("\U0010fffe"))
    assert all((font.getmask(c).getbbox(), bytes(font.getmask(c))) != unknown for c in "aü×–≠…Жé")
