"""The error anatomy: each kind by hand, what putting it right gives, and tidecv's numbers."""

import json
from pathlib import Path

import pytest
import torch

from course_lib.datasets.coco import coco_index
from course_lib.engine.errors import ERRORS, error_anatomy, error_type, errors_of_files
from course_lib.engine.evaluate import evaluate_results

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens/errors/tidecv.json").read_text(encoding="utf-8"))


def dataset(objects: list[tuple], images: int = 1) -> dict:
    """objects: (image, category, x, y, w, h), and perhaps a last True for a crowd."""
    annotations = [
        {
            "id": i,
            "image_id": image,
            "category_id": k,
            "bbox": box[:4],
            "iscrowd": int(len(box) == 5),
            "area": box[2] * box[3],
        }
        for i, (image, k, *box) in enumerate(objects, start=1)
    ]
    pictures = [{"id": i, "file_name": f"{i}.png", "height": 200, "width": 200} for i in range(1, images + 1)]
    categories = [{"id": k, "name": name} for k, name in enumerate("abcd", start=1)]
    return {"images": pictures, "categories": categories, "annotations": annotations}


def results(rows: list[tuple]) -> list[dict]:
    """rows: (image, category, score, x, y, w, h)."""
    return [{"image_id": i, "category_id": k, "score": s, "bbox": box} for i, k, s, *box in rows]


def one_of_each() -> tuple[dict, list[tuple]]:
    objects = [(1, 1, 0, 0, 20, 20), (1, 1, 40, 0, 20, 20), (1, 2, 80, 0, 20, 20), (1, 2, 120, 0, 20, 20)]
    objects += [(1, 1, 0, 100, 20, 20)]
    rows = [
        (1, 1, 0.9, 0, 0, 20, 20),  # correct
        (1, 1, 0.8, 1, 0, 20, 20),  # the same again
        (1, 1, 0.7, 50, 0, 20, 20),  # half beside: IoU 1/3
        (1, 1, 0.6, 80, 0, 20, 20),  # a for b
        (1, 1, 0.5, 130, 0, 20, 20),  # a for b, and half beside
        (1, 1, 0.4, 150, 150, 20, 20),  # nothing there
    ]
    return dataset(objects), rows


def test_one_of_each_kind():
    data, rows = one_of_each()
    anatomy = error_anatomy(coco_index(data), results(rows))
    kinds = [(v.kind, v.object) for v in anatomy.verdicts]
    assert kinds == [
        ("correct", 1),
        ("duplicate", 1),
        ("localisation", 2),
        ("classification", 3),
        ("both", 4),
        ("background", None),
        ("missed", 4),
        ("missed", 5),
    ]
    assert anatomy.counts() == dict.fromkeys(ERRORS, 1) | {"missed": 2}


def test_gains_by_hand():
    data, rows = one_of_each()
    anatomy = error_anatomy(coco_index(data), results(rows))
    # Class a: + and then five wrong, 3 objects: 34 of 101 places at 1. Class b: nothing of 2. c, d: no objects.
    assert anatomy.ap50() == pytest.approx((34 / 101 + 0) / 2)
    gains = anatomy.gains()
    assert gains["duplicate"] == gains["background"] == gains["both"] == 0  # no object comes after them
    # "+-+---": precision 2/3 at recall 2/3, 33 places more.
    assert gains["localisation"] == pytest.approx(33 * (2 / 3) / 101 / 2)
    assert gains["classification"] == pytest.approx(51 / 101 / 2)  # b: "+" of 2 objects
    # Without its missed object a has 2: 51 places; b has one left, not found.
    assert gains["missed"] == pytest.approx((51 - 34) / 101 / 2)
    assert anatomy.ap50(ERRORS) == 1
    assert anatomy.ap50(ERRORS, where=lambda v: False) == anatomy.ap50()


def test_of_two_repairs_of_one_object_the_better_score_is_kept():
    data = dataset([(1, 1, 0, 0, 20, 20)])
    rows = [(1, 1, 0.5, 10, 0, 20, 20), (1, 1, 0.9, 0, 10, 20, 20)]  # both IoU 1/3
    assert error_anatomy(coco_index(data), results(rows)).ap50(["localisation"]) == 1


def test_a_repair_onto_a_taken_object_is_struck_out():
    data = dataset([(1, 1, 0, 0, 20, 20), (1, 1, 100, 100, 20, 20)])
    rows = [(1, 1, 0.5, 0, 0, 20, 20), (1, 1, 0.9, 10, 0, 20, 20), (1, 1, 0.4, 100, 100, 20, 20)]
    anatomy = error_anatomy(coco_index(data), results(rows))
    assert anatomy.counts()["localisation"] == 1
    assert anatomy.ap50(["localisation"]) == 1


def test_a_crowd_is_neither_missed_nor_an_error():
    data = dataset([(1, 1, 0, 0, 20, 20), (1, 1, 60, 60, 100, 100, True)])
    rows = [(1, 1, 0.9, 70, 70, 10, 10), (1, 1, 0.8, 0, 0, 20, 20)]
    anatomy = error_anatomy(coco_index(data), results(rows))
    assert [v.kind for v in anatomy.verdicts] == ["ignored", "correct"]
    assert anatomy.ap50() == 1
    # Another class on the crowd has no excuse, and the crowd is no object that it could have meant.
    anatomy = error_anatomy(coco_index(data), results([(1, 2, 0.9, 70, 70, 10, 10)]))
    assert [v.kind for v in anatomy.verdicts] == ["background", "missed"]


