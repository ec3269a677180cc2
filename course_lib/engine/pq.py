"""Panoptic quality of a prediction in COCO's panoptic format, whoever made it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from course_lib.datasets.records import is_int, is_number, read_json
from course_lib.datasets.workers import ordered_map
from course_lib.panoptic.format import read_ids
from course_lib.panoptic.quality import PanopticQuality

CHUNK = 20  # images counted together: the same for any number of workers, so that the sums are, to the last bit


@dataclass(frozen=True)
class PanopticFile:
    """A panoptic JSON and where its PNGs lie.

    Attributes:
        path: the JSON.
        folder: of the PNGs.
        annotations: by image id, with `file_name` and `segments_info`.
        categories: None where the file has none, as predictions may.
    """

    path: Path
    folder: Path
    annotations: dict[int, dict[str, Any]]
    categories: list[dict[str, Any]] | None


def open_panoptic(path: Path, folder: Path | None = None) -> PanopticFile:
    """Read a panoptic JSON; its PNGs lie in `folder`, by default the one of the JSON's name without suffix.

    Raises:
        ValueError: naming file and record, if a record lacks what PQ needs or an image has two annotations.
    """
    path = Path(path)
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("annotations"), list):
        raise ValueError(f"{path}: expected a panoptic JSON, an object with annotations")
    annotations = {}
    for number, annotation in enumerate(data["annotations"]):
        if fault := _fault(annotation):
            raise ValueError(f"{path}: annotation {number}: {fault}")
        if annotation["image_id"] in annotations:
            raise ValueError(f"{path}: image {annotation['image_id']} has two annotations; keep one")
        annotations[annotation["image_id"]] = annotation
    folder = path.with_suffix("") if folder is None else Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder of panoptic PNGs (for {path}); name it")
    return PanopticFile(path, folder, annotations, data.get("categories"))


def pq_files(
    truth: PanopticFile, found: PanopticFile, *, crowds: str = "all", workers: int = 1, progress: bool = False
) -> PanopticQuality:
    """PQ of one file against another; every image of the truth is judged, others of the prediction are not (as in
    panopticapi).

    Args:
        truth, found: see `open_panoptic`.
        crowds: see `match_segments`.
        workers: processes; the result is the same, to the last bit.
        progress: show a bar.

    Raises:
        ValueError: naming file, image and fault: a prediction is missing, a PNG is damaged or of another size, an id
            is in PNG or JSON only, a category is unknown.
    """
    faulty = [c for c in truth.categories or [] if not (isinstance(c, dict) and is_int(c.get("id")) and "isthing" in c)]
    if not truth.categories or faulty:
        raise ValueError(f"{truth.path}: expected categories with id and isthing, found {(faulty or ['none'])[0]}")
    for image, annotation in truth.annotations.items():
        if unmeasured := [s["id"] for s in annotation["segments_info"] if not is_number(s.get("area"))]:
            raise ValueError(f"{truth.path}: image {image}: segment {unmeasured[0]} has no area in pixels")
    if missing := [image for image in truth.annotations if image not in found.annotations]:
        raise ValueError(f"{found.path}: no prediction for {len(missing)} of the images, the first is {missing[0]}")
    images = list(truth.annotations)
    chunks = [images[i : i + CHUNK] for i in range(0, len(images), CHUNK)]
    total = PanopticQuality(truth.categories, crowds=crowds)
    with tqdm(total=len(images), desc="PQ", unit="image", disable=not progress) as bar:
        pairs = [[(truth.annotations[i], found.annotations[i]) for i in chunk] for chunk in chunks]
        count = partial(_count, truth.folder, found.folder, truth.categories, crowds)
        for chunk, quality in zip(chunks, ordered_map(count, pairs, workers)):
            total.merge(quality)
            bar.update(len(chunk))
    return total


def format_pq(quality: PanopticQuality, categories: Sequence[dict]) -> str:
    """The table that `course pq` prints, in percent; – where there is nothing to judge."""
    percent = lambda v: "    –" if v is None else f"{100 * v:5.1f}"  # noqa: E731
    values = quality.to_dict()
    names = {str(c["id"]): str(c.get("name", c["id"])) for c in categories}
    width = max(map(len, (*names.values(), "things")))
    lines = [f"{'':{width}}     PQ    SQ    RQ  classes"]
    for group in ("all", "things", "stuff"):
        q = values[group]
        lines.append(f"{group:{width}}  {percent(q['pq'])} {percent(q['sq'])} {percent(q['rq'])}  {q['classes']:7d}")
    lines += ["", f"{'class':{width}}     PQ    SQ    RQ     TP    FP    FN"]
    for category, q in values["per_class"].items():
        if q["classes"]:
            scores = f"{percent(q['pq'])} {percent(q['sq'])} {percent(q['rq'])}"
            lines.append(f"{names[category]:{width}}  {scores} {q['tp']:6d} {q['fp']:5d} {q['fn']:5d}")
    return "\n".join(lines)


def _count(
    truth_folder: Path,
    found_folder: Path,
    categories: Sequence[dict],
    crowds: str,
    pairs: Sequence[tuple[dict, dict]],
) -> PanopticQuality:
    quality = PanopticQuality(categories, crowds=crowds)
    for truth, found in pairs:
        maps = read_ids(truth_folder / truth["file_name"]), read_ids(found_folder / found["file_name"])
        try:
            quality.add(maps[0], truth["segments_info"], maps[1], found["segments_info"])
        except ValueError as error:
            files = f"{truth_folder / truth['file_name']} (truth) and {found_folder / found['file_name']}"
            raise ValueError(f"image {truth['image_id']}, {files}: {error}") from None
    return quality


def _fault(annotation: Any) -> str | None:
    """What a panoptic annotation lacks for PQ, or None."""
    if not isinstance(annotation, dict):
        return f"found {type(annotation).__name__}, expected a record with image_id, file_name and segments_info"
    if missing := [key for key in ("image_id", "file_name", "segments_info") if key not in annotation]:
        return f"has no {', '.join(missing)}"
    segments = annotation["segments_info"]
    for segment in segments if isinstance(segments, list) else [segments]:
        if not isinstance(segment, dict) or not all(is_int(segment.get(key)) for key in ("id", "category_id")):
            return f"image {annotation['image_id']}: segment {segment!r:.80}: expected integers id and category_id"
    return None
