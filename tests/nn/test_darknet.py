import pytest
import torch
from torch import nn

from course_lib.nn.darknet import ConcatPyramid, ConvBlock, Darknet, ScaleHeads


def test_darknet53_has_52_convolutions_before_its_classifier():
    """Table 1 of the paper: 53 layers with the fully connected one that a detector leaves out."""
    model = Darknet()
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 52
    assert model.channels == {"c3": 256, "c4": 512, "c5": 1024}


def test_shapes_and_odd_sizes():
    model = Darknet(blocks=(1, 1, 1, 1, 1), stem_width=4).eval()
    features = model(torch.rand(2, 3, 64, 96))
    assert {k: tuple(v.shape) for k, v in features.items()} == {
        "c3": (2, 32, 8, 12),
        "c4": (2, 64, 4, 6),
        "c5": (2, 128, 2, 3),
    }
    assert model(torch.rand(1, 3, 33, 1))["c5"].shape == (1, 128, 2, 1)


def test_a_block_adds_its_input():
    model = Darknet(blocks=(1, 1, 1, 1, 1), stem_width=4).eval()
    block = model.stages[0][1]
    with torch.no_grad():
        block.conv2[0].weight.zero_()
    x = torch.rand(1, 8, 5, 5)
    assert torch.equal(block(x.clone()), x)


def test_conv_block_by_hand():
    block = ConvBlock(1, 1, 1).eval()
    with torch.no_grad():
        block[0].weight.fill_(2.0)
    x = torch.tensor([3.0, -3.0]).reshape(1, 1, 1, 2)
    assert block(x).flatten().tolist() == pytest.approx([6, -0.6], rel=1e-4)  # the slope of the leaky side is 0.1


def neck(widths=(4, 6, 8), depth=1):
    torch.manual_seed(0)
    return ConcatPyramid({"c3": 5, "c4": 7, "c5": 9}, widths=widths, depth=depth).eval()


def maps(*sizes):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(1, channels, *size, generator=generator)
        for (name, channels), size in zip({"c3": 5, "c4": 7, "c5": 9}.items(), sizes)
    }


def test_neck_shapes_odd_sizes_too():
    model = neck()
    assert model.num_levels == 3
    assert [tuple(x.shape) for x in model(maps((8, 12), (4, 6), (2, 3)))] == [(1, 4, 8, 12), (1, 6, 4, 6), (1, 8, 2, 3)]
    assert [tuple(x.shape[-2:]) for x in model(maps((9, 5), (5, 3), (3, 2)))] == [(9, 5), (5, 3), (3, 2)]
    assert [tuple(x.shape[-2:]) for x in model(maps((1, 1), (1, 1), (1, 1)))] == [(1, 1)] * 3


def test_neck_step_by_step():
    model, features = neck(), maps((4, 4), (2, 2), (1, 1))
    coarse = model.output[2](features["c5"])
    up = model.lateral[1](coarse).expand(-1, -1, 2, 2)  # nearest: every pixel is the one above
    assert up.shape[1] == 4  # half of the coarser width
    middle = model.output[1](torch.cat((up, features["c4"]), 1))
    found = model(features)
    torch.testing.assert_close(found[2], coarse)
    torch.testing.assert_close(found[1], middle)


def test_neck_depth():
    assert [sum(isinstance(m, nn.Conv2d) for m in neck(depth=d).output.modules()) for d in (0, 1, 2)] == [3, 9, 15]


def test_neck_of_other_levels():
    with pytest.raises(ValueError, match="2 widths for 3 levels"):
        neck(widths=(4, 6))


@pytest.mark.parametrize("prior", [None, 0.01, 0.2])
def test_prior_of_the_objectness_alone(prior):
    head = ScaleHeads((4, 6), num_anchors=3, outputs=7, prior=prior)
    for predictor in head.predictors:
        bias = predictor.bias.reshape(3, 7)
        assert bias[:, 4].sigmoid().tolist() == pytest.approx([prior or 0.5] * 3)
        assert bias[:, [0, 1, 2, 3, 5, 6]].abs().sum() == 0


def test_order_of_the_outputs():
    """Number k of prior a at pixel (y, x) lands in row (y·W + x)·A + a, column k: that of `grid_cells`."""
    head = ScaleHeads((2,), num_anchors=2, outputs=3).eval()
    with torch.no_grad():
        head.convs[0] = nn.Identity()
        predictor = nn.Conv2d(2, 6, 1)
        predictor.weight.copy_(torch.tensor([1.0, 10]).reshape(1, 2, 1, 1).expand(6, -1, -1, -1))
        predictor.bias.copy_(100 * torch.arange(6))
        head.predictors[0] = predictor
    y, x = torch.meshgrid(torch.arange(2.0), torch.arange(4.0), indexing="ij")
    (found,) = head([torch.stack((x, y))[None]])
    assert found.shape == (1, 16, 3)
    row, column = found.reshape(2, 4, 2, 3)[1, 2]
    assert row.tolist() == [12, 112, 212] and column.tolist() == [312, 412, 512]
