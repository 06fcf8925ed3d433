# What a newcomer would type. Every target sets up what it needs in .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
NAME   ?=
export PYTEST := $(BIN)/pytest
export BASE_IMAGE PIP_INDEX_URL TORCH_INDEX_URL SSL_CERT_FILE
SECONDS ?= 30
SOAK   ?=

.PHONY: help setup run test lint format types unit contract integration test-slurm slurm slurm-24.11 test-cluster control-plane nodes images soak fuzz fuzz-packages bench proto manifests clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Muster needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) (PyTorch included: a few minutes the first time)…"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

setup: $(STAMP) ## make .venv with everything in it

run: $(STAMP) ## train examples/digits: ten clients in two pools, on this machine
	@$(BIN)/muster run examples/digits/job.yaml

test: lint types unit contract integration ## everything that runs anywhere: format, lint, imports, types, fast tests

lint: $(STAMP) ## format and lint, and who may import whom
	@scripts/stage lint "$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/lint-imports"

types: $(STAMP) ## mypy, strict
	@scripts/stage types "$(BIN)/mypy"

unit: $(STAMP)
	@scripts/stage unit "$(BIN)/pytest tests/unit -n auto -q"

contract: $(STAMP)
	@scripts/stage contract "$(BIN)/pytest tests/contract -n auto -q"

integration: $(STAMP)
	@scripts/stage integration "scripts/retest integration tests/integration -n auto --dist loadscope -q --durations=8 --durations-min=20"

test-slurm: $(STAMP) ## real SLURM, two releases of it side by side (skips with a reason where it can't run)
	@$(MAKE) --no-print-directory -j2 --output-sync=target slurm slurm-24.11

slurm: $(STAMP)
	@scripts/stage slurm "scripts/retest slurm tests/slurm -q"

slurm-24.11: $(STAMP)
	@scripts/stage slurm-24.11 "MUSTER_SLURM_RELEASE=trixie scripts/retest slurm-24.11 tests/slurm -q"

images: ## Dockerfile.operator and Dockerfile.worker, with docker, podman or buildah (BASE_IMAGE, PIP_INDEX_URL, TORCH_INDEX_URL)
	@scripts/images

test-cluster: control-plane nodes ## a real Kubernetes: an API server (KUBECONFIG, or one built from Go modules), then nodes with pods

control-plane: $(STAMP)
	@scripts/stage control-plane "scripts/retest control-plane tests/cluster -m 'not nodes' -n 2 --dist loadscope -q --durations=8 --durations-min=5"

nodes: $(STAMP)
	@scripts/stage nodes "scripts/retest nodes tests/cluster -m nodes -q --durations=8 --durations-min=5"

soak: $(STAMP) ## 30 jobs one after another and 10 side by side under random faults on real nodes: nothing is left (an hour; SOAK="--jobs 5")
	@$(BIN)/python benchmarks/soak.py $(SOAK)

fuzz-packages: $(STAMP)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'

fuzz: fuzz-packages ## every decoder of others' bytes, SECONDS each (30), guided by coverage
	@scripts/stage fuzz "PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(SECONDS)"

bench: $(STAMP) ## every benchmark, or one: make bench NAME=memory
	@$(BIN)/python benchmarks/run.py $(NAME)

format: $(STAMP) ## make the code look as lint wants it
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

proto: $(STAMP) ## generate protos/muster_wire/v1 from the .proto
	@$(BIN)/python scripts/generate_protos.py

manifests: $(STAMP) ## what is made from crds/ and helm/muster: the chart's copies and tables, and the install without helm
	@$(BIN)/python scripts/manifests

clean: ## remove everything that make and the runs made
	rm -rf $(VENV) muster-runs .fuzz .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
