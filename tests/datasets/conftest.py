"""A small sound COCO folder with every kind of mask, which tests then damage in one place."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils

CATEGORIES = [{"id": 7, "name": "bar", "isthing": 1}, {"id": 3, "name": "dot", "isthing": 1}]


def encode(mask: np.ndarray) -> dict:
    rle = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(v) for v in rle["size"]], "counts": rle["counts"].decode()}


class DataFolder:
    """FOLDER in the documented layout: `data[split]` and `panoptic[split]` are the JSONs; `save` writes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        disc = np.zeros((10, 20), dtype=bool)
        disc[2:6, 4:9] = True
        annotations = [
            {"bbox": [4, 2, 5, 4], "category_id": 3, "segmentation": encode(disc), "area": 20, "iscrowd": 0},
            {"bbox": [10, 1, 8, 6], "category_id": 7, "segmentation": [[10, 1, 18, 1, 18, 7, 10, 7]], "area": 48},
            # column 0 whole, nothing else: ten ones after zero zeros
            {
                "bbox": [0, 0, 1, 10],
                "category_id": 3,
                "iscrowd": 1,
                "segmentation": {"size": [10, 20], "counts": [0, 10, 190]},
            },
        ]
        self.data = {
            split: {
                "images": [
                    {"id": 5, "file_name": f"{split}_wide.png", "width": 20, "height": 10},
                    {"id": 2, "file_name": f"{split}_empty.png", "width": 6, "height": 8},
                ],
                "categories": copy.deepcopy(CATEGORIES),
                "annotations": [copy.deepcopy(a) | {"id": 11 + i, "image_id": 5} for i, a in enumerate(annotations)],
            }
            for split in ("train", "val")
        }
        self.panoptic: dict[str, dict] = {}
        (path / "images").mkdir(parents=True)
        (path / "annotations").mkdir()
        for seed, (split, data) in enumerate(self.data.items()):
            rng = np.random.default_rng(seed)
            for image in data["images"]:
                pixels = rng.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path / "images" / f"{image['file_name']}")
            self.save(split)

    def json(self, split: str = "train") -> Path:
        return self.path / "annotations" / f"instances_{split}.json"

    def image(self, name: str) -> Path:
        return self.path / "images" / name

    def save(self, split: str = "train") -> None:
        self.json(split).write_text(json.dumps(self.data[split]))

    def png(self, name: str = "wide.png") -> Path:
        return self.path / "annotations" / "panoptic_train" / name

    def save_panoptic(self, ids: np.ndarray, segments: list[dict]) -> None:
        """Panoptic truth of the training split's wide image: ids (10, 20) int, and the JSON's segments."""
        self.png().parent.mkdir(exist_ok=True)
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(self.png())
        self.panoptic["train"] = {
            "images": self.data["train"]["images"],
            "categories": CATEGORIES,
            "annotations": [{"image_id": 5, "file_name": "wide.png", "segments_info": segments}],
        }
        self.save_panoptic_json()

    def save_panoptic_json(self) -> None:
        file = self.path / "annotations" / "panoptic_train.json"
        file.write_text(json.dumps(self.panoptic["train"]))


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "set")
