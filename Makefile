# Every target does its own set-up on a fresh clone, into .venv.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: setup demo test check clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
# Apart from the rest: the wheel is built for CUDA, and beside a CPU torch transformers cannot be imported with it.
	$(BIN)/python -m pip install --quiet --no-deps --target .venv/torchvision 'torchvision<0.29'
	touch $(INSTALLED)

# PROTOCOL="longvt love_r1": other protocols than the two by default.
demo: setup
	$(BIN)/zoomtrail demo $(PROTOCOL:%=--protocol %)

test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
