"""What a learner sees: `make lab`, a lesson in the browser, all cells run, the figure with dials follows its slider."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from course_lib.lessons.anatomy import executed
from course_lib.lessons.normalise import read_notebook

ROOT = Path(__file__).parents[2]
LESSON = "02_*.ipynb"
NEEDS = {
    "Chromium (package chromium)": shutil.which("chromium"),
    "ChromeDriver (package chromium-driver)": shutil.which("chromedriver"),
    "make": shutil.which("make"),
    "selenium": importlib.util.find_spec("selenium"),
    ".venv/bin/course": (ROOT / ".venv" / "bin" / "course").is_file(),
}
MISSING = ", ".join(name for name, found in NEEDS.items() if not found)


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"JupyterLab was not tried in a browser: this machine has no {MISSING}")
def test_a_lesson_runs_in_jupyterlab_and_its_figure_follows_the_slider(tmp_path: Path) -> None:
    from tests.browser.lab import Notebook, chromium, make_lab

    workspace, scratch = tmp_path / "workspace", tmp_path / "scratch"
    workspace.mkdir(), scratch.mkdir()
    (solved,) = (ROOT / "notebooks").glob(LESSON)
    path = workspace / solved.name  # a learner who has solved it; `make lab` never overwrites it
    shutil.copy(solved, path)
    with make_lab(workspace, scratch) as address, chromium(scratch) as driver:
        notebook = Notebook(driver, address, path.name)
        try:
            notebook.run_all()
            assert notebook.cells_with("[data-mime-type='application/vnd.jupyter.error']") == []
            cell = notebook.cells_with(".widget-slider")[0]
            start = notebook.picture(cell)
            notebook.move_slider(cell, 2)
            notebook.until_picture_is_not(cell, start)
        finally:
            driver.save_screenshot(os.environ.get("COURSE_SCREENSHOT", str(tmp_path / "lab.png")))
        notebook.save()
    after = read_notebook(path)
    assert list(executed(after)) == []
    assert (workspace / "00_tour.ipynb").is_file()  # which `make lab` put there
