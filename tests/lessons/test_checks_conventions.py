"""The checks of lesson 13: each passes right solutions, and names the mistake of wrong ones that people write."""

import copy
import math
import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.anchor_utils import AnchorGenerator

from course_lib.detectors.presets import R50_DETECTRON2
from course_lib.lessons import checks
from course_lib.weights.detectron2.names import rules_of
from tests.lessons.exercises import exercise_tests

# Configs


def into_a_copy(base: dict, child: dict) -> dict:
    merged = copy.deepcopy(base)

    def update(into: dict, values: dict) -> None:
        for key, value in values.items():
            if isinstance(value, dict) and isinstance(into.get(key), dict):
                update(into[key], value)
            else:
                into[key] = value

    update(merged, child)
    return merged


def one_expression(base: dict, child: dict) -> dict:
    both = {k for k in base.keys() & child.keys() if isinstance(base[k], dict) and isinstance(child[k], dict)}
    return base | child | {k: one_expression(base[k], child[k]) for k in both}


def in_place(base: dict, child: dict) -> dict:
    for key, value in child.items():
        base[key] = in_place(base[key], value) if isinstance(value, dict) and key in base else value
    return base


def one_level(base: dict, child: dict) -> dict:
    return {
        k: {**base[k], **child[k]} if isinstance(child.get(k), dict) and k in base else child.get(k, base.get(k))
        for k in base | child
    }


def by_truth(base: dict, child: dict) -> dict:
    merged = {}
    for key in base | child:
        if isinstance(base.get(key), dict) and isinstance(child.get(key), dict):
            merged[key] = by_truth(base[key], child[key])
        else:
            merged[key] = child.get(key) or base.get(key)
    return merged


def not_kept(base: dict, child: dict) -> dict:
    merged = dict(base)
    for key, value in child.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            not_kept(base[key], value)
        else:
            merged[key] = value
    return merged


def too_early(base: dict, child: dict) -> dict:
    merged = dict(base)
    for key, value in child.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            return too_early(merged[key], value)
        merged[key] = value
    return merged


def joined(base: dict, child: dict) -> dict:
    merged = dict(base)
    for key, value in child.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = joined(base[key], value)
        elif isinstance(value, list):
            merged[key] = base.get(key, []) + value
        else:
            merged[key] = value
    return merged


def known_keys(base: dict, child: dict) -> dict:
    return {
        k: known_keys(v, child[k]) if isinstance(v, dict) and isinstance(child.get(k), dict) else child.get(k, v)
        for k, v in base.items()
    }


def child_s_keys(base: dict, child: dict) -> dict:
    return {k: child_s_keys(base[k], v) if isinstance(v, dict) and k in base else v for k, v in child.items()}


RIGHT_MERGE = {"into a copy": into_a_copy, "one expression": one_expression}
WRONG_MERGE = {
    "update": (lambda base, child: {**base, **child}, "took the place of the whole one"),
    "one level": (one_level, "merge calls itself"),
    "the base wins": (lambda base, child: into_a_copy(child, base), "the child's counts"),
    "the child alone": (child_s_keys, "stays as the base has it"),
    "known keys": (known_keys, "keys that the base does not have"),
    "not stored": (not_kept, "store what it gives for a section"),
    "returned too early": (too_early, "return after the loop"),
    "lists joined": (joined, "they are not joined"),
    "truth": (by_truth, "are values too"),
    "in place": (in_place, "changed its input in place"),
    "text": (lambda base, child: str(into_a_copy(base, child)), "pencil and paper"),
}

# Names

TABLE = [
    (r"backbone\.bottom_up\.res2\.(.*)", r"backbone.layer1.\1"),
    (r"backbone\.bottom_up\.res3\.(.*)", r"backbone.layer2.\1"),
    (r"backbone\.bottom_up\.res4\.(.*)", r"backbone.layer3.\1"),
    (r"backbone\.bottom_up\.res5\.(.*)", r"backbone.layer4.\1"),
    (r"(.*\.layer.*)\.conv(\d)\.norm\.(.*)", r"\1.bn\2.\3"),
    (r"(.*)\.shortcut\.weight", r"\1.downsample.0.weight"),
    (r"(.*)\.shortcut\.norm\.(.*)", r"\1.downsample.1.\2"),
    *[(rf"head\.cls_subnet\.{2 * i}\.(.*)", rf"class_head.convs.{i}.\1") for i in range(4)],
    *[(rf"head\.bbox_subnet\.{2 * i}\.(.*)", rf"box_head.convs.{i}.\1") for i in range(4)],
]


