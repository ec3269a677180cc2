"""The card at the top of a lesson: how long it runs and how long the work takes.

    **Run time:** 45 seconds on two cores (15 seconds with `COURSE_FAST=1`). **Work:** 45–60 minutes.

The run time is measured: executing the notebook writes it here, and the README's table of lessons reads it from here.
"""

import re
from collections.abc import Iterator

from nbformat import NotebookNode

RUN_TIME = re.compile(r"(?<=\*\*Run time:\*\* )((\d+(?:\.\d)?) (second|minute)s?)(?= on two cores)")
WORK = re.compile(r"(?<=\*\*Work:\*\* )[\d–]+ minutes")
FORM = "'**Run time:** 45 seconds on two cores (…). **Work:** 45–60 minutes.'"
CELLS = 4  # the card is among the first
SAME = 0.25  # a run time that differs by no more than this share is the same: it varies from run to run


def run_time(notebook: NotebookNode) -> str | None:
    """The run time as the card says it, "45 seconds"; None if it does not."""
    return next((match[1] for _, match in _found(notebook, RUN_TIME)), None)


def work_time(notebook: NotebookNode) -> str | None:
    """The time of work as the card says it, "45–60 minutes"; None if it does not."""
    return next((match[0] for _, match in _found(notebook, WORK)), None)


def set_run_time(notebook: NotebookNode, seconds: float) -> None:
    """Write a measured run time on the card, unless what it says is within a quarter (or five seconds) of it."""
    for cell, match in _found(notebook, RUN_TIME):
        said = float(match[2]) * (60 if match[3] == "minute" else 1)
        if abs(seconds - said) > max(5, SAME * said):
            cell.source = RUN_TIME.sub(duration(seconds), cell.source, count=1)
        return


def duration(seconds: float) -> str:
    """A duration in round words: in steps of 5 seconds, from two minutes on of half a minute."""
    if seconds < 117.5:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    return f"{round(seconds / 30) / 2:g} minutes"


def _found(notebook: NotebookNode, pattern: re.Pattern[str]) -> Iterator[tuple[NotebookNode, re.Match[str]]]:
    """The first cells that have the pattern, each with its match."""
    for cell in notebook.cells[:CELLS]:
        if cell.cell_type == "markdown" and (match := pattern.search(cell.source)):
            yield cell, match
