"""Settings for every pytest run: the notebooks are validated in their fast form, hypothesis is reproducible."""

import os

import pytest
from hypothesis import settings

# The same examples everywhere, and no deadline: a loaded two-core machine is slow without being wrong.
settings.register_profile("course", derandomize=True, deadline=None)
settings.load_profile("course")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before nbval starts a notebook's kernel: the kernel inherits COURSE_FAST."""
    if item.path.suffix == ".ipynb":
        os.environ["COURSE_FAST"] = "1"
