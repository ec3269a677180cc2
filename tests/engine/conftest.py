from pathlib import Path

import pytest
import torch

from course_lib.datasets.coco import CocoDetection, open_split
from course_lib.engine.recipe import Recipe
from course_lib.engine.run import train_run
from course_lib.engine.train import Trainer
from tests.detectors.models import SMALL
from tests.engine.tiny_coco import write_tiny_coco


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A tiny COCO folder, to be read alone."""
    return write_tiny_coco(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def train_data(data) -> CocoDetection:
    return open_split(data, "train")


@pytest.fixture(scope="session")
def val_data(data, train_data) -> CocoDetection:
    return open_split(data, "val", label_map=train_data.label_map)


@pytest.fixture
def trainer(tmp_path, train_data):
    """A function that makes a trainer on the tiny data, in a run folder of its own."""

    def make(out: str = "run", *, val=None, header: dict | None = None, **recipe) -> Trainer:
        recipe = Recipe(**{"iterations": 6, "batch_size": 2, "augmentation": "strong"} | recipe)
        (tmp_path / out).mkdir(exist_ok=True)
        torch.manual_seed(recipe.seed)
        model = SMALL.build(2)
        return Trainer(
            model,
            recipe,
            train_data=train_data,
            val_data=val,
            out=tmp_path / out,
            header=header or {},
            size=(64, 64),
            progress=False,
        )

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory, train_data, val_data) -> Path:
    """A finished run folder, to be read alone."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    recipe = Recipe(iterations=4, batch_size=2)
    train_run(SMALL, recipe, train_data=train_data, val_data=val_data, out=out, progress=False)
    return out
