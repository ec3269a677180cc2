import json
from pathlib import Path

import pytest
import torch

from course_lib.datasets import town_writer
from course_lib.datasets.town import TownConfig
from course_lib.detectors.presets import preset_to_dict
from course_lib.engine.evaluate import detect_dataset, evaluate_results
from course_lib.weights.files import save_tensors
from course_lib.weights.zoo import MANIFEST, ZOO, load_zoo, read_manifest, sha256, zoo_data
from tests.detectors.models import SMALL

MOST_BYTES = 5_000_000  # Panoptic FPN has 2.2 million weights, two bytes each


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A zoo of one untrained detector."""
    torch.manual_seed(0)
    header = {"preset": preset_to_dict(SMALL), "label_map": {"names": ["a", "b"], "category_ids": [1, 2]}}
    save_tensors(tmp_path / "cat.safetensors", SMALL.build(2).state_dict(), header)
    entry = {
        "file": "cat.safetensors",
        "sha256": sha256(tmp_path / "cat.safetensors"),
        "command": "make cat",
        "data": {
            "name": "town",
            "version": town_writer.VERSION,
            "seed": 3,
            "val": 4,
            "config": TownConfig(size=32).to_dict(),
        },
    }
    (tmp_path / MANIFEST).write_text(json.dumps({"cat": entry}))
    return tmp_path


def test_a_detector_comes_ready_to_use_with_its_labels_and_entry(zoo: Path) -> None:
    model, label_map, entry = load_zoo("cat", zoo)
    assert not model.training
    assert label_map.names == ("a", "b")
    assert entry["command"] == "make cat"


def test_what_is_missing_or_damaged_is_said(zoo: Path) -> None:
    with pytest.raises(ValueError, match=r"the zoo has no 'cats': did you mean 'cat'\?"):
        load_zoo("cats", zoo)
    with pytest.raises(ValueError, match="the zoo has no 'xyz': it has cat"):
        load_zoo("xyz", zoo)
    path = zoo / "cat.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"cat\.safetensors: the checksum is .*, expected .* `make cat`"):
        load_zoo("cat", zoo)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no such file; make it again with `make cat`"):
        load_zoo("cat", zoo)
    with pytest.raises(FileNotFoundError, match=r"there is no zoo here\. It comes with the repository"):
        load_zoo("cat", zoo / "nowhere")


def test_the_first_images_are_those_that_it_is_judged_on(zoo: Path, tmp_path: Path) -> None:
    all_images = zoo_data("cat", tmp_path / "all", zoo=zoo)
    two = zoo_data("cat", tmp_path / "two", images=2, zoo=zoo)
    assert (len(all_images), len(two)) == (4, 2)
    for i in range(2):
        assert torch.equal(all_images[i][0], two[i][0])
        assert torch.equal(all_images[i][1]["boxes"], two[i][1]["boxes"])
    for images in (0, 5):
        with pytest.raises(ValueError, match=f"images: found {images}, expected 1 to 4"):
            zoo_data("cat", tmp_path / "none", images=images, zoo=zoo)


def test_another_version_of_town_is_refused(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = zoo / MANIFEST
    manifest.write_text(manifest.read_text().replace(f'"version": {town_writer.VERSION}', '"version": 0'))
    with pytest.raises(ValueError, match="judged on Town of version 0, this is version"):
        zoo_data("cat", tmp_path / "town", zoo=zoo)


@pytest.mark.parametrize("name", read_manifest())
def test_a_detector_of_the_course(name: str) -> None:
    model, label_map, entry = load_zoo(name)
    path = ZOO / entry["file"]
    assert path.stat().st_size <= MOST_BYTES
    assert sum(p.numel() for p in model.parameters()) == entry["parameters"]
    assert {"command", "seed", "minutes", "AP", "data", "recipe", "machine"} <= set(entry)
    model([torch.rand(3, 128, 128)])
    assert len(label_map) == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", read_manifest())
def test_its_ap_comes_back(name: str, tmp_path: Path) -> None:
    model, _, entry = load_zoo(name)
    data = zoo_data(name, tmp_path / "town")
    results, _, _ = detect_dataset(model, data)
    assert evaluate_results(data.coco, results).summary["AP"] == pytest.approx(entry["AP"], abs=0.005)