def by_table(name: str) -> str:
    for pattern, ours in TABLE:
        name = re.sub(f"^{pattern}$", ours, name)
    return name


def by_parts(name: str) -> str:
    parts = name.split(".")
    if parts[:2] == ["backbone", "bottom_up"] and parts[2].startswith("res"):
        stage, block, layer, *tail = parts[2:]
        if layer == "shortcut":
            layer, tail = ("downsample.1", tail[1:]) if tail[0] == "norm" else ("downsample.0", tail)
        elif tail[0] == "norm":
            layer, tail = layer.replace("conv", "bn"), tail[1:]
        return ".".join(["backbone", f"layer{int(stage[3:]) - 1}", block, layer, *tail])
    heads = {"cls_subnet": "class_head", "bbox_subnet": "box_head"}
    if parts[0] == "head" and parts[1] in heads:
        return ".".join([heads[parts[1]], "convs", str(int(parts[2]) // 2), *parts[3:]])
    return name


def by_the_library(name: str) -> str:
    """With the library's rules, but only where the table speaks."""
    if not re.search(r"\.res\d\.|_subnet\.", name):
        return name
    pattern, ours = next((p, o) for p, o in rules_of(R50_DETECTRON2) if o and re.fullmatch(p, name))
    return re.fullmatch(pattern, name).expand(ours)


def then(*changes: tuple[str, str]) -> Callable[[str], str]:
    """A right solution whose answer is changed."""

    def name_of(name: str) -> str:
        found = by_table(name)
        for pattern, ours in changes:
            found = re.sub(pattern, ours, found)
        return found

    return name_of


def stages_kept(name: str) -> str:
    return re.sub(r"layer(\d)", lambda m: f"layer{int(m[1]) + 1}", by_table(name))


def one_less(number: str) -> Callable[[str], str]:
    """A right solution with one of its numbers too small by one."""
    return lambda name: re.sub(number, lambda m: str(int(m[0]) - 1), by_table(name))


def not_halved(name: str) -> str:
    return re.sub(r"convs\.(\d)", lambda m: f"convs.{2 * int(m[1])}", by_table(name))


RIGHT_NAME = {"a table": by_table, "parts": by_parts, "the library": by_the_library}
WRONG_NAME = {
    "stages kept": (stages_kept, "take one off"),
    "bottom_up kept": (then((r"^backbone\.layer", "backbone.bottom_up.layer")), "has no counterpart"),
    "res kept": (lambda name: re.sub(r"\.bottom_up(\.res)", r"\1", name), "stages are called layer"),
    "norm in the convolution": (then((r"\.bn(\d)\.", r".conv\1.norm.")), "bn3 here"),
    "one bn": (then((r"\.bn\d\.", ".bn.")), "a norm of its own"),
    "both in 0": (then((r"downsample\.1", "downsample.0")), "downsample.1"),
    "exchanged": (
        then((r"downsample\.0", "downsample.x"), (r"downsample\.1", "downsample.0"), (r"\.x\.", ".1.")),
        "is downsample.0, its norm",
    ),
    "no numbers": (then((r"downsample\.0", "downsample"), (r"downsample\.1", "downsample.norm")), "have numbers"),
    "not halved": (not_halved, "halve the number"),
    "heads' names": (then(("^class_head", "cls_head"), ("^box_head", "bbox_head")), "cls is our class_head"),
    "bn3.norm": (then((r"\.bn(\d)\.", r".bn\1.norm.")), "the word norm goes"),
    "downsample.1.norm": (then((r"downsample\.1", "downsample.1.norm")), "the word norm goes"),
    "blocks from -1": (one_less(r"(?<=layer\d\.)\d+"), "a block keeps its number"),
    "layers from 0": (one_less(r"(?<=layer)\d"), "counted from 1"),
    "no subnets": (lambda name: by_table(name) if "bottom_up" in name else name, "have rows in the table"),
    "head kept": (then((r"^(class|box)_head", r"head.\1_head")), "head has no counterpart"),
    "one digit": (lambda name: name if ".22." in name else by_table(name), "more than nine blocks"),
    "the stem too": (lambda name: by_table(name.replace("stem.conv1.norm", "bn1")), "comes back as it is"),
    "nothing for the rest": (lambda name: "" if by_table(name) == name else by_table(name), "comes back as it is"),
    "unchanged": (lambda name: name, "compare it with the table"),
}

# The first convolution


def by_index(weight: Tensor, std: Tensor) -> Tensor:
    return weight[:, [2, 1, 0]] * 255 * std.view(1, 3, 1, 1)


def by_loop(weight: Tensor, std: Tensor) -> Tensor:
    return torch.stack([weight[:, 2 - c] * 255 * std[c] for c in range(3)], dim=1)


RIGHT_RGB = {
    "index": by_index,
    "loop": by_loop,
    "einsum": lambda w, s: torch.einsum("ocij,c->ocij", w.flip(1), 255 * s),
}
WRONG_RGB = {
    "blue first": (lambda w, s: w * 255 * s.view(3, 1, 1), "still blue"),
    "outputs turned": (lambda w, s: w.flip(0) * 255 * s.view(3, 1, 1), "still blue"),
    "kernel mirrored": (lambda w, s: w.flip(-1) * 255 * s.view(3, 1, 1), "still blue"),
    "all turned": (lambda w, s: w.flip(0, 1, 2, 3) * 255 * s.view(3, 1, 1), "mirrors the kernel"),
    "scaled first": (lambda w, s: (w * 255 * s.view(3, 1, 1)).flip(1), "turn the weights first"),
    "divided": (lambda w, s: by_index(w, 1 / s), "multiply by std"),
    "without 255": (lambda w, s: by_index(w, s) / 255, "multiply by 255"),
    "by 255": (lambda w, s: by_index(w, s) / 255**2, "must be larger: multiply"),
    "std turned alone": (lambda w, s: w * 255 * s.flip(0).view(3, 1, 1), "still stand blue"),
    "divided by both": (lambda w, s: by_index(w, 1 / (255**2 * s)), "multiply by both"),
    "kernel and colours": (lambda w, s: by_index(w, s).flip(2, 3), "the kernel is mirrored too"),
    "256": (lambda w, s: by_index(w, s) / 255 * 256, "not 256"),
    "along the rows": (lambda w, s: w.flip(1) * 255 * s[None, :, None], "along the rows"),
    "along the outputs": (lambda w, s: w.flip(1) * 255 * s.view(3, 1, 1, 1), "along the outputs"),
    "without std": (lambda w, s: by_index(w, torch.ones_like(s)), "divided by std as well"),
    "turned alone": (lambda w, s: w.flip(1), "left their scale"),
    "along the columns": (lambda w, s: w.flip(1) * 255 * s, "along the columns"),
    "float32": (lambda w, s: by_index(w, s).float(), "keep the type"),
    "detached": (lambda w, s: by_index(w, s).detach(), "no gradient"),
    "in place": (lambda w, s: w.mul_(255).flip(1) * s.view(3, 1, 1), "changed its input"),
    "no broadcast": (lambda w, s: w.flip(1).mean(1, keepdim=True) * 255 * s.view(3, 1, 1), "pencil and paper"),
}


def test_the_converted_convolution_gives_what_the_old_one_gave():
    """BGR 0…255 less the mean there, RGB less the mean over the deviation here: the same outputs in float64."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 9, 8, dtype=torch.float64, generator=generator)
    weight = torch.randn(4, 3, 7, 7, dtype=torch.float64, generator=generator)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], dtype=torch.float64).view(2, 3, 1, 1)
    theirs = F.conv2d(255 * (image - mean).flip(1), weight, stride=2, padding=3)
    ours = F.conv2d((image - mean) / std, by_index(weight, std.flatten()), stride=2, padding=3)
    torch.testing.assert_close(ours, theirs)


# Anchors


def by_loops(sizes: Sequence[float], ratios: Sequence[float], order: str, rounding: bool) -> Tensor:
    pairs = [(s, r) for s in sizes for r in ratios] if order == "size" else [(s, r) for r in ratios for s in sizes]
    if rounding:
        pairs = [(int(s), r) for s, r in pairs]
    boxes = torch.tensor([[-s / r**0.5, -s * r**0.5, s / r**0.5, s * r**0.5] for s, r in pairs]) / 2
    return boxes.round() if rounding else boxes


def by_torchvision(sizes: Sequence[float], ratios: Sequence[float], order: str, rounding: bool) -> Tensor:
    if not rounding:
        return by_loops(sizes, ratios, order, rounding)
    (boxes,) = AnchorGenerator((tuple(map(int, sizes)),), (tuple(ratios),)).cell_anchors
    return boxes if order == "ratio" else boxes.view(len(ratios), len(sizes), 4).transpose(0, 1).reshape(-1, 4)


def stepped(
    cut: Callable[[float], float] = math.trunc,
    side: Callable[[Tensor], Tensor] = lambda x: x,
    corner: Callable[[Tensor], Tensor] = torch.round,
) -> Callable:
    """Rounded anchors with one of the steps done otherwise."""

    def solution(sizes: Sequence[float], ratios: Sequence[float], order: str, rounding: bool) -> Tensor:
        if not rounding:
            return by_loops(sizes, ratios, order, rounding)
        boxes = by_loops([cut(s) for s in sizes], ratios, order, False)
        return corner(side(2 * boxes) / 2)

    return solution


def fixed(order: str | None = None, rounding: bool | None = None) -> Callable:
    return lambda sizes, ratios, o, r: by_loops(sizes, ratios, order or o, r if rounding is None else rounding)


def exchanged(sizes: Sequence[float], ratios: Sequence[float], order: str, rounding: bool) -> Tensor:
    return by_loops(sizes, ratios, "ratio" if order == "size" else "size", rounding)


def reshaped(change: Callable[[Tensor], Tensor]) -> Callable:
    """The right anchors, unrounded, changed, and rounded then."""

    def solution(sizes: Sequence[float], ratios: Sequence[float], order: str, rounding: bool) -> Tensor:
        boxes = change(by_loops([int(s) for s in sizes] if rounding else sizes, ratios, order, False))
        return boxes.round() if rounding else boxes

    return solution


RIGHT_ANCHORS = {"loops": by_loops, "torchvision": by_torchvision}
WRONG_ANCHORS = {
    "order unused": (fixed(order="size"), "order is not used"),
    "ratio always": (fixed(order="ratio"), "sizes are the outer loop"),
    "exchanged": (
        lambda s, r, o, x: by_loops(s, r, {"size": "ratio", "ratio": "size"}[o], x),
        "sizes are the outer loop",
    ),
    "never rounded": (fixed(rounding=False), "rounding is not used"),
    "always rounded": (fixed(rounding=True), "round even where"),
    "sizes kept": (stepped(cut=lambda s: s), "loses its fraction"),
    "sizes rounded": (stepped(cut=round), "cut, not rounded"),
    "corners kept": (stepped(corner=lambda x: x), "the corners are rounded, too"),
    "sides rounded": (stepped(side=torch.round, corner=lambda x: x), "round the corners, not"),
    "both rounded": (stepped(side=torch.round), "round the corners alone"),
    "corners cut": (stepped(corner=torch.trunc), "not cut"),
    "corners down": (stepped(corner=torch.floor), "not down"),
    "width / height": (reshaped(lambda boxes: boxes[:, [1, 0, 3, 2]]), "height / width"),
    "no half": (reshaped(lambda boxes: 2 * boxes), "half a width"),
    "no root": (lambda s, r, o, x: by_loops(s, [v * v for v in r], o, x), "not r²"),
    "begin at 0": (reshaped(lambda boxes: boxes - boxes[:, [0, 1, 0, 1]]), "on both sides of 0"),
    "width and height": (
        reshaped(lambda boxes: torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)),
        "end in width and height",
    ),
    "always cut": (lambda s, r, o, x: by_loops([int(v) for v in s], r, o, x), "keep their fraction"),
    "half up": (stepped(corner=lambda x: (x + 0.5).floor()), "the even neighbour"),
    "half away": (stepped(corner=lambda x: x.sign() * (x.abs() + 0.5).floor()), "the even neighbour"),
    "float64": (lambda *a: by_loops(*a).double(), "float32"),
}

TestConventions = exercise_tests(
    {
        "13-1: 7": (checks.merge, RIGHT_MERGE, WRONG_MERGE),
        "13-2: 9": (checks.our_name, RIGHT_NAME, WRONG_NAME),
        "13-3: 6": (checks.to_rgb, RIGHT_RGB, WRONG_RGB),
        "13-4: 9": (checks.cell_anchors, RIGHT_ANCHORS, WRONG_ANCHORS),
    }
)
