"""torchvision's R-CNNs with random weights that give something to compare."""

from dataclasses import replace

import pytest
from torch import nn

from benchmarks.faster_rcnn import predictors, spread_outputs
from tests.nn.randomise import random_images, randomise_norms

SHORT, LONG = 128, 200  # pixels: quick, and at P6 the stride differs from 64
PROPOSALS = {"rpn_post_nms_top_n_train": 200, "rpn_post_nms_top_n_test": 300}  # quick, too
NEW = {"weights": None, "weights_backbone": None, "min_size": SHORT, "max_size": LONG, **PROPOSALS}


def randomise(model: nn.Module) -> nn.Module:
    """Random statistics; predictors that give proposals of many sizes and boxes of many classes with many scores."""
    randomise_norms(model, seed=1).eval()
    layers = predictors(model)
    if model.roi_heads.has_mask():
        layers.append((model.roi_heads.mask_predictor.mask_fcn_logits, 2.0))
    spread_outputs(model, layers, random_images((150, 200), (221, 133), seed=3))
    return model


def sample_everything(theirs: nn.Module, ours: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses without chance: every labelled anchor and proposal is in the sample."""
    for sampler in (theirs.rpn.fg_bg_sampler, theirs.roi_heads.fg_bg_sampler):
        monkeypatch.setattr(sampler, "batch_size_per_image", 10**6)
        monkeypatch.setattr(sampler, "positive_fraction", 1.0)
    everything = {"samples": 10**6, "positive_fraction": 1.0}
    monkeypatch.setattr(ours.rpn, "loss_spec", replace(ours.rpn.loss_spec, **everything))
    monkeypatch.setattr(ours, "box_spec", replace(ours.box_spec, **everything))
