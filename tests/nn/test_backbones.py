import pytest
import torch
import torchvision
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter

from course_lib.nn.backbones import BLOCKS, VGG16, BasicBlock, Bottleneck, ResNet
from course_lib.nn.norm import FrozenBatchNorm2d
from tests.nn.randomise import random_images, randomise_norms

LEVELS = ("c2", "c3", "c4", "c5")


def torchvision_resnet(depth, **options):
    torch.manual_seed(depth)
    net = getattr(torchvision.models, f"resnet{depth}")(weights=None, **options)
    return randomise_norms(net, seed=depth).eval()


def levels_of(net, images):
    """C2 … C5 of torchvision's ResNet."""
    stages = {f"layer{i}": f"c{i + 1}" for i in range(1, 5)}
    return IntermediateLayerGetter(net, stages)(images)


def body(net):
    """The state dict of torchvision's ResNet without its classifier."""
    return {k: v for k, v in net.state_dict().items() if not k.startswith("fc.")}


@pytest.mark.parametrize("depth, size", [(18, (97, 70)), (34, (65, 64)), (50, (64, 65)), (101, (33, 32))])
def test_resnet_is_torchvisions(depth, size):
    theirs = torchvision_resnet(depth)
    ours = ResNet(blocks=BLOCKS[depth], bottleneck=depth >= 50, norm="batch", levels=LEVELS).eval()
    ours.load_state_dict(body(theirs))  # strictly: the same names and shapes
    images = torch.stack(random_images(size, size))
    with torch.no_grad():
        wanted, found = levels_of(theirs, images), ours(images)
    assert list(found) == list(LEVELS)
    for level in LEVELS:
        assert torch.equal(found[level], wanted[level]), level
        assert found[level].shape[1] == ours.channels[level]


@pytest.mark.parametrize("kind", ["frozen", "frozen_scale_shift"])
def test_frozen_resnet_is_torchvisions(kind):
    theirs = torchvision_resnet(18, norm_layer=torchvision.ops.FrozenBatchNorm2d)
    ours = ResNet(blocks=BLOCKS[18], bottleneck=False, norm=kind, levels=LEVELS)
    ours.load_state_dict(body(theirs))
    images = torch.stack(random_images((64, 64)))
    with torch.no_grad():
        wanted, found = levels_of(theirs, images), ours.eval()(images)
    for level in LEVELS:
        if kind == "frozen_scale_shift":
            assert torch.equal(found[level], wanted[level])
        torch.testing.assert_close(found[level], wanted[level], rtol=1e-5, atol=1e-5)


def test_where_the_stride_sits():
    kinds = {where: Bottleneck(8, 4, stride=2, norm={"kind": "batch"}, stride_in=where) for where in ("1x1", "3x3")}
    strides = {where: (b.conv1.stride, b.conv2.stride, b.conv3.stride) for where, b in kinds.items()}
    assert strides == {"1x1": ((2, 2), (1, 1), (1, 1)), "3x3": ((1, 1), (2, 2), (1, 1))}
    kinds["1x1"].load_state_dict(kinds["3x3"].state_dict())
    x = torch.rand(1, 8, 7, 9)
    one, three = (kinds[where].eval()(x) for where in ("1x1", "3x3"))
    assert one.shape == three.shape == (1, 16, 4, 5)
    assert not torch.allclose(one, three)


def test_stride_in_the_1x1_ignores_three_pixels_of_four():
    block = Bottleneck(8, 4, stride=2, norm={"kind": "batch"}, stride_in="1x1").eval()
    x = torch.rand(1, 8, 8, 8)
    ignored = x.clone()
    ignored[:, :, 1::2], ignored[:, :, :, 1::2] = 5.0, 5.0
    assert torch.equal(block(x), block(ignored))


def test_a_block_without_change_of_shape_has_no_shortcut():
    norm = {"kind": "batch"}
    assert Bottleneck(16, 4, stride=1, norm=norm, stride_in="3x3").downsample is None
    assert BasicBlock(16, 16, stride=1, norm=norm, stride_in="3x3").downsample is None
    assert BasicBlock(16, 16, stride=2, norm=norm, stride_in="3x3").downsample is not None
    assert BasicBlock(16, 8, stride=1, norm=norm, stride_in="3x3").downsample is not None


