import pytest
import torch
from torch import nn

from course_lib.nn.level_heads import LevelHeads


def test_order_of_the_outputs():
    """Output a·K + k at pixel (y, x) lands in row (y·W + x)·A + a, column k; each level has its own A."""
    head = LevelHeads([2, 3], num_anchors=[2, 1], outputs=3)
    with torch.no_grad():
        for predictor in head.predictors:
            predictor.weight.zero_()
            predictor.weight[:, 0, 1, 1] = 100  # of y
            predictor.weight[:, 1, 1, 1] = 10  # of x, each at the pixel itself
            predictor.bias.copy_(torch.arange(len(predictor.bias)))
    y, x = torch.meshgrid(torch.arange(2), torch.arange(4), indexing="ij")
    fine = torch.stack((y, x))[None].float()
    coarse = torch.stack((y, x, x))[None, :, :1, :1].float()
    found = head([fine, coarse])
    assert [f.shape for f in found] == [(1, 2 * 4 * 2, 3), (1, 1, 3)]
    for row in range(2):
        for column in range(4):
            for a in range(2):
                values = found[0][0, (row * 4 + column) * 2 + a]
                assert values.tolist() == [100 * row + 10 * column + a * 3 + k for k in range(3)]
    assert found[1].flatten().tolist() == [0, 1, 2]


def test_levels_share_nothing():
    head = LevelHeads([4, 4], num_anchors=[2, 2], outputs=3, depth=1, norm="batch")
    head([torch.rand(2, 4, 5, 6), torch.rand(2, 4, 3, 3)])[0].sum().backward()
    assert head.predictors[0].weight.grad.abs().sum() > 0
    assert head.predictors[1].weight.grad is None
    assert all(p.grad is None for p in head.towers[1].parameters())


@pytest.mark.parametrize("depth, norm, layers", [(0, None, 0), (2, None, 4), (2, "batch", 6)])
def test_towers(depth, norm, layers):
    head = LevelHeads([4, 8], num_anchors=[1, 1], outputs=2, depth=depth, norm=norm)
    assert [len(tower) for tower in head.towers] == [layers, layers]
    convs = [m for m in head.towers.modules() if isinstance(m, nn.Conv2d)]
    assert all((conv.bias is None) == (norm is not None) for conv in convs)
    assert [x.shape for x in head([torch.rand(2, 4, 3, 2), torch.rand(2, 8, 1, 1)])] == [(2, 6, 2), (2, 1, 2)]


def test_predictors_start_as_xavier_says():
    # Glorot & Bengio 2010: uniform within √(6 / (fan_in + fan_out)); fans count the 3×3 kernel.
    torch.manual_seed(0)
    head = LevelHeads([64], num_anchors=[4], outputs=9)
    bound = (6 / (9 * (64 + 36))) ** 0.5
    weight = head.predictors[0].weight
    assert 0.99 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert head.predictors[0].bias.abs().sum() == 0


def test_predictors_may_start_smaller():
    torch.manual_seed(0)
    weight = LevelHeads([64], num_anchors=[4], outputs=9, std=0.01).predictors[0].weight
    assert weight.std().item() == pytest.approx(0.01, rel=0.02)
