"""torchvision's ImageNet classifiers as backbones: which network a file is of, and where its tensors go."""

from dataclasses import replace

import pytest
import torch
import torchvision
from torchvision.models import ResNet50_Weights, get_model_weights

from course_lib.detectors.presets import TINY
from course_lib.nn.backbones import ResNet
from course_lib.weights.sources import open_start, open_weights
from course_lib.weights.torchvision import models
from course_lib.weights.torchvision.imagenet import BACKBONES, backbone_of, is_backbone, load_backbone, open_backbone
from course_lib.weights.torchvision.models import cached


@pytest.fixture(scope="module")
def resnet18():
    """torchvision's, with random weights and statistics."""
    generator = torch.Generator().manual_seed(0)
    model = torchvision.models.resnet18(weights=None).eval()
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.normal_(0, 0.05, generator=generator)
            if value.ndim == 1:
                value.abs_().add_(0.5)
    return model


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_the_network_is_read_off_the_shapes(tmp_path, name):
    assert name in BACKBONES
    with torch.device("meta"):
        state = getattr(torchvision.models, name)().state_dict()
    spec = backbone_of(tmp_path / "b.pth", {k: torch.ones(()).expand(v.shape) for k, v in state.items()}).spec
    with torch.device("meta"):
        ours = ResNet(**vars(replace(spec, norm="batch"))).state_dict()
    shapes = {key: value.shape for key, value in state.items() if not key.startswith("fc.")}
    assert {key: value.shape for key, value in ours.items()} == shapes
    assert (spec.norm, spec.norm_eps, spec.frozen_stages, spec.stride_in) == ("frozen", 1e-5, 2, "3x3")


@torch.no_grad()
def test_a_detector_s_backbone_computes_what_the_classifier_does(tmp_path, resnet18):
    torch.save(resnet18.state_dict(), tmp_path / "b.pth")
    found = open_start(tmp_path / "b.pth")
    model = replace(TINY, backbone=replace(found.spec, levels=TINY.backbone.levels)).build(2)
    head = model.class_head.predictor.weight.clone()
    report = load_backbone(model, found.state)
    image = torch.rand(1, 3, 64, 96)
    x = resnet18.maxpool(resnet18.relu(resnet18.bn1(resnet18.conv1(image))))
    for level, stage in zip(("c2", "c3", "c4", "c5"), (1, 2, 3, 4)):
        x = getattr(resnet18, f"layer{stage}")(x)
        torch.testing.assert_close(model.backbone(image)[level], x)
    assert torch.equal(model.class_head.predictor.weight, head)
    assert report.complete
    assert {"fc.weight", "fc.bias", "bn1.num_batches_tracked"} <= set(report.ignored)
    assert report.used["layer4.1.bn2.running_var"] == "layer4.1.bn2.running_var"


@pytest.mark.parametrize("norm", ["frozen", "batch"])
@pytest.mark.parametrize("counted", [True, False])  # torchvision's older files have no counters
def test_stages_that_are_not_built_and_counters(tmp_path, resnet18, norm, counted):
    state = {k: v for k, v in resnet18.state_dict().items() if counted or not k.endswith("num_batches_tracked")}
    spec = replace(backbone_of(tmp_path / "b.pth", state).spec, norm=norm, levels=("c2", "c3"))
    model = torch.nn.Module()
    model.backbone = ResNet(**vars(spec))
    report = load_backbone(model, state)
    assert report.complete
    assert {key.split(".")[0] for key in report.ignored if "num_batches" not in key} == {"layer3", "layer4", "fc"}
    assert bool(report.kept) == (norm == "batch" and not counted)
    assert torch.equal(model.backbone.layer2[1].conv2.weight, state["layer2.1.conv2.weight"])


def test_another_network_s_weights_are_refused_and_nothing_is_loaded(resnet18):
    model = TINY.build(2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="these weights have"):
        load_backbone(model, resnet18.state_dict())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_half_a_file_and_nan(tmp_path, resnet18):
    state = resnet18.state_dict()
    assert is_backbone(state)
    half = {key: value for key, value in state.items() if not key.startswith("layer3")}
    with pytest.raises(
        ValueError, match=r"b\.pth: not all of a torchvision ResNet, there is no layer3\.0\.conv2\.weight"
    ):
        backbone_of(tmp_path / "b.pth", half)
    with pytest.raises(ValueError, match=r"b\.pth: 1 tensors hold NaN or infinity, the first is bn1\.weight"):
        backbone_of(tmp_path / "b.pth", state | {"bn1.weight": torch.full((64,), torch.nan)})


def test_by_name_and_by_enum_from_the_cache(tmp_path, monkeypatch, resnet18):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    weights = get_model_weights("resnet18").DEFAULT
    with pytest.raises(FileNotFoundError, match=r"resnet18-f37072fd\.pth: not in torch's cache; fetch https://"):
        open_start("resnet18", download=False)
    cached(weights).parent.mkdir(parents=True)
    torch.save(resnet18.state_dict(), cached(weights))
    monkeypatch.setattr(models, "_sha256", lambda path: "f37072fd" + "0" * 56)
    for source in ("resnet18", str(weights)):
        found = open_start(source, download=False)
        assert found.source == "torchvision resnet18-f37072fd.pth"
        assert found.spec.blocks == (2, 2, 2, 2)
    assert open_backbone(weights, download=False).spec == found.spec
    with pytest.raises(FileNotFoundError, match=r"resnet50-0676ba61\.pth: not in torch's cache"):  # the first version
        open_start(str(ResNet50_Weights.IMAGENET1K_V1), download=False)


def test_a_backbone_is_no_detector():
    with pytest.raises(
        ValueError, match="resnet18 is a backbone without a detector; `course train MODEL --weights res"
    ):
        open_weights("resnet18")
    with pytest.raises(FileNotFoundError, match=r"no model of that name; did you mean resnet50\?"):
        open_start("resnet51")
    with pytest.raises(ValueError, match="vgg16: no backbone of that name; there are resnet18, "):
        open_backbone("vgg16")
