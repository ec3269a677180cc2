"""A trained detector as one file: its weights, what it is made of, and what its labels mean."""

from pathlib import Path

import torch
from torch import nn

from course_lib.datasets.label_map import LabelMap
from course_lib.detectors.presets import preset_from_dict
from course_lib.engine import checkpoint


def load_model(path: Path) -> tuple[nn.Module, LabelMap, dict]:
    """The detector in a run folder or a `weights.safetensors`, in evaluation mode.

    Args:
        path: the run folder or the file.

    Returns:
        the model, its label map, and the file's header (preset, budget, seed).

    Raises:
        FileNotFoundError: if there is none; says so if the run has not ended yet.
        ValueError: if the file is not of this course, or does not fit the preset that it names.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / checkpoint.WEIGHTS).exists() and (path / checkpoint.CONFIG).exists():
            raise FileNotFoundError(
                f"{path}: this run has not ended; go on with `course train … --out {path} --resume`"
            )
        path = path / checkpoint.WEIGHTS
    weights, header = checkpoint.load_tensors(path)
    if missing := {"label_map", "preset"} - set(header):
        raise ValueError(
            f"{path}: its header has no {' and no '.join(sorted(missing))}; expected a run's {checkpoint.WEIGHTS}"
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
