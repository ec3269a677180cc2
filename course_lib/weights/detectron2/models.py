"""From a Detectron2 checkpoint to a detector of ours."""

from pathlib import Path

from course_lib.datasets.label_map import LabelMap
from course_lib.weights.blank import without_initialisation
from course_lib.weights.detectron2.checkpoint import Checkpoint, complete_names, read_checkpoint
from course_lib.weights.detectron2.config import config_from_settings, read_config
from course_lib.weights.detectron2.names import rules_back, rules_of
from course_lib.weights.detectron2.shapes import settings_from_state
from course_lib.weights.imported import Imported, check_finite, generic_labels
from course_lib.weights.keys import load_renamed, rename
from course_lib.weights.labels import coco_labels, coco_stuff


def import_detectron2(
    path: Path,
    *,
    config: Path | None = None,
    label_map: LabelMap | None = None,
    partial: bool = False,
    checkpoint: Checkpoint | None = None,
) -> Imported:
    """The detector in a Detectron2 checkpoint.

    Args:
        path: the file, see `read_checkpoint`.
        config: its YAML; without it the tensors' shapes tell what can be seen, and the zoo's settings are taken for
            the rest, which the result's notes say.
        label_map: of its labels; by default COCO's 80 classes if there are 80, else numbers.
        partial: a file that does not hold every tensor, or more, is taken too; the report says what is missing, and
            what has no value is drawn from torch's global generator: seed it first.
        checkpoint: the file's content if it was read already; its tensors become the model's.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if a file is damaged or hostile, the config does not fit, tensors are missing or left over, or hold
            NaN or infinity.
    """
    path = Path(path)
    checkpoint = checkpoint or read_checkpoint(path)
    try:
        if config is not None:
            read = read_config(config)
            notes: tuple[str, ...] = ()
        else:
            settings, notes = settings_from_state(checkpoint.state)
            read = config_from_settings(settings, path.stem)
    except ValueError as error:
        raise error if config is not None else ValueError(f"{path}: {error}") from None
    preset = read.preset
    if partial:
        model = preset.build(read.num_classes)
    else:
        with without_initialisation(memory=False):
            model = preset.build(read.num_classes)
    state = checkpoint.state
    try:
        if checkpoint.by_suffix:
            state = complete_names(state, rename(model.state_dict(), rules_back(preset)))
        report = load_renamed(model, state, rules_of(preset), partial=partial, assign=True)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    check_finite(model.state_dict(), str(path))
    if label_map is None:
        label_map = coco_labels() if read.num_classes == 80 else generic_labels(read.num_classes)
    elif len(label_map) != read.num_classes:
        raise ValueError(f"{path}: {read.num_classes} classes, but labels for {len(label_map)}")
    source = f"Detectron2 file {path.name}" + (f" by {checkpoint.author}" if checkpoint.author else "")
    stuff = _stuff(preset.num_stuff, label_map) if preset.family == "panoptic_fpn" else None
    return Imported(model.eval(), preset, label_map, report, source, notes, stuff)


def _stuff(count: int, things: LabelMap) -> LabelMap:
    if count == 53:
        return coco_stuff()
    first = max(things.category_ids) + 1
    return LabelMap(tuple(f"stuff {i}" for i in range(1, count + 1)), tuple(range(first, first + count)))
