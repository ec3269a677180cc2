"""Files of ONNX and `torch.export`: what they hold is what torch says, at every size, or they are not written."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from course_lib.datasets.town import TownConfig, draw_scene
from course_lib.detectors.presets import FAMILIES, preset_from_dict
from course_lib.weights.graphs import export
from course_lib.weights.graphs.export import Written, check, export_onnx, export_program
from course_lib.weights.graphs.parts import Part, parts_of
from course_lib.weights.sources import open_weights
from tests.weights.graphs.detectors import PRESETS, detector

DOCUMENT = Path(__file__).parents[3] / "docs" / "export.md"
SUFFIXES = {".onnx": export_onnx, ".pt2": export_program}
TORCHVISION, DETECTRON2 = (FAMILIES["retinanet"][name] for name in ("r50_torchvision_v1", "r50_detectron2"))


def need(suffix: str) -> None:
    if suffix == ".onnx":
        for package in export.ONNX_PACKAGES:
            pytest.importorskip(package, reason='pip install -e ".[onnx]"')


class Twice(nn.Module):
    """Two outputs."""

    def forward(self, x):
        return {"small": x / 100, "large": 200 * x}


SHAPES = ((1, 2), (3, 2))
PAIRS = Part(name="dense", module=Twice(), input="x", shapes=SHAPES, free={0: (1, 1)}, draw=torch.ones, about={})


# The comparison


def test_no_difference(tmp_path):
    assert check(PAIRS, SHAPES, Twice(), tmp_path / "a.onnx") == 0


def test_the_largest_difference_counts_as_a_share_of_the_output(tmp_path):
    # 0.002 of 200 is 1e-5 of it; 5e-5 of 0.01 counts as 5e-5 of 1.
    found = check(PAIRS, SHAPES, lambda x: {"small": x / 100 + 5e-5, "large": 200 * x + 0.002}, tmp_path / "a.onnx")
    assert found == pytest.approx(5e-5, rel=0.01)


@pytest.mark.parametrize(
    "run, message",
    [
        (lambda x: {"small": x / 100, "large": 200 * x + 0.2}, r"large differs from torch's by 0.001 .* for \(1, 2\)"),
        (lambda x: {"small": x / 100, "large": 200 * x + 0.2 * (len(x) == 3)}, r"large differs .* for \(3, 2\)"),
        (lambda x: {"small": x * math.nan, "large": 200 * x}, "small differs from torch's by inf"),
        (lambda x: {"small": x / 100 + 1, "large": x * math.nan}, "large differs from torch's by inf"),
        (lambda x: {"small": x[:1] / 100, "large": 200 * x}, r"small is \(1, 2\) for \(3, 2\), expected \(3, 2\)"),
        (lambda x: {"small": x / 100}, "the graph gives small; expected small, large"),
    ],
)
def test_what_is_refused(tmp_path, run, message):
    with pytest.raises(ValueError, match=rf"a\.onnx: .*{message}.*nothing was written"):
        check(PAIRS, SHAPES, run, tmp_path / "a.onnx")


# Mistakes


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "name, error, message",
    [("a.pth", ValueError, "expected a name that ends with"), ("no/a", FileNotFoundError, "there is no folder")],
)
def test_wrong_paths(tmp_path, suffix, name, error, message):
    need(suffix)
    path = tmp_path / (name if "." in name else name + suffix)
    with pytest.raises(error, match=message):
        SUFFIXES[suffix](detector(PRESETS["retinanet"]), path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing, verb", [(("onnxscript",), "is"), (("onnx", "onnxruntime"), "are")])
def test_missing_packages(tmp_path, monkeypatch, missing, verb):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name in missing else object())
    message = rf'^{", ".join(missing)} {verb} not installed: pip install -e "\.\[onnx\]"'
    with pytest.raises(ValueError, match=message):
        export_onnx(detector(PRESETS["retinanet"]), tmp_path / "a.onnx")


def test_deformable_convolutions_have_no_onnx(tmp_path):
    need(".onnx")
    small = PRESETS["upsnet"]
    found = detector(replace(small, semantic_head=replace(small.semantic_head, deformable=True)))
    with pytest.raises(ValueError, match=r"a\.onnx: .* deformable convolutions; export to \.pt2"):
        export_onnx(found, tmp_path / "a.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_wrong_graph_is_not_written(tmp_path, monkeypatch, suffix):
    """The box head's graph, the second of two, has other weights than the model."""
    need(suffix)
    found = detector(PRESETS["faster_rcnn"])
    (tmp_path / f"a{suffix}").write_text("old")
    honest = export.trace

    def wrong(part):
        program = honest(part)
        if part.name == "box_head":
            bias = program.state_dict["module.box_predictor.bias"]
            program.state_dict["module.box_predictor.bias"] = nn.Parameter(bias + 0.5, requires_grad=False)
        return program

    monkeypatch.setattr(export, "trace", wrong)
    with pytest.raises(ValueError, match=rf"a\.box_head\{suffix}: the graph's deltas differs from torch's by 0\.\d"):
        SUFFIXES[suffix](found, tmp_path / f"a{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]
    assert (tmp_path / f"a{suffix}").read_text() == "old"


# What is written


def opened(path, suffix):
    """A function from a tensor to named tensors, and the metadata, as a stranger reads them."""
    if suffix == ".pt2":
        extra = {"course.json": ""}
        return torch.export.load(path, extra_files=extra).module(), json.loads(extra["course.json"])
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]

    def run(x):
        return dict(zip(names, map(torch.from_numpy, session.run(None, {given.name: x.numpy()}))))

    return run, {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}


