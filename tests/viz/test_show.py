import base64
import subprocess
import sys
from io import BytesIO

import IPython.display
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from course_lib.viz.show import show, to_data_uri, to_png_bytes


def figure():
    plot = Figure(figsize=(3, 2))
    plot.subplots().plot([1, 2])
    return plot


PICTURE = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))


def test_png_of_a_figure_has_80_dpi():
    assert Image.open(BytesIO(to_png_bytes(figure()))).size == (240, 160)
    assert Image.open(BytesIO(to_png_bytes(figure(), dpi=40))).size == (120, 80)


def test_png_of_a_picture_is_exact():
    assert (np.asarray(Image.open(BytesIO(to_png_bytes(PICTURE)))) == np.asarray(PICTURE)).all()


def test_the_same_input_gives_the_same_bytes_and_no_version():
    assert to_png_bytes(figure()) == to_png_bytes(figure())
    assert "Software" not in Image.open(BytesIO(to_png_bytes(figure()))).info


@pytest.mark.parametrize("picture", [PICTURE, figure()])
def test_data_uri_decodes(picture):
    head, data = to_data_uri(picture).split(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data, validate=True) == to_png_bytes(picture)


def test_show_gives_png_and_alt_text(monkeypatch):
    calls = []
    monkeypatch.setattr(IPython.display, "display", lambda *args, **kwargs: calls.append((args, kwargs)))
    show(PICTURE, "Five grey columns.")
    ((data,), options) = calls[0]
    assert data == {"image/png": to_png_bytes(PICTURE), "text/plain": "Five grey columns."}
    assert options == {"metadata": {"image/png": {"alt": "Five grey columns."}}, "raw": True}


def test_a_named_output_can_be_replaced(monkeypatch):
    calls = []
    monkeypatch.setattr(IPython.display, "display", lambda *args, **kwargs: calls.append(kwargs))
    show(PICTURE, "Five grey columns.", display_id="a")
    show(PICTURE, "Five grey columns.", display_id="a", update=True)
    assert [(c["display_id"], c["update"]) for c in calls] == [("a", False), ("a", True)]


@pytest.mark.parametrize("alt", ["", "  ", None])
def test_alt_text_is_required(alt):
    with pytest.raises(ValueError, match="alt: found"):
        show(PICTURE, alt)


def test_importing_needs_neither_pyplot_nor_ipython():
    code = (
        "import sys, course_lib.viz.comparison, course_lib.viz.figures, course_lib.viz.sheet, course_lib.viz.show;"
        "print([m for m in ('matplotlib.pyplot', 'IPython') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
