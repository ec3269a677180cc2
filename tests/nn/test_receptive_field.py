import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_lib.nn.backbones import BLOCKS, VGG16, ResNet
from course_lib.nn.receptive_field import effective_side, extent, gradient_field, path, receptive_field

LEVELS = ("c2", "c3", "c4", "c5")


def small(**options):
    torch.manual_seed(0)
    shape = {"blocks": (1, 1, 1, 1), "bottleneck": False, "stem_width": 4, "widths": (4, 4, 4, 4)}
    return ResNet(**shape | {"stem": "3x3", "norm": "frozen", "levels": LEVELS} | options).eval()


@pytest.mark.parametrize(
    "layers, field, stride",
    [
        ([], 1, 1),
        ([(3, 1)], 3, 1),
        ([(3, 1)] * 3, 7, 1),
        ([(3, 2), (3, 2), (3, 1)], 3 + 2 * 2 + 2 * 4, 4),
        ([(7, 2), (3, 2)], 7 + 2 * 2, 4),
        ([(1, 2), (1, 1)], 1, 2),
    ],
)
def test_by_hand(layers, field, stride):
    assert receptive_field(layers) == (field, stride)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), max_size=5))
def test_is_what_going_back_layer_by_layer_gives(layers):
    # n cells of a map are made from (n − 1)·stride + kernel cells of the map before.
    cells = 1
    for kernel, stride in reversed(layers):
        cells = (cells - 1) * stride + kernel
    assert receptive_field(layers)[0] == cells


def test_refuses_a_stride_of_0():
    with pytest.raises(ValueError, match="found kernel 3 and stride 0"):
        receptive_field([(3, 0)])


def test_vgg16_by_its_table():
    # Configuration D: 2, 2, 3, 3, 3 convolutions of 3×3, a 2×2 pooling after each group.
    vgg = VGG16(levels=LEVELS)
    groups = [[(3, 1)] * n for n in (2, 2, 3, 3, 3)]
    pool = [(2, 2)]
    assert path(vgg, "c2") == groups[0] + pool + groups[1] + pool + groups[2]
    assert path(vgg, "c5") == [layer for group in groups for layer in group + pool]
    assert [receptive_field(path(vgg, level)) for level in LEVELS] == [(40, 4), (92, 8), (196, 16), (212, 32)]


def test_resnet_by_its_table():
    net = ResNet(blocks=BLOCKS[18], bottleneck=False, norm="frozen", levels=LEVELS)
    # 7×7/2, pooling 3×3/2, then two blocks of two 3×3 a stage; the first convolution of a later stage has the stride.
    assert path(net, "c2") == [(7, 2), (3, 2)] + [(3, 1)] * 4
    assert path(net, "c3") == path(net, "c2") + [(3, 2)] + [(3, 1)] * 3
    assert [receptive_field(path(net, level)) for level in LEVELS] == [(43, 4), (99, 8), (211, 16), (435, 32)]


@pytest.mark.parametrize("stem", ["3x3", "7x7"])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_the_gradient_of_a_network_without_cancellation_fills_just_the_field(stem, bottleneck):
    # Positive weights, no ReLU that could be shut, no choice of a maximum: every path to a pixel counts.
    net = small(stem=stem, bottleneck=bottleneck)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data.abs_()
    if stem == "7x7":
        net.maxpool = nn.AvgPool2d(3, stride=2, padding=1)
    images = torch.rand(1, 3, 128, 128)
    for level in ("c2", "c3", "c4"):
        field = gradient_field(net, level, images, generator=torch.Generator().manual_seed(0))
        layers = path(net, level) if stem == "3x3" else [(7, 2), (3, 2), *path(net, level)[1:]]
        assert extent(field) == (receptive_field(layers)[0],) * 2


def test_gradient_field_leaves_no_trace_in_the_parameters():
    net = small(widths=(16, 16, 16, 16))
    field = gradient_field(net, "c3", torch.randn(2, 3, 64, 96), generator=torch.Generator().manual_seed(1))
    assert field.shape == (64, 96)
    assert field.sum().item() == pytest.approx(1)
    assert all(p.grad is None for p in net.parameters())


def test_a_silent_cell_has_no_field():
    net = small()
    net.layer1[0].bn2.weight.fill_(0.0)
    net.layer1[0].downsample[1].weight.fill_(0.0)
    with pytest.raises(ValueError, match="no pixel moves the middle cell of c2 in 1 images"):
        gradient_field(net, "c2", torch.randn(1, 3, 32, 32), generator=torch.Generator())


def test_extent_by_hand():
    field = torch.zeros(5, 7)
    assert extent(field) == (0, 0)
    field[1, 2] = field[3, 2] = 1
    assert extent(field) == (3, 1)


def test_effective_side_by_hand():
    field = torch.zeros(9, 9)
    field[4, 4] = 6
    assert effective_side(field) == 1
    field[3:6, 3:6] += 1  # 7 in the middle and 8 around it
    assert effective_side(field, share=7 / 15) == 1
    assert effective_side(field, share=0.5) == 3
    assert effective_side(torch.ones(9, 9), share=1.0) == 9
    with pytest.raises(ValueError, match="share: found 90"):
        effective_side(field, share=90)


def test_effective_side_follows_the_middle_cell():
    # The middle cell of an even map lies off the middle of the image: the square is centred on what was found.
    field = torch.zeros(9, 9)
    field[6, 6] = 1
    assert effective_side(field) == 1


def test_unknown_level():
    with pytest.raises(ValueError, match="found 'p2', expected one of c2, c3, c4, c5"):
        path(small(), "p2")
