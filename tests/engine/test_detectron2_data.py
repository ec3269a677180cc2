"""Files that go to Detectron2 and come from it. A thin stand-in takes its place where a script of ours imports it."""

import importlib.util
import json
import sys
from enum import IntEnum
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as mask_utils

from course_lib.datasets.coco import open_split
from course_lib.datasets.label_map import LabelMap
from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_writer import make_town
from course_lib.engine.detectron2_data import dataset_dicts, export_dataset, read_predictions
from course_lib.engine.evaluate import evaluate_files
from course_lib.engine.pq import open_panoptic, pq_files
from course_lib.panoptic.format import ids_to_rgb, read_ids
from tests.engine.tiny_coco import write_tiny_coco


class BoxMode(IntEnum):
    """As in Detectron2, where a plain number will not do: its `convert` asks for the value."""

    XYWH_ABS = 1


@pytest.fixture
def folder(tmp_path):
    return write_tiny_coco(tmp_path / "tiny", masks=True)


def test_dataset_dicts(folder):
    data = open_split(folder, "val")
    records = dataset_dicts(data)
    assert [r["image_id"] for r in records] == data.image_ids
    assert records[-1]["annotations"] == []  # an empty picture stays
    for i, record in enumerate(records):
        with Image.open(record["file_name"]) as image:
            assert image.size == (record["width"], record["height"])
        target = data[i][1]
        boxes = torch.tensor([a["bbox"] for a in record["annotations"]], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        assert torch.equal(boxes, torch.as_tensor(target["boxes"]))
        assert [a["category_id"] for a in record["annotations"]] == target["labels"].tolist()
        assert [a["iscrowd"] for a in record["annotations"]] == target["iscrowd"].tolist()
        assert all(a["bbox_mode"] == 1 for a in record["annotations"])
        assert all(len(a["segmentation"][0]) == 8 for a in record["annotations"])


def test_run_lengths_become_strings_and_small_polygons_go(folder):
    path = folder / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    first, second = content["annotations"][:2]
    first["segmentation"] = {"size": [64, 64], "counts": [10, 20, 64 * 64 - 30]}
    second["segmentation"] = {"size": [64, 64], "counts": "abc"}
    content["annotations"][2]["segmentation"] = None
    data = open_split(folder, "val")
    data.coco.dataset["annotations"] = content["annotations"]
    found = dataset_dicts(data)[0]["annotations"]
    assert isinstance(found[0]["segmentation"]["counts"], str)
    assert found[1]["segmentation"]["counts"] == "abc"
    assert "segmentation" not in found[2]


def test_polygons_become_run_lengths_where_asked(folder):
    data = open_split(folder, "val")
    for record, plain in zip(dataset_dicts(data, run_lengths=True), dataset_dicts(data)):
        for found, polygon in zip(record["annotations"], plain["annotations"]):
            assert isinstance(found["segmentation"]["counts"], str)
            assert mask_utils.area(found["segmentation"]) == found["bbox"][2] * found["bbox"][3]
            assert found["bbox"] == polygon["bbox"]


@pytest.fixture
def registered(monkeypatch):
    """A function that runs a script with a stand-in for Detectron2's catalogues; returns the dicts and the metadata."""

    def run(script) -> tuple[list[dict], dict]:
        dicts, metadata = {}, {}
        module = ModuleType("detectron2.data")
        module.DatasetCatalog = SimpleNamespace(register=lambda name, function: dicts.update({name: function}))
        module.MetadataCatalog = SimpleNamespace(get=lambda name: SimpleNamespace(set=lambda **v: metadata.update(v)))
        monkeypatch.setitem(sys.modules, "detectron2", ModuleType("detectron2"))
        monkeypatch.setitem(sys.modules, "detectron2.data", module)
        monkeypatch.setitem(sys.modules, "detectron2.structures", SimpleNamespace(BoxMode=BoxMode))
        spec = importlib.util.spec_from_file_location(script.stem, script)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        (function,) = dicts.values()
        return function(), metadata

    return run


def test_the_script_registers(folder, tmp_path, registered):
    data = open_split(folder, "train")
    dicts, script = export_dataset(data, "tiny_train", tmp_path / "d2")
    assert [dicts.name, script.name] == ["tiny_train.json", "register_tiny_train.py"]
    records, metadata = registered(script)
    assert records == dataset_dicts(data)
    assert all(isinstance(a["bbox_mode"], BoxMode) for record in records for a in record["annotations"])
    assert metadata["thing_classes"] == ["square", "bar"]
    assert metadata["thing_dataset_id_to_contiguous_id"] == {4: 0, 9: 1}
    assert metadata["json_file"] == str(data.annotations.resolve())
    assert metadata["evaluator_type"] == "coco"
    assert "NUM_CLASSES) = 2\n" in script.read_text()
    with pytest.raises(ValueError, match="the name is 'tiny-train'"):
        export_dataset(data, "tiny-train", tmp_path / "d2")


def test_panoptic_truth_goes_along(tmp_path, registered):
    """The PNGs of ids as they are, segments with labels, and a map of classes that adds up with both."""
    folder = tmp_path / "town"
    make_town(folder, train=2, val=2, config=TownConfig(size=(48, 64)), seed=1, progress=False)
    data = open_split(folder, "val")
    _, script, semantic = export_dataset(data, "town_val", tmp_path / "d2")
    records, metadata = registered(script)
    truth = data.with_panoptic().panoptic
    for record in records:
        ids = read_ids(record["pan_seg_file_name"])
        with Image.open(record["sem_seg_file_name"]) as picture:
            assert picture.mode == "L"
            classes = np.asarray(picture)
        assert classes.shape == ids.shape == (48, 64)
        expected = np.full(ids.shape, 255)
        for segment in record["segments_info"]:
            names = metadata["thing_classes" if segment["isthing"] else "stuff_classes"]
            ours = next(s for s in truth.segments(record["image_id"]) if s["id"] == segment["id"])
            name = next(c["name"] for c in truth.categories if c["id"] == ours["category_id"])
            assert names[segment["category_id"]] == name
            assert segment["iscrowd"] == ours["iscrowd"]
            expected[ids == segment["id"]] = 0 if segment["isthing"] else segment["category_id"]
        assert np.array_equal(classes, expected)
    assert {path.name for path in semantic.iterdir()} == {truth.png(i).name for i in data.image_ids}
    stuff = truth.stuff_map
    assert metadata["stuff_classes"] == ["things", *stuff.names]
    assert metadata["stuff_dataset_id_to_contiguous_id"][stuff.category_ids[0]] == 1
    assert metadata["evaluator_type"] == "coco_panoptic_seg"
    assert metadata["panoptic_json"] == str(truth.path.resolve())
    assert f"MODEL.SEM_SEG_HEAD.NUM_CLASSES = {1 + len(stuff)}" in script.read_text()


def test_run_lengths_ask_for_bitmasks(folder, tmp_path):
    data = open_split(folder, "val")
    data.coco.dataset["annotations"][0]["segmentation"] = {"size": [64, 64], "counts": "abc"}
    _, script = export_dataset(data, "tiny", tmp_path)
    assert 'INPUT.MASK_FORMAT = "bitmask"' in script.read_text()


def perfect(folder) -> list[dict]:
    """The truth as Detectron2 writes its detections."""
    data = open_split(folder, "val")
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in data.coco.dataset["annotations"]
        if not a["iscrowd"]
    ]


