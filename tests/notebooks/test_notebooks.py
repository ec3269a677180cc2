"""Every notebook of the course keeps the rules of a lesson and is in normal form. (nbval compares its output.)"""

from collections.abc import Callable
from pathlib import Path

import pytest

from course_lib.lessons.anatomy import RULES
from course_lib.lessons.normalise import normalise_file, read_notebook

WITH_DIALS = ("01", "02", "03", "05", "07", "08", "09", "10", "11", "12")
NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@each_notebook
def test_is_in_normal_form(path: Path) -> None:
    assert normalise_file(path, check=True) == []


@each_notebook
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_keeps_the_rules(path: Path, rule: Callable) -> None:
    assert list(rule(read_notebook(path))) == []


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.stem[:2] in WITH_DIALS], ids=lambda path: path.stem)
def test_has_a_figure_with_dials(path: Path) -> None:
    assert any("\nexplore(" in f"\n{cell.source}" for cell in read_notebook(path).cells if cell.cell_type == "code")
