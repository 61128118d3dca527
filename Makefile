# Everything runs in a virtual environment made here. Another Python has one of its own, beside the first:
#     make test PYTHON=python3.13
PYTHON ?= python3
VENV ?= .venv$(patsubst %,-%,$(filter-out python3,$(notdir $(PYTHON))))
# Two workers, each compiling its own models: on two cores nearly twice as fast. `make test XDIST=` runs in one process.
XDIST ?= -n 2 --dist worksteal
PYTEST_ARGS ?=

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-strict test-engines lint format bench docs site site-check wheel clean
.SECONDARY:

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -e 's/:.*## /\t/' | expand -t 14

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# One stamp per set of extras, remade only when pyproject.toml changes; `base` is the package alone.
$(VENV)/.installed-base: pyproject.toml | $(VENV)/bin/python
	$(PIP) install -e .
	@touch $@

$(VENV)/.installed-%: pyproject.toml | $(VENV)/bin/python
	$(PIP) install -e '.[$*]'
	@touch $@

demo: $(VENV)/.installed-base  ## install the package and run the first example
	$(PY) examples/quickstart.py

test: $(VENV)/.installed-test  ## tests and docstring examples, without the slow ones
	$(PY) -m pytest $(XDIST) -m "not slow" $(PYTEST_ARGS)

test-strict: $(VENV)/.installed-test  ## fits where JAX refuses implicit promotion; array shapes of annotations, checked at run time
	$(PY) -m pytest -m strict tests/test_strict.py $(PYTEST_ARGS)
	MLEJAX_CHECK_SHAPES=1 $(PY) -m pytest -m "strict or not slow" tests/objective tests/fit tests/test_strict.py $(PYTEST_ARGS)

test-engines:  ## the same answers from Dask, Ray and Spark, in an environment of its own (Spark where there is Java)
	$(MAKE) VENV=$(VENV)-engines $(VENV)-engines/.installed-test,dask,ray,spark
	JAX_PLATFORMS=cpu $(VENV)-engines/bin/python -m pytest -m "engines or slow" tests/engines $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-test  ## the slow tests, compiled as users' programs are
	MLEJAX_TEST_OPTIMISE=1 $(PY) -m pytest -m slow $(PYTEST_ARGS)

lint: $(VENV)/.installed-lint  ## style and types
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m basedpyright --pythonpath $(PY)

format: $(VENV)/.installed-lint  ## rewrite the code in the house style
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(VENV)/.installed-bench  ## the tables of docs/benchmarks: agreement with R and statsmodels, what others say without a maximum, and how long fits take
	$(PY) benchmarks/agreement.py --write
	$(PY) benchmarks/verdicts.py --write
	$(PY) benchmarks/speed.py --write
	$(PY) benchmarks/batch.py --write
	$(PY) benchmarks/overhead.py --write
	$(PY) benchmarks/profiles.py
	$(PY) benchmarks/draw_scaling.py

docs: $(VENV)/.installed-test  ## run the code of all pages, paste what it prints, list public names, redraw the figure
	$(PY) tests/test_docs.py --write
	$(PY) docs/make_reference.py
	$(PY) docs/make_figure.py

site: $(VENV)/.installed-docs  ## the pages as a website in docs/_build/html; warnings are errors, links between pages are checked
	$(PY) -m sphinx -j 2 -b html -W -n --keep-going -q docs docs/_build/html

site-check: $(VENV)/.installed-docs  ## the same without running the code, in a quarter of a minute
	$(PY) -m sphinx -D nb_execution_mode=off -b html -W -n --keep-going -q docs docs/_build/check

wheel: $(VENV)/.installed-base  ## build the wheel into dist/ and import it from there
	rm -rf build dist
	$(PIP) wheel --no-deps --wheel-dir dist .
	$(PY) -m zipfile -l dist/mlejax-*.whl | grep -q mlejax/py.typed
	cd dist && PYTHONPATH=$$(ls mlejax-*.whl) $(abspath $(PY)) -c "import mlejax; assert '.whl' in mlejax.__file__, mlejax.__file__"

clean:  ## remove environments, builds and caches
	rm -rf .venv* .cache build dist docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
