"""Detectron2's files as detectors of ours. That these then compute the same is in tests/engine/test_peers_files.py."""

import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from course_lib.datasets.label_map import LabelMap
from course_lib.detectors.presets import FAMILIES
from course_lib.weights.detectron2.checkpoint import complete_names, read_checkpoint, write_checkpoint
from course_lib.weights.detectron2.config import write_config
from course_lib.weights.detectron2.models import import_detectron2
from course_lib.weights.detectron2.names import rules_back
from course_lib.weights.imported import with_classes
from course_lib.weights.keys import rename
from tests.detectors.goldens import Golden

NAMES = ("retinanet", "faster_rcnn", "mask_rcnn")


@pytest.fixture(params=NAMES)
def golden(request) -> Golden:
    return Golden(request.param)


def arrays(state):
    return {name: value.numpy() for name, value in state.items()}


def dump(path, value):
    path.write_bytes(pickle.dumps(value, protocol=4))
    return path


def zoo(path, state, **more):
    return dump(path, {"model": arrays(state), "__author__": "someone"} | more)


def saved(path, value):
    torch.save(value, path)
    return path


def same_values(model, state, preset):
    ours = rename(model.state_dict(), rules_back(preset))
    assert set(ours) == set(state)
    assert all(torch.equal(ours[name], state[name]) for name in state)


@pytest.mark.parametrize("form", ["zoo", "pth", "bare", "module"])
def test_every_form_of_file(golden, tmp_path, form):
    weights = golden.weights
    match form:
        case "zoo":
            path = zoo(tmp_path / "m.pkl", weights)
        case "pth":
            path = saved(tmp_path / "m.pth", {"model": weights, "optimizer": {"state": {}}, "iteration": 7})
        case "bare":
            path = saved(tmp_path / "m.pth", weights)
        case _:
            path = saved(tmp_path / "m.pth", {"model": {f"module.{k}": v for k, v in weights.items()}})
    found = import_detectron2(path)
    same_values(found.model, weights, found.preset)
    assert found.report.complete
    assert set(found.report.used) == set(weights)
    assert not found.model.training
    assert len(found.label_map) == 5
    assert "anchors and thresholds as in Detectron2's zoo" in found.notes[0]
    for parameter in found.model.parameters():
        assert parameter.is_contiguous()


def test_our_file_is_read_back(golden, tmp_path):
    found = import_detectron2(zoo(tmp_path / "m.pkl", golden.weights))
    write_config(tmp_path / "again.yaml", found.preset, 5)
    for suffix in ("pkl", "pth"):
        write_checkpoint(tmp_path / f"again.{suffix}", found.model, found.preset)
        again = import_detectron2(tmp_path / f"again.{suffix}", config=tmp_path / "again.yaml")
        assert again.preset == replace(found.preset, name="again")
        assert again.notes == ()
        same_values(again.model, golden.weights, again.preset)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.pkl", "again.pth", "again.yaml", "m.pkl"]


def test_the_model_s_memory_is_its_own(tmp_path):
    """Also where two names share one tensor, or a tensor is a part of a larger one."""
    weights = Golden("retinanet").weights
    weights["head.cls_subnet.2.weight"] = weights["head.cls_subnet.0.weight"]
    large = torch.rand(2, *weights["head.cls_subnet.4.weight"].shape)
    weights["head.cls_subnet.4.weight"] = large[1]
    shared = weights["head.cls_subnet.0.weight"].numpy()
    value = arrays(weights) | {"head.cls_subnet.0.weight": shared, "head.cls_subnet.2.weight": shared}
    for path in (
        saved(tmp_path / "m.pth", weights),
        dump(tmp_path / "m.pkl", {"model": value, "__author__": "x"}),
    ):
        model = import_detectron2(path).model
        owners = {p.data_ptr() for p in model.state_dict().values() if p.numel()}
        assert len(owners) == len(model.state_dict())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2)
        assert torch.equal(model.class_head.convs[1].weight, 2 * weights["head.cls_subnet.2.weight"])


def test_arrays_of_other_layouts_and_types(tmp_path):
    weights = Golden("retinanet").weights
    value = arrays(weights)
    value["head.cls_score.bias"] = value["head.cls_score.bias"].astype(">f8")
    value["head.cls_score.weight"] = np.asfortranarray(value["head.cls_score.weight"])
    value["head.bbox_pred.bias"] = value["head.bbox_pred.bias"].astype(np.float16)
    model = import_detectron2(dump(tmp_path / "m.pkl", {"model": value, "__author__": "x"})).model
    assert torch.equal(model.class_head.predictor.weight, weights["head.cls_score.weight"])
    assert model.class_head.predictor.bias.dtype == torch.float32
    torch.testing.assert_close(model.box_head.predictor.bias, weights["head.bbox_pred.bias"], rtol=1e-3, atol=1e-3)


