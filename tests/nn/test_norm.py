import pytest
import torch
from torch import nn

from course_lib.nn.backbones import BLOCKS, ResNet
from course_lib.nn.heads import DenseHead
from course_lib.nn.norm import FrozenBatchNorm2d, fold_batch_norms, make_norm, scale_and_shift
from tests.nn.randomise import randomise_norms


def norms(channels=5, eps=1e-5, formula="batch_norm"):
    """A frozen norm and torch's batch norm in evaluation, with the same random numbers."""
    plain = randomise_norms(nn.BatchNorm2d(channels, eps=eps)).eval()
    frozen = FrozenBatchNorm2d(channels, eps=eps, formula=formula)
    frozen.load_state_dict({k: v for k, v in plain.state_dict().items() if k != "num_batches_tracked"})
    return frozen, plain


def test_frozen_norm_by_hand():
    # (3 − 1) / √(3 + 1) · 5 + 7 = 12, with the 1 as epsilon
    numbers = {"weight": 5.0, "bias": 7.0, "running_mean": 1.0, "running_var": 3.0}
    for formula in ("batch_norm", "scale_shift"):
        norm = FrozenBatchNorm2d(1, eps=1.0, formula=formula)
        norm.load_state_dict({name: torch.tensor([value]) for name, value in numbers.items()})
        assert norm(torch.full((1, 1, 1, 2), 3.0)).tolist() == [[[[12.0, 12.0]]]]


@pytest.mark.parametrize("formula", ["batch_norm", "scale_shift"])
@pytest.mark.parametrize("eps", [0.0, 1e-5, 1e-3])
def test_frozen_norm_is_batch_norm_in_evaluation(formula, eps):
    frozen, plain = norms(eps=eps, formula=formula)
    x = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(1))
    if formula == "batch_norm":
        assert torch.equal(frozen(x), plain(x))
    torch.testing.assert_close(frozen(x), plain(x), rtol=1e-6, atol=1e-6)


def test_frozen_norm_is_constant_in_training():
    frozen, _ = norms()
    x = torch.randn(2, 5, 3, 4)
    before = {k: v.clone() for k, v in frozen.state_dict().items()}
    assert torch.equal(frozen.train()(x), frozen.eval()(x))
    assert not list(frozen.parameters())
    assert set(before) == {"weight", "bias", "running_mean", "running_var"}
    assert all(torch.equal(v, before[k]) for k, v in frozen.state_dict().items())


def test_epsilon_matters_where_the_variance_is_tiny():
    # √(1e-6 / (1e-6 + 1e-5)) = 0.3015: what torchvision's change of epsilon to 0 does to such a channel.
    scales = []
    for eps in (1e-5, 0.0):
        norm = FrozenBatchNorm2d(1, eps=eps)
        norm.running_var.fill_(1e-6)
        scales.append(scale_and_shift(norm)[0].item())
    assert scales[0] / scales[1] == pytest.approx(0.30151, rel=1e-4)


def test_frozen_norm_tells_what_it_is():
    assert repr(FrozenBatchNorm2d(4, eps=0.5)) == "FrozenBatchNorm2d(4, eps=0.5, formula='batch_norm')"
    with pytest.raises(ValueError, match="'batch_norm' or 'scale_shift', not 'fast'"):
        FrozenBatchNorm2d(4, formula="fast")


def test_make_norm():
    assert make_norm("frozen", 4, eps=0.5).extra_repr() == "4, eps=0.5, formula='batch_norm'"
    assert make_norm("frozen_scale_shift", 4).formula == "scale_shift"
    batch = make_norm("batch", 4, eps=0.5, momentum=0.25)
    assert isinstance(batch, nn.BatchNorm2d) and (batch.eps, batch.momentum) == (0.5, 0.25)
    with pytest.raises(ValueError, match="unknown normalisation 'layer': expected frozen, "):
        make_norm("layer", 4)


@pytest.mark.parametrize("channels, groups", [(256, 32), (64, 32), (48, 16), (24, 8), (20, 4), (6, 2), (5, 1)])
def test_group_norm_takes_as_many_groups_as_divide_the_channels(channels, groups):
    assert make_norm("group", channels).num_groups == groups


@pytest.mark.parametrize("kind", ["batch", "frozen", "frozen_scale_shift"])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_folding_leaves_the_outputs(kind, bottleneck):
    torch.manual_seed(0)
    net = ResNet(blocks=(1, 2, 1, 1), bottleneck=bottleneck, stem_width=8, widths=(8, 12, 16, 16), norm=kind)
    randomise_norms(net).eval()
    images = torch.rand(2, 3, 65, 70)
    with torch.no_grad():
        wanted = net(images)
    folded = fold_batch_norms(net)
    assert folded is net
    assert not net.training
    assert not any(isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d) for m in net.modules())
    with torch.no_grad():
        found = net(images)
    for level, x in wanted.items():
        torch.testing.assert_close(found[level], x, rtol=1e-5, atol=1e-5)


def test_folding_a_convolution_that_has_a_bias():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), randomise_norms(nn.BatchNorm2d(4)), nn.ReLU()).eval()
    x = torch.rand(1, 3, 6, 6)
    wanted = net(x)
    torch.testing.assert_close(fold_batch_norms(net)(x), wanted, rtol=1e-5, atol=1e-6)
    assert isinstance(net[1], nn.Identity)


def test_folding_leaves_what_is_no_batch_norm_after_a_convolution():
    torch.manual_seed(0)
    head = DenseHead(8, num_anchors=1, outputs=2, num_levels=1, depth=1, norm="group")
    lonely = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3))
    x = torch.rand(1, 8, 4, 4)
    wanted = head([x])[0]
    assert torch.equal(fold_batch_norms(head)([x])[0], wanted)
    assert isinstance(fold_batch_norms(lonely)[1], nn.BatchNorm2d)


def test_a_deep_network_folds_within_rounding():
    torch.manual_seed(0)
    net = randomise_norms(ResNet(blocks=BLOCKS[50], stem_width=16, widths=(8, 16, 32, 64), norm="batch")).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        wanted = net(images)["c5"]
        found = fold_batch_norms(net)(images)["c5"]
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()
