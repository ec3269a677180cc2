import builtins
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from course_lib.lessons import explore as module
from course_lib.lessons.anatomy import alt_text
from course_lib.lessons.execute import execute
from course_lib.lessons.explore import explore
from course_lib.lessons.normalise import normalise_file, read_notebook, write_notebook

ALT = "A square that is dark or light"


def grey(level: int = 0, kind: str = "plain") -> Image.Image:
    return Image.new("L", (4, 4), level)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list:
    calls: list = []
    monkeypatch.setattr(module, "show", lambda picture, alt, **place: calls.append((picture, alt, place)))
    return calls


class Notebook:
    """Stands in for a kernel: keeps the widgets that are displayed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        import IPython
        import IPython.display

        self.boxes: list = []
        shell = type("Shell", (), {"kernel": object()})()
        monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
        monkeypatch.setattr(IPython.display, "display", self.boxes.append)

    @property
    def controls(self) -> dict:
        return {c.description: c for c in self.boxes[0].children[:-1]}

    @property
    def message(self) -> str:
        return self.boxes[0].children[-1].value


def test_outside_a_notebook_the_picture_at_the_start_values_stands_alone(shown: list) -> None:
    explore(grey, ALT, level=(0, 200, 10, 50), kind=(("plain", "soft"), "soft"))
    ((picture, alt, place),) = shown
    assert picture.getpixel((0, 0)) == 50
    assert alt == "A square that is dark or light (level = 50, kind = soft)"
    assert set(place) == {"display_id"}


def test_a_control_redraws_in_the_same_place_with_its_value_in_the_alt_text(
    shown: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = Notebook(monkeypatch)
    explore(grey, ALT, level=(0, 200, 10, 50), kind=(("plain", "soft"), "soft"))
    level, kind = notebook.controls["level"], notebook.controls["kind"]
    assert (level.min, level.max, level.step, level.value, level.continuous_update) == (0, 200, 10, 50, True)
    assert kind.value == "soft"
    level.value = 120
    kind.value = "plain"
    (_, _, first), (second, alt, place), (_, last, _) = shown
    assert second.getpixel((0, 0)) == 120
    assert alt.endswith("(level = 120, kind = soft)")
    assert last.endswith("(level = 120, kind = plain)")
    assert place == {**first, "update": True}


def test_fractions_come_without_rounding_error(shown: list, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook, got = Notebook(monkeypatch), []

    def draw(gamma: float) -> Figure:
        got.append(gamma)
        return Figure()

    explore(draw, ALT, gamma=(0.0, 1.0, 0.05, 0.5))
    slider = notebook.controls["gamma"]
    assert slider.readout_format == ".2f"
    slider.value = 0.1 + 0.2
    assert got == [0.5, 0.3]
    assert shown[-1][1].endswith("(gamma = 0.30)")


def test_a_slow_figure_waits_until_the_slider_is_let_go(shown: list, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = Notebook(monkeypatch)
    monkeypatch.setattr(module, "FAST", 0.0)
    explore(grey, ALT, level=(0, 200, 10, 50))
    assert not notebook.controls["level"].continuous_update


def test_an_error_while_exploring_is_said_below_the_controls_and_goes_away(
    shown: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = Notebook(monkeypatch)

    def draw(level: int) -> Image.Image:
        if level == 60:
            raise ValueError("60 < 61")
        return grey(level)

    explore(draw, ALT, level=(0, 200, 10, 50))
    notebook.controls["level"].value = 60
    assert notebook.message == "<b>ValueError</b>: 60 &lt; 61"
    notebook.controls["level"].value = 70
    assert notebook.message == ""
    assert len(shown) == 2


def test_without_ipywidgets_there_is_the_picture_and_no_error(shown: list, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook, real = Notebook(monkeypatch), builtins.__import__

    def without(name: str, *args, **kwargs):
        if name.startswith("ipywidgets"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    explore(grey, ALT, level=(0, 200, 10, 50))
    assert len(shown) == 1
    assert notebook.boxes == []


@pytest.mark.parametrize(
    ("dial", "words"),
    [
        (3, "found 3, expected (low, high, step, start)"),
        ((0, 5, 2), "expected (low, high, step, start)"),
        ((0, 5, 1, True), "of numbers"),
        ((0, float("inf"), 1, 2), "of numbers"),
        (("a", "b", "c", "a"), "of numbers"),
        ((5, 0, 1, 2), "low < high"),
        ((0, 5, 0, 2), "step > 0"),
        ((0, 5, 1, 6), "a start between them"),
        ((0.0, 1.0, 0.5, 0.3), "the start 0.3 is not on the slider, 0.0 and whole steps of 0.5"),
        (("ab", "a"), "found the options 'ab'"),
        ((("a",), "a"), "found the options ('a',)"),
        ((("a", "b"), "c"), "found the start 'c', expected one of 'a', 'b'"),
    ],
)
def test_a_bad_dial_is_explained(shown: list, dial: object, words: str) -> None:
    with pytest.raises(ValueError, match="dial 'level'") as error:
        explore(grey, ALT, level=dial)
    assert words in str(error.value)
    assert shown == []


def test_other_mistakes_are_explained(shown: list) -> None:
    with pytest.raises(ValueError, match="found no dial"):
        explore(grey, ALT)
    with pytest.raises(ValueError, match="draw does not take the dials size by name"):
        explore(grey, ALT, size=(0, 5, 1, 2))
    with pytest.raises(ValueError, match="alt: found ''"):
        explore(grey, "", level=(0, 5, 1, 2))
    with pytest.raises(ValueError, match="draw returned NoneType, expected a matplotlib Figure"):
        explore(lambda level: None, ALT, level=(0, 5, 1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("hide", ["", "import sys; sys.modules['ipywidgets'] = None\n"], ids=["widgets", "none"])
def test_an_executed_notebook_keeps_the_picture_alone(tmp_path: Path, hide: str) -> None:
    source = hide + (
        "from PIL import Image\nfrom course_lib.lessons.explore import explore\n"
        f"explore(lambda level: Image.new('L', (4, 4), level), {ALT!r}, level=(0, 200, 10, 50))"
    )
    path = tmp_path / "00_small.ipynb"
    write_notebook(new_notebook(cells=[new_code_cell(source)]), path)
    execute(path)
    assert normalise_file(path, check=True) == []
    notebook = read_notebook(path)
    (output,) = notebook.cells[0].outputs
    assert output.metadata == {"image/png": {"alt": f"{ALT} (level = 50)"}}
    assert list(alt_text(notebook)) == []
