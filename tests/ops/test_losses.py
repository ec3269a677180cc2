import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.ops import losses
from course_lib.ops.losses import focal_loss_from_labels, giou_loss, sigmoid_focal_loss, smooth_l1

from .strategies import random_boxes


def case(anchors=30, classes=6, seed=0, dtype=torch.float32, share=0.2, ignored=0.1):
    """Logits (2, A, K) that require a gradient, and labels (2, A) with objects, background and ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, anchors, classes, generator=generator, dtype=dtype) * 3 - 2
    dice = torch.rand(2, anchors, generator=generator)
    labels = torch.randint(0, classes, (2, anchors), generator=generator)
    labels[dice > share] = -1
    labels[dice > 1 - ignored] = -2
    return logits.requires_grad_(), labels


def one_hot(logits, labels):
    return F.one_hot(labels.clamp(min=0), logits.shape[-1]).to(logits.dtype) * (labels >= 0)[..., None]


def dense(logits, labels, alpha=0.25, gamma=2.0):
    """The readable loss, told to do what the fast one does."""
    loss = sigmoid_focal_loss(logits, one_hot(logits, labels), alpha, gamma)
    return (loss * (labels != -2)[..., None]).sum()


def textbook(x, t, alpha=0.25, gamma=2.0):
    """Eq. 5 in Python floats, for a logit of moderate size."""
    p = 1 / (1 + math.exp(-x))
    p_t, alpha_t = (p, alpha) if t else (1 - p, 1 - alpha)
    return -alpha_t * (1 - p_t) ** gamma * math.log(p_t)


# The readable focal loss


def test_focal_by_hand():
    # At x = 0, p = 1/2: (1/2)² ln 2 = 0.1733, of it a quarter for the class and three for the others.
    logits, targets = torch.zeros(2), torch.tensor([1.0, 0.0])
    torch.testing.assert_close(sigmoid_focal_loss(logits, targets), torch.tensor([0.04332170, 0.12996510]))
    torch.testing.assert_close(sigmoid_focal_loss(logits, targets, alpha=None), torch.full((2,), 0.17328680))


def test_an_easy_example_counts_a_hundredth():
    # §3.2: at p_t = 0.9 and γ = 2 the loss is 100 times lower than cross entropy.
    x, target = torch.tensor(math.log(9.0)), torch.tensor(1.0)
    ratio = sigmoid_focal_loss(x, target, alpha=None, gamma=0) / sigmoid_focal_loss(x, target, alpha=None)
    assert ratio.item() == pytest.approx(100, rel=1e-5)


@given(st.floats(-15, 15), st.booleans(), st.floats(0, 1), st.floats(0, 5))
@settings(max_examples=100, deadline=None)
def test_focal_as_the_textbook_has_it(x, t, alpha, gamma):
    logit, target = torch.tensor(x, dtype=torch.float64), torch.tensor(float(t), dtype=torch.float64)
    ours = sigmoid_focal_loss(logit, target, alpha, gamma).item()
    assert ours == pytest.approx(textbook(x, t, alpha, gamma), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("alpha, gamma", [(0.25, 2.0), (-1, 2.0), (0.9, 0.5), (0.5, 0.0), (0.0, 3.0)])
def test_focal_equals_torchvision(reduction, alpha, gamma):
    logits, labels = case()
    targets = one_hot(logits, labels)
    ours = sigmoid_focal_loss(logits, targets, alpha, gamma, reduction)
    theirs = torchvision.ops.sigmoid_focal_loss(logits, targets, alpha, gamma, reduction)
    torch.testing.assert_close(ours, theirs)
    (our_grad,) = torch.autograd.grad(ours.sum(), logits)
    (their_grad,) = torch.autograd.grad(theirs.sum(), logits)
    torch.testing.assert_close(our_grad, their_grad, atol=2e-6, rtol=1e-4)


def test_gamma_zero_is_weighted_cross_entropy():
    logits, labels = case()
    targets = one_hot(logits, labels)
    weight = torch.where(targets == 1, 0.3, 0.7)
    expected = F.binary_cross_entropy_with_logits(logits, targets, weight, reduction="sum")
    torch.testing.assert_close(sigmoid_focal_loss(logits, targets, 0.3, 0.0, "sum"), expected)
    labels = labels.clamp(min=-1)
    torch.testing.assert_close(focal_loss_from_labels(logits, labels, 0.3, 0.0), expected)


def test_the_weights_have_the_precision_of_the_logits():
    x, t = torch.tensor([0.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert sigmoid_focal_loss(x, t, 0.3, 0.0).tolist() == pytest.approx([0.3 * math.log(2), 0.7 * math.log(2)], 1e-15)
    assert sigmoid_focal_loss(x.bfloat16(), t.bfloat16()).dtype == torch.bfloat16


def test_focal_empty_and_unknown_reduction():
    empty = torch.zeros(0, 5)
    assert sigmoid_focal_loss(empty, empty).shape == (0, 5)
    assert sigmoid_focal_loss(empty, empty, reduction="sum") == 0
    with pytest.raises(ValueError, match="found 'average'"):
        sigmoid_focal_loss(empty, empty, reduction="average")


# Both focal losses


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 3.7])
@pytest.mark.parametrize("alpha", [0.25, None, -1, 1.0, 0.0])
def test_from_labels_equals_dense(alpha, gamma):
    logits, labels = case(dtype=torch.float64)
    ours, reference = focal_loss_from_labels(logits, labels, alpha, gamma), dense(logits, labels, alpha, gamma)
    torch.testing.assert_close(ours, reference)
    torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(reference, logits))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(1, 5), st.integers(0, 2**16), st.floats(0, 1), st.floats(0, 1))
def test_from_labels_equals_dense_whatever_the_mix(anchors, classes, seed, share, ignored):
    logits, labels = case(anchors, classes, seed, torch.float64, share, ignored)
    ours, reference = focal_loss_from_labels(logits, labels), dense(logits, labels)
    torch.testing.assert_close(ours, reference)
    torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(reference, logits))


@pytest.mark.parametrize("chunk", [1, 7, 64, 10**6])
def test_the_size_of_the_pieces_changes_nothing(monkeypatch, chunk):
    logits, labels = case(dtype=torch.float64)
    monkeypatch.setattr(losses, "CHUNK", chunk)
    ours = focal_loss_from_labels(logits, labels)
    torch.testing.assert_close(ours, dense(logits, labels))
    torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(dense(logits, labels), logits))


def test_from_labels_equals_torchvision():
    logits, labels = case(anchors=2000, classes=20, ignored=0)
    ours = focal_loss_from_labels(logits, labels)
    theirs = torchvision.ops.sigmoid_focal_loss(logits, one_hot(logits, labels), reduction="sum")
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradcheck(gamma):
    logits, labels = case(anchors=5, classes=3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: focal_loss_from_labels(x, labels, gamma=gamma), (logits,))
    targets = one_hot(logits, labels)
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal_loss(x, targets, gamma=gamma), (logits,))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [20.0, 100.0, 1e4])
def test_huge_logits_stay_finite(size, gamma):
    # Right and wrong by far, as object and as background.
    logits = torch.tensor([[size, -size], [-size, size], [size, -size]], requires_grad=True)
    labels = torch.tensor([0, 0, -1])
    for loss in (focal_loss_from_labels(logits, labels, 0.25, gamma), dense(logits, labels, 0.25, gamma)):
        # Wrong four times: the object missed, background taken for one, twice; p is 1, so no γ in it.
        assert loss.item() == pytest.approx(size * (0.25 + 0.75 + 0.75), rel=1e-5)
        (grad,) = torch.autograd.grad(loss, logits)
        expected = torch.tensor([[0.0, 0.0], [-0.25, 0.75], [0.75, 0.0]])
        torch.testing.assert_close(grad, expected, atol=1e-3 if gamma else 1e-6, rtol=0)


# The fast focal loss


def test_from_labels_by_hand():
    loss = focal_loss_from_labels(torch.zeros(1, 2), torch.tensor([1]))
    assert loss.item() == pytest.approx(0.04332170 + 0.12996510)
    assert loss.shape == () and loss.dtype == torch.float32
    assert focal_loss_from_labels(torch.zeros(1, 2), torch.tensor([-1])).item() == pytest.approx(2 * 0.12996510)


def test_ignored_anchors_do_nothing_even_if_broken():
    logits, labels = case()
    with torch.no_grad():
        logits[labels == -2] = torch.nan
    loss = focal_loss_from_labels(logits, labels)
    (grad,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite() and (grad[labels == -2] == 0).all() and (grad[labels != -2] != 0).any()
    kept = labels != -2
    torch.testing.assert_close(loss, focal_loss_from_labels(logits[kept], labels[kept]))


def test_an_image_without_objects_is_ordinary():
    logits, labels = case()
    loss = focal_loss_from_labels(logits, torch.full_like(labels, -1))
    assert loss > 0
    torch.testing.assert_close(loss, sigmoid_focal_loss(logits, torch.zeros_like(logits), reduction="sum"))
    assert focal_loss_from_labels(logits, torch.full_like(labels, -2)) == 0


def test_nothing_at_all():
    logits, labels = torch.zeros(2, 0, 5, requires_grad=True), torch.zeros(2, 0, dtype=torch.int64)
    loss = focal_loss_from_labels(logits, labels)
    loss.backward()
    assert loss == 0 and logits.grad.shape == (2, 0, 5)


def test_shapes_must_belong_together():
    with pytest.raises(ValueError, match=r"found shape \(3,\), expected \(4,\)"):
        focal_loss_from_labels(torch.zeros(4, 2), torch.zeros(3, dtype=torch.int64))


def test_the_gradient_scales_with_what_comes_from_above():
    logits, labels = case()
    (once,) = torch.autograd.grad(focal_loss_from_labels(logits, labels), logits)
    (scaled,) = torch.autograd.grad(focal_loss_from_labels(logits, labels) * 3 / 7, logits)
    torch.testing.assert_close(scaled, once * 3 / 7)


def test_a_second_backward_gives_the_same_and_leaves_the_first_alone():
    logits, labels = case()
    loss = focal_loss_from_labels(logits, labels)
    (first,) = torch.autograd.grad(loss, logits, grad_outputs=torch.tensor(2.0), retain_graph=True)
    copy = first.clone()
    (second,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(second, first / 2)
    assert torch.equal(first, copy)


def test_the_input_is_not_changed_and_no_gradient_is_made_in_vain():
    logits, labels = case()
    before = logits.detach().clone()
    focal_loss_from_labels(logits, labels).backward()
    assert torch.equal(logits.detach(), before)
    with torch.no_grad():
        quiet = focal_loss_from_labels(logits, labels)
    assert not quiet.requires_grad
    torch.testing.assert_close(quiet, focal_loss_from_labels(logits, labels).detach())


def test_logits_in_any_memory_layout():
    logits, labels = case(dtype=torch.float64)
    strange = logits.detach().permute(2, 1, 0).contiguous().permute(2, 1, 0).requires_grad_()
    assert not strange.is_contiguous()
    ours, plain = focal_loss_from_labels(strange, labels), focal_loss_from_labels(logits, labels)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(torch.autograd.grad(ours, strange), torch.autograd.grad(plain, logits))


@pytest.mark.parametrize("dtype, rtol", [(torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
def test_half_precision_logits_are_computed_in_float32(dtype, rtol):
    logits, labels = case(anchors=500)
    half = logits.detach().to(dtype).requires_grad_()
    same = half.detach().float().requires_grad_()
    loss, reference = focal_loss_from_labels(half, labels), focal_loss_from_labels(same, labels)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, reference)
    (grad,) = torch.autograd.grad(loss, half)
    (expected,) = torch.autograd.grad(reference, same)
    assert grad.dtype == dtype
    torch.testing.assert_close(grad.float(), expected, rtol=rtol, atol=1e-7)


def test_float16_keeps_small_gradients_for_the_loss_scale():
    logits = torch.full((1, 1), -6.0, dtype=torch.float16, requires_grad=True)
    (focal_loss_from_labels(logits, torch.tensor([-1])) * 65536.0).backward()
    p = 1 / (1 + math.exp(6.0))
    expected = 65536 * 0.75 * p**2 * (p + 2 * (1 - p) * -math.log1p(-p))  # unscaled 3e-8, under float16's least
    assert logits.grad.item() == pytest.approx(expected, rel=1e-2)


def test_under_bfloat16_autocast():
    logits, labels = case()
    expected = focal_loss_from_labels(logits, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(focal_loss_from_labels(logits, labels), expected)


def test_the_sum_of_millions_does_not_drift():
    logits = torch.full((40_000, 80), -4.6)
    loss = focal_loss_from_labels(logits, torch.full((40_000,), -1))
    assert loss.item() == pytest.approx(3_200_000 * textbook(float(logits[0, 0]), 0), rel=2e-6)


# Box losses


def test_smooth_l1_by_hand():
    pred, target = torch.tensor([0.0, 0.5, 1.0, 3.0, -3.0]), torch.zeros(5)
    assert smooth_l1(pred, target, 1.0).tolist() == [0, 0.125, 0.5, 2.5, 2.5]
    assert smooth_l1(pred, target, 0.0).tolist() == [0, 0.5, 1, 3, 3]


@pytest.mark.parametrize("beta", [0.0, 1 / 9, 1.0])
def test_smooth_l1_equals_torch(beta):
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.randn(2, 50, 4, generator=generator, dtype=torch.float64)
    pred = pred.requires_grad_()
    ours = smooth_l1(pred, target, beta)
    theirs = F.smooth_l1_loss(pred, target, beta=beta, reduction="none")
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours.sum(), pred), torch.autograd.grad(theirs.sum(), pred))
    assert torch.autograd.gradcheck(lambda p: smooth_l1(p, target, beta), (pred,))
    assert smooth_l1(pred[:0], target[:0], beta).shape == (0, 4)


def test_giou_loss_by_hand():
    # As in test_boxes: 1 − (1/7 − 2/9).
    loss = giou_loss(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 1.0, 3.0, 3.0]]))
    torch.testing.assert_close(loss, torch.tensor([1 - 1 / 7 + 2 / 9]))


@pytest.mark.parametrize("n", [0, 1, 100])
def test_giou_loss_equals_torchvision(n):
    pred, target = random_boxes(n, seed=1).requires_grad_(), random_boxes(n, seed=2)
    ours, theirs = giou_loss(pred, target), torchvision.ops.generalized_box_iou_loss(pred, target)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours.sum(), pred), torch.autograd.grad(theirs.sum(), pred))
    assert giou_loss(target, target).abs().sum() < 1e-5