# Shapes


@pytest.mark.parametrize(
    "family, changes",
    [
        ("retinanet", {"backbone.blocks": (2, 2, 2, 2), "backbone.bottleneck": False}),
        ("retinanet", {"backbone.norm": "batch", "head_depth": 2}),
        ("faster_rcnn", {"backbone.groups": 8, "backbone.widening": 2, "backbone.stride_in": "3x3"}),
        ("faster_rcnn", {"fpn_norm": "group", "rpn_depth": 2, "backbone.norm": "group"}),
        ("faster_rcnn", {"box_head.convs": 4, "box_head.norm": "group", "box_head.widths": (32,)}),
        ("mask_rcnn", {"mask_head.norm": "group", "mask_head.depth": 2}),
        ("panoptic_fpn", {"semantic_head.channels": 32, "num_stuff": 6}),
    ],
    ids=["basic blocks", "batch norm", "groups", "group norm", "4conv1fc", "masks with norms", "panoptic"],
)
def test_what_shapes_tell(tmp_path, family, changes):
    """A narrow model of other depth, norm or heads, written and read without its config."""
    preset = FAMILIES[family]["r50_detectron2"]
    widths = (64, 128, 256, 512) if "backbone.bottleneck" in changes else (8, 16, 32, 64)
    backbone = {"stem_width": 32, "widths": widths}
    fields: dict = {"channels": 32}
    for name, value in changes.items():
        part, _, inner = name.partition(".")
        if part == "backbone":
            backbone[inner] = value
        elif inner:
            fields[part] = replace(fields.get(part, getattr(preset, part)), **{inner: value})
        else:
            fields[part] = value
    if family != "retinanet" and "box_head" not in fields:
        fields["box_head"] = replace(preset.box_head, widths=(16, 16))
    preset = replace(preset, name="m", backbone=replace(preset.backbone, **backbone), **fields)
    if "backbone.groups" in changes:
        preset = replace(preset, input=replace(preset.input, std=(57.375, 57.12, 58.395)))
    model = preset.build(3)
    write_checkpoint(tmp_path / "m.pth", model, preset)
    found = import_detectron2(tmp_path / "m.pth")
    assert found.preset == preset
    same_values(found.model, rename(model.state_dict(), rules_back(preset)), preset)


