"""Fusion of instances and a semantic map, and panoptic quality: time and memory."""

import tracemalloc
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.clock import alternate
from benchmarks.table import Row
from course_lib.engine.pq import PanopticFile, open_panoptic, pq_files
from course_lib.ops.masks import paste_masks
from course_lib.panoptic.fusion import FusionSpec, fuse

INSTANCES, SIZE, STUFF = 100, (800, 1216), 53  # what a COCO picture of 640×973 becomes, and COCO's classes
FUSION_SECONDS, PAIR_SECONDS = 0.025, 0.007  # our own limits; Detectron2 took 0.245 s, panopticapi 0.0178 s
COCO = Path(__file__).resolve().parents[2] / "shared" / "data" / "panoptic" / "coco_val100"
FEW = 20  # images that memory is compared with


def run_fusion(repeat: int, **_) -> list[Row]:
    """100 instances at 800×1216 by Detectron2's rule; the peer does it mask by mask over the whole picture."""
    masks, boxes, scores, labels, semantic = make_scene()
    spec = FusionSpec()

    def ours() -> Tensor:
        return fuse(masks, scores, labels, semantic, spec=spec, boxes=boxes).panoptic

    def peer() -> Tensor:
        return fuse_plainly(masks, scores, semantic, spec)

    if not torch.equal(ours(), peer()):
        raise AssertionError("the two ways of fusing differ")
    seconds = alternate(ours, peer, repeat)
    what = f"panoptic fusion of {INSTANCES} instances at {SIZE[0]}×{SIZE[1]}"
    return [
        Row(what=what, ours=seconds[0], peer=seconds[1], unit="ms"),
        Row(what="  ours alone, in seconds", ours=seconds[0], at_most=FUSION_SECONDS),
    ]


def make_scene() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Masks, boxes, scores, labels, and a semantic map in blocks; all above the score that counts."""
    generator = torch.Generator().manual_seed(0)
    sides = torch.tensor([SIZE[1], SIZE[0]])
    centre = torch.rand(INSTANCES, 2, generator=generator) * sides
    half = torch.rand(INSTANCES, 2, generator=generator) * sides / 6 + 2
    boxes = torch.cat(((centre - half).clamp(min=0), torch.minimum(centre + half, sides)), dim=1)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 28), torch.linspace(-1, 1, 28), indexing="ij")
    masks = paste_masks((1.2 - x**2 - y**2).expand(INSTANCES, 28, 28), boxes, SIZE)  # ellipses
    scores = 0.5 + torch.rand(INSTANCES, generator=generator) / 2
    labels = torch.randint(80, (INSTANCES,), generator=generator)
    blocks = torch.randint(STUFF + 1, (10, 16), generator=generator)
    return masks, boxes, scores, labels, blocks.repeat_interleave(80, 0).repeat_interleave(76, 1)


def fuse_plainly(masks: Tensor, scores: Tensor, semantic: Tensor, spec: FusionSpec) -> Tensor:
    """The rule as it is told: each mask in turn over the whole picture, then each class of stuff."""
    panoptic = torch.zeros(semantic.shape, dtype=torch.int32)
    segment = 0
    for i in torch.argsort(-scores):
        if scores[i] < spec.score:
            break
        mask = masks[i]
        area = mask.sum().item()
        if area == 0:
            continue
        taken = (mask & (panoptic > 0)).sum().item()
        if taken / area > spec.overlap:
            continue
        segment += 1
        panoptic[mask & (panoptic == 0)] = segment
    for label in semantic.unique().tolist():
        if label == 0:
            continue
        mask = (semantic == label) & (panoptic == 0)
        if mask.sum().item() >= spec.stuff_area:
            segment += 1
            panoptic[mask] = segment
    return panoptic


def run_quality(repeat: int, **_) -> list[Row] | str:
    """PQ of 100 COCO images, PNG decoding included, on one core; and what it holds in memory for few and for all."""
    if not COCO.is_dir():
        return f"panoptic quality: {COCO} is not there"
    truth, found = open_panoptic(COCO / "panoptic_gt.json"), open_panoptic(COCO / "pred_shift_x4_y3.json")
    few = first(truth, FEW)
    whole, part = alternate(lambda: pq_files(truth, found), lambda: pq_files(few, found), repeat)
    memory = [peak(lambda data=data: pq_files(data, found)) for data in (truth, few)]
    count = len(truth.annotations)
    return [
        Row(what=f"PQ of {count} COCO images, seconds an image pair", ours=whole / count, at_most=PAIR_SECONDS),
        Row(what=f"  time for {count} (peer: for {FEW})", ours=whole, peer=part, unit="ms"),
        Row(
            what=f"  peak memory for {count} (peer: for {FEW})", ours=memory[0], peer=memory[1], unit="MB", at_most=1.1
        ),
    ]


def first(data: PanopticFile, count: int) -> PanopticFile:
    """The first images of a panoptic file."""
    kept = dict(list(data.annotations.items())[:count])
    return PanopticFile(data.path, data.folder, kept, data.categories)


def peak(function) -> int:
    """The most bytes that Python and numpy hold at one moment of a call, beyond what was there before."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
