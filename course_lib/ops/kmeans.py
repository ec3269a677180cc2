"""Anchor shapes from the data: k-means under 1 − IoU (Redmon & Farhadi, YOLO9000, 2017, "Dimension Clusters")."""

import torch
from torch import Tensor

ROUNDS = 300  # most; on real data a few dozen are enough


def shape_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every shape in `a` with every shape in `b`, laid on one centre: (N, 2), (M, 2) → (N, M), in 0…1.

    A shape is (width, height). Where an object lies plays no part: there is a prior at every place.
    """
    width = torch.minimum(a[:, None, 0], b[:, 0])
    height = torch.minimum(a[:, None, 1], b[:, 1])
    inter = width * height  # (N, M)
    return inter / (a.prod(1)[:, None] + b.prod(1) - inter)


def mean_best_iou(shapes: Tensor, anchors: Tensor, weights: Tensor | None = None) -> float:
    """Mean over shapes (N, 2) of the IoU with the anchor (k, 2) that fits best: "Avg IOU" of YOLO9000's Table 1.

    weights: (N,) of the shapes; without them all count alike.
    """
    best = shape_iou(shapes, anchors).amax(1)
    weights = torch.ones_like(best) if weights is None else weights.to(best)
    return ((best * weights).sum() / weights.sum()).item()


def kmeans_anchors(
    shapes: Tensor, k: int, *, generator: torch.Generator, weights: Tensor | None = None, starts: int = 5
) -> Tensor:
    """The k shapes that fit the data best by k-means with distance 1 − IoU: (N, 2) → (k, 2), by rising area.

    Under the Euclidean distance large boxes would make the largest errors and draw all the centres; IoU is
    relative. Of several starts the best result counts: k-means finds a local optimum only.

    Args:
        shapes: widths and heights in any unit, float32 or float64.
        k: how many.
        generator: decides the starts.
        weights: (N,) of the shapes, for instance to make classes count alike.
        starts: how many.

    Raises:
        ValueError: if there is no shape, one is not positive and finite, or k < 1.
    """
    if k < 1 or shapes.ndim != 2 or shapes.shape[1] != 2 or len(shapes) == 0:
        raise ValueError(f"kmeans: found shapes {tuple(shapes.shape)} and k {k}, expected (N, 2) with N >= 1, k >= 1")
    if not (torch.isfinite(shapes) & (shapes > 0)).all():
        raise ValueError("kmeans: found a width or height that is not positive and finite")
    weights = shapes.new_ones(len(shapes)) if weights is None else weights.to(shapes)
    found = [lloyd(shapes, _spread(shapes, k, weights, generator), weights) for _ in range(starts)]
    best = max(found, key=lambda centres: mean_best_iou(shapes, centres, weights))
    return best[best.prod(1).argsort(stable=True)]


def lloyd(shapes: Tensor, centres: Tensor, weights: Tensor) -> Tensor:
    """k-means from given centres: each shape goes to its nearest centre, each centre to the mean of its shapes.

    A centre that no shape goes to starts anew at the shape that fits worst. (N, 2), (k, 2), (N,) → (k, 2).
    Source: Lloyd, Least Squares Quantization in PCM, 1982.
    """
    for _ in range(ROUNDS):
        iou, owner = shape_iou(shapes, centres).max(1)  # (N,) each
        mass = shapes.new_zeros(len(centres)).index_add_(0, owner, weights)
        sums = torch.zeros_like(centres).index_add_(0, owner, shapes * weights[:, None])
        moved = torch.where(mass[:, None] > 0, sums / mass[:, None], shapes[iou.argmin()])
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres


def _spread(shapes: Tensor, k: int, weights: Tensor, generator: torch.Generator) -> Tensor:
    """k of the shapes, each drawn in proportion to its squared distance from those drawn before.

    That is k-means++ (Arthur & Vassilvitskii, 2007): centres that start far apart.
    """
    chosen = torch.multinomial(weights, 1, generator=generator)
    while len(chosen) < k:
        distance = (1 - shape_iou(shapes, shapes[chosen]).amax(1)).clamp(min=0) ** 2 * weights
        chances = distance if distance.sum() > 0 else weights  # fewer different shapes than k: some twice
        chosen = torch.cat((chosen, torch.multinomial(chances, 1, generator=generator)))
    return shapes[chosen]
