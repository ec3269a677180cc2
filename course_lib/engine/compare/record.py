"""Comparisons that come with the course, each under other conditions, so that a lesson can read what takes an hour.

    python -m course_lib.engine.compare.record NAME

runs one (data and runs go to runs/compare/NAME; after an interruption the same command goes on) and writes its result
to data/compare/NAME.json, with the command. `town` is what `course compare --out runs/compare/town` does.
"""

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from course_lib.datasets.town import TownConfig
from course_lib.datasets.town_writer import make_town
from course_lib.engine.command import run_command
from course_lib.engine.compare.run import make_plan, run_comparison
from course_lib.engine.run import pick_precision
from course_lib.weights.files import write_text

RECORDS = Path(__file__).resolve().parents[3] / "data" / "compare"
COMMAND = "python -m course_lib.engine.compare.record {}"


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Under what a comparison is made.

    Attributes:
        title: for a reader.
        minutes: of each training.
        config: of the Town; None is the default one, which `course compare` makes.
        input_size: of the networks; None lets the plan choose.
        images: to learn from; an eighth as many to be judged on.
        threads: of the processor; None for all.
    """

    title: str
    minutes: float
    config: TownConfig | None = None
    input_size: tuple[int, int] | None = None
    images: int = 4000
    threads: int | None = None


_SHORT = Condition(title="one minute", minutes=1.0, threads=1)  # one thread: half of a laptop is left to work with
CONDITIONS = {
    "town": Condition(title="three minutes", minutes=3.0),
    # One thing is asked for otherwise in each of the others, against `one_minute`; the plan may fit more to it: levels,
    # matching thresholds and the size of the input follow from the sizes of the objects.
    "one_minute": _SHORT,
    "small": replace(_SHORT, title="small objects", config=TownConfig(scale=(0.06, 0.2))),
    "crowded": replace(_SHORT, title="crowded", config=TownConfig(objects=14.0, crowding=1.0)),
    "large_input": replace(_SHORT, title="larger input", input_size=(192, 192)),
}


def recorded_comparison(name: str, folder: Path = RECORDS) -> dict:
    """The result of a comparison that was recorded: what its `report.json` held, with "title" of its condition.

    Raises:
        ValueError: if there is no such condition.
        FileNotFoundError: if it was not recorded yet; it says how.
    """
    if name not in CONDITIONS:
        near = difflib.get_close_matches(name, CONDITIONS, n=1, cutoff=0.0)
        raise ValueError(f"no comparison {name!r}: did you mean {near[0]!r}? There are: {', '.join(CONDITIONS)}")
    path = Path(folder) / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: this comparison was not recorded; run {COMMAND.format(name)}")
    return json.loads(path.read_text(encoding="utf-8"))


def record(
    name: str, condition: Condition, *, runs: Path, folder: Path = RECORDS, progress: bool = True, **plan
) -> dict:
    """Make a comparison under a condition and write its result; returns it.

    Args:
        name: the condition's.
        condition: what is compared under.
        runs: the folder for data and runs; what is already there is used.
        folder: where the results lie.
        progress: show a bar.
        plan: more of the plan's settings, such as seeds.

    Raises:
        ValueError, OSError, KeyboardInterrupt: as `run_comparison`.
    """
    town = None
    if condition.config is not None:
        town = runs / "data"
        sizes = {"train": condition.images, "val": condition.images // 8}
        make_town(town, **sizes, config=condition.config, seed=0, progress=progress)
    settings = {
        "minutes": condition.minutes,
        "input_size": condition.input_size,
        "threads": condition.threads,
        "precision": pick_precision("auto"),
    }
    result = run_comparison(
        runs,
        make_plan(**{**settings, **plan}, data=town),
        images=condition.images,
        command=COMMAND.format(name),
        progress=progress,
    )
    config = condition.config or TownConfig()
    result = {"title": condition.title, "town": {"seed": 0, **config.to_dict()}, **result}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{name}.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: 2 for a user's mistake, 130 after Ctrl-C, else 0."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.engine.compare.record", description=__doc__)
    parser.add_argument("name", choices=list(CONDITIONS), help="which comparison to make")
    parser.add_argument("--runs", type=Path, default=Path("runs/compare"), help="the folder for data and runs")
    parser.add_argument("--folder", type=Path, default=RECORDS, help="the folder to write to")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--minutes", type=float, help="of each training, instead of the condition's")
    parser.add_argument("--images", type=int, help="to learn from, instead of the condition's")
    parser.add_argument("--threads", type=int, help="of the processor, instead of the condition's")
    given = parser.parse_args(argv)
    condition = CONDITIONS[given.name]
    changes = {key: value for key in ("minutes", "images", "threads") if (value := getattr(given, key)) is not None}

    def make() -> str:
        result = record(
            given.name,
            replace(condition, **changes),
            runs=given.runs / given.name,
            folder=given.folder,
            seeds=tuple(range(given.seeds)),
        )
        return "\n".join(result["verdicts"]["accuracy"])

    return run_command(make)


if __name__ == "__main__":
    sys.exit(main())
