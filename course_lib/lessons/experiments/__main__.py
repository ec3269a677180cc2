"""Run experiments and write their records to data/experiments/. Ctrl-C loses nothing that was finished."""

import argparse
import ast
import sys
from collections.abc import Sequence
from pathlib import Path

from course_lib.lessons import experiments


def listing() -> str:
    """A line an experiment: its name, the seconds it took or that it was not recorded, its first docstring line."""
    lines = []
    for name in experiments.experiments():
        try:
            state = f"{experiments.recorded(name)['seconds']:4d} s"
        except FileNotFoundError:
            state = "not recorded"
        folder = next(f for f in experiments.__path__ if Path(f, f"{name}.py").is_file())
        purpose = ast.get_docstring(ast.parse(Path(folder, f"{name}.py").read_text(encoding="utf-8"))) or ""
        lines.append(f"{name:24} {state:>12}  {purpose.partition(chr(10))[0]}")
    return "\n".join(lines) or "no experiment"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: 2 for a user's mistake, 130 after Ctrl-C, else 0."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.lessons.experiments", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="the experiments to run")
    parser.add_argument("--list", action="store_true", help="say which there are, and which are recorded")
    arguments = parser.parse_args(argv)
    if arguments.list or not arguments.names:
        print(listing())
        return 0
    try:
        for name in arguments.names:
            path = experiments.record(name)
            print(f"{path}: {experiments.recorded(name)['seconds']} s")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; what was finished is kept. The same command goes on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
