"""A trained detector, from its run folder or from its file."""

from pathlib import Path

from torch import nn

from course_lib.datasets.label_map import LabelMap
from course_lib.engine import checkpoint
from course_lib.weights.files import load_detector


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
    return load_detector(path)
