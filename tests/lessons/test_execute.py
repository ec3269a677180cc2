import json
import sys
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course_lib.lessons import execute as module
from course_lib.lessons.card import run_time
from course_lib.lessons.execute import execute
from course_lib.lessons.normalise import normalise_file, read_notebook, write_notebook


def write(path: Path, *sources: str) -> Path:
    write_notebook(new_notebook(cells=[new_code_cell(source) for source in sources]), path)
    return path


def test_the_kernel_is_this_python_in_the_notebooks_folder_without_course_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = tmp_path / "kernels" / "python3"  # a kernel specification that would be found first and cannot start
    kernel.mkdir(parents=True)
    spec = {"argv": [str(tmp_path / "no-python")], "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("COURSE_FAST", "1")
    (tmp_path / "a").touch()
    path = write(
        tmp_path / "00_tour.ipynb",
        f"import os, sys\nprint(sys.prefix == {sys.prefix!r}, os.environ.get('COURSE_FAST'), os.path.exists('a'))",
        "from tqdm.auto import tqdm\nlist(tqdm([1]))",
        "from ipywidgets import interact\ninteract(lambda x: print(x), x=(0, 3));",
    )

    assert module.main([str(path)]) == 1  # this source names a path of one machine
    out = capsys.readouterr().out
    assert out.startswith(f"{path} ")
    assert "names a path of one machine" in out
    first, second, third = read_notebook(path).cells
    assert first.outputs[0].text == "True None True\n"
    assert [o.output_type for o in second.outputs] == ["execute_result"]  # no progress bar
    assert third.outputs == []  # a widget's state is not kept
    assert [c.execution_count for c in (first, second, third)] == [1, 2, 3]
    assert not [line for line in normalise_file(path, check=True) if "path" not in line]


def test_the_run_time_is_noted_on_the_card(tmp_path: Path) -> None:
    path = tmp_path / "00_tour.ipynb"
    card = new_markdown_cell("**Run time:** 3 minutes on two cores. **Work:** 45–60 minutes.")
    write_notebook(new_notebook(cells=[card, new_code_cell("1")]), path)
    assert 0 < execute(path) < 20
    assert run_time(read_notebook(path)) in ("5 seconds", "10 seconds", "15 seconds", "20 seconds")


def test_a_failing_cell_leaves_the_notebook_and_the_next_one_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = write(tmp_path / "00_bad.ipynb", "1 / 0")
    good = write(tmp_path / "01_good.ipynb", "print(2)")
    before = bad.read_bytes()
    assert module.main([str(tmp_path)]) == 1
    assert bad.read_bytes() == before
    assert read_notebook(good).cells[0].outputs[0].text == "2\n"
    out = capsys.readouterr().out
    assert f"{bad} failed" in out
    assert "ZeroDivisionError" in out


@pytest.mark.slow
def test_a_cell_that_takes_too_long_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "00_slow.ipynb", "import time\ntime.sleep(60)")
    with pytest.raises(RuntimeError, match="00_slow"):
        execute(path, cell_timeout=1)
