"""The fast copy for inference says what the model says."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from course_lib.detectors.presets import TINY
from course_lib.engine.optimize import optimize
from course_lib.nn.norm import FrozenBatchNorm2d
from tests.detectors.models import SMALL
from tests.nn.randomise import random_images, randomise_norms

PRESETS = {
    "tiny": TINY,
    "frozen": replace(SMALL, backbone=replace(SMALL.backbone, norm="frozen"), head_norm="group"),
    "frozen, scale and shift": replace(
        SMALL, backbone=replace(SMALL.backbone, norm="frozen_scale_shift", norm_eps=0.0)
    ),
}


@pytest.fixture(params=PRESETS.values(), ids=list(PRESETS))
def model(request):
    """Random norms, and heads that see a few hundred things of every score."""
    torch.manual_seed(0)
    model = randomise_norms(request.param.build(3))
    with torch.no_grad():
        for head in (model.class_head, model.box_head):
            head.predictor.weight.normal_(std=0.1)
        model.class_head.predictor.bias.fill_(-2.0)
    return model.eval()


@pytest.fixture
def images():
    return random_images((96, 128), (128, 70))


@torch.no_grad()
def test_the_same_answers(model, images):
    fast = optimize(model)
    batch = model.preprocess(images).images
    assert torch.equal(fast.preprocess(images).images, batch)
    for wanted, found in zip(model.dense(batch), fast.dense(batch)):
        for a, b in zip(wanted, found, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4)
    for wanted, found in zip(model(images), fast(images), strict=True):
        assert len(wanted["boxes"]) > 10
        assert torch.equal(found["labels"], wanted["labels"])
        torch.testing.assert_close(found["boxes"], wanted["boxes"], rtol=0, atol=0.01)
        torch.testing.assert_close(found["scores"], wanted["scores"], rtol=0, atol=1e-4)


@torch.no_grad()
def test_bf16_is_close_and_answers_in_fp32(model, images):
    fast = optimize(model, bf16=True)
    assert {p.dtype for p in fast.backbone.parameters()} == {torch.bfloat16}
    batch = fast.preprocess(images).images
    assert batch.dtype == torch.float32
    for wanted, found in zip(model.dense(batch)[0], fast.dense(batch)[0]):
        assert found.dtype == torch.bfloat16
        error = (found.float() - wanted).abs()
        assert error.mean() < 0.02 * wanted.std() + 0.02
    for wanted, found in zip(model(images), fast(images), strict=True):
        assert {k: v.dtype for k, v in found.items()} == {k: v.dtype for k, v in wanted.items()}
        assert found["scores"][0].item() == pytest.approx(wanted["scores"][0].item(), abs=0.05)


@pytest.mark.parametrize("bf16", [False, True])
def test_the_original_is_left_as_it_was(model, images, bf16):
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fast = optimize(model, bf16=bf16)
    assert model.training
    assert not fast.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert any(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in fast.parameters())
    shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in fast.parameters()}
    assert not shared


def test_the_backbones_norms_are_gone_and_memory_is_channels_last(model):
    fast = optimize(model)
    assert not any(isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d) for m in fast.backbone.modules())
    weights = [m.weight for m in fast.modules() if isinstance(m, nn.Conv2d)]
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
