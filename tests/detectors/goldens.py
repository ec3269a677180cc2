"""Numbers that Detectron2 computed (data/peers/README.md), and presets as narrow as the networks they came from."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from course_lib.detectors.presets import Preset

GOLDENS = Path(__file__).parents[2] / "data" / "peers" / "detectron2"
ROUNDING = 4e-6  # of the largest value: each kind of processor sums in its own order


class Golden:
    """One file: `golden["name"]` is a tensor, `golden.config` what is in the JSON."""

    def __init__(self, name: str, folder: Path = GOLDENS):
        with np.load(folder / f"{name}.npz") as file:
            self.tensors = {key: torch.from_numpy(file[key]) for key in file.files}
        self.config = json.loads((folder / f"{name}.config.json").read_text())

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    @property
    def weights(self) -> dict[str, Tensor]:
        """The state dict under Detectron2's names."""
        return {k.removeprefix("weights/"): v for k, v in self.tensors.items() if k.startswith("weights/")}

    @property
    def image(self) -> Tensor:
        """The picture (3, 160, 203) as our models are given it, in RGB."""
        return self["input/image_bgr"].flip(0)

    @property
    def targets(self) -> list[dict[str, Tensor]]:
        """The objects of the training step."""
        return [{"boxes": self["gt/boxes"], "labels": self["gt/classes"]}]

    @property
    def output_size(self) -> tuple[int, int]:
        """(height, width) that the detections are given at."""
        return tuple(self.config["output_size"])

    def narrow(self, preset: Preset) -> Preset:
        """The preset at a sixteenth of its width, for a picture that is not resized."""
        mean, std = self.config["pixel_mean_std"]
        return replace(
            preset,
            backbone=replace(preset.backbone, stem_width=8, widths=(4, 8, 16, 32)),
            channels=16,
            input=replace(preset.input, mean=tuple(mean), std=tuple(std), resize="none"),
        )


def close(found: Tensor, wanted: Tensor, relative: float) -> None:
    """Whether no value is further off than this part of the largest."""
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= relative * wanted.abs().max()