def test_mean_and_deviation_in_the_file(tmp_path):
    weights = Golden("faster_rcnn").weights
    weights |= {"pixel_mean": torch.tensor([1.5, 103.53, 3.0]).reshape(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}
    found = import_detectron2(saved(tmp_path / "m.pth", {"model": weights}))
    assert found.preset.input.mean == (1.5, 103.53, 3.0)
    assert found.report.ignored == ("pixel_mean", "pixel_std")
    assert len(found.notes) == 2


# Caffe2 and backbones


CAFFE2 = {
    "backbone.bottom_up.stem.conv1.weight": "conv1_w",
    "backbone.bottom_up.stem.conv1.norm.weight": "res_conv1_bn_s",
    "backbone.bottom_up.res2.0.shortcut.weight": "res2_0_branch1_w",
    "backbone.bottom_up.res2.0.shortcut.norm.bias": "res2_0_branch1_bn_b",
    "backbone.bottom_up.res4.5.conv1.norm.weight": "res4_5_branch2a_bn_s",
    "backbone.bottom_up.res4.5.conv2.norm.running_mean": "res4_5_branch2b_bn_rm",
    "backbone.bottom_up.res4.5.conv2.norm.running_var": "res4_5_branch2b_bn_riv",
    "backbone.bottom_up.res5.2.conv3.weight": "res5_2_branch2c_w",
    "backbone.fpn_lateral2.weight": "fpn_inner_res2_2_sum_lateral_w",
    "backbone.fpn_lateral5.weight": "fpn_inner_res5_2_sum_w",
    "backbone.fpn_output3.bias": "fpn_res3_3_sum_b",
    "backbone.fpn_output3.norm.weight": "fpn_res3_3_sum_gn_s",
    "proposal_generator.rpn_head.conv.weight": "conv_rpn_fpn2_w",
    "proposal_generator.rpn_head.objectness_logits.bias": "rpn_cls_logits_fpn2_b",
    "proposal_generator.rpn_head.anchor_deltas.weight": "rpn_bbox_pred_fpn2_w",
    "roi_heads.box_head.fc1.weight": "fc6_w",
    "roi_heads.box_head.fc2.bias": "fc7_b",
    "roi_heads.box_head.conv2.norm.bias": "head_conv2_gn_b",
    "roi_heads.mask_head.mask_fcn1.weight": "_[mask]_fcn1_w",
    "roi_heads.mask_head.deconv.bias": "conv5_mask_b",
}


def test_caffe2_s_names(tmp_path):
    blobs = {theirs: np.full(2, i, np.float32) for i, theirs in enumerate(CAFFE2.values())}
    more = {"conv1_w_momentum": np.ones(1), "lr": np.float32(1), "fc1000_w": np.ones(2), "odd_x": np.ones(1)}
    path = dump(tmp_path / "m.pkl", {"blobs": blobs | more, "cfg": "text"})
    found = read_checkpoint(path)
    assert (found.author, found.by_suffix) == ("Caffe2", True)
    for i, ours in enumerate(CAFFE2):
        assert found.state[ours].tolist() == [i, i], ours
    assert set(found.state) - set(CAFFE2) == {
        *("lr", "stem.fc.weight", "odd_x"),
        *(
            f"backbone.bottom_up.{layer}.norm.running_{part}"
            for layer, part in (("stem.conv1", "mean"), ("stem.conv1", "var"))
        ),
        *("backbone.bottom_up.res4.5.conv1.norm.running_mean", "backbone.bottom_up.res4.5.conv1.norm.running_var"),
    }
    assert found.state["backbone.bottom_up.stem.conv1.norm.running_var"].tolist() == [1, 1]


BACK_TO_CAFFE2 = [
    (r"backbone\.bottom_up\.", ""),
    (r"norm\.running_mean", "bn_rm"),
    (r"norm\.running_var", "bn_riv"),
    (r"norm\.weight", "bn_s"),
    (r"norm\.bias", "bn_b"),
    (r"weight$", "w"),
    (r"bias$", "b"),
    (r"stem\.conv1\.bn", "res_conv1_bn"),
    (r"stem\.conv1", "conv1"),
    (r"shortcut", "branch1"),
    *[(rf"(res\d\.\d)\.conv{i}", rf"\1.branch2{x}") for i, x in enumerate("abc", start=1)],
    (r"backbone\.fpn_lateral5", "fpn_inner_res5_2_sum"),
    (r"backbone\.fpn_lateral(\d)", r"fpn_inner_res\1_1_sum_lateral"),
    (r"backbone\.fpn_output(\d)", r"fpn_res\1_1_sum"),
    (r"proposal_generator\.rpn_head\.conv", "conv_rpn_fpn2"),
    (r"proposal_generator\.rpn_head\.objectness_logits", "rpn_cls_logits_fpn2"),
    (r"proposal_generator\.rpn_head\.anchor_deltas", "rpn_bbox_pred_fpn2"),
    (r"roi_heads\.box_head\.fc1", "fc6"),
    (r"roi_heads\.box_head\.fc2", "fc7"),
    (r"roi_heads\.box_predictor\.", ""),
    (r"roi_heads\.mask_head\.mask_fcn", "_[mask]_fcn"),
    (r"roi_heads\.mask_head\.deconv", "conv5_mask"),
    (r"roi_heads\.mask_head\.predictor", "mask_fcn_logits"),
]


def test_caffe2_s_background_comes_first(tmp_path):
    """A whole Mask R-CNN under Caffe2's names, its background first and with boxes and a mask of its own."""
    weights = Golden("mask_rcnn").weights
    blobs = {}
    for name, value in weights.items():
        stem = name
        for pattern, theirs in BACK_TO_CAFFE2:
            stem = re.sub(pattern, theirs, stem)
        stem = stem.replace(".", "_")
        if stem.startswith("cls_score"):
            value = value.roll(1, 0)
        elif stem.startswith("bbox_pred"):
            value = torch.cat((torch.rand(4, *value.shape[1:]), value))
        elif stem.startswith("mask_fcn_logits"):
            value = torch.cat((torch.rand(1, *value.shape[1:]), value))
        blobs[stem] = value.numpy()
    found = import_detectron2(dump(tmp_path / "m.pkl", {"blobs": blobs}))
    same_values(found.model, weights, found.preset)


def backbone_file(path):
    weights = Golden("retinanet").weights
    state = {k.removeprefix("backbone.bottom_up."): v for k, v in weights.items() if ".bottom_up." in k}
    return zoo(path, state | {"stem.fc.weight": torch.ones(2)}, matching_heuristics=True)


def test_a_backbone_s_file(tmp_path):
    path = backbone_file(tmp_path / "R-50.pkl")
    golden = Golden("retinanet")
    write_config(tmp_path / "m.yaml", golden.narrow(FAMILIES["retinanet"]["r50_detectron2"]), 5)
    with pytest.raises(ValueError, match=r"R-50\.pkl: these are not all tensors .*a backbone alone needs a config"):
        import_detectron2(path)
    with pytest.raises(ValueError, match=r"R-50\.pkl: these weights have no value for 36 of .*: box_head"):
        import_detectron2(path, config=tmp_path / "m.yaml")
    torch.manual_seed(0)
    found = import_detectron2(path, config=tmp_path / "m.yaml", partial=True)
    ours = found.model.state_dict()
    assert torch.equal(ours["backbone.conv1.weight"], golden.weights["backbone.bottom_up.stem.conv1.weight"])
    assert len(found.report.missing) == 36
    assert not any(name.startswith("backbone.") for name in found.report.missing)
    assert found.report.ignored == ("stem.fc.weight",)
    assert not found.report.complete
    prior = found.model.class_head.predictor.bias.sigmoid()
    torch.testing.assert_close(prior, torch.full_like(prior, 0.01))
    assert "36 tensors of the model have no value in the file: box_head" in str(found.report)


def test_names_are_completed_by_their_longest_end():
    state = {"conv1.weight": torch.zeros(1), "res2.conv1.weight": torch.ones(1), "x": torch.ones(1)}
    found = complete_names(state, ["a.res2.conv1.weight", "a.stem.conv1.weight", "a.bconv1.weight"])
    assert set(found) == {"a.res2.conv1.weight", "a.stem.conv1.weight", "x"}
    with pytest.raises(ValueError, match=r"conv1\.weight in the file could be a\.conv1\.weight or b\.conv1\.weight"):
        complete_names(state, ["a.conv1.weight", "b.conv1.weight"])


# What is wrong


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("roi_heads.box_head.fc2.bias"), r"no value for 1 .*: box_head\.fcs\.1\.bias"),
        (lambda s: s.pop("backbone.fpn_output5.weight"), "these are not all tensors of a RetinaNet"),
        (
            lambda s: s.pop("roi_heads.box_head.fc1.weight"),
            r"no roi_heads\.box_head\.fc1\.weight; half a file",
        ),
        (lambda s: s.pop("backbone.bottom_up.res5.2.conv1.weight"), r"a ResNet of \(3, 4, 6, 2\) blocks"),
        (lambda s: s.update({"what.is.this": torch.ones(1)}), r"1 keys .*no place for: what\.is\.this"),
        (
            lambda s: s["backbone.fpn_output4.bias"].fill_(torch.nan),
            r"1 tensors hold NaN or infinity, .* fpn\.output\.2\.bias",
        ),
        (lambda s: s["backbone.fpn_output4.bias"].fill_(torch.inf), "hold NaN or infinity"),
        (
            lambda s: s.update({"backbone.fpn_output4.bias": torch.ones(17)}),
            r"another shape for 1 .*: fpn\.output\.2\.bias: \(17,\) for \(16,\)",
        ),
        (
            lambda s: s.update({"proposal_generator.rpn_head.objectness_logits.weight": torch.ones(9, 16, 1, 1)}),
            "9 anchors at each place, the zoo has 3",
        ),
        (
            lambda s: s.update({"roi_heads.box_predictor.bbox_pred.weight": torch.ones(4, 24)}),
            "4 deltas for 5 classes; expected a box of each class",
        ),
        (lambda s: s.update({"sem_seg_head.predictor.weight": torch.ones(4)}), r"there is no roi_heads\.mask_head"),
    ],
)
def test_wrong_tensors_are_named(tmp_path, change, message):
    weights = {k: v.clone() for k, v in Golden("faster_rcnn").weights.items()}
    change(weights)
    with pytest.raises(ValueError, match=rf"m\.pth: .*{message}"):
        import_detectron2(saved(tmp_path / "m.pth", {"model": weights}))


