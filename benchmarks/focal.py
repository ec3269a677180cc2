"""Focal loss forward and backward, against `torchvision.ops.sigmoid_focal_loss`."""

import torch
import torch.nn.functional as F
import torchvision

from benchmarks.clock import alternate, peak_extra_bytes
from benchmarks.table import Row
from course_lib.ops.losses import focal_loss_from_labels

IMAGES, ANCHORS, CLASSES = 4, 30_000, 80
POSITIVES = 0.001  # share of the anchors that have an object, as in COCO


def run(repeat: int, **_) -> list[Row]:
    """Time and memory on logits (4, 30000, 80) as they are early in training: normal around the prior's −4.6.

    The peer gets its one-hot targets ready-made: neither their making nor their memory is counted, though a detector
    pays for both. What is counted on both sides includes the gradient.
    """
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(IMAGES, ANCHORS, CLASSES, generator=generator) - 4.6
    labels = torch.randint(CLASSES, (IMAGES, ANCHORS), generator=generator)
    labels[torch.rand(IMAGES, ANCHORS, generator=generator) >= POSITIVES] = -1
    targets = F.one_hot(labels.clamp(min=0), CLASSES).float() * (labels >= 0).unsqueeze(-1)
    logits.requires_grad_()

    def ours() -> torch.Tensor:
        logits.grad = None
        loss = focal_loss_from_labels(logits, labels)
        loss.backward()
        return loss.detach()

    def peer() -> torch.Tensor:
        logits.grad = None
        loss = torchvision.ops.sigmoid_focal_loss(logits, targets, reduction="sum")
        loss.backward()
        return loss.detach()

    torch.testing.assert_close(ours(), peer(), rtol=1e-5, atol=0)
    seconds = alternate(ours, peer, repeat)
    logits.grad = None
    memory = peak_extra_bytes(ours), peak_extra_bytes(peer)
    what = f"focal loss ({IMAGES}, {ANCHORS}, {CLASSES}), forward + backward"
    return [
        Row(what=what, ours=seconds[0], peer=seconds[1], unit="ms", at_most=0.6),
        Row(what="  peak extra memory", ours=memory[0], peer=memory[1], unit="MB", at_most=0.5),
    ]
