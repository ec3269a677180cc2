import copy
import json
import math
from pathlib import Path

import pytest
import torch
from pycocotools.coco import COCO

from course_lib.datasets.coco import CocoDetection, coco_index
from course_lib.engine.evaluate import (
    SUMMARY,
    Metrics,
    detect_dataset,
    evaluate_files,
    evaluate_results,
    to_coco_results,
)
from course_lib.ops.masks import encode_masks
from tests.detectors.models import small

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "metrics"
NAMES = {name: name.replace("_", "") for name in SUMMARY}  # theirs

needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"{PUBLISHED} is not here: published AP not tested")


# Published values


@needs_published
@pytest.mark.parametrize(
    "truth, results, expected, part",
    [
        ("instances_val2014_100", "instances_val2014_fakebbox100_results", "expected_ap", "bbox"),
        ("instances_val2014_100", "instances_val2014_fakesegm100_results", "expected_ap", "segm"),
        ("gt", "dets_coco_results", "../expected_ap", "coco_case"),
    ],
    ids=["val2014 boxes", "val2014 masks", "padilla"],
)
def test_published_numbers(truth, results, expected, part):
    folder = PUBLISHED / ("padilla/coco_case" if part == "coco_case" else "coco_val2014_100")
    expected = json.loads((folder / f"{expected}.json").read_text())[part]
    kind = "segm" if part == "segm" else "bbox"
    metrics = evaluate_files(folder / f"{truth}.json", folder / f"{results}.json", iou_type=kind)
    assert set(metrics.summary) == set(NAMES)
    for ours, theirs in NAMES.items():
        assert metrics.summary[ours] == pytest.approx(expected["stats"][theirs], abs=1e-6), ours
    for record in expected["per_class"].values():
        assert metrics.per_class[record["name"]]["AP"] == pytest.approx(record["AP"], abs=1e-6)
        assert metrics.per_class[record["name"]]["AP50"] == pytest.approx(record["AP50"], abs=1e-6)


@needs_published
def test_masks_are_sized_by_their_own_area_though_results_have_boxes_too():
    folder = PUBLISHED / "coco_val2014_100"
    truth = folder / "instances_val2014_100.json"
    masks = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text())
    with_boxes = [{**result, "bbox": [0.0, 0.0, 640.0, 480.0]} for result in masks]
    index = coco_index(json.loads(truth.read_text()))
    assert evaluate_results(index, with_boxes, iou_type="segm") == evaluate_results(index, masks, iou_type="segm")


# By hand


def truth(*annotations, images=2) -> COCO:
    """Ground truth of 100×100 images 1, 2, … and the classes dot (3) and bar (7)."""
    records = [
        {"id": i, "area": a["bbox"][2] * a["bbox"][3], "iscrowd": 0, **a} for i, a in enumerate(annotations, start=1)
    ]
    return coco_index(
        {
            "images": [{"id": i + 1, "file_name": f"{i}.png", "height": 100, "width": 100} for i in range(images)],
            "categories": [{"id": 3, "name": "dot"}, {"id": 7, "name": "bar"}],
            "annotations": records,
        }
    )


def found(image_id, box, score, category_id=3):
    return {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}


