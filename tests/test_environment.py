"""pyproject.toml (pip) and environment.yml (conda) name the same packages with the same bounds."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PYPROJECT, ENVIRONMENT = ROOT / "pyproject.toml", ROOT / "environment.yml"
PIP_NAME = {"pytorch": "torch"}  # conda-forge's name: pip's name; every other name is the same
ONLY_CONDA = {"pip"}  # a venv brings its own


def pip_bounds() -> dict[str, SpecifierSet]:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    needs = [need for need in map(Requirement, texts) if need.name != project["name"]]
    return {"python": SpecifierSet(project["requires-python"])} | {n.name: n.specifier for n in needs}


def conda_bounds() -> dict[str, SpecifierSet]:
    lines = yaml.safe_load(ENVIRONMENT.read_text(encoding="utf-8"))["dependencies"]
    needs = [Requirement(line) for line in lines if isinstance(line, str)]
    return {PIP_NAME.get(n.name, n.name): n.specifier for n in needs if n.name not in ONLY_CONDA}


def test_both_name_the_same_packages_and_bounds() -> None:
    assert conda_bounds() == pip_bounds()


def test_every_package_is_bounded_on_both_sides() -> None:
    for name, bounds in pip_bounds().items():
        operators = {part.operator for part in bounds}
        assert operators == ({">="} if name == "python" else {">=", "<"}), name


def test_conda_uses_conda_forge_alone_and_installs_the_course() -> None:
    environment = yaml.safe_load(ENVIRONMENT.read_text(encoding="utf-8"))
    assert environment["channels"] == ["conda-forge"]
    assert environment["dependencies"][-1] == {"pip": ["-e ."]}


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        (PYPROJECT, re.compile(r'^ {4}"[a-z-]+[>=<]')),
        (ENVIRONMENT, re.compile(r"^ +- (?!pip:|conda-forge)")),
    ],
    ids=["pip", "conda"],
)
def test_every_package_has_a_comment_that_says_why(path: Path, entry: re.Pattern[str]) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if entry.match(line)]
    assert len(lines) >= len(pip_bounds()) - 1
    assert [line for line in lines if not line.partition("#")[2].strip()] == []
