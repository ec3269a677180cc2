"""Augmentation keeps boxes, masks and pixels together, and depends on its generator alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from course_lib.datasets.transforms import (
    IMAGENET_GRAY,
    MIN_SHARE,
    MIN_SIDE,
    Axis,
    eval_transform,
    hflip,
    jitter_color,
    train_transform,
)
from course_lib.ops.masks import masks_to_boxes

FIELDS = ("boxes", "labels", "iscrowd", "area", "masks")


def scene(height: int, width: int, boxes: list[list[int]], masks: bool = True):
    """A black image with a white rectangle for each xyxy box of whole pixels, and its target."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    filled = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(filled, boxes):
        image[:, y1:y2, x1:x2] = 255
        mask[y1:y2, x1:x2] = True
    xyxy = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    target = {
        "boxes": tv_tensors.BoundingBoxes(xyxy, format="XYXY", canvas_size=(height, width)),
        "labels": torch.arange(len(boxes)),
        "iscrowd": torch.zeros(len(boxes), dtype=torch.bool),
        "area": filled.sum((1, 2)).float(),
        "image_id": 7,
    }
    if masks:
        target["masks"] = tv_tensors.Mask(filled)
    return tv_tensors.Image(image), target


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bounds(mask: Tensor) -> Tensor:
    """Box (4,) around the true pixels of a mask (H, W)."""
    return masks_to_boxes(mask[None])[0]


SIDES = st.integers(8, 60)


@st.composite
def scenes(draw):
    height, width = draw(SIDES), draw(SIDES)
    x1, y1 = draw(st.integers(0, width - 4)), draw(st.integers(0, height - 4))
    x2, y2 = draw(st.integers(x1 + 4, width)), draw(st.integers(y1 + 4, height))
    return scene(height, width, [[x1, y1, x2, y2]])


@given(scenes(), st.tuples(SIDES, SIDES), st.integers(0, 10_000))
def test_boxes_and_masks_stay_on_the_object(sample, size, seed):
    image, target = sample
    out, after = train_transform(size, photometric=False)(image, target, generator(seed))
    assert out.shape == (3, *size)
    assert after["boxes"].canvas_size == size
    assert after["masks"].shape[1:] == size
    assert {len(after[field]) for field in FIELDS} == {len(after["boxes"])}
    if len(after["boxes"]) == 0:
        return
    box, mask = after["boxes"][0], after["masks"][0]
    assert (box[:2] >= 0).all()
    assert (box[2:] <= torch.tensor(size[::-1])).all()
    assert (box[2:] - box[:2] >= MIN_SIDE).all()
    assert (bounds(mask) - box).abs().max() <= 0.5 + 1e-3
    assert after["area"][0] == mask.sum()
    if (box[2:] - box[:2]).min() >= 4:  # smaller ones blur into the black around them
        white = (out.amin(0) > 127) & (out != torch.tensor(IMAGENET_GRAY)[:, None, None]).any(0)
        assert (bounds(white) - box).abs().max() <= 1 + 1e-3


@given(scenes(), st.tuples(SIDES, SIDES), st.integers(0, 10_000))
def test_masks_change_no_box_and_no_pixel(sample, size, seed):
    image, target = sample
    transform = train_transform(size)
    with_masks = transform(image, target, generator(seed))
    without = transform(image, {k: v for k, v in target.items() if k != "masks"}, generator(seed))
    assert torch.equal(with_masks[0], without[0])
    if len(with_masks[1]["boxes"]):
        assert torch.equal(with_masks[1]["boxes"], without[1]["boxes"])


def test_the_identity():
    image, target = scene(20, 30, [[3, 4, 10, 12], [0, 0, 30, 20]])
    out, after = train_transform((20, 30), flip=False, scale=(1, 1), photometric=False)(image, target, generator())
    assert torch.equal(out, image)
    for field in FIELDS:
        assert torch.equal(after[field], target[field]), field
    assert after["image_id"] == 7


def test_half_scale_by_hand():
    image, target = scene(20, 20, [[4, 8, 12, 16]])
    out, after = train_transform(20, flip=False, scale=(0.5, 0.5), photometric=False)(image, target, generator(3))
    _, u_y, u_x = torch.rand(7, generator=generator(3)).tolist()[:3]
    top, left = int(u_y * 11), int(u_x * 11)  # the 10-pixel image has 11 places in 20 pixels
    x, y, *_ = after["boxes"][0].tolist()
    assert (x, y) == (left + 2, top + 4)
    assert after["boxes"][0].tolist() == [left + 2, top + 4, left + 6, top + 8]
    assert after["area"].tolist() == [16]
    inside = torch.zeros(20, 20, dtype=torch.bool)
    inside[top : top + 10, left : left + 10] = True
    assert (out[:, ~inside] == torch.tensor(IMAGENET_GRAY)[:, None]).all()
    assert out[:, top, left].tolist() == [0, 0, 0]


