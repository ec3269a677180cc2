"""The parts of a report: one HTML file that needs nothing beside it."""

from collections.abc import Mapping, Sequence
from html import escape
from string import Template

from course_lib.viz.show import to_data_uri

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
body { font: 16px/1.55 system-ui, sans-serif; color: #222; background: #fff; max-width: 980px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { font-size: 1.25rem; margin-top: 2.4rem }
img { max-width: 100%; height: auto } figure { margin: 1rem 0 } figcaption, .quiet { color: #555; font-size: .92rem }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .9rem .25rem 0; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } .figure { font-size: 2.6rem; font-weight: 600; line-height: 1.1 }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); gap: 1rem } .row figure { margin: 0 }
</style></head><body>
$body
</body></html>
""")


def page(title: str, sections: Sequence[str]) -> str:
    """A whole page of HTML from its sections, which are HTML; the title is text."""
    return PAGE.substitute(title=escape(title), body="\n".join(sections))


def number(value: float | None) -> str:
    """Three digits, or a dash for what has no meaning."""
    return "–" if value is None else f"{value:.3f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; the first column stands left, the others, which are numbers, right."""
    return f"<table>{_row('th', head)}{''.join(_row('td', row) for row in rows)}</table>"


def _row(tag: str, cells: Sequence[str]) -> str:
    sides = ["", *[' class="n"'] * (len(cells) - 1)]
    return f"<tr>{''.join(f'<{tag}{side}>{escape(cell)}</{tag}>' for side, cell in zip(sides, cells))}</tr>"


def figure(picture, alt: str, caption: str) -> str:
    """A figure or picture with its alt text and a caption."""
    return (
        f'<figure><img src="{to_data_uri(picture)}" alt="{escape(alt, quote=True)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def settings(title: str, values: Mapping) -> str:
    """Names and values that fold out under a title."""
    rows = "".join(f"<tr><td>{escape(k)}</td><td>{escape(_plain(v))}</td></tr>" for k, v in values.items())
    return f"<details><summary>{escape(title)}</summary><table>{rows}</table></details>"


def _plain(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(_plain, value)) + ")"
    return str(value)