def test_a_retinanet_of_other_anchors(tmp_path):
    weights = Golden("retinanet").weights | {"head.bbox_pred.weight": torch.ones(24, 16, 3, 3)}
    with pytest.raises(ValueError, match="6 anchors at each place, the zoo has 9; give the config"):
        import_detectron2(saved(tmp_path / "m.pth", weights))


def test_another_config(tmp_path):
    path = zoo(tmp_path / "m.pkl", Golden("faster_rcnn").weights)
    write_config(tmp_path / "m.yaml", FAMILIES["faster_rcnn"]["r50_detectron2"], 5)
    with pytest.raises(ValueError, match=r"another shape for \d+ .*\(16, 16, 1, 1\) for \(256, 256, 1, 1\)"):
        import_detectron2(path, config=tmp_path / "m.yaml")
    write_config(tmp_path / "r.yaml", FAMILIES["retinanet"]["r50_detectron2"], 5)
    with pytest.raises(ValueError, match=r"m\.pkl: \d+ keys that this model has no place for: backbone\.fpn_lateral2"):
        import_detectron2(path, config=tmp_path / "r.yaml")
    with pytest.raises(FileNotFoundError, match=r"none\.yaml"):
        import_detectron2(path, config=tmp_path / "none.yaml")
    with pytest.raises(ValueError, match="5 classes, but labels for 1"):
        import_detectron2(path, label_map=LabelMap(("a",), (1,)))


