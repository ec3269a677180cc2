"""What other programs answered, recorded, for lessons to compare with where the program itself is not installed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class RecordedQuality:
    """Panoptic quality of one small image of rectangles, by panopticapi 7bb46555.

    Attributes:
        categories: with `id` and `isthing`.
        truth_ids, found_ids: (H, W) int32 maps of ids; 0 is void.
        truth, found: their segments, as `PanopticQuality.add` takes them.
        expected: of "all", "things" and "stuff": PQ, SQ, RQ.
    """

    categories: list[dict[str, Any]]
    truth_ids: np.ndarray
    truth: list[dict[str, Any]]
    found_ids: np.ndarray
    found: list[dict[str, Any]]
    expected: dict[str, list[float]]


def panopticapi_quality(folder: Path = PEERS) -> dict[str, RecordedQuality]:
    """The recorded images by name. Raises FileNotFoundError if they are not in `folder`."""
    record = json.loads((folder / "panopticapi_quality.json").read_text(encoding="utf-8"))
    return {
        name: RecordedQuality(
            image["categories"],
            *_painted(image["size"], image["truth"]),
            *_painted(image["size"], image["found"]),
            image["expected"],
        )
        for name, image in record["images"].items()
    }


def _painted(size: list[int], segments: list[dict]) -> tuple[np.ndarray, list[dict]]:
    """A map (H, W) of segments, each some rectangles x, y, width, height, the later ones on top; and the list of them.

    One of id 0 is void, and not in the list.
    """
    ids = np.zeros(size, dtype=np.int32)
    for segment in segments:
        for x, y, width, height in segment["rectangles"]:
            ids[y : y + height, x : x + width] = segment["id"]
    fields = ("id", "category_id", "iscrowd")
    listed = [s for s in segments if s["id"]]
    return ids, [{k: s[k] for k in fields} | {"area": int((ids == s["id"]).sum())} for s in listed]
