import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.ops.semantic import (
    IGNORE,
    class_ious,
    confusion,
    crop_labels,
    resize_labels,
    resize_logits,
    semantic_loss,
)


def test_logits_between_centres():
    """Two cells on four pixels: the centres of the pixels lie at −¼, ¼, ¾ and 1¼ between those of the cells."""
    found = resize_logits(torch.tensor([[[[0.0, 4.0]]]]), (1, 4))
    assert found.tolist() == [[[[0.0, 1.0, 3.0, 4.0]]]]
    same = torch.rand(1, 2, 3, 5)
    assert resize_logits(same, (3, 5)) is same
    assert resize_logits(same.bfloat16(), (3, 5)).dtype == torch.float32


def test_labels_under_the_centres():
    labels = torch.tensor([[1, 2, 3, 4]])
    assert resize_labels(labels, (2, 8)).tolist() == [[1, 1, 2, 2, 3, 3, 4, 4]] * 2
    assert resize_labels(labels, (1, 2)).tolist() == [[2, 4]]  # centres at 1 and 3: the pixel to the right of each
    assert resize_labels(labels, (1, 1)).tolist() == [[3]]
    assert resize_labels(labels, (1, 4)).tolist() == labels.tolist()


def test_labels_of_a_box():
    labels = torch.arange(12).reshape(3, 4)
    boxes = torch.tensor([[0.0, 0, 4, 2], [1, 1, 2, 3], [3, 2, 9, 9], [2, 1, 2, 1]])
    found = crop_labels(labels, boxes, 2)
    assert found.tolist() == [
        [[1, 3], [5, 7]],  # centres (1, 0.5), (3, 0.5), …
        [[5, 5], [9, 9]],
        [[11, 11], [11, 11]],  # beyond the border: the nearest pixel
        [[6, 6], [6, 6]],  # a box without area is a point
    ]
    assert crop_labels(labels, torch.zeros(0, 4), 2).shape == (0, 2, 2)


def test_loss_by_hand():
    """Two pixels of three count; p = ¾ and ½."""
    logits = torch.tensor([[[[math.log(3.0), 0.0, 50.0]], [[0.0, 0.0, 0.0]]]])
    targets = torch.tensor([[[0, 1, IGNORE]]])
    assert semantic_loss(logits, targets).item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


def test_loss_at_the_resolution_of_the_targets():
    logits = torch.randn(2, 3, 4, 5, dtype=torch.float64).requires_grad_()
    targets = torch.randint(0, 3, (2, 8, 10))
    targets[0, :3] = IGNORE
    full = torch.nn.functional.interpolate(logits, (8, 10), mode="bilinear")
    picked = full.log_softmax(1).gather(1, targets.where(targets != IGNORE, 0)[:, None])[:, 0]
    wanted = -picked[targets != IGNORE].mean()
    assert semantic_loss(logits, targets).item() == pytest.approx(wanted.item(), rel=1e-6)
    semantic_loss(logits.float(), targets).backward()
    (expected,) = torch.autograd.grad(wanted, logits)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-5, atol=1e-7)


def test_nothing_to_learn():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = semantic_loss(logits, torch.full((1, 4, 4), IGNORE))
    assert loss.item() == 0
    loss.backward()
    assert (logits.grad == 0).all()


def test_confusion_and_ious_by_hand():
    truth = np.array([[0, 0, 1, 1, IGNORE]])
    found = np.array([[0, 1, 1, 1, 0]])
    matrix = confusion(truth, found, 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert class_ious(matrix)[:2].tolist() == [0.5, pytest.approx(2 / 3)]
    assert math.isnan(class_ious(matrix)[2])


def test_maps_that_cannot_be_compared():
    with pytest.raises(ValueError, match=r"the truth is \(2, 2\), the prediction \(2, 3\)"):
        confusion(np.zeros((2, 2), int), np.zeros((2, 3), int), 2)
    with pytest.raises(ValueError, match="class 2: there are 2"):
        confusion(np.zeros((1, 1), int), np.full((1, 1), 2), 2)
    assert confusion(np.full((2, 2), IGNORE), np.zeros((2, 2), int), 2).sum() == 0


@given(st.integers(0, 2**31))
def test_a_map_agrees_with_itself(seed):
    truth = np.random.default_rng(seed).integers(0, 4, (5, 7))
    ious = class_ious(confusion(truth, truth, 5))
    assert np.array_equal(np.isnan(ious), [c not in truth for c in range(5)])
    assert (ious[~np.isnan(ious)] == 1).all()
