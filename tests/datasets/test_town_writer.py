"""Town on disk: the layout, the files' agreement with the scenes, and what happens when things go wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from course_lib.datasets import town_writer
from course_lib.datasets.town import CATEGORIES, TownConfig, draw_scene
from course_lib.datasets.town_writer import make_town

SMALL = TownConfig(size=(48, 64), crowds=0.3)


def write(out: Path, train: int = 6, val: int = 4, config: TownConfig = SMALL, seed: int = 1, workers: int = 1) -> Path:
    make_town(out, train=train, val=val, config=config, seed=seed, workers=workers, progress=False)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def town(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("town") / "out")


def test_layout(town):
    names = [f"train_{i:06d}.png" for i in range(6)] + [f"val_{i:06d}.png" for i in range(4)]
    expected = [f"images/{n}" for n in names] + [f"annotations/panoptic_{n.split('_')[0]}/{n}" for n in names]
    expected += [f"annotations/{k}_{s}.json" for k in ("instances", "panoptic") for s in ("train", "val")]
    assert sorted(contents(town)) == sorted([*expected, "dataset.json"])
    record = json.loads((town / "dataset.json").read_text())
    assert record["config"] == SMALL.to_dict() and (record["seed"], record["train"], record["val"]) == (1, 6, 4)


def test_nothing_is_left_beside_the_folder(town):
    assert [p.name for p in town.parent.iterdir()] == ["out"]


@pytest.mark.parametrize(("split", "count"), [("train", 6), ("val", 4)])
def test_instances_agree_with_the_scenes(town, split, count, capsys):
    coco = COCO(town / "annotations" / f"instances_{split}.json")
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1)) and len(coco.imgs) == count
    assert [c["name"] for c in coco.dataset["categories"]] == [c["name"] for c in CATEGORIES if c["isthing"]]
    for i, image in enumerate(coco.dataset["images"]):
        scene = draw_scene(SMALL, 1, i, split)
        assert (image["height"], image["width"]) == (48, 64)
        assert np.array_equal(np.asarray(Image.open(town / "images" / image["file_name"])), scene.image)
        things = [s for s in scene.segments if s["isthing"]]
        found = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert len(found) == len(things)
        for annotation, segment in zip(found, things):
            mask = coco.annToMask(annotation)
            assert np.array_equal(mask.astype(bool), scene.panoptic == segment["id"])
            assert annotation["area"] == rle.area(annotation["segmentation"]) == mask.sum()
            assert annotation["bbox"] == rle.toBbox(annotation["segmentation"]).tolist()
            for key in ("category_id", "iscrowd", "hidden"):
                assert annotation[key] == segment[key]


@pytest.mark.parametrize("split", ["train", "val"])
def test_panoptic_agrees_with_the_scenes(town, split):
    data = json.loads((town / "annotations" / f"panoptic_{split}.json").read_text())
    assert data["categories"] == [dict(c) for c in CATEGORIES]
    for i, annotation in enumerate(data["annotations"]):
        scene = draw_scene(SMALL, 1, i, split)
        rgb = np.asarray(Image.open(town / "annotations" / f"panoptic_{split}" / annotation["file_name"]), np.int64)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
        assert np.array_equal(ids, scene.panoptic)
        assert {s["id"]: s["area"] for s in annotation["segments_info"]} == {
            k: n for k, n in zip(*(a.tolist() for a in np.unique(ids, return_counts=True))) if k
        }
        keys = {"id", "category_id", "area", "bbox", "iscrowd"}
        assert [{k: s[k] for k in keys} for s in scene.segments] == annotation["segments_info"]


def test_the_first_images_are_the_same_in_a_larger_town(town, tmp_path):
    larger = write(tmp_path / "larger", train=9, val=5)
    few, many = contents(town), contents(larger)
    assert all(many[name] == data for name, data in few.items() if name.endswith(".png"))


def test_workers_do_not_change_a_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(town_writer, "_ALONE", 1)
    monkeypatch.setattr(town_writer, "_CHUNK", 3)
    one = contents(write(tmp_path / "one", train=8, workers=1))
    assert one == contents(write(tmp_path / "two", train=8, workers=2))


def test_an_empty_town_and_empty_streets(tmp_path):
    write(tmp_path / "none", train=0, val=0)
    write(tmp_path / "streets", config=TownConfig(size=32, objects=0, crowds=0))
    coco = json.loads((tmp_path / "streets/annotations/instances_val.json").read_text())
    assert coco["annotations"] == [] and len(coco["images"]) == 4


def test_the_same_town_again_returns_at_once(town, monkeypatch):
    before = contents(town)
    monkeypatch.setattr(town_writer, "_build", lambda *_: pytest.fail("drew again"))
    write(town)
    assert contents(town) == before


def test_another_town_is_not_overwritten(town):
    before = contents(town)
    with pytest.raises(
        ValueError, match=r"dataset\.json: found a Town made with other settings \(seed, train differ\)"
    ):
        write(town, train=7, seed=2)
    assert contents(town) == before


@pytest.mark.parametrize("record", [None, "not json", "[1]"])
def test_a_folder_with_other_files_is_not_touched(tmp_path, record):
    (tmp_path / "mine.txt").write_text("keep me")
    if record:
        (tmp_path / "dataset.json").write_text(record)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="found a"):
        write(tmp_path)
    assert contents(tmp_path) == before


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "out").write_text("keep me")
    with pytest.raises(ValueError, match="found a file"):
        write(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "keep me"


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "out").mkdir()
    assert len(contents(write(tmp_path / "out"))) == 25


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_town_leaves_nothing(tmp_path, monkeypatch, error):
    def stop(*_):
        raise error

    monkeypatch.setattr(town_writer, "_write_annotations", stop)
    with pytest.raises(error):
        write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other_seed", [1, 2])
def test_another_process_finishes_first(tmp_path, monkeypatch, other_seed):
    """The same Town: the work is done. Another one: an error, and the first one stays."""
    out, build = tmp_path / "out", town_writer._build

    def beaten(*arguments):
        build(*arguments)
        monkeypatch.setattr(town_writer, "_build", build)
        write(out, seed=other_seed)

    monkeypatch.setattr(town_writer, "_build", beaten)
    if other_seed == 1:
        write(out, seed=1)
    else:
        with pytest.raises(ValueError, match="seed differ"):
            write(out, seed=1)
    assert json.loads((out / "dataset.json").read_text())["seed"] == other_seed
    assert list(tmp_path.iterdir()) == [out]


def test_negative_counts_are_refused(tmp_path):
    with pytest.raises(ValueError, match="val=-1"):
        write(tmp_path / "out", val=-1)
