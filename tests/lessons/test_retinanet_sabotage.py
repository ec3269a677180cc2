"""Lesson 05's sabotages break what they say and nothing else, and their record holds what the lesson reads."""

from dataclasses import replace

import pytest
import torch

from course_lib.detectors.presets import TINY
from course_lib.lessons.experiments import recorded
from course_lib.lessons.experiments.retinanet_sabotage import ITERATIONS, JUDGED_EVERY, OPTIMIZERS, SABOTAGES, broken

PRESET = replace(TINY, backbone=replace(TINY.backbone, stem_width=16, widths=(16, 16, 16, 16)), channels=16)
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
TARGETS = [
    {"boxes": torch.tensor([[5.0, 5, 25, 40]]), "labels": torch.tensor([1])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]


def first_losses(sabotage: str) -> dict[str, float]:
    torch.manual_seed(0)
    losses = broken(PRESET, sabotage, num_classes=3).train()(IMAGES, TARGETS)
    return {name: loss.item() for name, loss in losses.items()}


def test_all_anchors_divides_both_losses_by_the_same_large_number() -> None:
    right, wrong = first_losses("none"), first_losses("all anchors")
    factors = [right[name] / wrong[name] for name in right]
    assert factors[0] == pytest.approx(factors[1], rel=1e-4)
    assert factors[0] > 30


def test_without_the_prior_the_first_loss_is_dozens_of_times_larger() -> None:
    right, wrong = first_losses("none"), first_losses("no prior")
    assert wrong["classification"] > 20 * right["classification"]
    assert wrong["bbox_regression"] == pytest.approx(right["bbox_regression"], rel=1e-4)


def test_gamma_0_is_cross_entropy_which_background_rules_from_the_start() -> None:
    right, wrong = first_losses("none"), first_losses("gamma 0")
    assert wrong["classification"] > 2 * right["classification"]
    assert wrong["bbox_regression"] == pytest.approx(right["bbox_regression"], rel=1e-4)


def test_the_record_has_a_curve_for_each_case() -> None:
    rows = recorded("retinanet_sabotage")["rows"]
    assert [(r["optimizer"], r["sabotage"]) for r in rows] == [(o, s) for o in OPTIMIZERS for s in SABOTAGES]
    for row in rows:
        judged = [r["iteration"] for r in row["records"] if "AP" in r]
        assert judged == list(range(JUDGED_EVERY, ITERATIONS + 1, JUDGED_EVERY))
        assert row["AP"] == row["records"][-1]["AP"]
