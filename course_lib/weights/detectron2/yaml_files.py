"""Read Detectron2's YAML configs: a file, the bases that it names, as one flat dict of dotted keys."""

import ast
from pathlib import Path
from typing import Any

import yaml

from course_lib.weights.detectron2.arithmetic import evaluate

BASE = "_BASE_"
LARGEST = 2**20  # bytes; a dump of all settings has 10 KB
VALUES = 20_000  # in a file; a reference to a reference to … could stand for billions
DEPTH = 12  # lists and sections in one another


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings of a file over those of its `_BASE_` (a path beside the file, or several, the first the lowest).

    Args:
        path: the YAML file.

    Returns:
        dotted keys ("MODEL.RESNETS.DEPTH") to numbers, text, lists, or None; tuples come as lists. Anchor sizes that
        Base-RetinaNet.yaml gives as a Python expression are worked out, see `arithmetic.evaluate`.

    Raises:
        FileNotFoundError: if the file or a base is not there; it says which file asked for it.
        ValueError: if the file is no YAML, holds something else than settings, asks for Python objects (nothing of
            it is run), or is its own base.
    """
    return _read(Path(path), ())


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in above:
        raise ValueError(f"{path}: this file is its own base, by way of {', '.join(p.name for p in above)}")
    if not path.is_file():
        asked = f"; {above[-1]} names it as its {BASE}" if above else ""
        raise FileNotFoundError(f"{path}: there is no such file{asked}")
    sections = _parse(path)
    bases = sections.pop(BASE, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ValueError(f"{path}: {BASE} is {bases!r:.60}, expected the name of a file")
    settings: dict[str, Any] = {}
    for base in bases:
        if "://" in base:
            raise ValueError(f"{path}: its {BASE} is on the net, {base}; save that file and name it there")
        settings |= _read(path.parent / Path(base).expanduser(), (*above, path.resolve()))
    return settings | _flat(path, sections)


def _parse(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: {path.stat().st_size} bytes; a config has some kilobytes")
    try:
        # The loader is PyYAML's safe one, which makes plain values alone.
        sections = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ValueError(f"{path}: not a readable config: {' '.join(str(error).split())}") from None
    if sections is None:
        return {}
    if not isinstance(sections, dict):
        raise ValueError(f"{path}: expected sections such as MODEL, found {type(sections).__name__}")
    return sections


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which also knows tuples and parses, but never runs, the one `eval` of these files."""


def _expression(loader: _Loader, node: yaml.Node) -> Any:
    arguments = loader.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else None
    if not arguments or len(arguments) != 1 or not isinstance(arguments[0], str):
        raise yaml.constructor.ConstructorError(problem="an eval of something else than one text")
    return evaluate(arguments[0])


def _refuse(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    raise yaml.constructor.ConstructorError(
        problem=f"it asks for the Python object {suffix!r}, which is refused and was not run",
        problem_mark=node.start_mark,
    )


_PYTHON = "tag:yaml.org,2002:python/"
_Loader.add_constructor(f"{_PYTHON}tuple", _Loader.construct_sequence)
_Loader.add_constructor(f"{_PYTHON}object/apply:eval", _expression)
_Loader.add_multi_constructor(_PYTHON, _refuse)


def _flat(path: Path, sections: dict) -> dict[str, Any]:
    """Dotted keys; every value plain, and text that is a Python literal as its value, as Detectron2 takes it."""
    settings: dict[str, Any] = {}
    left = VALUES

    def plain(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > DEPTH:
            raise ValueError(f"{path}: more than {VALUES} values, or over {DEPTH} lists in one another")
        if isinstance(value, list | tuple):
            return [plain(part, depth + 1) for part in value]
        if isinstance(value, str):
            return _literal(value)
        return value

    def visit(section: dict, prefix: str, depth: int) -> None:
        for key, value in section.items():
            if not isinstance(key, str):
                raise ValueError(f"{path}: a key {key!r:.40} in {prefix or 'the file'}; expected a name")
            if isinstance(value, dict):
                plain(None, depth)
                visit(value, f"{prefix}{key}.", depth + 1)
            else:
                settings[prefix + key] = plain(value, depth)

    visit(sections, "", 0)
    return settings


def _literal(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    if isinstance(value, tuple | list):
        return [list(part) if isinstance(part, tuple) else part for part in value]
    return value if isinstance(value, int | float | str | None) else text
