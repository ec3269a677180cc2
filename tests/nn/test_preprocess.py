import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from course_lib.nn.preprocess import RESIZES, InputSpec, Preprocess, network_size, rescale_boxes
from tests.nn.randomise import random_images

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def preprocess(images, **spec):
    return Preprocess(InputSpec(**PLAIN | spec))(images)


def to_bytes(image):
    return (image * 255).round().to(torch.uint8)


def test_normalising_by_hand():
    image = torch.tensor([0.2, 0.4, 0.6]).reshape(3, 1, 1)
    found = preprocess([image], mean=(0.1, 0.2, 0.3), std=(0.1, 0.5, 1.0), divisor=1).images
    torch.testing.assert_close(found.flatten(), torch.tensor([1.0, 0.4, 0.3]))


def test_bgr_and_the_scale_of_255():
    image = torch.tensor([0.0, 0.2, 1.0]).reshape(3, 1, 1)  # red, green, blue
    spec = {"mean": (5.0, 1.0, 0.0), "std": (2.0, 1.0, 1.0), "bgr": True, "scale": 255.0, "divisor": 1}
    wanted = [(255 - 5) / 2, 51 - 1, 0]  # blue first
    assert preprocess([image], **spec).images.flatten().tolist() == pytest.approx(wanted)
    assert preprocess([to_bytes(image)], **spec).images.flatten().tolist() == wanted


@pytest.mark.parametrize("scale", [1.0, 255.0])
@pytest.mark.parametrize("resize", RESIZES)
def test_bytes_are_the_floats_times_255(resize, scale):
    pixels = to_bytes(random_images((20, 31))[0])
    spec = {"resize": resize, "size": (40, 50), "scale": scale}
    torch.testing.assert_close(
        preprocess([pixels], **spec).images, preprocess([pixels / 255], **spec).images, rtol=1e-5, atol=1e-5 * scale
    )


def test_padding_is_zero_after_normalising_and_a_multiple_of_the_divisor():
    batch = preprocess(random_images((33, 20), (10, 64)), mean=(0.5, 0.5, 0.5))
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.sizes == batch.original_sizes == [(33, 20), (10, 64)]
    for image, (height, width) in zip(batch.images, batch.sizes):
        assert image[:, :height, :width].abs().min() > 0
        assert image[:, height:].abs().sum() == image[:, :, width:].abs().sum() == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_batch_tensor_is_not_resized(dtype):
    images = torch.stack(random_images((40, 40), (40, 40)))
    images = to_bytes(images) if dtype == torch.uint8 else images
    batch = preprocess(images, resize="fit", size=(128, 128), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    one_by_one = preprocess(list(images), resize="none", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    assert batch.images.shape == (2, 3, 64, 64)
    torch.testing.assert_close(batch.images, one_by_one.images)
    assert batch.sizes == batch.original_sizes == [(40, 40)] * 2


def test_fit():
    # 40×80 into 128×128: the factor is 1.6.
    batch = preprocess(random_images((40, 80), (128, 64), (200, 10)), resize="fit", size=(128, 128))
    assert batch.sizes == [(64, 128), (128, 64), (128, 6)]
    assert batch.original_sizes == [(40, 80), (128, 64), (200, 10)]
    assert batch.images.shape == (3, 3, 128, 128)


def test_fit_leaves_an_image_of_the_right_size_alone():
    (image,) = random_images((32, 20))
    assert torch.equal(preprocess([image], resize="fit", size=(32, 64)).images[0, :, :, :20], image)


def test_fit_averages_when_it_shrinks():
    image = torch.zeros(3, 8, 64)
    image[:, :, ::2] = 1.0  # stripes of one pixel: without antialiasing they would alias to black or white
    found = preprocess([to_bytes(image)], resize="fit", size=(2, 16), divisor=1).images
    assert found.shape == (1, 3, 2, 16)
    assert (found[..., 2:-2] - 0.5).abs().max() < 0.05


@pytest.mark.parametrize("size", [(97, 131), (333, 500), (240, 77), (401, 399), (50, 640), (1, 1)])
def test_shortest_float_is_torchvisions(size):
    (image,) = random_images(size)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    theirs, _ = GeneralizedRCNNTransform(160, 250, mean, std)([image.clone()])
    ours = Preprocess(InputSpec(resize="shortest_float", size=(160, 250)))([image])
    assert ours.sizes == theirs.image_sizes
    assert torch.equal(ours.images, theirs.tensors)


@pytest.mark.parametrize("size", [(97, 131), (300, 500), (1, 1)])
def test_stretch_float_is_torchvisions(size):
    (image,) = random_images(size)
    mean, std = [0.48, 0.45, 0.4], [1 / 255] * 3
    theirs, _ = GeneralizedRCNNTransform(90, 120, mean, std, size_divisible=1, fixed_size=(120, 90))([image.clone()])
    spec = InputSpec(mean=tuple(mean), std=tuple(std), resize="stretch_float", size=(90, 120), divisor=1)
    ours = Preprocess(spec)([image])
    assert ours.sizes == theirs.image_sizes == [(90, 120)]  # torchvision's fixed_size is (width, height)
    assert ours.original_sizes == [size]
    assert torch.equal(ours.images, theirs.tensors)


def detectron2_size(height, width, short, limit):
    """Detectron2's rule: scale by the shorter side, then once more if the longer one is too long."""
    scale = short / min(height, width)
    new = (short, scale * width) if height < width else (scale * height, short)
    if max(new) > limit:
        again = limit / max(new)
        new = (new[0] * again, new[1] * again)
    return int(new[0] + 0.5), int(new[1] + 0.5)


@given(st.integers(1, 300), st.integers(1, 300))
def test_sizes_of_shortest_uint8_are_detectron2s(height, width):
    batch = preprocess([torch.zeros(3, height, width, dtype=torch.uint8)], resize="shortest_uint8", size=(40, 70))
    wanted = detectron2_size(height, width, 40, 70)
    assert batch.sizes == [tuple(max(1, side) for side in wanted)]


def test_shortest_uint8_resizes_bytes_through_pillow():
    pixels = to_bytes(random_images((60, 90))[0])
    found = preprocess([pixels], resize="shortest_uint8", size=(40, 70), scale=255.0, divisor=1)
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((60, 40), Image.Resampling.BILINEAR)
    assert found.sizes == [(40, 60)]
    assert torch.equal(found.images[0], torch.from_numpy(np.array(picture)).permute(2, 0, 1).float())


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("size", [(30, 90), (97, 31), (1, 40)])
def test_the_size_is_known_without_an_image(resize, size):
    (image,) = random_images(size)
    batch = preprocess([image], resize=resize, size=(64, 100))
    assert batch.sizes == [network_size(size, InputSpec(resize=resize, size=(64, 100)))]


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_images_of_one_pixel(resize, size):
    (image,) = random_images(size)
    batch = preprocess([image], resize=resize, size=(64, 64))
    assert torch.isfinite(batch.images).all()
    assert min(batch.sizes[0]) >= 1
    assert batch.original_sizes == [size]


@pytest.mark.parametrize("shape", [(20, 30), (1, 20, 30), (4, 20, 30), (20, 30, 3), (3, 0, 30), (3, 20, 0)])
def test_what_is_no_image(shape):
    with pytest.raises(ValueError, match=r"image 1 has shape \(.*\): expected \(3, H, W\) with H, W ≥ 1"):
        preprocess([torch.rand(3, 8, 8), torch.rand(shape)])


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.int16])
def test_what_is_no_pixel(dtype):
    with pytest.raises(ValueError, match=rf"image 0 is {dtype}: expected float in 0 … 1 or uint8"):
        preprocess([torch.ones(3, 8, 8, dtype=dtype)])


