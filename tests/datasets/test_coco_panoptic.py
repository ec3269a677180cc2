import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib.datasets.coco import CocoDetection, open_split
from course_lib.datasets.coco_panoptic import PanopticTruth, panoptic_file, to_segments_info
from course_lib.datasets.label_map import LabelMap
from course_lib.datasets.town import CATEGORIES, TownConfig, draw_scene
from course_lib.datasets.town_writer import make_town
from course_lib.datasets.transforms import eval_transform, train_transform


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A Town of six small scenes."""
    out = tmp_path_factory.mktemp("panoptic") / "town"
    make_town(out, train=4, val=2, config=TownConfig(size=(48, 64)), seed=1, progress=False)
    return out


@pytest.fixture
def copy(town, tmp_path):
    """The Town's training split with a panoptic JSON that may be damaged: `copy(change)` opens it."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").symlink_to(town / "images")
    for name in ("instances_train.json", "panoptic_train"):
        (tmp_path / "annotations" / name).symlink_to(town / "annotations" / name)

    def make(change=lambda data: None, **options) -> CocoDetection:
        data = json.loads((town / "annotations" / "panoptic_train.json").read_text())
        change(data)
        (tmp_path / "annotations" / "panoptic_train.json").write_text(json.dumps(data))
        return open_split(tmp_path, "train").with_panoptic(**options)

    return make


STUFF = [c for c in CATEGORIES if not c["isthing"]]


def wanted(index, split="train"):
    """The semantic map of a scene, class by class from what was drawn."""
    scene = draw_scene(TownConfig(size=(48, 64)), 1, index, split)
    semantic = np.full((48, 64), 255)
    for segment in scene.segments:
        label = 0 if segment["isthing"] else 1 + [c["id"] for c in STUFF].index(segment["category_id"])
        semantic[scene.panoptic == segment["id"]] = label
    return torch.from_numpy(semantic)


def test_semantic_maps(town):
    plain = open_split(town, "train")
    dataset = plain.with_panoptic()
    assert "semantic" not in plain[0][1]
    assert dataset.panoptic.stuff_map.names == tuple(c["name"] for c in STUFF)
    for _ in range(2):  # decoded, and from the cache
        for i in range(4):
            semantic = dataset[i][1]["semantic"]
            assert semantic.dtype == torch.int64
            assert torch.equal(semantic.as_subclass(torch.Tensor), wanted(i))
    assert {int(v) for i in range(4) for v in dataset[i][1]["semantic"].unique()} >= {0, 1, 2}


def test_a_full_cache_and_a_journey_to_a_worker(town):
    dataset = open_split(town, "train", cache_bytes=0).with_panoptic()
    assert torch.equal(dataset[1][1]["semantic"].as_subclass(torch.Tensor), wanted(1))
    dataset = open_split(town, "train").with_panoptic()
    dataset[1]
    again = pickle.loads(pickle.dumps(dataset))
    assert not again._semantic
    assert torch.equal(again[1][1]["semantic"].as_subclass(torch.Tensor), wanted(1))


def test_shrunk(town):
    dataset = open_split(town, "train").with_panoptic()
    dataset[0]
    small = dataset.shrunk(32)[0][1]["semantic"]
    assert small.shape == (24, 32)
    assert torch.equal(small.as_subclass(torch.Tensor), wanted(0)[1::2, 1::2])  # the pixel under each centre
    assert dataset[0][1]["semantic"].shape == (48, 64)


def test_a_map_from_elsewhere(town):
    order = LabelMap(tuple(c["name"] for c in reversed(STUFF)), tuple(c["id"] for c in reversed(STUFF)))
    dataset = open_split(town, "train").with_panoptic(order)
    found, straight = dataset[0][1]["semantic"].as_subclass(torch.Tensor), wanted(0)
    is_stuff = (straight > 0) & (straight < 255)
    assert torch.equal(found[is_stuff], len(STUFF) + 1 - straight[is_stuff])
    with pytest.raises(ValueError, match=r"stuff \[\d+, .*\] is not among the detector's classes \('a',\)"):
        open_split(town, "train").with_panoptic(LabelMap(("a",), (STUFF[0]["id"],)))


def test_segments_as_detectors_say_them_and_back(town):
    truth = open_split(town, "train").with_panoptic().panoptic
    labelled, raw = truth.labelled(1), truth.segments(1)
    assert len(labelled) == len(raw) > 3
    info = to_segments_info([s | {"score": 0.123456} for s in labelled], truth.things, truth.stuff_map)
    assert [(s["id"], s["category_id"], s["area"]) for s in info] == [
        (s["id"], s["category_id"], s["area"]) for s in raw
    ]
    assert info[0]["score"] == 0.1235
    assert {s["isthing"] for s in labelled} == {True, False}
    assert "score" not in to_segments_info(labelled, truth.things, truth.stuff_map)[0]


