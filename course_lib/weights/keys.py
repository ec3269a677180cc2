"""Translate the names in a peer's state dict into ours, with every key accounted for."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

Rule = tuple[str, str | None]  # a pattern for the whole name, and our name for it; None leaves it out knowingly


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of a file and of a model.

    Attributes:
        used: the file's names and ours.
        ignored: the file's names that a rule leaves out: constants, classifiers of other tasks.
        unknown: the file's names that no rule covers.
        unexpected: the file's names for which this model has no tensor.
        shapes: our tensors with another shape in the file, as "name: (theirs) for (ours)".
        missing: our tensors that the file has no value for.
        kept: our tensors that no such file has, which keep their value: counters, averages.
        fresh: our tensors that start afresh because the classes are others.
    """

    used: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing is missing and nothing is left over."""
        return not (self.unknown or self.unexpected or self.shapes or self.missing)

    def __str__(self) -> str:
        """A line for each kind of key there is, its first names listed."""
        parts = (
            (tuple(self.used.values()), "tensors have their value from the file"),
            (self.ignored, "names in the file are left out by rule"),
            (self.kept, "tensors are in no such file and keep their value"),
            (self.fresh, "tensors start afresh, for other classes"),
            (self.missing, "tensors of the model have no value in the file"),
            (self.shapes, "tensors have another shape in the file"),
            (self.unknown + self.unexpected, "names in the file have no place in the model"),
        )
        lines = [f"{len(names):5d} {what}" + _listed(names) for names, what in parts if names]
        lines[0] = lines[0].partition(":")[0] if self.used else lines[0]
        return "\n".join(lines)


def _listed(names: tuple[str, ...]) -> str:
    return f": {', '.join(names[:8])}" + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def rename(state: Mapping[str, Tensor], rules: Iterable[Rule]) -> dict[str, Tensor]:
    """The state dict under our names.

    Args:
        state: the peer's.
        rules: tried in order, the first whose pattern matches the whole name counts.

    Raises:
        ValueError: naming the keys that no rule covers.
    """
    names, unknown = _translate(state, rules)
    if unknown:
        raise ValueError(_no_place(unknown))
    return {ours: state[theirs] for theirs, ours in names.items() if ours is not None}


def invert(rules: Iterable[Rule]) -> list[Rule]:
    r"""Rules for the way back, from our names to the peer's.

    Args:
        rules: whose patterns are literal text and groups without groups in them, each used once in our name
            (`a\.(\d)\.(.*)` and `b.\1.\2`). Where two give one of our names, the way back is the first's.
    """
    inverted: list[Rule] = []
    for pattern, name in rules:
        if name is None:
            continue
        pieces = re.split(r"\(([^)]*)\)", pattern)  # literal, group, literal, group, …
        groups = dict(enumerate(pieces[1::2], start=1))
        theirs = "".join(
            f"\\{i // 2 + 1}" if i % 2 else re.sub(r"\\(.)", r"\1", piece) for i, piece in enumerate(pieces)
        )
        ours, order = "", []
        for i, piece in enumerate(re.split(r"\\(\d)", name)):
            ours += f"({groups[int(piece)]})" if i % 2 else re.escape(piece)
            order += [int(piece)] if i % 2 else []
        back = {f"\\{group}": f"\\{place}" for place, group in enumerate(order, start=1)}
        inverted.append((ours, re.sub(r"\\\d", lambda m, back=back: back[m.group()], theirs)))
    return inverted


def load_renamed(
    model: nn.Module,
    state: Mapping[str, Tensor],
    rules: Iterable[Rule],
    *,
    partial: bool = False,
    assign: bool = False,
) -> LoadReport:
    """Load a peer's state dict into our model.

    Buffers that the peer does not have keep their value (Detectron2 does not save its loss normaliser, for one).

    Args:
        model: in whose convention the weights are.
        state: the peer's.
        rules: see `rename`.
        partial: load what fits and report the rest; otherwise all of it must fit, and nothing is loaded if not.
        assign: the model takes over the tensors, which nobody else may use from then on, without copying them.

    Raises:
        ValueError: naming keys without a place, parameters without a value, and shapes that differ.
    """
    names, unknown = _translate(state, rules)
    if unknown and not partial:
        raise ValueError(_no_place(unknown))
    used = {theirs: ours for theirs, ours in names.items() if ours is not None}
    given = {ours: state[theirs] for theirs, ours in used.items()}
    own = model.state_dict()
    kept = {name for name, _ in model.named_buffers() if name in own and name not in given and "." not in name}
    kept |= {name for name in own if name.endswith("num_batches_tracked") and name not in given}
    missing = sorted(set(own) - set(given) - kept)
    odd = {name for name, value in given.items() if name in own and value.shape != own[name].shape}
    shapes = [f"{k}: {tuple(given[k].shape)} for {tuple(own[k].shape)}" for k in given if k in odd]
    unexpected = sorted(set(given) - set(own))
    if not partial:
        for what, found in (("no value for", missing), ("no place for", unexpected), ("another shape for", shapes)):
            if found:
                raise ValueError(
                    f"these weights have {what} {len(found)} of the model's tensors: {', '.join(found[:8])}"
                )
    fitting = {k: v.to(own[k].dtype) for k, v in given.items() if k in own and k not in odd}
    model.load_state_dict(fitting, strict=False, assign=assign)
    return LoadReport(
        used={theirs: ours for theirs, ours in used.items() if ours in fitting},
        ignored=tuple(theirs for theirs, ours in names.items() if ours is None),
        unknown=tuple(unknown),
        unexpected=tuple(theirs for theirs, ours in used.items() if ours not in own),
        shapes=tuple(shapes),
        missing=tuple(missing),
        kept=tuple(sorted(kept)),
    )


def _translate(state: Iterable[str], rules: Iterable[Rule]) -> tuple[dict[str, str | None], list[str]]:
    """Our name for each of the peer's that a rule covers, and the others."""
    compiled = [(re.compile(pattern), name) for pattern, name in rules]
    names: dict[str, str | None] = {}
    unknown = []
    for key in state:
        for pattern, name in compiled:
            if match := pattern.fullmatch(key):
                names[key] = name if name is None else _fill(name, match)
                break
        else:
            unknown.append(key)
    return names, unknown


def _fill(name: str, match: re.Match) -> str:
    r"""The name with the groups \1, \2 … in place; `Match.expand` would parse it anew for every key."""
    return re.sub(r"\\(\d)", lambda number: match[int(number[1])], name)


def _no_place(unknown: list[str]) -> str:
    return f"{len(unknown)} keys that this model has no place for: {', '.join(sorted(unknown)[:8])}"
