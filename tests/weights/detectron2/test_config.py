"""Detectron2's configs. The files here are of the form of its own; the values are facts of its zoo."""

from dataclasses import replace
from pathlib import Path

import pytest

from course_lib.detectors.presets import FAMILIES
from course_lib.weights.detectron2.config import config_from_settings, read_config, settings_of, write_config
from course_lib.weights.detectron2.yaml_files import read_yaml

BASE_RETINANET = """\
MODEL:
  META_ARCHITECTURE: "RetinaNet"
  BACKBONE:
    NAME: "build_retinanet_resnet_fpn_backbone"
  RESNETS:
    OUT_FEATURES: ["res3", "res4", "res5"]
  ANCHOR_GENERATOR:
    SIZES: !!python/object/apply:eval ["[[x, x * 2**(1.0/3), x * 2**(2.0/3) ] for x in [32, 64, 128, 256, 512 ]]"]
  FPN:
    IN_FEATURES: ["res3", "res4", "res5"]
  RETINANET:
    IOU_THRESHOLDS: [0.4, 0.5]
    IOU_LABELS: [0, -1, 1]
    SMOOTH_L1_LOSS_BETA: 0.0
DATASETS:
  TRAIN: ("coco_2017_train",)
SOLVER:
  STEPS: (60000, 80000)
INPUT:
  MIN_SIZE_TRAIN: (640, 672, 704, 736, 768, 800)
VERSION: 2
"""
BASE_RCNN = """\
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  BACKBONE: {NAME: "build_resnet_fpn_backbone"}
  RESNETS: {OUT_FEATURES: ["res2", "res3", "res4", "res5"]}
  FPN: {IN_FEATURES: ["res2", "res3", "res4", "res5"]}
  ANCHOR_GENERATOR:
    SIZES: [[32], [64], [128], [256], [512]]
    ASPECT_RATIOS: [[0.5, 1.0, 2.0]]
  RPN:
    IN_FEATURES: ["p2", "p3", "p4", "p5", "p6"]
    PRE_NMS_TOPK_TRAIN: 2000
    PRE_NMS_TOPK_TEST: 1000
    POST_NMS_TOPK_TRAIN: 1000
    POST_NMS_TOPK_TEST: 1000
  ROI_HEADS: {NAME: "StandardROIHeads", IN_FEATURES: ["p2", "p3", "p4", "p5"]}
  ROI_BOX_HEAD: {NAME: "FastRCNNConvFCHead", NUM_FC: 2, POOLER_RESOLUTION: 7}
  ROI_MASK_HEAD: {NAME: "MaskRCNNConvUpsampleHead", NUM_CONV: 4, POOLER_RESOLUTION: 14}
"""
X101 = """\
_BASE_: "../Base-RCNN-FPN.yaml"
MODEL:
  MASK_ON: True
  WEIGHTS: "detectron2://ImageNetPretrained/FAIR/X-101-32x8d.pkl"
  PIXEL_STD: [57.375, 57.120, 58.395]
  RESNETS:
    STRIDE_IN_1X1: False
    NUM_GROUPS: 32
    WIDTH_PER_GROUP: 8
    DEPTH: 101
"""


@pytest.fixture
def configs(tmp_path: Path):
    """A folder of configs, and a function that adds one and reads it."""
    (tmp_path / "Base-RetinaNet.yaml").write_text(BASE_RETINANET)
    (tmp_path / "Base-RCNN-FPN.yaml").write_text(BASE_RCNN)
    (tmp_path / "COCO").mkdir()

    def read(text: str, name: str = "COCO/model.yaml"):
        (tmp_path / name).write_text(text)
        return read_config(tmp_path / name)

    read.folder = tmp_path
    return read


def of_base(base: str, model: str = "") -> str:
    return f"_BASE_: ../Base-{base}.yaml\n{model}"


def same_but_name(preset, family: str) -> None:
    wanted = FAMILIES[family]["r50_detectron2"]
    assert replace(preset, name=wanted.name) == wanted


def test_the_zoo_s_retinanet_is_our_preset(configs):
    found = configs(
        of_base("RetinaNet", "MODEL: {WEIGHTS: R-50.pkl, RESNETS: {DEPTH: 50}}"), "COCO/retinanet_R_50.yaml"
    )
    assert found.preset.name == "retinanet_R_50"
    same_but_name(found.preset, "retinanet")
    assert (found.num_classes, found.weights) == (80, "R-50.pkl")
    assert found.ignored == (
        "DATASETS.TRAIN",
        "SOLVER.STEPS",
        "INPUT.MIN_SIZE_TRAIN",
        "VERSION",
        "MODEL.WEIGHTS",
    )


