"""Detectron2's checkpoint files: the zoo's pickles, Caffe2's, and its trainer's `.pth`."""

import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.detectors.presets import Preset
from course_lib.weights.detectron2.caffe2 import from_caffe2
from course_lib.weights.detectron2.names import rules_back
from course_lib.weights.files import write_beside
from course_lib.weights.keys import rename
from course_lib.weights.unpickle import read_pickle

AUTHOR = "course_lib"


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file, which belong to whoever takes them.

    Attributes:
        state: by Detectron2's names.
        author: what the file says of its origin.
        by_suffix: names may lack the model's first parts ("res2.0.conv1.weight" of a backbone), see `complete_names`.
    """

    state: dict[str, Tensor]
    author: str
    by_suffix: bool


def read_checkpoint(path: Path) -> Checkpoint:
    """The weights in a Detectron2 checkpoint.

    Args:
        path: a `.pkl` of the zoo ({"model": {name: array}, "__author__": …}, perhaps with "matching_heuristics"), a
            `.pkl` of Caffe2's Detectron or of a backbone (a dict of arrays, perhaps under "blobs"), or a `.pth` that
            torch.save wrote ({"model": state dict, …} or a state dict).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, holds something else, or would run a program; nothing of it is run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    with path.open("rb") as file:
        start = file.read(2)
    data = read_pickle(path) if path.suffix == ".pkl" and start != b"PK" else read_torch(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a dict of tensors, found {type(data).__name__}")
    if path.suffix != ".pkl":
        return Checkpoint(_tensors(path, data.get("model", data)), str(data.get("__author__", "")), False)
    if "model" in data and "__author__" in data:
        by_suffix = bool(data.get("matching_heuristics", False))
        return Checkpoint(_tensors(path, data["model"]), str(data["__author__"]), by_suffix)
    blobs = data.get("blobs", data)
    if not isinstance(blobs, dict):
        raise ValueError(f"{path}: its blobs are a {type(blobs).__name__}, expected a dict of arrays")
    arrays = {name: value for name, value in blobs.items() if not str(name).endswith("_momentum")}
    return Checkpoint(from_caffe2(_tensors(path, arrays)), "Caffe2", True)


def read_torch(path: Path) -> Any:
    """What torch.save wrote, if it is of tensors and plain values alone.

    Raises:
        ValueError: if the file is damaged or asks for anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
        raise ValueError(
            f"{path}: refused, since it holds more than tensors and loading it would run a program "
            f"({' '.join(reason.split())[:160]})"
        ) from None
    except Exception as error:  # a damaged archive raises whatever its reader meets
        raise ValueError(
            f"{path}: not a readable PyTorch file ({' '.join(str(error).split())[:160]}); half a download?"
        ) from None


def write_checkpoint(path: Path, model: nn.Module, preset: Preset) -> None:
    """Write a model as a file that Detectron2's checkpointer loads into the model of `write_config`'s YAML.

    Args:
        path: the target; `.pkl` is written as the zoo's files are, anything else by torch.save.
        model: which `preset` built.
        preset: in Detectron2's conventions.

    Raises:
        ValueError: if Detectron2 has no such model.
        OSError: if the file cannot be written; what was there before is untouched.
    """
    path = Path(path)
    state = {k: v.detach().cpu().contiguous() for k, v in rename(model.state_dict(), rules_back(preset)).items()}
    if path.suffix == ".pkl":
        data = {"model": {name: value.numpy() for name, value in state.items()}, "__author__": AUTHOR}
        write_beside(path, lambda temporary: temporary.write_bytes(pickle.dumps(data, protocol=4)))
    else:
        write_beside(path, lambda temporary: torch.save({"model": state, "__author__": AUTHOR}, temporary))


def complete_names(state: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """The state dict with each name completed to the model's name that ends with it, the longest where several do.

    A name that no name of the model ends with stays as it is.

    Args:
        state: of the file.
        names: of the whole model, Detectron2's.

    Raises:
        ValueError: if a name of the file would serve for two of the model's.
    """
    completed: dict[str, str] = {}
    for name in names:
        parts = name.split(".")
        for start in range(len(parts)):  # the longest suffix first
            suffix = ".".join(parts[start:])
            if suffix in state:
                if suffix in completed:
                    raise ValueError(f"{suffix} in the file could be {completed[suffix]} or {name}")
                completed[suffix] = name
                break
    return {completed.get(name, name): value for name, value in state.items()}


def _tensors(path: Path, state: Any) -> dict[str, Tensor]:
    """Tensors that own their memory. Raises ValueError for what is no dict of tensors or arrays by name."""
    if not isinstance(state, dict) or not state:
        raise ValueError(f"{path}: expected tensors by name, found {type(state).__name__} of {len(state or ())}")
    tensors, owners = {}, set()
    for name, value in state.items():
        if isinstance(value, np.ndarray | np.generic):
            value = np.require(value, value.dtype.newbyteorder("="), ["C", "W"])
            value = torch.from_numpy(value)
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{path}: {name!r:.60} is {type(value).__name__}, expected a tensor with a name")
        value = value.detach()
        shared = value.data_ptr() in owners or value.untyped_storage().nbytes() != value.nbytes
        tensors[name] = value.clone(memory_format=torch.contiguous_format) if shared else value.contiguous()
        owners.add(value.data_ptr())
    prefix = "module."  # of a model that several processes trained
    if all(name.startswith(prefix) for name in tensors):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors
