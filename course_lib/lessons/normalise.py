"""Give notebooks one normal form, so that executing them again changes as little as possible.

    python -m course_lib.lessons.normalise [--check] [notebook or folder ...]

Put right silently: cell ids, metadata, execution counts, split streams, progress bars, widget views, JSON layout.
Reported, because only the author can put them right (exit code 1): errors, warnings on stderr, object addresses,
paths of one machine, pictures that do not decode, a file over 600 KB. With `--check` nothing is written, and a
file that is not in normal form is reported too.
"""

import argparse
import base64
import binascii
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from copy import deepcopy
from io import BytesIO
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image, UnidentifiedImageError

MAX_BYTES = 600_000
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_METADATA = ("jupyter", "nbgrader", "tags")  # all else is an editor's or a run's trace
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
PROGRESS = re.compile(r"\d+%\|.*\||\d(it/s|s/it)\b|\dit \[\d")  # a tqdm line
OVERWRITTEN = re.compile(r"^.*\r(?=[^\n])", re.MULTILINE)  # what a carriage return hides
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}")
PNG_URI = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
IMG_TAG = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
ALT = re.compile(r"\balt\s*=\s*(\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
CHECKOUT = re.escape(str(Path(__file__).resolve().parents[2]))
MACHINE_PATH = re.compile(
    rf"(?<![\w.:/~-])(/(home|Users|root|tmp|private|var/folders)/|[A-Za-z]:\\Users\\|{CHECKOUT}(?=[\s/\\'\"]|$))"
    r"[^\s'\"]*|\S*site-packages\S*"
)


def find_notebooks(paths: Sequence[str | Path]) -> list[Path]:
    """The notebooks among `paths`: a folder stands for the *.ipynb directly in it, sorted by name.

    Raises ValueError for a path that does not exist or is no notebook.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(path.glob("*.ipynb"))
        elif path.is_file() and path.suffix == ".ipynb":
            found.append(path)
        else:
            raise ValueError(f"{path}: expected a notebook (*.ipynb) or a folder of notebooks")
    return found


def read_notebook(path: Path) -> NotebookNode:
    """Read one notebook, format 4. Raises ValueError, naming the file, when it is not one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # missing ids: the normal form has them
            return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    except Exception as error:
        raise ValueError(f"{path}: not a notebook: {error}") from error


def normalise(notebook: NotebookNode, number: str) -> NotebookNode:
    """The normal form of a notebook, as a copy. `number` (the "00" of 00_tour.ipynb) starts its cell ids."""
    notebook = deepcopy(notebook)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(METADATA)
    _set_ids(notebook.cells, number)
    count = 0
    for cell in notebook.cells:
        cell.source = cell.source.rstrip()
        cell.metadata = nbformat.from_dict({k: cell.metadata[k] for k in CELL_METADATA if cell.metadata.get(k)})
        if cell.cell_type == "code":
            if cell.execution_count is not None:
                count += 1
                cell.execution_count = count
            cell.outputs = _normal_outputs(cell.outputs, cell.execution_count)
    return notebook


def _set_ids(cells: Sequence[NotebookNode], number: str) -> None:
    """Ids "00-01", "00-02", ... A cell that has one keeps it wherever it moves; a new one gets the next number."""
    stable = re.compile(rf"{re.escape(number)}-\d{{2,}}")
    kept: set[str] = set()
    new = []
    for cell in cells:
        if stable.fullmatch(cell.get("id", "")) and cell.id not in kept:
            kept.add(cell.id)
        else:
            new.append(cell)
    last = max((int(name.rpartition("-")[2]) for name in kept), default=0)
    for offset, cell in enumerate(new, start=1):
        cell.id = f"{number}-{last + offset:02d}"


def _normal_outputs(outputs: Sequence[NotebookNode], count: int | None) -> list[NotebookNode]:
    """Outputs without progress bars, widget views and addresses behind a picture; streams merged."""
    normal: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            merges = bool(normal) and normal[-1].get("name") == output.name
            text = _without_progress((normal.pop().text if merges else "") + output.text, output.name)
            if text:
                normal.append(nbformat.v4.new_output("stream", name=output.name, text=text))
            continue
        if output.output_type in ("display_data", "execute_result"):
            if WIDGET_VIEW in output.data:
                continue  # its model lives in one kernel only
            _normalise_display(output)
            if output.output_type == "execute_result":
                output.execution_count = count
        normal.append(output)
    return normal


def _without_progress(text: str, stream: str) -> str:
    """A stream's text as a terminal shows it at the end, on stderr without tqdm's lines."""
    text = OVERWRITTEN.sub("", text)
    if stream == "stderr":
        lines = [line for line in text.splitlines(keepends=True) if not PROGRESS.search(line)]
        text = "".join(lines) if any(line.strip() for line in lines) else ""
    return text


def _normalise_display(output: NotebookNode) -> None:
    """Keep a picture's metadata only, its base64 without line ends, and no address in its text stand-in."""
    is_image = [mime for mime in output.data if mime.startswith("image/")]
    output.metadata = nbformat.from_dict({m: output.metadata[m] for m in is_image if output.metadata.get(m)})
    for mime in is_image:
        if mime != "image/svg+xml":
            output.data[mime] = "".join(output.data[mime].split())
    if (is_image or "text/html" in output.data) and "text/plain" in output.data:
        output.data["text/plain"] = ADDRESS.sub("", output.data["text/plain"])


def faults(notebook: NotebookNode) -> list[str]:
    """What a notebook in normal form still has wrong that only its author can put right, one line each."""
    found = []
    for cell in notebook.cells:
        name = cell_name(cell)
        texts = [cell.source]
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                found.append(f"{name} ended in {output.ename}: {output.evalue}")
                continue
            if output.get("name") == "stderr":
                found.append(f"{name} writes to stderr: {output.text.strip().splitlines()[0]}")
            text = output_text(output)
            texts.append(text)
            if match := ADDRESS.search(text):
                around = text[: match.end()].splitlines()[-1]
                found.append(f"{name} shows an object's address: {around}: end the line with ; or print a value")
            found += [f"{name} shows a picture that {why}" for _, why in images(output) if why]
        for text in texts:
            if match := MACHINE_PATH.search(text):
                found.append(f"{name} names a path of one machine: {match[0]}")
    return found


def cell_name(cell: NotebookNode) -> str:
    """How messages name a cell: its id and how it starts."""
    start = next(iter(cell.source.splitlines()), "")
    return f"cell {cell.get('id', '?')} ({start[:40].strip()!r})"


def output_text(output: NotebookNode) -> str:
    """All text of an output, without its pictures."""
    if output.output_type == "stream":
        return output.text
    texts = [t for mime, t in output.get("data", {}).items() if mime.startswith("text/") and isinstance(t, str)]
    return PNG_URI.sub("", "\n".join(texts))


def images(output: NotebookNode) -> Iterator[tuple[str, str]]:
    """Every picture of an output as (alt text, what is wrong with its data); both may be empty.

    The alt text of an image output is its metadata, {"image/png": {"alt": ...}}; that of an <img> in HTML its alt.
    """
    data = output.get("data", {})
    for mime in (mime for mime in data if mime.startswith("image/")):
        wrong = "" if mime == "image/svg+xml" else _wrong_with(data[mime])
        yield output.metadata.get(mime, {}).get("alt", ""), wrong
    for tag in IMG_TAG.findall(data.get("text/html", "")):
        alt = ALT.search(tag)
        uri = PNG_URI.search(tag)
        yield (alt[2] or alt[3] or "") if alt else "", _wrong_with(uri[1]) if uri else "is not within the file"


def _wrong_with(text: str) -> str:
    """Why base64 text is not a picture that can be shown; empty when it is one."""
    try:
        with Image.open(BytesIO(base64.b64decode(text, validate=False))) as image:
            image.load()
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError) as error:
        return f"does not decode: {error}"
    return ""


