import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from course_lib.ops.sampling import hard_negatives, sample_balanced


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-2, 3), max_size=60), st.integers(0, 40), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_counts_as_torchvision_and_labels_as_asked(labels, batch_size, fraction):
    labels = torch.tensor(labels, dtype=torch.int64)
    positive, negative = sample_balanced(labels, batch_size, fraction, generator())
    assert (labels[positive] >= 0).all() and (labels[negative] == -1).all()
    assert len(positive.unique()) == len(positive) and len(negative.unique()) == len(negative)
    theirs = torch.where(labels >= 0, 1, labels + 1)  # torchvision: 1 object, 0 background, -1 ignored
    (p,), (n,) = BalancedPositiveNegativeSampler(batch_size, fraction)([theirs])
    assert (len(positive), len(negative)) == (int(p.sum()), int(n.sum()))


def test_by_hand():
    labels = torch.tensor([3, -1, -1, -2, 0, -1, 1])
    positive, negative = sample_balanced(labels, 4, 0.5, generator())
    assert len(positive) == 2 and len(negative) == 2
    positive, negative = sample_balanced(labels, 100, 0.5, generator())
    assert sorted(positive.tolist()) == [0, 4, 6] and sorted(negative.tolist()) == [1, 2, 5]
    positive, negative = sample_balanced(torch.full((9,), -1), 4, 0.5, generator())
    assert len(positive) == 0 and len(negative) == 4  # no objects: background fills the sample


def test_the_generator_decides():
    labels = torch.arange(-500, 500).clamp(min=-1)
    draws = [torch.cat(sample_balanced(labels, 64, 0.5, generator(seed))) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_every_anchor_gets_its_turn():
    labels, state = torch.full((10,), -1), generator()
    seen = torch.cat([sample_balanced(labels, 3, 0.5, state)[1] for _ in range(60)])
    assert set(seen.tolist()) == set(range(10))


def test_hard_negatives_by_hand():
    loss = torch.tensor([9.0, 0.1, 0.8, 0.3, 0.5, 7.0])
    positive = torch.tensor([True, False, False, False, False, False])
    assert hard_negatives(loss, positive, 2).nonzero().flatten().tolist() == [2, 5]
    assert hard_negatives(loss, positive).nonzero().flatten().tolist() == [2, 4, 5]
    assert hard_negatives(loss, positive, 50).sum() == 5  # all there are, and never the positive
    assert not hard_negatives(loss, torch.zeros(6, dtype=torch.bool)).any()  # no objects
    assert hard_negatives(loss[:0], positive[:0]).shape == (0,)


def test_hard_negatives_of_equal_losses():
    assert hard_negatives(torch.ones(10), torch.arange(10) == 4).nonzero().flatten().tolist() == [0, 1, 2]


@pytest.mark.parametrize("ratio", [1, 3])
def test_hard_negatives_of_a_batch_as_ssd_takes_them(ratio):
    loss = torch.rand(4, 200, generator=generator())
    positive = torch.rand(4, 200, generator=generator(1)) < torch.tensor([0.0, 0.02, 0.1, 0.6])[:, None]
    chosen = hard_negatives(loss, positive, ratio)
    for i in range(4):
        background = loss[i][~positive[i]].sort(descending=True).values
        count = min(ratio * int(positive[i].sum()), len(background))
        assert torch.equal(loss[i][chosen[i]].sort(descending=True).values, background[:count])
