"""torchvision's R-CNNs with random weights that give something to compare."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.nn.randomise import random_images, randomise_norms

SHORT, LONG = 128, 200  # pixels: quick, and at P6 the stride differs from 64
PROPOSALS = {"rpn_post_nms_top_n_train": 200, "rpn_post_nms_top_n_test": 300}  # quick, too
NEW = {"weights": None, "weights_backbone": None, "min_size": SHORT, "max_size": LONG, **PROPOSALS}


@torch.no_grad()
def randomise(model: nn.Module) -> nn.Module:
    """Random statistics; predictors that give proposals of many sizes and boxes of many classes with many scores.

    Deep random features are large and alike everywhere: each output is centred, and scaled to a spread of its own.
    """
    randomise_norms(model, seed=1).eval()
    pictures = random_images((150, 200), (221, 133), seed=3)
    predictor = model.roi_heads.box_predictor
    layers = [
        (model.rpn.head.cls_logits, 2.0),
        (model.rpn.head.bbox_pred, 0.3),
        (predictor.cls_score, 2.5),
        (predictor.bbox_pred, 1.0),
    ]
    if model.roi_heads.has_mask():
        layers.append((model.roi_heads.mask_predictor.mask_fcn_logits, 2.0))
    for layer, spread in layers:
        outputs = []
        hook = layer.register_forward_hook(lambda *args, seen=outputs: seen.append(args[2].transpose(0, 1).flatten(1)))
        model(pictures)
        hook.remove()
        mean, scale = torch.cat(outputs, 1).mean(1), spread / torch.cat(outputs, 1).std(1)  # of each output
        layer.bias.copy_((layer.bias - mean) * scale)
        layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    return model


def sample_everything(theirs: nn.Module, ours: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses without chance: every labelled anchor and proposal is in the sample."""
    for sampler in (theirs.rpn.fg_bg_sampler, theirs.roi_heads.fg_bg_sampler):
        monkeypatch.setattr(sampler, "batch_size_per_image", 10**6)
        monkeypatch.setattr(sampler, "positive_fraction", 1.0)
    everything = {"samples": 10**6, "positive_fraction": 1.0}
    monkeypatch.setattr(ours.rpn, "loss_spec", replace(ours.rpn.loss_spec, **everything))
    monkeypatch.setattr(ours, "box_spec", replace(ours.box_spec, **everything))
