# Set-up happens by itself: `make train` and `make test` create .venv on first use.
VENV ?= .venv
PYTHON ?= python3
# one exact torch first: an open range may pull gigabytes of GPU packages onto a laptop
TORCH ?= torch==2.13.0
EXPERIMENT ?= ilm_qformer_vg_lora
ARGS ?=
BIN := $(VENV)/bin
RUN := $(BIN)/python -m
# compiling all that is installed would take half of the set-up; Python compiles what is imported
INSTALL := $(RUN) pip install --quiet --no-compile
# wherever the environment forbids it, every process would compile anew
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup train train-long test test-slow test-faults test-versions audit bench lint types format doctor check-experiments wheel clean

help: ## list what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: | $(BIN)/python
	@echo "set-up, once: $(TORCH) into $(VENV)"
	$(INSTALL) "$(TORCH)"
	@touch $@

$(VENV)/.train: $(VENV)/.torch pyproject.toml
	@echo "set-up, once: the other packages; pip is silent for a minute or two"
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	@echo "set-up, once: the other packages; pip is silent for a minute or two"
	$(INSTALL) --editable ".[dev]"
	@touch $@ $(VENV)/.train

setup: $(VENV)/.dev ## create .venv with everything for work on the code

train: $(VENV)/.train ## the main job: real data, real pretrained LLM, on a CPU (about 20 minutes)
	$(RUN) ilm_lightning.train experiment=$(EXPERIMENT) $(ARGS)

train-long: $(VENV)/.train ## the same with a long budget, 200 test movies a task and every control (about 2 hours)
	$(RUN) ilm_lightning.train experiment=$(EXPERIMENT) budget=long $(ARGS)

test: $(VENV)/.dev ## the test suite (offline, minutes)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(RUN) pytest -n 2 --dist worksteal $(ARGS)

test-slow: $(VENV)/.dev ## real weights and real data, whole runs of every kind; 10,000 examples of each property; known vulnerabilities
	@status=0; \
	OMP_WAIT_POLICY=PASSIVE $(RUN) pytest -m slow $(ARGS) || status=1; \
	ILM_EXAMPLES=10000 OMP_NUM_THREADS=1 $(RUN) pytest tests/properties $(ARGS) || status=1; \
	$(BIN)/python tests/audit/run.py || status=1; \
	exit $$status

test-faults: $(VENV)/.dev ## kills, full disks, damaged and hostile files (ARGS=--write-faults writes docs/faults.md)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(RUN) pytest -m faults $(ARGS)

test-versions: $(VENV)/.dev ## the core with the oldest and the newest admitted libraries
	OMP_NUM_THREADS=1 $(BIN)/python tests/versions/run.py $(ARGS)

audit: $(VENV)/.dev ## known vulnerabilities of the installed packages (asks the network; status 2: it could not be asked)
	$(BIN)/python tests/audit/run.py

bench: $(VENV)/.train ## the speed ladder against the peers (about half an hour; ARGS="--only collate als")
	$(BIN)/python benchmarks/ladder.py $(ARGS)

lint: $(VENV)/.dev ## style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## strict static types
	$(BIN)/mypy

format: $(VENV)/.dev ## rewrite files in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

doctor: $(VENV)/.train ## what this machine has and what is missing
	$(RUN) ilm_lightning.doctor

check-experiments: $(VENV)/.train ## committed results against expected.json; the cheap experiments run anew (minutes)
	$(RUN) ilm_lightning.report experiments --expected --rerun $(ARGS)

wheel: $(VENV)/.dev ## build the wheel into dist/
	$(RUN) build --wheel --outdir dist .

clean: ## remove .venv and build output; artefacts and runs stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
