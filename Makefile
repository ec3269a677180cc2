# The map of the project. `make` alone lists what there is to do.
# Every target makes `.venv` first, once: again only when pyproject.toml changes.
# Another Python: make tour PYTHON=python3.12

PYTHON ?= python3
PY = .venv/bin/python
READY = .venv/ready.stamp
NOTEBOOKS = notebooks
WORKSPACE = workspace
NBVAL = --nbval-lax --nbval-current-env --nbval-cell-timeout=300 --nbval-sanitize-with=tests/notebooks/sanitize.cfg

.PHONY: help tour lab test unit notebooks bench lint clean

help: ## list the targets (this text)
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

tour: $(READY) ## the main job: make a data set, train three networks, measure them, write runs/tour/report.html
	.venv/bin/course tour

lab: $(READY) ## make or update your workspace of unsolved notebooks, open it in JupyterLab
	.venv/bin/course start $(WORKSPACE)
	$(PY) -m jupyterlab --allow-root $(LAB_FLAGS) $(WORKSPACE)/00_tour.ipynb

test: $(READY) ## all tests: unit, slow, and every notebook against its recorded output
	$(PY) -m pytest tests notebooks $(NBVAL)

unit: $(READY) ## the unit tests alone
	$(PY) -m pytest tests -m "not slow"

notebooks: $(READY) ## execute the notebooks in place, gather their sheets (one: NOTEBOOKS=notebooks/00_tour.ipynb)
	$(PY) -m course_lib.lessons.execute $(NOTEBOOKS)
	$(PY) -m course_lib.lessons.sheets

bench: $(READY) ## one table of ratios, ours to the peers'
	$(PY) -m benchmarks

lint: $(READY) ## style, format, spelling, the notebooks' form
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m codespell_lib
	$(PY) -m course_lib.lessons.normalise --check $(NOTEBOOKS)
	$(PY) -m course_lib.lessons.anatomy $(NOTEBOOKS)
	$(PY) -m course_lib.lessons.sheets --check

clean: ## remove .venv, runs/ and every cache
	rm -rf .venv runs build dist htmlcov .coverage *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info[:2] < (3, 11))" || { echo "The course needs Python 3.11 or newer. Name one: make PYTHON=python3.12"; exit 1; }
	$(PY) -m pip --version 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(PY) -m pip install -e ".[dev]"
	@touch $(READY)
