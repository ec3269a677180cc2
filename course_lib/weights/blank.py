"""Build a model whose weights come from a file, without drawing random ones first."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_DRAWS = {Tensor.normal_, Tensor.uniform_}


class without_initialisation(TorchFunctionMode):
    """A context in which layers leave their weights as the memory has them.

    Drawing 44 million numbers takes several times as long as reading them. Every parameter must get its value from
    elsewhere; buffers are as ever.

    Args:
        memory: with False, weights are given none. That is for a model that takes over the tensors of a file: it would
            ask for as much memory as they fill, and then give it back.
    """

    def __init__(self, *, memory: bool = True):
        super().__init__()
        self.memory = memory

    def __torch_function__(self, func: Callable, types: Iterable, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Call a function of torch's, unless it fills a tensor with initial values."""
        if func in _DRAWS or getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        kwargs = kwargs or {}
        if func is torch.empty and not self.memory:
            kwargs = kwargs | {"device": "meta"}
        return func(*args, **kwargs)
