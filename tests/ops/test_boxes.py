import pytest
import torch
import torchvision
from hypothesis import given, settings

from course_lib.ops import boxes as ops

from .strategies import random_boxes, whole_boxes

A = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
B = torch.tensor([[1.0, 1.0, 3.0, 3.0]])
FAR = torch.tensor([[3.0, 0.0, 4.0, 2.0]])


def pixels(box, canvas=12):
    """The set of pixels that a box on whole pixels covers."""
    x1, y1, x2, y2 = box.int().tolist()
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2) if x < canvas and y < canvas}


def test_area_by_hand():
    assert ops.box_area(torch.tensor([[1.0, 2.0, 4.0, 7.0], [3.0, 3.0, 3.0, 9.0]])).tolist() == [15.0, 0.0]


def test_iou_by_hand():
    # Two 2×2 squares share one pixel: 1 / (4 + 4 − 1).
    torch.testing.assert_close(ops.box_iou(A, B), torch.tensor([[1 / 7]]))
    torch.testing.assert_close(ops.paired_iou(A, B), torch.tensor([1 / 7]))
    assert ops.box_iou(A, FAR).item() == 0
    # The right edge is exclusive: boxes that touch do not overlap.
    assert ops.box_iou(A, A + torch.tensor([2.0, 0.0, 2.0, 0.0])).item() == 0


def test_giou_by_hand():
    # Around A and B the smallest box has 9 px², 2 of them in neither: 1/7 − 2/9.
    torch.testing.assert_close(ops.paired_giou(A, B), torch.tensor([1 / 7 - 2 / 9]))
    # A and FAR: no overlap, union 6 of 8 px².
    torch.testing.assert_close(ops.pairwise_giou(A, FAR), torch.tensor([[-2 / 8]]))
    torch.testing.assert_close(ops.paired_giou(A, A), torch.tensor([1.0]))


@settings(max_examples=40, deadline=None)
@given(whole_boxes(), whole_boxes())
def test_iou_counts_pixels(a, b):
    iou = ops.box_iou(a, b)
    assert iou.shape == (len(a), len(b))
    for i, box in enumerate(a):
        for j, other in enumerate(b):
            p, q = pixels(box), pixels(other)
            assert iou[i, j].item() == pytest.approx(len(p & q) / len(p | q), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(whole_boxes(min_size=1), whole_boxes(min_size=1))
def test_properties_of_iou_and_giou(a, b):
    iou, giou = ops.box_iou(a, b), ops.pairwise_giou(a, b)
    assert (iou >= 0).all() and (iou <= 1).all()
    assert (giou > -1).all() and (giou <= iou + 1e-6).all()
    torch.testing.assert_close(iou, ops.box_iou(b, a).T)
    torch.testing.assert_close(ops.box_iou(a, a).diagonal(), torch.ones(len(a)))
    shift = torch.tensor([5.0, -7.0, 5.0, -7.0])
    torch.testing.assert_close(iou, ops.box_iou(4 * a + shift, 4 * b + shift))
    torch.testing.assert_close(giou, ops.pairwise_giou(4 * a + shift, 4 * b + shift))


@pytest.mark.parametrize("n, m", [(1, 1), (7, 300), (0, 5), (5, 0), (0, 0)])
def test_equal_to_torchvision(n, m):
    a, b = random_boxes(n, seed=1), random_boxes(m, seed=2)
    assert torch.equal(ops.box_area(a), torchvision.ops.box_area(a))
    assert torch.equal(ops.box_iou(a, b), torchvision.ops.box_iou(a, b))
    torch.testing.assert_close(ops.pairwise_giou(a, b), torchvision.ops.generalized_box_iou(a, b))


def test_paired_is_the_diagonal_of_all_pairs():
    a, b = random_boxes(3, 20, seed=1), random_boxes(3, 20, seed=2)
    assert torch.equal(ops.paired_iou(a, b), ops.box_iou(a, b).diagonal(dim1=-2, dim2=-1))
    assert torch.equal(ops.paired_giou(a, b), ops.pairwise_giou(a, b).diagonal(dim1=-2, dim2=-1))


def test_a_batch_against_one_set_of_anchors():
    gt, anchors = random_boxes(3, 4), random_boxes(50, seed=1)
    iou = ops.box_iou(gt, anchors)
    assert iou.shape == (3, 4, 50)
    for i in range(3):
        assert torch.equal(iou[i], torchvision.ops.box_iou(gt[i], anchors))


def test_empty_boxes_have_iou_zero_and_a_finite_giou():
    empty = torch.full((2, 4), 5.0)
    assert torch.equal(ops.box_iou(empty, empty), torch.zeros(2, 2))
    assert torch.equal(ops.box_iou(empty, A), torch.zeros(2, 1))
    assert ops.pairwise_giou(empty, empty).isfinite().all()


def test_gradients():
    a, b = random_boxes(5, dtype=torch.float64), random_boxes(5, seed=1, dtype=torch.float64)
    a.requires_grad_()
    for function in (ops.paired_iou, ops.box_iou, ops.paired_giou, ops.pairwise_giou):
        assert torch.autograd.gradcheck(function, (a, b))


def test_giou_pulls_boxes_together_that_do_not_touch():
    box = A.clone().requires_grad_()
    ops.paired_giou(box, FAR + torch.tensor([20.0, 0.0, 20.0, 0.0])).backward()
    assert box.grad[0, 2] > 0  # moving the right edge towards the far box raises GIoU; IoU has no slope here


def test_clip_by_hand_and_as_torchvision():
    boxes = torch.tensor([[-5.0, -5.0, 5.0, 5.0], [2.0, 1.0, 90.0, 80.0], [50.0, 50.0, 60.0, 60.0]])
    clipped = ops.clip_boxes(boxes, (20, 30))  # 20 high, 30 wide
    assert clipped.tolist() == [[0, 0, 5, 5], [2, 1, 30, 20], [30, 20, 30, 20]]
    assert boxes[0, 0] == -5  # the input stays as it was
    wild = random_boxes(50) - 40
    assert torch.equal(ops.clip_boxes(wild, (31, 47)), torchvision.ops.clip_boxes_to_image(wild, (31, 47)))
    assert ops.clip_boxes(torch.zeros(0, 4), (20, 30)).shape == (0, 4)


def test_remove_small():
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [3.0, 3.0, 3.0, 9.0]])
    assert ops.remove_small(boxes, 2).tolist() == [True, False, False]
    kept = torchvision.ops.remove_small_boxes(random_boxes(80), 20)
    assert torch.equal(ops.remove_small(random_boxes(80), 20).nonzero().squeeze(1), kept)


def test_formats_by_hand():
    xyxy = torch.tensor([[10.0, 20.0, 40.0, 60.0]])
    assert ops.xyxy_to_xywh(xyxy).tolist() == [[10, 20, 30, 40]]
    assert ops.xyxy_to_cxcywh(xyxy).tolist() == [[25, 40, 30, 40]]


@pytest.mark.parametrize("shape", [(0,), (1,), (6,), (2, 3)])
def test_formats_there_and_back(shape):
    xyxy = random_boxes(*shape)
    torch.testing.assert_close(ops.xywh_to_xyxy(ops.xyxy_to_xywh(xyxy)), xyxy)
    torch.testing.assert_close(ops.cxcywh_to_xyxy(ops.xyxy_to_cxcywh(xyxy)), xyxy)
    for theirs in ("xywh", "cxcywh"):
        ours = getattr(ops, f"xyxy_to_{theirs}")(xyxy)
        torch.testing.assert_close(ours, torchvision.ops.box_convert(xyxy, "xyxy", theirs))
