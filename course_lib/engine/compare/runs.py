"""A finished run of a comparison, whosever model it is."""

from pathlib import Path

from torch import nn

from course_lib.engine import checkpoint
from course_lib.engine.compare.detectron2 import YAML, load_detectron2
from course_lib.engine.model_files import load_model


def open_run(run: Path) -> tuple[nn.Module, dict]:
    """The detector in a run folder, in evaluation mode, and its header, which for Detectron2's has "detectron2".

    Raises:
        FileNotFoundError: if the run has not ended.
        ValueError: if its files are damaged, or it needs Detectron2 and that is not there.
    """
    if (run / YAML).exists():
        header = checkpoint.load_tensors(run / checkpoint.WEIGHTS)[1]
        return load_detectron2(run, header), header
    model, _, header = load_model(run)
    return model, header
