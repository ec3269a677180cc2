"""`course data check`: everything that is wrong with a COCO data set, found in one go."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from itertools import chain, combinations
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from course_lib.datasets.coco import images_folder
from course_lib.datasets.images import WrongSize, read_image
from course_lib.datasets.label_map import LabelMap
from course_lib.datasets.panoptic_records import check_panoptic, check_panoptic_png
from course_lib.datasets.records import (
    FIELDS,
    Problem,
    check_images_exist,
    check_labels,
    check_records,
    read_json,
    sound_records,
)

EXAMPLES = 3  # shown of each kind


@dataclass
class Report:
    """What a check found.

    problems: what must be put right before training. warnings: what deserves a look.
    files: for each annotation file that could be read, how many images, objects, ... it holds.
    """

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    files: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if there are no problems; warnings do not count."""
        return not self.problems

    def counts(self) -> dict[str, int]:
        """Number of problems of each kind, most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def to_json(self) -> str:
        """The whole report as JSON text: ok, counts, problems, warnings, files."""
        return json.dumps({"ok": self.ok, "counts": self.counts(), **asdict(self)}, indent=1)

    def __str__(self) -> str:
        held = [f"{file}: {', '.join(f'{n} {what}' for what, n in of.items())}" for file, of in self.files.items()]
        return "\n".join([*held, *_listing("problem", self.problems), *_listing("warning", self.warnings)])


def _listing(title: str, found: list[Problem]) -> list[str]:
    """Lines with the total, the count of each kind, and its first few examples."""
    lines = [f"{len(found) or 'no'} {title}{'' if len(found) == 1 else 's'}{':' if found else ''}"]
    for kind, number in Counter(problem.kind for problem in found).most_common():
        examples = [problem for problem in found if problem.kind == kind][:EXAMPLES]
        lines += [f"  {number} x {kind}", *(f"    {problem}" for problem in examples)]
        if number > EXAMPLES:
            lines.append(f"    ... and {number - EXAMPLES} more")
    return lines


def check_folder(folder: Path) -> Report:
    """Check a data folder in the layout of `datasets/coco.py`: every split, panoptic files where there are any.

    folder: with annotations/instances_SPLIT.json for one or more splits. Raises nothing for bad data: all problems
    are in the report. An image that two splits hold gives a warning.
    """
    folder = Path(folder)
    report = Report()
    found = sorted((folder / "annotations").glob("instances_*.json"))
    found.sort(key=lambda file: "train" not in file.name)  # the training split names the labels
    if not found:
        message = "has no instances_train.json or instances_val.json; expected a COCO data folder"
        report.problems.append(Problem(str(folder / "annotations"), "folder", "no annotations", message))
    splits = {}
    for annotations in found:
        split = annotations.stem.removeprefix("instances_")
        data = _check_instances(images_folder(folder, split), annotations, report)
        if data:
            splits[split] = data
        panoptic = annotations.with_name(f"panoptic_{split}.json")
        if panoptic.is_file():
            _check_panoptic(panoptic, report)
    if splits and not any(problem.record.startswith("category") for problem in report.problems):
        label_map = LabelMap.from_categories(next(iter(splits.values()))["categories"])
        for split, data in splits.items():
            report.problems += check_labels(data, folder / "annotations" / f"instances_{split}.json", label_map)
    files = {
        split: [images_folder(folder, split) / image["file_name"] for image in data["images"]]
        for split, data in splits.items()
    }
    for one, other in combinations(files, 2):
        report.warnings += _leaks(files[one], files[other], f"{one} and {other}")
    return report


def check_split(images: Path, annotations: Path) -> Report:
    """Check one COCO JSON with its folder of images; as `check_folder`, for data in any layout."""
    report = Report()
    _check_instances(Path(images), Path(annotations), report)
    return report


def _check_instances(images: Path, annotations: Path, report: Report) -> dict[str, list[dict]]:
    """Check a detection JSON and its images; returns the records that have all their fields."""
    data = _read(annotations, report)
    if data is None:
        return {}
    report.problems += check_records(data, annotations)
    sound, _ = sound_records(data, str(annotations), FIELDS)
    if sound:
        with_objects = {a["image_id"] for a in sound["annotations"]}
        report.files[str(annotations)] = {
            "images": len(sound["images"]),
            "without objects": sum(image["id"] not in with_objects for image in sound["images"]),
            "objects": len(sound["annotations"]),
            "categories": len(sound["categories"]),
        }
        report.problems += check_images_exist(sound, images, annotations)
        there = [record for record in sound["images"] if (images / record["file_name"]).is_file()]
        report.problems += _each(lambda record: _check_image(images / record["file_name"], record), there)
    return sound


def _check_panoptic(annotations: Path, report: Report) -> None:
    """Check a panoptic JSON and the PNGs in the folder of the same name beside it."""
    data = _read(annotations, report)
    if data is None:
        return
    sound, problems = check_panoptic(data, annotations)
    pngs = annotations.with_suffix("")
    report.problems += problems
    report.problems += _each(lambda pair: check_panoptic_png(pair[0], pngs / pair[0]["file_name"], pair[1]), sound)
    report.files[str(annotations)] = {
        "images": len(sound),
        "segments": sum(len(annotation["segments_info"]) for annotation, _ in sound),
    }


def _read(file: Path, report: Report) -> Any:
    """Parse a JSON file; None, and a problem in the report, if that fails or gives nothing."""
    try:
        data, fault = read_json(file), "holds null; write the file anew"
    except ValueError as error:
        data, fault = None, str(error).removeprefix(f"{file}: ")
    if data is None:
        report.problems.append(Problem(str(file), "file", "unreadable JSON", fault))
    return data


def _check_image(path: Path, record: dict) -> list[Problem]:
    """Decode one image file completely and compare its size with its record."""
    try:
        with Image.open(path) as image:
            image.verify()  # checksums, where the format has them
        read_image(path, expected=(record["height"], record["width"]))
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ...
        kind = "wrong image size" if isinstance(error, WrongSize) else "unreadable image"
        message = str(error).removeprefix(f"{path}: ")
        return [Problem(str(path), f"image {record['id']}", kind, message)]
    return []


def _each(check: Callable[[Any], list[Problem]], records: Sequence) -> list[Problem]:
    """Run a check that reads files over many records, on several threads, with a progress bar on a terminal."""
    with ThreadPoolExecutor() as pool:
        found = tqdm(pool.map(check, records), total=len(records), desc="checking", leave=False, disable=None)
        return list(chain.from_iterable(found))


def _leaks(one: list[Path], other: list[Path], splits: str) -> list[Problem]:
    """Warnings for files of `other` with the same bytes as one of `one`; only files of equal length are read."""

    def by_length(files: list[Path]) -> dict[int, list[Path]]:
        groups = {}
        for file in files:
            if file.is_file():
                groups.setdefault(file.stat().st_size, []).append(file)
        return groups

    groups = by_length(one)
    warnings = []
    for length, files in by_length(other).items():
        seen = {blake2b(file.read_bytes()).digest(): file for file in groups.get(length, [])}
        for file in files if seen else []:
            twin = seen.get(blake2b(file.read_bytes()).digest())
            if twin is not None:
                message = f"the same image as {twin.name} of the other split ({splits}): AP on it is too good"
                warnings.append(Problem(str(file), "file", "image in both splits", message))
    return warnings
