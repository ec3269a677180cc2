"""Our Panoptic FPN with the weights of the golden one (data/peers/README.md), which lies beside the repository."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from course_lib.detectors.panoptic_fpn import to_size
from course_lib.detectors.presets.panoptic_fpn import R50_DETECTRON2
from course_lib.panoptic.fusion import FusionSpec
from course_lib.weights.detectron2 import load_panoptic_fpn
from tests.detectors.goldens import ROUNDING, Golden, close

SHARED = Path(__file__).resolve().parents[3] / "shared" / "goldens" / "detectron2"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there: Panoptic FPN's parity is untested")


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("panoptic_fpn", SHARED)


@pytest.fixture
def model(golden):
    """R-50 at a sixteenth of its width, in Detectron2's conventions, with the golden weights; it samples everything."""
    preset = golden.narrow(R50_DETECTRON2)
    assert preset.panoptic_loss.semantic == golden.config["loss_weights"]["sem_seg"]
    preset = replace(
        preset,
        box_head=replace(preset.box_head, widths=(24, 24)),
        mask_head=replace(preset.mask_head, channels=8),
        semantic_head=replace(preset.semantic_head, channels=32),
        num_stuff=3,
        fusion=FusionSpec(**golden.config["combine"]),
        rpn_loss=replace(preset.rpn_loss, samples=200_000, positive_fraction=1.0),
        boxes=replace(preset.boxes, samples=20_000, positive_fraction=1.0),
    )
    model = preset.build(golden.config["classes"])
    load_panoptic_fpn(model, golden.weights)
    return model.eval()


@torch.no_grad()
def test_semantic_logits(golden, model):
    batch = model.preprocess([golden.image])
    features = model.fpn(model.backbone(batch.images))
    (logits,) = model.semantic_head(features)
    close(to_size(logits, (160, 224), batch.sizes[0], golden.output_size), golden["output/sem_seg_logits"], ROUNDING)


@torch.no_grad()
def test_the_panoptic_map_and_its_segments(golden, model):
    (found,) = model([golden.image], output_sizes=[golden.output_size])
    assert torch.equal(found["labels"], golden["output/classes"])
    assert (found["boxes"] - golden["output/boxes"]).abs().max() < 1e-3
    assert (found["scores"] - golden["output/scores"]).abs().max() < 1e-5
    assert (found["masks"] != golden["output/masks"]).float().mean() <= 1e-4
    assert torch.equal(found["semantic"], golden["output/sem_seg_logits"].argmax(0))
    assert torch.equal(found["panoptic"], golden["output/panoptic_map"])
    wanted = golden.config["segments_info"]
    assert len(wanted) > 30
    for ours, theirs in zip(found["segments"], wanted, strict=True):
        assert (ours["id"], ours["isthing"]) == (theirs["id"], theirs["isthing"])
        assert ours["label"] == theirs["category_id"]
        assert ours["area"] == (found["panoptic"] == ours["id"]).sum()
        if ours["isthing"]:
            assert ours["instance"] == theirs["instance_id"]
            assert ours["score"] == pytest.approx(theirs["score"], abs=1e-5)


def test_training_step(golden, model):
    targets = [golden.targets[0] | {"masks": golden["gt/masks"], "semantic": golden["gt/sem_seg"]}]
    losses = model.train()([golden.image], targets)
    for name, theirs in (
        ("rpn_objectness", "loss_rpn_cls"),
        ("rpn_bbox_regression", "loss_rpn_loc"),
        ("classification", "loss_cls"),
        ("bbox_regression", "loss_box_reg"),
        ("mask", "loss_mask"),
        ("semantic", "loss_sem_seg"),
    ):
        assert losses.pop(name).item() == pytest.approx(golden[f"loss/{theirs}"].item(), rel=1e-5), name
    assert not losses
