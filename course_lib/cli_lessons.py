"""The verbs of those who learn and teach: a workspace, what is solved in it, the classroom's pack."""

from pathlib import Path
from typing import Annotated

import typer

from course_lib.cli_data import Json

lessons_app = typer.Typer()


@lessons_app.command()
def start(
    folder: Annotated[Path, typer.Argument(help="Your workspace.", metavar="DIR")] = Path("workspace"),
) -> None:
    """Make your workspace of unsolved notebooks; after an update, bring in what is new and keep what is yours."""
    from course_lib.lessons.workspace import format_placed, start_workspace

    print(format_placed(start_workspace(folder), folder))


@lessons_app.command()
def progress(
    folder: Annotated[Path, typer.Argument(help="Your workspace.", metavar="DIR")] = Path("workspace"),
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that an exercise may take.")] = 60,
    as_json: Json = False,
) -> None:
    """Which exercises pass? A bar for each lesson; what to do about each wrong solution."""
    from course_lib.lessons.progress import find_progress, format_progress, progress_as_json

    found = find_progress(folder, timeout=timeout)
    print(progress_as_json(found) if as_json else format_progress(found))


@lessons_app.command()
def release(
    out: Annotated[Path, typer.Argument(help="The course folder to make, for nbgrader.")],
) -> None:
    """Make the classroom pack: the lessons as assignments of an nbgrader course. For teachers."""
    from course_lib.lessons.classroom import format_assignments
    from course_lib.lessons.classroom import release as make_pack

    print(format_assignments(make_pack(out), out))
