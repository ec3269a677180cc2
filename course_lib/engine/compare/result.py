"""All figures of a comparison in one dict, and from it the spreads, the verdicts and a table."""

import csv
import io
from collections.abc import Mapping, Sequence

from course_lib.engine.compare.verdict import (
    QUANTITIES,
    Spread,
    both_verdict,
    caution,
    lead_verdict,
    pair_verdicts,
)
from course_lib.engine.evaluate import SUMMARY

QUIET = 0.85  # the share of its most steps that each seed of a model should do in the same time
GROUPS = ("all", "small", "medium", "large", "alone", "crowded")  # of objects, as `judge.object_groups` has them
MASKS = ("AP", "AP50", "AP75")  # of COCO's twelve, those that the table has for masks


def figure_of(run: Mapping, quantity: str) -> float | None:
    """The value of one of QUANTITIES in a run of a result; None where it has no meaning."""
    if quantity == "latency":
        return run["latency"]["median"]
    if quantity == "training":
        return run["images_per_second"]["training"]
    if quantity.startswith("mask_"):
        return run["masks"][quantity.removeprefix("mask_")] if "masks" in run else None
    if quantity.startswith("found_"):
        return run["found"][quantity.removeprefix("found_")]
    return run["summary"][quantity]


def spreads(result: Mapping, quantity: str) -> dict[str, Spread]:
    """A quantity of each model, by its title, over the seeds; models in which it has no meaning are left out.

    Args:
        result: what `course compare` writes as `report.json`.
        quantity: one of QUANTITIES.

    Raises:
        ValueError: for another quantity.
    """
    if quantity not in QUANTITIES:
        raise ValueError(f"unknown quantity {quantity!r}: expected one of {', '.join(QUANTITIES)}")
    values: dict[str, list[float]] = {}
    for run in result["runs"]:
        if (value := figure_of(run, quantity)) is not None:
            values.setdefault(result["models"][run["model"]]["title"], []).append(value)
    return {title: Spread(tuple(found)) for title, found in values.items()}


def verdicts(result: Mapping) -> dict[str, list[str]]:
    """What may be said of a result, in sentences.

    Returns:
        "caution": what a claim is worth, and whether the machine was disturbed; "accuracy": every two models, in boxes
        and, where both find some, in masks; "speed": every two models;
        "both": who is beaten in neither; "where": who leads in the parts of the task.
    """
    accuracy, masks, latency = (spreads(result, quantity) for quantity in ("AP", "mask_AP", "latency"))
    pairs = len(accuracy) * (len(accuracy) - 1) // 2
    parts = {q: spreads(result, q) for q in QUANTITIES if q not in ("AP", "mask_AP", "latency")}
    return {
        "caution": [caution(result["settings"]["seeds"], pairs), *disturbances(result)],
        "accuracy": pair_verdicts(QUANTITIES["AP"], accuracy) + pair_verdicts(QUANTITIES["mask_AP"], masks),
        "speed": pair_verdicts(QUANTITIES["latency"], latency),
        "both": [both_verdict(accuracy, latency)],
        "where": [
            lead_verdict(QUANTITIES[q], found)
            for q, found in parts.items()
            if found and (len(found) > 1 or not q.startswith("mask_"))
        ],
    }


def disturbances(result: Mapping) -> list[str]:
    """A sentence if some seed of a model did far fewer steps in the same time than another: the machine was busy."""
    if result["settings"]["minutes"] is None:
        return []
    uneven = []
    for title, runs in by_title(result).items():
        steps = [run["iterations"] for run in runs]
        if min(steps) < QUIET * max(steps):
            uneven.append(f"{title} {min(steps)} to {max(steps)}")
    if not uneven:
        return []
    return [
        "The machine was not equally quiet: in the same time these models did as many steps, by seed: "
        f"{'; '.join(uneven)}. So part of the spread is not the seeds'; a machine with nothing else to do tells more."
    ]


COLUMNS = (
    "model",
    "seed",
    *SUMMARY,
    "parameters",
    "gflops",
    "minutes",
    "iterations",
    "training_images_per_second",
    "inference_images_per_second",
    "latency_median_ms",
    "latency_p95_ms",
    *(f"{part}_ms" for part in ("preprocess", "backbone", "proposals", "head", "postprocess")),
    "memory_inference_mb",
    "memory_training_mb",
    *(f"found_{group}" for group in GROUPS),
    *(f"cost_{kind}" for kind in ("localisation", "classification", "duplicate", "background", "both", "missed")),
    *(f"mask_{key}" for key in MASKS),
)


def to_csv(result: Mapping) -> str:
    """A result as a table, a line for each run; an empty field has no meaning or was not measured."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for run in result["runs"]:
        memory = result["models"][run["model"]]["memory"]
        row = {
            "model": run["model"],
            "seed": run["seed"],
            **run["summary"],
            **{key: run[key] for key in ("parameters", "gflops", "minutes", "iterations")},
            **{f"{key}_images_per_second": value for key, value in run["images_per_second"].items()},
            "latency_median_ms": run["latency"]["median"],
            "latency_p95_ms": run["latency"]["p95"],
            **{f"{part}_ms": value for part, value in run["latency"]["parts"].items()},
            **{f"memory_{key}_mb": value for key, value in memory.items()},
            **{f"found_{group}": value for group, value in run["found"].items()},
            **{f"cost_{kind}": value for kind, value in run["errors"]["gain"].items()},
            **{f"mask_{key}": run["masks"][key] for key in MASKS if "masks" in run},
        }
        table.writerow({key: _short(value) for key, value in row.items()})
    return text.getvalue()


def _short(value: object) -> object:
    return round(value, 5) if isinstance(value, float) else value


def points(result: Mapping) -> dict[str, list[tuple[float, float]]]:
    """For each model of a result, by its title, each seed's (milliseconds an image, AP)."""
    return {
        title: [(run["latency"]["median"], run["summary"]["AP"]) for run in runs]
        for title, runs in by_title(result).items()
    }


def curves(result: Mapping) -> dict[str, list[list[tuple[float, float]]]]:
    """For each model of a result, by its title, each seed's (minutes, AP) on the way."""
    return {
        title: [[(point["minutes"], point["AP"]) for point in run["curve"]] for run in runs]
        for title, runs in by_title(result).items()
    }


def found(result: Mapping) -> dict[str, dict[str, list[float]]]:
    """For each model of a result, by its title, each seed's share found of each group that has objects."""
    groups = [group for group in GROUPS if result["runs"][0]["found"][group] is not None]
    return {
        title: {group: [run["found"][group] for run in runs] for group in groups}
        for title, runs in by_title(result).items()
    }


def by_title(result: Mapping) -> dict[str, list[Mapping]]:
    """The runs of each model of a result, by its title."""
    return {
        model["title"]: [run for run in result["runs"] if run["model"] == name]
        for name, model in result["models"].items()
    }


def mean_figures(runs: Sequence[Mapping], key: str) -> dict[str, float]:
    """The mean over runs of their latency's "parts" or their errors' "gain", whichever `key` says."""
    groups = [run["latency"]["parts"] if key == "parts" else run["errors"]["gain"] for run in runs]
    return {name: sum(group[name] for group in groups) / len(groups) for name in groups[0]}
