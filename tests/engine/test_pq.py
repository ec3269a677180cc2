import json
from pathlib import Path

import numpy as np
import pytest

from course_lib.engine.pq import CHUNK, format_pq, open_panoptic, pq_files
from course_lib.panoptic.convert import describe
from course_lib.panoptic.format import write_ids
from tests.panoptic.shared import PANOPTIC, needs_shared

CATEGORIES = [
    {"id": 1, "name": "car", "isthing": 1},
    {"id": 2, "name": "kiosk", "isthing": 1},
    {"id": 9, "name": "road", "isthing": 0},
]
MEASURES = ("pq", "sq", "rq")


def write(path: Path, maps, *, truth: bool, seed: int = 0) -> Path:
    """A panoptic file of maps whose ids are categories times ten plus a number."""
    path.with_suffix("").mkdir()
    annotations = []
    for image_id, ids in enumerate(maps):
        segments = [{"id": i, "category_id": i // 10} for i in np.unique(ids).tolist() if i]
        segments = describe(ids, segments) if truth else segments
        write_ids(path.with_suffix("") / f"{image_id}.png", ids)
        annotations.append({"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": segments})
    data = {"annotations": annotations} | ({"categories": CATEGORIES} if truth else {})
    path.write_text(json.dumps(data))
    return path


@pytest.fixture
def pair(tmp_path):
    """Truth and prediction of more images than are counted together, and the same with a few columns moved."""
    rng = np.random.default_rng(0)
    maps = [np.kron(rng.choice([0, 11, 12, 21, 91], (3, 4)), np.ones((8, 8), int)) for _ in range(CHUNK + 5)]
    moved = [np.roll(ids, 2, axis=1) for ids in maps]
    return write(tmp_path / "gt.json", maps, truth=True), write(tmp_path / "pred.json", moved, truth=False)


@needs_shared
@pytest.mark.parametrize("name", ["pred_identity", "pred_without_crowd", "pred_lowres8", "pred_shift_x4_y3"])
def test_the_published_set(name):
    """100 COCO images: PQ, SQ and RQ of all, things, stuff and of each class as panopticapi has them."""
    folder = PANOPTIC / "coco_val100"
    quality = pq_files(
        open_panoptic(folder / "panoptic_gt.json"), open_panoptic(folder / f"{name}.json"), crowds="last"
    )
    compare(quality, json.loads((folder / "expected_pq.json").read_text())[name])


@needs_shared
def test_other_published_numbers():
    rectangles = PANOPTIC / "mmdet_rectangles"
    expected = json.loads((rectangles / "expected_pq.json").read_text())
    quality = pq_files(*(open_panoptic(rectangles / f"panoptic_{part}.json") for part in ("gt", "pred")))
    compare(quality, expected)
    assert quality.to_dict()["per_class"]["0"] | expected["counts"]["0"] == quality.to_dict()["per_class"]["0"]
    photos = PANOPTIC / "deeplab2_pairs"
    expected = json.loads((photos / "expected_pq.json").read_text())
    quality = pq_files(*(open_panoptic(photos / f"panoptic_{part}_all.json") for part in ("gt", "pred")))
    compare(quality, expected["bird_cat_team"])
    assert quality.summary()["all"].pq == pytest.approx(0.76855499, abs=1e-4)  # as deeplab2 publishes it
    team = pq_files(*(open_panoptic(photos / f"panoptic_{part}_team.json") for part in ("gt", "pred"))).summary()
    assert (team["all"].pq, team["all"].sq, team["all"].rq) == pytest.approx(
        [expected["team"]["from_counts"][m] for m in MEASURES], abs=1e-9
    )
    assert team["stuff"].classes == 0  # where the reference divides by zero


def compare(quality, expected) -> None:
    summary = quality.summary()
    for group in ("All", "Things", "Stuff"):
        found = summary[group.lower()]
        assert found.classes == expected[group]["n"]
        assert [getattr(found, m) for m in MEASURES] == pytest.approx([expected[group][m] for m in MEASURES], abs=1e-9)
    per_class = quality.per_class()
    judged = {c: q for c, q in per_class.items() if q.classes}
    assert len(judged) == expected["All"]["n"]
    for category, wanted in expected["per_class"].items():
        if int(category) in judged:  # the reference lists the others with zeros
            found = judged[int(category)]
            assert [getattr(found, m) for m in MEASURES] == pytest.approx([wanted[m] for m in MEASURES], abs=1e-9)


@pytest.mark.slow
def test_workers_change_nothing(pair):
    truth, found = map(open_panoptic, pair)
    alone, together = (pq_files(truth, found, workers=workers) for workers in (1, 2))
    assert alone.to_dict() == together.to_dict()
    assert 0.3 < alone.summary()["all"].pq < 0.9


def test_the_table(pair):
    truth, found = map(open_panoptic, pair)
    table = format_pq(pq_files(truth, found), CATEGORIES).splitlines()
    assert table[0].split() == ["PQ", "SQ", "RQ", "classes"]
    assert [line.split()[0] for line in table[1:4]] == ["all", "things", "stuff"]
    assert [line.split()[0] for line in table[6:]] == ["car", "kiosk", "road"]
    assert len({len(line) for line in table[1:4]}) == 1


def test_folders_may_lie_elsewhere(pair):
    moved = pair[1].with_name("elsewhere")
    pair[1].with_suffix("").rename(moved)
    assert open_panoptic(pair[1], moved).folder == moved
    with pytest.raises(ValueError, match=r"pred: no such folder of panoptic PNGs \(for .*pred\.json\); name it"):
        open_panoptic(pair[1])


def change(path: Path, edit) -> None:
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.pop("annotations"), "pred.json: expected a panoptic JSON, an object with annotations"),
        (lambda d: d["annotations"].append(3), "annotation 25: found int, expected a record with image_id"),
        (lambda d: d["annotations"][1].pop("file_name"), "annotation 1: has no file_name"),
        (lambda d: d["annotations"].append(d["annotations"][4]), "image 4 has two annotations; keep one"),
        (lambda d: d["annotations"].pop(3), "no prediction for 1 of the images, the first is 3"),
        (lambda d: d["annotations"][2].update(segments_info=[{"id": "x"}]), "image 2: segment .* expected integers id"),
        (lambda d: d["annotations"][2].update(segments_info=5), "image 2: segment 5: expected integers id"),
        (
            lambda d: d["annotations"][0]["segments_info"].pop(),
            r"image 0, .*0\.png \(truth\).*: \d+ pixels have id",
        ),
        (
            lambda d: d["annotations"][0]["segments_info"][0].update(category_id=5),
            "image 0.*category_id 5, which",
        ),
    ],
)
def test_faults_are_named(pair, edit, message):
    change(pair[1], edit)
    with pytest.raises(ValueError, match=message):
        pq_files(open_panoptic(pair[0]), open_panoptic(pair[1]))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.pop("categories"), "gt.json: expected categories with id and isthing, found none"),
        (lambda d: d["categories"][1].pop("isthing"), "expected categories with id and isthing, found {'id': 2"),
        (lambda d: d["annotations"][1]["segments_info"][0].pop("area"), r"image 1: segment \d+ has no area in pixels"),
    ],
)
def test_faults_of_the_truth(pair, edit, message):
    change(pair[0], edit)
    with pytest.raises(ValueError, match=message):
        pq_files(open_panoptic(pair[0]), open_panoptic(pair[1]))


@pytest.mark.slow
def test_a_fault_in_a_worker(pair):
    write_ids(pair[1].with_suffix("") / "22.png", np.zeros((2, 2), int))
    with pytest.raises(ValueError, match=r"image 22, .*22\.png \(truth\).*: the maps differ in size: 32×24 and 2×2"):
        pq_files(open_panoptic(pair[0]), open_panoptic(pair[1]), workers=2)