@pytest.mark.parametrize("objects, rows", [([], [(1, 1, 0.9, 0, 0, 9, 9)]), ([(1, 1, 0, 0, 9, 9)], []), ([], [])])
def test_nothing_there_or_nothing_found(objects, rows):
    anatomy = error_anatomy(coco_index(dataset(objects)), results(rows))
    assert [v.kind for v in anatomy.verdicts] == ["background"] * len(rows) + ["missed"] * len(objects)
    if objects:
        assert anatomy.ap50() == 0
    else:
        with pytest.raises(ValueError, match="there is no object"):
            anatomy.ap50()


def test_a_class_of_which_nothing_was_found():
    data = dataset([(1, 1, 0, 0, 20, 20), (1, 2, 50, 50, 20, 20)])
    hit, wrong = (1, 1, 0.9, 0, 0, 20, 20), (1, 2, 0.8, 150, 150, 9, 9)
    assert error_anatomy(coco_index(data), results([hit])).gains()["missed"] == pytest.approx(0.5)  # b is left out
    assert error_anatomy(coco_index(data), results([hit, wrong])).gains()["missed"] == 0  # b is wrong, whatever it has
    assert error_anatomy(coco_index(data), []).gains()["missed"] == 1


def test_types_and_their_order():
    same = torch.tensor([0.3, 0.3, 0.6, 0.6, 0.0, 0.0, 0.05, 0.5, 0.1])
    other = torch.tensor([0.0, 0.9, 0.0, 0.8, 0.7, 0.3, 0.05, 0.0, 0.1])
    found = [ERRORS[k] for k in error_type(same, other).tolist()]
    wanted = ["localisation", "localisation", "duplicate", "classification", "classification", "both", "background"]
    assert found == [*wanted, "duplicate", "localisation"]
    assert error_type(same[:0], other[:0]).dtype == torch.int64


def golden_case() -> tuple:
    truth = coco_index(dataset([tuple(o) for o in GOLDEN["objects"]], images=40))
    return truth, results([tuple(d) for d in GOLDEN["detections"]])


def test_tidecv():
    truth, found = golden_case()
    anatomy = error_anatomy(truth, found)
    assert anatomy.ap50() == pytest.approx(GOLDEN["AP50"], abs=1e-9)
    assert anatomy.counts() == GOLDEN["counts"]
    gains = anatomy.gains()
    for kind in set(ERRORS) - {"localisation"}:
        assert gains[kind] == pytest.approx(GOLDEN["gains"][kind], abs=1e-9), kind
    assert GOLDEN["gains"]["localisation"] < gains["localisation"] < GOLDEN["gains"]["localisation"] + 0.01


def test_ap50_is_pycocotools_and_all_repairs_make_it_one():
    truth, found = golden_case()
    anatomy = error_anatomy(truth, found)
    assert anatomy.ap50() == pytest.approx(evaluate_results(truth, found).summary["AP50"], abs=1e-9)
    assert anatomy.ap50(ERRORS) == pytest.approx(1)
    small = anatomy.gains(lambda v: v.area < 1000)
    assert all(0 <= small[kind] <= gain + 1e-12 for kind, gain in anatomy.gains().items())


def test_table_and_json():
    data, rows = one_of_each()
    anatomy = error_anatomy(coco_index(data), results(rows))
    lines = str(anatomy).splitlines()
    assert lines[0].startswith("AP50 0.168")
    assert lines[2].split() == ["classification", "1", "+0.252"]
    assert [line.split()[0] for line in lines[2:5]] == ["classification", "localisation", "missed"]
    values = json.loads(json.dumps(anatomy.to_dict()))
    assert values["missed"] == {"count": 2, "gain": pytest.approx(17 / 202)}


def test_what_is_refused(tmp_path):
    data, rows = one_of_each()
    truth = coco_index(data)
    with pytest.raises(ValueError, match="expected 0 ≤ background < foreground ≤ 1"):
        error_anatomy(truth, [], foreground=0.1, background=0.5)
    with pytest.raises(ValueError, match="result 0: image_id 7 is not in the ground truth"):
        error_anatomy(truth, results([(7, 1, 0.5, 0, 0, 1, 1)]))
    with pytest.raises(ValueError, match="fixed: found luck, expected some of localisation"):
        error_anatomy(truth, results(rows)).ap50(["luck"])
    (tmp_path / "truth.json").write_text(json.dumps(data))
    (tmp_path / "found.json").write_text(json.dumps(results(rows)))
    assert errors_of_files(tmp_path / "truth.json", tmp_path / "found.json").counts()["both"] == 1
    (tmp_path / "found.json").write_text("[{}]")
    with pytest.raises(ValueError, match=r"found\.json: result 0: has no image_id"):
        errors_of_files(tmp_path / "truth.json", tmp_path / "found.json")