def test_basic_block_by_hand():
    block = BasicBlock(1, 1, stride=1, norm={"kind": "frozen", "eps": 0.0}, stride_in="3x3")
    for conv, value in ((block.conv1, 2.0), (block.conv2, -0.25)):
        conv.weight.data.zero_()[0, 0, 1, 1] = value
    # relu(2x) · −¼ + x, then relu: 4 → 8 → −2 + 4 = 2; −4 → 0 → −4 → 0
    assert block(torch.tensor([[[[4.0, -4.0]]]])).tolist() == [[[[2.0, 0.0]]]]


@pytest.mark.parametrize("stem, bottleneck", [("7x7", False), ("3x3", False), ("3x3", True)])
def test_shapes_widths_and_strides(stem, bottleneck):
    net = ResNet(
        blocks=(1, 1, 2, 1), bottleneck=bottleneck, stem_width=6, widths=(4, 8, 10, 12), stem=stem, levels=LEVELS
    )
    factor = 4 if bottleneck else 1
    assert net.channels == {"c2": 4 * factor, "c3": 8 * factor, "c4": 10 * factor, "c5": 12 * factor}
    assert net.conv1.weight.shape == (6, 3, *((7, 7) if stem == "7x7" else (3, 3)))
    assert len(net.layer3) == 2
    found = net(torch.rand(2, 3, 64, 96))
    for i, level in enumerate(LEVELS):
        assert found[level].shape == (2, net.channels[level], 64 // 2 ** (i + 2), 96 // 2 ** (i + 2))


def test_only_the_wanted_levels_are_returned():
    net = ResNet(blocks=(1, 1, 1, 1), bottleneck=False, stem_width=4, widths=(4, 4, 4, 4), levels=("c5", "c3"))
    assert list(net(torch.rand(1, 3, 32, 32))) == ["c3", "c5"]


def test_stages_that_no_level_needs_are_not_built():
    net = ResNet(blocks=(1, 1, 1, 1), bottleneck=False, stem_width=4, widths=(4, 4, 4, 4), levels=("c3",))
    assert net.channels == {"c2": 4, "c3": 4}
    assert not hasattr(net, "layer3")
    assert list(net(torch.rand(1, 3, 32, 32))) == ["c3"]


@pytest.mark.parametrize(
    "norm, layer", [("frozen", FrozenBatchNorm2d), ("batch", nn.BatchNorm2d), ("group", nn.GroupNorm)]
)
def test_norms(norm, layer):
    net = ResNet(blocks=(1, 1, 1, 1), bottleneck=False, stem_width=4, widths=(4, 4, 4, 4), norm=norm, norm_eps=0.5)
    norms = [m for name, m in net.named_modules() if "bn" in name or name.endswith("downsample.1")]
    assert len(norms) == 1 + 4 * 2 + 3
    assert all(isinstance(m, layer) and m.eps == 0.5 for m in norms)
    if norm == "batch":
        assert ResNet(norm="batch", blocks=(1, 1, 1, 1), norm_momentum=0.3).bn1.momentum == 0.3


@pytest.mark.parametrize("stages", range(6))
def test_frozen_stages(stages):
    net = ResNet(
        blocks=(1, 1, 1, 1), bottleneck=False, stem_width=4, widths=(4, 4, 4, 4), norm="batch", frozen_stages=stages
    )
    parts = ("conv1 bn1", "layer1", "layer2", "layer3", "layer4")
    for i, part in enumerate(parts):
        wanted = i >= stages
        parameters = [p for n, p in net.named_parameters() if n.split(".")[0] in part.split()]
        assert parameters and all(p.requires_grad == wanted for p in parameters), part


def test_frozen_stages_get_no_gradient_and_the_rest_does():
    torch.manual_seed(0)
    net = ResNet(blocks=(1, 1, 1, 1), bottleneck=False, stem_width=8, widths=(8, 8, 8, 8), frozen_stages=2)
    net(torch.rand(1, 3, 64, 64))["c5"].sum().backward()
    assert net.conv1.weight.grad is None
    assert net.layer1[0].conv1.weight.grad is None
    assert all(p.grad.abs().sum() > 0 for layer in (net.layer2, net.layer3, net.layer4) for p in layer.parameters())


def test_frozen_stages_evaluate_always():
    net = ResNet(
        blocks=(1, 1, 1, 1), bottleneck=False, stem_width=8, widths=(8, 8, 8, 8), norm="batch", frozen_stages=2
    )
    before = {name: value.clone() for name, value in net.state_dict().items()}
    images = torch.rand(2, 3, 64, 64)
    net(images)
    net.train()(images)
    moved = {name.split(".")[0] for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"layer2", "layer3", "layer4"}
    assert not net.bn1.training and not net.layer1.training and net.layer2.training
    assert not any(m.training for m in net.eval().modules())


def test_initialisation_keeps_the_variance():
    # He et al. 2015: a ReLU layer's weights have variance 2 / fan_out.
    torch.manual_seed(0)
    conv = ResNet(blocks=(1, 1, 1, 1), bottleneck=False).layer4[0].conv2
    assert conv.weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"levels": ("c3", "p6")}, r"unknown levels \['p6'\]: expected some of c2, c3, c4, c5"),
        ({"stem": "5x5"}, "stem must be '7x7' or '3x3', not '5x5'"),
        ({"stride_in": "shortcut"}, "stride_in must be '3x3' or '1x1', not 'shortcut'"),
        ({"norm": "instance"}, "unknown normalisation 'instance'"),
    ],
)
def test_resnet_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        ResNet(blocks=(1, 1, 1, 1), **options)