def test_a_batch_tensor_is_checked_too():
    with pytest.raises(ValueError, match=r"image 0 has shape \(1, 8, 8\)"):
        preprocess(torch.rand(2, 1, 8, 8))
    with pytest.raises(ValueError, match=r"image 0 is torch\.int64"):
        preprocess(torch.ones(2, 3, 8, 8, dtype=torch.int64))


def test_one_image_without_a_list_is_no_batch():
    with pytest.raises(ValueError, match=r"image 0 has shape \(8, 9\)"):
        preprocess(torch.rand(3, 8, 9))


def test_unknown_resize():
    with pytest.raises(ValueError, match=r"resize must be one of none, fit, stretch_float, .*, not 'crop'"):
        Preprocess(InputSpec(resize="crop"))


def test_statistics_are_no_weights():
    assert not Preprocess(InputSpec()).state_dict()


def test_rescale_boxes():
    # Half as high, three times as wide.
    boxes = torch.tensor([[10.0, 20, 30, 40], [0, 0, 100, 50]])
    assert rescale_boxes(boxes, (50, 100), (25, 300)).tolist() == [[30, 10, 90, 20], [0, 0, 300, 25]]
    assert rescale_boxes(boxes[:0], (50, 100), (25, 300)).shape == (0, 4)


@given(st.tuples(st.integers(1, 900), st.integers(1, 900)), st.tuples(st.integers(1, 900), st.integers(1, 900)))
def test_rescaling_there_and_back(a, b):
    boxes = torch.tensor([[1.0, 2, 30, 40]])
    torch.testing.assert_close(rescale_boxes(rescale_boxes(boxes, a, b), b, a), boxes)
    whole = torch.tensor([[0.0, 0, a[1], a[0]]])
    torch.testing.assert_close(rescale_boxes(whole, a, b), torch.tensor([[0.0, 0, b[1], b[0]]]))


def test_fit_is_a_bilinear_antialiased_resize():
    (image,) = random_images((30, 40))
    wanted = F.interpolate(image[None], (15, 20), mode="bilinear", antialias=True, align_corners=False)
    assert torch.equal(preprocess([image], resize="fit", size=(15, 40), divisor=1).images, wanted)
