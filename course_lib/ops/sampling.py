"""Sampling: the other answer to imbalance, learning from a balanced few of the anchors."""

import torch
from torch import Tensor


def sample_balanced(
    labels: Tensor, batch_size: int, positive_fraction: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw anchors at random for the losses of the R-CNN family (Ren et al. 2015, §3.1.3).

    labels: (A,) int64; 0 and up is an object, -1 background, -2 is never drawn.
    At most positive_fraction of batch_size are objects; background fills the rest, so an image with few
    objects gives more background, and one with little background a smaller sample.
    Returns the drawn indices, (P,) and (N,) int64, in random order; `generator` decides the draw.
    """
    positive = (labels >= 0).nonzero().squeeze(1)
    negative = (labels == -1).nonzero().squeeze(1)
    wanted = min(int(batch_size * positive_fraction), len(positive))
    return _draw(positive, wanted, generator), _draw(negative, batch_size - wanted, generator)


def hard_negatives(loss: Tensor, positive: Tensor, ratio: float = 3) -> Tensor:
    """Mask of the background anchors that SSD learns from, the `ratio` · positives with the greatest loss.

    loss: (..., A) each anchor's classification loss; positive: (..., A) bool. Returns (..., A) bool, without
    the positives. An image without objects has none: it teaches SSD nothing. Liu et al. 2016, §2.2.
    """
    wanted = (ratio * positive.sum(dim=-1, keepdim=True)).long()  # (..., 1)
    order = loss.masked_fill(positive, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    rank = order.argsort(dim=-1)  # the inverse permutation: each anchor's place in that order
    return (rank < wanted) & ~positive


def _draw(indices: Tensor, count: int, generator: torch.Generator) -> Tensor:
    shuffled = torch.randperm(len(indices), generator=generator, device=generator.device)
    return indices[shuffled[:count].to(indices.device)]
