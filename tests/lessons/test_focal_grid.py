"""Lesson 02's experiment runs, in small, and its record is that of the settings in its file."""

import pytest
import torch

from course_lib.lessons.experiments import focal_grid, recorded


def test_the_record_has_every_setting_once_with_every_seed() -> None:
    record = recorded("focal_grid")
    found = [(row["gamma"], row["alpha"], row["seed"]) for row in record["rows"]]
    assert sorted(found, key=str) == sorted(
        ((*s, seed) for s in focal_grid.SETTINGS for seed in focal_grid.SEEDS), key=str
    )
    assert record["settings"]["iterations"] == focal_grid.ITERATIONS
    assert record["settings"]["town"] == focal_grid.TOWN.to_dict()
    assert all(0 <= row["AP"] <= row["AP50"] <= 1 for row in record["rows"])


@pytest.mark.slow
def test_it_trains_and_judges_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"TRAIN": 24, "VAL": 8, "ITERATIONS": 2, "SETTINGS": ((2.0, None),), "SEEDS": (0,)}
    for name, value in small.items():
        monkeypatch.setattr(focal_grid, name, value)
    monkeypatch.setattr(focal_grid, "sweep", lambda name, cases, measure, progress: [c | measure(**c) for c in cases])
    result = focal_grid.run(progress=False)
    assert result["settings"]["train"] == 24
    (row,) = result["rows"]
    assert (row["gamma"], row["alpha"], row["seed"]) == (2.0, None, 0)
    assert 0 <= row["AP"] <= 1
    assert row["object_score"] == pytest.approx(0.01, abs=0.01)  # two steps from the prior
    assert row["background_per_object"] > 100
    assert torch.is_grad_enabled()
