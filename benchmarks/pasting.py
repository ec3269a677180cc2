"""Masks of 28×28 pasted into a picture, against torchvision's `paste_masks_in_image`."""

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from benchmarks.clock import alternate, peak_extra_bytes
from benchmarks.table import Row
from course_lib.ops.masks import paste_masks

MASKS, SIZE = 100, (800, 1216)  # what a COCO picture of 640×973 becomes, and COCO's limit of detections


def run(repeat: int, **_) -> list[Row]:
    """Time and memory for boxes of up to a third of the picture's sides, in torchvision's convention on both sides.

    The peer's masks are floats which the caller has yet to compare with 0.5; that is not counted.
    """
    generator = torch.Generator().manual_seed(0)
    sides = torch.tensor([SIZE[1], SIZE[0]])
    centre = torch.rand(MASKS, 2, generator=generator) * sides
    half = torch.rand(MASKS, 2, generator=generator) * sides / 6 + 2
    boxes = torch.cat(((centre - half).clamp(min=0), torch.minimum(centre + half, sides)), dim=1)
    masks = torch.rand(MASKS, 28, 28, generator=generator)

    def ours() -> Tensor:
        return paste_masks(masks, boxes, SIZE, sampling="integer")

    def peer() -> Tensor:
        return paste_masks_in_image(masks[:, None], boxes, SIZE)

    differ = (ours() != (peer()[:, 0] >= 0.5)).float().mean().item()
    seconds = alternate(ours, peer, repeat)
    memory = peak_extra_bytes(ours), peak_extra_bytes(peer)
    what = f"pasting {MASKS} masks at {SIZE[0]}×{SIZE[1]}"
    return [
        Row(what=what, ours=seconds[0], peer=seconds[1], unit="ms", at_most=0.3),
        Row(what="  peak extra memory", ours=memory[0], peer=memory[1], unit="MB", at_most=0.35),
        Row(what="  share of pixels that differ", ours=differ, at_most=1e-4),
    ]
