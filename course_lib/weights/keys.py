"""Translate the names in a peer's state dict into ours, with every key accounted for."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

Rule = tuple[str, str | None]  # a pattern for the whole name, and our name for it; None leaves it out knowingly


def rename(state: Mapping[str, Tensor], rules: Iterable[Rule]) -> dict[str, Tensor]:
    """The state dict under our names.

    Args:
        state: the peer's.
        rules: tried in order, the first whose pattern matches the whole name counts.

    Raises:
        ValueError: naming the keys that no rule covers.
    """
    compiled = [(re.compile(pattern), name) for pattern, name in rules]
    renamed, unknown = {}, []
    for key, value in state.items():
        for pattern, name in compiled:
            if match := pattern.fullmatch(key):
                if name is not None:
                    renamed[match.expand(name)] = value
                break
        else:
            unknown.append(key)
    if unknown:
        raise ValueError(f"{len(unknown)} keys that this model has no place for: {', '.join(sorted(unknown)[:8])}")
    return renamed


def load_renamed(model: nn.Module, state: Mapping[str, Tensor], rules: Iterable[Rule]) -> None:
    """Load a peer's state dict into our model, strictly.

    Buffers that the peer does not have keep their value (Detectron2 does not save its loss normaliser, for one).

    Raises:
        ValueError: naming keys without a place, parameters without a value, and shapes that differ.
    """
    renamed = rename(state, rules)
    own = model.state_dict()
    optional = {name for name, _ in model.named_buffers() if name not in renamed and "." not in name}
    missing = sorted(set(own) - set(renamed) - optional - {n for n in own if n.endswith("num_batches_tracked")})
    shapes = [
        f"{k}: {tuple(v.shape)} for {tuple(own[k].shape)}"
        for k, v in renamed.items()
        if k in own and v.shape != own[k].shape
    ]
    unexpected = sorted(set(renamed) - set(own))
    for what, names in (("no value for", missing), ("no place for", unexpected), ("another shape for", shapes)):
        if names:
            raise ValueError(f"these weights have {what} {len(names)} of the model's tensors: {', '.join(names[:8])}")
    model.load_state_dict(renamed, strict=False)
