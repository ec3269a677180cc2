from dataclasses import replace
from pathlib import Path

import pytest
import torch

from course_lib.datasets.town import TownConfig
from course_lib.engine import make_zoo
from course_lib.engine.make_zoo import ANIMALS, Animal, main, make
from course_lib.engine.recipe import Recipe
from course_lib.weights.files import load_detector
from course_lib.weights.zoo import load_zoo, read_manifest, zoo_data
from tests.detectors.models import SMALL, SMALL_MASK_RCNN

CAT = Animal(
    preset=SMALL, recipe=Recipe(iterations=2, batch_size=2, evaluations=1), train=4, val=3, config=TownConfig(size=64)
)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, dict]:
    entry = make("cat", CAT, runs=tmp_path / "runs", zoo=tmp_path / "zoo", precision="fp32", progress=False)
    return tmp_path, entry


def test_what_is_made_can_be_loaded_and_judged(made: tuple[Path, dict]) -> None:
    folder, entry = made
    model, label_map, found = load_zoo("cat", folder / "zoo")
    assert found == entry
    assert entry["command"] == "python -m course_lib.engine.make_zoo cat"
    assert (entry["iterations"], entry["seed"], entry["data"]["val"]) == (2, 0, 3)
    assert len(label_map) == 8
    assert len(zoo_data("cat", folder / "val", zoo=folder / "zoo")) == 3
    assert str(folder) not in str(load_detector(folder / "zoo" / "cat.safetensors")[2])  # no path of this machine
    assert entry["parameters"] == sum(p.numel() for p in model.parameters())


def test_making_it_again_gives_the_same_and_keeps_the_others(made: tuple[Path, dict]) -> None:
    folder, entry = made
    options = {"zoo": folder / "zoo", "precision": "fp32", "progress": False}
    dog = make("dog", replace(CAT, recipe=replace(CAT.recipe, seed=1)), runs=folder / "dog", **options)
    again = make("cat", CAT, runs=folder / "again", **options)
    assert again["sha256"] == entry["sha256"] != dog["sha256"]
    assert set(read_manifest(folder / "zoo")) == {"cat", "dog"}


def test_half_weights_make_half_a_file(made: tuple[Path, dict]) -> None:
    folder, _ = made
    make("kitten", replace(CAT, half=True), runs=folder / "runs", zoo=folder / "zoo", precision="fp32", progress=False)
    sizes = {name: (folder / "zoo" / f"{name}.safetensors").stat().st_size for name in ("cat", "kitten")}
    assert sizes["kitten"] < 0.7 * sizes["cat"]
    whole, half = (load_zoo(name, folder / "zoo")[0].state_dict() for name in ("cat", "kitten"))
    assert all(half[name].dtype == value.dtype for name, value in whole.items())
    assert all(torch.allclose(half[name], value, rtol=1e-3, atol=1e-6) for name, value in whole.items())


def test_masks_are_judged_too(tmp_path: Path) -> None:
    pig = replace(CAT, preset=SMALL_MASK_RCNN)
    options = {"zoo": tmp_path / "zoo", "precision": "fp32", "progress": False}
    assert 0 <= make("pig", pig, runs=tmp_path / "pig", **options)["mask_AP"] <= 1
    assert "mask_AP" not in make("cat", CAT, runs=tmp_path / "cat", **options)


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split() == sorted(ANIMALS)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(make_zoo, "make", interrupted)
    assert main(["town_retinanet"]) == 130
    monkeypatch.setattr(make_zoo, "make", lambda name, animal, **_: {"AP": 0.5, "minutes": 1})
    assert main(["town_retinanet"]) == 0
    assert "town_retinanet: AP 0.500" in capsys.readouterr().out


@pytest.mark.parametrize("name", read_manifest())
def test_the_commands_in_the_manifest_make_what_is_there(name: str) -> None:
    entry = read_manifest()[name]
    assert entry["command"].split()[-1] == name
    animal = ANIMALS[name]
    assert entry["data"]["config"] == animal.config.to_dict()
    assert (entry["data"]["train"], entry["data"]["val"]) == (animal.train, animal.val)
    assert (entry["recipe"]["iterations"], entry["recipe"]["minutes"]) == (
        animal.recipe.iterations,
        animal.recipe.minutes,
    )
