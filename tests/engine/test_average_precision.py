"""Our readable AP: worked out by hand, equal to pycocotools, and to numbers that others published."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.datasets.coco import coco_index
from course_lib.engine.average_precision import (
    average_precision_11,
    average_precision_101,
    average_precision_all,
    coco_summary,
    interpolated_precision,
    match_detections,
    overlaps,
)
from course_lib.engine.evaluate import SUMMARY, evaluate_results, read_results
from course_lib.ops.boxes import box_iou

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "metrics"
GOLDEN = json.loads((Path(__file__).parents[1] / "goldens/metrics/published.json").read_text(encoding="utf-8"))

needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"{PUBLISHED} is not here: published AP not tested")


def flags(text: str) -> torch.Tensor:
    """ "+-+" → right, wrong, right."""
    return torch.tensor([c == "+" for c in text], dtype=torch.bool)


def no_crowd(count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.bool)


# Matching


def test_each_takes_the_free_object_that_it_overlaps_most():
    overlap = torch.tensor([[0.6, 0.7, 0.0], [0.55, 0.9, 0.0], [0.8, 0.1, 0.4], [0.0, 0.0, 0.5]])
    # The second would rather have object 1, which is taken; so the third goes away empty, and the last just reaches.
    assert match_detections(overlap, 0.5, no_crowd(3)).tolist() == [1, 0, -1, 2]
    assert match_detections(overlap, 0.75, no_crowd(3)).tolist() == [-1, 1, 0, -1]


def test_a_crowd_takes_any_number_but_an_object_comes_first():
    overlap = torch.tensor([[0.6, 1.0], [0.55, 1.0], [0.0, 0.7], [0.0, 0.3]])
    assert match_detections(overlap, 0.5, torch.tensor([False, True])).tolist() == [0, 1, 1, -1]


def test_an_object_out_of_range_is_taken_once_and_last():
    overlap = torch.tensor([[0.6, 0.9], [0.0, 0.9], [0.0, 0.9]])
    found = match_detections(overlap, 0.5, no_crowd(2), outside=torch.tensor([False, True]))
    assert found.tolist() == [0, 1, -1]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_match(shape):
    assert match_detections(torch.zeros(shape), 0.5, no_crowd(shape[1])).tolist() == [-1] * shape[0]


def test_overlap_with_a_crowd_is_the_share_inside_it():
    boxes = torch.tensor([[0.0, 0, 10, 10], [95, 0, 105, 10]], dtype=torch.float64)
    objects = torch.tensor([[0.0, 0, 100, 100], [0, 0, 100, 100]], dtype=torch.float64)
    found = overlaps(boxes, objects, torch.tensor([False, True]))
    assert found.tolist() == [pytest.approx([0.01, 1.0]), pytest.approx([50 / 10050, 0.5])]
    assert overlaps(boxes[:0], objects, torch.tensor([False, True])).shape == (0, 2)


# The curve


def test_a_curve_by_hand():
    # Precision after each: 1, 1/2, 2/3, 3/4, 3/5; recall: 1/4, 1/4, 2/4, 3/4, 3/4. The saw's teeth fill to 1, 3/4, 3/4.
    correct = flags("+-++-")
    at = torch.tensor([0, 0.25, 0.26, 0.5, 0.75, 0.76, 1], dtype=torch.float64)
    assert interpolated_precision(correct, 4, at).tolist() == [1, 1, 0.75, 0.75, 0.75, 0, 0]
    assert average_precision_101(correct, 4) == pytest.approx((26 * 1 + 50 * 0.75) / 101)
    assert average_precision_11(correct, 4) == pytest.approx((3 * 1 + 5 * 0.75) / 11)
    assert average_precision_all(correct, 4) == pytest.approx(0.25 * 1 + 0.5 * 0.75)


@pytest.mark.parametrize("ap", [average_precision_101, average_precision_11, average_precision_all])
def test_the_ends_of_the_scale(ap):
    assert ap(flags("+++"), 3) == 1
    assert ap(flags("---"), 3) == 0
    assert ap(flags(""), 3) == 0
    assert ap(flags("+++-----"), 3) == 1  # what comes after the last object costs nothing


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 40))
def test_precision_never_rises_with_recall(correct, extra):
    correct = torch.tensor(correct, dtype=torch.bool)
    curve = interpolated_precision(correct, int(correct.sum()) + extra)
    assert curve.shape == (101,)
    assert (curve.diff() <= 0).all()
    assert ((curve >= 0) & (curve <= 1)).all()


# Against others


@pytest.mark.parametrize("threshold", ["0.1", "0.3", "0.5", "0.75"])
def test_published_voc_example(threshold):
    example = GOLDEN["padilla_voc_case1"]
    rows, objects = [], 0
    for image in example["images"]:
        found, there = (torch.tensor(image[k], dtype=torch.float64) for k in ("detections", "objects"))
        found = found[found[:, 0].sort(descending=True, stable=True).indices]
        boxes = [torch.cat((b[:, :2], b[:, :2] + b[:, 2:] + 1), 1) for b in (found[:, 1:], there)]  # inclusive pixels
        matched = match_detections(box_iou(*boxes), float(threshold), no_crowd(len(there)))
        rows += zip(found[:, 0].tolist(), (matched >= 0).tolist())
        objects += len(there)
    correct = torch.tensor([right for _, right in sorted(rows, key=lambda row: -row[0])])
    assert average_precision_11(correct, objects) == pytest.approx(example["eleven_point"][threshold], abs=1e-6)
    assert average_precision_all(correct, objects) == pytest.approx(example["every_point"][threshold], abs=1e-6)


@needs_published
@pytest.mark.parametrize("threshold", ["0.5", "0.75"])
def test_published_toy_example(threshold):
    truth, found = (json.loads((PUBLISHED / "padilla/toy" / f).read_text()) for f in ("gt_coco.json", "dets_coco.json"))
    rows = []
    for image in truth["images"]:
        mine, there = ([a for a in d["annotations"] if a["image_id"] == image["id"]] for d in (found, truth))
        mine.sort(key=lambda a: -a["score"])
        boxes = [
            torch.tensor([[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in records)]).reshape(-1, 4)
            for records in (mine, there)
        ]
        matched = match_detections(box_iou(*boxes), float(threshold), no_crowd(len(there)))
        rows += [(a["score"], m >= 0) for a, m in zip(mine, matched.tolist())]
    correct = torch.tensor([right for _, right in sorted(rows, key=lambda row: -row[0])])
    published = GOLDEN["padilla_toy"][threshold]
    assert average_precision_11(correct, len(truth["annotations"])) == pytest.approx(
        published["eleven_point"], abs=5e-5
    )
    assert average_precision_all(correct, len(truth["annotations"])) == pytest.approx(
        published["every_point"], abs=5e-5
    )


@needs_published
@pytest.mark.parametrize(
    "golden, truth, results",
    [
        ("coco_val2014_100", "instances_val2014_100.json", "instances_val2014_fakebbox100_results.json"),
        pytest.param("padilla_coco_case", "gt.json", "dets_coco_results.json", marks=pytest.mark.slow),
    ],
)
def test_published_coco_numbers(golden, truth, results):
    folder = PUBLISHED / golden.replace("padilla_", "padilla/")
    ours = coco_summary(*read_results(folder / truth, folder / results))
    assert ours == pytest.approx(GOLDEN[golden], abs=1e-6)
    assert tuple(ours) == SUMMARY


def record(numbers: tuple[int, ...], **more) -> dict:
    x, y, w, h = numbers
    return {"bbox": [x, y, w, h], **more}


SIDES = st.sampled_from([4, 8, 20, 33, 60, 100])  # small, medium and large
BOXES = st.tuples(st.integers(0, 8), st.integers(0, 8), SIDES, SIDES)
PLACES = st.tuples(st.integers(1, 2), st.integers(1, 2))  # image, category


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(PLACES, BOXES, st.booleans()), max_size=8),
    st.lists(st.tuples(PLACES, BOXES, st.integers(0, 5)), max_size=14),
)
def test_equal_to_pycocotools(objects, detections):
    """Crowds, ties of score and of overlap, classes without objects, sizes, all at once."""
    annotations = [
        record(box, id=i, image_id=image, category_id=k, area=box[2] * box[3], iscrowd=int(crowd))
        for i, ((image, k), box, crowd) in enumerate(objects, start=1)
    ]
    crowds = [a for a in annotations if a["iscrowd"]]
    for a in crowds:  # pycocotools reads a crowd's box, but wants a segmentation to be there
        a["segmentation"] = {"size": [200, 200], "counts": [40000]}
    data = {"images": [{"id": i, "height": 200, "width": 200, "file_name": f"{i}.png"} for i in (1, 2)]}
    data |= {"categories": [{"id": k, "name": str(k)} for k in (1, 2)], "annotations": annotations}
    truth = coco_index(data)
    results = [record(box, image_id=image, category_id=k, score=score / 5) for (image, k), box, score in detections]
    theirs = evaluate_results(truth, results).summary
    ours = coco_summary(truth, results)
    assert {k: v is None for k, v in ours.items()} == {k: v is None for k, v in theirs.items()}
    assert {k: v or 0 for k, v in ours.items()} == pytest.approx({k: v or 0 for k, v in theirs.items()}, abs=1e-9)


def test_more_than_a_hundred_detections_of_a_class_in_an_image():
    """The limit is for each class and image; what comes after it does not exist."""
    truth = coco_index(
        {
            "images": [{"id": 1, "height": 500, "width": 500, "file_name": "1.png"}],
            "categories": [{"id": 1, "name": "a"}],
            "annotations": [
                record((20 * k, 0, 10, 10), id=k + 1, image_id=1, category_id=1, area=100, iscrowd=0) for k in range(3)
            ],
        }
    )
    wrong = [record((300, 300, 9, 9), image_id=1, category_id=1, score=0.9)] * 99
    right = [record((20 * k, 0, 10, 10), image_id=1, category_id=1, score=0.8 - k / 10) for k in range(3)]
    theirs = evaluate_results(truth, wrong + right).summary
    ours = coco_summary(truth, wrong + right)
    assert ours["AR100"] == theirs["AR100"] == pytest.approx(1 / 3)
    assert ours["AR10"] == theirs["AR10"] == 0
    assert ours["AP"] == pytest.approx(theirs["AP"], abs=1e-9)
