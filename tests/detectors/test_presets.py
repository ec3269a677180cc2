import json

import pytest
import torch

from course_lib.detectors.presets import (
    FAMILIES,
    R50_DETECTRON2,
    R50_TORCHVISION_V1,
    R50_TORCHVISION_V2,
    TINY,
    get_family,
    get_preset,
    octaves,
    preset_from_dict,
    preset_to_dict,
)
from tests.detectors.models import SMALL, target


def test_get_preset():
    assert get_preset("tiny") is TINY
    assert set(get_family("retinanet")) == {"tiny", "r50_torchvision_v1", "r50_torchvision_v2", "r50_detectron2"}


@pytest.mark.parametrize(
    "wrong, near",
    [
        ("tinny", "tiny"),
        ("r50_torchvision_v3", "r50_torchvision_v[12]"),
        ("detectron2", "r50_detectron2"),
        ("", "tiny"),
    ],
)
def test_an_unknown_preset_suggests_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=rf"unknown preset '{wrong}': did you mean '{near}'\? There are: tiny, r50_"):
        get_preset(wrong)


ALL = [(family, name) for family, presets in FAMILIES.items() for name in presets]


@pytest.mark.parametrize("family, name", ALL)
def test_a_preset_survives_json(family, name):
    preset = get_preset(name, family)
    again = preset_from_dict(json.loads(json.dumps(preset_to_dict(preset))))
    assert again == preset
    assert hash(again) == hash(preset)  # tuples all the way down


def test_a_dict_that_is_no_preset():
    values = preset_to_dict(TINY)
    with pytest.raises(ValueError, match="RetinaNetPreset has no colour, weight"):
        preset_from_dict({**values, "weight": 1, "colour": 2})
    with pytest.raises(ValueError, match="AnchorSpec has no scales"):
        preset_from_dict({**values, "anchors": {"scales": 1}})
    with pytest.raises(ValueError, match=r"RetinaNetPreset: .*missing .*'name'"):
        preset_from_dict({"anchors": values["anchors"]})
    with pytest.raises(ValueError, match=r"AnchorSpec: .*missing .*'sizes'"):
        preset_from_dict({**values, "anchors": {}})


def test_octaves():
    # 32 · 2^⅓ = 40.32, 32 · 2^⅔ = 50.80
    assert octaves(32, rounding=False) == pytest.approx((32, 40.3175, 50.7968), abs=1e-4)
    assert octaves(32, rounding=True) == (32, 40, 50)


def test_what_the_conventions_differ_in():
    v1, v2, d2 = R50_TORCHVISION_V1, R50_TORCHVISION_V2, R50_DETECTRON2
    assert [p.fpn_extra for p in (v1, v2, d2)] == ["p6p7_from_p5", "p6p7_from_c5", "p6p7_from_c5"]
    assert [p.backbone.stride_in for p in (v1, v2, d2)] == ["3x3", "3x3", "1x1"]
    assert [p.backbone.norm_eps for p in (v1, v2, d2)] == [0, 1e-5, 1e-5]
    assert [p.anchors.order for p in (v1, v2, d2)] == ["ratio", "ratio", "size"]
    assert [p.anchors.stride_mode for p in (v1, v2, d2)] == ["grid", "grid", "fixed"]
    assert [p.head_norm for p in (v1, v2, d2)] == [None, "group", None]
    assert [p.loss.box for p in (v1, v2, d2)] == ["l1", "giou", "l1"]
    assert [p.loss.normalizer for p in (v1, v2, d2)] == ["image", "image", "ema"]
    assert [p.detect.detections for p in (v1, v2, d2)] == [300, 300, 100]
    assert [p.detect.clip for p in (v1, v2, d2)] == ["before_nms", "before_nms", "after_nms"]


def test_build_follows_the_seed():
    torch.manual_seed(3)
    a = SMALL.build(4)
    torch.manual_seed(3)
    b = SMALL.build(4)
    assert a.num_classes == 4
    assert a.class_head.outputs == 4
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


@pytest.mark.parametrize("family", ["retinanet", "ssd", "yolo"])
def test_tiny_is_tiny_and_takes_any_image(family):
    torch.manual_seed(0)
    model = get_preset("tiny", family).build(8).eval()
    assert sum(p.numel() for p in model.parameters()) < 2_000_000
    with torch.no_grad():
        found = model([torch.rand(3, 1, 1), torch.rand(3, 50, 200)])
    assert all(set(x) == {"boxes", "labels", "scores"} for x in found)


@pytest.mark.slow
@pytest.mark.parametrize("family, left", [("retinanet", 0.25), ("ssd", 0.25), ("yolo", 0.1)])
def test_tiny_learns_one_image(family, left):
    """A square on noise, 40 steps: the loss falls to a fraction, and the square is what the network sees."""
    torch.manual_seed(0)
    image = torch.rand(3, 128, 128) * 0.3 + 0.3
    image[:, 40:72, 56:88] = torch.tensor([0.9, 0.2, 0.1]).reshape(3, 1, 1)
    images, targets = [image, image], [target([[56, 40, 88, 72]], [1])] * 2
    model = get_preset("tiny", family).build(3).train()
    optimizer = torch.optim.AdamW(model.parameters())
    history = []
    for step in range(40):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 10)  # without it some boxes grow beyond recall
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < left * history[0]
    with torch.no_grad():
        found = model.eval()([image])[0]
    assert found["labels"][0] == 1
    assert (found["boxes"][0] - torch.tensor([56.0, 40, 88, 72])).abs().max() < 8


def test_families():
    assert get_family("retinanet")["tiny"] is TINY
    with pytest.raises(ValueError, match=r"unknown model 'retinnet': did you mean 'retinanet'\? There are: retinanet"):
        get_preset("tiny", "retinnet")
    with pytest.raises(ValueError, match="unknown model 'cascade_rcnn'"):
        preset_from_dict({"family": "cascade_rcnn"})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_what_its_presets_say(family):
    assert all(preset.family == family and preset.name == name for name, preset in FAMILIES[family].items())


def test_a_preset_without_a_family_is_a_retinanet():
    values = preset_to_dict(TINY)
    assert values.pop("family") == "retinanet"
    del values["learning_rate"]  # nor had files of old this
    assert preset_from_dict(values) == TINY
