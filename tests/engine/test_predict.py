import json

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib.datasets.label_map import LabelMap
from course_lib.engine.predict import find_images, predict_files
from tests.detectors.models import small

LABELS = LabelMap(("square", "bar", "dot"), (4, 9, 11))


@pytest.fixture
def model():
    """Sees a few things in any picture."""
    model = small(3).eval()
    with torch.no_grad():
        model.class_head.predictor.bias.fill_(0.5)
    return model


def picture(path, size=(48, 64), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def predict(model, paths, out, **options):
    return predict_files(model, LABELS, paths, out, progress=False, **options)


def test_overlay_and_json(model, tmp_path):
    path = picture(tmp_path / "in" / "street.jpg")
    (found,) = predict(model, [path], tmp_path / "new" / "out", score=0.3)
    assert found.error is None
    assert found.overlay == tmp_path / "new" / "out" / "street.png"
    assert {p.name for p in found.overlay.parent.iterdir()} == {"street.png", "street.json"}
    with Image.open(found.overlay) as overlay:
        assert overlay.width * 48 == overlay.height * 64  # enlarged, so that names can be read
    record = json.loads(found.overlay.with_suffix(".json").read_text())
    assert record == {"image": str(path), "height": 48, "width": 64, "detections": found.detections}
    assert 0 < len(found.detections) <= 100
    scores = [d["score"] for d in found.detections]
    assert scores == sorted(scores, reverse=True)
    for detection in found.detections:
        assert set(detection) == {"label", "name", "category_id", "score", "box"}
        assert detection["name"] == LABELS.names[detection["label"]]
        assert detection["category_id"] == LABELS.category_ids[detection["label"]]
        x1, y1, x2, y2 = detection["box"]
        assert 0 <= x1 <= x2 <= 64
        assert 0 <= y1 <= y2 <= 48


def test_the_score_leaves_out_the_less_certain(model, tmp_path):
    path = picture(tmp_path / "in" / "a.png")
    everything = predict(model, [path], tmp_path / "out", score=0.0)[0].detections
    middle = everything[len(everything) // 2]["score"]
    certain = predict(model, [path], tmp_path / "out", score=middle)[0].detections
    assert certain == everything[: len(certain)]
    assert 0 < len(certain) < len(everything)
    assert abs(certain[-1]["score"] - middle) < 2e-4  # scores are rounded in the record
    assert predict(model, [path], tmp_path / "out", score=1.0)[0].detections == []


def test_an_unreadable_picture_does_not_stop_the_others(model, tmp_path):
    good = [picture(tmp_path / "in" / name) for name in ("a.png", "c.png")]
    bad = tmp_path / "in" / "b.png"
    bad.write_bytes(good[0].read_bytes()[:200])
    found = predict(model, [good[0], bad, tmp_path / "in" / "gone.png", good[1]], tmp_path / "out")
    assert [p.error is None for p in found] == [True, False, False, True]
    assert "b.png: not a readable image" in found[1].error
    assert "gone.png: no such image file" in found[2].error
    assert found[1].overlay is None
    assert found[1].detections == []
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.png", "a.json", "c.png", "c.json"}


def test_pictures_of_one_name_get_files_of_their_own(model, tmp_path):
    paths = [
        picture(tmp_path / "x" / "a.png"),
        picture(tmp_path / "y" / "a.jpg", (20, 30)),
        picture(tmp_path / "y" / "a_2.png", (10, 10)),
        picture(tmp_path / "z" / "a.png", (30, 20)),
    ]
    found = predict(model, paths, tmp_path / "out")
    assert [p.overlay.name for p in found] == ["a.png", "a_2.png", "a_2_2.png", "a_3.png"]
    sizes = [(r["height"], r["width"]) for r in (json.loads(p.overlay.with_suffix(".json").read_text()) for p in found)]
    assert sizes == [(48, 64), (20, 30), (10, 10), (30, 20)]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (40, 3)])
def test_any_kind_of_picture(model, tmp_path, mode, size):
    path = tmp_path / "in.png"
    Image.new(mode, size[::-1]).save(path)
    (found,) = predict(model, [path], tmp_path / "out")
    assert found.error is None
    record = json.loads(found.overlay.with_suffix(".json").read_text())
    assert (record["height"], record["width"]) == size


def test_the_users_pictures_are_never_overwritten(model, tmp_path):
    path = picture(tmp_path / "mine" / "a.png")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"a\.png lies in .*mine, where its overlay would be written: choose another"):
        predict(model, [path], tmp_path / "mine")
    with pytest.raises(ValueError, match="choose another --out"):
        predict(model, [path], tmp_path / "other" / ".." / "mine")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_find_images(tmp_path):
    for name in ("b.JPG", "a.png", "c.txt", "sub/d.png"):
        picture(tmp_path / name) if not name.endswith("txt") else (tmp_path / name).write_text("no picture")
    assert [p.name for p in find_images([tmp_path])] == ["a.png", "b.JPG"]
    assert find_images([tmp_path / "c.txt", tmp_path / "sub"]) == [tmp_path / "c.txt", tmp_path / "sub" / "d.png"]


def test_nothing_to_find(tmp_path):
    with pytest.raises(ValueError, match="no picture in this folder"):
        find_images([tmp_path])
    with pytest.raises(ValueError, match=r"gone\.png: no such file or folder"):
        find_images([tmp_path / "gone.png"])
