"""What other programs answered, recorded, for lessons to compare with where the program itself is not installed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from course_lib.panoptic.fusion import FusionSpec

PEERS = Path(__file__).resolve().parents[2] / "data" / "peers"


@dataclass(frozen=True)
class RecordedFusion:
    """One panoptic fusion by Detectron2 02b5c4e2, of a small network with random weights.

    Attributes:
        masks: (100, 320, 406) bool, with `scores` and `labels` (100,), best first.
        semantic: (320, 406) int64 classes; 0 is "a thing".
        spec: its thresholds.
        panoptic: (320, 406) int32, the result.
        segments: rows of id, isthing, class, and the instance's row or −1, (S, 4).
    """

    masks: Tensor
    scores: Tensor
    labels: Tensor
    semantic: Tensor
    spec: FusionSpec
    panoptic: Tensor
    segments: Tensor


def detectron2_fusion(folder: Path = PEERS) -> RecordedFusion:
    """The recorded fusion. Raises FileNotFoundError if it is not in `folder`."""
    with np.load(folder / "detectron2_fusion.npz") as file:
        data = {name: file[name] for name in file.files}
    width = data["semantic"].shape[1]
    masks = np.unpackbits(data["masks"], axis=-1, count=width).astype(bool)
    score, overlap, stuff_area = data["spec"].tolist()
    return RecordedFusion(
        torch.from_numpy(masks),
        torch.from_numpy(data["scores"]),
        torch.from_numpy(data["labels"]).long(),
        torch.from_numpy(data["semantic"]).long(),
        FusionSpec(score=score, overlap=overlap, stuff_area=int(stuff_area)),
        torch.from_numpy(data["panoptic"]).int(),
        torch.from_numpy(data["segments"]).long(),
    )
