"""What the classroom adds to nbgrader's autograding; `nbgrader_config.py` in the pack names these parts.

Of two cells with one id nbgrader keeps the last, and says so only in its log. A deleted check cell has no points and
no reason. With `add_missing_cells` it is put back, but a notebook whose solution is gone too then gets no grade at all,
nor does one, ever, into which an exercise of another lesson was pasted. Here all are graded; the deleted and copied
cells are marked in the gradebook for a person to look at, with a comment.
"""

import os
from typing import Any

from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from nbgrader.api import Gradebook
from nbgrader.preprocessors import Execute, NbGraderPreprocessor

NOTE = "course_cells"  # in a notebook's metadata: {grade id: what happened to its cell}
COPIED = "the cell was copied: the last one is graded, the others are not"
DELETED = "the cell was deleted"


class NoteCells(NbGraderPreprocessor):
    """Note which cells of exercises were deleted or copied, before nbgrader mends the notebook.

    Of copies the last one stays an exercise; a cell that was not released with this lesson becomes an ordinary one. A
    deleted solution gets an empty cell, so that nbgrader can put its check back.
    """

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        """Leave the note in the notebook's metadata."""
        settings = resources["nbgrader"]
        with Gradebook(settings["db_url"]) as gradebook:
            released = gradebook.find_notebook(settings["notebook"], settings["assignment"])
            known = {cell.name for cell in released.source_cells}
            solutions = [cell.name for cell in released.solution_cells]
            graded = [cell.name for cell in released.grade_cells]
        there: set[str] = set()
        notes = {}
        for cell in reversed(nb.cells):
            name = _name(cell)
            if name in known and name not in there:
                there.add(name)
                continue
            if name in known:
                notes[name] = COPIED
            cell.metadata.pop("nbgrader", None)  # an empty one, as DeduplicateIds leaves it, stops OverwriteCells
        for name in (*solutions, *graded):
            if name not in there:
                notes[name] = DELETED
                if name in solutions:
                    after = [n for n, cell in enumerate(nb.cells) if name < _name(cell)]
                    nb.cells.insert(after[0] if after else len(nb.cells), _empty_solution(name))
        for name, what in notes.items():
            self.log.warning("%s: %s", name, what)
        nb.metadata[NOTE] = notes
        return nb, resources


class FlagCells(NbGraderPreprocessor):
    """Mark the exercises with a note as "needs manual grading", and tell why in a comment.

    The comment stands at the solution cell and is part of the student's feedback.
    """

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        """Write to the gradebook; the notebook stays as it is."""
        settings = resources["nbgrader"]
        submission = settings["notebook"], settings["assignment"], settings["student"]
        with Gradebook(settings["db_url"]) as gradebook:
            released = gradebook.find_notebook(*submission[:2])
            solutions = {cell.name for cell in released.solution_cells}
            for name, what in nb.metadata.get(NOTE, {}).items():
                solution = name if name in solutions else name.removesuffix("-check")
                gradebook.find_grade(f"{solution}-check", *submission).needs_manual_grade = True
                comment = gradebook.find_comment(solution, *submission)
                comment.auto_comment = f"{name}: {what}"
            gradebook.db.commit()
        return nb, resources


class ExecuteFast(Execute):
    """Execute a submission with COURSE_FAST=1, as the course's own tests do."""

    def start_new_kernel(self, **options: Any) -> None:
        """Start the kernel with the fast form in its environment."""
        super().start_new_kernel(env={**os.environ, "COURSE_FAST": "1"}, **options)


def _name(cell: NotebookNode) -> str:
    """nbgrader's id of a cell, empty for one that is not nbgrader's."""
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def _empty_solution(name: str) -> NotebookNode:
    """A cell in the place of a deleted solution."""
    metadata = {"schema_version": 3, "grade_id": name, "grade": False, "solution": True, "locked": False, "task": False}
    return new_code_cell(f"# The solution cell {name} was deleted.", metadata={"nbgrader": metadata})
