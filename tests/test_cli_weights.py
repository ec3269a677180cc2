"""`course weights` and `course predict --weights`, on the files of the golden networks (data/peers/README.md)."""

import json
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from course_lib import cli
from course_lib.detectors.presets import FAMILIES
from course_lib.panoptic.fusion import FusionSpec
from course_lib.weights.detectron2.config import read_config, write_config
from course_lib.weights.files import load_detector
from tests.detectors.goldens import Golden

NAMES = ("retinanet", "faster_rcnn", "mask_rcnn")


@pytest.fixture
def course(monkeypatch, capsys):
    """A function that runs `course ARGUMENTS` in this process and returns (exit code, stdout, stderr)."""

    def course(*arguments):
        monkeypatch.setattr(sys, "argv", ["course", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
        printed = capsys.readouterr()
        return exit.value.code or 0, printed.out, printed.err

    return course


SHARED = Path(__file__).resolve().parents[2] / "shared" / "goldens" / "detectron2"


def write_golden(golden: Golden, name: str, folder: Path, suffix: str) -> tuple[Path, Path]:
    """The checkpoint of a golden network and its config, which does not resize."""
    path, config = folder / f"{name}.{suffix}", folder / f"{name}.yaml"
    if suffix == "pkl":
        arrays = {key: value.numpy() for key, value in golden.weights.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}, protocol=4))
    else:
        torch.save({"model": golden.weights, "iteration": 1}, path)
    preset = golden.narrow(FAMILIES[name]["r50_detectron2"])
    if name != "retinanet":
        preset = replace(preset, box_head=replace(preset.box_head, widths=(24, 24)))
    if name in ("mask_rcnn", "panoptic_fpn"):
        preset = replace(preset, mask_head=replace(preset.mask_head, channels=8))
    if name == "panoptic_fpn":
        head, fusion = replace(preset.semantic_head, channels=32), FusionSpec(**golden.config["combine"])
        preset = replace(preset, semantic_head=head, fusion=fusion, num_stuff=3)
    write_config(config, preset, golden.config["classes"])
    return path, config


@pytest.mark.parametrize("suffix", ["pkl", "pth"])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_goldens_through_files_and_the_verb(course, tmp_path, name, suffix):
    """Detectron2's file, imported by the verb, gives Detectron2's numbers."""
    golden = Golden(name)
    path, config = write_golden(golden, name, tmp_path, suffix)
    out = tmp_path / "ours.safetensors"
    code, printed, error = course("weights", "import", path, "--config", config, "--out", out)
    assert (code, error) == (0, "")
    assert f"a {name} of 5 classes, from Detectron2 file {name}.{suffix}" in printed
    assert f"{len(golden.weights)} tensors have their value from the file" in printed
    model, label_map, header = load_detector(out)
    assert header["notes"] == []
    assert len(label_map) == 5
    (found,) = model([golden.image], output_sizes=[golden.output_size])
    assert torch.equal(found["labels"], golden["output/classes"])
    assert (found["boxes"] - golden["output/boxes"]).abs().max() < 1e-3
    assert (found["scores"] - golden["output/scores"]).abs().max() < 1e-5
    if name == "mask_rcnn":
        assert (found["masks"] != golden["output/masks"]).float().mean() <= 1e-4


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not there: Panoptic FPN's file is untested")
@pytest.mark.parametrize("suffix", ["pkl", "pth"])
@torch.no_grad()
def test_the_panoptic_golden(course, tmp_path, suffix):
    golden = Golden("panoptic_fpn", SHARED)
    path, config = write_golden(golden, "panoptic_fpn", tmp_path, suffix)
    out = tmp_path / "ours.safetensors"
    assert course("weights", "import", path, "--config", config, "--out", out)[0] == 0
    model, _, header = load_detector(out)
    assert header["stuff_map"]["names"] == ["stuff 1", "stuff 2", "stuff 3"]
    (found,) = model([golden.image], output_sizes=[golden.output_size])
    assert torch.equal(found["labels"], golden["output/classes"])
    assert torch.equal(found["panoptic"], golden["output/panoptic_map"])
    assert [s["label"] for s in found["segments"]] == [s["category_id"] for s in golden.config["segments_info"]]
    assert course("weights", "export", out, tmp_path / "again.pkl")[0] == 0
    assert read_config(tmp_path / "again.yaml").preset == replace(read_config(config).preset, name="again")


