"""Build a model whose weights come from a file, without drawing random ones first."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_DRAWS = {Tensor.normal_, Tensor.uniform_}


class without_initialisation(TorchFunctionMode):
    """A context in which layers leave their weights as the memory has them.

    Drawing 44 million numbers takes several times as long as reading them. Every parameter must get its value from
    elsewhere; buffers are as ever.
    """

    def __torch_function__(self, func: Callable, types: Iterable, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Call a function of torch's, unless it fills a tensor with initial values."""
        if func in _DRAWS or getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
