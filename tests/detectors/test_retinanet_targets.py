"""Which anchor learns what, and what it costs."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from course_lib.detectors.anchor_pyramid import AnchorSpec
from course_lib.detectors.retinanet import LossSpec
from course_lib.detectors.targets import MatchSpec, assign, check_targets
from course_lib.nn.preprocess import InputSpec
from course_lib.ops.losses import box_loss
from course_lib.ops.matching import BACKGROUND, IGNORED
from tests.detectors.models import EMPTY, small, target

# Four anchors of 10×10 that do not touch.
ANCHORS = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]])
POSITIVE = 0.25 * 0.25 * math.log(2)  # focal loss at logit 0: α (1 − ½)² ln 2
NEGATIVE = 0.75 * 0.25 * math.log(2)


def objects(*boxes):
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


# Assignment


def test_assign_by_hand():
    # Anchor 0 is its object. Anchor 1 overlaps one object at 0.45 and is another. Anchor 2: 0.3, its object's best.
    first = objects([0, 0, 10, 10], [20, 0, 24.5, 10], [20, 0, 30, 10], [40, 0, 43, 10])
    labels, boxes = assign(ANCHORS, [first], [torch.tensor([7, 5, 6, 3])], MatchSpec())
    assert labels.tolist() == [[7, 6, 3, BACKGROUND]]
    assert boxes.tolist() == [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 43, 10]]


def test_assign_without_low_quality_matches():
    found = assign(
        ANCHORS,
        [objects([0, 0, 4.5, 10], [40, 0, 43, 10])],
        [torch.tensor([7, 3])],
        MatchSpec(low_quality=False),
    )
    assert found[0].tolist() == [[IGNORED, BACKGROUND, BACKGROUND, BACKGROUND]]
    assert found[1].shape == (0, 4)


def test_assign_a_batch_of_unequal_counts():
    boxes = [objects([20, 0, 30, 10]), objects(), objects([60, 0, 70, 10], [0, 0, 10, 10])]
    labels = [torch.tensor([4]), torch.zeros(0, dtype=torch.int64), torch.tensor([1, 2])]
    found, matched = assign(ANCHORS, boxes, labels, MatchSpec())
    assert found.tolist() == [[-1, 4, -1, -1], [-1, -1, -1, -1], [2, -1, -1, 1]]
    # Row by row, anchor by anchor: image 2's anchor 0 comes before its anchor 3.
    assert matched.tolist() == [[20, 0, 30, 10], [0, 0, 10, 10], [60, 0, 70, 10]]


def test_assign_nothing_at_all():
    found, matched = assign(ANCHORS, [objects(), objects()], [torch.zeros(0, dtype=torch.int64)] * 2, MatchSpec())
    assert found.tolist() == [[BACKGROUND] * 4] * 2
    assert matched.shape == (0, 4)


def test_assign_where_a_whole_group_of_images_is_empty(monkeypatch):
    monkeypatch.setattr("course_lib.detectors.targets.CHUNK", 1)  # one image at a time
    boxes, labels = [objects([20, 0, 23, 10]), objects()], [torch.tensor([4]), torch.zeros(0, dtype=torch.int64)]
    found, matched = assign(ANCHORS, boxes, labels, MatchSpec())
    assert found.tolist() == [[-1, 4, -1, -1], [-1, -1, -1, -1]]
    assert matched.tolist() == [[20, 0, 23, 10]]


def random_objects(count, generator):
    corner = torch.rand(count, 2, generator=generator) * 50
    return torch.cat((corner, corner + 2 + torch.rand(count, 2, generator=generator) * 30), 1)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(0, 1000), st.booleans())
def test_assign_is_torchvisions_loop(counts, seed, low_quality):
    generator = torch.Generator().manual_seed(seed)
    anchors = random_objects(40, generator)
    boxes = [random_objects(n, generator) for n in counts]
    labels = [torch.randint(0, 9, (n,), generator=generator) for n in counts]
    found, matched = assign(anchors, boxes, labels, MatchSpec(low_quality=low_quality))
    wanted_boxes = []
    matcher = Matcher(0.5, 0.4, allow_low_quality_matches=low_quality)
    for row, image_boxes, image_labels in zip(found, boxes, labels):
        if len(image_boxes):
            index = matcher(box_iou(image_boxes, anchors))
        else:
            index = torch.full((40,), BACKGROUND)
        wanted = torch.where(index >= 0, image_labels[index.clamp(min=0)] if len(image_labels) else index, index)
        assert torch.equal(row, wanted)
        wanted_boxes.append(image_boxes[index[index >= 0]])
    assert torch.equal(matched, torch.cat(wanted_boxes))


@pytest.mark.parametrize("chunk", [1, 100, 10**6])
def test_assign_in_pieces_of_any_size(monkeypatch, chunk):
    generator = torch.Generator().manual_seed(0)
    anchors = random_objects(40, generator)
    boxes = [random_objects(n, generator) for n in (3, 0, 5, 1, 1)]
    labels = [torch.randint(0, 9, (len(b),), generator=generator) for b in boxes]
    one_by_one = [assign(anchors, [b], [x], MatchSpec()) for b, x in zip(boxes, labels)]
    monkeypatch.setattr("course_lib.detectors.targets.CHUNK", chunk)
    found, matched = assign(anchors, boxes, labels, MatchSpec())
    assert torch.equal(found, torch.cat([row for row, _ in one_by_one]))
    assert torch.equal(matched, torch.cat([rows for _, rows in one_by_one]))


# Losses on outputs that can be worked out by hand


def losses(boxes, labels, deltas, **spec):
    """Losses for two images with logits 0 on the four anchors and one class; deltas one number an image."""
    model = small(1, loss=LossSpec(**spec))
    outputs = torch.zeros(2, 4, 1, requires_grad=True), torch.tensor(deltas).reshape(2, 1, 1).expand(2, 4, 4)
    found = model.losses(*outputs, ANCHORS, boxes, [torch.tensor(x, dtype=torch.int64) for x in labels])
    return model, {name: value.item() for name, value in found.items()}


@pytest.mark.parametrize(
    "normalizer, classification, regression",
    [
        # Image 0 has one positive, image 1 two. L1 is 4 · 1 for the first and 4 · 2 for each of the others.
        ("image", ((POSITIVE + 3 * NEGATIVE) / 1 + (2 * POSITIVE + 2 * NEGATIVE) / 2) / 2, (4 / 1 + 16 / 2) / 2),
        ("batch", (3 * POSITIVE + 5 * NEGATIVE) / 3, (4 + 16) / 3),
        ("ema", (3 * POSITIVE + 5 * NEGATIVE) / 90.3, (4 + 16) / 90.3),  # 0.9 · 100 + 0.1 · 3
    ],
)
def test_normalizers(normalizer, classification, regression):
    boxes = [objects([0, 0, 10, 10]), objects([20, 0, 30, 10], [60, 0, 70, 10])]
    _, found = losses(boxes, [[0], [0, 0]], [1.0, 2.0], normalizer=normalizer)
    assert found["classification"] == pytest.approx(classification, rel=1e-5)
    assert found["bbox_regression"] == pytest.approx(regression, rel=1e-5)


def test_the_moving_average_is_saved_and_goes_on():
    boxes, labels = [objects([0, 0, 10, 10]), objects()], [[0], []]
    model, _ = losses(boxes, labels, [1.0, 1.0], normalizer="ema")
    assert model.state_dict()["positives_ema"].item() == pytest.approx(90.1)
    again = small(1, loss=LossSpec(normalizer="ema"))
    again.load_state_dict(model.state_dict())
    again.losses(torch.zeros(2, 4, 1), torch.zeros(2, 4, 4), ANCHORS, boxes, [torch.tensor(x).long() for x in labels])
    assert again.positives_ema.item() == pytest.approx(0.9 * 90.1 + 0.1)
    assert "positives_ema" not in small(1, loss=LossSpec(normalizer="batch")).state_dict()


def test_no_positives_count_as_one_in_the_moving_average():
    model, _ = losses([objects(), objects()], [[], []], [1.0, 1.0], normalizer="ema")
    assert model.positives_ema.item() == pytest.approx(90.1)


@pytest.mark.parametrize(
    "normalizer, one_empty, all_empty",
    [
        ("image", (POSITIVE + 3 * NEGATIVE + 4 * NEGATIVE) / 2, 4 * NEGATIVE),
        ("batch", POSITIVE + 7 * NEGATIVE, 8 * NEGATIVE),
        ("ema", (POSITIVE + 7 * NEGATIVE) / 90.1, 8 * NEGATIVE / 90.1),
    ],
)
def test_an_image_without_objects_still_teaches_background(normalizer, one_empty, all_empty):
    _, found = losses([objects([0, 0, 10, 10]), objects()], [[0], []], [0.0, 9.0], normalizer=normalizer)
    assert found == {"classification": pytest.approx(one_empty, rel=1e-5), "bbox_regression": 0}
    _, found = losses([objects(), objects()], [[], []], [9.0, 9.0], normalizer=normalizer)
    assert found == {"classification": pytest.approx(all_empty, rel=1e-5), "bbox_regression": 0}


def test_ignored_anchors_cost_nothing():
    # IoU 0.45 with anchor 0, and 1 with anchor 3: one positive, one ignored, two negatives.
    spec = {"normalizer": "batch"}
    model = small(1, loss=LossSpec(**spec))
    model.match_spec = MatchSpec(low_quality=False)
    found = model.losses(
        torch.zeros(1, 4, 1),
        torch.zeros(1, 4, 4),
        ANCHORS,
        [objects([0, 0, 4.5, 10], [60, 0, 70, 10])],
        [torch.tensor([0, 0])],
    )
    assert found["classification"].item() == pytest.approx(POSITIVE + 2 * NEGATIVE, rel=1e-5)


@pytest.mark.parametrize(
    "spec, wanted",
    [
        ({"box": "l1"}, 4.0),
        ({"box": "l1", "box_weight": 2.5}, 10.0),
        ({"box": "smooth_l1", "beta": 0.1}, 4 * (1 - 0.05)),
        ({"box": "smooth_l1", "beta": 2.0}, 4 * 0.25),
    ],
)
def test_box_losses_of_deltas(spec, wanted):
    _, found = losses([objects([0, 0, 10, 10]), objects()], [[0], []], [1.0, 0.0], normalizer="batch", **spec)
    assert found["bbox_regression"] == pytest.approx(wanted, rel=1e-5)


def test_giou_loss_of_boxes():
    # dx = 1 moves the 10×10 anchor by its width: it then touches the object, hull 20×10, GIoU 0.
    deltas = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]])
    found = box_loss(deltas, ANCHORS[[0, 1]], ANCHORS[[0, 1]], kind="giou")
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0]))


def test_unknown_box_loss():
    with pytest.raises(ValueError, match="unknown box loss 'diou': expected l1, smooth_l1 or giou"):
        box_loss(torch.zeros(1, 4), ANCHORS[:1], ANCHORS[:1], kind="diou")


# Through the whole model


@pytest.mark.parametrize("normalizer", ["image", "batch", "ema"])
@pytest.mark.parametrize("box", ["l1", "smooth_l1", "giou"])
@pytest.mark.parametrize(
    "targets",
    [
        [target([[4, 4, 20, 20]], [1]), EMPTY],
        [EMPTY, EMPTY],
        [target([[0, 0, 40, 48]] * 60, [i % 3 for i in range(60)]), target([[3, 5, 4, 6], [39, 47, 40, 48]], [0, 2])],
    ],
    ids=["one empty", "all empty", "all on one spot, and tiny"],
)
def test_losses_and_gradients_are_finite(normalizer, box, targets):
    model = small(loss=LossSpec(normalizer=normalizer, box=box))
    generator = torch.Generator().manual_seed(0)
    found = model([torch.rand(3, 48, 40, generator=generator) for _ in targets], targets)
    assert set(found) == {"classification", "bbox_regression"}
    assert found["classification"].item() > 0
    if all(len(t["boxes"]) == 0 for t in targets):
        assert found["bbox_regression"].item() == 0
    else:
        assert found["bbox_regression"].item() > 0
    sum(found.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert model.class_head.predictor.bias.grad.abs().sum() > 0


def test_targets_follow_the_resized_image():
    """Boxes are given in the pixels of the image; the network sees it twice as large."""
    image = torch.rand(3, 32, 32)
    twice = torch.nn.functional.interpolate(
        image[None], (64, 64), mode="bilinear", antialias=True, align_corners=False
    )[0]
    resizing = small(input=InputSpec(resize="fit", size=(64, 64)))
    plain = small(input=InputSpec(resize="none"))
    a = resizing([image], [target([[3, 4, 14, 16]], [1])])
    b = plain([twice], [target([[6, 8, 28, 32]], [1])])
    for name in a:
        torch.testing.assert_close(a[name], b[name])


def test_one_anchor_grid_too_many():
    with pytest.raises(ValueError, match="2 levels of anchors for a pyramid of 3 levels"):
        small(anchors=AnchorSpec(sizes=((8.0,), (16.0,)), strides=(8, 16)))


@pytest.mark.parametrize(
    "targets, message",
    [
        (None, "training needs one target per image: 2 images, targets None"),
        ([EMPTY], "training needs one target per image: 2 images, targets 1"),
        ([EMPTY, target([[0, 0, 5, 5]], [0, 1])], r"image 1: boxes \(1, 4\), labels \(2,\): expected \(N, 4\), \(N,\)"),
        ([{"boxes": torch.zeros(0), "labels": torch.zeros(0)}, EMPTY], r"image 0: boxes \(0,\), labels \(0,\)"),
        ([EMPTY, target([[0, 0, 5, 5], [5, 5, 5, 9]], [0, 1])], r"image 1, box 1: \[5.0, 5.0, 5.0, 9.0\] is empty"),
        ([EMPTY, target([[8, 0, 5, 5]], [0])], "image 1, box 0: .* expected x1 < x2, y1 < y2"),
        ([EMPTY, target([[0, 0, 5, math.nan]], [0])], "image 1, box 0: .*nan.* is empty or not finite"),
        ([EMPTY, target([[0, 0, 5, math.inf]], [0])], "image 1, box 0: .*inf.* is empty or not finite"),
        ([target([[0, 0, 5, 5]], [3]), EMPTY], r"image 0: labels \[3\], expected 0 … 2"),
        ([target([[0, 0, 5, 5]], [-1]), EMPTY], r"image 0: labels \[-1\], expected 0 … 2"),
    ],
)
def test_targets_that_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        check_targets(targets, 2, 3)
    with pytest.raises(ValueError, match=message):
        small().train()([torch.rand(3, 16, 16)] * 2, targets)


def test_good_targets_pass():
    targets = [EMPTY, target([[0, 0, 5, 5], [1, 2, 3, 4]], [0, 2])]
    assert check_targets(targets, 2, 3) is targets