OBJECTS = (
    {"image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20]},
    {"image_id": 2, "category_id": 3, "bbox": [50, 50, 40, 40]},
)


def test_ap_by_hand():
    # Best first: a hit, an invention, a hit. Precision 1 up to recall ½ (51 of 101 points), 2/3 beyond (50 points).
    results = [found(1, [10, 10, 20, 20], 0.9), found(1, [70, 70, 9, 9], 0.8), found(2, [50, 50, 40, 40], 0.7)]
    metrics = evaluate_results(truth(*OBJECTS), results)
    wanted = (51 + 50 * 2 / 3) / 101
    assert metrics.summary["AP"] == pytest.approx(wanted)
    assert metrics.summary["AP_small"] == pytest.approx(
        1.0
    )  # the invention is small too but in no way of a hit above it
    assert metrics.summary["AP_large"] is None
    assert metrics.summary["AR100"] == pytest.approx(1.0)
    assert metrics.summary["AR1"] == pytest.approx(1.0)
    assert metrics.per_class == {
        "dot": {"AP": pytest.approx(wanted), "AP50": pytest.approx(wanted), "objects": 2},
        "bar": {"AP": None, "AP50": None, "objects": 0},
    }
    assert metrics.curves["dot"] == [1.0] * 51 + [0.6667] * 50
    assert metrics.curves["bar"] == []
    assert metrics.images == 2


def test_ap_counts_ten_overlaps():
    # A box shifted by 4 of 20 columns: IoU 16/24 = 0.667, good enough at 0.50, 0.55, 0.60 and 0.65.
    metrics = evaluate_results(truth(OBJECTS[0]), [found(1, [14, 10, 20, 20], 0.9)])
    assert metrics.summary["AP50"] == pytest.approx(1)
    assert metrics.summary["AP75"] == 0
    assert metrics.summary["AP"] == pytest.approx(0.4)


def test_some_images_alone():
    results = [found(1, [10, 10, 20, 20], 0.9), found(2, [0, 0, 5, 5], 0.95)]
    index = truth(*OBJECTS)
    assert evaluate_results(index, results, image_ids=[1]).summary["AP"] == pytest.approx(1)
    metrics = evaluate_results(index, results, image_ids=[2])
    assert metrics.summary["AP"] == 0
    assert metrics.images == 1
    assert metrics.per_class["dot"]["objects"] == 1


def test_no_results_at_all():
    masks = [{**o, "segmentation": {"size": [100, 100], "counts": [0, 400, 9600]}} for o in OBJECTS]
    for kind in ("bbox", "segm"):
        metrics = evaluate_results(truth(*masks), [], iou_type=kind)
        assert metrics.summary["AP"] == 0
        assert metrics.per_class["dot"] == {"AP": 0, "AP50": 0, "objects": 2}
        assert metrics.curves["dot"] == [0.0] * 101


def test_no_objects_at_all():
    metrics = evaluate_results(truth(), [found(1, [0, 0, 5, 5], 0.9)])
    assert set(metrics.summary.values()) == {None}
    assert metrics.per_class["dot"] == {"AP": None, "AP50": None, "objects": 0}
    assert metrics.curves == {"dot": [], "bar": []}


def test_a_crowd_is_no_object_and_what_lies_in_it_no_mistake():
    crowd = {
        "image_id": 1,
        "category_id": 3,
        "bbox": [60, 60, 40, 40],
        "iscrowd": 1,
        "segmentation": {"size": [100, 100], "counts": [0, 10000]},
    }
    metrics = evaluate_results(
        truth(OBJECTS[0], crowd), [found(1, [70, 70, 9, 9], 0.95), found(1, [10, 10, 20, 20], 0.9)]
    )
    assert metrics.summary["AP"] == pytest.approx(1)
    assert metrics.per_class["dot"]["objects"] == 1


def test_nothing_is_printed_and_the_results_are_not_changed(capsys):
    results = [found(1, [10, 10, 20, 20], 0.9)]
    before = copy.deepcopy(results)
    evaluate_results(truth(*OBJECTS), results)
    assert results == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "result, message",
    [
        (found(9, [0, 0, 5, 5], 0.5), "result 1: image_id 9 is not in the ground truth"),
        (found(1, [0, 0, 5, 5], 0.5, category_id=4), "result 1: category_id 4 is not in the ground truth"),
        ({"image_id": 1, "score": 0.5}, "result 1: has no category_id, bbox"),
        (found(1, [0, 0, 5], 0.5), r"result 1: score 0.5, bbox \[0, 0, 5\]: expected finite numbers, a box of four"),
        (found(1, [0, 0, 5, math.nan], 0.5), "result 1: score 0.5, bbox .*nan.*: expected finite"),
        (found(1, [0, 0, 5, 5], "high"), "result 1: score high, bbox"),
        ("text", "result 1: found str, expected a record"),
    ],
)
def test_results_that_are_refused(result, message):
    with pytest.raises(ValueError, match=message):
        evaluate_results(truth(*OBJECTS), [found(1, [10, 10, 20, 20], 0.9), result])


def test_masks_need_masks_on_both_sides():
    with pytest.raises(ValueError, match="the ground truth's annotation 1 has no segmentation"):
        evaluate_results(truth(*OBJECTS), [], iou_type="segm")
    with pytest.raises(ValueError, match="result 0: has no segmentation"):
        evaluate_results(truth(), [found(1, [0, 0, 5, 5], 0.9)], iou_type="segm")


# Files


def test_files(tmp_path):
    index = truth(*OBJECTS)
    (tmp_path / "truth.json").write_text(json.dumps(index.dataset))
    (tmp_path / "found.json").write_text(json.dumps([found(1, [10, 10, 20, 20], 0.9), found(2, [50, 50, 40, 40], 0.8)]))
    assert evaluate_files(tmp_path / "truth.json", tmp_path / "found.json").summary["AP"] == pytest.approx(1)


