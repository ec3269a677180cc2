"""How much of the image one cell of a feature map sees: from kernels and strides, and measured by the gradient."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from course_lib.nn.backbones import VGG16, VGG_LEVELS, ResNet


def receptive_field(layers: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Side of the square of pixels that one cell depends on, and the stride of the map, both in pixels.

    layers: (kernel, stride) of each layer on the way, first to last. A layer widens the field by kernel − 1 steps of
    the map that it reads, whose step is the product of the strides before it: r = 1 + Σᵢ (kᵢ − 1) · Πⱼ﹤ᵢ sⱼ.
    Raises ValueError for a kernel or stride below 1.
    Source: Araujo, Norris, Sim, Computing Receptive Fields of Convolutional Neural Networks, 2019, Eq. 2.
    """
    field = stride = 1
    for kernel, step in layers:
        if kernel < 1 or step < 1:
            raise ValueError(f"layers: found kernel {kernel} and stride {step}, expected at least 1")
        field += (kernel - 1) * stride
        stride *= step
    return field, stride


def path(backbone: ResNet | VGG16, level: str) -> list[tuple[int, int]]:
    """(kernel, stride) of the layers on the longest way from the image to the map `level`, first to last.

    Through a residual block the longest way leads through its convolutions; the shortcut sees no more.
    Raises ValueError for a level that the backbone does not have.
    """
    if level not in backbone.channels:
        raise ValueError(f"level: found {level!r}, expected one of {', '.join(backbone.channels)}")
    if isinstance(backbone, VGG16):
        parts = list(backbone.features[: VGG_LEVELS[level] + 1])
    else:
        stages = list(backbone.channels).index(level) + 1
        parts = [backbone.conv1, backbone.maxpool, *(getattr(backbone, f"layer{i + 1}") for i in range(stages))]
    layers = []
    for part in parts:
        for name, module in part.named_modules():
            if isinstance(module, nn.Conv2d | nn.MaxPool2d) and "downsample" not in name:
                layers.append((_one(module.kernel_size), _one(module.stride)))
    return layers


def _one(size: int | tuple[int, int]) -> int:
    """A kernel or stride as one number; all of them are square here."""
    return size if isinstance(size, int) else size[0]


def gradient_field(backbone: nn.Module, level: str, images: Tensor, *, generator: torch.Generator) -> Tensor:
    """How much each pixel moves the middle cell of a map: the mean size of the gradient, (H, W), summing to 1.

    images: (B, 3, H, W), normalised. The gradient flows from the middle cell alone, with a random sign in each channel;
    its absolute values are summed over colours and averaged over the images. Parameters get no gradient, and the
    network should be in evaluation mode, or the images of a batch would influence one another.
    Raises ValueError if no pixel moves the middle cell in any image (all its ReLUs are shut).
    Source: Luo, Li, Urtasun, Zemel, Understanding the Effective Receptive Field in Deep CNNs, 2016.
    """
    images = images.detach().requires_grad_()
    cells = backbone(images)[level]  # (B, C, h, w)
    middle = cells[:, :, cells.shape[2] // 2, cells.shape[3] // 2]  # (B, C)
    signs = torch.randint(0, 2, middle.shape, generator=generator).to(middle) * 2 - 1
    (gradient,) = torch.autograd.grad((middle * signs).sum(), images)
    size = gradient.abs().sum(1).double().mean(0)  # (H, W)
    if not size.any():
        raise ValueError(f"no pixel moves the middle cell of {level} in {len(images)} images; try others")
    return size / size.sum()


def extent(field: Tensor) -> tuple[int, int]:
    """Height and width in pixels of the smallest box around everything in a field (H, W) that is not 0."""
    rows, columns = (field.sum(dim).nonzero().flatten() for dim in (1, 0))
    return tuple(int(at[-1] - at[0]) + 1 if len(at) else 0 for at in (rows, columns))


def effective_side(field: Tensor, share: float = 0.9) -> int:
    """Side in pixels of the smallest square that holds `share` of a field (H, W), centred on its centre of mass.

    Raises ValueError for a share that is not in 0 … 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share: found {share}, expected more than 0 and at most 1")
    field = field.double() / field.double().sum()
    at = [torch.arange(n, dtype=torch.float64) for n in field.shape]
    y, x = (float((a * field.sum(dim)).sum()) for a, dim in zip(at, (1, 0)))
    distance = torch.maximum((at[0] - y).abs()[:, None], (at[1] - x).abs()[None])  # (H, W): half the side, from centre
    order = distance.flatten().argsort()
    inside = field.flatten()[order].cumsum(0)
    reached = min(int(torch.searchsorted(inside, share - 1e-9)), len(order) - 1)
    return int(2 * distance.flatten()[order][reached].round()) + 1
