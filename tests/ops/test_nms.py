import math

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.ops.boxes import box_iou
from course_lib.ops.nms import batched_nms, nms_greedy, soft_nms

from .strategies import random_boxes, whole_boxes

BOXES = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [20.0, 20.0, 30.0, 30.0]])
SCORES = torch.tensor([0.7, 0.9, 0.8])


def scores_for(boxes, seed=0):
    return torch.randint(0, 6, (len(boxes),), generator=torch.Generator().manual_seed(seed)) / 5  # with ties


def test_greedy_by_hand():
    # Box 1 lies in box 0 with IoU exactly 0.5; suppression wants more than the threshold.
    assert nms_greedy(BOXES, SCORES, 0.5).tolist() == [1, 2, 0]
    assert nms_greedy(BOXES, SCORES, 0.49).tolist() == [1, 2]


def test_nothing_one_and_all_the_same():
    for suppress in (nms_greedy, lambda b, s, t: batched_nms(b, s, torch.zeros(len(b)), t)):
        assert suppress(BOXES[:0], SCORES[:0], 0.5).shape == (0,)
        assert suppress(BOXES[:0], SCORES[:0], 0.5).dtype == torch.int64
        assert suppress(BOXES[:1], SCORES[:1], 0.5).tolist() == [0]
        assert suppress(BOXES[:1].repeat(8, 1), torch.ones(8), 0.5).tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(whole_boxes(max_size=12), st.integers(0, 2**16), st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.5, 0.7, 1.0]))
def test_greedy_equals_torchvision_ties_included(boxes, seed, threshold):
    scores = scores_for(boxes, seed)
    assert torch.equal(nms_greedy(boxes, scores, threshold), torchvision.ops.nms(boxes, scores, threshold))


@pytest.mark.parametrize("threshold", [0.1, 0.2, 0.3, 0.6, 0.7])
def test_greedy_equals_torchvision_where_the_overlap_equals_a_threshold_that_no_float_holds(threshold):
    height = round(threshold * 10)
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, height]])  # IoU height / 10
    keep = nms_greedy(boxes, SCORES[:2], threshold)
    assert torch.equal(keep, torchvision.ops.nms(boxes, SCORES[:2], threshold))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_greedy_equals_torchvision_on_many(threshold):
    boxes = random_boxes(400)
    scores = torch.rand(400, generator=torch.Generator().manual_seed(0))
    keep = nms_greedy(boxes, scores, threshold)
    assert torch.equal(keep, torchvision.ops.nms(boxes, scores, threshold))
    overlap = box_iou(boxes[keep], boxes[keep]).fill_diagonal_(0)
    assert overlap.max() <= threshold


@pytest.mark.parametrize("n", [50, 1500])  # torchvision changes its method at 1,000 boxes
def test_batched_is_nms_in_each_class(n):
    boxes, scores = random_boxes(n), torch.rand(n, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 7, (n,), generator=torch.Generator().manual_seed(1))
    keep = batched_nms(boxes, scores, labels, 0.4)
    assert torch.equal(keep, torchvision.ops.batched_nms(boxes, scores, labels, 0.4))
    assert (scores[keep].diff() <= 0).all()
    for label in range(7):
        members = (labels == label).nonzero().squeeze(1)
        expected = members[nms_greedy(boxes[members], scores[members], 0.4)]
        assert torch.equal(keep[labels[keep] == label], expected)


def test_soft_by_hand():
    # IoU of boxes 1 and 0 is 0.5: Gaussian 0.7 · exp(−0.25 / 0.5), linear 0.7 · (1 − 0.5).
    keep, scores = soft_nms(BOXES, SCORES)
    assert keep.tolist() == [1, 2, 0]
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.8, 0.7 * math.exp(-0.5)]))
    keep, scores = soft_nms(BOXES, SCORES, method="linear")
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.8, 0.35]))
    keep, scores = soft_nms(BOXES, SCORES, method="linear", iou_threshold=0.6)
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.8, 0.7]))
    assert SCORES.tolist() == pytest.approx([0.7, 0.9, 0.8])


def test_soft_drops_what_falls_under_the_threshold():
    same = BOXES[:1].repeat(3, 1)
    keep, scores = soft_nms(same, torch.tensor([0.6, 0.9, 0.04]), score_threshold=0.05)
    assert keep.tolist() == [1, 0]
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.6 * math.exp(-2)]))
    assert soft_nms(same, torch.ones(3), method="linear")[0].tolist() == [0]  # IoU 1 leaves a score of 0


def test_soft_nothing_and_errors():
    keep, scores = soft_nms(BOXES[:0], SCORES[:0])
    assert keep.shape == scores.shape == (0,) and keep.dtype == torch.int64
    assert soft_nms(BOXES, SCORES, score_threshold=2)[0].shape == (0,)
    with pytest.raises(ValueError, match="found 'hard', expected 'gaussian' or 'linear'"):
        soft_nms(BOXES, SCORES, method="hard")


def slow_soft_nms(boxes, scores, decay):
    """The paper's Fig. 3 in Python floats."""
    iou = box_iou(boxes.double(), boxes.double()).tolist()
    left, result = dict(enumerate(scores.double().tolist())), []
    while left:
        best = max(left, key=left.get)
        result.append((best, left.pop(best)))
        left = {i: score * decay(iou[best][i]) for i, score in left.items()}
    return [(i, score) for i, score in result if score >= 0.001]


def test_soft_as_the_papers_algorithm():
    boxes, scores = random_boxes(60), torch.rand(60, generator=torch.Generator().manual_seed(0))
    decays = {"gaussian": lambda v: math.exp(-(v**2) / 0.5), "linear": lambda v: 1 - v if v >= 0.3 else 1.0}
    for method, decay in decays.items():
        keep, new = soft_nms(boxes, scores, method=method)
        expected = slow_soft_nms(boxes, scores, decay)
        assert keep.tolist() == [i for i, _ in expected]
        torch.testing.assert_close(new, torch.tensor([score for _, score in expected]))


@settings(max_examples=30, deadline=None)
@given(whole_boxes(max_size=8), st.integers(0, 2**16))
def test_soft_never_raises_a_score_and_sorts(boxes, seed):
    scores = scores_for(boxes, seed)
    keep, new = soft_nms(boxes, scores)
    assert (new <= scores[keep]).all() and (new.diff() <= 0).all()
    assert len(keep.unique()) == len(keep)
