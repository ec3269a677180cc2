import json

import pytest

from course_lib.datasets.coco import open_split
from course_lib.engine.compare.judge import best_detections, found_by_group, judge_run, object_groups
from course_lib.engine.errors import ERRORS, error_anatomy
from course_lib.engine.evaluate import SUMMARY, to_coco_results
from tests.engine.outputs import invent, perfect
from tests.engine.tiny_coco import write_tiny_coco


def results_of(dataset, outputs):
    return to_coco_results(outputs, dataset.image_ids, dataset.label_map.category_ids)


@pytest.fixture
def lone_and_crowded(tmp_path):
    """One image with four boxes: areas 16, 100, 100, 900; the second and third overlap by 50 / 150."""
    folder = write_tiny_coco(tmp_path / "data", val=2)
    file = folder / "annotations" / "instances_val.json"
    data = json.loads(file.read_text())
    boxes = [[0, 0, 4, 4], [10, 10, 10, 10], [15, 10, 10, 10], [30, 30, 30, 30]]
    data["annotations"] = [
        {"id": i, "image_id": 100, "category_id": 4, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
        for i, b in enumerate(boxes, start=1)
    ]
    data["annotations"].append({**data["annotations"][0], "id": 9, "iscrowd": 1})
    file.write_text(json.dumps(data))
    return open_split(folder, "val")


def test_groups_by_hand(lone_and_crowded):
    groups = object_groups(lone_and_crowded)
    assert groups["crowded"] == {2, 3}
    assert groups["alone"] == {1, 4}
    assert groups["small"] == {1, 2, 3} or groups["small"] == {1}  # equal areas stay together
    assert groups["large"] == {4}
    assert groups["small"] | groups["medium"] | groups["large"] == {1, 2, 3, 4}  # the crowd is in none


def test_what_is_found_is_judged_on_as_many_detections_as_objects(lone_and_crowded):
    outputs = perfect(lone_and_crowded)
    groups = object_groups(lone_and_crowded)
    everything = found_by_group(error_anatomy(lone_and_crowded.coco, results_of(lone_and_crowded, outputs)), groups)
    assert set(everything) == {"all", *groups}
    assert [value for value in everything.values() if value is not None] == [1.0] * (5 if groups["medium"] else 4) + [1]
    outputs[0]["scores"][0] = 0.1  # the smallest is found last …
    invent(outputs[1], 0.5)  # … after an invention, which takes its place among the best four
    found = found_by_group(error_anatomy(lone_and_crowded.coco, results_of(lone_and_crowded, outputs)), groups)
    assert (found["all"], found["alone"], found["crowded"], found["large"]) == (0.75, 0.5, 1.0, 1.0)


def test_a_group_without_objects(lone_and_crowded):
    anatomy = error_anatomy(lone_and_crowded.coco, [])
    assert found_by_group(anatomy, {"none": set()}) == {"all": 0.0, "none": None}


def test_the_best_detections():
    results = [
        {"image_id": 7, "category_id": 4, "score": 0.1234567, "bbox": [1, 2, 3, 4.567], "segmentation": {}},
        {"image_id": 8, "category_id": 4, "score": 0.9, "bbox": [1, 2, 3, 4]},
        {"image_id": 8, "category_id": 9, "score": 0.05, "bbox": [1, 2, 3, 4]},
    ]
    assert best_detections(results, 2) == {
        "8": [{"category_id": 4, "score": 0.9, "bbox": [1, 2, 3, 4]}],
        "7": [{"category_id": 4, "score": 0.1235, "bbox": [1, 2, 3, 4.57]}],
    }


def test_a_run_is_judged(trained, val_data):
    judged = judge_run(trained, val_data)
    assert json.loads(json.dumps(judged)) == judged
    assert tuple(judged["summary"]) == SUMMARY
    assert tuple(judged["errors"]["gain"]) == ERRORS
    assert judged["iterations"] == 4
    assert judged["curve"][-1] == {"iteration": 4, "minutes": judged["minutes"], "AP": judged["summary"]["AP"]}
    assert [point["iteration"] for point in judged["curve"]] == [1, 2, 3, 4] or len(judged["curve"]) >= 2
    assert judged["input_size"] == [64, 64]
    assert all(rate > 0 for rate in judged["images_per_second"].values())
    assert sum(map(len, judged["detections"].values())) <= 6
    assert "masks" not in judged