def test_its_detections_are_judged(folder, tmp_path):
    truth = folder / "annotations" / "instances_val.json"
    results = perfect(folder)
    path = tmp_path / "coco_instances_results.json"
    path.write_text(json.dumps(results))
    assert evaluate_files(truth, path).summary["AP"] == pytest.approx(1)
    labels = [r | {"category_id": {4: 0, 9: 1}[r["category_id"]]} for r in results]
    path.write_text(json.dumps(labels))
    assert evaluate_files(truth, path, from_labels=True).summary["AP"] == pytest.approx(1)
    with pytest.raises(ValueError, match="category"):
        evaluate_files(truth, path)
    predictions = [
        {"image_id": i, "instances": [r for r in labels if r["image_id"] == i]} for i in (100, 101, 102, 103)
    ]
    torch.save(predictions, tmp_path / "instances_predictions.pth")
    found = evaluate_files(truth, tmp_path / "instances_predictions.pth", from_labels=True)
    assert found.summary["AP"] == pytest.approx(1)


def test_faulty_predictions(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"a": 1}))
    with pytest.raises(ValueError, match="a JSON list of results, found dict"):
        read_predictions(path)
    path.write_text("[1]")
    with pytest.raises(ValueError, match="result 0: category_id None is no label"):
        read_predictions(path, LabelMap(("a",), (5,)))
    path.write_text(json.dumps([{"category_id": 2}]))
    with pytest.raises(ValueError, match="category_id 2 is no label 0 … 1"):
        read_predictions(path, LabelMap(("a", "b"), (5, 6)))
    torch.save([1], tmp_path / "p.pth")
    with pytest.raises(ValueError, match="expected a list of pictures"):
        read_predictions(tmp_path / "p.pth")
    with pytest.raises(FileNotFoundError):
        read_predictions(tmp_path / "none.pth")


def test_its_panoptic_predictions_are_judged(tmp_path):
    """Its file repeats the truth's JSON with its own annotations, whose segments know more than COCO's do."""
    ids = np.zeros((8, 8), np.int32)
    ids[:4], ids[4:] = 1, 2
    categories = [{"id": 1, "name": "a", "isthing": 1}, {"id": 92, "name": "s", "isthing": 0}]
    base = {"images": [{"id": 7, "file_name": "7.jpg", "height": 8, "width": 8}], "categories": categories}
    thing = {"id": 1, "category_id": 1, "isthing": True, "score": 0.9, "instance_id": 0}
    stuff = {"id": 2, "category_id": 92, "isthing": False, "area": 32}
    for name, segments in (
        ("truth", [{"id": 1, "category_id": 1, "area": 32, "iscrowd": 0}, {"id": 2, "category_id": 92, "area": 32}]),
        ("predictions", [thing, stuff]),
    ):
        (tmp_path / name).mkdir()
        Image.fromarray(ids_to_rgb(ids)).save(tmp_path / name / "7.png")
        annotation = {"image_id": 7, "file_name": "7.png", "segments_info": segments}
        (tmp_path / f"{name}.json").write_text(json.dumps(base | {"annotations": [annotation]}))
    quality = pq_files(open_panoptic(tmp_path / "truth.json"), open_panoptic(tmp_path / "predictions.json"))
    assert quality.to_dict()["all"]["pq"] == 1
