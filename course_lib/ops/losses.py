"""Losses of dense detectors: focal loss, smooth L1, GIoU."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from course_lib.ops.boxes import paired_giou
from course_lib.ops.coder import decode, encode
from course_lib.ops.matching import BACKGROUND

CHUNK = 2**17  # logits worked on at a time: with its temporaries about 2 MB, which a CPU's cache holds


def sigmoid_focal_loss(
    logits: Tensor,
    targets: Tensor,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
) -> Tensor:
    """Focal loss FL(p_t) = −α_t (1 − p_t)^γ log p_t, the readable form (Lin et al. 2017, Eq. 5).

    logits, targets: any one shape; targets are 1 for the class, 0 for all others. alpha: weight of the
    ones, 1 − alpha of the zeros; None or negative: no weights. reduction: "none", "sum" or "mean".
    Works on logits, never on probabilities, so that loss and gradient stay finite where p_t is 0 in floats.
    Returns the input's shape, or a scalar. Raises ValueError for an unknown reduction.
    """
    if reduction not in ("none", "sum", "mean"):
        raise ValueError(f"reduction: found {reduction!r}, expected 'none', 'sum' or 'mean'")
    z = torch.where(targets > 0.5, logits, -logits)  # p_t = σ(z): the probability of being right
    log_right, log_wrong = F.logsigmoid(z), F.logsigmoid(-z)  # log p_t, log (1 − p_t)
    loss = -(gamma * log_wrong).exp() * log_right
    positive, negative = _class_weights(alpha)
    loss = loss * torch.where(targets > 0.5, loss.new_tensor(positive), negative)  # in the loss's precision
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.mean()


def focal_loss_from_labels(logits: Tensor, labels: Tensor, alpha: float | None = 0.25, gamma: float = 2.0) -> Tensor:
    """Summed focal loss straight from class labels, the fast form that RetinaNet trains with.

    logits: (..., A, K) float32, float64, bfloat16 or float16. labels: (..., A) int64: a class 0…K−1,
    −1 background, −2 ignored. Returns a scalar, float32 (float64 for float64 logits). Equal to
    `sigmoid_focal_loss` on one-hot targets, without ever making them: nearly every target is 0, so all
    anchors but a few take one branch-free path. Works through the logits in pieces that fit the cache and
    computes the gradient on the way, into one buffer. Raises ValueError if the shapes do not belong together.
    """
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f"labels: found shape {tuple(labels.shape)}, expected {tuple(logits.shape[:-1])}")
    logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)  # (N, K), (N,)
    if torch.is_grad_enabled() and logits.requires_grad:
        return _FocalLoss.apply(logits, labels, alpha, gamma)
    return _focal_sum(logits, labels, alpha, gamma, None)


def smooth_l1(pred: Tensor, target: Tensor, beta: float) -> Tensor:
    """Smooth L1, element by element: d² / (2 beta) up to |d| = beta, |d| − beta / 2 beyond; beta 0 is L1.

    Quadratic near zero for a calm end of training, linear far out so that a wild box does not rule the
    gradient. Any one shape → the same shape. Girshick 2015, Eq. 3 (beta 1).
    """
    distance = (pred - target).abs()
    if beta == 0:
        return distance
    return torch.where(distance < beta, 0.5 * distance**2 / beta, distance - 0.5 * beta)


def giou_loss(pred: Tensor, target: Tensor) -> Tensor:
    """1 − GIoU of each pair of boxes: (N, 4), (N, 4) → (N,), in 0…2 (Rezatofighi et al. 2019, Eq. 5)."""
    return 1 - paired_giou(pred, target)


def box_loss(
    deltas: Tensor,
    boxes: Tensor,
    anchors: Tensor,
    *,
    kind: str,
    beta: float = 0.0,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> Tensor:
    """Loss of each predicted box (P,) for its deltas, its true box and its anchor or proposal, each (P, 4).

    kind: "l1" or "smooth_l1" with `beta`, on the deltas, or "giou", on the boxes that they give.
    weights: of the deltas, see `encode`. Raises ValueError for an unknown kind.
    """
    match kind:
        case "l1":
            return smooth_l1(deltas, encode(boxes, anchors, weights), beta=0.0).sum(1)
        case "smooth_l1":
            return smooth_l1(deltas, encode(boxes, anchors, weights), beta=beta).sum(1)
        case "giou":
            return giou_loss(decode(deltas, anchors, weights), boxes)
    raise ValueError(f"unknown box loss {kind!r}: expected l1, smooth_l1 or giou")


class _FocalLoss(torch.autograd.Function):
    """Computes the gradient together with the loss, as they share sigmoid and softplus."""

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor, alpha: float | None, gamma: float) -> Tensor:
        ctx.save_for_backward(logits, labels)
        ctx.settings = alpha, gamma
        ctx.grad = _gradient_buffer(logits)
        return _focal_sum(logits, labels, alpha, gamma, ctx.grad)

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        logits, labels = ctx.saved_tensors
        grad, ctx.grad = ctx.grad, None  # scaled in place and given away: there is only one buffer
        if grad is None:  # a second backward through the same graph: work it out again
            grad = _gradient_buffer(logits)
            _focal_sum(logits, labels, *ctx.settings, grad)
        return grad.mul_(upstream).to(logits.dtype), None, None, None


def _focal_sum(logits: Tensor, labels: Tensor, alpha: float | None, gamma: float, grad: Tensor | None) -> Tensor:
    """Sum of the loss for logits (N, K) and labels (N,); writes d loss / d logits to `grad` (N, K)."""
    n, classes = logits.shape
    positive_weight, negative_weight = _class_weights(alpha)
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    total = 0.0  # a Python float has 64 bits: over 10⁷ small terms 32 would drift

    # 1. Every anchor as background, a chunk at a time; the rows of all others are wiped again.
    chunk_size = CHUNK if logits.device.type == "cpu" else 128 * CHUNK  # a GPU wants few, large kernels
    rows = max(1, chunk_size // classes)
    others = (labels != BACKGROUND).nonzero().squeeze(1)  # in rising order
    starts = range(0, n, rows)
    ends = torch.searchsorted(others, torch.tensor([*starts, n], device=others.device)).tolist()
    for i, start in enumerate(starts):
        chunk = slice(start, start + rows)
        loss, slope = _wrongness(logits[chunk].to(dtype), gamma)
        wipe = others[ends[i] : ends[i + 1]] - start
        total += negative_weight * loss.index_fill_(0, wipe, 0).sum().item()
        if grad is not None:
            torch.mul(slope.index_fill_(0, wipe, 0), negative_weight, out=grad[chunk])

    # 2. The few anchors with an object, where one class has target 1: the same function of −x.
    positive = (labels >= 0).nonzero().squeeze(1)
    right = labels[positive].unsqueeze(1)  # (P, 1): column of the right class
    x = logits[positive].to(dtype)  # (P, K)
    sign = torch.ones_like(x).scatter_(1, right, -1)
    weight = torch.full_like(x, negative_weight).scatter_(1, right, positive_weight)
    loss, slope = _wrongness(sign * x, gamma)
    total += (weight * loss).sum().item()
    if grad is not None:
        grad[positive] = (weight * sign * slope).to(grad.dtype)
    return torch.tensor(total, dtype=dtype, device=logits.device)


def _gradient_buffer(logits: Tensor) -> Tensor:
    # Easy background has gradients near 1e-8: float16 would round them to 0 before any loss scaling.
    return torch.empty_like(logits, dtype=torch.float32 if logits.dtype == torch.float16 else logits.dtype)


def _wrongness(z: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Loss f(z) = p^γ softplus(z) of giving the wrong answer p = σ(z), and its slope f'(z).

    softplus(z) = −log(1 − p). From p' = p (1 − p) and softplus' = p follows
    f' = p^γ (γ (1 − p) softplus + p) = (1 − p) · γ f + p · p^γ, a blend of two numbers at hand.
    """
    p = z.sigmoid()
    modulator = p.pow(gamma)  # multiplies where γ is 2
    loss = modulator * F.softplus(z)
    return loss, torch.lerp(gamma * loss, modulator, p)


def _class_weights(alpha: float | None) -> tuple[float, float]:
    """α_t for targets 1 and 0."""
    return (1.0, 1.0) if alpha is None or alpha < 0 else (alpha, 1.0 - alpha)
