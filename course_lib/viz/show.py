"""Figures and pictures as PNG: in a notebook with their alt text, in a self-contained HTML page as a data URI."""

import base64
from io import BytesIO

from matplotlib.figure import Figure
from PIL import Image

DPI = 80  # keeps a notebook small


def show(picture: Figure | Image.Image, alt: str, *, display_id: str | None = None, update: bool = False) -> None:
    """Display a figure (at 80 dpi) or a PIL picture in a notebook.

    alt: what a reader who cannot see it needs to know; screen readers read it, and it is the output's text.
    display_id: a name under which the output can be replaced: by another call with this name and `update`.
    Raises ValueError without it. Needs IPython, which every notebook has.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt: found {alt!r}, expected a text that says what the picture shows")
    from IPython.display import display  # here, because the library without notebooks does not need it

    data = {"image/png": to_png_bytes(picture), "text/plain": alt}
    place = {} if display_id is None else {"display_id": display_id, "update": update}
    display(data, metadata={"image/png": {"alt": alt}}, raw=True, **place)


def to_png_bytes(picture: Figure | Image.Image, dpi: int = DPI) -> bytes:
    """Encode a figure (at `dpi` pixels per inch) or a PIL picture as PNG; the same input gives the same bytes."""
    buffer = BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    else:
        picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def to_data_uri(picture: Figure | Image.Image, dpi: int = DPI) -> str:
    """The PNG as the `src` of an HTML image: "data:image/png;base64,…"."""
    return "data:image/png;base64," + base64.b64encode(to_png_bytes(picture, dpi)).decode("ascii")
