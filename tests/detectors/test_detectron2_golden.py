"""Numbers that Detectron2 computed (tests/goldens/README.md), and ours with its weights."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from course_lib.detectors.presets import R50_DETECTRON2
from course_lib.weights.detectron2 import load_retinanet

GOLDENS = Path(__file__).parents[1] / "goldens" / "detectron2"


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDENS / "retinanet.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def config() -> dict:
    return json.loads((GOLDENS / "retinanet.config.json").read_text())


@pytest.fixture
def model(golden, config):
    """R-50 at a sixteenth of its width, in Detectron2's conventions, with the golden weights."""
    mean, std = config["pixel_mean_std"]
    preset = replace(
        R50_DETECTRON2,
        backbone=replace(R50_DETECTRON2.backbone, stem_width=8, widths=(4, 8, 16, 32)),
        channels=16,
        input=replace(R50_DETECTRON2.input, mean=tuple(mean), std=tuple(std), resize="none"),
    )
    assert preset.detect.score == config["test"]["score_thresh"]
    assert preset.detect.topk == config["test"]["topk"]
    assert preset.detect.nms == config["test"]["nms"]
    assert preset.detect.detections == config["test"]["detections"]
    model = preset.build(config["classes"])
    load_retinanet(model, {k.removeprefix("weights/"): v for k, v in golden.items() if k.startswith("weights/")})
    return model.eval()


@pytest.fixture(scope="module")
def image(golden):
    return golden["input/image_bgr"].flip(0)  # our models are given RGB


ROUNDING = 4e-6  # of the largest value: each kind of processor sums in its own order


def close(found, wanted, relative):
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= relative * wanted.abs().max()


def by_anchor(outputs, numbers):
    """Detectron2's (B, A·K, H, W) as our (B, H·W·A, K)."""
    batch, _, height, width = outputs.shape
    return outputs.view(batch, -1, numbers, height, width).permute(0, 3, 4, 1, 2).reshape(batch, -1, numbers)


@torch.no_grad()
def test_features_outputs_and_anchors(golden, config, model, image):
    batch = model.preprocess([image])
    assert batch.images.shape == (1, 3, 160, 224)
    features = model.fpn(model.backbone(batch.images))
    assert len(features) == 5
    for level, found in enumerate(features, start=3):
        close(found, golden[f"features/p{level}"], ROUNDING)
    logits, deltas, anchors = model.dense(batch.images)
    for level in range(5):
        close(logits[level], by_anchor(golden[f"logits/{level}"], config["classes"]), ROUNDING)
        close(deltas[level], by_anchor(golden[f"deltas/{level}"], 4), ROUNDING)
    torch.testing.assert_close(torch.cat(anchors), golden["anchors"], rtol=0, atol=1e-4)


@torch.no_grad()
def test_detections(golden, config, model, image):
    (found,) = model([image], output_sizes=[tuple(config["output_size"])])
    assert torch.equal(found["labels"], golden["output/classes"])
    assert len(found["labels"]) == 99
    assert (found["boxes"] - golden["output/boxes"]).abs().max() < 1e-3
    assert (found["scores"] - golden["output/scores"]).abs().max() < 1e-5


def test_training_step(golden, config, model, image):
    losses = model.train()([image], [{"boxes": golden["gt/boxes"], "labels": golden["gt/classes"]}])
    assert losses["classification"].item() == pytest.approx(golden["loss/loss_cls"].item(), rel=1e-5)
    assert losses["bbox_regression"].item() == pytest.approx(golden["loss/loss_box_reg"].item(), rel=1e-5)
    # 0.9 · 100 + 0.1 · 114 anchors with an object
    assert config["loss_normalizer_after_first_step"] == pytest.approx(101.4)
    assert model.state_dict()["positives_ema"].item() == pytest.approx(101.4, rel=1e-6)
    sum(losses.values()).backward()
    for found, name in (
        (model.class_head.predictor.bias, "head.cls_score.bias"),
        (model.box_head.predictor.bias, "head.bbox_pred.bias"),
        (model.fpn.lateral[0].weight, "backbone.fpn_lateral3.weight"),
    ):
        close(found.grad, golden[f"grad/{name}"], 1e-5)


@torch.no_grad()
def test_the_other_rounding_of_frozen_norms_is_as_far_off_as_the_readme_says(golden, model, image):
    """As scale and shift: features up to 5e-5 off, so the default formula is not a matter of taste."""
    for module in model.modules():
        if hasattr(module, "formula"):
            module.formula = "scale_shift"
    features = model.fpn(model.backbone(model.preprocess([image]).images))
    for level, found in enumerate(features, start=3):
        close(found, golden[f"features/p{level}"], 1e-4)
