"""What must hold inside a COCO detection JSON: pure checks over the parsed file, all problems at once."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1.0  # pixels a box may stick out of its image: rounding by annotation tools; the loader clips it


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set.

    file: the file to look at. record: where in it (`annotation 17`, `image 3`). kind: a short name to count
    by. message: what was found, what was expected, what to do.
    """

    file: str
    record: str
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.record}: {self.message}"


def read_json(file: Path) -> Any:
    """Parse a JSON file. Raises ValueError naming the file when it is missing or not JSON."""
    file = Path(file)
    if not file.is_file():
        raise ValueError(f"{file}: no such annotation file")
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise ValueError(f"{file}: not readable as JSON ({error}); write the file anew") from error


def raise_problems(problems: list[Problem]) -> None:
    """Raise one ValueError with the first problems and the total; do nothing when there are none."""
    if problems:
        shown = "\n  ".join(str(problem) for problem in problems[:5])
        more = f"\n  ... and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"{len(problems)} problem(s) in the annotations:\n  {shown}{more}")


def is_int(value: Any) -> bool:
    """True for an integer that is not a bool (JSON's true is an int to Python)."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """True for an int or float that is not a bool; NaN and infinity are numbers here."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_records(data: Any, file: Path) -> list[Problem]:
    """Check images, categories and boxes of a parsed COCO detection file; reads nothing from disk.

    data: what `read_json` returned. file: only named in the problems. Returns every problem, in file order.
    Objects without a box are not allowed; images without objects are.
    """
    name = str(file)
    if not isinstance(data, dict):
        return [
            Problem(name, "top level", "not COCO", f"is a {_type(data)}, expected an object (COCO detection)")
        ]
    problems = [
        Problem(name, "top level", "not COCO", f"'{key}' is {_found(data, key)}, expected a list")
        for key in ("images", "annotations", "categories")
        if not isinstance(data.get(key), list)
    ]
    if problems:
        return problems
    images, bad_images = _typed(name, "image", data["images"], IMAGE_FIELDS)
    categories, bad_categories = _typed(name, "category", data["categories"], CATEGORY_FIELDS)
    annotations, bad_annotations = _typed(name, "annotation", data["annotations"], ANNOTATION_FIELDS)
    problems += bad_images + bad_categories + bad_annotations
    problems += _duplicates(name, "image", images) + _duplicates(name, "category", categories)
    problems += _duplicates(name, "annotation", annotations)
    files = Counter(image["file_name"] for image in images)
    for file_name, count in files.items():
        if count > 1:
            ids = ", ".join(str(image["id"]) for image in images if image["file_name"] == file_name)
            problems.append(
                Problem(
                    name,
                    f"images {ids}",
                    "duplicate file name",
                    f"{file_name!r} is listed {count} times, keep one",
                )
            )
    problems += _references(name, annotations, data["images"], data["categories"])
    problems += _boxes(name, annotations, images)
    return problems


# Per record: field -> (test, what was expected, required).
_ID = (is_int, "an integer", True)
IMAGE_FIELDS = {
    "id": _ID,
    "file_name": (lambda v: isinstance(v, str) and v != "", "a file name", True),
    "width": (lambda v: is_int(v) and v > 0, "a positive integer", True),
    "height": (lambda v: is_int(v) and v > 0, "a positive integer", True),
}
CATEGORY_FIELDS = {"id": _ID, "name": (lambda v: isinstance(v, str), "a string", True)}
ANNOTATION_FIELDS = {
    "id": _ID,
    "image_id": _ID,
    "category_id": _ID,
    "bbox": (
        lambda v: isinstance(v, list) and len(v) == 4 and all(is_number(x) for x in v),
        "four numbers [x, y, width, height]",
        True,
    ),
    "iscrowd": (lambda v: v in (0, 1), "0 or 1", False),
    "area": (lambda v: is_number(v) and 0 <= v < float("inf"), "a number of pixels >= 0", False),
}


def _type(value: Any) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _found(record: dict, key: str) -> str:
    if key not in record:
        return "missing"
    text = json.dumps(record[key])
    return text if len(text) <= 60 else f"{text[:60]}..."


