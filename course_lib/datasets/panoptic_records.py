"""What must hold between a COCO panoptic JSON and its PNGs, where a pixel's id is R + 256 G + 65536 B, 0 void."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from course_lib.datasets.records import CATEGORY, ID, IMAGE, Problem, duplicate_ids, is_int, sound_records
from course_lib.panoptic.format import rgb_to_ids

FIELDS = {
    "images": IMAGE,
    "categories": CATEGORY | {"isthing": (lambda v: v in (0, 1), "0 (stuff) or 1 (thing)", True)},
    "annotations": {
        "image_id": ID,
        "file_name": IMAGE["file_name"],
        "segments_info": (
            lambda v: isinstance(v, list) and all(isinstance(s, dict) and is_int(s.get("id")) for s in v),
            "a list of segments, each with an integer id",
            True,
        ),
    },
}


def check_panoptic(data: Any, file: Path) -> tuple[list[tuple[dict, tuple[int, int] | None]], list[Problem]]:
    """Check a parsed panoptic JSON without opening a PNG.

    file: only named in the problems. Returns the annotations that are sound enough to be compared with their PNG,
    each with the (height, width) of its image if that is known, and all problems.
    """
    name = str(file)
    sound, problems = sound_records(data, name, FIELDS)
    if not sound:
        return [], problems
    problems += duplicate_ids(name, "image", sound["images"]) + duplicate_ids(name, "category", sound["categories"])
    sizes = {image["id"]: (image["height"], image["width"]) for image in sound["images"]}
    listed = {m.get("id") for m in data["images"] if isinstance(m, dict)}
    known = {category["id"] for category in sound["categories"]}
    seen = set()
    for annotation in sound["annotations"]:
        image_id = annotation["image_id"]
        record = f"panoptic annotation of image {image_id}"
        if image_id not in listed:
            message = f"image_id {image_id} is no image of this file; remove it or add the image"
            problems.append(Problem(name, record, "no such image", message))
        if image_id in seen:
            message = "a second annotation of the same image; keep one"
            problems.append(Problem(name, record, "duplicate panoptic annotation", message))
        seen.add(image_id)
        problems += [
            Problem(name, f"segment {s['id']} (image {image_id})", "unknown category", message)
            for s in annotation["segments_info"]
            if s.get("category_id") not in known
            for message in [f"category_id {s.get('category_id')!r} is not among the file's categories"]
        ]
    return [(annotation, sizes.get(annotation["image_id"])) for annotation in sound["annotations"]], problems


def check_panoptic_png(annotation: dict, png: Path, size: tuple[int, int] | None) -> list[Problem]:
    """Compare one panoptic annotation with its PNG: the file itself, its size, the ids in both, their areas.

    size: (height, width) of the image, None where that is unknown.
    """
    name, image_id = str(png), annotation["image_id"]
    record = f"panoptic annotation of image {image_id}"
    if not png.is_file():
        return [Problem(name, record, "missing PNG", "does not exist; restore it or remove its annotation")]
    try:
        with Image.open(png) as image:
            image.load()
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ...
        return [Problem(name, record, "unreadable PNG", f"{error}; write the file anew")]
    if image.mode != "RGB":
        return [
            Problem(name, record, "PNG not RGB", f"mode is {image.mode}, expected RGB with id = R + 256 G + 65536 B")
        ]
    if size is not None and (image.height, image.width) != size:
        message = f"the PNG is {image.width}x{image.height}, its image {size[1]}x{size[0]}"
        return [Problem(name, record, "wrong PNG size", message)]
    ids, areas = np.unique(rgb_to_ids(np.asarray(image)), return_counts=True)
    drawn = dict(zip(ids.tolist(), areas.tolist()))
    drawn.pop(0, None)
    problems, listed = [], set()
    for segment in annotation["segments_info"]:
        where = f"segment {segment['id']} (image {image_id})"
        area = segment.get("area")
        if segment["id"] in listed:
            problems.append(Problem(name, where, "duplicate segment id", "is listed twice; give each its own id"))
        elif segment["id"] not in drawn:
            message = "is in the JSON, but no pixel of the PNG has this id; remove it or draw it"
            problems.append(Problem(name, where, "segment not in PNG", message))
        elif area is not None and area != drawn[segment["id"]]:
            message = f"area is {area} in the JSON, {drawn[segment['id']]} pixels in the PNG; correct the JSON"
            problems.append(Problem(name, where, "wrong segment area", message))
        listed.add(segment["id"])
    for id_ in drawn.keys() - listed:
        message = f"{drawn[id_]} pixels of the PNG have this id, but the JSON lists no such segment; add or erase it"
        problems.append(Problem(name, f"segment {id_} (image {image_id})", "segment not in JSON", message))
    return problems
