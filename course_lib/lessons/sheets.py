"""What is gathered from all lessons: glossary, cheat sheet, the README's table of lessons.

    python -m course_lib.lessons.sheets [--check] [root of the repository]

The notebooks are the source. A lesson's last part has a table under **Cheat sheet** and a list under **Glossary**:

    | idea | formula | in the library | usual value | when it is wrong |

    - *label*: The number of a class, from 0.

They become docs/cheatsheet.md and docs/glossary.md; titles and cards become the table between the two marks in
README.md. With `--check` nothing is written, and what is not up to date is reported.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from course_lib.lessons.card import FORM, run_time, work_time
from course_lib.lessons.normalise import find_notebooks, lesson_number, read_notebook, report
from course_lib.weights.files import write_text

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ("idea", "formula", "in the library", "usual value", "when it is wrong")
ITEM = re.compile(r"- \*([^*]+)\*: (\S.*\.)")
CELL_BORDER = re.compile(r"(?<!\\)\|")
BEGIN, END = "<!-- lessons: written by make notebooks -->", "<!-- end of lessons -->"
WRITTEN = "<!-- Written by make notebooks, from the notebooks. Edit it there. -->\n\n"
CONVENTIONS = """**Everywhere in `course_lib`**

| what | shape, type | convention |
|---|---|---|
| image | (3, H, W) float32 | RGB in 0…1; each model owns its normalisation |
| boxes | (N, 4) float32 | $(x_1, y_1, x_2, y_2)$ in pixels, right and bottom exclusive: width $x_2 - x_1$ |
| labels | (N,) int64 | 0 … K−1, foreground only |
| scores | (N,) float32 | 0…1, best first |
| masks | (N, H, W) bool | |
| a COCO file's box | `bbox` | $(x, y, w, h)$; becomes xyxy at the file border |
| `model(images, targets)` in training | dict of losses | scalars to add up |
| `model(images)` in evaluation | list of dicts | `boxes`, `labels`, `scores` of each image |
"""


@dataclass(frozen=True)
class Lesson:
    """What the sheets take from one notebook.

    rows: of the cheat sheet, each with the five COLUMNS. terms: (term, definition) of the glossary.
    """

    path: Path
    title: str
    run: str
    work: str
    rows: tuple[tuple[str, ...], ...]
    terms: tuple[tuple[str, str], ...]

    @property
    def number(self) -> str:
        """The lesson's number, "00"."""
        return lesson_number(self.path)


def read_lesson(path: Path) -> Lesson:
    """What the sheets need from a notebook. Raises ValueError with all that is missing or not in form."""
    notebook = read_notebook(path)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    wrong: list[str] = []
    heading = re.match(r"# (\d\d) · (.+)", texts[0] if texts else "")
    if not heading or heading[1] != lesson_number(path):
        wrong.append(f"the title is not '# {lesson_number(path)} · …'")
    run, work = run_time(notebook), work_time(notebook)
    if run is None or work is None:
        wrong.append(f"the card does not say {FORM}")
    rows = _rows(_block(texts, "**Cheat sheet**"), wrong)
    terms = _terms(_block(texts, "**Glossary**"), wrong)
    if wrong:
        raise ValueError("\n".join(f"{path}: {line}" for line in wrong))
    return Lesson(path, heading[2].strip(), run, work, tuple(rows), tuple(terms))


def _block(texts: Sequence[str], heading: str) -> list[str]:
    """The lines that are not blank between a heading line and the next line that is no row and no item."""
    lines = [line.strip() for text in texts for line in [*text.splitlines(), "end of cell"]]
    block: list[str] = []
    if heading in lines:
        for line in lines[lines.index(heading) + 1 :]:
            if line and not line.startswith(("|", "- ")):
                break
            block += [line] if line else []
    return block


def _rows(lines: Sequence[str], wrong: list[str]) -> list[tuple[str, ...]]:
    """The rows of a cheat sheet; what is not in form goes to `wrong`."""
    table = [tuple(cell.strip() for cell in CELL_BORDER.split(line)[1:-1]) for line in lines if line[0] == "|"]
    if len(table) < 3 or table[0] != COLUMNS:
        wrong.append(f"there is no '**Cheat sheet**' above a table with the header | {' | '.join(COLUMNS)} | and a row")
        return []
    for row in table[2:]:
        if len(row) != len(COLUMNS) or not all(row):
            wrong.append(f"the cheat sheet's row {row[:1]} has {len(row)} cells, expected {len(COLUMNS)}, none empty")
    return table[2:]


