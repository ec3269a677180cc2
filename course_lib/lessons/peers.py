"""What other programs answered, recorded, for lessons to compare with where the program itself is not installed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


@dataclass(frozen=True)
class RecordedDetector:
    """A small network with random weights, and what Detectron2 02b5c4e2 found with it in one picture.

    Attributes:
        weights: its tensors by Detectron2's names.
        image: (3, 160, 203) uint8, RGB; the network saw it at this size.
        output_size: (height, width) of the picture in whose pixels the boxes are, (320, 406).
        boxes, scores, labels: the detections (N, 4), (N,), (N,), best first.
    """

    weights: dict[str, Tensor]
    image: Tensor
    output_size: tuple[int, int]
    boxes: Tensor
    scores: Tensor
    labels: Tensor

    @torch.inference_mode()
    def shown_to(self, model: nn.Module) -> dict[str, Tensor]:
        """What a detector of ours finds in the picture, in the pixels of `output_size`."""
        return model.eval()([self.image], output_sizes=[self.output_size])[0]

    def apart(self, found: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """How far each recorded detection is from the nearest found one of its class.

        Args:
            found: `boxes` (M, 4), `scores` (M,), `labels` (M,); M may be 0.

        Returns:
            by how many pixels its farthest edge is off (N,), infinity where its class was not found; and the difference
            of the scores (N,).
        """
        gaps = (self.boxes[:, None] - found["boxes"]).abs().amax(-1)  # (N, M)
        gaps = gaps.masked_fill(self.labels[:, None] != found["labels"], torch.inf)
        far, nearest = F.pad(gaps, (0, 1), value=torch.inf).min(1)
        return far, (self.scores - F.pad(found["scores"], (0, 1))[nearest]).abs()


def detectron2_detector(name: str, folder: Path = PEERS / "detectron2") -> RecordedDetector:
    """A recorded detector: "retinanet" or "faster_rcnn". Raises FileNotFoundError if it is not in `folder`."""
    with np.load(folder / f"{name}.npz") as file:
        wanted = ("weights/", "input/", "output/")
        data = {key: torch.from_numpy(file[key]) for key in file.files if key.startswith(wanted)}
    config = json.loads((folder / f"{name}.config.json").read_text(encoding="utf-8"))
    return RecordedDetector(
        {key.removeprefix("weights/"): value for key, value in data.items() if key.startswith("weights/")},
        data["input/image_bgr"].flip(0),
        tuple(config["output_size"]),
        data["output/boxes"],
        data["output/scores"],
        data["output/classes"],
    )
