"""What each anchor shall learn: the targets that a user gives, checked, and each anchor's label and box."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib.ops.boxes import box_iou
from course_lib.ops.matching import best_below, judge

CHUNK = 2**19  # IoUs worked on at a time: with their temporaries 6 MB, which a CPU's last cache holds


@dataclass(frozen=True, kw_only=True)
class MatchSpec:
    """Which anchors answer for which object, by IoU: ≥ high positive, < low background, between them ignored.

    `low_quality` also gives each object its best anchors, however small the overlap; the paper does not.
    """

    low: float = 0.4
    high: float = 0.5
    low_quality: bool = True


def check_targets(targets: list[dict] | None, num_images: int, num_classes: int) -> list[dict]:
    """The targets, or a ValueError that says which image and which box is wrong."""
    if targets is None or len(targets) != num_images:
        raise ValueError(
            f"training needs one target per image: {num_images} images, targets {targets and len(targets)}"
        )
    for i, target in enumerate(targets):
        boxes, labels = target["boxes"], target["labels"]
        if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) != len(labels):
            raise ValueError(
                f"image {i}: boxes {tuple(boxes.shape)}, labels {tuple(labels.shape)}: expected (N, 4), (N,)"
            )
        bad = ~(torch.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1))
        if bad.any():
            n = int(bad.nonzero()[0])
            raise ValueError(
                f"image {i}, box {n}: {boxes[n].tolist()} is empty or not finite; expected x1 < x2, y1 < y2"
            )
        if len(labels) and (labels.min() < 0 or labels.max() >= num_classes):
            raise ValueError(f"image {i}: labels {labels.unique().tolist()}, expected 0 … {num_classes - 1}")
    return targets


@torch.no_grad()
def assign(anchors: Tensor, boxes: list[Tensor], labels: list[Tensor], spec: MatchSpec) -> tuple[Tensor, Tensor]:
    """Label every anchor of a batch, as `match` does: as many images at once as fit the cache.

    Args:
        anchors: (A, 4).
        boxes: for each of B images (N_i, 4), in the anchors' pixels; N_i may be 0.
        labels: for each image (N_i,).
        spec: thresholds.

    Returns:
        anchor labels (B, A) int64: a class, `BACKGROUND` or `IGNORED`; and for the P positives, in row-major order,
        the boxes (P, 4) that they answer for.
    """
    padded_boxes = nn.utils.rnn.pad_sequence(boxes, batch_first=True)  # (B, G, 4)
    padded_labels = nn.utils.rnn.pad_sequence(labels, batch_first=True)  # (B, G)
    best = torch.full((len(boxes), len(anchors)), -1.0, device=anchors.device)  # (B, A): without objects
    if padded_boxes.shape[1] == 0:
        return judge(best, low=spec.low, high=spec.high)[0], padded_boxes.reshape(0, 4)
    anchors = anchors.mT.contiguous().mT  # all x1 side by side, and so on, as `box_iou` wants them: copied once
    together = max(1, CHUNK // (padded_boxes.shape[1] * len(anchors))) if anchors.device.type == "cpu" else len(boxes)
    low_quality = []  # image and anchor of each such match
    for start in range(0, len(boxes), together):
        group = boxes[start : start + together]
        counts = [len(b) for b in group]
        iou = box_iou(torch.cat(group), anchors)  # (objects of the group, A)
        for image, image_iou in enumerate(iou.split(counts), start):
            if len(image_iou):
                torch.amax(image_iou, 0, out=best[image])
        if spec.low_quality:
            objects, anchor_index = best_below(iou, spec.high)
            image_of = [image for image, count in enumerate(counts, start) for _ in range(count)]
            low_quality.append((torch.tensor(image_of, dtype=torch.int64, device=iou.device)[objects], anchor_index))
    anchor_labels, positive = judge(best, low=spec.low, high=spec.high)
    for index in low_quality:
        positive[index] = True
    image_index, anchor_index = positive.nonzero(as_tuple=True)  # (P,)
    iou = box_iou(padded_boxes[image_index], anchors[anchor_index, None])  # (P, G, 1): for these few once more
    objects = iou.argmax(1).squeeze(1)
    anchor_labels[image_index, anchor_index] = padded_labels[image_index, objects]
    return anchor_labels, padded_boxes[image_index, objects]
