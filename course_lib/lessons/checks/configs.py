"""Checks of lesson 13's first half: configs merged, names translated."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from course_lib.lessons.checks.base import Exercise

# ---- 13-1 ---------------------------------------------------------------------------------------------------------


def merge(function: Callable[[dict, dict], dict]) -> None:
    """Exercise 13-1: `merge(base, child)`, sections in sections → the base's settings, with the child's over them.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("13-1", function, reference=_merge, mistakes=_MERGE_MISTAKES)
    base = {"MODEL": {"RESNETS": {"DEPTH": 50, "NORM": "FrozenBN"}, "MASK_ON": False}, "SEED": 1}
    deeper = {"MODEL": {"RESNETS": {"DEPTH": 101, "NORM": "FrozenBN"}, "MASK_ON": False}, "SEED": 2}
    child = {"MODEL": {"RESNETS": {"DEPTH": 101}}, "SEED": 2}
    check.plain("a setting three sections deep", base, child, expected=deeper)
    solver = {"SOLVER": {"STEPS": [60, 80], "BASE_LR": 0.02}}
    longer = {"SOLVER": {"STEPS": [210, 250]}, "TEST": {"AUG": {"ENABLED": True}}}
    both = {"SOLVER": {"STEPS": [210, 250], "BASE_LR": 0.02}, "TEST": {"AUG": {"ENABLED": True}}}
    check.plain("a list, and a section that is new", solver, longer, expected=both)
    on = {"MODEL": {"MASK_ON": True, "NORM": "GN", "FREEZE_AT": 2, "IN_FEATURES": ["res4"]}}
    off = {"MODEL": {"MASK_ON": False, "NORM": "", "FREEZE_AT": 0, "IN_FEATURES": []}}
    check.plain("switched off", on, off, expected=off)
    kinds = "merge where both have a section; in all other cases the child's value stands"
    check.plain("a section over a number", {"A": 5, "B": 1}, {"A": {"C": 2}}, hint=kinds)
    check.plain("a number over a section", {"A": {"C": 2}, "B": 1}, {"A": 5}, hint=kinds)
    check.plain("an empty child", base, {}, hint="a child without settings is its base")
    check.plain("an empty base", {}, base, hint="a base without settings adds nothing")
    check.done()


def _wins(old: Any, new: Any) -> Any:
    return new


def _merging(
    *,
    wins: Callable[[Any, Any], Any] = _wins,
    sections: int = 99,
    names: Callable[[dict, dict], Iterable[str]] = lambda base, child: base | child,
) -> Callable[[dict, dict], dict]:
    """A solution whose `names` are kept, whose first `sections` are merged, and whose other values `wins` chooses."""

    def merge(base: dict, child: dict, depth: int = 0) -> dict:
        merged = {}
        for name in names(base, child):
            old, new = base.get(name), child.get(name)
            if name not in child or name not in base:
                merged[name] = old if name in base else new
            elif isinstance(old, dict) and isinstance(new, dict) and depth < sections:
                merged[name] = merge(old, new, depth + 1)
            else:
                merged[name] = wins(old, new)
        return merged

    return lambda base, child: merge(base, child)


_merge = _merging()


def _joined(old: Any, new: Any) -> Any:
    return old + new if isinstance(old, list) else new


def _not_kept(base: dict, child: dict) -> dict:
    """What the call for a section gives back is not stored."""
    return base | {k: v for k, v in child.items() if not (isinstance(v, dict) and isinstance(base.get(k), dict))}


def _too_early(base: dict, child: dict) -> dict:
    """The first section is given back instead of being stored."""
    for name, value in child.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            return _too_early(base[name], value)
        base = base | {name: value}
    return base


_MERGE_MISTAKES = {
    "the child's section took the place of the whole one; what it does not mention stays as the base has it": (
        _merging(sections=0)
    ),
    "you merged sections, and not the sections in them: merge calls itself for those": _merging(sections=1),
    'False, 0, "" and [] are values too: ask whether the key is there, not whether its value is true': (
        _merging(wins=lambda old, new: new or old)
    ),
    "where both have a value the child's counts": _merging(wins=lambda old, new: old),
    "what the child does not mention stays as the base has it": _merging(names=lambda base, child: child),
    "the child may have keys that the base does not have": _merging(names=lambda base, child: base),
    "merge gives back a new dict: store what it gives for a section under the section's name": _not_kept,
    "only a section came back: store it under its name, and return after the loop": _too_early,
    "a list is a value: the child's replaces the base's, they are not joined": _merging(wins=_joined),
}

# ---- 13-2 ---------------------------------------------------------------------------------------------------------

_ELSEWHERE = "a name that is in no row of the table comes back as it is"
_BLOCK = re.compile(r"backbone\.bottom_up\.res(\d)\.(\d+)\.(conv(\d)|shortcut)(\.norm)?\.(\w+)")
_TOWER = re.compile(r"head\.(cls|bbox)_subnet\.(\d+)\.(\w+)")