@torch.no_grad()
def assert_written(found, written: list[Written], suffix: str) -> None:
    """The files say what the detector says, for sizes that were never tried, and describe it."""
    parts = parts_of(found.model)
    stem = written[0].path.stem
    assert [w.path.name for w in written] == [
        f"{stem}{suffix}",
        *(f"{stem}.{part.name}{suffix}" for part in parts[1:]),
    ]
    for part, file in zip(parts, written, strict=True):
        assert file.difference < 1e-4
        run, header = opened(file.path, suffix)
        unseen = [(2, *part.shapes[0][1:])] if part.input == "regions" else [(2, 3, *part.shapes[0][:1:-1])]
        for shape in unseen + [*part.one_cell] * (suffix == ".onnx"):
            x = part.draw(shape)
            wanted, answer = part.module(x), run(x)
            assert list(answer) == list(wanted)
            for name, value in wanted.items():
                assert answer[name].shape == value.shape
                assert (answer[name] - value).abs().max() <= 1e-4 * max(1, value.abs().max()), name
        assert header["part"] == part.name
        assert header["about"] == part.about
        assert header["label_map"]["names"] == list(found.label_map.names)
        assert preset_from_dict(header["preset"]) == found.preset


@pytest.mark.slow
@pytest.mark.parametrize(
    "family, suffix",
    [
        *((family, ".pt2") for family in PRESETS),
        # ONNX takes its time, and Panoptic FPN's graphs are those of Faster and Mask R-CNN with one output more.
        *((family, ".onnx") for family in PRESETS if family not in ("faster_rcnn", "mask_rcnn")),
    ],
)
def test_every_family(tmp_path, family, suffix):
    need(suffix)
    found = detector(PRESETS[family])
    assert_written(found, SUFFIXES[suffix](found, tmp_path / f"a{suffix}"), suffix)


@pytest.mark.slow
@pytest.mark.parametrize("origin, suffix", [(TORCHVISION, ".onnx"), (DETECTRON2, ".pt2")])
def test_the_peers_conventions(tmp_path, origin, suffix):
    """Five levels, the last two above the backbone; strides from the grid; bottlenecks; both roundings of norms."""
    need(suffix)
    backbone = replace(origin.backbone, blocks=(1, 1, 1, 1), stem_width=8, widths=(4, 8, 16, 32))
    found = detector(replace(origin, backbone=backbone, channels=64, head_norm="group", head_depth=1))
    assert_written(found, SUFFIXES[suffix](found, tmp_path / f"a{suffix}"), suffix)


@pytest.mark.slow
def test_deformable_convolutions_as_a_program(tmp_path):
    small = PRESETS["upsnet"]
    found = detector(replace(small, semantic_head=replace(small.semantic_head, deformable=True)))
    assert_written(found, export_program(found, tmp_path / "a.pt2"), ".pt2")


@pytest.mark.slow
@torch.no_grad()
def test_ssd300_takes_its_one_size(tmp_path):
    """torchvision's SSD stretches every picture to 300×300, for which its default boxes are made."""
    need(".onnx")
    found = detector(FAMILIES["ssd"]["ssd300_torchvision"], num_classes=2)
    export_onnx(found, tmp_path / "a.onnx")
    run, header = opened(tmp_path / "a.onnx", ".onnx")
    assert "H, W = 300, 300" in header["about"]["images"]
    assert run(torch.zeros(3, 3, 300, 300))["class_logits"].shape == (3, 8732, 3)


@pytest.mark.slow
@torch.no_grad()
def test_the_program_of_the_document_finds_what_the_detector_finds(tmp_path, monkeypatch, capsys):
    need(".onnx")
    found = open_weights("town_retinanet")
    height, width = found.preset.input.size
    picture = Image.fromarray(draw_scene(TownConfig(size=128), 0, 1).image).resize((width, height))
    monkeypatch.chdir(tmp_path)
    picture.save("street.png")
    export_onnx(found, "town.onnx")
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    exec(program, names := {})
    (wanted,) = found.model([torch.from_numpy(np.array(picture)).permute(2, 0, 1)])
    assert names["session"].get_inputs()[0].shape == ["batch", 3, "16*rows", "16*columns"]
    assert names["label"] == wanted["labels"][0]
    assert names["score"] == pytest.approx(wanted["scores"][0].item(), abs=1e-4)
    assert torch.tensor(names["box"]) == pytest.approx(wanted["boxes"][0], abs=0.01)
    assert f"{found.label_map.names[names['label']]} " in capsys.readouterr().out