def lesson_number(path: Path) -> str:
    """The "00" of 00_tour.ipynb."""
    return path.stem.partition("_")[0]


def render(notebook: NotebookNode) -> str:
    """A notebook as the text of its file."""
    return nbformat.writes(notebook) + "\n"


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook all at once: the file is the old one or the new one, never half of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(render(notebook), encoding="utf-8", newline="\n")
    temporary.replace(path)


def differences(found: object, normal: object, where: str = "") -> list[str]:
    """Where two JSON values differ, one line each: "cells[3].execution_count is 9, normal is 4"."""
    if isinstance(found, dict) and isinstance(normal, dict):
        keys = sorted(found.keys() | normal.keys())
        parts = [(found.get(k), normal.get(k), f"{where}.{k}".lstrip(".")) for k in keys]
    elif isinstance(found, list) and isinstance(normal, list) and len(found) == len(normal):
        parts = [(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(found, normal))]
    else:
        return [] if found == normal else [f"{where} is {_short(found)}, normal is {_short(normal)}"]
    return [line for part in parts for line in differences(*part)]


def _short(value: object) -> str:
    """A value in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def normalise_file(path: Path, *, check: bool = False) -> list[str]:
    """Bring one file into normal form, or with `check` only compare; returns all that is wrong, one line each."""
    notebook = read_notebook(path)
    normal = normalise(notebook, lesson_number(path))
    text = render(normal)
    wrong = faults(normal)
    try:
        nbformat.validate(normal)
    except nbformat.ValidationError as error:
        wrong.append(f"not a valid notebook: {str(error).splitlines()[0]}")
    if len(text.encode()) > MAX_BYTES:
        wrong.append(f"the file has {len(text.encode()):,} bytes, at most {MAX_BYTES:,} are allowed")
    if text != path.read_text(encoding="utf-8"):
        if check:
            wrong += differences(notebook, normal)[:10] or ["the JSON is not laid out as nbformat lays it out"]
        else:
            write_notebook(normal, path)
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 1 when something is wrong, else 0."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.lessons.normalise", description=__doc__)
    parser.add_argument("paths", nargs="*", default=["notebooks"], help="notebooks, or folders of them")
    parser.add_argument("--check", action="store_true", help="write nothing, report what is not normal")
    arguments = parser.parse_args(argv)
    try:
        paths = find_notebooks(arguments.paths)
        wrong = [f"{path}: {line}" for path in paths for line in normalise_file(path, check=arguments.check)]
    except ValueError as error:
        wrong = [str(error)]  # it names the file
    return report(wrong)


def report(lines: Sequence[str]) -> int:
    """Print what is wrong; a command's exit code, 1 when there is something."""
    print(*lines, sep="\n", end="\n" if lines else "")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