def our_name(function: Callable[[str], str]) -> None:
    """Exercise 13-2: `our_name(name)`, Detectron2's name of a tensor → ours, for residual blocks and towers.

    Raises CheckFailed at the first wrong answer.
    """
    check = Exercise("13-2", function, reference=_our_name, mistakes=_NAME_MISTAKES)
    by_hand = {
        "backbone.bottom_up.res2.0.conv1.weight": "backbone.layer1.0.conv1.weight",
        "backbone.bottom_up.res4.5.conv3.norm.running_var": "backbone.layer3.5.bn3.running_var",
        "backbone.bottom_up.res3.0.shortcut.weight": "backbone.layer2.0.downsample.0.weight",
        "backbone.bottom_up.res5.0.shortcut.norm.bias": "backbone.layer4.0.downsample.1.bias",
        "head.cls_subnet.0.weight": "class_head.convs.0.weight",
        "head.bbox_subnet.6.bias": "box_head.convs.3.bias",
        "head.cls_score.weight": "head.cls_score.weight",
        "backbone.bottom_up.stem.conv1.norm.weight": "backbone.bottom_up.stem.conv1.norm.weight",
        "backbone.bottom_up.res4.22.conv2.weight": "backbone.layer3.22.conv2.weight",  # ResNet-101 has so many
    }
    for name, expected in by_hand.items():
        check.plain(name, name, expected=expected, hint=_ELSEWHERE if name == expected else "compare it with the table")
    check.done()


def _naming(
    *,
    block: Callable[[int, str, str | None, str | None], str] = lambda stage, i, conv, norm: (
        f"backbone.layer{stage - 1}.{i}." + _part(conv, norm)
    ),
    tower: Callable[[str, int], str] = lambda kind, place: (
        f"{'class' if kind == 'cls' else 'box'}_head.convs.{place // 2}"
    ),
    rest: Callable[[str], str] = lambda name: name,
) -> Callable[[str], str]:
    """A solution with one of its three cases replaced. A block has a stage, a number, and a convolution or None."""

    def name_of(name: str) -> str:
        if match := _BLOCK.fullmatch(name):
            stage, i, _, conv, norm, tail = match.groups()
            return f"{block(int(stage), i, conv, norm)}.{tail}"
        if match := _TOWER.fullmatch(name):
            kind, place, tail = match.groups()
            return f"{tower(kind, int(place))}.{tail}"
        return rest(name)

    return name_of


def _part(conv: str | None, norm: str | None, *, places: str = "01") -> str:
    """Our name of a block's convolution, or of its shortcut if that is None, or of the norm behind it."""
    if conv is None:
        return f"downsample.{places[1] if norm else places[0]}"
    return f"bn{conv}" if norm else f"conv{conv}"


_our_name = _naming()


def _of_one_digit(name: str) -> str:
    return name if re.search(r"\.\d\d\.", name) else _our_name(name)


_NAME_MISTAKES = {
    "Detectron2 counts stages as the maps are named, C2 to C5; here the first is layer1: take one off": (
        _naming(block=lambda stage, i, conv, norm: f"backbone.layer{stage}.{i}." + _part(conv, norm))
    ),
    "bottom_up has no counterpart: the name begins with backbone.layer": (
        _naming(block=lambda stage, i, conv, norm: f"backbone.bottom_up.layer{stage - 1}.{i}." + _part(conv, norm))
    ),
    "stages are called layer here": (
        _naming(block=lambda stage, i, conv, norm: f"backbone.res{stage}.{i}." + _part(conv, norm))
    ),
    "the norm behind conv3 is bn3 here, beside the convolution, not in it": (
        _naming(
            block=lambda stage, i, conv, norm: (
                f"backbone.layer{stage - 1}.{i}." + (f"conv{conv}.norm" if conv and norm else _part(conv, norm))
            )
        )
    ),
    "each convolution has a norm of its own: bn1, bn2, bn3": (
        _naming(
            block=lambda stage, i, conv, norm: (
                f"backbone.layer{stage - 1}.{i}." + ("bn" if conv and norm else _part(conv, norm))
            )
        )
    ),
    "the shortcut's norm comes after its convolution: downsample.1": (
        _naming(block=lambda stage, i, conv, norm: f"backbone.layer{stage - 1}.{i}." + _part(conv, norm, places="00"))
    ),
    "the shortcut's convolution is downsample.0, its norm downsample.1": (
        _naming(block=lambda stage, i, conv, norm: f"backbone.layer{stage - 1}.{i}." + _part(conv, norm, places="10"))
    ),
    "the shortcut is called downsample here, and its parts have numbers": (
        _naming(
            block=lambda stage, i, conv, norm: (
                f"backbone.layer{stage - 1}.{i}."
                + (_part(conv, norm) if conv else "downsample.norm" if norm else "downsample")
            )
        )
    ),
    "the word norm goes, since bn3 and downsample.1 say it": (
        _naming(
            block=lambda stage, i, conv, norm: (
                f"backbone.layer{stage - 1}.{i}." + _part(conv, norm) + (".norm" if norm else "")
            )
        )
    ),
    "only stages are counted otherwise; a block keeps its number": (
        _naming(block=lambda stage, i, conv, norm: f"backbone.layer{stage - 1}.{int(i) - 1}." + _part(conv, norm))
    ),
    "layers are counted from 1: res2 is layer1": (
        _naming(block=lambda stage, i, conv, norm: f"backbone.layer{stage - 2}.{i}." + _part(conv, norm))
    ),
    "the two subnets have rows in the table, too": _naming(tower=lambda kind, place: f"head.{kind}_subnet.{place}"),
    "head has no counterpart: the name begins with class_head or box_head": (
        _naming(tower=lambda kind, place: f"head.{'class' if kind == 'cls' else 'box'}_head.convs.{place // 2}")
    ),
    "between two convolutions of a subnet lies a ReLU, which counts there and not here: halve the number": (
        _naming(tower=lambda kind, place: f"{'class' if kind == 'cls' else 'box'}_head.convs.{place}")
    ),
    "cls is our class_head, bbox our box_head": (_naming(tower=lambda kind, place: f"{kind}_head.convs.{place // 2}")),
    "a stage may have more than nine blocks: \\d+ matches several digits": _of_one_digit,
    _ELSEWHERE: _naming(rest=lambda name: ""),
}
