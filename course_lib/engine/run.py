"""A run: data, budget and seed in, a folder with a trained detector out."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from course_lib import __version__
from course_lib.datasets.coco import CocoDetection
from course_lib.detectors.presets import Preset, preset_to_dict
from course_lib.engine import checkpoint
from course_lib.engine.fine_tune import Start, in_words
from course_lib.engine.plan import box_statistics, fit
from course_lib.engine.recipe import SCALES, Recipe
from course_lib.engine.train import Trainer


def train_run(
    preset: Preset,
    recipe: Recipe,
    *,
    train_data: CocoDetection,
    val_data: CocoDetection | None,
    out: Path,
    start: Start | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: bool = True,
    watch: Callable[[Trainer, float], None] | None = None,
) -> Trainer:
    """Train a detector into a run folder, or go on with the run that lies there.

    Args:
        preset: the model; its input size and anchors are fitted to the data (`engine.plan`), unless it starts from a
            detector's weights.
        recipe: how to train.
        train_data, val_data: the splits; with None for the second no AP is measured on the way. A detector that learns
            masks (`uses_masks`) gets them, one that learns stuff also the panoptic files beside the instances.
        out: the run folder, made if it is not there.
        start: weights to start from (`engine.fine_tune`), whose preset is `preset`, perhaps with other stages frozen;
            random ones by default.
        resume: go on from the folder's last checkpoint; the settings must be the same.
        device: "auto", "cpu", "cuda" or "mps".
        progress: show a bar.
        watch: see `Trainer`.

    Returns:
        the trainer after its last step.

    Raises:
        ValueError: if the folder holds a run and `resume` is not set, or holds one with other settings; or if the
            detector needs masks and an object has none, or panoptic files and they are not there.
        OSError: if the folder cannot be written.
        KeyboardInterrupt: after Ctrl-C, with the state saved.
    """
    fitted, recipe = fit(preset, recipe, box_statistics(train_data), keep=start is not None and start.whole)
    if hasattr(fitted, "num_stuff"):
        train_data = train_data.with_panoptic()
        fitted = replace(fitted, num_stuff=len(train_data.panoptic.stuff_map))
    torch.manual_seed(recipe.seed)  # the weights' initial values come from torch's global generator
    model = fitted.build(len(train_data.label_map))
    stuff_map = None if train_data.panoptic is None else train_data.panoptic.stuff_map
    report = None if start is None else start.load(model, train_data.label_map, stuff_map)
    said = in_words(start, report, model)
    model = model.to(pick_device(device))
    if getattr(model, "uses_masks", False):
        train_data = train_data.with_masks()
    header = {
        "preset": preset_to_dict(fitted),
        "label_map": train_data.label_map.to_dict(),
        "recipe": asdict(recipe),
        "weights": {"source": None if start is None else start.source},
        "data": {"images": str(train_data.images), "annotations": str(train_data.annotations)},
        "course_lib": __version__,
    }
    if stuff_map is not None:
        header["stuff_map"] = stuff_map.to_dict()
    header = json.loads(json.dumps(header))  # as it will be read back
    out = Path(out)
    trainer = Trainer(
        model,
        recipe,
        train_data=train_data.shrunk(round(SCALES[recipe.augmentation][1] * max(fitted.input.size))),
        val_data=val_data,
        out=out,
        header=header,
        size=fitted.input.size,
        progress=progress,
        watch=watch,
    )
    if resume and (out / checkpoint.CONFIG).exists():
        _check_same(json.loads((out / checkpoint.CONFIG).read_text(encoding="utf-8")), header, out)
    else:
        _claim(out, header)
    resumed = resume and trainer.resume()
    if said and progress and not resumed:
        tqdm.write("\n".join(said))
    trainer.run()
    return trainer


def _claim(out: Path, header: dict) -> None:
    """Make the run folder ours, or say why it cannot be."""
    if (out / checkpoint.CONFIG).exists():
        raise ValueError(f"{out} already holds a run: add --resume to go on with it, or choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot make the run folder {out}: {error}") from error
    checkpoint.write_text(out / checkpoint.CONFIG, json.dumps(header, indent=1))


def _check_same(old: dict, new: dict, out: Path) -> None:
    """Refuse to go on with a run under other settings: the result would be neither the one nor the other."""
    if "recipe" in old:  # perhaps of a run that is older than some settings
        old = {"weights": {"source": None}} | old | {"recipe": asdict(Recipe(iterations=1)) | old["recipe"]}
    for part in ("recipe", "weights", "label_map", "preset"):
        if part not in old:
            raise ValueError(f"{out / checkpoint.CONFIG} is not this course's: it has no {part}; choose another --out")
        for key in old[part]:
            if old[part][key] != new[part].get(key):
                raise ValueError(
                    f"{out} was started with {part} {key} = {old[part][key]}, not {new[part].get(key)}: "
                    "resume with the same settings, or choose another --out"
                )


def pick_device(name: str) -> torch.device:
    """The device to train on: "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        ValueError: if the one asked for is not there.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    if not present.get(name.split(":")[0], False):
        raise ValueError(
            f"device {name!r} is not available here; there is {', '.join(k for k, v in present.items() if v)}"
        )
    return torch.device(name)


def pick_precision(name: str) -> str:
    """ "auto" is bf16 where the processor multiplies it in hardware, else fp32.

    Raises:
        ValueError: for an unknown name.
    """
    if name == "auto":
        return "bf16" if has_fast_bf16() else "fp32"
    if name not in ("fp32", "bf16"):
        raise ValueError(f"unknown precision {name!r}: expected auto, fp32 or bf16")
    return name


def has_fast_bf16() -> bool:
    """Whether this machine multiplies bf16 matrices in hardware (AVX512-BF16, AMX, or a recent GPU)."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probe = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(probe.get("avx512_bf16") or probe.get("amx_bf16") or probe.get("amx_tile"))