def test_ground_truth_that_counts_from_zero_and_leaves_out_areas(tmp_path):
    """pycocotools takes annotation 0 for no match and stops at a missing area or iscrowd."""
    data = truth(*OBJECTS).dataset
    for i, annotation in enumerate(data["annotations"]):
        annotation["id"] = i
        del annotation["area"], annotation["iscrowd"]
    (tmp_path / "truth.json").write_text(json.dumps(data))
    (tmp_path / "found.json").write_text(json.dumps([found(1, [10, 10, 20, 20], 0.9), found(2, [50, 50, 40, 40], 0.8)]))
    assert evaluate_files(tmp_path / "truth.json", tmp_path / "found.json").summary["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    "gt, results, message",
    [
        ("[]", "[]", r"truth\.json"),
        ("{", "[]", r"truth\.json: not readable as JSON"),
        ("{}", "[]", r"truth\.json"),
        (None, '{"annotations": []}', r"found\.json: expected a JSON list of results, found dict"),
        (None, "[", r"found\.json: not readable as JSON"),
        (None, '[{"image_id": 1}]', r"found\.json: result 0: has no category_id, score, bbox"),
        (
            None,
            '[{"image_id": 8, "category_id": 3, "score": 1, "bbox": [0, 0, 1, 1]}]',
            r"found\.json: result 0: image_id 8",
        ),
    ],
)
def test_files_that_are_refused(tmp_path, gt, results, message):
    (tmp_path / "truth.json").write_text(gt or json.dumps(truth(*OBJECTS).dataset))
    (tmp_path / "found.json").write_text(results)
    with pytest.raises(ValueError, match=message):
        evaluate_files(tmp_path / "truth.json", tmp_path / "found.json")


def test_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"truth\.json: no such annotation file"):
        evaluate_files(tmp_path / "truth.json", tmp_path / "found.json")


# What is printed and stored


def metrics() -> Metrics:
    return evaluate_results(truth(*OBJECTS), [found(1, [10, 10, 20, 20], 0.9)])


def test_metrics_as_json():
    values = json.loads(json.dumps(metrics().to_dict()))
    assert set(values) == {"summary", "per_class", "curves", "images"}
    assert list(values["summary"]) == list(SUMMARY)
    assert values["summary"]["AP_large"] is None
    assert Metrics(**values) == metrics()


def test_metrics_as_a_table():
    lines = str(metrics()).splitlines()
    assert lines[0].split() == ["AP", "0.505", "AP50", "0.505", "AP75", "0.505"]
    assert lines[1].split() == ["AP_small", "1.000", "AP_medium", "0.000", "AP_large", "–"]
    assert lines[-2].split() == ["dot", "0.505", "0.505", "2"]
    assert lines[-1].split() == ["bar", "–", "–", "0"]


# From a detector


def test_to_coco_results():
    mask = torch.zeros(1, 4, 6, dtype=torch.bool)
    mask[0, 1:3, 2:5] = True
    outputs = [
        {
            "boxes": torch.tensor([[1.0, 2, 4, 8]]),
            "labels": torch.tensor([1]),
            "scores": torch.tensor([0.5]),
            "masks": mask,
        },
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)},
        {"boxes": torch.tensor([[0.0, 0, 1, 1]]), "labels": torch.tensor([0]), "scores": torch.tensor([0.25])},
    ]
    results = to_coco_results(outputs, [11, 12, 13], (3, 7))
    assert results == [
        {"image_id": 11, "category_id": 7, "score": 0.5, "bbox": [1, 2, 3, 6], "segmentation": encode_masks(mask)[0]},
        {"image_id": 13, "category_id": 3, "score": 0.25, "bbox": [0, 0, 1, 1]},
    ]
    assert json.loads(json.dumps(results)) == results


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_detect_dataset(val_data, precision):
    model = small(2)
    with torch.no_grad():
        model.class_head.predictor.bias.fill_(-1.0)
    results, outputs, seconds = detect_dataset(model, val_data, batch_size=3, precision=precision)
    assert model.training  # as it was
    assert len(outputs) == len(val_data)
    assert {r["image_id"] for r in results} == set(val_data.image_ids)
    assert {r["category_id"] for r in results} <= {4, 9}
    assert len(results) == sum(len(output["boxes"]) for output in outputs)
    assert seconds > 0
    again, _, _ = detect_dataset(model.eval(), val_data, batch_size=1, indices=[2], precision=precision)
    assert not model.training
    assert {r["image_id"] for r in again} == {val_data.image_ids[2]}
    if precision == "fp32":
        alone = [r for r in results if r["image_id"] == val_data.image_ids[2]]
        assert [r["category_id"] for r in again] == [r["category_id"] for r in alone]
        assert [r["score"] for r in again] == pytest.approx([r["score"] for r in alone], abs=1e-6)


def test_perfect_detections_of_a_data_set_score_one(val_data: CocoDetection):
    outputs = []
    for _, target in (val_data[i] for i in range(len(val_data))):
        plain = ~target["iscrowd"]
        boxes = target["boxes"].as_subclass(torch.Tensor)[plain]
        outputs.append({"boxes": boxes, "labels": target["labels"][plain], "scores": torch.ones(len(boxes))})
    results = to_coco_results(outputs, val_data.image_ids, val_data.label_map.category_ids)
    assert evaluate_results(val_data.coco, results).summary["AP"] == pytest.approx(1)
