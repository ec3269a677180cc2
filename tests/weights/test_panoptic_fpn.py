"""Names of Detectron2's semantic head. That the weights do the same: tests/detectors/test_panoptic_fpn_golden.py."""

from dataclasses import replace

import pytest
import torch

from course_lib.detectors.presets.panoptic_fpn import R50_DETECTRON2
from course_lib.weights.detectron2 import load_panoptic_fpn
from tests.detectors.goldens import Golden


@pytest.fixture(scope="module")
def golden():
    return Golden("mask_rcnn")


@pytest.fixture
def model(golden):
    torch.manual_seed(0)
    preset = golden.narrow(R50_DETECTRON2)
    preset = replace(
        preset,
        box_head=replace(preset.box_head, widths=(24, 24)),
        mask_head=replace(preset.mask_head, channels=8),
        semantic_head=replace(preset.semantic_head, channels=32),
        num_stuff=3,
    )
    return preset.build(golden.config["classes"])


@pytest.fixture
def state(golden):
    """The golden Mask R-CNN and a semantic head of random numbers, under Detectron2's names."""
    generator = torch.Generator().manual_seed(0)
    state = dict(golden.weights)
    for level in (2, 3, 4, 5):
        for step in range(max(1, level - 2)):
            name = f"sem_seg_head.p{level}.{2 * step}"  # between two convolutions is a doubling
            state[f"{name}.weight"] = torch.randn(32, 32 if step else 16, 3, 3, generator=generator)
            state[f"{name}.norm.weight"] = torch.randn(32, generator=generator)
            state[f"{name}.norm.bias"] = torch.randn(32, generator=generator)
    state["sem_seg_head.predictor.weight"] = torch.randn(4, 32, 1, 1, generator=generator)
    state["sem_seg_head.predictor.bias"] = torch.randn(4, generator=generator)
    return state


def test_every_tensor_arrives(model, state):
    load_panoptic_fpn(model, state)
    ours = model.state_dict()
    assert len(ours) == len(state)
    for theirs, name in (
        ("sem_seg_head.p2.0.weight", "semantic_head.levels.0.0.0.weight"),
        ("sem_seg_head.p3.0.norm.bias", "semantic_head.levels.1.0.1.bias"),
        ("sem_seg_head.p5.4.weight", "semantic_head.levels.3.2.0.weight"),
        ("sem_seg_head.p5.2.norm.weight", "semantic_head.levels.3.1.1.weight"),
        ("sem_seg_head.predictor.bias", "semantic_head.predictor.bias"),
        ("roi_heads.mask_head.deconv.weight", "mask_head.upsample.weight"),
        ("backbone.fpn_lateral2.weight", "fpn.lateral.0.weight"),
    ):
        assert torch.equal(ours[name], state[theirs]), name


def test_what_does_not_fit_is_named(model, state):
    with pytest.raises(ValueError, match=r"no value for 1 of the model's tensors: semantic_head.levels.3.2.0.weight"):
        load_panoptic_fpn(model, {k: v for k, v in state.items() if k != "sem_seg_head.p5.4.weight"})
    with pytest.raises(ValueError, match=r"1 keys that this model has no place for: sem_seg_head.p6.0.weight"):
        load_panoptic_fpn(model, state | {"sem_seg_head.p6.0.weight": torch.zeros(1)})
