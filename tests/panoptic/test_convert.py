import json

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib.ops.masks import decode_rles
from course_lib.panoptic.convert import (
    describe,
    from_instances,
    from_masks,
    from_two_channels,
    segment_masks,
    to_annotations,
    to_semantic,
    to_two_channels,
)
from course_lib.panoptic.format import read_ids
from tests.panoptic.shared import PANOPTIC, needs_shared

IDS = np.array([[7, 7, 0], [9, 4, 4]])
SEGMENTS = [
    {"id": 7, "category_id": 1, "iscrowd": 0},
    {"id": 9, "category_id": 1, "iscrowd": 1},
    {"id": 4, "category_id": 5},
]


def parts(ids, segments) -> list:
    """What a panoptic annotation says, whatever its ids are."""
    return sorted((s["category_id"], s["iscrowd"], s["area"], (ids == s["id"]).tobytes()) for s in segments)


def test_areas_and_boxes():
    assert describe(IDS, SEGMENTS) == [
        {"id": 7, "category_id": 1, "iscrowd": 0, "area": 2, "bbox": [0, 0, 2, 1]},
        {"id": 9, "category_id": 1, "iscrowd": 1, "area": 1, "bbox": [0, 1, 1, 1]},
        {"id": 4, "category_id": 5, "iscrowd": 0, "area": 2, "bbox": [1, 1, 2, 1]},
    ]
    assert describe(IDS, []) == []


def test_two_channels_by_hand():
    picture = to_two_channels(IDS, SEGMENTS)
    assert picture[..., 0].tolist() == [[1, 1, 0], [1, 5, 5]]
    assert picture[..., 1].tolist() == [[0, 0, 0], [255, 0, 0]]
    assert not picture[..., 2].any()
    ids, segments = from_two_channels(picture)
    assert ids.tolist() == [[1, 1, 0], [2, 3, 3]]
    assert parts(ids, segments) == parts(IDS, describe(IDS, SEGMENTS))
    ids, segments = from_two_channels(picture[1:])  # without void
    assert ids.tolist() == [[1, 2, 2]]
    assert [s["category_id"] for s in segments] == [1, 5]
    assert from_two_channels(np.zeros((2, 2, 3), np.uint8))[1] == []


def test_what_two_channels_cannot_hold():
    with pytest.raises(ValueError, match="category 0: the two-channel format holds 1 … 255, 0 is void"):
        to_two_channels(IDS, [{"id": 7, "category_id": 0}])
    ids = np.arange(1, 257).reshape(16, 16)
    with pytest.raises(ValueError, match="category 3 has more than 255 segments"):
        to_two_channels(ids, [{"id": i, "category_id": 3} for i in range(1, 257)])


def test_semantic_labels_as_detectron2_trains_on():
    found = to_semantic(IDS, SEGMENTS, {1: 0, 5: 3})
    assert found.tolist() == [[0, 0, 255], [0, 3, 3]]
    assert to_semantic(IDS, SEGMENTS, {5: 3}).tolist() == [[255, 255, 255], [255, 3, 3]]  # a category without a label


def test_from_instances_and_a_semantic_map():
    masks = torch.from_numpy(np.stack([IDS == 7, IDS == 9]))
    semantic = np.array([[5, 1, 0], [5, 5, 8]])
    ids, segments = from_instances(masks, [1, 1], [0, 1], semantic, stuff={5, 6})
    assert ids.tolist() == [[1, 1, 0], [2, 3, 0]]
    assert [(s["category_id"], s["iscrowd"], s["area"]) for s in segments] == [(1, 0, 2), (1, 1, 1), (5, 0, 1)]


def test_masks_that_cannot_be_a_panoptic_map():
    masks = torch.tensor([[[True, True]], [[False, True]]])
    with pytest.raises(ValueError, match="masks 0 and 1 overlap; in a panoptic map a pixel has one segment"):
        from_masks(masks, [1, 2], [0, 0], (1, 2))
    with pytest.raises(ValueError, match="mask 1 is empty"):
        from_masks(torch.tensor([[[True, True]], [[False, False]]]), [1, 2], [0, 0], (1, 2))
    ids, segments = from_masks(torch.zeros(0, 2, 3, dtype=torch.bool), [], [], (2, 3))
    assert ids.shape == (2, 3)
    assert segments == []


@needs_shared
def test_round_trips_of_coco():
    """Two COCO photographs in three formats: each is made from the panoptic one, and leads back to it."""
    folder = PANOPTIC / "coco_sample2"
    data = json.loads((folder / "panoptic_examples.json").read_text())
    detections = json.loads((folder / "panoptic_coco_detection_format.json").read_text())["annotations"]
    things = {c["id"] for c in data["categories"] if c["isthing"]}
    for annotation in data["annotations"]:
        ids, segments = read_ids(folder / "panoptic_examples" / annotation["file_name"]), annotation["segments_info"]
        assert describe(ids, segments) == segments
        wanted = parts(ids, segments)

        picture = np.asarray(Image.open(folder / "panoptic_examples_2ch_format" / annotation["file_name"]))
        assert np.array_equal(to_two_channels(ids, segments), picture)
        assert parts(*from_two_channels(picture)) == wanted

        theirs = [a for a in detections if a["image_id"] == annotation["image_id"]]
        ours = to_annotations(ids, segments, annotation["image_id"])
        number = theirs[0]["id"]  # they count on through all images
        assert [a | {"id": a["id"] + number} for a in ours] == theirs
        kinds = [(a["category_id"], a["iscrowd"]) for a in theirs]
        masks = decode_rles([a["segmentation"] for a in theirs])
        assert parts(*from_masks(masks, *zip(*kinds), ids.shape)) == wanted

        semantic = to_semantic(ids, segments, {c["id"]: c["id"] for c in data["categories"]}, ignore=0)
        chosen = [s for s in segments if s["category_id"] in things]
        kinds = [(s["category_id"], s["iscrowd"]) for s in chosen]
        stuff = {c["id"] for c in data["categories"]} - things
        assert parts(*from_instances(segment_masks(ids, chosen), *zip(*kinds), semantic, stuff)) == wanted
