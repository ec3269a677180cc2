"""Files that survive a crash: safetensors with a JSON header, written beside the target and then renamed.

A detector's file holds its weights, what it is made of, and what its labels mean. No pickle is read or written.
"""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from course_lib.datasets.label_map import LabelMap
from course_lib.detectors.presets import preset_from_dict


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never half of either.

    Raises:
        OSError: with the path and the cause (disk full, read-only); the old file is untouched.
    """
    write_beside(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict) -> None:
    """Write named tensors and a JSON header as one safetensors file, atomically.

    Args:
        path: the target; its folder exists.
        tensors: any shapes and dtypes; copied to dense CPU memory.
        header: whatever JSON can hold.

    Raises:
        OSError: with the path and the cause (disk full, read-only); the old file is untouched.
    """
    dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_beside(path, lambda temporary: save_file(dense, temporary, metadata={"course": json.dumps(header)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors and the header that `save_tensors` wrote, also while another process replaces the file.

    The file is opened once: safetensors' own `safe_open` opens it twice, and a training that saves in between gives
    it the old file's header and the new file's bytes.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a file (a pickle, a half download, another program's weights).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        data = path.read_bytes()
        tensors = load(data)
    except SafetensorError as error:
        raise ValueError(f"{path}: {_what_it_is(path)} ({error}); expected a safetensors file of this course") from None
    length = int.from_bytes(data[:8], "little")  # the format: eight bytes of length, a JSON header, the tensors
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    if "course" not in metadata:
        raise ValueError(
            f"{path}: a safetensors file without this course's header; expected one that `course train` wrote"
        )
    return tensors, json.loads(metadata["course"])


def load_detector(path: Path) -> tuple[nn.Module, LabelMap, dict]:
    """The detector in a file, in evaluation mode.

    Args:
        path: a safetensors file of this course.

    Returns:
        the model, its label map, and the file's header (preset, budget, seed).

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file is not of this course, or does not fit the preset that it names.
    """
    path = Path(path)
    weights, header = load_tensors(path)
    if missing := {"label_map", "preset"} - set(header):
        raise ValueError(
            f"{path}: its header has no {' and no '.join(sorted(missing))}; expected a trained detector's file"
        )
    if "detectron2" in header:
        raise ValueError(
            f"{path}: a run of Detectron2's; `course weights import {path.parent / 'model_final.pth'} --config "
            f"{path.parent / 'config.yaml'} --out FILE` makes a file of this course of its weights"
        )
    label_map = LabelMap.from_dict(header["label_map"])
    model = preset_from_dict(header["preset"]).build(len(label_map.names))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path}: the weights do not fit the model that the file describes: {error}") from None
    if bad := [name for name, value in weights.items() if not torch.isfinite(value).all()]:
        raise ValueError(f"{path}: {len(bad)} tensors hold NaN or infinity, the first is {bad[0]}")
    return model.eval(), label_map, header


def _what_it_is(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK" or start[:1] == b"\x80":
        return "a pickle or PyTorch archive, refused because loading one can run any program"
    return "not a readable safetensors file"


def write_beside(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write a file beside the target, then rename it: a reader sees the old one or the new one.

    Raises:
        OSError: with the path and the cause (disk full, read-only); the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise OSError(f"cannot write {path}: {error}. What was there before is untouched") from error
    finally:
        with contextlib.suppress(OSError):  # on a read-only disk it cannot be removed, nor is it there
            temporary.unlink(missing_ok=True)
