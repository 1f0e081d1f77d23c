# Set-up and checks, from nothing but Python 3.11 or newer, git and make.
#   make demo         the whole loop on the shipped sample; the results are in demo/
#   make test         every test, under Xvfb where there is no display
#   make test-fast    the same without the slow ones
#   make lint         ruff, mypy, import-linter
#   make coverage     the tests with branch coverage
#   make screenshots  the pictures of the docs, from the real window
#   make shipped-model DATA=dsb2018_fluo_all  the model that comes along, trained anew

PYTHON ?= python3
VENV ?= .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
PIP := $(BIN)/python -m pip
# Touched last: a set-up that was interrupted starts again.
READY := $(VENV)/.ready
TORCH := $(shell grep -E '^torch==' constraints.txt)

.PHONY: help setup demo test test-fast coverage lint screenshots shipped-model clean
.DEFAULT_GOAL := help

help:
	@sed -n '2,9s/^# *//p' Makefile

setup: $(READY)

# torch goes first and by itself: an exact version takes a CPU build that the machine
# has at hand, where an open requirement would fetch the newest CUDA build.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) scripts/check_python.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade --constraint constraints.txt pip
	$(PIP) install --constraint constraints.txt $(TORCH)
	$(PIP) install --constraint constraints.txt --editable ".[all]" --group dev
	@touch $@

demo: $(READY)
	$(BIN)/napari-unet demo --out demo

test: $(READY)
	scripts/run_tests.sh $(BIN) $(ARGS)

test-fast: $(READY)
	scripts/run_tests.sh $(BIN) -m "not slow" $(ARGS)

coverage: $(READY)
	scripts/run_tests.sh $(BIN) --cov --cov-report=term-missing:skip-covered $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

screenshots: $(READY)
	scripts/with_display.sh $(BIN) $(BIN)/python scripts/screenshots.py $(ARGS)

shipped-model: $(READY)
	$(BIN)/python benchmarks/pretrain.py $(DATA) $(ARGS)

clean:
	rm -rf $(VENV) demo dist build .coverage .hypothesis .*_cache
