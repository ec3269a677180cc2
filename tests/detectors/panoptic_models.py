"""Panoptic detectors so small that every test may build its own, and scenes for them."""

from dataclasses import replace

import torch
from torch import nn

from course_lib.detectors.presets import Preset, panoptic_fpn, upsnet
from tests.detectors.models import SMALL, target

STUFF = 3


def narrow(preset: Preset) -> Preset:
    """A tiny preset made tiny indeed, for three classes of stuff and pictures of 64×64."""
    return replace(
        preset,
        name="small",
        backbone=SMALL.backbone,
        channels=16,
        box_head=replace(preset.box_head, widths=(32,)),
        mask_head=replace(preset.mask_head, channels=16, depth=1),
        semantic_head=replace(preset.semantic_head, channels=16),
        anchors=replace(preset.anchors, sizes=((8.0,), (16.0,), (32.0,)), strides=(8, 16, 32)),
        num_stuff=STUFF,
        fusion=replace(preset.fusion, stuff_area=30),
        input=SMALL.input,
    )


SMALL_FPN, SMALL_UPSNET = narrow(panoptic_fpn.TINY), narrow(upsnet.TINY)


def small(preset: Preset, num_classes: int = 3, *, seed: int = 0, **changes) -> nn.Module:
    torch.manual_seed(seed)
    return replace(preset, **changes).build(num_classes)


def scene(boxes, labels, size=(64, 64)) -> dict[str, torch.Tensor]:
    """A target: things fill their boxes; stuff 1 is above row 32, stuff 2 below, and nothing is known of row 0."""
    found = target(boxes, labels)
    masks = torch.zeros(len(labels), *size, dtype=torch.bool)
    semantic = torch.ones(size, dtype=torch.int64)
    semantic[32:], semantic[0] = 2, 255
    for mask, (x1, y1, x2, y2) in zip(masks, found["boxes"].int().tolist()):
        mask[y1:y2, x1:x2] = True
        semantic[y1:y2, x1:x2] = 0
    return found | {"masks": masks, "semantic": semantic}


ONE, EMPTY = scene([[8, 8, 40, 48]], [1]), scene([], [])
PICTURE = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
EVERYTHING = torch.tensor([[8.0, 8, 40, 48], [20, 16, 60, 60], [0, 0, 24, 24]])


def told(model: nn.Module, boxes=EVERYTHING, labels=(1, 0, 2), scores=(0.95, 0.9, 0.85)) -> nn.Module:
    """The model in evaluation with these detections, whatever it sees."""
    model.eval()
    labels, scores = torch.tensor(labels).long(), torch.tensor(scores)
    found = {"boxes": boxes, "labels": labels, "scores": scores}
    logits = torch.full((len(boxes), 14, 14), 2.0)
    if hasattr(model, "upsnet_loss"):
        found["mask_logits"] = logits
    found["masks"] = logits.sigmoid()
    model.detect = lambda features, proposals, sizes: [dict(found) for _ in sizes]
    return model
