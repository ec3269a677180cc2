from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from course_lib.nn.fpn import FPN
from course_lib.nn.norm import fold_batch_norms
from tests.nn.randomise import randomise_norms


def maps(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {f"c{i}": torch.randn(1, *shape, generator=generator) for i, shape in enumerate(shapes, start=3)}


@torch.no_grad()
def make_plain(fpn):
    """Laterals sum the channels, the 3×3 convolutions take the centre: what comes out can be worked out by hand."""
    for lateral in fpn.lateral:
        lateral.weight.fill_(1)
    for conv in (*fpn.output, fpn.p6, fpn.p7):
        if conv is not None:
            conv.weight.zero_()[:, :, 1, 1] = torch.eye(conv.out_channels, conv.in_channels)
    return fpn


def test_by_hand():
    fpn = make_plain(FPN({"c3": 2, "c4": 1}, channels=1))
    c3 = torch.tensor([[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]], [[10.0, 10, 10]] * 3])[None]
    c4 = torch.tensor([[[100.0, 200], [300, 400]]])[None]
    p3, p4 = fpn({"c3": c3, "c4": c4})
    assert torch.equal(p4, c4)
    # 2×2 to 3×3, nearest: output pixel i reads ⌊i · 2/3⌋ = 0, 0, 1. The lateral adds c3's channels, 10 to each.
    assert p3[0, 0].tolist() == [[111, 112, 213], [114, 115, 216], [317, 318, 419]]


def test_p6_and_p7_by_hand():
    # Stride 2 and centre weights: every second pixel. p7 sees relu(p6).
    c5 = torch.arange(25.0).reshape(1, 1, 5, 5) - 12
    p5, p6, p7 = make_plain(FPN({"c5": 1}, channels=1, extra="p6p7_from_c5"))({"c5": c5})
    assert torch.equal(p5, c5)
    assert p6[0, 0].tolist() == [[-12, -10, -8], [-2, 0, 2], [8, 10, 12]]
    assert p7[0, 0].tolist() == [[0, 0], [8, 12]]


def test_source_of_p6():
    features = maps((2, 8, 8), (3, 4, 4), (5, 2, 2))
    channels = {"c3": 2, "c4": 3, "c5": 5}
    torch.manual_seed(0)
    from_p5 = FPN(channels, channels=4, extra="p6p7_from_p5")
    found = from_p5(features)
    assert torch.equal(found[3], from_p5.p6(found[2]))
    assert torch.equal(found[4], from_p5.p7(F.relu(found[3])))
    from_c5 = FPN(channels, channels=4, extra="p6p7_from_c5")
    assert from_c5.p6.in_channels == 5
    assert torch.equal(from_c5(features)[3], from_c5.p6(features["c5"]))


@pytest.mark.parametrize(
    "extra, levels",
    [("", 3), ("p6_from_c5", 4), ("p6_from_p5", 4), ("p6p7_from_c5", 5), ("p6p7_from_p5", 5), ("p6_pool", 4)],
)
def test_levels(extra, levels):
    fpn = FPN({"c3": 2, "c4": 3, "c5": 5}, channels=4, extra=extra)
    found = fpn(maps((2, 11, 13), (3, 6, 7), (5, 3, 4)))
    assert len(found) == fpn.num_levels == levels
    sizes = [(11, 13), (6, 7), (3, 4), (2, 2), (1, 1)]
    assert [tuple(x.shape) for x in found] == [(1, 4, *size) for size in sizes[:levels]]


@pytest.mark.parametrize("extra", ["", "p6p7_from_c5", "p6p7_from_p5"])
@pytest.mark.parametrize("sizes", [((8, 8), (4, 4), (2, 2)), ((13, 25), (7, 13), (4, 7)), ((1, 1), (1, 1), (1, 1))])
def test_is_torchvisions(extra, sizes):
    features = maps(*((c, *size) for c, size in zip((6, 8, 10), sizes)))
    torch.manual_seed(0)
    source = 10 if extra.endswith("c5") else 4
    theirs = FeaturePyramidNetwork([6, 8, 10], 4, LastLevelP6P7(source, 4) if extra else None)
    ours = FPN({"c3": 6, "c4": 8, "c5": 10}, channels=4, extra=extra)
    with torch.no_grad():
        for i in range(3):
            ours.lateral[i].load_state_dict(theirs.inner_blocks[i][0].state_dict())
            ours.output[i].load_state_dict(theirs.layer_blocks[i][0].state_dict())
        if extra:
            ours.p6.load_state_dict(theirs.extra_blocks.p6.state_dict())
            ours.p7.load_state_dict(theirs.extra_blocks.p7.state_dict())
        wanted = list(theirs(OrderedDict(features)).values())
        found = ours(features)
    assert len(found) == len(wanted)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted))


@torch.no_grad()
def test_norms_and_the_pooled_level_are_torchvisions():
    features = maps((6, 13, 25), (8, 7, 13))
    torch.manual_seed(0)
    theirs = FeaturePyramidNetwork([6, 8], 4, LastLevelMaxPool(), nn.BatchNorm2d)
    randomise_norms(theirs).eval()
    ours = FPN({"c3": 6, "c4": 8}, channels=4, extra="p6_pool", norm="batch").eval()
    for i in range(2):
        ours.lateral[i].load_state_dict(theirs.inner_blocks[i].state_dict())
        ours.output[i].load_state_dict(theirs.layer_blocks[i].state_dict())
    wanted, found = list(theirs(OrderedDict(features)).values()), ours(features)
    assert [tuple(x.shape[-2:]) for x in found] == [(13, 25), (7, 13), (4, 7)]
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    folded = fold_batch_norms(ours)(features)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in ours.modules())
    for a, b in zip(folded, wanted):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_biases_start_at_zero_and_inputs_are_not_changed():
    fpn = FPN({"c3": 2, "c4": 2}, channels=3, extra="p6_from_p5")
    assert all(p.abs().sum() == 0 for n, p in fpn.named_parameters() if n.endswith("bias"))
    features = maps((2, 4, 4), (2, 2, 2))
    before = {k: v.clone() for k, v in features.items()}
    fpn(features)
    assert all(torch.equal(features[k], before[k]) for k in features)


def test_unknown_extra():
    with pytest.raises(ValueError, match=r"extra must be one of '', 'p6_from_c5', .*, not 'p8'"):
        FPN({"c3": 1}, extra="p8")
