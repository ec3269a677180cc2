import pytest
import torch
from torch import nn

from course_lib.nn.heads import DenseHead, RPNHead


@pytest.mark.parametrize("prior", [0.01, 0.5, 0.1])
def test_prior(prior):
    torch.manual_seed(0)
    head = DenseHead(8, num_anchors=3, outputs=5, num_levels=1, prior=prior)
    assert head.predictor.bias.sigmoid().tolist() == pytest.approx([prior] * 15)
    # The weights are so small that the whole output starts there.
    (scores,) = head([torch.rand(2, 8, 4, 4)])
    assert scores.sigmoid().min().item() == pytest.approx(prior, rel=0.01)
    assert scores.sigmoid().max().item() == pytest.approx(prior, rel=0.01)


def test_without_prior_the_biases_are_zero():
    head = DenseHead(8, num_anchors=3, outputs=4, num_levels=1)
    assert all(p.abs().sum() == 0 for n, p in head.named_parameters() if n.endswith("bias"))
    weights = torch.cat([m.weight.flatten() for m in head.modules() if isinstance(m, nn.Conv2d)])
    assert weights.std().item() == pytest.approx(0.01, rel=0.05)


def test_order_of_the_outputs():
    """Output a·K + k at pixel (y, x) lands in row (y·W + x)·A + a, column k: that of `grid_anchors`."""
    anchors, outputs = 2, 3
    head = DenseHead(2, num_anchors=anchors, outputs=outputs, num_levels=1, depth=0)
    with torch.no_grad():
        head.predictor.weight.zero_()
        head.predictor.weight[:, 0, 1, 1] = 1  # 100 y
        head.predictor.weight[:, 1, 1, 1] = 1  # 10 x, each at the pixel itself
        head.predictor.bias.copy_(torch.arange(6))
    y, x = torch.meshgrid(torch.arange(2), torch.arange(4), indexing="ij")
    (found,) = head([torch.stack((100 * y, 10 * x))[None].float()])
    assert found.shape == (1, 2 * 4 * anchors, outputs)
    for row in range(2):
        for column in range(4):
            for a in range(anchors):
                values = found[0, (row * 4 + column) * anchors + a]
                assert values.tolist() == [100 * row + 10 * column + a * outputs + k for k in range(outputs)]


def test_levels_share_the_weights_and_memory_format_does_not_matter():
    torch.manual_seed(0)
    head = DenseHead(4, num_anchors=2, outputs=3, num_levels=1, depth=1, norm="group").eval()
    a, b = torch.rand(2, 4, 5, 6), torch.rand(2, 4, 3, 3)
    both = head([a, b])
    assert [x.shape for x in both] == [(2, 60, 3), (2, 18, 3)]
    assert torch.equal(head([b])[0], both[1])
    last = head([a.contiguous(memory_format=torch.channels_last)])[0]
    torch.testing.assert_close(last, both[0], rtol=1e-5, atol=1e-6)


def layers(module, kind):
    return [m for m in module.modules() if isinstance(m, kind)]


@pytest.mark.parametrize(
    "norm, kind, sets", [(None, nn.Identity, 1), ("group", nn.GroupNorm, 1), ("batch", nn.BatchNorm2d, 3)]
)
def test_norms(norm, kind, sets):
    head = DenseHead(8, num_anchors=1, outputs=1, num_levels=3, depth=4, norm=norm)
    assert len(layers(head.convs, nn.Conv2d)) == 4
    assert all((conv.bias is None) == (norm is not None) for conv in head.convs)
    assert head.predictor.bias is not None
    assert len(layers(head, kind)) == 4 * sets


def test_each_level_has_its_own_batch_norm():
    torch.manual_seed(0)
    head = DenseHead(4, num_anchors=1, outputs=2, num_levels=2, depth=1, norm="batch")
    with torch.no_grad():
        head.convs[0].weight.zero_()[:, :, 1, 1] = torch.eye(4)
    fine, coarse = torch.rand(8, 4, 8, 8), torch.rand(8, 4, 8, 8) * 10 + 100
    for norm in layers(head, nn.BatchNorm2d):
        norm.momentum = 1.0  # the running statistics are those of the last batch
    trained = head([fine, coarse])
    means = [norms[0].running_mean for norms in head.norms]
    torch.testing.assert_close(means[0], fine.mean((0, 2, 3)))
    torch.testing.assert_close(means[1], coarse.mean((0, 2, 3)))
    # In training and in evaluation the predictor sees the same numbers, on both levels.
    for a, b in zip(head.eval()([fine, coarse]), trained):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_no_negative_number_reaches_the_predictor():
    torch.manual_seed(0)
    head = DenseHead(4, num_anchors=1, outputs=4, num_levels=1, depth=2)
    with torch.no_grad():
        head.predictor.weight.zero_()[:, :, 1, 1] = torch.eye(4)
        head.convs[1].bias.copy_(torch.tensor([-5.0, 5, -5, 5]))
    (found,) = head([torch.rand(1, 4, 3, 3)])
    assert found[..., [0, 2]].abs().max() == 0
    assert found[..., [1, 3]].min() > 4


def test_the_rpns_head():
    torch.manual_seed(0)
    head = RPNHead(8, num_anchors=3, num_levels=2, depth=2)
    assert len(head.convs) == 2
    assert head.objectness.kernel_size == head.deltas.kernel_size == (1, 1)
    assert all(p.abs().sum() == 0 for n, p in head.named_parameters() if n.endswith("bias"))
    features = [torch.rand(2, 8, 4, 5), torch.rand(2, 8, 2, 3)]
    logits, deltas = head(features)
    assert [x.shape for x in logits] == [(2, 60, 1), (2, 18, 1)]
    assert [x.shape for x in deltas] == [(2, 60, 4), (2, 18, 4)]
    # both read the same tower; anchor 2 at row 1, column 3
    (x, _) = head.tower(features)
    torch.testing.assert_close(logits[0][0, (1 * 5 + 3) * 3 + 2, 0], head.objectness(x)[0, 2, 1, 3])
    torch.testing.assert_close(deltas[0][0, (1 * 5 + 3) * 3 + 2], head.deltas(x)[0, 8:12, 1, 3])


def test_the_rpns_head_has_a_batch_norm_a_level():
    head = RPNHead(8, num_anchors=1, num_levels=3, norm="batch")
    assert len(layers(head, nn.BatchNorm2d)) == 3
