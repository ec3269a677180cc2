import pytest
import torch
from torch.nn import functional as F

from course_lib.nn.deform import DeformConv2d
from course_lib.nn.semantic_head import SemanticHead, SharedSemanticHead

GENERATOR = torch.Generator().manual_seed(0)
MAPS = [torch.randn(2, 6, 16 // s, 24 // s, generator=GENERATOR) for s in (1, 2, 4, 8)]


def panoptic_fpn(num_levels=4, **changes):
    torch.manual_seed(0)
    return SemanticHead(6, **{"num_classes": 5, "num_levels": num_levels, "channels": 8, "norm": "group"} | changes)


def upsnet(num_levels=4, **changes):
    torch.manual_seed(0)
    fields = {"num_classes": 5, "num_levels": num_levels, "channels": 8, "norm": "group", "depth": 2}
    return SharedSemanticHead(6, **fields | {"deformable": False} | changes)


HEADS = [panoptic_fpn, upsnet, lambda **c: upsnet(deformable=True, **c), lambda **c: upsnet(norm="batch", **c)]


def test_each_level_climbs_by_doublings():
    """Figure 3 of the paper, level by level."""
    head = panoptic_fpn().eval()
    double = lambda x: F.interpolate(x, scale_factor=2, mode="bilinear")  # noqa: E731
    (p2,), (p3,), (p4, p4b), (p5, p5b, p5c) = head.levels
    total = p2(MAPS[0]) + double(p3(MAPS[1])) + double(p4b(double(p4(MAPS[2]))))
    total = total + double(p5c(double(p5b(double(p5(MAPS[3]))))))
    torch.testing.assert_close(head(MAPS), head.predictor(total))


def test_one_subnet_for_all_levels():
    head = upsnet(depth=1).eval()
    subnet = lambda x: head.norms[0][0](head.convs[0](x)).relu()  # noqa: E731
    wide = [F.interpolate(subnet(x), scale_factor=2**level, mode="bilinear") for level, x in enumerate(MAPS)]
    torch.testing.assert_close(head(MAPS), head.predictor(torch.cat(wide, 1)), rtol=1e-5, atol=1e-6)


def test_of_batch_norm_each_level_has_its_own():
    assert len(upsnet(norm="batch").norms) == 4
    assert len(upsnet().norms) == 1


@pytest.mark.parametrize("make", HEADS)
def test_shapes_gradient_and_a_pyramid_with_more_levels(make):
    head = make(num_levels=3)
    logits = head(MAPS)
    assert logits.shape == (2, 5, 16, 24)
    logits.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    assert len({id(p) for p in head.parameters()}) == len(list(head.parameters()))


@pytest.mark.parametrize("make", HEADS)
def test_odd_sizes_and_one_pixel(make):
    head = make(channels=64).eval()  # two a group: of a single number there is no variance
    sizes = [(5, 7), (3, 4), (2, 2), (1, 1)]
    assert head([torch.randn(1, 6, *s) for s in sizes]).shape == (1, 5, 5, 7)
    assert head([torch.randn(1, 6, 1, 1) for _ in range(4)]).shape == (1, 5, 1, 1)


@pytest.mark.parametrize("make", HEADS)
def test_every_cell_starts_undecided(make):
    probabilities = make()(MAPS).softmax(1)
    assert (probabilities - 0.2).abs().max() < 0.1


def test_offsets_of_zero_are_an_ordinary_convolution():
    torch.manual_seed(0)
    conv = DeformConv2d(6, 4)
    torch.testing.assert_close(conv(MAPS[0]), F.conv2d(MAPS[0], conv.weight, conv.bias, padding=1))


def test_offsets_move_every_tap():
    """All taps one pixel to the right: the convolution of the picture moved one pixel to the left."""
    torch.manual_seed(0)
    conv = DeformConv2d(6, 4, bias=False)
    with torch.no_grad():
        conv.offsets.bias.copy_(torch.tensor([0.0, 1.0] * 9))  # y, x of each tap
    plain = F.conv2d(MAPS[0], conv.weight, padding=1)
    torch.testing.assert_close(conv(MAPS[0])[..., 1:-2], plain[..., 2:-1])


def test_deformable_in_bfloat16():
    conv = DeformConv2d(6, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(MAPS[0].bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), conv(MAPS[0]), rtol=0.05, atol=0.05)
