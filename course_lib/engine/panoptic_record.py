"""Panoptic FPN and UPSNet on Town, the rule and the panoptic head on the same network: the table of lesson 12.

    python -m course_lib.engine.panoptic_record

trains both with several seeds, judges every way of fusing and writes data/panoptic/town.json, with the command. Data
and runs go to runs/panoptic; after an interruption the same command goes on.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from course_lib.datasets.coco import CocoDetection, open_split
from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_writer import make_town
from course_lib.detectors.presets import TITLES, get_preset
from course_lib.engine import checkpoint
from course_lib.engine.command import run_command
from course_lib.engine.model_files import load_model
from course_lib.engine.panoptic import evaluate_panoptic
from course_lib.engine.recipe import Recipe
from course_lib.engine.run import pick_precision, train_run
from course_lib.engine.tour import machine_facts
from course_lib.machine import cores_allowed
from course_lib.weights.files import write_text

RECORD = Path(__file__).resolve().parents[2] / "data" / "panoptic" / "town.json"
COMMAND = "python -m course_lib.engine.panoptic_record"
FUSIONS = {"panoptic_fpn": ("rule",), "upsnet": ("rule", "head")}  # ways to fuse, by model
GROUPS = ("all", "things", "stuff")


def recorded_fusions(path: Path = RECORD) -> dict[str, Any]:
    """What was recorded: "command", "settings", "machine" and "rows", one for each model, seed and way of fusing.

    A row has "model", "fusion" ("rule" or "head"), "seed", "minutes" and "iterations" of its training, "pq" with "pq",
    "sq" and "rq" of all, things and stuff, "miou", "box_ap", "mask_ap", and "fusion_ms", the median milliseconds from
    an image's masks and semantic logits to its panoptic map.

    Raises:
        FileNotFoundError: if nothing was recorded yet; it says how.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not recorded yet; run {COMMAND}")
    return json.loads(path.read_text(encoding="utf-8"))


