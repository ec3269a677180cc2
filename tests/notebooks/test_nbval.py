"""nbval, as `make test` calls it, compares what it should: run on a small notebook in a folder of its own."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from course_lib.lessons.normalise import normalise, write_notebook

ROOT = Path(__file__).parents[2]
SANITIZE = ROOT / "tests" / "notebooks" / "sanitize.cfg"


def nbval_line() -> list[str]:
    """The options of `make test`, read from the Makefile."""
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("NBVAL =")).partition("=")[2].split()


def nbval_failures(folder: Path, *cells: tuple[str, str]) -> tuple[int, set[int]]:
    """Validate a notebook of (source, recorded output) cells: how many ran, and the numbers of those that failed."""
    code = [new_code_cell(source, execution_count=1) for source, _ in cells]
    for cell, (_, text) in zip(code, cells):
        cell.outputs = [new_output("stream", name="stdout", text=text)] if text else []
    notebook, report = folder / "00_small.ipynb", folder / "report.xml"
    write_notebook(normalise(new_notebook(cells=code), "00"), notebook)
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", *nbval_line()]
    command += ["-c", str(ROOT / "pyproject.toml"), f"--junitxml={report}", str(notebook)]
    env = {k: v for k, v in os.environ.items() if k != "COURSE_FAST"}
    subprocess.run(command, cwd=ROOT, env=env, capture_output=True, timeout=120)
    results = list(ElementTree.parse(report).iter("testcase"))
    failed = {int(result.get("name", "").split()[-1]) for result in results if len(result)}
    return len(results), failed


@pytest.mark.slow
def test_compared_cells_are_compared_after_sanitizing(tmp_path: Path) -> None:
    cells = [
        ("# NBVAL_CHECK_OUTPUT\nprint(0.25)", "0.25\n"),
        ("# NBVAL_CHECK_OUTPUT\nprint(0.25)", "0.26\n"),
        ("print(0.25)", "0.26\n"),
        ("# NBVAL_CHECK_OUTPUT\nprint('trained in 3.2 s')", "trained in 41 s\n"),
        ("# NBVAL_CHECK_OUTPUT\nimport torch\nprint('torch', torch.__version__)", "torch 2.11.0+cpu\n"),
        ("# NBVAL_CHECK_OUTPUT\nimport os\nprint(os.environ['COURSE_FAST'])", "1\n"),
        ("# NBVAL_CHECK_OUTPUT\nimport sys\nprint(sys.executable == " + repr(sys.executable) + ")", "True\n"),
        ("# NBVAL_CHECK_OUTPUT\nprint('AP 0.52')", "AP 0.53\n"),
        ("1 / 0", ""),
    ]
    assert nbval_failures(tmp_path, *cells) == (len(cells), {1, 7, 8})


def test_the_sanitizers_file_is_ascii_and_nbval_reads_every_pattern() -> None:
    from nbval.plugin import get_sanitize_patterns

    text = SANITIZE.read_text(encoding="ascii")  # nbval opens it in the machine's own encoding
    assert len(get_sanitize_patterns(text)) == text.count("regex: ") == text.count("replace: ") > 0
