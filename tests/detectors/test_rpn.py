"""Proposals, and what the network that makes them learns."""

import math

import pytest
import torch

from course_lib.detectors.anchor_pyramid import AnchorSpec
from course_lib.detectors.rpn import RPN, ProposalSpec, RPNLossSpec, select_anchors
from course_lib.detectors.targets import MatchSpec
from course_lib.ops.coder import decode

ANCHORS = AnchorSpec(sizes=((8.0,), (16.0,)), ratios=(1.0,), strides=(8, 16))


def rpn(*, proposals=None, loss=None, **matching):
    torch.manual_seed(0)
    return RPN(
        16,
        anchors=ANCHORS,
        matching=MatchSpec(**({"low": 0.3, "high": 0.7} | matching)),
        proposals=proposals or ProposalSpec(),
        loss=loss or RPNLossSpec(),
    ).eval()


def test_the_best_anchors_of_a_level():
    generator = torch.Generator().manual_seed(0)
    logits, deltas = torch.randn(2, 30, 1, generator=generator), torch.randn(2, 30, 4, generator=generator)
    corner = torch.rand(30, 2, generator=generator) * 40
    anchors = torch.cat((corner, corner + 10), 1)
    boxes, scores = select_anchors(logits, deltas, anchors, 7)
    for i in range(2):
        best = logits[i, :, 0].argsort(descending=True)[:7]
        assert torch.equal(scores[i], logits[i, best, 0])
        torch.testing.assert_close(boxes[i], decode(deltas[i, best], anchors[best]))
    assert select_anchors(logits, deltas, anchors, 99)[0].shape == (2, 30, 4)


def propose(levels, *, training=False, size=(40, 40), **spec):
    """Proposals of one image whose levels are lists of (logit, box), with deltas 0."""
    model = rpn(proposals=ProposalSpec(**spec)).train(training)
    logits = [torch.tensor([[[logit] for logit, _ in level]]) for level in levels]
    anchors = [torch.tensor([box for _, box in level], dtype=torch.float32) for level in levels]
    deltas = [torch.zeros(1, len(level), 4) for level in levels]
    ((boxes, scores),) = model.propose(logits, deltas, anchors, [size])
    return boxes.tolist(), scores.tolist()


A, B, C = [0.0, 0, 10, 10], [0.0, 0, 10, 9], [20.0, 20, 30, 30]


def test_nms_is_by_level_and_the_best_come_first():
    assert propose([[(1.0, A), (3.0, B), (2.0, C)]]) == ([B, C], [3.0, 2.0])  # IoU of A and B is 0.9
    assert propose([[(1.0, A)], [(3.0, B), (2.0, C)]]) == ([B, C, A], [3.0, 2.0, 1.0])
    assert propose([[(1.0, A), (3.0, B)]], nms=0.95) == ([B, A], [3.0, 1.0])


def test_how_many_are_kept():
    level = [(float(i), [10.0 * i, 0, 10 * i + 8, 8]) for i in range(4)]
    assert propose([level, [(9.0, A)]], before_nms=(9, 2))[1] == [9, 3, 2]
    assert propose([level, [(9.0, A)]], before_nms=(1, 2), training=True)[1] == [9, 3]
    assert propose([level], after_nms=(3, 1))[1] == [3]
    assert propose([level], after_nms=(3, 1), training=True)[1] == [3, 2, 1]


def test_proposals_end_at_the_border_and_are_not_empty():
    outside, thin = [-30.0, 0, -5, 10], [5.0, 5, 5.0005, 9]
    level = [(1.0, [-10.0, 30, 10, 60]), (2.0, outside), (3.0, thin)]
    assert propose([level])[1] == [3, 1]
    assert propose([level], min_size=1e-3) == ([[0, 30, 10, 40]], [1])


def test_ranking_by_probability_may_tie():
    """σ(30) and σ(40) are both 1 in float32: then the first of them wins."""
    two = [[(30.0, C)], [(40.0, A)]]
    assert propose(two, rank_by="logit")[1] == [40, 30]
    assert propose(two, rank_by="probability")[1] == [30, 40]


