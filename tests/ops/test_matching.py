import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import Matcher, SSDMatcher

from course_lib.ops.boxes import box_iou
from course_lib.ops.matching import BELOW_LOW, BETWEEN, match, match_ssd

from .strategies import random_boxes


def retinanet(iou, **options):
    return match(iou, low=0.4, high=0.5, low_quality=True, **options)


IOU = torch.tensor(
    [
        [0.9, 0.6, 0.45, 0.1, 0.0],
        [0.2, 0.7, 0.42, 0.3, 0.0],
        [0.0, 0.0, 0.00, 0.35, 0.2],
    ]
)


def test_by_hand():
    plain = match(IOU, low=0.4, high=0.5, low_quality=False)
    assert plain.tolist() == [0, 1, BETWEEN, BELOW_LOW, BELOW_LOW]
    assert plain.dtype == torch.int64
    # Object 2's best is anchor 3, at 0.35: kept all the same.
    assert retinanet(IOU).tolist() == [0, 1, BETWEEN, 2, BELOW_LOW]


def test_thresholds_include_their_value():
    iou = torch.tensor([[0.5, 0.4, 0.9]])
    assert match(iou, low=0.4, high=0.5, low_quality=False).tolist() == [0, BETWEEN, 0]


def test_equal_bests_are_all_kept_and_the_first_object_wins():
    iou = torch.tensor([[0.3, 0.3, 0.1], [0.3, 0.2, 0.1]])
    assert retinanet(iou).tolist() == [0, 0, BELOW_LOW]


def test_a_forced_anchor_learns_the_object_it_overlaps_most():
    # Anchor 0 is the best for both objects and can learn only one; object 1 goes without.
    iou = torch.tensor([[0.8, 0.1], [0.3, 0.0]])
    assert retinanet(iou).tolist() == [0, BELOW_LOW]


def test_no_objects_no_anchors():
    assert retinanet(torch.zeros(0, 4)).tolist() == [BELOW_LOW] * 4
    assert retinanet(torch.zeros(2, 0, 4)).tolist() == [[BELOW_LOW] * 4] * 2
    assert retinanet(torch.zeros(3, 0)).shape == (0,)
    nothing = retinanet(torch.zeros(2, 3, 4), valid=torch.zeros(2, 3, dtype=torch.bool))
    assert nothing.tolist() == [[BELOW_LOW] * 4] * 2
    assert nothing.dtype == retinanet(torch.zeros(0, 4)).dtype == torch.int64


def test_everything_overlapping():
    assert retinanet(torch.ones(3, 5)).tolist() == [0] * 5


def test_thresholds_in_the_wrong_order():
    with pytest.raises(ValueError, match=r"low 0.5 > high 0.4"):
        match(IOU, low=0.5, high=0.4, low_quality=True)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.booleans(), st.sampled_from([(0.4, 0.5), (0.5, 0.5), (0.3, 0.7), (0.0, 0.0)]))
def test_equal_to_torchvision_ties_included(data, low_quality, thresholds):
    objects, anchors = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 8))
    tenths = st.lists(st.integers(0, 10), min_size=objects * anchors, max_size=objects * anchors)
    iou = torch.tensor(data.draw(tenths)).reshape(objects, anchors) / 10
    low, high = thresholds
    expected = Matcher(high, low, low_quality)(iou)
    assert torch.equal(match(iou, low=low, high=high, low_quality=low_quality), expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 2**16))
def test_a_padded_batch_equals_one_image_at_a_time(counts, padding, seed):
    width = max(counts) + padding
    generator = torch.Generator().manual_seed(seed)
    iou = torch.randint(0, 11, (len(counts), width, 9), generator=generator) / 10  # in the padding, too
    valid = torch.arange(width) < torch.tensor(counts)[:, None]
    matched = retinanet(iou, valid=valid)
    for i, count in enumerate(counts):
        expected = Matcher(0.5, 0.4, True)(iou[i, :count]) if count else torch.full((9,), BELOW_LOW)
        assert torch.equal(matched[i], expected)


def test_padding_may_stand_anywhere():
    valid = torch.tensor([True, False, True])
    matched = retinanet(IOU, valid=valid)
    expected = torch.tensor([0, 2])[Matcher(0.5, 0.4, True)(IOU[valid]).clamp(min=0)]
    assert torch.equal(matched[matched >= 0], expected[matched >= 0])
    assert not (matched == 1).any()


def test_real_boxes_in_two_batch_dimensions():
    gt, anchors = random_boxes(2, 3, 5, seed=1), random_boxes(400, seed=2)
    matched = retinanet(box_iou(gt, anchors))
    assert matched.shape == (2, 3, 400)
    for i in range(2):
        for j in range(3):
            assert torch.equal(matched[i, j], Matcher(0.5, 0.4, True)(box_iou(gt[i, j], anchors)))


def test_ssd_by_hand():
    # Boxes 0 and 1 are the bests of objects 0 and 1, box 3 that of object 2 at 0.35; box 2 falls short of 0.5.
    assert match_ssd(IOU).tolist() == [0, 1, BELOW_LOW, 2, BELOW_LOW]
    assert match_ssd(IOU, threshold=0.4).tolist() == [0, 1, 0, 2, BELOW_LOW]
    assert match_ssd(IOU).dtype == torch.int64


def test_ssd_a_taken_box_learns_the_object_that_took_it():
    # Box 0 overlaps object 0 most, but it is all that object 1 has; object 0 has box 1 besides.
    iou = torch.tensor([[0.7, 0.8], [0.3, 0.1]])
    assert match_ssd(iou).tolist() == [1, 0]
    assert match(iou, low=0.5, high=0.5, low_quality=True).tolist() == [0, 0]


def test_ssd_of_objects_that_want_the_same_box_the_last_gets_it():
    iou = torch.tensor([[0.8, 0.1], [0.9, 0.0], [0.6, 0.2]])
    assert match_ssd(iou).tolist() == [2, BELOW_LOW]


def test_ssd_takes_the_first_of_equal_bests_even_at_nothing():
    assert match_ssd(torch.tensor([[0.3, 0.3, 0.1]])).tolist() == [0, BELOW_LOW, BELOW_LOW]
    assert match_ssd(torch.zeros(1, 3)).tolist() == [0, BELOW_LOW, BELOW_LOW]


def test_ssd_without_objects_or_boxes():
    assert match_ssd(torch.zeros(0, 3)).tolist() == [BELOW_LOW] * 3
    assert match_ssd(torch.zeros(2, 0)).shape == (0,)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([0.5, 0.3]))
def test_ssd_equal_to_torchvision_ties_included(data, threshold):
    objects, anchors = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 8))
    tenths = data.draw(st.lists(st.integers(0, 10), min_size=objects * anchors, max_size=objects * anchors))
    iou = torch.tensor(tenths).reshape(objects, anchors) / 10
    assert torch.equal(match_ssd(iou, threshold=threshold), SSDMatcher(threshold)(iou))
