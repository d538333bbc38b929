# make setup PADDLE=gpu PIP_EXTRA_INDEX_URL=...: with Paddle's GPU build, from its own index.
# make demo: all stages on packaged text, two Fleet ranks on the CPU.   make test: lint (ruff, types), then the tests.
# make test-fast: those that neither start a process nor import Paddle, in less than a minute.
# make docs: the site, in build/site.   make notebook: runs docs/notebook.ipynb again.
# make dist-check: wheel and sdist, each in a clean environment.
PYTHON ?= python3.11
PADDLE ?= cpu
VENV   := .venv
BIN    := $(VENV)/bin

FAST   := tests/test_structure.py tests/docs tests/data_pipeline/text tests/data_pipeline/base \
          tests/data_pipeline/loading/test_order.py tests/finetune/test_recipes.py \
          tests/launch/test_recipe_paths.py tests/launch/nodes/test_addresses.py \
          tests/launch/nodes/test_coordinator.py tests/launch/nodes/test_messages.py \
          tests/launch/clusters/test_kubernetes.py
SLOW   := --ignore tests/data_pipeline/text/test_encode.py \
          --ignore tests/data_pipeline/base/test_processes.py  # PaddleNLP; processes

.PHONY: setup demo test test-fast lint docs notebook dist-check clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(PADDLE),dev,demo]"
	touch $@

demo: setup
	$(BIN)/python -m launch stages launch/recipes/demo/stages.yaml

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest

test-fast: setup
	$(BIN)/python -m pytest -m "not ranks and not slow" $(FAST) $(SLOW)

docs: setup
	$(BIN)/python -m docs.generators.recipe_reference
	$(BIN)/python -m docs.generators.formulas
	$(BIN)/mkdocs build --strict

notebook: setup
	$(BIN)/python -m docs.generators.notebook

dist-check:
	PYTHON=$(PYTHON) .ci/dist-check

clean:
	rm -rf $(VENV) build *.egg-info
