# demo · test · check · bench · up.  Needs Python 3.11 or newer and nothing else.
# TORCH_INDEX=https://download.pytorch.org/whl/cpu takes torch from there, where PyPI's is built for CUDA.

VENV ?= .venv
TORCH_INDEX ?=
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell \
    $(name) -c 'import ensurepip, sys, venv; print("$(name)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))

# Minutes that each step may take on two cores; with the 3 that .ci/run gives the install, 20 together.
UNIT_MINUTES := 2
INTEGRATION_MINUTES := 5
CONFORMANCE_MINUTES := 4
ACCEPTANCE_MINUTES := 5
CHECK_MINUTES := 1

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
INSTALLED := $(VENV)/.installed
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
TORCHVISION := $(shell sed -n '/^torchvision==/p' constraints.txt)

.PHONY: install demo test unit integration conformance acceptance check bench bench-engine bench-api peers up clean
.DEFAULT_GOAL := demo

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt $(wildcard workers/model/kernels/*.[ch])
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed: install it, or set PYTHON=/path/to/python3." >&2; exit 2; }
	@echo "Installing into $(VENV); this takes a few minutes the first time."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifneq ($(TORCH_INDEX),)
	sh -c '$(PIP) --index-url $(TORCH_INDEX) $(TORCH) $(TORCHVISION) || $(PIP) --index-url $(TORCH_INDEX) $(TORCH)'
else
	$(PIP) $(TORCH)
endif
	$(PIP) --constraint constraints.txt --editable '.[all,test,check]'
	@touch $@

# The bundled model looks at the bundled media. A second time it only shows what it found; --again starts anew.
demo: install
	@$(BIN)/sluice run manifests/demo.jsonl --show 100 -o runs/demo.results.jsonl --errors runs/demo.errors.jsonl

test: unit integration conformance acceptance

unit: install
	timeout $(UNIT_MINUTES)m $(BIN)/python -m pytest -q -n 2 tests/unit

integration: install
	timeout $(INTEGRATION_MINUTES)m $(BIN)/python -m pytest -q -n 2 tests/integration

conformance: install
	timeout $(CONFORMANCE_MINUTES)m $(BIN)/python -m pytest -q -n 2 tests/conformance

acceptance: install
	timeout $(ACCEPTANCE_MINUTES)m $(BIN)/python -m pytest -q tests/acceptance

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	timeout $(CHECK_MINUTES)m $(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit/sluice/test_weight.py

bench: install
	for name in ingest store slots engine end_to_end chat; do $(BIN)/python -m benchmarks.bench_$$name || exit 1; done

# Ours against what a user would pick instead: the plain loop, and every peer that `make peers` has set up.
bench-engine: install
	$(BIN)/python -m benchmarks.bench_engine

# The web process: polls over a million stored jobs, and hundreds of streams at once.
bench-api: install
	$(BIN)/python -m benchmarks.bench_api

peers:
	PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" benchmarks/peers/setup.sh

up: install
	$(BIN)/sluice serve

clean:
	rm -rf $(VENV) build dist *.egg-info
