"""What must hold inside a COCO detection JSON: pure checks over the parsed file, all problems at once."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from course_lib.datasets.label_map import LabelMap
from course_lib.datasets.segmentations import segmentation_faults

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
    """True for an integer that fits into a float without loss; a bool is none (to Python, true is an int)."""
    return type(value) is int and abs(value) <= 2**53


def is_number(value: Any) -> bool:
    """True for a float, NaN and infinity included, and for an integer as in `is_int`."""
    return type(value) is float or is_int(value)


def check_records(data: Any, file: Path) -> list[Problem]:
    """Check images, categories, boxes and masks of a parsed COCO detection file; reads nothing from disk.

    data: what `read_json` returned. file: only named in the problems. Returns all problems, kind after kind.
    An object needs a box; a mask only if masks are to be loaded. An image needs no objects.
    """
    name = str(file)
    sound, problems = sound_records(data, name, FIELDS)
    if not sound:
        return problems
    images, annotations = sound["images"], sound["annotations"]
    for key, records in sound.items():
        problems += duplicate_ids(name, SINGULAR[key], records)
    ids = defaultdict(list)
    for image in images:
        ids[image["file_name"]].append(image["id"])
    problems += [
        Problem(name, f"image {same[1]}", "duplicate file name", f"{file!r} is image {same[0]} too; keep one")
        for file, same in ids.items()
        if len(same) > 1
    ]
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    problems += _references(name, annotations, data["images"], data["categories"])
    problems += _boxes(name, annotations, sizes)
    problems += [
        Problem(name, where(a), kind, message)
        for a, kind, message in segmentation_faults(annotations, [sizes.get(a["image_id"]) for a in annotations])
    ]
    return problems


def sound_records(data: Any, file: str, fields: dict) -> tuple[dict[str, list[dict]], list[Problem]]:
    """Keep of each list in `fields` the records whose fields have the right types; a problem for each wrong one.

    data: a parsed file. fields: list name -> field name -> (test, what is expected, required).
    Returns no lists at all, and the problems, when `data` is not an object with these lists.
    """
    if not isinstance(data, dict):
        message = f"is a {_type(data)}, expected an object with the lists {', '.join(fields)}"
        return {}, [Problem(file, "top level", "not COCO", message)]
    problems = [
        Problem(file, "top level", "not COCO", f"'{key}' is {_found(data, key)}, expected a list")
        for key in fields
        if not isinstance(data.get(key), list)
    ]
    if problems:
        return {}, problems
    sound = {}
    for key, tests in fields.items():
        sound[key], wrong = _typed(file, SINGULAR[key], data[key], tests)
        problems += wrong
    return sound, problems


def duplicate_ids(file: str, what: str, records: list[dict]) -> list[Problem]:
    """A problem for each id that several records have."""
    counts = Counter(record["id"] for record in records)
    return [
        Problem(file, f"{what} {i}", f"duplicate {what} id", f"{n} records have the id {i}; give each its own")
        for i, n in counts.items()
        if n > 1
    ]


def check_images_exist(data: dict, images: Path, file: Path) -> list[Problem]:
    """A problem for each image record of a sound file whose image is not in the folder `images`."""
    return [
        Problem(
            str(file),
            f"image {image['id']}",
            "missing image",
            f"{images / image['file_name']} does not exist; restore the image or remove its record",
        )
        for image in data["images"]
        if not (images / image["file_name"]).is_file()
    ]


def check_labels(data: dict, file: Path, label_map: LabelMap) -> list[Problem]:
    """Problems of using a sound file with labels from elsewhere: objects without a label, other names."""
    names = dict(zip(label_map.category_ids, label_map.names))
    foreign = {category["id"] for category in data["categories"]} - names.keys()
    problems = []
    for c in data["categories"]:
        known = names.get(c["id"], c["name"])
        if known != c["name"]:
            message = f"is {c['name']!r} here, but {known!r} in the training data; give both the same categories"
            problems.append(Problem(str(file), f"category {c['id']}", "other label", message))
    for a in data["annotations"]:
        if a["category_id"] in foreign:
            message = f"category_id {a['category_id']} is not in the training data, expected {_some(set(names))}"
            problems.append(Problem(str(file), where(a), "other label", message))
    return problems


def where(annotation: dict) -> str:
    """How a problem names an annotation."""
    return f"annotation {annotation['id']} (image {annotation['image_id']})"


SINGULAR = {"images": "image", "categories": "category", "annotations": "annotation"}
ID = (is_int, "an integer", True)
IMAGE = {
    "id": ID,
    "file_name": (lambda v: isinstance(v, str) and v != "", "a file name", True),
    "width": (lambda v: is_int(v) and v > 0, "a positive integer", True),
    "height": (lambda v: is_int(v) and v > 0, "a positive integer", True),
}
CATEGORY = {"id": ID, "name": (lambda v: isinstance(v, str), "a string", True)}
ANNOTATION = {
    "id": ID,
    "image_id": ID,
    "category_id": ID,
    "bbox": (
        lambda v: isinstance(v, list) and len(v) == 4 and all(is_number(x) for x in v),
        "four numbers [x, y, width, height]",
        True,
    ),
    "iscrowd": (lambda v: v in (0, 1), "0 or 1", False),
    "area": (lambda v: is_number(v) and 0 <= v < float("inf"), "a number of pixels >= 0", False),
}
FIELDS = {"images": IMAGE, "categories": CATEGORY, "annotations": ANNOTATION}


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
            problems.append(Problem(file, label, kind, f"'{key}' is {_found(record, key)}, expected {expected}"))
    return good, problems


def _references(file: str, annotations: list[dict], images: list, categories: list) -> list[Problem]:
    """Annotations that point to an image or a category that the file does not list."""

    def listed(records: list) -> set[int]:
        return {r["id"] for r in records if isinstance(r, dict) and is_int(r.get("id"))}

    image_ids, category_ids = listed(images), listed(categories)
    problems = []
    for a in annotations:
        if a["image_id"] not in image_ids:
            message = f"image_id {a['image_id']} is no image of this file; remove it or add the image"
            problems.append(Problem(file, where(a), "no such image", message))
        if a["category_id"] not in category_ids:
            message = f"category_id {a['category_id']} is unknown, expected one of {_some(category_ids)}"
            problems.append(Problem(file, where(a), "unknown category", message))
    return problems


def _some(ids: set[int]) -> str:
    shown = ", ".join(str(i) for i in sorted(ids)[:8])
    return f"{shown}, ..." if len(ids) > 8 else shown or "none: the file has no categories"


def _boxes(file: str, annotations: list[dict], sizes: dict[int, tuple[int, int]]) -> list[Problem]:
    """Boxes that are not finite, have no area, or stick out of their image by more than TOLERANCE."""
    if not annotations:
        return []
    box = np.array([a["bbox"] for a in annotations], dtype=np.float64)  # (N, 4) x, y, w, h
    size = np.array([sizes.get(a["image_id"], (np.inf, np.inf))[::-1] for a in annotations])  # (N, 2) w, h
    finite = np.isfinite(box).all(1)
    empty = finite & (box[:, 2:] <= 0).any(1)
    low, high = box[:, :2], box[:, :2] + box[:, 2:]
    out = (low < -TOLERANCE).any(1) | (high > size + TOLERANCE).any(1)
    out |= (np.minimum(high, size) <= np.maximum(low, 0)).any(1)  # nothing left after clipping
    out &= finite & ~empty

    def found(rows: np.ndarray, kind: str, say: str) -> Iterator[Problem]:
        for row in np.flatnonzero(rows):
            a = annotations[row]
            size_text = "x".join(f"{v:g}" for v in size[row])
            yield Problem(file, where(a), kind, f"box {a['bbox']} {say.format(size=size_text)}")

    return [
        *found(~finite, "malformed box", "has NaN or infinity, expected finite pixels"),
        *found(empty, "empty box", "has no area, expected width and height > 0; remove or redraw it"),
        *found(out, "box outside", "sticks out of its {size} image by more than 1 px; clip or remove it"),
    ]