@pytest.mark.parametrize("masks, family", [("False", "faster_rcnn"), ("True", "mask_rcnn")])
def test_the_zoo_s_rcnns_are_our_presets(configs, masks, family):
    found = configs(of_base("RCNN-FPN", f"MODEL: {{MASK_ON: {masks}}}"))
    assert found.preset.family == family
    same_but_name(found.preset, family)


def test_resnext(configs):
    preset = configs(X101).preset
    assert preset.family == "mask_rcnn"
    backbone = preset.backbone
    assert (backbone.blocks, backbone.groups, backbone.widening) == ((3, 4, 23, 3), 32, 4)
    assert backbone.widths == (64, 128, 256, 512)
    assert backbone.stride_in == "3x3"
    assert preset.input.std == (57.375, 57.12, 58.395)


@pytest.mark.parametrize(
    "depth, blocks, out", [(18, (2, 2, 2, 2), 64), (34, (3, 4, 6, 3), 64), (152, (3, 8, 36, 3), 256)]
)
def test_depths(configs, depth, blocks, out):
    preset = configs(of_base("RetinaNet", f"MODEL: {{RESNETS: {{DEPTH: {depth}, RES2_OUT_CHANNELS: {out}}}}}")).preset
    assert preset.backbone.blocks == blocks
    assert preset.backbone.bottleneck == (depth > 34)
    assert preset.backbone.widths == (64, 128, 256, 512)


@pytest.mark.parametrize(
    "base, model, field, value",
    [
        ("RetinaNet", "RETINANET: {BBOX_REG_LOSS_TYPE: giou}", "loss.box", "giou"),
        ("RetinaNet", "RETINANET: {SMOOTH_L1_LOSS_BETA: 0.2}", "loss.beta", 0.2),
        ("RetinaNet", "RETINANET: {IOU_THRESHOLDS: [0.3, 0.6]}", "matching.high", 0.6),
        ("RetinaNet", "ANCHOR_GENERATOR: {SIZES: [[8, 16]]}", "anchors.sizes", ((8.0, 16.0),) * 5),
        ("RetinaNet", "RESNETS: {NORM: SyncBN}", "backbone.norm", "batch"),
        ("RCNN-FPN", "FPN: {NORM: GN}", "fpn_norm", "group"),
        ("RCNN-FPN", "RPN: {CONV_DIMS: [-1, 256]}", "rpn_depth", 2),
        ("RCNN-FPN", "ROI_BOX_HEAD: {NUM_CONV: 4, NUM_FC: 1, NORM: GN}", "box_head.widths", (1024,)),
        ("RCNN-FPN", "ROI_BOX_HEAD: {NUM_CONV: 4, NUM_FC: 1, NORM: GN}", "box_head.norm", "group"),
        ("RCNN-FPN", "ROI_BOX_HEAD: {POOLER_TYPE: ROIAlign}", "pool.aligned", False),
        ("RCNN-FPN", "ROI_BOX_HEAD: {POOLER_TYPE: ROIPool}", "pool.kind", "pool"),
        ("RCNN-FPN", "PROPOSAL_GENERATOR: {MIN_SIZE: 2}", "proposals.min_size", 2.000000238418579),
        ("RCNN-FPN", "ROI_HEADS: {IOU_THRESHOLDS: [0.6]}", "boxes.iou", 0.6),
    ],
)
def test_fields_there_and_back(configs, tmp_path, base, model, field, value):
    preset = found = configs(of_base(base, f"MODEL: {{{model}}}")).preset
    for part in field.split("."):
        found = getattr(found, part)
    assert found == value
    write_config(tmp_path / "again.yaml", preset, 80)
    assert read_config(tmp_path / "again.yaml").preset == replace(preset, name="again")


def test_without_resizing(configs):
    spec = configs(of_base("RetinaNet", "INPUT: {MIN_SIZE_TEST: 0, FORMAT: RGB}")).preset.input
    assert (spec.resize, spec.bgr) == ("none", False)


def test_the_zoo_s_panoptic_fpn(configs):
    model = "MODEL: {META_ARCHITECTURE: PanopticFPN, MASK_ON: True, SEM_SEG_HEAD: {LOSS_WEIGHT: 0.5}}"
    same_but_name(configs(of_base("RCNN-FPN", model)).preset, "panoptic_fpn")