def test_double_scale_crops_before_it_resizes():
    image, target = scene(20, 40, [[0, 0, 40, 20]])
    out, after = train_transform((20, 40), flip=False, scale=(2, 2), photometric=False)(image, target, generator(1))
    assert (out == 255).all()  # a window of 10 x 20 pixels, enlarged: no padding
    assert after["boxes"].tolist() == [[0, 0, 40, 20]]
    assert after["area"].tolist() == [800]


def test_objects_that_are_cut_away_leave_every_field(monkeypatch):
    # The window is the middle half of the image: x and y from 10 to 30, where u is one half.
    axis = Axis.draw(40, 40, 2.0, 0.5)
    assert (axis.start, axis.length, axis.new, axis.offset, axis.scale) == (10, 20, 40, 0, 2.0)
    boxes = [
        [0, 0, 9, 9],  # outside
        [12, 12, 20, 20],  # inside
        [2, 12, 12, 20],  # 2 of 10 columns left: a share of 0.2
        [2, 12, 13, 20],  # 3 of 11: 0.27
        [29, 12, 30, 30],  # all inside, 2 pixels wide after scaling
        [10, 10, 11, 11],  # 1 pixel, 2 after
    ]
    image, target = scene(40, 40, boxes)

    monkeypatch.setattr(torch, "rand", lambda n, generator: torch.full((n,), 0.5))
    transform = train_transform(40, flip=False, scale=(2, 2), photometric=False)
    _, after = transform(image, target, generator())
    assert after["labels"].tolist() == [1, 3, 4, 5]
    assert after["boxes"].tolist() == [[4, 4, 20, 20], [0, 4, 6, 20], [38, 4, 40, 40], [0, 0, 2, 2]]
    assert {len(after[field]) for field in FIELDS} == {4}
    assert after["area"].tolist() == [256, 96, 72, 4]
    assert MIN_SHARE == 0.25


def test_areas_without_masks_shrink_with_the_box():
    image, target = scene(40, 40, [[0, 0, 40, 40]], masks=False)
    target["area"] = torch.tensor([800.0])  # half of the box
    _, after = train_transform(40, scale=(2, 2), photometric=False)(image, target, generator())
    assert after["area"].tolist() == [800.0]  # four times as large, a quarter of it visible


def test_an_object_of_area_0_in_the_file_is_kept_without_masks():
    image, target = scene(40, 40, [[0, 0, 40, 40]], masks=False)
    target["area"] = torch.tensor([0.0])
    assert len(train_transform(40)(image, target, generator())[1]["boxes"]) == 1


def test_an_object_whose_mask_is_cut_away_is_dropped():
    image, target = scene(40, 40, [[0, 0, 40, 40]])
    target["masks"] = tv_tensors.Mask(torch.zeros(1, 40, 40, dtype=torch.bool))
    assert len(train_transform(40)(image, target, generator())[1]["boxes"]) == 0


@given(scenes())
def test_flipping_twice_is_the_identity(sample):
    image, target = sample
    once = hflip(image, target)
    assert torch.equal(once[1]["boxes"][0], bounds(once[1]["masks"][0]))
    twice = hflip(*once)
    assert torch.equal(twice[0], image)
    assert torch.equal(twice[1]["boxes"], target["boxes"])
    assert torch.equal(twice[1]["masks"], target["masks"])
    assert isinstance(twice[1]["boxes"], tv_tensors.BoundingBoxes)


def test_flips_happen_half_the_time_or_never():
    image, target = scene(10, 10, [[0, 0, 4, 10]], masks=False)
    for flip, expected in ((True, range(70, 131)), (False, [0])):
        transform, g = train_transform(10, flip=flip, scale=(1, 1), photometric=False), generator()
        flipped = sum(transform(image, target, g)[1]["boxes"][0, 0].item() == 6 for _ in range(200))
        assert flipped in expected


def test_the_generator_decides_everything():
    image, target = scene(30, 50, [[5, 5, 25, 25], [30, 2, 48, 28]])
    transform = train_transform((40, 40))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = transform(image, target, generator(5))
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone
    torch.manual_seed(2)
    second = transform(image, target, generator(5))
    assert torch.equal(first[0], second[0])
    for field in FIELDS:
        assert torch.equal(first[1][field], second[1][field])
    assert not torch.equal(first[0], transform(image, target, generator(6))[0])


def test_every_call_draws_the_same_amount():
    states = []
    for sample, options in (
        (scene(30, 50, [[5, 5, 25, 25]]), {}),
        (scene(1, 1, []), {"flip": False, "photometric": False}),
    ):
        g = generator()
        train_transform(16, **options)(*sample, g)
        states.append(g.get_state())
    assert torch.equal(*states)


