"""The teacher's guide speaks of every lesson and of commands that exist."""

import re
from pathlib import Path

import typer

from course_lib import cli
from course_lib.lessons.exercise_cells import title
from course_lib.lessons.normalise import read_notebook
from course_lib.lessons.workspace import LESSONS

GUIDE = (Path(__file__).parents[2] / "docs" / "teaching.md").read_text(encoding="utf-8")


def test_every_lesson_has_its_mistakes_and_a_row_in_the_plan() -> None:
    for path in LESSONS.glob("*.ipynb"):
        short = title(read_notebook(path)).partition(":")[0]  # "00 · The tour"
        assert f"### {short}\n" in GUIDE, f"no section of mistakes {short!r}"
        row = re.escape(f"| {short.replace(' ·', '')} |")
        assert re.search(f"^{row}", GUIDE, re.MULTILINE), f"no row in the plan for {short!r}"


def test_every_command_of_the_course_that_it_names_exists() -> None:
    commands = set(typer.main.get_command(cli.app).commands)
    named = set(re.findall(r"^ {4}course ([a-z]+)|`course ([a-z]+)", GUIDE, re.MULTILINE))
    assert {first or second for first, second in named} <= commands