@pytest.mark.parametrize("family", ["retinanet", "faster_rcnn", "mask_rcnn", "panoptic_fpn"])
def test_a_preset_there_and_back(tmp_path, family):
    preset = FAMILIES[family]["r50_detectron2"]
    write_config(tmp_path / "ours.yaml", preset, 7, weights="model.pth")
    found = read_config(tmp_path / "ours.yaml")
    same_but_name(found.preset, family)
    assert (found.num_classes, found.weights) == (7, "model.pth")
    assert "!!" not in (tmp_path / "ours.yaml").read_text()  # Detectron2's own reader needs no trust for it


def test_what_detectron2_cannot_say_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot describe this retinanet \(r50_torchvision_v2\)") as caught:
        write_config(tmp_path / "x.yaml", FAMILIES["retinanet"]["r50_torchvision_v2"], 91)
    for field in (
        "head_norm",
        "anchors.order",
        "anchors.rounding",
        "anchors.stride_mode",
        "detect.clip",
        "input.scale",
    ):
        assert f"{field} is " in str(caught.value)
    assert not (tmp_path / "x.yaml").exists()
    with pytest.raises(ValueError, match=r"a ResNet of \(1, 2, 2, 1\) blocks has no DEPTH"):
        settings_of(FAMILIES["faster_rcnn"]["tiny"], 3)
    with pytest.raises(ValueError, match=r"proposals\.min_size: 0\.001 pixels; Detectron2 has whole numbers"):
        settings_of(FAMILIES["mask_rcnn"]["r50_torchvision_v2"], 3)
    preset = FAMILIES["faster_rcnn"]["r50_detectron2"]
    with pytest.raises(ValueError, match=r"layers are \(9, 8\) wide"):
        settings_of(replace(preset, box_head=replace(preset.box_head, widths=(9, 8))), 3)
    with pytest.raises(ValueError, match="Detectron2 has no ssd"):
        settings_of(FAMILIES["ssd"]["tiny"], 3)


@pytest.mark.parametrize(
    "model, message",
    [
        ("KEYPOINT_ON: True", r"MODEL\.KEYPOINT_ON is True, supported is False"),
        ("RESNETS: {DEFORM_ON_PER_STAGE: [False, True, True, True]}", "DEFORM_ON_PER_STAGE is"),
        ("RESNETS: {RES5_DILATION: 2}", "RES5_DILATION is 2, supported is 1"),
        ("RESNETS: {DEPT: 50}", r"MODEL\.RESNETS\.DEPT is unknown \(did you mean MODEL\.RESNETS\.DEPTH\?\)"),
        ("RESNETS: {DEPTH: 51}", "DEPTH is 51, expected one of 18, 34, 50, 101, 152"),
        ("RESNETS: {DEPTH: deep}", "DEPTH is 'deep', expected a whole number"),
        ("RESNETS: {STRIDE_IN_1X1: 1}", "STRIDE_IN_1X1 is 1, expected True or False"),
        ("RESNETS: {NORM: LN}", "a norm is 'LN'"),
        ("RESNETS: {NORM: 3}", "NORM is 3, expected text"),
        ("RESNETS: {DEPTH: 18}", "R18 has RES2_OUT_CHANNELS 64 and 1 group, found 256 and 1"),
        ("RESNETS: {WIDTH_PER_GROUP: 100}", "1 groups of 100 channels for 256 out of res2"),
        ("ROI_HEADS: {NUM_CLASSES: 0}", "NUM_CLASSES is 0, expected at least 1"),
        ("ROI_HEADS: {SCORE_THRESH_TEST: high}", "SCORE_THRESH_TEST is 'high', expected a number"),
        ("ROI_HEADS: {NAME: CascadeROIHeads}", "NAME is 'CascadeROIHeads', supported is 'StandardROIHeads'"),
        ("ROI_HEADS: {IN_FEATURES: [p3]}", r"regions are cut from \['p3'\]"),
        ("RPN: {IN_FEATURES: [p2]}", r"the heads look at \['p2'\], expected all levels"),
        ("RPN: {IOU_THRESHOLDS: 0.5}", "IOU_THRESHOLDS is 0.5, expected a list"),
        ("RPN: {IOU_THRESHOLDS: [0.5]}", r"RPN\.IOU_THRESHOLDS: \[0\.5\], expected two numbers"),
        ("RPN: {CONV_DIMS: [64]}", r"RPN\.CONV_DIMS are \[64\]"),
        ("ROI_BOX_HEAD: {NUM_CONV: 1, CONV_DIM: 64}", r"ROI_BOX_HEAD\.CONV_DIM is 64"),
        ("ROI_BOX_HEAD: {BBOX_REG_LOSS_TYPE: ciou}", "BBOX_REG_LOSS_TYPE is 'ciou'"),
        ("FPN: {IN_FEATURES: [res4]}", r"the pyramid is built on \['res4'\]"),
        ("RESNETS: {OUT_FEATURES: [res5]}", r"the pyramid wants res2, res3, res4, but OUT_FEATURES are \['res5'\]"),
        ("ANCHOR_GENERATOR: {SIZES: [[32], [64]]}", "for 5 levels: expected as many of each level"),
        ("ANCHOR_GENERATOR: {SIZES: [[a]]}", "could not convert"),
        ("ANCHOR_GENERATOR: {ASPECT_RATIOS: [[1.0], [2.0]]}", "expected the same for all levels"),
        (
            "META_ARCHITECTURE: DETR",
            r"is 'DETR', expected one of GeneralizedRCNN, PanopticFPN, RetinaNet",
        ),
    ],
)
def test_unknown_and_unsupported_settings_are_named(configs, model, message):
    with pytest.raises(ValueError, match=rf"model\.yaml: .*{message}"):
        configs(of_base("RCNN-FPN", f"MODEL: {{{model}}}"))