def test_where_the_file_lies(tmp_path):
    assert panoptic_file(tmp_path / "instances_val.json") == tmp_path / "panoptic_val.json"
    labels = LabelMap(("a",), (1,))
    with pytest.raises(ValueError, match=r"panoptic_val.json: no such panoptic annotation file"):
        PanopticTruth(tmp_path / "panoptic_val.json", things=labels, image_ids=[])


def drop_category(data):
    data["categories"] = data["categories"][1:]
    for annotation in data["annotations"]:
        annotation["segments_info"] = [s for s in annotation["segments_info"] if s["category_id"] != 1]


def things_alone(data):
    data["categories"] = [c for c in data["categories"] if c["isthing"]]
    kept = {c["id"] for c in data["categories"]}
    for annotation in data["annotations"]:
        annotation["segments_info"] = [s for s in annotation["segments_info"] if s["category_id"] in kept]


DAMAGES = {
    r"0 classes of stuff, expected 1 … 254": things_alone,
    r"things \[1\] are in the panoptic or the instance categories alone": drop_category,
    r"no annotation of 3 of the images, the first is 2": lambda d: d.update(annotations=d["annotations"][:1]),
    r"unknown|not among the file's categories": lambda d: d["annotations"][0]["segments_info"][0].update(
        category_id=99
    ),
    r"258 classes of stuff, expected 1 … 254": lambda d: d["categories"].extend(
        {"id": i, "name": str(i), "isthing": 0} for i in range(100, 351)
    ),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_damaged_files(copy, message):
    with pytest.raises(ValueError, match=message):
        copy(DAMAGES[message])


def test_ids_that_are_not_listed(copy):
    dataset = copy(lambda d: d["annotations"][0]["segments_info"].pop(0))
    with pytest.raises(ValueError, match=r"train_000000.png: id \d+ is in the PNG, but no such segment in the JSON"):
        dataset[0]
    assert "semantic" in dataset[1][1]


def test_a_png_of_another_size(copy, tmp_path, town):
    dataset = copy()
    folder = tmp_path / "annotations" / "panoptic_train"
    folder.unlink()
    folder.mkdir()
    Image.fromarray(np.zeros((48, 60, 3), np.uint8)).save(folder / "train_000000.png")
    with pytest.raises(ValueError, match=r"train_000000.png: the PNG is 60x48, its image 64x48"):
        dataset[0]


# ---- transforms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_augmentation_moves_all_alike(town, seed):
    """Instances whose masks are kept lie on "a thing"; what is padded is ignored; nothing else changes its class."""
    dataset = open_split(town, "train", masks=True).with_panoptic()
    image, target = dataset[seed % 4]
    transform = train_transform((40, 56), scale=(0.5, 1.5), photometric=False)
    moved, out = transform(image, target, torch.Generator().manual_seed(seed))
    semantic = out["semantic"]
    assert semantic.shape == moved.shape[-2:] == (40, 56)
    assert semantic.dtype == torch.int64
    for mask in out["masks"]:
        assert (semantic[mask] == 0).all()
    assert set(semantic.unique().tolist()) <= set(target["semantic"].unique().tolist()) | {255}
    for name in ("boxes", "labels", "masks"):
        assert len(out[name]) == len(out["labels"])


def test_a_flip_by_hand(town):
    dataset = open_split(town, "train").with_panoptic()
    image, target = dataset[0]
    flips = 0
    for seed in range(6):
        transform = train_transform((48, 64), scale=(1, 1), photometric=False)
        moved, out = transform(image, target, torch.Generator().manual_seed(seed))
        flipped = torch.equal(moved.as_subclass(torch.Tensor), image.flip(-1).as_subclass(torch.Tensor))
        flips += flipped
        wanted_map = target["semantic"].flip(-1) if flipped else target["semantic"]
        assert torch.equal(out["semantic"].as_subclass(torch.Tensor), wanted_map.as_subclass(torch.Tensor))
    assert 0 < flips < 6


def test_resizing_for_evaluation(town):
    image, target = open_split(town, "train").with_panoptic()[0]
    _, out, _ = eval_transform((24, 32))(image, target)
    assert torch.equal(out["semantic"].as_subclass(torch.Tensor), wanted(0)[1::2, 1::2])
