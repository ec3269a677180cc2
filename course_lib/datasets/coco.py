"""COCO detection data as a torch data set: images and targets as tv_tensors, checked before the first image.

Layout of a data folder (`open_split`):

    FOLDER/images/FILE                 or FOLDER/images/SPLIT/FILE
    FOLDER/annotations/instances_{train,val}.json
    FOLDER/annotations/panoptic_{train,val}.json and panoptic_{train,val}/FILE.png     (optional)

COCO's boxes are (x, y, width, height); they become xyxy here, at the file border, and nowhere else.
"""

import contextlib
import copy
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from torch.utils.data import Dataset
from torchvision import tv_tensors

from course_lib.datasets.coco_panoptic import PanopticTruth, panoptic_file
from course_lib.datasets.images import read_image, scaled_size
from course_lib.datasets.label_map import LabelMap
from course_lib.datasets.records import (
    Problem,
    check_images_exist,
    check_labels,
    check_records,
    raise_problems,
    read_json,
    where,
)
from course_lib.datasets.segmentations import has_mask, to_rle
from course_lib.ops.masks import decode_rles


def open_split(folder: Path, split: str, **options: Any) -> "CocoDetection":
    """Open split "train" or "val" of a data folder in the layout above; `options` go to CocoDetection.

    Raises ValueError naming the file when the folder or the split's JSON does not exist.
    """
    folder = Path(folder)
    annotations = folder / "annotations" / f"instances_{split}.json"
    if not annotations.is_file():
        there = ", ".join(sorted(p.name for p in annotations.parent.glob("*.json"))) or "nothing"
        raise ValueError(
            f"{annotations}: no such file (found {there} there); expected COCO instances of split {split!r}"
        )
    return CocoDetection(images_folder(folder, split), annotations, **options)


def images_folder(folder: Path, split: str) -> Path:
    """Where the images of a split lie: FOLDER/images/SPLIT, or FOLDER/images, or FOLDER/SPLIT as COCO's own."""
    folder = Path(folder)
    candidates = (folder / "images" / split, folder / "images", folder / split)
    return next((c for c in candidates if c.is_dir()), folder / "images")


