PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --quiet --disable-pip-version-check install --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test bench experiments lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/ready ## align a tiny model from its readers' reactions and open the report
	@$(BIN)/uptake demo

test: lint ## every gate: style, types, layers, tests
	@$(BIN)/pytest --quiet

bench: .venv/bench ## measure every claim; results go to bench/results
	@set -e; for script in bench/bench_*.py; do echo "== $$script"; $(BIN)/python $$script; done

experiments: .venv/ready ## test the claims of the papers in the town (an hour or so); results go to bench/results
	@set -e; for script in bench/town_*.py; do echo "== $$script"; $(BIN)/python $$script; done

lint: .venv/ready ## style, types and layers only
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --check
	@$(BIN)/mypy --no-error-summary src bench
	@$(BIN)/lint-imports --no-logo > .venv/layers.log || { cat .venv/layers.log; exit 1; }

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
