"""What UPSNet adds to Panoptic FPN; where they are alike, see test_panoptic_fpn.py."""

from dataclasses import replace

import pytest
import torch

from course_lib.detectors.presets import get_preset
from course_lib.ops.semantic import semantic_loss
from tests.detectors.panoptic_models import EMPTY, EVERYTHING, ONE, PICTURE, SMALL_UPSNET, scene, small, told


def test_losses_and_their_gradient():
    model = small(SMALL_UPSNET).train()
    losses = model([PICTURE, PICTURE], [ONE, EMPTY])
    assert {"semantic", "region", "panoptic"} < set(losses)
    assert len(losses) == 8
    assert losses["semantic"].item() == pytest.approx(0.5 * 1.792, abs=0.15)  # undecided between six: log 6
    assert losses["region"].item() == pytest.approx(0.04 * 1.792, abs=0.01)
    losses["panoptic"].backward()
    for parameter in (model.semantic_head.predictor.weight, model.mask_head.predictor.weight):
        assert parameter.grad.abs().sum() > 0  # it teaches both heads
    assert model.box_head.class_predictor.weight.grad is None


def test_the_panoptic_loss_by_hand():
    """One thing, both heads undecided: stuff, the instance and unknown all say 0, five channels."""
    model = small(SMALL_UPSNET).train()
    with torch.no_grad():
        for head in (model.semantic_head, model.mask_head):
            head.predictor.weight.zero_()
            head.predictor.bias.zero_()
    losses = model([PICTURE], [ONE])
    assert losses["panoptic"].item() == pytest.approx(0.1 * torch.tensor(5.0).log().item(), rel=1e-5)
    nothing = model([PICTURE], [EMPTY])["panoptic"]  # without instances nothing is unknown: three
    assert nothing.item() == pytest.approx(0.1 * torch.tensor(3.0).log().item(), rel=1e-5)


def test_the_region_loss_looks_into_boxes_alone():
    model = small(SMALL_UPSNET)
    logits = torch.zeros(1, 6, 8, 8, requires_grad=True)
    wanted = torch.zeros(1, 64, 64, dtype=torch.int64)
    wanted[:, 16:48, 16:48] = 4
    loss = model.region_loss(logits, wanted, [torch.tensor([[16.0, 16, 48, 48]])])
    assert loss.item() == pytest.approx(semantic_loss(logits, wanted).item())  # log 6, wherever
    loss.backward()
    assert (logits.grad[0, :, 3:5, 3:5].abs().sum(0) > 0).all()
    assert (logits.grad[0, :, 0] == 0).all()
    none = model.region_loss(logits, wanted, [torch.zeros(0, 4)])
    assert none.item() == 0


def test_what_is_dropped_follows_the_generator():
    many = scene([[4, 4, 20, 20], [24, 4, 40, 20], [44, 4, 60, 20], [4, 36, 20, 56], [24, 36, 40, 56]], [0, 1, 2, 0, 1])
    model = small(SMALL_UPSNET).train()
    with torch.no_grad():
        model.semantic_head.predictor.bias.copy_(torch.arange(6.0))  # what an instance is worth depends on its class
    values = []
    for seed in (0, *range(6)):
        model.generator.manual_seed(seed)
        values.append(model([PICTURE], [many])["panoptic"].item())
    assert values[0] == values[1]
    assert len(set(values)) > 1


@torch.no_grad()
def test_fused_by_the_head():
    """The semantic head sees the first class of things everywhere: only its instance gets a semantic term."""
    model = told(small(SMALL_UPSNET))
    model.semantic_head.predictor.weight.zero_()
    model.semantic_head.predictor.bias.copy_(torch.tensor([0.0, 1, 0, 4, 0, 0]))
    (found,) = model([PICTURE])
    assert (found["semantic"] == 0).all()
    assert [(s["label"], s["instance"]) for s in found["segments"]] == [(0, 1)]
    x1, y1, x2, y2 = EVERYTHING[1].int().tolist()
    wanted = torch.zeros(64, 64, dtype=torch.int32)
    wanted[y1:y2, x1:x2] = 1
    assert torch.equal(found["panoptic"], wanted)  # outside, 4 − 0 for "unknown" is more than stuff has: void


@torch.no_grad()
def test_the_rule_on_the_same_answers():
    model = told(small(SMALL_UPSNET))
    model.semantic_head.predictor.weight.zero_()
    model.semantic_head.predictor.bias.copy_(torch.tensor([0.0, 9, 0, 4, 0, 0]))
    (by_head,) = model([PICTURE])
    assert [(s["label"], s["isthing"]) for s in by_head["segments"]] == [(2, False)]  # the regions are mostly stuff
    model.heuristic = True
    (by_rule,) = model([PICTURE])
    assert [s["label"] for s in by_rule["segments"]] == [1, 0, 2, 2]
    for key in ("boxes", "masks", "semantic"):
        assert torch.equal(by_head[key], by_rule[key])


def test_the_paper_has_deformable_convolutions():
    preset = get_preset("r50", "upsnet")
    head = replace(preset, channels=16, num_stuff=3).make_semantic_head(2)
    assert [type(c).__name__ for c in head.convs] == ["DeformConv2d"] * 3
    assert head.predictor.weight.shape == (5, 4 * 128, 1, 1)
    assert preset.panoptic_loss.semantic == 0.2
    model = small(SMALL_UPSNET, semantic_head=replace(SMALL_UPSNET.semantic_head, deformable=True)).train()
    sum(model([PICTURE], [ONE]).values()).backward()
    assert model.semantic_head.convs[0].offsets.weight.grad.abs().sum() > 0


def test_too_many_classes():
    with pytest.raises(ValueError, match="250 stuff and 6 things: a semantic map holds 255"):
        small(SMALL_UPSNET, 6, num_stuff=250)
