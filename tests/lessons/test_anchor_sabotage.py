"""Lesson 03's experiment: what each case breaks, and a run in small."""

import pytest
import torch

from course_lib.detectors.anchor_pyramid import pyramid_anchors
from course_lib.lessons import experiments
from course_lib.lessons.experiments import anchor_sabotage
from course_lib.lessons.experiments.anchor_sabotage import CASES, PRESET, broken, swapped_anchors
from tests.detectors.models import SMALL


def test_a_case_changes_what_it_says_and_nothing_else():
    assert broken("fitted") == broken("x and y swapped") == PRESET
    large = broken("no small sizes, no low-quality")
    assert min(s for level in large.anchors.sizes for s in level) > 16
    assert not large.matching.low_quality
    assert broken("no small sizes").matching == PRESET.matching
    assert broken("no low-quality").anchors == PRESET.anchors


def test_a_swapped_grid_holds_the_same_anchors_in_the_wrong_places():
    grids = [(8, 8), (4, 4), (2, 2)]
    right, wrong = (lay_out(SMALL.anchors, (64, 64), grids) for lay_out in (pyramid_anchors, swapped_anchors))
    for a, b, side in zip(right[:2], wrong, (8, 4)):
        a, b = a.reshape(side, side, -1, 4), b.reshape(side, side, -1, 4)
        assert torch.equal(a[1, 3], b[3, 1])
        assert not torch.equal(a, b)


@pytest.mark.slow
def test_it_runs_in_small(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "UNFINISHED", tmp_path)
    found = anchor_sabotage.run(progress=False, iterations=2, train=16, val=4)
    assert [row["case"] for row in found["rows"]] == list(CASES)
    rows = {row["case"]: row for row in found["rows"]}
    assert rows["fitted"]["small_reached"] > 0.8 > 0.1 > rows["no small sizes"]["small_reached"]
    assert rows["x and y swapped"]["reached"] == rows["fitted"]["reached"]
    assert rows["no small sizes, no low-quality"]["small_unlearnt"] > 0.9