def losses(logits, boxes, *, anchors=(A, C), deltas=None, **spec):
    """Losses of a batch: logits (B, A), each image's objects."""
    model = rpn(loss=RPNLossSpec(**spec))
    logits = torch.tensor(logits)
    deltas = torch.zeros(*logits.shape, 4) if deltas is None else deltas
    objects = [torch.tensor(b, dtype=torch.float32).reshape(-1, 4) for b in boxes]
    found = model.losses(logits, deltas, torch.tensor(anchors), objects, torch.Generator().manual_seed(0))
    return {name.removeprefix("rpn_"): value.item() for name, value in found.items()}


def softplus(x):
    return math.log1p(math.exp(x))


def test_losses_by_hand():
    # Anchor A is the object's: log(1 + e^-1), and its box is off by one pixel in height; C is background.
    found = losses([[1.0, 2.0]], [[[0, 0, 10, 11]]], samples=4)
    assert found["objectness"] == pytest.approx((softplus(-1) + softplus(2)) / 4)
    assert found["bbox_regression"] == pytest.approx((0.05 + math.log(1.1)) / 4)  # centre 0.5 px of 10 further down
    drawn = losses([[1.0, 2.0]], [[[0, 0, 10, 11]]], samples=4, normalizer="drawn")
    assert drawn["objectness"] == pytest.approx((softplus(-1) + softplus(2)) / 2)
    smooth = losses([[1.0, 2.0]], [[[0, 0, 10, 11]]], samples=4, box="smooth_l1", beta=1.0)
    assert smooth["bbox_regression"] == pytest.approx((0.05**2 + math.log(1.1) ** 2) / 8)


def test_images_without_objects():
    one = losses([[1.0, 2.0]], [[]], samples=4)
    assert one["objectness"] == pytest.approx((softplus(1) + softplus(2)) / 4)
    assert one["bbox_regression"] == 0
    both = losses([[1.0, 2.0], [0.0, 0.0]], [[], [A]], samples=4)
    assert both["objectness"] == pytest.approx((softplus(1) + softplus(2) + 2 * math.log(2)) / 8)


def test_the_sample_is_balanced():
    # Three anchors of the object and five of background, all with logit 0: as many log 2 as were drawn.
    anchors = [A, A, A] + [[20.0 + i, 20, 30 + i, 30] for i in range(5)]
    drawn = losses([[0.0] * 8], [[A]], anchors=anchors, samples=4, positive_fraction=0.25)
    assert drawn["objectness"] == pytest.approx(math.log(2))
    few = losses([[9.0] * 3 + [-50.0] * 5], [[A]], anchors=anchors, samples=4, positive_fraction=0.5)
    assert few["objectness"] == pytest.approx(2 * softplus(-9) / 4, rel=1e-4)  # two positives, two right negatives


def test_nothing_to_draw():
    """Every anchor is between the thresholds."""
    model = rpn(loss=RPNLossSpec(normalizer="drawn"), low_quality=False)
    half = torch.tensor([[0.0, 0, 10, 5]])  # IoU 0.5
    logits = torch.zeros(1, 1, requires_grad=True)
    found = model.losses(logits, torch.zeros(1, 1, 4), torch.tensor([A]), [half], torch.Generator())
    assert [x.item() for x in found.values()] == [0, 0]
    found["rpn_objectness"].backward()
    assert logits.grad.item() == 0


def test_forward():
    model = rpn()
    features = [torch.randn(2, 16, 8, 8).requires_grad_(), torch.randn(2, 16, 4, 4).requires_grad_()]
    sizes = [(64, 64), (40, 50)]
    proposals, none = model(features, (64, 64), sizes)
    assert none == {}
    assert len(proposals) == 2
    assert not proposals[0].requires_grad
    assert proposals[1][:, 2].max() <= 50
    assert proposals[1][:, 3].max() <= 40
    boxes = [torch.tensor([[8.0, 8, 20, 20]]), torch.zeros(0, 4)]
    same, found = model(features, (64, 64), sizes, boxes, torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(same, proposals))
    assert set(found) == {"rpn_objectness", "rpn_bbox_regression"}
    sum(found.values()).backward()
    assert all(x.grad.abs().sum() > 0 for x in features)
    assert model.head.deltas.weight.grad.abs().sum() > 0