def _typed(file: str, what: str, records: list, fields: dict) -> tuple[list[dict], list[Problem]]:
    """Split records into those whose fields have the right types, and a problem for each wrong field."""
    good, problems = [], []
    for index, record in enumerate(records):
        if not isinstance(record, dict):
            message = f"is a {_type(record)}, expected an object"
            problems.append(Problem(file, f"{what} at index {index}", "not COCO", message))
            continue
        wrong = [
            (key, expected)
            for key, (test, expected, required) in fields.items()
            if (not test(record[key]) if key in record else required)
        ]
        if not wrong:
            good.append(record)
            continue
        label = f"{what} {record['id']}" if is_int(record.get("id")) else f"{what} at index {index}"
        for key, expected in wrong:
            kind = "malformed box" if key == "bbox" and key in record else "not COCO"
            problems.append(
                Problem(file, label, kind, f"'{key}' is {_found(record, key)}, expected {expected}")
            )
    return good, problems


def _duplicates(file: str, what: str, records: list[dict]) -> list[Problem]:
    counts = Counter(record["id"] for record in records)
    return [
        Problem(
            file,
            f"{what} {id_}",
            f"duplicate {what} id",
            f"id {id_} is used {count} times; give each its own id",
        )
        for id_, count in counts.items()
        if count > 1
    ]


def _references(file: str, annotations: list[dict], images: list, categories: list) -> list[Problem]:
    """Annotations that point to an image or a category that the file does not list."""

    def listed(records: list) -> set[int]:
        return {r["id"] for r in records if isinstance(r, dict) and is_int(r.get("id"))}

    image_ids, category_ids = listed(images), listed(categories)
    problems = []
    for a in annotations:
        if a["image_id"] not in image_ids:
            message = f"image_id {a['image_id']} is no image of this file; remove it or add the image"
            problems.append(Problem(file, f"annotation {a['id']}", "no such image", message))
        if a["category_id"] not in category_ids:
            message = f"category_id {a['category_id']} is unknown, expected one of {_some(category_ids)}"
            problems.append(Problem(file, f"annotation {a['id']}", "unknown category", message))
    return problems


def _some(ids: set[int]) -> str:
    shown = ", ".join(str(i) for i in sorted(ids)[:8])
    return f"{shown}, ..." if len(ids) > 8 else shown or "none: the file has no categories"


def _boxes(file: str, annotations: list[dict], images: list[dict]) -> list[Problem]:
    """Boxes that are not finite, have no area, or stick out of their image by more than TOLERANCE."""
    if not annotations:
        return []
    sizes = {image["id"]: (image["width"], image["height"]) for image in images}
    box = np.array([a["bbox"] for a in annotations], dtype=np.float64)  # (N, 4) x, y, w, h
    size = np.array([sizes.get(a["image_id"], (np.inf, np.inf)) for a in annotations], dtype=np.float64)
    finite = np.isfinite(box).all(1)
    empty = finite & (box[:, 2:] <= 0).any(1)
    low, high = box[:, :2], box[:, :2] + box[:, 2:]
    out = (low < -TOLERANCE).any(1) | (high > size + TOLERANCE).any(1)
    out |= (np.minimum(high, size) <= np.maximum(low, 0)).any(1)  # nothing left after clipping
    out &= finite & ~empty

    def found(rows: np.ndarray, kind: str, say: str) -> Iterator[Problem]:
        for row in np.flatnonzero(rows):
            a = annotations[row]
            where = f"annotation {a['id']} (image {a['image_id']})"
            size_text = "x".join(f"{v:g}" for v in size[row])
            yield Problem(file, where, kind, f"box {a['bbox']} {say.format(size=size_text)}")

    return [
        *found(~finite, "malformed box", "has NaN or infinity, expected finite pixels"),
        *found(empty, "empty box", "has no area, expected width and height > 0; remove or redraw it"),
        *found(out, "box outside", "sticks out of its {size} image by more than 1 px; clip or remove it"),
    ]
