PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check install --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo demo-seeds demo-real test suite fuzz soak parity figures bench claims claims-human real lint style types format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/ready ## align a tiny model from its readers' reactions and open the report
	@$(BIN)/uptake demo

demo-real: .venv/ready ## the same on a real model and real pairs: can it judge, and does it learn? (seven minutes beside other work, four without)
	@$(BIN)/python examples/demo_real.py

# Types take one core for a minute or two, while tests wait now and then: so the two go side by side.
test: style ## every gate: style, types, layers, tests
	@$(MAKE) --no-print-directory --jobs=2 types suite

# Two workers of one thread each. A worker begins with half of the files in a row, so that a fixture of a file is made
# once, and takes over tests of the other when it has no more: no worker waits for the longest file.
suite: .venv/ready
	@$(BIN)/pytest --quiet -n 2 --dist worksteal

soak: .venv/ready ## 500 kills of commands and of training, alone and two at once: all end byte-equal (hours; SWEEP=1 for other moments)
	@KILLS=500 $(BIN)/pytest --quiet -m slow tests/test_kill_sweep.py

fuzz: .venv/ready ## read 19,500 damaged inputs and run 500 odd command lines (an hour; DATA=folder, for data sets too)
	@env HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(if $(DATA),UPTAKE_DATA=$(DATA)) $(BIN)/python tests/fuzz/fuzz.py

# Each peer lies in a folder of its own beside the packages of .venv, without the rest of its needs; repositories of
# papers are cloned into .venv/authors.
PEERS := trl=trl-1.16.0 trl_ppo=trl-1.12.0 verl=verl openrlhf=openrlhf-0.11.2
BESIDE := $(BIN)/pip --quiet --disable-pip-version-check install --no-deps --target

parity: $(foreach peer,$(PEERS),.venv/$(lastword $(subst =, ,$(peer)))) ## have trl, verl, OpenRLHF and the code of papers compute what tests compare with, once more
	@set -e; for peer in $(PEERS); do env OMP_NUM_THREADS=1 PYTHONPATH=.venv/$${peer#*=} $(BIN)/python tests/parity/peer_$${peer%=*}.py; done
	@OMP_NUM_THREADS=1 $(BIN)/python tests/parity/peer_authors.py
	@git diff --stat -- tests/parity

# A script of measurements that came to its end leaves a mark, so that a call that was stopped goes on with the next; a
# call that came to its own end takes the marks away.
BENCHES := $(patsubst bench/bench_%.py,runs/bench/%,$(filter-out %_ppo.py,$(wildcard bench/bench_*.py)))
BENCHES += runs/bench/ppo-1 runs/bench/ppo-4
REAL := $(patsubst bench/real_%.py,runs/real/%,$(wildcard bench/real_*.py))

figures: $(BENCHES) demo-seeds claims $(REAL) ## measure again what needs no model of yours (DATA=folder of data sets); the first town's figures cannot be made again
	@rm -r runs/bench runs/real

bench: $(BENCHES) ## measure every claim of speed and memory; results go to bench/results
	@rm -r runs/bench

runs/bench/%: bench/bench_%.py .venv/bench
	@echo "== $<"; $(BIN)/python $<
	@mkdir -p $(@D); touch $@

runs/bench/ppo-1: SETTING := SAMPLES=1
runs/bench/ppo-4: SETTING := PROMPTS=4 SAMPLES=4
runs/bench/ppo-%: bench/bench_ppo.py .venv/bench .venv/trl-1.12.0
	@echo "== $< $(SETTING)"; env PYTHONPATH=.venv/trl-1.12.0 $(SETTING) $(BIN)/python $<
	@mkdir -p $(@D); touch $@

demo-seeds: .venv/ready ## the demonstration on three seeds, for bench/results/demo.md (half an hour)
	@$(BIN)/python bench/demo.py

claims: .venv/ready ## judge the claims of the papers in the town by one rule (two hours; goes on where it was stopped)
	@PYTHONPATH=bench OMP_NUM_THREADS=1 $(BIN)/python -m claims

claims-human: runs/dialogue/model ## the same for three head-to-heads on prompts of people (DATA=folder)
	@PYTHONPATH=bench OMP_NUM_THREADS=1 CLAIMS_MODEL=$< CLAIMS_DATA=$(DATA) $(BIN)/python -m claims person

real: $(REAL) ## train a dialogue model (half an hour) and measure it on what people said (DATA=folder)
	@rm -r runs/real

runs/real/%: bench/real_%.py runs/dialogue/model
	@echo "== $<"; $(BIN)/python $< --model runs/dialogue/model --data $(DATA)
	@mkdir -p $(@D); touch $@

runs/dialogue/model: | .venv/ready
	@test -d "$(DATA)" || { echo "make real DATA=folder: a folder with a folder for each data set"; exit 2; }
	@test -f runs/corpus.jsonl || $(BIN)/uptake corpus --data $(DATA) --out runs/corpus.jsonl
	@test -d runs/start || $(BIN)/uptake init-model runs/corpus.jsonl --out runs/start --vocabulary 4096 --width 256 --layers 6 --window 512
	@$(BIN)/uptake train --policy runs/start --data runs/corpus.jsonl --out runs/dialogue --config bench/dialogue.yaml $$(test -d runs/dialogue && echo --resume)

lint: style types ## style, types and layers only

style: .venv/ready
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --check
	@$(BIN)/lint-imports --no-logo > .venv/layers.log || { cat .venv/layers.log; exit 1; }

types: .venv/ready
	@$(BIN)/mypy --no-error-summary src bench

format: .venv/ready ## put the code in the house style
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format --quiet

clean: ## remove the environment and everything that was built
	@rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find src tests bench -name __pycache__ -prune -exec rm -rf {} +

# torch goes first and alone, so that a CPU build is taken where one is offered.
.venv/ready: pyproject.toml constraints.txt
	@echo "Setting up .venv with the pinned packages (once, a few minutes) ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) torch
	@$(PIP) --editable '.[dev]'
	@touch $@

.venv/bench: .venv/ready
	@$(PIP) --editable '.[bench]'
	@touch $@

.venv/trl-1.16.0 .venv/trl-1.12.0 .venv/openrlhf-0.11.2: .venv/%: .venv/ready
	@$(BESIDE) $@ $(subst -,==,$*)
	@touch $@

.venv/verl: tests/parity/verl.txt .venv/ready
	@$(BESIDE) $@ --requirement $<
	@touch $@
