"""Execute notebooks in place, from top to bottom in a fresh kernel, normalise them, note the run time on the card.

    python -m course_lib.lessons.execute [notebook or folder ...]

The kernel is always this Python, whatever kernel specifications the machine has. COURSE_FAST is not set in it: what is
recorded is the full run. A notebook with a cell that fails or takes too long is left as it was.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, CellTimeoutError, DeadKernelError
from traitlets import default

from course_lib.lessons.card import set_run_time
from course_lib.lessons.normalise import (
    find_notebooks,
    lesson_number,
    normalise,
    normalise_file,
    read_notebook,
    report,
    write_notebook,
)

CELL_TIMEOUT = 300  # seconds
LESSON_LIMIT = 180  # seconds; a lesson should run in less on two cores


class _ThisPython(KernelSpecManager):
    """Whatever the name, the kernel specification of this interpreter."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The specification that ipykernel would install for this interpreter."""
        return self.kernel_spec_class(resource_dir=RESOURCES, **get_kernel_dict())


class _KernelOfThisPython(AsyncKernelManager):
    """A kernel manager that starts this interpreter."""

    @default("kernel_spec_manager")
    def _only_this_python(self) -> KernelSpecManager:
        return _ThisPython(parent=self)


def execute(path: Path, *, cell_timeout: float = CELL_TIMEOUT) -> float:
    """Execute one notebook in its own folder and write it back in normal form; returns the seconds it took.

    Raises RuntimeError, and writes nothing, when a cell fails or takes more than `cell_timeout` seconds.
    """
    notebook = read_notebook(path)
    client = NotebookClient(
        notebook,
        kernel_manager_class=_KernelOfThisPython,
        resources={"metadata": {"path": str(path.parent)}},
        timeout=cell_timeout,
        record_timing=False,
    )
    started = time.perf_counter()
    try:
        env = {k: v for k, v in os.environ.items() if k != "COURSE_FAST"}
        client.execute(env=env, stderr=subprocess.DEVNULL)  # the kernel's own log; a cell's stderr is an output
    except (CellControlSignal, CellTimeoutError, DeadKernelError) as error:
        raise RuntimeError(f"{path}: {error}") from error
    seconds = time.perf_counter() - started
    set_run_time(notebook, seconds)
    write_notebook(normalise(notebook, lesson_number(path)), path)
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 1 when a notebook fails or has a fault that only its author can put right, else 0."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.lessons.execute", description=__doc__)
    parser.add_argument("paths", nargs="*", default=["notebooks"], help="notebooks, or folders of them")
    arguments = parser.parse_args(argv)
    try:
        paths = find_notebooks(arguments.paths)
    except ValueError as error:
        return report([str(error)])  # it names the file
    wrong: list[str] = []
    for path in paths:
        print(f"{path} ", end="", flush=True)
        try:
            seconds = execute(path)
        except (RuntimeError, ValueError) as error:
            print("failed")
            wrong.append(str(error))
            continue
        print(f"{seconds:.0f} s" + (f", more than a lesson's {LESSON_LIMIT} s" if seconds > LESSON_LIMIT else ""))
        wrong += [f"{path}: {line}" for line in normalise_file(path, check=True)]
    return report(wrong)


if __name__ == "__main__":
    sys.exit(main())
