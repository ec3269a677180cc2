"""The COCO data set: what it loads, in which units, and what it refuses."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.cocoeval import COCOeval
from torchvision import tv_tensors

from course_lib.datasets.coco import CocoDetection, open_split
from course_lib.datasets.label_map import LabelMap

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not here: real data is not tested")


def test_label_map_follows_category_ids(folder):
    ds = open_split(folder.path, "train")
    assert ds.label_map == LabelMap(("dot", "bar"), (3, 7))
    assert ds.label_map.labels == {3: 0, 7: 1}
    assert LabelMap.from_dict(ds.label_map.to_dict()) == ds.label_map
    assert len(ds.label_map) == 2


def test_label_map_refuses_what_is_not_one_to_one():
    with pytest.raises(ValueError, match="1 names for 2 category ids"):
        LabelMap(("a",), (1, 2))
    with pytest.raises(ValueError, match="repeat"):
        LabelMap(("a", "b"), (1, 1))


def test_items(folder):
    ds = open_split(folder.path, "train", masks=True)
    assert len(ds) == 2
    assert ds.image_ids == [5, 2]
    image, target = ds[0]
    assert isinstance(image, tv_tensors.Image)
    assert image.dtype == torch.uint8
    np.testing.assert_array_equal(image.permute(1, 2, 0), np.asarray(Image.open(ds.image_path(0))))
    boxes = target["boxes"]
    assert isinstance(boxes, tv_tensors.BoundingBoxes)
    assert boxes.canvas_size == (10, 20)
    assert boxes.dtype == torch.float32
    assert boxes.tolist() == [[4, 2, 9, 6], [10, 1, 18, 7], [0, 0, 1, 10]]
    assert target["labels"].tolist() == [0, 1, 0]
    assert target["labels"].dtype == torch.int64
    assert target["iscrowd"].tolist() == [False, False, True]
    assert target["area"].tolist() == [20, 48, 10]  # the third has none in the JSON: its box's
    assert target["image_id"] == 5
    masks = target["masks"]
    assert isinstance(masks, tv_tensors.Mask)
    assert masks.dtype == torch.bool
    wanted = torch.zeros(3, 10, 20, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(wanted, boxes.long().tolist()):
        mask[y1:y2, x1:x2] = True  # in this file, all three kinds of mask fill their box
    assert torch.equal(masks, wanted)


def test_an_image_without_objects_is_ordinary(folder):
    image, target = open_split(folder.path, "train", masks=True)[1]
    assert image.shape == (3, 8, 6)
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == target["area"].shape == target["iscrowd"].shape == (0,)
    assert target["masks"].shape == (0, 8, 6)


def test_a_file_without_images(folder):
    folder.data["train"] |= {"images": [], "annotations": []}
    folder.save()
    ds = open_split(folder.path, "train")
    assert len(ds) == 0
    assert ds.sizes().shape == (0, 2)
    assert ds.all_boxes() == []


def test_planning_needs_no_image_and_leaves_crowds_out(folder):
    ds = open_split(folder.path, "train", max_size=10)
    for image in folder.path.glob("images/*"):
        image.unlink()
    assert ds.sizes().tolist() == [[10, 20], [8, 6]]
    assert [b.tolist() for b in ds.all_boxes()] == [[[4, 2, 9, 6], [10, 1, 18, 7]], []]
    assert [labels.tolist() for labels in ds.all_labels()] == [[0, 1], []]


def test_max_size_scales_boxes_masks_and_areas(folder):
    image, target = open_split(folder.path, "train", masks=True, max_size=10)[0]
    assert image.shape == (3, 5, 10)
    assert target["boxes"].tolist() == [[2, 1, 4.5, 3], [5, 0.5, 9, 3.5], [0, 0, 0.5, 5]]
    assert target["boxes"].canvas_size == (5, 10)
    assert target["area"].tolist() == [5, 12, 2.5]
    assert target["masks"].shape == (3, 5, 10)
    # x 2 .. 4.5 covers pixels 2 and 3, and half of 4
    assert target["masks"][0, 1:3, 2:4].all()
    assert target["masks"][0].sum() in (4, 6)
    image, _ = open_split(folder.path, "train", max_size=100)[0]
    assert image.shape == (3, 10, 20)
    with pytest.raises(ValueError, match="max_size is 0"):
        open_split(folder.path, "train", max_size=0)


def test_boxes_one_pixel_out_are_clipped(folder):
    folder.data["train"]["annotations"][0]["bbox"] = [-1, -0.5, 21.9, 11.4]
    folder.save()
    ds = open_split(folder.path, "train")
    assert ds[0][1]["boxes"][0].tolist() == [0, 0, 20, 10]
    assert ds.all_boxes()[0][0].tolist() == [0, 0, 20, 10]


def test_decoded_images_stay_within_the_budget(folder):
    ds = open_split(folder.path, "train", cache_bytes=10 * 20 * 3)
    first, second = ds[0][0], ds[1][0]
    first.zero_()  # a copy: the cache must not see this
    for image in folder.path.glob("images/train_*"):
        image.unlink()
    assert ds[0][0].any()  # cached
    with pytest.raises(ValueError, match=r"train_empty\.png: no such image"):  # was over the budget
        ds[1]
    assert second.any()
    with pytest.raises(ValueError, match="no such image"):
        pickle.loads(pickle.dumps(ds))[0]  # a spawned worker starts with an empty cache


def test_pycocotools_is_silent_and_complete(folder, capsys):
    ds = open_split(folder.path, "train")
    assert capsys.readouterr().out == ""
    assert ds.coco.getImgIds() == [5, 2]
    assert ds.coco.anns[12]["iscrowd"] == 0
    assert ds.coco.anns[13]["area"] == 10


def test_an_annotation_with_id_0_can_still_be_matched(folder):
    data = folder.data["train"]
    data["annotations"] = data["annotations"][:1]
    data["annotations"][0]["id"] = 0
    folder.save()
    truth = open_split(folder.path, "train").coco
    found = truth.loadRes([{"image_id": 5, "category_id": 3, "bbox": [4, 2, 5, 4], "score": 0.9}])
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_labels_from_another_map(folder):
    data = folder.data["val"]
    other = LabelMap(("bar", "car", "dot"), (7, 9, 3))
    assert open_split(folder.path, "val", label_map=other)[0][1]["labels"].tolist() == [2, 0, 2]
    with pytest.raises(ValueError, match=r"instances_val.json: annotation 12 \(image 5\): category_id 7 is not in"):
        open_split(folder.path, "val", label_map=LabelMap(("dot",), (3,)))
    data["categories"][0]["name"] = "tree"
    folder.save("val")
    with pytest.raises(ValueError, match=r"category 7: is 'tree' here, but 'bar' in the training data"):
        open_split(folder.path, "val", label_map=other)


def test_masks_may_be_asked_for_later(folder):
    plain = open_split(folder.path, "train")
    target = plain.with_masks()[0][1]
    assert torch.equal(target["masks"], open_split(folder.path, "train", masks=True)[0][1]["masks"])
    assert "masks" not in plain[0][1]


def test_masks_that_are_not_there(folder):
    folder.data["train"]["annotations"][1]["segmentation"] = []
    folder.save()
    assert len(open_split(folder.path, "train")) == 2  # boxes only: fine
    with pytest.raises(ValueError, match=r"instances_train.json: annotation 12 \(image 5\): has no segmentation"):
        open_split(folder.path, "train", masks=True)


def test_layouts(folder):
    (folder.path / "images" / "train").mkdir()
    for name in ("train_wide.png", "train_empty.png"):
        folder.image(name).rename(folder.path / "images" / "train" / name)
    assert open_split(folder.path, "train")[0][0].shape == (3, 10, 20)
    ds = CocoDetection(folder.path / "images", folder.json("val"))
    assert ds.image_path(0) == folder.image("val_wide.png")
    with pytest.raises(ValueError, match=r"instances_test\.json: no such file \(found instances_train.json, inst"):
        open_split(folder.path, "test")
    with pytest.raises(ValueError, match="found nothing there"):
        open_split(folder.path / "nowhere", "train")
    with pytest.raises(ValueError, match=r"gone\.json: no such annotation file"):
        CocoDetection(folder.path, folder.path / "gone.json")


def test_all_faults_are_counted_and_the_first_are_named(folder):
    for annotation in folder.data["train"]["annotations"]:
        annotation["category_id"] = 99
        annotation["bbox"][2] = 0
    folder.save()
    with pytest.raises(ValueError, match=r"^6 problem(.|\n)*annotation 11 \(image 5\)(.|\n)*and 1 more$"):
        open_split(folder.path, "train")


def test_a_damaged_image_is_named_when_it_is_read(folder):
    path = folder.image("train_wide.png")
    path.write_bytes(path.read_bytes()[:60])
    ds = open_split(folder.path, "train")
    with pytest.raises(ValueError, match=r"train_wide\.png: not a readable image"):
        ds[0]


@needs_shared
def test_blood_cells():
    train = open_split(SHARED / "blood", "train")
    val = open_split(SHARED / "blood", "val", label_map=train.label_map)
    assert (len(train), len(val)) == (226, 55)
    assert train.label_map.names == ("RBC", "WBC", "Platelets")
    assert sum(map(len, train.all_boxes())) == 3102
    image, target = train[0]
    assert image.shape == (3, 240, 320)
    assert target["boxes"][0].tolist() == [130, 88.5, 245.5, 188]


@needs_shared
def test_photographs_with_masks():
    whole = open_split(SHARED / "coco_photos", "val", masks=True)
    small = open_split(SHARED / "coco_photos", "val", masks=True, max_size=200)
    for i in (0, 5, 11):
        image, target = whole[i]
        assert image.shape[1:] == tuple(whole.sizes()[i])
        assert target["masks"].sum((1, 2)).tolist() == target["area"].tolist()
        image, target = small[i]
        assert max(image.shape) == 200
        areas = target["masks"].sum((1, 2))
        large = target["area"] > 1000  # thin things lose or gain an edge
        assert torch.allclose(areas[large].float(), target["area"][large], rtol=0.06)