def record(
    *,
    runs: Path,
    path: Path = RECORD,
    minutes: float | None = 6.0,
    iterations: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    images: int = 4000,
    config: TownConfig | None = None,
    threads: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train and judge both models with all seeds; returns what it writes to `path`, see `recorded_fusions`.

    Args:
        runs: the folder for data and runs; what is already there is used.
        path: the JSON.
        minutes, iterations: of each training, one of them.
        seeds: of the trainings.
        images: to learn from; an eighth as many to be judged on.
        config: of the Town; None is the default one.
        threads: of the processor; None for all.
        progress: show bars, and what is still to come.

    Raises:
        ValueError: if `runs` holds data or a run with other settings.
        KeyboardInterrupt: after Ctrl-C; the same call goes on.
    """
    config = config or TownConfig()
    torch.set_num_threads(threads or cores_allowed())
    make_town(runs / "town", train=images, val=images // 8, config=config, seed=0, progress=progress)
    train_data = open_split(runs / "town", "train")
    val_data = open_split(runs / "town", "val", label_map=train_data.label_map)
    precision, rows = pick_precision("auto"), []
    trainings = [(model, seed) for seed in seeds for model in FUSIONS]
    for number, (model, seed) in enumerate(trainings, start=1):
        if progress:
            print(f"{TITLES[model]}, seed {seed}: training {number} of {len(trainings)}", file=sys.stderr)
        out = runs / f"{model}_{seed}"
        trainer = train_run(
            get_preset("tiny", model),
            Recipe(minutes=minutes, iterations=iterations, seed=seed, precision=precision),
            train_data=train_data,
            val_data=None,
            out=out,
            resume=True,
            progress=progress,
        )
        trained = {"minutes": round(trainer.seconds / 60, 2), "iterations": trainer.iteration}
        network, _, _ = load_model(out / checkpoint.WEIGHTS)
        for fusion in FUSIONS[model]:
            judged = judge(network, fusion, val_data, progress=progress)
            rows.append({"model": model, "fusion": fusion, "seed": seed, **trained, **judged})
    result = {
        "command": COMMAND if threads is None else f"{COMMAND} --threads {threads}",
        "settings": {
            "minutes": minutes,
            "iterations": iterations,
            "seeds": list(seeds),
            "precision": precision,
            "town": {"train": images, "val": images // 8, "seed": 0, **config.to_dict()},
        },
        "machine": machine_facts(),
        "rows": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(result, indent=1) + "\n")
    return result


def judge(network: nn.Module, fusion: str, val_data: CocoDetection, *, progress: bool = False) -> dict[str, Any]:
    """The figures of a row, for a network that fuses by the "rule" or by UPSNet's "head"."""
    if hasattr(network, "heuristic"):
        network.heuristic = fusion == "rule"
    with clocked_fusion(network) as seconds:
        metrics, _, _ = evaluate_panoptic(network, val_data.with_panoptic(), progress=progress)
    values = metrics.quality.to_dict()
    return {
        "pq": {group: {key: values[group][key] for key in ("pq", "sq", "rq")} for group in GROUPS},
        "miou": metrics.miou,
        "box_ap": metrics.boxes.summary["AP"],
        "mask_ap": metrics.masks.summary["AP"],
        "fusion_ms": round(1000 * float(np.median(seconds)), 3),
    }


@contextmanager
def clocked_fusion(network: nn.Module) -> Iterator[list[float]]:
    """Write down the seconds that each image's fusion takes, while the context lasts."""
    seconds, combine = [], network.combine

    def clocked(*answers):
        begin = time.perf_counter()
        found = combine(*answers)
        seconds.append(time.perf_counter() - begin)
        return found

    network.combine = clocked
    try:
        yield seconds
    finally:
        del network.combine  # the class has it still


def format_record(result: dict[str, Any]) -> str:
    """A table: the means over the seeds of each way of fusing; then UPSNet's head against the rule, seed by seed."""
    lines = [f"{'':24}    PQ    SQ    RQ  things  stuff  PQ by seed             fusion"]
    for model, fusions in FUSIONS.items():
        for fusion in fusions:
            rows = [row for row in result["rows"] if (row["model"], row["fusion"]) == (model, fusion)]
            mean = lambda group, key, rows=rows: np.mean([row["pq"][group][key] for row in rows])  # noqa: E731
            figures = "  ".join(f"{mean('all', key):.3f}" for key in ("pq", "sq", "rq"))
            each = "  ".join(f"{row['pq']['all']['pq']:.3f}" for row in rows)
            ms = np.mean([row["fusion_ms"] for row in rows])
            groups = f"{mean('things', 'pq'):6.3f}  {mean('stuff', 'pq'):.3f}"
            lines.append(f"{TITLES[model] + ', ' + fusion:24} {figures}  {groups}  {each:21}  {ms:.2f} ms")
    gains = ", ".join(f"{gain:+.4f}" for gain in head_gains(result))
    return "\n".join([*lines, "", f"UPSNet's head against the rule on the same network, PQ by seed: {gains}"])


def head_gains(result: dict[str, Any]) -> list[float]:
    """For each seed, how much higher UPSNet's PQ is with its head than with the rule on the same network."""
    rows = [row for row in result["rows"] if row["model"] == "upsnet"]
    pq = {(row["fusion"], row["seed"]): row["pq"]["all"]["pq"] for row in rows}
    return [pq["head", seed] - pq["rule", seed] for seed in result["settings"]["seeds"]]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: 2 for a user's mistake, 130 after Ctrl-C, else 0."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/panoptic"), help="the folder for data and runs")
    parser.add_argument("--out", type=Path, default=RECORD, help="the JSON to write")
    parser.add_argument("--minutes", type=float, default=6.0, help="of each training")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--images", type=int, default=4000, help="to learn from; an eighth as many to be judged on")
    parser.add_argument("--threads", type=int, help="of the processor; by default all")
    given = parser.parse_args(argv)

    def make() -> str:
        result = record(
            runs=given.runs,
            path=given.out,
            minutes=given.minutes,
            seeds=range(given.seeds),
            images=given.images,
            threads=given.threads,
        )
        return format_record(result)

    return run_command(make)


if __name__ == "__main__":
    sys.exit(main())