def _terms(lines: Sequence[str], wrong: list[str]) -> list[tuple[str, str]]:
    """The terms of a glossary; what is not in form goes to `wrong`."""
    terms = []
    for line in lines:
        if match := ITEM.fullmatch(line):
            terms.append((match[1], match[2]))
        else:
            wrong.append(f"the glossary's line {line[:50]!r} is not of the form '- *term*: One sentence.'")
    if not lines:
        wrong.append("there is no '**Glossary**' above a list of '- *term*: One sentence.'")
    return terms


def repeated_terms(lessons: Sequence[Lesson]) -> list[str]:
    """A line for each term that is defined twice, naming both notebooks."""
    seen: dict[str, Path] = {}
    found = []
    for lesson in lessons:
        for term, _ in lesson.terms:
            if term.casefold() in seen:
                there = seen[term.casefold()]
                found.append(f"{lesson.path}: the term {term!r} is in the glossary of {there} already")
            seen.setdefault(term.casefold(), lesson.path)
    return found


def glossary(lessons: Sequence[Lesson]) -> str:
    """docs/glossary.md: all terms in alphabetical order, each with its lesson."""
    terms = [(term, text, lesson) for lesson in lessons for term, text in lesson.terms]
    lines = [
        f"- *{term}*: {text[0].upper()}{text[1:]} ([{lesson.number}](../notebooks/{lesson.path.name}))"
        for term, text, lesson in sorted(terms, key=lambda entry: (entry[0].casefold(), entry[2].number))
    ]
    return (
        f"{WRITTEN}# Glossary\n\nThe number is that of the lesson that explains the term.\n\n" + "\n".join(lines) + "\n"
    )


def cheat_sheet(lessons: Sequence[Lesson]) -> str:
    """docs/cheatsheet.md: the conventions, then the rows of every lesson."""
    parts = [f"{WRITTEN}# Cheat sheet\n\n{CONVENTIONS}"]
    for lesson in lessons:
        parts.append(
            f"**[{lesson.number} · {lesson.title}](../notebooks/{lesson.path.name})**\n\n"
            + _table(COLUMNS, lesson.rows)
        )
    return "\n".join(parts)


def lesson_table(lessons: Sequence[Lesson]) -> str:
    """The README's table: each lesson with its measured run time and the time of work."""
    rows = [(x.number, f"[{x.title}](notebooks/{x.path.name})", x.run, x.work) for x in lessons]
    return _table(("", "lesson", "runs", "work"), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in markdown."""
    lines = [f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]]) + "\n"


def with_table(readme: str, table: str) -> str:
    """The README with its table of lessons replaced. Raises ValueError if it does not have the two marks."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md: found no table of lessons, expected it between {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def sheets(lessons: Sequence[Lesson], root: Path) -> dict[Path, str]:
    """What each file should hold. Raises ValueError if the README has no place for the table."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    return {
        root / "docs" / "glossary.md": glossary(lessons),
        root / "docs" / "cheatsheet.md": cheat_sheet(lessons),
        root / "README.md": with_table(readme, lesson_table(lessons)),
    }


def update(root: Path = ROOT, *, check: bool = False) -> list[str]:
    """Write all sheets, or with `check` compare them; returns what is wrong, one line each.

    With something wrong in a lesson nothing is written.
    """
    lessons: list[Lesson] = []
    wrong: list[str] = []
    for path in find_notebooks([root / "notebooks"]):
        try:
            lessons.append(read_lesson(path))
        except ValueError as error:
            wrong += str(error).splitlines()
    wrong += repeated_terms(lessons)
    if wrong:
        return wrong
    for path, text in sheets(lessons, root).items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            wrong.append(f"{path}: not as the notebooks have it; run python -m course_lib.lessons.sheets")
        else:
            path.parent.mkdir(exist_ok=True)
            write_text(path, text)
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 1 when something is wrong, else 0."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.lessons.sheets", description=__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="has notebooks/, docs/ and README.md")
    parser.add_argument("--check", action="store_true", help="write nothing, report what is not up to date")
    arguments = parser.parse_args(argv)
    try:
        return report(update(arguments.root, check=arguments.check))
    except ValueError as error:
        return report([str(error)])  # it names the file


if __name__ == "__main__":
    sys.exit(main())