class Bomb:
    def __reduce__(self):
        return os.system, ("touch /tmp/never",)


@pytest.mark.parametrize(
    "write, message",
    [
        (lambda p: dump(p / "m.pkl", {"model": Bomb(), "__author__": "x"}), r"it asks for (posix|nt)\.system"),
        (lambda p: saved(p / "m.pth", {"model": Bomb()}), "refused, since it holds more than tensors"),
        (lambda p: (p / "m.pth").write_bytes(saved(p / "x", torch.ones(999)).read_bytes()[:800]), "half a download"),
        (lambda p: (p / "m.pth").write_text("<html>"), r"m\.pth: "),
        (lambda p: dump(p / "m.pkl", [1]), "expected a dict of tensors, found list"),
        (lambda p: dump(p / "m.pkl", {"blobs": 3}), "its blobs are a int"),
        (lambda p: dump(p / "m.pkl", {"w": "text"}), "'w' is str, expected a tensor"),
        (lambda p: dump(p / "m.pkl", {}), "expected tensors by name"),
        (lambda p: saved(p / "m.pth", {"model": {}}), "expected tensors by name"),
        (lambda p: saved(p / "m.pth", torch.ones(1)), "expected a dict of tensors, found Tensor"),
        (lambda p: None, "there is no such file"),
    ],
)
def test_files_that_are_refused(tmp_path, write, message):
    written = write(tmp_path)
    path = next((p for p in tmp_path.iterdir() if p.name.startswith("m.")), tmp_path / "m.pkl")
    assert written is not None or not path.exists()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_checkpoint(path)
    assert not Path("/tmp/never").exists()


def test_a_file_of_torch_s_with_the_other_suffix(tmp_path):
    found = read_checkpoint(saved(tmp_path / "m.pkl", {"model": {"w": torch.ones(2)}, "__author__": "x"}))
    assert found.state["w"].tolist() == [1, 1]


def test_other_classes(golden, tmp_path):
    found = import_detectron2(zoo(tmp_path / "m.pkl", golden.weights))
    torch.manual_seed(0)
    other = with_classes(found, LabelMap(("a", "b"), (1, 2)))
    fresh = {
        "retinanet": {"class_head.predictor"},
        "faster_rcnn": {"box_head.class_predictor", "box_head.box_predictor"},
    }
    fresh["mask_rcnn"] = fresh["faster_rcnn"] | {"mask_head.predictor"}
    assert {name.rpartition(".")[0] for name in other.report.fresh} == fresh[found.preset.family]
    before, after = found.model.state_dict(), other.model.state_dict()
    for name, value in after.items():
        if name not in other.report.fresh:
            assert torch.equal(value, before[name]), name
    assert other.model.num_classes == 2
    assert "start afresh, for other classes" in str(other.report)
    if found.preset.family == "retinanet":
        prior = other.model.class_head.predictor.bias.sigmoid()
        torch.testing.assert_close(prior, torch.full_like(prior, 0.01))
