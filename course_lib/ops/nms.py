"""Non-maximum suppression: one detection an object."""

import torch
import torchvision
from torch import Tensor

from course_lib.ops.boxes import box_iou


def nms_greedy(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Keep the best box, drop what overlaps it by more than the threshold, repeat.

    boxes: (N, 4); scores: (N,). Returns the kept indices, (M,) int64, best score first (of equals, the
    first). To be read: the models run `torchvision.ops.nms`, which gives the same indices.
    """
    order = scores.argsort(descending=True, stable=True)
    keep = []
    while len(order):
        best, rest = order[0], order[1:]
        keep.append(best)
        overlap = box_iou(boxes[best, None], boxes[rest])[0]  # (len(rest),)
        order = rest[overlap.double() <= iou_threshold]  # in float64, as torchvision: float32(0.1) is more than 0.1
    return torch.stack(keep) if keep else order


def batched_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """NMS within each class: (N, 4), (N,), (N,) → kept indices (M,) int64, best score first.

    torchvision's op. For few boxes it shifts each class to a region of its own and runs one NMS; the shift
    assumes coordinates >= 0, so unclipped boxes of two classes may suppress each other, as in Detectron2.
    """
    return torchvision.ops.batched_nms(boxes, scores, labels, iou_threshold)


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    method: str = "gaussian",
    iou_threshold: float = 0.3,
) -> tuple[Tensor, Tensor]:
    """Lower the scores of overlapping boxes instead of dropping them (Bodla et al. 2017, Eqs. 2 and 3).

    boxes: (N, 4); scores: (N,), not changed. Each round takes the best box left and multiplies the others'
    scores by exp(−IoU² / sigma) ("gaussian"), or by 1 − IoU where IoU >= iou_threshold ("linear").
    Boxes that fall under score_threshold are gone.
    Returns (keep, new_scores): indices (M,) int64, best new score first, and their scores (M,).
    Raises ValueError for an unknown method.
    """
    if method not in ("gaussian", "linear"):
        raise ValueError(f"method: found {method!r}, expected 'gaussian' or 'linear'")
    left = (scores >= score_threshold).nonzero().squeeze(1)
    current = scores[left]
    keep, new_scores = [left[:0]], [current[:0]]
    while len(left):
        top = current.argmax()
        keep.append(left[top, None])
        new_scores.append(current[top, None])
        overlap = box_iou(boxes[left[top], None], boxes[left])[0]  # (len(left),)
        if method == "gaussian":
            decay = torch.exp(-(overlap**2) / sigma)
        else:
            decay = torch.where(overlap >= iou_threshold, 1 - overlap, 1.0)
        current = current * decay
        stays = current >= score_threshold
        stays[top] = False
        left, current = left[stays], current[stays]
    return torch.cat(keep), torch.cat(new_scores)
