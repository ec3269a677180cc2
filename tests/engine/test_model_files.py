import json
import shutil

import pytest
import torch

from course_lib.detectors.presets import preset_to_dict
from course_lib.engine.checkpoint import CONFIG, LAST, WEIGHTS, load_tensors, save_tensors
from course_lib.engine.model_files import load_model
from tests.detectors.models import SMALL


def test_a_run_folder_or_its_file(trained):
    model, label_map, header = load_model(trained)
    assert not model.training
    assert label_map.names == ("square", "bar")
    assert label_map.category_ids == (4, 9)
    assert header["preset"]["name"] == SMALL.name
    again, _, _ = load_model(trained / WEIGHTS)
    image = torch.rand(3, 64, 64)
    with torch.no_grad():
        a, b = model.dense(image[None])[0], again.dense(image[None])[0]
    assert all(torch.equal(x, y) for x, y in zip(a, b))


def test_a_model_says_the_same_after_a_journey_to_disk(tmp_path):
    torch.manual_seed(0)
    model = SMALL.build(2)
    header = {"preset": preset_to_dict(SMALL), "label_map": {"names": ["a", "b"], "category_ids": [1, 2]}}
    save_tensors(tmp_path / "w", model.state_dict(), header)
    again, _, found = load_model(tmp_path / "w")
    assert found == json.loads(json.dumps(header))
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())


def test_a_run_that_has_not_ended(trained, tmp_path):
    shutil.copy(trained / CONFIG, tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"this run has not ended; go on with `course train … --out .* --resume`"
    ):
        load_model(tmp_path)


def test_no_run_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors: there is no such file"):
        load_model(tmp_path)
    with pytest.raises(FileNotFoundError, match="none: there is no such file"):
        load_model(tmp_path / "none")


def test_the_training_state_is_no_model(trained):
    with pytest.raises(ValueError, match=r"last\.safetensors: its header has no label_map and no preset; expected"):
        load_model(trained / LAST)


def test_a_foreign_checkpoint(tmp_path):
    torch.save(SMALL.build(2).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt: a pickle or PyTorch archive, refused"):
        load_model(tmp_path / "model.pt")


def damage(trained, tmp_path, change):
    weights, header = load_tensors(trained / WEIGHTS)
    change(weights, header)
    save_tensors(tmp_path / WEIGHTS, weights, header)
    return tmp_path


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w, h: w.pop("fpn.output.0.bias"), "the weights do not fit the model that the file describes"),
        (lambda w, h: w.update(extra=torch.ones(1)), "the weights do not fit"),
        (lambda w, h: h["label_map"].update(names=["a"], category_ids=[1]), "the weights do not fit"),
        (lambda w, h: h["preset"].update(channels=24), "the weights do not fit"),
        (lambda w, h: h["preset"].update(colour=1), "RetinaNetPreset has no colour"),
        (
            lambda w, h: w["fpn.output.0.bias"].fill_(float("nan")),
            r"1 tensors hold NaN .* first is fpn\.output\.0\.bias",
        ),
        (
            lambda w, h: w["fpn.output.1.bias"].fill_(float("inf")),
            "1 tensors hold NaN or infinity",
        ),
    ],
    ids=["missing", "extra", "classes", "channels", "unknown field", "NaN", "infinity"],
)
def test_what_does_not_fit_is_refused(trained, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load_model(damage(trained, tmp_path, change))
