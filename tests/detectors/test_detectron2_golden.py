"""Our RetinaNet with the weights of the golden one (data/peers/README.md)."""

import pytest
import torch

from course_lib.detectors.presets import R50_DETECTRON2
from course_lib.weights.detectron2 import load_retinanet
from tests.detectors.goldens import ROUNDING, Golden, close


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("retinanet")


@pytest.fixture
def model(golden):
    """R-50 at a sixteenth of its width, in Detectron2's conventions, with the golden weights."""
    preset = golden.narrow(R50_DETECTRON2)
    test = golden.config["test"]
    assert preset.detect.score == test["score_thresh"]
    assert preset.detect.topk == test["topk"]
    assert preset.detect.nms == test["nms"]
    assert preset.detect.detections == test["detections"]
    model = preset.build(golden.config["classes"])
    load_retinanet(model, golden.weights)
    return model.eval()


def by_anchor(outputs, numbers):
    """Detectron2's (B, A·K, H, W) as our (B, H·W·A, K)."""
    batch, _, height, width = outputs.shape
    return outputs.view(batch, -1, numbers, height, width).permute(0, 3, 4, 1, 2).reshape(batch, -1, numbers)


@torch.no_grad()
def test_features_outputs_and_anchors(golden, model):
    batch = model.preprocess([golden.image])
    assert batch.images.shape == (1, 3, 160, 224)
    features = model.fpn(model.backbone(batch.images))
    assert len(features) == 5
    for level, found in enumerate(features, start=3):
        close(found, golden[f"features/p{level}"], ROUNDING)
    logits, deltas, anchors = model.dense(batch.images)
    for level in range(5):
        close(logits[level], by_anchor(golden[f"logits/{level}"], golden.config["classes"]), ROUNDING)
        close(deltas[level], by_anchor(golden[f"deltas/{level}"], 4), ROUNDING)
    torch.testing.assert_close(torch.cat(anchors), golden["anchors"], rtol=0, atol=1e-4)


@torch.no_grad()
def test_detections(golden, model):
    (found,) = model([golden.image], output_sizes=[golden.output_size])
    assert torch.equal(found["labels"], golden["output/classes"])
    assert len(found["labels"]) == 99
    assert (found["boxes"] - golden["output/boxes"]).abs().max() < 1e-3
    assert (found["scores"] - golden["output/scores"]).abs().max() < 1e-5


def test_training_step(golden, model):
    losses = model.train()([golden.image], golden.targets)
    assert losses["classification"].item() == pytest.approx(golden["loss/loss_cls"].item(), rel=1e-5)
    assert losses["bbox_regression"].item() == pytest.approx(golden["loss/loss_box_reg"].item(), rel=1e-5)
    # 0.9 · 100 + 0.1 · 114 anchors with an object
    assert golden.config["loss_normalizer_after_first_step"] == pytest.approx(101.4)
    assert model.state_dict()["positives_ema"].item() == pytest.approx(101.4, rel=1e-6)
    sum(losses.values()).backward()
    for found, name in (
        (model.class_head.predictor.bias, "head.cls_score.bias"),
        (model.box_head.predictor.bias, "head.bbox_pred.bias"),
        (model.fpn.lateral[0].weight, "backbone.fpn_lateral3.weight"),
    ):
        close(found.grad, golden[f"grad/{name}"], 1e-5)


@torch.no_grad()
def test_the_other_rounding_of_frozen_norms_is_as_far_off_as_the_readme_says(golden, model):
    """As scale and shift: features up to 5e-5 off, so the default formula is not a matter of taste."""
    for module in model.modules():
        if hasattr(module, "formula"):
            module.formula = "scale_shift"
    features = model.fpn(model.backbone(model.preprocess([golden.image]).images))
    for level, found in enumerate(features, start=3):
        close(found, golden[f"features/p{level}"], 1e-4)
