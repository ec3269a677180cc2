"""What is compared: models, seeds, budget, data. Written down first, so that a comparison can go on after a break."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from course_lib.detectors.presets import TITLES, Preset, get_preset
from course_lib.engine import checkpoint
from course_lib.engine.recipe import Recipe

RIVALS = ("retinanet", "ssd", "yolo", "faster_rcnn")  # what is compared unless something else is asked for
SETTINGS = "compare.json"
THEIRS = "detectron2_"  # before a family's name: not our model of it but Detectron2's
THEIR_FAMILIES = ("retinanet", "faster_rcnn", "mask_rcnn")


def family_of(model: str) -> str:
    """The family of a model of a comparison, ours ("retinanet") or Detectron2's ("detectron2_retinanet").

    Raises:
        ValueError: if there is no such model, or it makes panoptic maps, which a comparison does not judge.
    """
    family = model.removeprefix(THEIRS)
    if hasattr(get_preset("tiny", family), "num_stuff"):
        raise ValueError(f"{model}: a comparison judges boxes and masks, not panoptic maps; leave it out")
    if family != model and family not in THEIR_FAMILIES:
        raise ValueError(f"{model}: Detectron2 has no {TITLES[family]}; it has {', '.join(THEIR_FAMILIES)}")
    return family


def is_theirs(model: str) -> bool:
    """Whether a model of a comparison is Detectron2's."""
    return model.startswith(THEIRS)


def title(model: str) -> str:
    """A model's name for a reader."""
    name = TITLES[family_of(model)]
    return f"Detectron2 {name}" if is_theirs(model) else name


def with_peer(models: Sequence[str], peer: str | None) -> tuple[str, ...]:
    """The models and, if the peer is "detectron2", after them Detectron2's of the same families.

    Raises:
        ValueError: if it has none of them, or the peer is another.
    """
    if peer is None:
        return tuple(models)
    if peer != "detectron2":
        raise ValueError(f"unknown platform {peer!r}: there is detectron2")
    theirs = tuple(THEIRS + model for model in models if model in THEIR_FAMILIES)
    if not theirs:
        raise ValueError(
            f"Detectron2 has none of {', '.join(models)}: compare it with at least one of {', '.join(THEIR_FAMILIES)}"
        )
    return (*models, *theirs)


@dataclass(frozen=True)
class Job:
    """One training: a model and a seed."""

    model: str
    seed: int

    @property
    def name(self) -> str:
        """Of its run folder."""
        return f"{self.model}_seed{self.seed}"

    @property
    def title(self) -> str:
        """For a reader."""
        return f"{title(self.model)}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A comparison. Everything but the model and the seed is the same for all runs.

    Attributes:
        models: families, each with its `tiny` preset: the same backbone and channels; or Detectron2's (see `THEIRS`).
        seeds: of weights, order and augmentation.
        minutes, iterations: the budget of each run; exactly one is set.
        input_size: (height, width) of the networks' input; None lets the plan choose it, alike for all.
        precision: of the training, "fp32" or "bf16"; all are judged and timed in fp32.
        threads: of the processor.
        data: the folder; empty for a Town that is made.
        train, val: how many images it has.

    Raises:
        ValueError: for an unknown model, one that is named twice, no model, no seed, or a budget that is not one.
    """

    models: tuple[str, ...] = RIVALS
    seeds: tuple[int, ...] = (0, 1, 2)
    minutes: float | None = 3.0
    iterations: int | None = None
    input_size: tuple[int, int] | None = None
    precision: str = "fp32"
    threads: int
    data: str
    train: int
    val: int

    def __post_init__(self):
        if not self.models or not self.seeds:
            raise ValueError(
                f"found {len(self.models)} models and {len(self.seeds)} seeds, expected at least one of each"
            )
        for names in (self.models, self.seeds):
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"{twice[0]!r} is named twice: each model and each seed is trained once")
        for model in self.models:
            family_of(model)
        self.recipe(0)

    def jobs(self) -> list[Job]:
        """All trainings, seed by seed: after each seed the comparison is whole, and no model has the machine early."""
        return [Job(model, seed) for seed in self.seeds for model in self.models]

    def preset(self, model: str) -> Preset:
        """The preset of our model that is trained."""
        return get_preset("tiny", model)

    def recipe(self, seed: int) -> Recipe:
        """How each of them is trained. Raises ValueError unless the budget is minutes or iterations."""
        return Recipe(
            minutes=self.minutes,
            iterations=self.iterations,
            seed=seed,
            precision=self.precision,
            input_size=self.input_size,
        )

    def expected_seconds(self) -> float:
        """About how long one training takes."""
        return 60 * self.minutes if self.minutes is not None else 0.15 * self.iterations


def run_folder(out: Path, job: Job) -> Path:
    """Where a training lies."""
    return out / "runs" / job.name


def claim(out: Path, plan: Plan) -> None:
    """Write the plan into the comparison's folder, or check that the one there is the same.

    Other models and seeds are welcome: what is trained already is kept.

    Raises:
        ValueError: if a comparison with other settings lies there.
        OSError: if the folder cannot be written.
    """
    path = out / SETTINGS
    settings = json.loads(json.dumps(asdict(plan)))
    if path.exists():
        old = json.loads(path.read_text(encoding="utf-8"))
        for key in settings.keys() - {"models", "seeds"}:
            if old.get(key) != settings[key]:
                raise ValueError(
                    f"{out} holds a comparison with {key} = {old.get(key)}, not {settings[key]}: "
                    "go on with the same settings, or choose another --out"
                )
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.write_text(path, json.dumps(settings, indent=1))
