"""The Makefile is the map: every target sets up the environment, once. Nothing is installed here."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGETS = {"help", "tour", "lab", "test", "unit", "notebooks", "bench", "lint", "clean"}
MAKE = shutil.which("make") or "make"
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    os.utime(tmp_path / "pyproject.toml", (1e9, 1e9))
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "PYTHON"))}
    return subprocess.run([MAKE, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=60)


def ready(folder: Path) -> Path:
    """As if the environment had been made."""
    (folder / ".venv").mkdir()
    (folder / ".venv" / "ready.stamp").touch()
    return folder / ".venv" / "ready.stamp"


@needs_make
def test_help_is_the_default_and_lists_every_target(checkout: Path) -> None:
    out = make(checkout).stdout
    assert set(re.findall(r"^  make ([a-z]+) +\S", out, re.MULTILINE)) == TARGETS
    assert make(checkout, "help").stdout == out
    assert not (checkout / ".venv").exists()


@needs_make
@pytest.mark.parametrize("target", sorted(TARGETS - {"help", "clean"}))
def test_each_target_sets_up_first_and_once(checkout: Path, target: str) -> None:
    set_up = re.compile(r"-m venv .*\n.*pip install -e \"\.\[dev\]\"\n.*ready\.stamp\n.*\.venv/bin/")
    assert set_up.search(make(checkout, "-n", target).stdout)
    stamp = ready(checkout)
    assert "pip install" not in make(checkout, "-n", target).stdout
    newer = stamp.stat().st_mtime + 10
    os.utime(checkout / "pyproject.toml", (newer, newer))
    assert "pip install" in make(checkout, "-n", target).stdout


@needs_make
def test_no_target_is_taken_for_a_folder_of_its_name(checkout: Path) -> None:
    ready(checkout)
    for target in TARGETS:
        (checkout / target).mkdir()
        assert "up to date" not in make(checkout, "-n", target).stdout


@needs_make
def test_an_old_python_is_refused_in_words_and_leaves_nothing(checkout: Path) -> None:
    old = checkout / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    run = make(checkout, "unit", f"PYTHON={old}")
    assert run.returncode != 0
    assert "needs Python 3.11 or newer" in run.stdout
    assert "make PYTHON=" in run.stdout
    assert not (checkout / ".venv").exists()


@needs_make
def test_an_environment_without_pip_is_made_anew(checkout: Path) -> None:
    calls = checkout / "calls"
    recorder = checkout / "new-python"  # stands in for Python: writes down how it is called
    recorder.write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\n')
    recorder.chmod(0o755)
    broken = checkout / ".venv" / "bin" / "python"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert make(checkout, "unit", f"PYTHON={recorder}").returncode != 0  # the stand-in makes nothing
    assert "-m venv --clear .venv" in calls.read_text()
    assert not (checkout / ".venv" / "ready.stamp").exists()


def test_test_runs_everything_in_one_pytest_and_unit_leaves_the_slow_out() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^test:.*\n\t\$\(PY\) -m pytest tests notebooks \$\(NBVAL\)\n\n", text, re.MULTILINE)
    assert re.search(r'^unit:.*\n\t\$\(PY\) -m pytest tests -m "not slow"\n\n', text, re.MULTILINE)
    assert "THREADS" not in text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no execute bit")
def test_ci_run_is_an_executable_script_that_stops_at_the_first_error() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")
