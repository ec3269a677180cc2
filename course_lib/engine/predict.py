"""Detections on pictures of one's own: an overlay to look at and JSON to work with."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from course_lib.datasets.images import read_image
from course_lib.datasets.label_map import LabelMap
from course_lib.engine.checkpoint import write_text
from course_lib.engine.evaluate import DETECTION
from course_lib.engine.mistakes import SURE
from course_lib.engine.panoptic_files import PanopticWriter
from course_lib.ops.masks import encode_masks
from course_lib.viz.draw import draw_boxes
from course_lib.viz.panoptic import draw_panoptic

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}


@dataclass
class Prediction:
    """What came of one picture: its files and detections, or the error that it gave.

    detections: dicts label, name, category_id, score, box (xyxy pixels of the upright picture), and where the detector
    finds masks segmentation, an RLE as COCO has it.
    """

    image: Path
    detections: list[dict]
    overlay: Path | None = None
    error: str | None = None


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The pictures among files and folders (a folder's own files, by name).

    Raises:
        ValueError: if a path does not exist or a folder holds no picture.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise ValueError(f"{path}: no picture in this folder (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise ValueError(f"{path}: no such file or folder")
    return found


@torch.inference_mode()
def predict_files(
    model: nn.Module,
    label_map: LabelMap,
    images: Sequence[Path],
    out: Path,
    *,
    score: float = SURE,
    stuff_map: LabelMap | None = None,
    progress: bool = True,
) -> list[Prediction]:
    """Detect on each picture and write `NAME.png` (overlay) and `NAME.json` into `out`.

    Of a panoptic detector also `panoptic.json` and `panoptic/NAME.png`, in COCO's format; images count from 1 there
    (`evaluate_panoptic` writes those of a data set, under its ids).

    A picture that cannot be read does not stop the others: its error stands in its `Prediction`.

    Args:
        model: a detector in evaluation mode.
        label_map: of its labels.
        images: files; two of the same name get distinct outputs (`NAME_2`).
        out: a folder, made if it is not there; not one that pictures come from, which overlays might overwrite.
        score: detections below it are left out; what is in a panoptic map is the detector's own affair.
        stuff_map: of a panoptic detector's stuff; None for any other.
        progress: show a bar.

    Raises:
        ValueError: if `out` is the folder of one of the pictures.
        OSError: if it cannot be written.
    """
    out = Path(out)
    if mixed := [path for path in map(Path, images) if path.resolve().parent == out.resolve()]:
        raise ValueError(f"{mixed[0]} lies in {out}, where its overlay would be written: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    device = next(model.parameters()).device
    predictions, used = [], set()
    writer = None if stuff_map is None else PanopticWriter(out / "panoptic.json", label_map, stuff_map)
    for path in tqdm(images, desc="predict", disable=not progress or len(images) < 2):
        try:
            pixels = torch.from_numpy(read_image(path)).permute(2, 0, 1)
        except ValueError as error:
            predictions.append(Prediction(Path(path), [], error=str(error)))
            continue
        answer = model([pixels.to(device)])[0]
        found = {k: answer[k].cpu() for k in DETECTION if k in answer}
        found = {k: v[found["scores"] >= score] for k, v in found.items()}
        boxes, labels, scores, masks = (found.get(k) for k in ("boxes", "labels", "scores", "masks"))
        detections = [
            {
                "label": label,
                "name": label_map.names[label],
                "category_id": label_map.category_ids[label],
                "score": round(value, 4),
                "box": [round(v, 2) for v in box],
            }
            for box, label, value in zip(boxes.tolist(), labels.tolist(), scores.tolist())
        ]
        if masks is not None:
            detections = [d | {"segmentation": rle} for d, rle in zip(detections, encode_masks(masks))]
        overlay = out / f"{_free_name(path.stem, used)}.png"
        if writer is None:
            picture = draw_boxes(pixels, boxes, labels, scores, names=label_map.names, masks=masks)
        else:
            ids = answer["panoptic"].cpu().numpy()
            picture = draw_panoptic(pixels, ids, answer["segments"], names=label_map.names, stuff=stuff_map.names)
            writer.add(len(predictions) + 1, overlay.stem, answer)
        picture.save(overlay)
        record = {"image": str(path), "height": pixels.shape[1], "width": pixels.shape[2], "detections": detections}
        write_text(overlay.with_suffix(".json"), json.dumps(record, indent=1))
        predictions.append(Prediction(Path(path), detections, overlay))
    if writer is not None:
        writer.close()
    return predictions


def _free_name(stem: str, used: set[str]) -> str:
    name, number = stem, 1
    while name in used:
        number += 1
        name = f"{stem}_{number}"
    used.add(name)
    return name
