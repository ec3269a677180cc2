from pathlib import Path

import pytest
import torch

from course_lib.datasets.coco import open_split
from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_writer import make_town
from course_lib.engine.evaluate import evaluate_results
from course_lib.lessons.experiments import fpn_levels, recorded
from course_lib.lessons.experiments.fpn_levels import NECKS, Unconnected, ap_by_size, build, train_and_judge
from course_lib.nn.fpn import FPN

CELLS = {"C4 alone": 64, "C2 alone": 1024, "P2 alone": 1024, "C2, C3, C4": 1344, "P2, P3, P4": 1344}  # of 128 px


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("town")
    make_town(folder, train=8, val=6, config=TownConfig(size=128, scale=(0.08, 0.6)), seed=1, progress=False)
    return open_split(folder, "train"), open_split(folder, "val")


@pytest.mark.parametrize("maps", NECKS)
def test_each_neck_carries_the_same_anchor_sizes(maps: str) -> None:
    model = build(maps, num_classes=8).eval()
    with torch.no_grad():
        _, deltas, anchors = model.dense(torch.zeros(1, 3, 128, 128))
    single = len(anchors) == 1
    assert sum(len(a) for a in anchors) == CELLS[maps] * (18 if single else 6)
    sides = torch.cat(anchors)
    areas = ((sides[:, 2] - sides[:, 0]) * (sides[:, 3] - sides[:, 1])).sqrt()
    assert sorted({round(float(a), 1) for a in areas}) == [7.0, 10.8, 16.7, 25.9, 40.0, 62.0]
    assert [d.shape[1] for d in deltas] == [len(a) for a in anchors]


def test_unconnected_levels_do_not_hear_of_each_other() -> None:
    channels, features = {"c2": 3, "c3": 4}, {"c2": torch.rand(1, 3, 8, 8), "c3": torch.rand(1, 4, 4, 4)}
    changed = {**features, "c3": torch.rand(1, 4, 4, 4)}
    apart, joined = Unconnected(channels, channels=5), FPN(channels, channels=5)
    assert [tuple(x.shape) for x in apart(features)] == [tuple(x.shape) for x in joined(features)]
    assert torch.equal(apart(features)[0], apart(changed)[0])
    assert not torch.equal(joined(features)[0], joined(changed)[0])


def test_ap_by_size_moves_the_limits_and_nothing_else(data) -> None:
    truth = data[1].coco
    results = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "score": 0.9, "bbox": a["bbox"]}
        for a in truth.dataset["annotations"]
        if not a["iscrowd"] and a["area"] >= (32 / 3) ** 2  # all that is not small
    ]
    found = ap_by_size(truth, results)
    assert found["AP"] == evaluate_results(truth, results).summary["AP"]
    assert (found["AP_small"], found["AP_medium"], found["AP_large"]) == (0.0, 1.0, 1.0)


@pytest.mark.slow
def test_a_row_of_the_table(data, tmp_path: Path) -> None:
    row = train_and_judge("P2, P3, P4", 0, *data, iterations=2, out=tmp_path)
    assert set(row) == {"anchors", "weights", "AP", "AP_small", "AP_medium", "AP_large"}
    assert row["anchors"] == 8064


def test_the_record_is_of_these_settings() -> None:
    record = recorded("fpn_levels")
    assert [(row["maps"], row["seed"]) for row in record["rows"]] == [(m, s) for m in NECKS for s in fpn_levels.SEEDS]
    assert record["settings"]["iterations"] == fpn_levels.ITERATIONS
    assert record["settings"]["town"] == fpn_levels.TOWN.to_dict()
