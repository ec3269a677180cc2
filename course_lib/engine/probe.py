"""What a feature map knows: how well the simplest reader, a linear map, names the objects from its vectors."""

import torch
from torch import Tensor
from torch.nn import functional as F


def centre_vectors(feature_map: Tensor, boxes: Tensor, stride: int) -> Tensor:
    """The vectors (N, C) of a map (1, C, H, W) in the cells on which the centres of boxes (N, 4) xyxy px lie."""
    column, row = ((boxes[:, :2] + boxes[:, 2:]) / 2 / stride).floor().long().unbind(1)
    height, width = feature_map.shape[-2:]
    return feature_map[0, :, row.clamp(0, height - 1), column.clamp(0, width - 1)].T


def linear_probe(vectors: Tensor, labels: Tensor, num_classes: int, *, ridge: float = 10.0) -> Tensor:
    """Fit a linear map from vectors to classes on the first half; say of the second half which are named rightly.

    Args:
        vectors: (N, C), an object each; made comparable by the first half's mean and deviation of each channel.
        labels: (N,), 0 … num_classes − 1.
        num_classes: K.
        ridge: how strongly large weights are held back; the map is that of ridge regression on one-hot labels.

    Returns:
        (N − N // 2,) bool.

    Raises:
        ValueError: for fewer than four objects.

    Source: Alain & Bengio, Understanding Intermediate Layers Using Linear Classifier Probes, 2016.
    """
    half = len(vectors) // 2
    if half < 2:
        raise ValueError(f"linear_probe: found {len(vectors)} objects, expected at least 4")
    deviation, mean = torch.std_mean(vectors[:half].double(), dim=0)
    x = F.pad((vectors.double() - mean) / deviation.clamp(min=1e-6), (0, 1), value=1.0)  # (N, C + 1): with a constant
    known, truth = x[:half], F.one_hot(labels[:half], num_classes).double()
    penalty = ridge * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(known.T @ known + penalty, known.T @ truth)  # (C + 1, K)
    return (x[half:] @ weights).argmax(1) == labels[half:]