class CocoDetection(Dataset):
    """Images and targets of one COCO JSON.

    images: folder that the JSON's file names are relative to. annotations: the JSON file.
    masks: also return instance masks; every object then needs a polygon or RLE.
    label_map: take labels from a map made elsewhere (the training split's, a checkpoint's).
    max_size: limit of the longer side in pixels; larger images are down-scaled with their boxes and masks.
    cache_bytes: decoded images stay in memory until this many bytes are in use: over a small set, an epoch
    decodes nothing twice.

    `ds[i]` is (image, target): image a uint8 RGB tv_tensors.Image (3, H, W); target a dict of
    boxes (tv_tensors.BoundingBoxes, xyxy float32 (N, 4), clipped to the image), labels (N,) int64 in 0..K-1,
    iscrowd (N,) bool, area (N,) float32 in pixels, image_id int, and masks (tv_tensors.Mask, (N, H, W) bool).
    With panoptic truth (`with_panoptic`) also semantic (tv_tensors.Mask, (H, W) int64): 0 is a thing, 1 … a class of
    stuff, 255 void.

    Every record is checked on construction, and that its image file exists; a box that sticks out by no more
    than one pixel (annotation tools round) is clipped. Raises ValueError naming file and record; on reading
    an image too, when the file is truncated or has another size than its record.
    """

    def __init__(
        self,
        images: Path,
        annotations: Path,
        *,
        masks: bool = False,
        label_map: LabelMap | None = None,
        max_size: int | None = None,
        cache_bytes: int = 2 * 1024**3,
    ) -> None:
        if max_size is not None and max_size < 1:
            raise ValueError(f"max_size is {max_size}, expected at least 1 pixel, or None")
        self.images, self.annotations = Path(images), Path(annotations)
        data = read_json(self.annotations)
        raise_problems(check_records(data, self.annotations))
        self.label_map = label_map or LabelMap.from_categories(data["categories"])
        problems = check_labels(data, self.annotations, self.label_map)
        problems += check_images_exist(data, self.images, self.annotations)
        if masks:
            problems += self._without_mask(data["annotations"])
        raise_problems(problems)
        self.masks, self.max_size = masks, max_size
        self.image_ids: list[int] = [image["id"] for image in data["images"]]
        self._paths = [self.images / image["file_name"] for image in data["images"]]
        self.coco = coco_index(data)
        self._arrange()
        self._cache: dict[int, torch.Tensor] = {}
        self._cache_left = self.cache_bytes = cache_bytes
        self._rles: dict[int, dict] = {}
        self._semantic: dict[int, torch.Tensor] = {}
        self.panoptic: PanopticTruth | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    def __getitem__(self, i: int) -> tuple[tv_tensors.Image, dict[str, Any]]:
        """Image and target number `i`, as described in the class."""
        image = self._image(i)
        rows = slice(self._starts[i], self._starts[i + 1])
        size = tuple(image.shape[-2:])
        target = {
            "boxes": tv_tensors.BoundingBoxes(self._boxes[rows].clone(), format="XYXY", canvas_size=size),
            "labels": self._labels[rows].clone(),
            "iscrowd": self._iscrowd[rows].clone(),
            "area": self._area[rows].clone(),
            "image_id": self.image_ids[i],
        }
        if self.masks:
            target["masks"] = self._instance_masks(i, size)
        if self.panoptic is not None:
            target["semantic"] = tv_tensors.Mask(self._semantic_map(i, size).long())
        return tv_tensors.Image(image.clone()), target  # a copy: drawing on it must not reach the cache

    def shrunk(self, max_size: int) -> "CocoDetection":
        """The same data with its images down-scaled on load to a longer side of at most `max_size` pixels.

        Training at a small input then neither decodes nor keeps more pixels than it uses. The images decoded so far
        stay with this data set.
        """
        other = copy.copy(self)
        other.max_size = max_size
        other._cache, other._cache_left, other._rles, other._semantic = {}, self.cache_bytes, {}, {}
        other._arrange()
        return other

    def with_masks(self) -> "CocoDetection":
        """The same data with its objects' masks. Raises ValueError naming each object that has none."""
        raise_problems(self._without_mask(self._ordered))
        other = copy.copy(self)
        other.masks = True
        return other

    def with_panoptic(self, stuff_map: LabelMap | None = None) -> "CocoDetection":
        """The same data with its panoptic truth, from panoptic_SPLIT.json beside instances_SPLIT.json.

        stuff_map, errors: see `PanopticTruth`.
        """
        other = copy.copy(self)
        other.panoptic = PanopticTruth(
            panoptic_file(self.annotations), things=self.label_map, image_ids=self.image_ids, stuff_map=stuff_map
        )
        other._semantic = {}
        return other

    def _without_mask(self, annotations: list[dict]) -> list[Problem]:
        return [
            Problem(str(self.annotations), where(a), "no mask", "has no segmentation, but masks were asked for")
            for a in annotations
            if not has_mask(a.get("segmentation"))
        ]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the decoded images behind when the data set is sent to a spawned worker."""
        return self.__dict__ | {"_cache": {}, "_semantic": {}, "_cache_left": self.cache_bytes}

    def image_path(self, i: int) -> Path:
        """File of image `i`."""
        return self._paths[i]

    def sizes(self) -> np.ndarray:
        """(N, 2) int array of (height, width) in the JSON, before any down-scaling by `max_size`."""
        return self._sizes.copy()

    def all_boxes(self) -> list[np.ndarray]:
        """Per image the (n, 4) float32 xyxy boxes that are not crowds, in the JSON's pixels (as `sizes`)."""
        return self._per_image(self._json_boxes)

    def all_labels(self) -> list[np.ndarray]:
        """Per image the (n,) int64 labels of `all_boxes`."""
        return self._per_image(self._labels.numpy())

    def _per_image(self, values: np.ndarray) -> list[np.ndarray]:
        keep = ~self._iscrowd.numpy()
        return [values[a:b][keep[a:b]] for a, b in pairwise(self._starts)]

    def _arrange(self) -> None:
        """Lay all objects out as flat arrays, image after image: `ds[i]` is then a slice."""
        data = self.coco.dataset
        position = {image_id: i for i, image_id in enumerate(self.image_ids)}
        order = sorted(data["annotations"], key=lambda a: position[a["image_id"]])  # stable: keeps the JSON's order
        self._ordered = order
        row = np.array([position[a["image_id"]] for a in order], dtype=np.int64)
        self._starts = np.searchsorted(row, np.arange(len(self) + 1)).tolist()
        self._sizes = np.array([(m["height"], m["width"]) for m in data["images"]], dtype=np.int64).reshape(-1, 2)
        loaded = np.array([scaled_size(*s, self.max_size) for s in self._sizes.tolist()]).reshape(-1, 2)
        scale = (loaded / self._sizes)[row][:, ::-1]  # (M, 2) x, y

        xywh = np.array([a["bbox"] for a in order], dtype=np.float64).reshape(-1, 4)
        limit = self._sizes[row][:, ::-1]
        low = np.clip(xywh[:, :2], 0, limit)
        high = np.clip(xywh[:, :2] + xywh[:, 2:], 0, limit)
        self._json_boxes = np.concatenate([low, high], axis=1).astype(np.float32)
        self._boxes = torch.from_numpy(np.concatenate([low * scale, high * scale], axis=1).astype(np.float32))
        labels = self.label_map.labels
        self._labels = torch.tensor([labels[a["category_id"]] for a in order], dtype=torch.int64)
        self._iscrowd = torch.tensor([bool(a["iscrowd"]) for a in order], dtype=torch.bool)
        area = np.array([a["area"] for a in order], dtype=np.float64) * scale.prod(1)
        self._area = torch.from_numpy(area.astype(np.float32))

    def _image(self, i: int) -> torch.Tensor:
        """Decoded image (3, H, W) uint8, from the cache if it is there."""
        if i in self._cache:
            return self._cache[i]
        pixels = read_image(self._paths[i], max_size=self.max_size, expected=tuple(self._sizes[i].tolist()))
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        if image.nbytes <= self._cache_left:
            self._cache[i] = image
            self._cache_left -= image.nbytes
        return image

    def _semantic_map(self, i: int, size: tuple[int, int]) -> torch.Tensor:
        """Semantic map (h, w) uint8 of image `i` at its loaded size, from the cache if it is there."""
        if i in self._semantic:
            return self._semantic[i]
        semantic = self.panoptic.semantic(self.image_ids[i], size)
        if semantic.nbytes <= self._cache_left:
            self._semantic[i] = semantic
            self._cache_left -= semantic.nbytes
        return semantic

    def _instance_masks(self, i: int, size: tuple[int, int]) -> tv_tensors.Mask:
        """Masks (N, H, W) bool of image `i` at its loaded size (h, w)."""
        rows = range(self._starts[i], self._starts[i + 1])
        for row in rows:
            if row not in self._rles:
                self._rles[row] = to_rle(self._ordered[row]["segmentation"], tuple(self._sizes[i].tolist()), size)
        return tv_tensors.Mask(decode_rles([self._rles[row] for row in rows], size))


def coco_index(data: dict) -> COCO:
    """pycocotools' index over a parsed file, in silence.

    Missing `iscrowd` is 0 and missing `area` the box's, as COCOeval needs both. Where an annotation has id 0,
    ids are counted from 1 instead: COCOeval takes a match with id 0 for no match.
    """
    annotations = [{"iscrowd": 0, "area": float(a["bbox"][2] * a["bbox"][3])} | a for a in data["annotations"]]
    if any(a["id"] == 0 for a in annotations):
        annotations = [a | {"id": number} for number, a in enumerate(annotations, start=1)]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = data | {"annotations": annotations}
        coco.createIndex()
    return coco
