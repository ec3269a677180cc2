"""SSD's backbone: VGG-16, its two dense layers made convolutions, and four steps down to one cell."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.nn.backbones import VGG16


class L2Norm(nn.Module):
    """Scale the channels of each cell to length 1, then each channel by a learnt number.

    conv4_3 has activations far larger than those of the deeper maps; its predictor would rule the loss.

    Args:
        channels: C.
        scale: what the learnt numbers start at.

    Shapes: (B, C, H, W) in and out; a cell that is all 0 stays so. Source: Liu, Rabinovich, Berg, ParseNet, 2015,
    §3.3; used by SSD (Liu et al. 2016, §3.1).
    """

    def __init__(self, channels: int, scale: float = 20.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return self.weight.reshape(1, -1, 1, 1) * F.normalize(x)


class SSDVGG16(nn.Module):
    """VGG-16 as SSD300 changes and prolongs it (Liu et al., SSD, 2016, §3 and Fig. 2).

    pool3 rounds its size up (75 → 38); pool5 has stride 1, and fc6, now a convolution with holes, keeps the field of
    view that this costs; conv4_3 is normalised. The four extra layers halve the map twice and then drop its border.

    Shapes: (B, 3, 300, 300) to maps of 38, 19, 10, 5, 3 and 1 cells a side, by name, fine to coarse; other sizes are
    fine from 268 pixels on, where the last map has a cell.
    """

    def __init__(self):
        super().__init__()
        self.channels = {"conv4_3": 512, "fc7": 1024, "conv8_2": 512, "conv9_2": 256, "conv10_2": 256, "conv11_2": 256}
        self.levels = tuple(self.channels)
        self.vgg = VGG16(levels=("c3", "c5"))
        self.vgg.features[16].ceil_mode = True  # pool3
        self.vgg.features[30] = nn.MaxPool2d(3, stride=1, padding=1)  # pool5
        self.norm = L2Norm(512)
        self.fc6 = nn.Conv2d(512, 1024, 3, padding=6, dilation=6)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        self.extras = nn.ModuleList(
            [
                _step_down(1024, 256, 512, stride=2, padding=1),
                _step_down(512, 128, 256, stride=2, padding=1),
                _step_down(256, 128, 256, stride=1, padding=0),
                _step_down(256, 128, 256, stride=1, padding=0),
            ]
        )
        for layer in (self.fc6, self.fc7, *(layer for step in self.extras for layer in step)):
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Six maps for normalised images (B, 3, H, W)."""
        maps = self.vgg(images)
        x = F.relu(self.fc7(F.relu(self.fc6(maps["c5"]))))
        found = [self.norm(maps["c3"]), x]
        for step in self.extras:
            x = step(x)
            found.append(x)
        return dict(zip(self.levels, found))


def _step_down(in_channels: int, width: int, out_channels: int, *, stride: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, out_channels, 3, stride=stride, padding=padding),
        nn.ReLU(inplace=True),
    )
