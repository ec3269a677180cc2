"""A COCO folder of a dozen small pictures that a network can learn from in seconds: squares and bars on noise."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

CATEGORIES = [{"id": 4, "name": "square"}, {"id": 9, "name": "bar"}]
SIDE = 64


def write_tiny_coco(folder: Path, *, train: int = 8, val: int = 4, seed: int = 0, masks: bool = False) -> Path:
    """Write FOLDER/images and FOLDER/annotations/instances_{train,val}.json; return FOLDER.

    Each picture has one square and one bar but the last of a split, which is empty, and the first, where a crowd
    of squares is added. With `masks` every object has a polygon, the corners of its box.
    """
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for split, count in (("train", train), ("val", val)):
        images, annotations = [], []
        for i in range(count):
            pixels = rng.integers(90, 160, (SIDE, SIDE, 3), dtype=np.uint8)
            image = {"id": 100 + i, "file_name": f"{split}_{i}.png", "height": SIDE, "width": SIDE}
            objects = []
            if i < count - 1:
                objects = [square(pixels, rng), bar(pixels, rng)]
            if i == 0:
                objects.append({"category_id": 4, "bbox": [0, 0, 12, 8], "iscrowd": 1})
            for record in objects:
                area = record["bbox"][2] * record["bbox"][3]
                if masks:
                    record["segmentation"] = [_corners(*record["bbox"])]
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": 100 + i, "area": area, "iscrowd": 0, **record}
                )
            Image.fromarray(pixels).save(folder / "images" / image["file_name"])
            images.append(image)
        data = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(data))
    return folder


def _corners(x: int, y: int, width: int, height: int) -> list[int]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def square(pixels: np.ndarray, rng: np.random.Generator) -> dict:
    side = int(rng.integers(14, 22))
    return _paint(pixels, rng, side, side, (230, 60, 40), 4)


def bar(pixels: np.ndarray, rng: np.random.Generator) -> dict:
    return _paint(pixels, rng, int(rng.integers(8, 11)), int(rng.integers(24, 34)), (30, 80, 220), 9)


def _paint(pixels, rng, height: int, width: int, color: tuple[int, int, int], category_id: int) -> dict:
    y, x = int(rng.integers(0, SIDE - height)), int(rng.integers(0, SIDE - width))
    pixels[y : y + height, x : x + width] = color
    return {"category_id": category_id, "bbox": [x, y, width, height]}
