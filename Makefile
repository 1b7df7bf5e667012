# Every target sets up what it needs. Nothing is installed outside .venv and the model cache.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
INFRA_VENV := build/infra-venv
NODE_STAMP := node_modules/.installed
LFW ?= ../shared/data/lfw-dev

.DEFAULT_GOAL := help
.PHONY: help demo serve test check lint unit models bench-recognition bench-throughput bench-reliability bench-edge check-infra clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-20s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	@echo "setting up a virtual environment in $(VENV), once: about a minute"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --upgrade pip

$(STAMP): $(VENV)/bin/python requirements.txt requirements-local.txt pyproject.toml
	@$(BIN)/python -m pip install -qq -r requirements.txt -r requirements-local.txt
	@$(BIN)/python -m pip install -qq --no-deps -e .
	@touch $@

$(DEV_STAMP): $(STAMP) requirements-dev.txt
	@$(BIN)/python -m pip install -qq -r requirements-dev.txt
	@touch $@

$(NODE_STAMP): package.json package-lock.json .npmrc
	npm ci --silent --ignore-scripts
	@touch $@

demo: $(STAMP)  ## the whole system once: photographs in, who was seen where out
	$(BIN)/facerelay demo

serve: $(STAMP) models  ## the service on this machine, at http://127.0.0.1:7071
	$(BIN)/facerelay serve

models: $(STAMP)
	@$(BIN)/facerelay models fetch --pack facenet --demo
	@$(BIN)/facerelay models fetch --pack sface

test: $(DEV_STAMP) $(NODE_STAMP) models  ## every test
	$(BIN)/python -m pytest

check: $(DEV_STAMP) lint unit  ## what to run before a commit: linters, types, unit tests

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(DEV_STAMP)
	$(BIN)/python -m pytest tests/unit

bench-recognition: $(DEV_STAMP) models  ## accuracy on labelled photographs; LFW=folder with images/ and pairs.txt
	$(BIN)/python -m bench.recognition --lfw $(LFW)

bench-throughput: $(DEV_STAMP) models  ## requests a second of a running service, beside the seed's pipeline
	$(BIN)/python -m bench.throughput

bench-reliability: $(DEV_STAMP) models  ## kill -9 while crops arrive; nothing may be lost or doubled
	$(BIN)/python -m bench.reliability

bench-edge: $(DEV_STAMP) models  ## bytes and people of the gateway's choice, beside sending every face of every frame
	$(BIN)/python -m bench.edge

check-infra: requirements-infra.txt  ## the Bicep: security, properties, and its compiler where there is one
	@test -x $(INFRA_VENV)/bin/python || $(PYTHON) -m venv $(INFRA_VENV)
	@$(INFRA_VENV)/bin/python -m pip install --quiet -r requirements-infra.txt
	$(INFRA_VENV)/bin/python -m infra.check

clean:  ## removes what was built here; the model cache stays
	rm -rf build .pytest_cache .mypy_cache .ruff_cache *.egg-info
