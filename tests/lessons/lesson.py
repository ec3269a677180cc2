"""A small synthetic lesson in the right form, for the tests to spoil."""

import base64
import json
from io import BytesIO

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

GRADER = {
    "solution": {"schema_version": 3, "grade": False, "solution": True, "locked": False, "task": False},
    "check": {"schema_version": 3, "grade": True, "solution": False, "locked": True, "task": False, "points": 2},
}


def png(mode: str = "RGB") -> str:
    """A 3x2 picture as base64."""
    stream = BytesIO()
    Image.new(mode, (3, 2)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def picture(alt: str = "Three boxes on a street", data: str | None = None) -> NotebookNode:
    """An output that shows a picture."""
    return new_output("display_data", {"image/png": data or png()}, metadata={"image/png": {"alt": alt}})


def stream(text: str, name: str = "stdout") -> NotebookNode:
    """An output that prints."""
    return new_output("stream", name=name, text=text)


def lesson() -> NotebookNode:
    """A lesson that keeps every rule, executed and in normal form."""
    prose = new_markdown_cell
    cells = [
        prose("# Tour\n\nA detector in five minutes."),
        prose("Prerequisites: none. **Run time:** 2 minutes on two cores. **Work:** 45–60 minutes."),
        prose("## Set-up"),
        new_code_cell("import math"),
        prose("## Predict first"),
        new_code_cell("math.pi > 3", outputs=[new_output("execute_result", {"text/plain": "True"})]),
    ]
    for i in range(6):
        cells.append(new_code_cell(f"# NBVAL_CHECK_OUTPUT\nprint({i})", outputs=[stream(f"{i}\n")]))
    cells.append(new_code_cell("show(figure)", outputs=[picture()]))
    for i in range(1, 4):
        solution = f"def f{i}(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION"
        check = f"from course_lib.lessons import checks\nchecks.f{i}(f{i})"
        cells += [
            prose(f"## Exercise {i}\n\nDifficulty: 1 of 3. ~10 minutes."),
            new_code_cell(solution, metadata={"nbgrader": {**GRADER["solution"], "grade_id": f"00-{i}"}}),
            new_code_cell(check, metadata={"nbgrader": {**GRADER["check"], "grade_id": f"00-{i}-check"}}),
        ]
    for heading in ("Parity", "Break it", "A small experiment", "Quiz", "Take-aways"):
        cells += [prose(f"## {heading}\n\n{'word ' * 300}"), new_code_cell("math.e")]
    cells += [prose("More to read.") for _ in range(3)]
    notebook = new_notebook(cells=cells)
    executed = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(executed, start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    return nbformat.from_dict(json.loads(json.dumps(notebook)))