@pytest.mark.parametrize("name", NAMES)
def test_predict_with_a_peer_s_file(course, tmp_path, name):
    golden = Golden(name)
    path, config = write_golden(golden, name, tmp_path, "pkl")
    Image.fromarray(golden.image.permute(1, 2, 0).numpy()).save(tmp_path / "picture.png")
    arguments = ("--weights", path, "--config", config, "--out", tmp_path / "out", "--score", 0.05, "--device", "cpu")
    code, printed, _ = course("predict", tmp_path / "picture.png", *arguments)
    assert code == 0
    assert "picture.png: class " in printed
    record = json.loads((tmp_path / "out" / "picture.json").read_text())
    detections = record["detections"]
    assert [d["label"] for d in detections] == golden["output/classes"].tolist()
    boxes = torch.tensor([d["box"] for d in detections]) * 2  # the golden's are for twice the size
    assert (boxes - golden["output/boxes"]).abs().max() < 0.03


def test_export_and_back(course, tmp_path):
    golden = Golden("mask_rcnn")
    path, config = write_golden(golden, "mask_rcnn", tmp_path, "pkl")
    assert course("weights", "convert", path, tmp_path / "m.safetensors", "--config", config)[0] == 0
    code, printed, _ = course("weights", "export", tmp_path / "m.safetensors", tmp_path / "again.pth")
    assert code == 0
    assert "again.pth" in printed
    assert "again.yaml" in printed
    data = torch.load(tmp_path / "again.pth", weights_only=True)
    assert set(data["model"]) == set(golden.weights)
    assert all(torch.equal(data["model"][key], value) for key, value in golden.weights.items())
    found = read_config(tmp_path / "again.yaml")
    assert found.num_classes == 5
    assert found.weights.endswith("again.pth")
    assert found.preset == replace(read_config(config).preset, name="again")


@pytest.mark.slow
def test_export_as_a_program(course, tmp_path):
    code, printed, _ = course("weights", "export", "town_mask_rcnn", tmp_path / "town.pt2")
    assert code == 0
    lines = printed.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        f"wrote {tmp_path / name}" for name in ("town.pt2", "town.box_head.pt2", "town.mask_head.pt2")
    ]
    assert all(line.endswith(" from torch") for line in lines)
    program = torch.export.load(tmp_path / "town.pt2").module()
    assert program(torch.zeros(2, 3, 160, 96))["objectness_stride4"].shape[0] == 2


def test_import_says_what_it_takes_for_granted(course, tmp_path):
    path, _ = write_golden(Golden("retinanet"), "retinanet", tmp_path, "pth")
    code, printed, _ = course(
        "weights", "import", path, "--out", tmp_path / "o.safetensors", "--num-classes", 2, "--json"
    )
    assert code == 0
    found = json.loads(printed)
    assert found["classes"] == 2
    assert "anchors and thresholds as in Detectron2's zoo" in found["notes"][0]
    assert found["report"]["fresh"] == ["class_head.predictor.weight", "class_head.predictor.bias"]
    assert found["report"]["kept"] == ["positives_ema"]


def test_labels_from_a_coco_json(course, tmp_path):
    path, config = write_golden(Golden("retinanet"), "retinanet", tmp_path, "pth")
    categories = [{"id": 10 * i, "name": name} for i, name in enumerate("edcba")]
    (tmp_path / "a.json").write_text(json.dumps({"categories": categories}))
    arguments = ("--config", config, "--labels", tmp_path / "a.json", "--out", tmp_path / "o.safetensors")
    assert course("weights", "import", path, *arguments)[0] == 0
    assert load_detector(tmp_path / "o.safetensors")[1].names == tuple("edcba")


def test_list(course):
    code, printed, _ = course("weights", "list")
    assert code == 0
    assert "retinanet_resnet50_fpn_v2   torchvision  COCO   0.415" in printed
    code, printed, _ = course("weights", "list", "--json")
    models = {m["name"]: m for m in json.loads(printed)}
    assert models["town_retinanet"]["here"]
    assert models["ssd300_vgg16"]["AP"] == 0.251


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("weights", "import", "none.pkl", "--out", "o.safetensors"), "none.pkl: no such file, and no model"),
        (
            ("weights", "export", "town_retinanet", "x.npz"),
            "x.npz: expected a name that ends with .pth or .pkl (Detectron2), .onnx",
        ),
        (("weights", "export", "town_retinanet", "none/x.pt2"), "there is no folder none"),
        (("weights", "export", "town_retinanet", "x.pth"), "Detectron2 cannot describe this retinanet"),
        (("weights", "convert", "town_retinanet", "x.npz"), "x.npz: expected a name that ends with .safetensors"),
        (("predict", "town"), "which pictures? Give some after town, or --weights NAME"),
    ],
)
def test_mistakes(course, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, error = course(*arguments)
    assert (code, out) == (2, "")
    assert error.startswith("error: ")
    assert message in error
    assert list(tmp_path.iterdir()) == []
