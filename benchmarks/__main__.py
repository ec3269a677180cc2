"""`python -m benchmarks`: one table of ratios, ours to the peers', measured in turns on the same threads.

Run it on a machine that does nothing else. Heavy imports wait until they are needed: Town's worker processes
import this file.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

NAMES = (
    *("focal", "inference", "training", "rcnn_inference", "rcnn_training"),
    *("targets", "pasting", "fusion", "quality", "town", "accuracy"),
)


def main() -> None:
    """Measure what the command line asks for and print the table."""
    options = _parse()
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler's own chatter; read when torch is imported
    import torch

    from benchmarks.table import format_table

    torch.set_num_threads(options.threads)
    rows, notes = [], []
    for name in options.only or NAMES:
        print(f"{name} …", end=" ", file=sys.stderr, flush=True)
        begin = time.perf_counter()
        found = _measure(name)(repeat=options.repeat, run=options.run, data=options.data)
        print(f"{time.perf_counter() - begin:.0f} s", file=sys.stderr)
        if isinstance(found, str):
            notes.append(found)
        else:
            rows += found
    facts = machine_facts(options)
    if options.json:
        print(json.dumps({"machine": facts, "rows": [row.to_dict() for row in rows], "notes": notes}, indent=1))
    else:
        print("\n".join([", ".join(f"{k} {v}" for k, v in facts.items()), "", format_table(rows), *notes]))


def machine_facts(options: argparse.Namespace) -> dict[str, str | int]:
    """What the figures depend on."""
    import torch
    import torchvision

    return {
        "processor": platform.processor() or platform.machine(),
        "threads": options.threads,
        "medians of": options.repeat,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


def _measure(name: str) -> Callable:
    from benchmarks import accuracy, faster_rcnn, focal, panoptic, pasting, retinanet, targets, town

    return {
        "focal": focal.run,
        "inference": retinanet.run_inference,
        "training": retinanet.run_training,
        "rcnn_inference": faster_rcnn.run_inference,
        "rcnn_training": faster_rcnn.run_training,
        "targets": targets.run,
        "pasting": pasting.run,
        "fusion": panoptic.run_fusion,
        "quality": panoptic.run_quality,
        "town": town.run,
        "accuracy": accuracy.run,
    }[name]


def _parse() -> argparse.Namespace:
    from course_lib.machine import cores_allowed

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=NAMES, help="measure this alone; may be given several times")
    parser.add_argument("--repeat", type=_positive, default=7, help="samples of each side, whose median counts")
    parser.add_argument(
        "--threads", type=_positive, default=cores_allowed(), help="of both sides (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--run", type=Path, help="a trained run, for the accuracy in bf16 (default: the tour's)")
    parser.add_argument("--data", type=Path, help="the data folder to judge it on (default: the tour's)")
    return parser.parse_args()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {value}, expected at least 1")
    return value


if __name__ == "__main__":
    main()