def test_vgg_is_torchvisions():
    torch.manual_seed(0)
    theirs = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"], batch_norm=False)
    ours = VGG16(levels=LEVELS)
    ours.features.load_state_dict(theirs.state_dict())
    image = torch.stack(random_images((65, 32)))
    with torch.no_grad():
        found = ours(image)
        # Configuration D: the maps before pools 3, 4 and 5, and after pool 5.
        pools = [i for i, layer in enumerate(theirs) if isinstance(layer, nn.MaxPool2d)]
        assert len(pools) == 5
        wanted = {level: theirs[: pools[i]](image) for level, i in (("c2", 2), ("c3", 3), ("c4", 4))}
        wanted["c5"] = theirs(image)
    assert list(found) == list(LEVELS)
    for stride, level in zip((4, 8, 16, 32), LEVELS):
        assert torch.equal(found[level], wanted[level]), level
        assert found[level].shape == (1, ours.channels[level], 65 // stride, 32 // stride)
    ours.levels = ("c4",)
    assert list(ours(image)) == ["c4"]


def test_vgg_has_no_other_levels():
    with pytest.raises(ValueError, match=r"unknown levels \['c1'\]: expected some of c2, c3, c4, c5"):
        VGG16(levels=("c1",))


def test_vgg_starts_as_torchvisions_does():
    # torchvision/models/vgg.py: kaiming_normal_ over fan_out, biases 0.
    torch.manual_seed(0)
    conv = VGG16().features[28]
    assert conv.weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert conv.bias.abs().sum() == 0


@torch.no_grad()
def test_resnext_is_torchvisions():
    """ResNeXt-101 32×8d's bottlenecks, one a stage."""
    torch.manual_seed(0)
    theirs = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], groups=32, width_per_group=8)
    randomise_norms(theirs, seed=0).eval()
    ours = ResNet(blocks=(1, 1, 1, 1), groups=32, widening=4, norm="batch", levels=LEVELS).eval()
    ours.load_state_dict(body(theirs))
    images = torch.stack(random_images((32, 32)))
    wanted, found = levels_of(theirs, images), ours(images)
    for level in LEVELS:
        assert torch.equal(found[level], wanted[level]), level


def test_basic_blocks_have_no_groups():
    with pytest.raises(ValueError, match=r"groups 2 and widening 1 are for bottlenecks"):
        ResNet(blocks=BLOCKS[18], bottleneck=False, groups=2)