def test_the_given_sample_is_not_changed():
    image, target = scene(30, 50, [[5, 5, 25, 25], [30, 2, 48, 28]])
    before = {k: v.clone() if isinstance(v, Tensor) else v for k, v in target.items()}
    pixels = image.clone()
    for seed in range(20):
        train_transform((40, 40))(image, target, generator(seed))
    eval_transform(40)(image, target)
    assert torch.equal(image, pixels)
    assert all(torch.equal(target[field], before[field]) for field in FIELDS)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (50, 1), (3, 200)])
def test_odd_images_without_objects(height, width):
    image, target = scene(height, width, [])
    for seed in range(10):
        out, after = train_transform((24, 32))(image, target, generator(seed))
        assert out.shape == (3, 24, 32)
        assert out.dtype == torch.uint8
        assert after["boxes"].shape == (0, 4)
        assert after["masks"].shape == (0, 24, 32)
        assert after["labels"].shape == after["area"].shape == after["iscrowd"].shape == (0,)
    out, after, scale = eval_transform((24, 32))(image, target)
    assert min(out.shape[1:]) >= 1
    assert scale.shape == (4,)


@given(scenes(), st.tuples(SIDES, SIDES))
def test_evaluation_fits_inside_and_maps_back(sample, size):
    image, target = sample
    out, after, scale = eval_transform(size)(image, target)
    height, width = out.shape[1:]
    assert height <= size[0]
    assert width <= size[1]
    assert height == size[0] or width == size[1]
    exact = min(size[0] / image.shape[1], size[1] / image.shape[2])
    assert abs(height - exact * image.shape[1]) <= 0.5 + 1e-6
    assert abs(width - exact * image.shape[2]) <= 0.5 + 1e-6
    assert torch.allclose(after["boxes"] / scale, target["boxes"].as_subclass(Tensor), atol=1e-3)
    assert after["boxes"].canvas_size == (height, width)
    assert after["masks"].shape == (1, height, width)
    assert torch.equal(out, eval_transform(size)(image)[0])
    assert eval_transform(size)(image)[1] is None


def test_evaluation_drops_no_object():
    image, target = scene(400, 400, [[0, 0, 1, 1]])
    _, after, scale = eval_transform(40)(image, target)
    assert torch.allclose(after["boxes"], torch.tensor([[0, 0, 0.1, 0.1]]))
    assert scale.tolist() == pytest.approx([0.1] * 4)


def test_color_jitter_equals_torchvision_where_nothing_clips():
    image = torch.randint(60, 180, (3, 16, 16), dtype=torch.uint8, generator=generator())
    ours = jitter_color(image, 1.2, 1, 1).int()
    assert (ours - F.adjust_brightness(image, 1.2).int()).abs().max() <= 1
    ours = jitter_color(image, 1, 1, 0.7).int()
    assert (ours - F.adjust_saturation(image, 0.7).int()).abs().max() <= 2  # it rounds the gray first
    assert jitter_color(torch.full((3, 2, 2), 100, dtype=torch.uint8), 1, 0.5, 1)[0, 0, 0] == 114  # halfway to 128
    assert torch.equal(jitter_color(image, 1, 1, 1), image)


def test_color_jitter_clips_and_composes():
    image = torch.tensor([0, 128, 255], dtype=torch.uint8).expand(3, 3)[:, None].contiguous()
    assert jitter_color(image, 1.3, 1.3, 1.3)[0, 0].tolist() == [0, 178, 255]  # 1.69 * 128 - 0.3 * 128 = 177.9
    gray = jitter_color(torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=generator()), 1, 1, 0)
    assert (gray[0].int() - gray[2].int()).abs().max() <= 1  # no saturation: the channels agree


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0.05, 4), st.floats(0, 1, exclude_max=True))
def test_an_axis_stays_within_both_ends(old, size, scale, u):
    axis = Axis.draw(old, size, scale, u)
    assert 0 <= axis.start <= axis.start + axis.length <= old
    assert 0 <= axis.offset <= axis.offset + axis.new <= size
    assert axis.length >= 1
    assert axis.new >= 1
    assert axis.length == old or axis.new == size  # it crops or it pads, not both
    sources = axis.sources
    assert len(sources) == axis.new
    assert axis.start <= sources.min()
    assert sources.max() < axis.start + axis.length
    assert (np.diff(sources) >= 0).all()


def test_wrong_settings():
    for size in (0, (4, 0), (1, 2, 3)):
        with pytest.raises(ValueError, match="size is"):
            train_transform(size)
        with pytest.raises(ValueError, match="size is"):
            eval_transform(size)
    for scale in ((0, 1), (2, 1), (-1, 1)):
        with pytest.raises(ValueError, match="scale is"):
            train_transform(8, scale=scale)
