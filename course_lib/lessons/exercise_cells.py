"""The exercises of a lesson, found in its notebook by nbgrader's metadata: card, solution cell, check cell."""

import re
from dataclasses import dataclass

from nbformat import NotebookNode

HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
CALL = re.compile(r"\bchecks\.(\w+)\(")


@dataclass(frozen=True)
class ExerciseCells:
    """One exercise: its id "00-1", the title on its card, its solution and check cell, the check's name."""

    id: str
    title: str
    solution: NotebookNode
    check: NotebookNode

    @property
    def function(self) -> str:
        """The name of the check, which is that of the learner's function."""
        match = CALL.search(self.check.source)
        return match[1] if match else ""

    @property
    def check_id(self) -> str:
        """nbgrader's id of the check cell."""
        return self.check.metadata.nbgrader.grade_id

    @property
    def points(self) -> float:
        """What nbgrader gives for it."""
        return self.check.metadata.nbgrader.points


def find_exercises(notebook: NotebookNode) -> list[ExerciseCells]:
    """The exercises of a solved lesson, in order: a solution cell, the next check cell, and the card before.

    Raises ValueError for a solution that no check follows.
    """
    found, card, solution = [], "", None
    for cell in notebook.cells:
        grader = cell.metadata.get("nbgrader", {})
        if cell.cell_type == "markdown" and (headings := HEADING.findall(cell.source)):
            card = headings[-1]
        elif grader.get("solution"):
            solution = cell
        elif grader.get("grade") and solution is not None:
            title = card.partition("·")[2].strip() or card
            found.append(ExerciseCells(solution.metadata.nbgrader.grade_id, title, solution, cell))
            solution = None
    if solution is not None:
        raise ValueError(f"exercise {solution.metadata.nbgrader.grade_id} has no check cell after it")
    return found


def title(notebook: NotebookNode) -> str:
    """A lesson's title: the first heading, without its marks."""
    return next((h[1] for cell in notebook.cells if (h := HEADING.search(cell.source))), "")
