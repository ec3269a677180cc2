from pathlib import Path

import pytest
from nbformat.v4 import new_markdown_cell, new_notebook

from course_lib.lessons.normalise import write_notebook
from course_lib.lessons.sheets import BEGIN, END, main, read_lesson, update

HEAD = "| idea | formula | in the library | usual value | when it is wrong |\n|---|---|---|---|---|\n"
ROW = r"| IoU | $\lvert a \rvert \| b$ | `box_iou` | 0.5 | NaN |"
LAST = "Words.\n\n**Cheat sheet**\n\n{head}{row}\n\n**Glossary**\n\n{terms}\n\n**To read**\n\n- Lin: *Focal*, 2017."
CARD = "**Run time:** 45 seconds on two cores (…). **Work:** 45–60 minutes."


def lesson(folder: Path, name: str = "00_tour", **parts: str) -> Path:
    """A notebook with all that the sheets need; `parts` spoil it."""
    part = {"title": f"# {name[:2]} · The {name[3:]}", "card": CARD, "head": HEAD, "row": ROW, "last": LAST}
    part |= {"terms": f"- *{name[3:]} box*: Four numbers."} | parts
    texts = [part["title"], part["card"], part["last"].format(**part)]
    path = folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    write_notebook(new_notebook(cells=[new_markdown_cell(text) for text in texts]), path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    return tmp_path


def test_the_sheets_are_built_from_the_notebooks(root: Path) -> None:
    lesson(root, "01_zoo", terms="- *wolf*: An animal.\n- *Anchor*: a box that is fixed, see $x_1$ (*priors*).")
    lesson(root)
    assert update(root) == []
    terms = [line for line in (root / "docs" / "glossary.md").read_text().splitlines() if line.startswith("- ")]
    assert terms == [
        "- *Anchor*: A box that is fixed, see $x_1$ (*priors*). ([01](../notebooks/01_zoo.ipynb))",
        "- *tour box*: Four numbers. ([00](../notebooks/00_tour.ipynb))",
        "- *wolf*: An animal. ([01](../notebooks/01_zoo.ipynb))",
    ]
    sheet = (root / "docs" / "cheatsheet.md").read_text()
    assert sheet.index("**[00 · The tour](../notebooks/00_tour.ipynb)**") < sheet.index("**[01 · The zoo]")
    assert sheet.count(ROW) == 2
    assert (root / "README.md").read_text() == (
        f"before\n\n{BEGIN}\n\n"
        "| | lesson | runs | work |\n|---|---|---|---|\n"
        "| 00 | [The tour](notebooks/00_tour.ipynb) | 45 seconds | 45–60 minutes |\n"
        "| 01 | [The zoo](notebooks/01_zoo.ipynb) | 45 seconds | 45–60 minutes |\n"
        f"\n{END}\n\nafter\n"
    )
    assert update(root, check=True) == []


def test_check_names_what_is_not_up_to_date_and_writes_nothing(root: Path) -> None:
    lesson(root)
    update(root)
    lesson(root, terms="- *box*: Another definition.")
    before = (root / "docs" / "glossary.md").read_text()
    (line,) = update(root, check=True)
    assert line.startswith(f"{root / 'docs' / 'glossary.md'}: not as the notebooks have it")
    assert (root / "docs" / "glossary.md").read_text() == before
    lesson(root, card=CARD.replace("45 seconds", "2 minutes"))
    assert [line.partition(":")[0] for line in update(root, check=True)] == [str(root / "README.md")]


def test_a_term_defined_twice_names_both_notebooks(root: Path) -> None:
    first = lesson(root, terms="- *box*: One.")
    second = lesson(root, "01_more", terms="- *Box*: Two.\n- *sky*: Blue.\n- *sky*: Up.")
    assert update(root) == [
        f"{second}: the term 'Box' is in the glossary of {first} already",
        f"{second}: the term 'sky' is in the glossary of {second} already",
    ]
    assert not (root / "docs").exists()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"title": "# 07 · The tour"}, "the title is not '# 00 · …'"),
        ({"card": "**Run time:** soon. **Work:** 45–60 minutes."}, "the card does not say '**Run time:** 45"),
        ({"last": "**Glossary**\n\n{terms}"}, "there is no '**Cheat sheet**' above a table"),
        ({"head": HEAD.replace("idea", "what")}, "there is no '**Cheat sheet**' above a table"),
        ({"row": "| IoU | x | y | z |"}, "the cheat sheet's row ('IoU',) has 4 cells, expected 5"),
        ({"row": "| IoU | x | y | z | |"}, "expected 5, none empty"),
        ({"last": "**Cheat sheet**\n\n{head}{row}"}, "there is no '**Glossary**' above a list"),
        ({"terms": "- **box**: Four numbers."}, "the glossary's line '- **box**: Four numbers.' is not of the form"),
        ({"terms": "- *box*: Four numbers"}, "is not of the form"),
    ],
)
def test_what_is_not_in_form_is_said_with_the_notebook(root: Path, parts: dict, words: str) -> None:
    path = lesson(root, **parts)
    with pytest.raises(ValueError, match="00_tour") as error:
        read_lesson(path)
    assert words in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


def test_a_readme_without_a_place_for_the_table(root: Path) -> None:
    lesson(root)
    (root / "README.md").write_text("nothing")
    with pytest.raises(ValueError, match="found no table of lessons"):
        update(root)


def test_the_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lesson(root)
    assert main(["--check", str(root)]) == 1
    assert "glossary.md: not as" in capsys.readouterr().out
    assert main([str(root)]) == 0
    assert main(["--check", str(root)]) == 0
    assert main([str(root / "nowhere")]) == 1


def test_the_courses_sheets_are_as_its_notebooks_have_them() -> None:
    assert update(check=True) == []