def test_all_faults_are_named_at_once(configs):
    text = of_base("RetinaNet", "MODEL: {KEYPOINT_ON: True, FOO: 1}\nINPUT: {FORMAT: HSV}")
    with pytest.raises(ValueError, match=r"3 settings of this retinanet .*FOO.*KEYPOINT_ON.*FORMAT is 'HSV'"):
        configs(text)


def test_a_c4_model_is_not_ours():
    with pytest.raises(ValueError, match="build_resnet_backbone"):
        config_from_settings({}, "defaults")


# Files


@pytest.mark.parametrize(
    "text, message",
    [
        ("MODEL: !!python/object/apply:os.system ['touch /tmp/never']", "'object/apply:os.system', which is refused"),
        ("MODEL: !!python/name:os.system", "is refused and was not run"),
        ("MODEL: !!python/object/apply:eval ['__import__(\"os\")']", "not plain arithmetic"),
        ("MODEL: !!python/object/apply:eval ['1', '2']", "an eval of something else than one text"),
        ("MODEL: !!python/object/apply:eval 1", "an eval of something else than one text"),
        ("MODEL: [", "not a readable config"),
        ("- 1", "expected sections such as MODEL, found list"),
        ("1: 2", r"a key 1 in the file"),
        ("_BASE_: 3", "_BASE_ is 3, expected the name of a file"),
        ("_BASE_: https://x.org/y.yaml", "is on the net"),
        ("_BASE_: model.yaml", r"model\.yaml: this file is its own base, by way of model\.yaml"),
        ("A: " + "[" * 20 + "]" * 20, "lists in one another"),
        (
            "A: &a [1,2,3,4,5,6,7,8,9]\n"
            + "".join(f"{x}: &{x} [{', '.join([f'*{y}'] * 9)}]\n" for x, y in zip("bcdefg", "abcdef")),
            "more than 20000 values",
        ),
        ("#" * 2**20 + "#", "a config has some kilobytes"),
    ],
)
def test_files_that_are_refused(configs, text, message):
    with pytest.raises(ValueError, match=message):
        configs(text)
    assert not Path("/tmp/never").exists()


def test_a_missing_base_says_who_wants_it(configs):
    with pytest.raises(
        FileNotFoundError, match=r"none\.yaml: there is no such file; .*model\.yaml names it as its _BASE_"
    ):
        configs("_BASE_: none.yaml")
    with pytest.raises(FileNotFoundError, match=r"nothing\.yaml: there is no such file$"):
        read_config(configs.folder / "nothing.yaml")


def test_bases_of_bases_and_values(configs):
    folder = configs.folder
    (folder / "low.yaml").write_text("A: {B: 1, C: [1, 2], D: '(3, (4, 5))', E: 1e-5}\nF: None\n")
    (folder / "high.yaml").write_text("_BASE_: low.yaml\nA: {B: !!python/tuple [7, x]}\n")
    (folder / "top.yaml").write_text("_BASE_: [low.yaml, high.yaml]\nG: '{}'\n")
    assert read_yaml(folder / "top.yaml") == {
        "A.B": [7, "x"],
        "A.C": [1, 2],
        "A.D": [3, [4, 5]],
        "A.E": 1e-5,
        "F": None,
        "G": "{}",
    }
    (folder / "empty.yaml").write_text("")
    assert read_yaml(folder / "empty.yaml") == {}


def test_a_ring_of_bases(configs):
    (configs.folder / "COCO/a.yaml").write_text("_BASE_: model.yaml")
    with pytest.raises(ValueError, match=r"this file is its own base, by way of model\.yaml, a\.yaml"):
        configs("_BASE_: a.yaml")
