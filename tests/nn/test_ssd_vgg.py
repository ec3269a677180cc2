"""SSD's backbone. That it is torchvision's is shown in tests/detectors/test_ssd_parity.py."""

import pytest
import torch
from torch import nn

from course_lib.nn.ssd_vgg import SSDVGG16, L2Norm


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return SSDVGG16()


def test_l2_norm_by_hand():
    norm = L2Norm(2, scale=10.0)
    with torch.no_grad():
        norm.weight[1] = 100.0
    # (3, 4) has length 5; a cell of zeros stays zero, not 0/0.
    x = torch.tensor([[[[3.0, 0.0]], [[4.0, 0.0]]]])
    assert norm(x).flatten().tolist() == pytest.approx([6, 0, 80, 0])


def test_l2_norm_learns_its_scale_and_passes_the_gradient_on():
    norm = L2Norm(2).double()
    assert norm.weight.tolist() == [20, 20]
    x = torch.rand(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, x)
    norm(x).sum().backward()
    assert norm.weight.grad.abs().min() > 0


@torch.no_grad()
def test_the_maps_of_300_pixels(backbone):
    maps = backbone(torch.rand(2, 3, 300, 300))
    assert tuple(maps) == backbone.levels == tuple(backbone.channels)
    sides = [38, 19, 10, 5, 3, 1]  # 38: pool3 rounds 75 / 2 up
    assert [x.shape for x in maps.values()] == [(2, c, s, s) for c, s in zip(backbone.channels.values(), sides)]
    lengths = maps["conv4_3"].square().sum(1).sqrt()
    torch.testing.assert_close(lengths, torch.full_like(lengths, 20.0))


@torch.no_grad()
def test_the_smallest_image(backbone):
    assert backbone(torch.rand(1, 3, 268, 268))["conv11_2"].shape == (1, 256, 1, 1)
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size can't be greater"):
        backbone(torch.rand(1, 3, 267, 267))


def test_new_layers_start_as_xavier_says(backbone):
    new = [backbone.fc6, backbone.fc7, *(m for m in backbone.extras.modules() if isinstance(m, nn.Conv2d))]
    assert len(new) == 10
    for conv in new:
        fans = conv.kernel_size[0] ** 2 * (conv.in_channels + conv.out_channels)
        bound = (6 / fans) ** 0.5
        assert 0.99 * bound < conv.weight.abs().max() <= bound
        assert conv.bias.abs().sum() == 0
