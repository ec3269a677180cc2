"""`course data check`: every kind of bad input is found, named by file and record, and counted."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_utils

from course_lib.datasets.coco import open_split
from course_lib.datasets.records import check_records, read_json
from course_lib.datasets.validate import check_folder, check_split

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not here: real data is not tested")
NAN, INF = float("nan"), float("inf")


def annotation(**fields):
    """Damage annotation 11 of the training split."""
    return lambda data: data["annotations"][0].update(fields)


def without(which, index, key):
    return lambda data: data[which][index].pop(key)


def repeat(which, **fields):
    return lambda data: data[which].append(data[which][0] | fields)


OF_11 = "annotation 11 (image 5)"
BAD_RECORDS = {  # name -> (damage, kind, record, a part of the message)
    "box of zero width": (annotation(bbox=[4, 2, 0, 4]), "empty box", OF_11, "[4, 2, 0, 4] has no area"),
    "box of zero height": (annotation(bbox=[4, 2, 5, 0.0]), "empty box", OF_11, "no area"),
    "negative width": (annotation(bbox=[9, 2, -5, 4]), "empty box", OF_11, "[9, 2, -5, 4] has no area"),
    "both sides negative": (annotation(bbox=[9, 6, -5, -4]), "empty box", OF_11, "no area"),
    "box right of the image": (annotation(bbox=[30, 2, 5, 4]), "box outside", OF_11, "sticks out of its 20x10 image"),
    "box half outside": (annotation(bbox=[18, 2, 5, 4]), "box outside", OF_11, "by more than 1 px"),
    "box above the image": (annotation(bbox=[4, -3, 5, 4]), "box outside", OF_11, "sticks out"),
    "box in the tolerated rim": (annotation(bbox=[20, 2, 1, 4]), "box outside", OF_11, "sticks out"),
    "NaN in a box": (annotation(bbox=[4, NAN, 5, 4]), "malformed box", OF_11, "NaN or infinity, expected finite"),
    "infinite box": (annotation(bbox=[4, 2, INF, 4]), "malformed box", OF_11, "NaN or infinity"),
    "three numbers": (annotation(bbox=[4, 2, 5]), "malformed box", "annotation 11", "expected four numbers"),
    "a string in a box": (annotation(bbox=[4, 2, 5, "4"]), "malformed box", "annotation 11", "expected four numbers"),
    "a box that is none": (annotation(bbox=None), "malformed box", "annotation 11", "'bbox' is null, expected four"),
    "a number beyond floats": (annotation(bbox=[4, 2, 5, 10**400]), "malformed box", "annotation 11", "four numbers"),
    "no box": (without("annotations", 0, "bbox"), "not COCO", "annotation 11", "'bbox' is missing, expected four"),
    "unknown category": (annotation(category_id=99), "unknown category", OF_11, "99 is unknown, expected one of 3, 7"),
    "no such image": (annotation(image_id=6), "no such image", "annotation 11 (image 6)", "6 is no image of this"),
    "iscrowd 2": (annotation(iscrowd=2), "not COCO", "annotation 11", "'iscrowd' is 2, expected 0 or 1"),
    "area NaN": (annotation(area=NAN), "not COCO", "annotation 11", "'area' is NaN, expected a number"),
    "id a string": (annotation(id="x"), "not COCO", "annotation at index 0", "'id' is \"x\", expected an integer"),
    "id true": (annotation(id=True), "not COCO", "annotation at index 0", "'id' is true, expected an integer"),
    "duplicate annotation": (repeat("annotations"), "duplicate annotation id", "annotation 11", "2 records have"),
    "duplicate image": (repeat("images", file_name="train_wide2.png"), "duplicate image id", "image 5", "id 5"),
    "duplicate category": (repeat("categories"), "duplicate category id", "category 7", "2 records have the id 7"),
    "duplicate file": (repeat("images", id=9), "duplicate file name", "image 9", "'train_wide.png' is image 5 too"),
    "no file name": (without("images", 1, "file_name"), "not COCO", "image 2", "'file_name' is missing"),
    "width 0": (lambda d: d["images"][1].update(width=0), "not COCO", "image 2", "'width' is 0, expected a positive"),
    "no name": (without("categories", 1, "name"), "not COCO", "category 3", "'name' is missing, expected a string"),
    "an annotation is a list": (
        lambda d: d["annotations"].append([1]), "not COCO", "annotation at index 3", "is a list, expected an object"),
    "RLE of another size": (
        annotation(segmentation={"size": [20, 10], "counts": [200]}), "RLE of wrong size", OF_11, "RLE is [20, 10]"),
    "RLE too short": (
        annotation(segmentation={"size": [10, 20], "counts": [100, 99]}), "RLE of wrong size", OF_11, "covers 199"),
    "RLE of rubbish": (
        annotation(segmentation={"size": [10, 20], "counts": "~~"}), "malformed RLE", OF_11, "no valid run-length"),
    "polygon of two points": (
        annotation(segmentation=[[1, 2, 3, 4]]), "malformed polygon", OF_11, "4 numbers, expected three or more"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_bad_records(folder, name):
    damage, kind, record, says = BAD_RECORDS[name]
    shutil.copy(folder.image("train_wide.png"), folder.image("train_wide2.png"))
    damage(folder.data["train"])
    folder.save()
    report = check_folder(folder.path)
    assert report.counts() == {kind: 1}
    assert not report.ok
    (problem,) = report.problems
    assert Path(problem.file) == folder.json()
    assert problem.record == record
    assert says in problem.message
    with pytest.raises(ValueError) as error:  # the loader refuses the same, in the same words
        open_split(folder.path, "train")
    assert str(problem) in str(error.value)
    assert len(open_split(folder.path, "val")) == 2


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("{", "unreadable JSON", "not readable as JSON"),
        ("", "unreadable JSON", "not readable as JSON"),
        ("null", "unreadable JSON", "holds null"),
        ("\udcff", "unreadable JSON", "not readable as JSON"),
        ("[" * 100_000, "unreadable JSON", "not readable as JSON"),
        ("[]", "not COCO", "is a list, expected an object with the lists images, categories, annotations"),
        ('{"images": [], "categories": []}', "not COCO", "'annotations' is missing, expected a list"),
        ('{"images": {}, "categories": [], "annotations": []}', "not COCO", "'images' is {}, expected a list"),
    ],
)
def test_files_that_are_not_coco(folder, text, kind, says):
    folder.json().write_bytes(text.encode("utf-8", "surrogateescape"))
    report = check_folder(folder.path)
    assert report.counts() == {kind: 1}
    assert Path(report.problems[0].file) == folder.json()
    assert says in report.problems[0].message
    with pytest.raises(ValueError, match=r"instances_train\.json"):
        open_split(folder.path, "train")


def test_a_missing_image(folder):
    folder.image("train_wide.png").unlink()
    (problem,) = check_folder(folder.path).problems
    assert (problem.kind, problem.record) == ("missing image", "image 5")
    assert str(folder.image("train_wide.png")) in problem.message
    with pytest.raises(ValueError, match=r"instances_train.json: image 5: .*train_wide\.png does not exist"):
        open_split(folder.path, "train")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "empty"])
def test_an_unreadable_image(folder, damage):
    path = folder.image("train_wide.png")
    whole = path.read_bytes()
    flipped = whole[:100] + bytes([whole[100] ^ 255]) + whole[101:]
    path.write_bytes({"truncated": whole[:200], "flipped": flipped, "text": b"hello", "empty": b""}[damage])
    (problem,) = check_folder(folder.path).problems
    assert (problem.kind, problem.record, problem.file) == ("unreadable image", "image 5", str(path))
    with pytest.raises(ValueError, match=r"train_wide\.png: not a readable image"):
        open_split(folder.path, "train")[0]


def test_a_truncated_jpeg(folder):
    path = folder.image("train_wide.png")
    with Image.open(path) as image:
        image.save(path, format="JPEG")
    path.write_bytes(path.read_bytes()[:-50])
    assert check_folder(folder.path).counts() == {"unreadable image": 1}


def test_an_image_of_another_size(folder):
    Image.new("RGB", (19, 10)).save(folder.image("train_wide.png"))
    (problem,) = check_folder(folder.path).problems
    assert (problem.kind, problem.record) == ("wrong image size", "image 5")
    assert problem.message.startswith("the file is 19x10, its record says 20x10")
    with pytest.raises(ValueError, match=r"train_wide\.png: the file is 19x10"):
        open_split(folder.path, "train")[0]


def test_images_that_are_fine(folder):
    """Grayscale, RGBA, palette, 16 bits, EXIF-rotated, one pixel, without objects: no problem."""
    exif = Image.Exif()
    exif[0x0112] = 6
    makers = {
        "gray.png": Image.new("L", (4, 3)),
        "alpha.png": Image.new("RGBA", (4, 3)),
        "palette.png": Image.new("P", (4, 3)),
        "deep.png": Image.new("I;16", (4, 3)),
        "dot.png": Image.new("RGB", (1, 1)),
    }
    for number, (name, image) in enumerate(makers.items(), start=100):
        image.save(folder.image(name))
        record = {"id": number, "file_name": name, "width": image.width, "height": image.height}
        folder.data["train"]["images"].append(record)
    Image.new("RGB", (3, 4)).save(folder.image("turned.jpg"), exif=exif)
    folder.data["train"]["images"].append({"id": 99, "file_name": "turned.jpg", "width": 4, "height": 3})
    folder.data["train"]["annotations"].append({"id": 50, "image_id": 104, "category_id": 3, "bbox": [0, 0, 1, 1]})
    folder.save()
    report = check_folder(folder.path)
    assert report.ok, str(report)
    assert report.files[str(folder.json())] == {"images": 8, "without objects": 6, "objects": 4, "categories": 2}
    ds = open_split(folder.path, "train")
    assert [ds[i][0].shape[1:] for i in range(2, 8)] == [(3, 4)] * 4 + [(1, 1), (3, 4)]


def test_everything_is_listed_at_once(folder):
    data = folder.data["train"]
    data["annotations"][0]["bbox"] = [4, 2, 0, 4]
    data["annotations"][1]["category_id"] = 4
    data["annotations"] += [{"id": 60 + i, "image_id": 5, "category_id": 3, "bbox": [0, 0, -1, 1]} for i in range(4)]
    folder.save()
    folder.image("train_empty.png").unlink()
    folder.image("val_wide.png").write_bytes(b"")
    report = check_folder(folder.path)
    assert report.counts() == {"empty box": 5, "unknown category": 1, "missing image": 1, "unreadable image": 1}
    assert next(iter(report.counts())) == "empty box"
    text = str(report)
    assert "8 problems:" in text
    assert "5 x empty box" in text
    assert "annotation 61 (image 5)" in text
    assert "annotation 63" not in text
    assert "... and 2 more" in text
    assert "no warnings" in text
    data = json.loads(report.to_json())
    assert data["ok"] is False
    assert data["counts"] == report.counts()
    assert len(data["problems"]) == 8
    assert set(data["problems"][0]) == {"file", "record", "kind", "message"}


def test_a_sound_folder(folder):
    report = check_folder(folder.path)
    assert report.ok
    assert report.counts() == {}
    assert report.warnings == []
    assert "instances_val.json: 2 images, 1 without objects, 3 objects, 2 categories" in str(report)
    assert str(report).endswith("no problems\nno warnings")


def test_one_json_and_its_images(folder):
    assert check_split(folder.path / "images", folder.json()).ok
    assert check_split(folder.path, folder.json()).counts() == {"missing image": 2}
    assert check_split(folder.path, folder.path / "gone.json").counts() == {"unreadable JSON": 1}


def test_no_data_folder(tmp_path):
    (problem,) = check_folder(tmp_path / "nowhere").problems
    assert problem.kind == "no annotations"
    assert "nowhere" in problem.file


def test_an_image_in_two_splits_is_a_warning(folder):
    shutil.copy(folder.image("train_wide.png"), folder.image("val_wide.png"))
    report = check_folder(folder.path)
    assert report.ok
    (warning,) = report.warnings
    assert (warning.kind, warning.file) == ("image in both splits", str(folder.image("val_wide.png")))
    assert "same image as train_wide.png" in warning.message
    assert "1 warning:" in str(report)


def test_splits_with_other_categories(folder):
    folder.data["val"]["categories"][0]["name"] = "tree"
    folder.data["val"]["categories"].append({"id": 8, "name": "car"})
    folder.data["val"]["annotations"][0]["category_id"] = 8
    folder.save("val")
    report = check_folder(folder.path)
    assert report.counts() == {"other label": 2}
    assert {p.record for p in report.problems} == {"category 7", OF_11}


def panoptic_sound(folder):
    ids = np.zeros((10, 20), dtype=np.int64)
    ids[:4], ids[4:, 5:] = 70_000, 3
    segments = [{"id": 70_000, "category_id": 3, "area": 80}, {"id": 3, "category_id": 7, "area": 90, "iscrowd": 0}]
    folder.save_panoptic(ids, segments)


def test_sound_panoptic_files(folder):
    panoptic_sound(folder)
    report = check_folder(folder.path)
    assert report.ok, str(report)
    assert report.files[str(folder.path / "annotations" / "panoptic_train.json")] == {"images": 1, "segments": 2}


def in_segments(change):
    return lambda folder: change(folder.panoptic["train"]["annotations"][0])


BAD_PANOPTIC = {  # name -> (damage, kinds, record, a part of the message)
    "area": (in_segments(lambda a: a["segments_info"][0].update(area=81)), ["wrong segment area"],
             "segment 70000 (image 5)", "area is 81 in the JSON, 80 pixels in the PNG"),
    "only in JSON": (in_segments(lambda a: a["segments_info"].append({"id": 9, "category_id": 3})),
                     ["segment not in PNG"], "segment 9 (image 5)", "no pixel of the PNG"),
    "only in PNG": (in_segments(lambda a: a["segments_info"].pop()), ["segment not in JSON"],
                    "segment 3 (image 5)", "90 pixels of the PNG"),
    "twice": (in_segments(lambda a: a["segments_info"].append(a["segments_info"][0])), ["duplicate segment id"],
              "segment 70000 (image 5)", "listed twice"),
    "category": (in_segments(lambda a: a["segments_info"][1].update(category_id=5)), ["unknown category"],
                 "segment 3 (image 5)", "category_id 5 is not among"),
    "no segment id": (in_segments(lambda a: a["segments_info"][1].pop("id")), ["not COCO"],
                      "annotation at index 0", "each with an integer id"),
    "image": (in_segments(lambda a: a.update(image_id=6)), ["no such image"],
              "panoptic annotation of image 6", "no image of this file"),
    "repeated": (lambda f: f.panoptic["train"].update(annotations=f.panoptic["train"]["annotations"] * 2),
                 ["duplicate panoptic annotation"], "panoptic annotation of image 5", "keep one"),
    "missing PNG": (lambda f: f.png().unlink(), ["missing PNG"], "panoptic annotation of image 5", "does not exist"),
    "broken PNG": (lambda f: f.png().write_bytes(f.png().read_bytes()[:50]), ["unreadable PNG"],
                   "panoptic annotation of image 5", "write the file anew"),
    "gray PNG": (lambda f: Image.new("L", (20, 10)).save(f.png()), ["PNG not RGB"],
                 "panoptic annotation of image 5", "mode is L, expected RGB"),
    "PNG size": (lambda f: Image.new("RGB", (10, 20)).save(f.png()), ["wrong PNG size"],
                 "panoptic annotation of image 5", "the PNG is 10x20, its image 20x10"),
    "lists": (lambda f: f.panoptic["train"].pop("annotations"), ["not COCO"], "top level", "'annotations' is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_PANOPTIC)
def test_bad_panoptic_files(folder, name):
    damage, kinds, record, says = BAD_PANOPTIC[name]
    panoptic_sound(folder)
    damage(folder)
    folder.save_panoptic_json()
    (problem,) = check_folder(folder.path).problems
    assert [problem.kind] == kinds
    assert problem.record == record
    assert says in problem.message
    assert "panoptic_train" in problem.file


def test_panoptic_json_that_is_none(folder):
    (folder.path / "annotations" / "panoptic_val.json").write_text("{")
    assert check_folder(folder.path).counts() == {"unreadable JSON": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(["images", "categories", "annotations"]), st.data())
def test_any_json_is_judged_without_an_exception(which, data):
    record = {
        "images": {"id": 1, "file_name": "a.png", "width": 4, "height": 4},
        "categories": {"id": 1, "name": "a"},
        "annotations": {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 4, "segmentation": []},
    }
    assert check_records({k: [v] for k, v in record.items()}, Path("x.json")) == []
    key = data.draw(st.sampled_from(sorted(record[which])))
    broken = {k: [dict(v)] for k, v in record.items()}
    broken[which][0][key] = data.draw(JSON)
    check_records(broken, Path("x.json"))
    check_records(data.draw(JSON), Path("x.json"))


def test_twenty_thousand_annotations_take_a_second():
    mask = np.zeros((480, 640), dtype=np.uint8, order="F")
    mask[100:300, 200:420] = 1
    rle = {"size": [480, 640], "counts": mask_utils.encode(mask)["counts"].decode()}
    polygon = [[float(v) for v in range(100, 160)]]
    data = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(2000)],
        "categories": [{"id": i, "name": str(i)} for i in range(80)],
        "annotations": [
            {"id": i, "image_id": i % 2000, "category_id": i % 80, "bbox": [1.5, 2.5, 30.0, 40.0], "area": 9.5,
             "iscrowd": 0, "segmentation": polygon if i % 2 else rle}
            for i in range(20_000)
        ],
    }  # fmt: skip
    start = time.process_time()
    assert check_records(data, Path("x.json")) == []
    assert time.process_time() - start < 3  # 0.5 s on an idle core: 100,000 in a few seconds


@needs_shared
def test_real_data_is_sound():
    for name in ("blood", "coco_photos"):
        report = check_folder(SHARED / name)
        assert report.ok, str(report)
        assert report.warnings == []
    assert len(check_folder(SHARED / "coco_photos").files) == 4
    for name in ("coco_val2014_100/instances_val2014_100.json", "padilla/coco_case/gt.json"):
        file = SHARED / "metrics" / name
        assert check_records(read_json(file), file) == []
