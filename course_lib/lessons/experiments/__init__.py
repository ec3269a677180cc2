"""Experiments that take minutes: run once, recorded with the command that made them, read by the notebooks.

    python -m course_lib.lessons.experiments --list
    python -m course_lib.lessons.experiments NAME

A module NAME of this package with `def run(progress: bool) -> dict` is an experiment. Its dict (settings, rows: what
JSON can hold) goes to data/experiments/NAME.json together with command, seconds, processor, threads and versions.
A notebook takes its numbers from there: `recorded("NAME")["rows"]`. A whole experiment takes ten minutes at most.

`sweep` is the loop of an experiment that measures several cases: it shows the time left, and after Ctrl-C the same
command goes on with the first case that is not finished.
"""

import difflib
import hashlib
import importlib
import json
import math
import pkgutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from course_lib.engine.tour import machine_facts
from course_lib.weights.files import write_text

ROOT = Path(__file__).resolve().parents[3]
RECORDS = ROOT / "data" / "experiments"
UNFINISHED = ROOT / "runs" / "experiments"  # the rows of a sweep that was interrupted
COMMAND = "python -m course_lib.lessons.experiments {}"
ABOUT = ("command", "seconds", "machine")  # what a record says beside the experiment's own results


def experiments() -> list[str]:
    """The names of all experiments."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def recorded(name: str) -> dict:
    """The record of an experiment: what its `run` gave, and command, seconds, machine (processor, threads, versions).

    Raises ValueError for an experiment that does not exist, FileNotFoundError for one that was not run yet.
    """
    _must_exist(name)
    path = RECORDS / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: this experiment was not recorded; run {COMMAND.format(name)}")
    return json.loads(path.read_text(encoding="utf-8"))


def record(name: str, *, progress: bool = True) -> Path:
    """Run an experiment and write its record, all at once; returns the file.

    Raises ValueError for an experiment that does not exist or whose result JSON cannot hold. After an interruption an
    older record is still there, and so are the finished rows of a sweep.
    """
    _must_exist(name)
    unfinished = UNFINISHED / f"{name}.jsonl"
    run = importlib.import_module(f"{__name__}.{name}").run
    began = time.perf_counter()
    before = sum(line["seconds"] for line in _finished(unfinished, name))  # in earlier sittings
    result = run(progress)
    if not isinstance(result, dict) or set(result) & set(ABOUT):
        what = ", ".join(result) if isinstance(result, dict) else type(result).__name__
        raise ValueError(f"experiment {name}: run gave {what}; expected a dict without {', '.join(ABOUT)}")
    seconds = round(before + time.perf_counter() - began)
    about = {"command": COMMAND.format(name), "seconds": seconds, "machine": machine_facts()}
    RECORDS.mkdir(parents=True, exist_ok=True)
    path = RECORDS / f"{name}.json"
    write_text(path, json.dumps({**about, **plain(result)}, indent=1, ensure_ascii=False) + "\n")
    unfinished.unlink(missing_ok=True)
    return path


def sweep(name: str, cases: Iterable[Mapping], measure: Callable[..., Mapping], *, progress: bool) -> list[dict]:
    """Measure each case: the rows {**case, **measure(**case)}, with a bar that says how much time is left.

    Args:
        name: the experiment's.
        cases: the settings of each row, as keyword arguments of `measure`.
        measure: what to add to the row; plain values.
        progress: show the bar.

    A finished row is kept on disk until the experiment is recorded. So after an interruption the same call measures
    only the others. When the experiment's file has changed, all are measured again.
    """
    cases = [plain(dict(case)) for case in cases]
    path = UNFINISHED / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = _finished(path, name)
    known = {json.dumps(line["case"]): line["row"] for line in lines}
    rows = []
    with tqdm(cases, desc=name, unit="case", disable=not progress) as bar:
        for case in bar:
            key = json.dumps(case)
            if key not in known:
                began = time.perf_counter()
                known[key] = plain({**case, **measure(**case)})
                seconds = time.perf_counter() - began
                lines.append({"code": _code(name), "case": case, "row": known[key], "seconds": seconds})
                write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
            rows.append(known[key])
    return rows


def _finished(path: Path, name: str) -> list[dict]:
    """The lines of an interrupted sweep that the experiment, as it is now, measured."""
    if not path.is_file():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["code"] == _code(name)]


def _code(name: str) -> str:
    """A digest of an experiment's file."""
    return hashlib.sha256(Path(importlib.import_module(f"{__name__}.{name}").__file__).read_bytes()).hexdigest()[:16]


def _must_exist(name: str) -> None:
    """Raise ValueError, with what was probably meant, if there is no such experiment."""
    names = experiments()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names) or 'none'}"
        raise ValueError(f"no experiment {name!r}: {hint}")


def plain(value: Any, where: str = "result") -> Any:
    """A value as JSON holds it: numbers of numpy and torch as Python's, tuples as lists, NaN and infinity as None.

    Raises ValueError naming the place for anything else.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if hasattr(value, "tolist"):  # an array, a tensor or one of their numbers
        return plain(value.tolist(), where)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    raise ValueError(f"{where}: found {type(value).__name__}, expected what JSON can hold")
