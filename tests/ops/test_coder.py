import math

import pytest
import torch
from hypothesis import given, settings
from torchvision.models.detection._utils import BoxCoder

from course_lib.ops.coder import decode, encode

from .strategies import random_boxes, whole_boxes

RCNN = (10.0, 10.0, 5.0, 5.0)
RETINANET = (1.0, 1.0, 1.0, 1.0)
ANCHOR = torch.tensor([[0.0, 0.0, 10.0, 20.0]])


def test_by_hand():
    # Centre from (5, 10) to (6, 14), 1/10 of the width and 4/20 of the height; twice as wide, half as high.
    gt = torch.tensor([[-4.0, 9.0, 16.0, 19.0]])
    deltas = torch.tensor([[0.1, 0.2, math.log(2), -math.log(2)]])
    torch.testing.assert_close(encode(gt, ANCHOR), deltas)
    torch.testing.assert_close(decode(deltas, ANCHOR), gt)
    torch.testing.assert_close(encode(gt, ANCHOR, RCNN), deltas * torch.tensor(RCNN))


def test_no_change_is_zero():
    assert torch.equal(encode(ANCHOR, ANCHOR), torch.zeros(1, 4))
    assert torch.equal(decode(torch.zeros(1, 4), ANCHOR), ANCHOR)


def test_size_deltas_are_clamped():
    grown = decode(torch.tensor([[0.0, 0.0, 1e4, -1e4]]), ANCHOR)
    assert grown.isfinite().all()
    torch.testing.assert_close(grown[0, 2] - grown[0, 0], torch.tensor(10 * 62.5))
    assert grown[0, 3] == grown[0, 1]  # shrinking needs no clamp
    grown = decode(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), ANCHOR, max_ratio=2)
    torch.testing.assert_close(grown, torch.tensor([[-5.0, -10.0, 15.0, 30.0]]))


@pytest.mark.parametrize("weights", [RETINANET, RCNN])
@pytest.mark.parametrize("n", [0, 1, 200])
def test_equal_to_torchvision(weights, n):
    gt, anchors = random_boxes(n, seed=1), random_boxes(n, seed=2)
    coder = BoxCoder(weights)
    assert torch.equal(encode(gt, anchors, weights), coder.encode_single(gt, anchors))
    deltas = torch.randn(n, 4, generator=torch.Generator().manual_seed(0)) * 4  # some beyond the clamp
    torch.testing.assert_close(decode(deltas, anchors, weights), coder.decode_single(deltas, anchors))


def test_a_box_for_each_class():
    anchors, deltas = random_boxes(6), torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0))
    boxes = decode(deltas, anchors[:, None], RCNN)
    assert boxes.shape == (6, 3, 4)
    expected = BoxCoder(RCNN).decode(deltas.flatten(1), [anchors])
    torch.testing.assert_close(boxes, expected)


@settings(max_examples=40, deadline=None)
@given(whole_boxes(min_size=6, max_size=6), whole_boxes(min_size=6, max_size=6))
def test_decode_undoes_encode(gt, anchors):
    for weights in (RETINANET, RCNN):
        torch.testing.assert_close(decode(encode(gt, anchors, weights), anchors, weights), gt, atol=1e-4, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(whole_boxes(min_size=3, max_size=3), whole_boxes(min_size=3, max_size=3))
def test_deltas_do_not_depend_on_place_or_scale(gt, anchors):
    moved = encode(8 * gt + 64, 8 * anchors + 64)
    torch.testing.assert_close(moved, encode(gt, anchors), atol=1e-5, rtol=1e-5)


def test_gradients_and_half_precision():
    anchors = random_boxes(4, dtype=torch.float64)
    deltas = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: decode(d, anchors), (deltas,))
    # A bfloat16 head still gives float32 boxes: bfloat16 cannot tell pixel 512 from 513.
    assert decode(deltas.bfloat16(), anchors.float()).dtype == torch.float32
