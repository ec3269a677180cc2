import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course_lib.lessons.card import duration, run_time, set_run_time, work_time

CARD = "**Run time:** {} on two cores (15 seconds with `COURSE_FAST=1`). **Work:** 45–60 minutes."


def with_card(said: str) -> NotebookNode:
    return new_notebook(
        cells=[new_markdown_cell("# 00 · Tour"), new_code_cell("1"), new_markdown_cell(CARD.format(said))]
    )


@pytest.mark.parametrize("said", ["5 seconds", "1 minute", "2 minutes", "2.5 minutes"])
def test_a_card_is_read(said: str) -> None:
    assert run_time(with_card(said)) == said
    assert work_time(with_card(said)) == "45–60 minutes"


@pytest.mark.parametrize("said", ["", "a minute", "about 2 minutes", "2 hours"])
def test_other_words_are_no_run_time(said: str) -> None:
    assert run_time(with_card(said)) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "5 seconds"),
        (12.4, "10 seconds"),
        (12.6, "15 seconds"),
        (117, "115 seconds"),
        (118, "2 minutes"),
        (140, "2.5 minutes"),
        (180, "3 minutes"),
    ],
)
def test_durations_are_round_and_readable_again(seconds: float, words: str) -> None:
    assert duration(seconds) == words
    assert run_time(with_card(words)) == words


@pytest.mark.parametrize(
    ("said", "seconds", "then"),
    [
        ("2 minutes", 95, "2 minutes"),  # within a quarter: as it was
        ("2 minutes", 149, "2 minutes"),
        ("2 minutes", 60, "60 seconds"),
        ("2 minutes", 170, "3 minutes"),
        ("10 seconds", 14, "10 seconds"),
        ("10 seconds", 19, "20 seconds"),
        ("1 minute", 62, "1 minute"),
    ],
)
def test_a_measured_time_is_written_when_it_differs(said: str, seconds: float, then: str) -> None:
    notebook = with_card(said)
    set_run_time(notebook, seconds)
    assert notebook.cells[2].source == CARD.format(then)


def test_a_notebook_without_a_card_stays_as_it_is() -> None:
    notebook = new_notebook(cells=[new_markdown_cell("Run time: 2 minutes")])
    set_run_time(notebook, 500)
    assert notebook.cells[0].source == "Run time: 2 minutes"
    assert run_time(notebook) is None
