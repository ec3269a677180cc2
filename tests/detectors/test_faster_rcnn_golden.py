"""Our Faster R-CNN with the weights of the golden one (data/peers/README.md)."""

from dataclasses import replace

import pytest
import torch

from course_lib.detectors.presets.faster_rcnn import R50_DETECTRON2
from course_lib.weights.detectron2 import load_faster_rcnn
from tests.detectors.goldens import ROUNDING, Golden, close


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("faster_rcnn")


@pytest.fixture
def model(golden):
    """R-50 at a sixteenth of its width, in Detectron2's conventions, with the golden weights; it samples everything."""
    preset = golden.narrow(R50_DETECTRON2)
    test = golden.config["test"]
    assert preset.detect.score == test["score_thresh"]
    assert preset.detect.nms == test["nms"]
    assert preset.detect.detections == test["detections"]
    assert preset.proposals.before_nms[1] == test["rpn_pre_nms_topk"]
    assert preset.proposals.after_nms == (test["rpn_post_nms_topk"],) * 2
    assert preset.proposals.nms == test["rpn_nms"]
    preset = replace(
        preset,
        box_head=replace(preset.box_head, widths=(24, 24)),
        rpn_loss=replace(preset.rpn_loss, samples=200_000, positive_fraction=1.0),
        boxes=replace(preset.boxes, samples=20_000, positive_fraction=1.0),
    )
    model = preset.build(golden.config["classes"])
    load_faster_rcnn(model, golden.weights)
    return model.eval()


@torch.no_grad()
def test_features_and_proposals(golden, model):
    batch = model.preprocess([golden.image])
    features = model.fpn(model.backbone(batch.images))
    assert len(features) == 5
    for level, found in enumerate(features, start=2):
        close(found, golden[f"features/p{level}"], ROUNDING)
    dense = model.rpn.dense(features, (160, 224))
    ((boxes, logits),) = model.rpn.propose(*dense, batch.sizes)
    assert (boxes - golden["proposals/boxes"]).abs().max() < 1e-3
    close(logits, golden["proposals/logits"], ROUNDING)
    assert torch.equal(model.propose(features, batch)[0], boxes)


@torch.no_grad()
def test_detections(golden, model):
    (found,) = model([golden.image], output_sizes=[golden.output_size])
    assert torch.equal(found["labels"], golden["output/classes"])
    assert len(found["labels"]) == 100
    assert (found["boxes"] - golden["output/boxes"]).abs().max() < 1e-3
    assert (found["scores"] - golden["output/scores"]).abs().max() < 1e-5


def test_training_step(golden, model):
    losses = model.train()([golden.image], golden.targets)
    for name, theirs in (
        ("rpn_objectness", "loss_rpn_cls"),
        ("rpn_bbox_regression", "loss_rpn_loc"),
        ("classification", "loss_cls"),
        ("bbox_regression", "loss_box_reg"),
    ):
        assert losses.pop(name).item() == pytest.approx(golden[f"loss/{theirs}"].item(), rel=1e-5), name
    assert not losses
