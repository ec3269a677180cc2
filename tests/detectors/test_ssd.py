"""SSD: which default box learns what, what that costs, and from scores to a short list."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.detectors.presets import SSD300_TORCHVISION, ResNetSpec, SSDPreset
from course_lib.detectors.presets.ssd import with_between
from course_lib.detectors.ssd import SSD, DefaultBoxSpec, DetectSpec, LossSpec, best_of_each_class
from course_lib.nn.preprocess import InputSpec
from tests.detectors.models import EMPTY, target

SMALL = SSDPreset(
    name="small",
    backbone=ResNetSpec(
        blocks=(1, 1, 1, 1),
        bottleneck=False,
        stem_width=16,  # no fewer: oneDNN's backward of a strided 1×1 convolution on channels-last crashes below 16
        widths=(16, 16, 16, 16),
        stem="3x3",
        norm="batch",
        frozen_stages=0,
    ),
    anchors=DefaultBoxSpec(
        sizes=((8.0, 11.0), (16.0, 22.0), (32.0, 45.0)), ratios=((0.5, 2.0), (0.5,), ()), strides=(8, 16, 32)
    ),
    input=InputSpec(resize="none", size=(64, 64)),
)
# Four default boxes of 10×10 that do not touch.
BOXES = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]])


def small(num_classes: int = 3, *, seed: int = 0, **changes) -> SSD:
    torch.manual_seed(seed)
    return replace(SMALL, **changes).build(num_classes)


def objects(*boxes):
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


# Default boxes


def test_default_boxes_lie_in_the_middle_of_their_cells():
    _, _, anchors = small().dense(torch.rand(1, 3, 64, 96))
    # 8×12 cells of four boxes, 4×6 of three, 2×3 of two.
    assert anchors.shape == (8 * 12 * 4 + 4 * 6 * 3 + 2 * 3 * 2, 4)
    assert anchors[0].tolist() == [0, 0, 8, 8]  # centre (4, 4), half a stride from the corner
    assert anchors[4].tolist() == [8, 0, 16, 8]
    assert anchors[1].tolist() == [-1.5, -1.5, 9.5, 9.5]
    assert anchors[8 * 12 * 4].tolist() == [0, 0, 16, 16]
    assert anchors[-2].tolist() == [64, 32, 96, 64]


def test_default_boxes_are_made_once():
    model = small()
    sizes = [(8, 8), (4, 4), (2, 2)]
    made = model.anchors((64, 64), sizes, torch.device("cpu"))
    assert model.anchors((64, 64), sizes, torch.device("cpu")) is made
    assert model.anchors((64, 96), sizes, torch.device("cpu")) is not made


def test_the_size_between_two_levels():
    assert with_between([2.0, 8.0, 32.0]) == ((2.0, 4.0), (8.0, 16.0))
    # The first level's own scale, 0.07 of 300; the last second square, √(0.87 · 1.05) · 300.
    sizes = SSD300_TORCHVISION.anchors.sizes
    assert sizes[0] == pytest.approx((21, 30.7409), abs=1e-4)
    assert sizes[5] == pytest.approx((261, 286.7316), abs=1e-4)


def test_levels_that_do_not_agree():
    with pytest.raises(ValueError, match="found 2 sizes, 1 ratios and 2 strides, expected one of each a level"):
        DefaultBoxSpec(sizes=((8, 9), (16, 18)), ratios=((),), strides=(8, 16))
    two = DefaultBoxSpec(sizes=((8, 9), (16, 18)), ratios=((), ()), strides=(8, 16))
    with pytest.raises(ValueError, match="default boxes of 2 levels for a backbone of 3 levels"):
        small(anchors=two)


# Losses on outputs that can be worked out by hand


def losses(boxes, labels, *, logits=None, deltas=None, classes=1, **spec):
    """Losses on the four boxes; without logits every class and background are alike."""
    model = small(classes, loss=LossSpec(**spec))
    count = len(boxes)
    logits = torch.zeros(count, 4, classes + 1) if logits is None else torch.tensor(logits)
    deltas = torch.zeros(count, 4, 4) if deltas is None else torch.tensor(deltas)
    found = model.losses(logits, deltas, BOXES, boxes, [torch.tensor(x).long() for x in labels])
    return {name: value.item() for name, value in found.items()}


def test_losses_by_hand():
    # One box on an object, so three negatives; every cross entropy is log 2. The box is exact.
    found = losses([objects([0, 0, 10, 10])], [[0]])
    assert found == {"classification": pytest.approx(4 * math.log(2)), "bbox_regression": 0}
    found = losses([objects([0, 0, 10, 10])], [[0]], negatives=2)
    assert found["classification"] == pytest.approx(3 * math.log(2))


def test_only_the_hardest_background_counts():
    # Background logits over the object's logit 0: of the three negatives the one least sure is learnt.
    logits = [[[0.0, 0.0], [0.0, 3.0], [0.0, 1.0], [0.0, 2.0]]]
    found = losses([objects([0, 0, 10, 10])], [[0]], logits=logits, negatives=1)
    assert found["classification"] == pytest.approx(math.log(2) + math.log(1 + math.exp(-1)))


def test_each_image_has_its_own_negatives_and_the_batch_one_normalizer():
    # Image 0: one on an object, one negative. Image 1: two and two. Image 2: nothing.
    boxes = [objects([0, 0, 10, 10]), objects([20, 0, 30, 10], [60, 0, 70, 10]), objects()]
    found = losses(boxes, [[0], [0, 0], []], negatives=1)
    assert found["classification"] == pytest.approx(6 * math.log(2) / 3)


def test_the_class_that_is_learnt():
    logits = [[[0.0, 9.0, 0.0], [0.0, 0.0, 9.0], [0.0, 0.0, 9.0], [0.0, 0.0, 9.0]]]
    right = losses([objects([0, 0, 10, 10])], [[1]], logits=logits, classes=2)
    wrong = losses([objects([0, 0, 10, 10])], [[0]], logits=logits, classes=2)
    assert right["classification"] < 0.01
    assert wrong["classification"] == pytest.approx(9, abs=0.01)


@pytest.mark.parametrize(
    "spec, wanted",
    [
        # The object is 5 px right of its box of 10: dx 0.5, scaled 5; smooth L1 with beta 1 is 4.5.
        ({}, 4.5),
        ({"box_weight": 2.0}, 9.0),
        ({"beta": 10.0}, 5 * 5 / 20),
        ({"box": "l1"}, 5.0),
        ({"box": "smooth_l1", "delta_weights": (1.0, 1.0, 1.0, 1.0)}, 0.125),
        ({"box": "giou"}, 1 - 1 / 3),
    ],
)
def test_box_losses_by_hand(spec, wanted):
    found = losses([objects([5, 0, 15, 10])], [[0]], **spec)  # IoU ⅓: its best box all the same
    assert found["bbox_regression"] == pytest.approx(wanted, rel=1e-5)


def test_the_threshold_of_matching():
    # IoU 0.6 with box 0, its best; box 1 is the best of a second object at 0.3.
    boxes = [objects([0, 0, 10, 6], [20, 0, 30, 3])]
    assert losses(boxes, [[0, 0]])["classification"] == pytest.approx(4 * math.log(2) / 2)
    # IoU 0.6 with box 0 and 48/112 with box 1, which learns it from 0.4 on: one and three negatives, or two and two.
    wide = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [40, 0, 50, 10], [60, 0, 70, 10]])
    for threshold, positives in ((0.5, 1), (0.4, 2)):
        model = small(1, loss=LossSpec(match_iou=threshold))
        zeros = torch.zeros(1, 4, 2), torch.zeros(1, 4, 4)
        found = model.losses(*zeros, wide, [objects([0, 0, 10, 6])], [torch.tensor([0])])
        assert found["classification"].item() == pytest.approx(4 * math.log(2) / positives)


@pytest.mark.parametrize("box", ["smooth_l1", "giou"])
@pytest.mark.parametrize(
    "targets",
    [
        [target([[4, 4, 20, 20]], [1]), EMPTY],
        [EMPTY, EMPTY],
        [target([[0, 0, 40, 48]] * 60, [i % 3 for i in range(60)]), target([[3, 5, 4, 6], [39, 47, 40, 48]], [0, 2])],
    ],
    ids=["one empty", "all empty", "all on one spot, and a pixel"],
)
def test_losses_and_gradients_are_finite(box, targets):
    model = small(loss=LossSpec(box=box))
    generator = torch.Generator().manual_seed(0)
    found = model([torch.rand(3, 48, 40, generator=generator) for _ in targets], targets)
    assert set(found) == {"classification", "bbox_regression"}
    empty = all(len(t["boxes"]) == 0 for t in targets)
    assert all((value.item() == 0) == empty for value in found.values())
    sum(found.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_the_gradient_is_that_of_differences():
    model = small(2).double()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    deltas = torch.randn(1, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)

    def total(logits, deltas):
        boxes, labels = [objects([3, 1, 12, 11])], [torch.tensor([1])]
        return sum(model.losses(logits, deltas, BOXES, boxes, labels).values())

    # Losses are computed in float32, so that a step of 1e-2 is the finest that shows.
    assert torch.autograd.gradcheck(total, (logits, deltas), eps=1e-2, atol=2e-2, rtol=2e-2)


# Detections


def detect(logits, boxes, *, size=(20, 20), output=None, **spec):
    """Detections on given boxes with deltas 0; logits (A, 3) of two classes and background."""
    model = small(2, detect=DetectSpec(**spec))
    boxes = torch.tensor(boxes, dtype=torch.float32)
    return model.detect(torch.tensor(logits), torch.zeros(len(boxes), 4), boxes, size, output or size)


def test_scores_are_a_softmax_without_background():
    found = detect([[math.log(2), math.log(1), math.log(5)]], [[2.0, 2, 12, 12]])
    assert found["labels"].tolist() == [0, 1]
    assert found["scores"].tolist() == pytest.approx([2 / 8, 1 / 8])
    assert found["boxes"].tolist() == [[2, 2, 12, 12]] * 2


def test_nms_is_by_class():
    box, low = [2.0, 2, 12, 12], -9.0
    found = detect([[low, 3.0, 0.0], [2.0, low, 0.0], [1.0, low, 0.0]], [box, box, box])
    assert found["labels"].tolist() == [1, 0]


def test_limits():
    boxes = [[2.0 * i, 0, 2 * i + 1, 1] for i in range(9)]
    logits = [[i / 2, -9.0, 0.0] for i in range(9)]
    assert detect(logits, boxes, detections=3)["boxes"][:, 0].tolist() == [16, 14, 12]
    assert len(detect(logits, boxes, topk=5)["boxes"]) == 5
    assert len(detect(logits, boxes, score=0.9)["boxes"]) == 4  # σ(2.5) = 0.924 and above


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_the_best_of_each_class(seed, count):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 9, (20,), generator=generator) / 8  # with many equals
    labels = torch.randint(0, 4, (20,), generator=generator) * 2  # and classes without any
    wanted = []
    for label in range(7):
        mine = (labels == label).nonzero().flatten()
        wanted.append(mine[scores[mine].argsort(descending=True, stable=True)][:count])
    assert torch.equal(best_of_each_class(scores, labels, count), torch.cat(wanted))


def test_the_best_of_nothing():
    assert best_of_each_class(torch.zeros(0), torch.zeros(0, dtype=torch.int64), 5).shape == (0,)


def test_boxes_are_clipped_before_nms():
    # Cut at the border the two are the same box; uncut their IoU is 400 / 2400.
    boxes, logits = [[-100.0, 0, 20, 20], [0, 0, 20, 20]], [[2.0, -9.0, 0.0], [1.0, -9.0, 0.0]]
    assert detect(logits, boxes)["boxes"].tolist() == [[0, 0, 20, 20]]
    assert detect(logits, boxes, output=(10, 40))["boxes"].tolist() == [[0, 0, 40, 10]]


def test_nothing_found():
    found = detect([[-9.0, -9.0, 0.0]], [[0.0, 0, 5, 5]])
    assert {k: tuple(v.shape) for k, v in found.items()} == {"boxes": (0, 4), "labels": (0,), "scores": (0,)}


@pytest.mark.parametrize("resize", ["none", "fit", "stretch_float"])
@torch.no_grad()
def test_detections_lie_in_the_image_that_was_given(resize):
    model = small(input=InputSpec(resize=resize, size=(64, 96))).eval()
    generator = torch.Generator().manual_seed(0)
    sizes = [(40, 70), (90, 33), (1, 1)]
    found = model([torch.rand(3, *size, generator=generator) for size in sizes])
    assert len(found) == 3
    for output, (height, width) in zip(found, sizes):
        boxes, scores = output["boxes"], output["scores"]
        assert 0 < len(boxes) <= 200
        assert boxes.min() >= 0
        assert boxes[:, 2].max() <= width * (1 + 1e-6)
        assert boxes[:, 3].max() <= height * (1 + 1e-6)
        assert torch.equal(scores, scores.sort(descending=True).values)
        assert output["labels"].dtype == torch.int64
        assert set(output["labels"].tolist()) <= {0, 1, 2}


@torch.no_grad()
def test_a_batch_is_its_images_one_by_one_and_may_be_a_tensor_or_a_copy():
    model = small().eval()
    images = [torch.rand(3, 64, 64), torch.rand(3, 64, 64)]
    together, alone, tensor = model(images), [model([x])[0] for x in images], model(torch.stack(images))
    copied = copy.deepcopy(model)(images)
    for a, b, c, d in zip(together, alone, tensor, copied):
        for key in a:
            torch.testing.assert_close(a[key], b[key])
            torch.testing.assert_close(a[key], c[key])
            assert torch.equal(a[key], d[key])


@torch.no_grad()
def test_output_sizes():
    model = small().eval()
    image = torch.rand(3, 40, 60)
    plain, doubled = model([image])[0], model([image], output_sizes=[(80, 180)])[0]
    torch.testing.assert_close(doubled["boxes"], plain["boxes"] * torch.tensor([3.0, 2, 3, 2]))


# The whole model


def test_targets_follow_the_resized_image():
    """Boxes are given in the pixels of the image; the network sees it twice as wide and three times as high."""
    image = torch.rand(3, 20, 32)
    spec = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    larger = torch.nn.functional.interpolate(image[None], (60, 64), mode="bilinear", align_corners=False)[0]
    resizing = small(input=InputSpec(resize="stretch_float", size=(60, 64), divisor=1, **spec))
    plain = small(input=InputSpec(resize="none", divisor=1, **spec))
    a = resizing([image], [target([[3, 4, 14, 16]], [1])])
    b = plain([larger], [target([[6, 12, 28, 48]], [1])])
    for name in a:
        torch.testing.assert_close(a[name], b[name])


@pytest.mark.parametrize(
    "targets, message",
    [
        (None, "training needs one target per image: 1 images, targets None"),
        ([target([[8, 0, 5, 5]], [0])], "image 0, box 0: .* expected x1 < x2, y1 < y2"),
        ([target([[0, 0, 5, 5]], [3])], r"image 0: labels \[3\], expected 0 … 2"),
    ],
)
def test_targets_that_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        small()([torch.rand(3, 64, 64)], targets)
