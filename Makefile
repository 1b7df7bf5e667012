# Every target sets up what it needs. Nothing is installed outside .venv and the model cache.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
INFRA_VENV := build/infra-venv
CONFORMANCE := build/conformance
CONFORMANCE_STAMP := $(CONFORMANCE)/.installed
# Microsoft's worker library needs it: on the path, or one of pyenv's. Looked for when it is needed.
SAY_PATH := -c 'import sys; print(sys.executable)' 2>/dev/null
PYTHON313 = $(shell python3.13 $(SAY_PATH) || PYENV_VERSION=$$(pyenv latest 3.13 2>/dev/null) python3.13 $(SAY_PATH))
NODE_STAMP := node_modules/.installed
LFW ?= ../shared/data/lfw-dev
VIDEO ?= ../shared/data/video
# Processes that tests run in. Many start servers of their own, so that more than a few help little.
TEST_JOBS ?= 2
ULTRA_LIGHT ?= ../shared/models/ultra_light_rfb_640.onnx

.DEFAULT_GOAL := help
.PHONY: help demo serve test check lint unit models bench-recognition bench-impostors bench-strangers bench-quality bench-hygiene \
	bench-grouping bench-scale bench-throughput bench-reliability bench-edge bench-edge-streams bench-edge-latency bench-edge-faults \
	bench-cold-start check-infra conformance conformance-environment environments fuzz clean

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

$(CONFORMANCE_STAMP): requirements.txt requirements-conformance.txt
	@echo "setting up Python 3.13 in $(CONFORMANCE), once: about two minutes"
	@$(PYTHON313) -m venv $(CONFORMANCE)
	@$(CONFORMANCE)/bin/python -m pip install -qq -r requirements-conformance.txt
	@touch $@

conformance-environment:
	@if [ -n "$(PYTHON313)" ]; then $(MAKE) --no-print-directory -s $(CONFORMANCE_STAMP); \
	else echo "no Python 3.13 here: the functions are not tried in Microsoft's worker library"; fi

demo: $(STAMP)  ## the whole system once: photographs in, who was seen where out
	$(BIN)/facerelay demo

serve: $(STAMP) models  ## the service on this machine, at http://127.0.0.1:7071
	$(BIN)/facerelay serve

models: $(STAMP)
	@$(BIN)/facerelay models fetch --pack facenet --demo
	@$(BIN)/facerelay models fetch --pack sface

# All that the tests need; with -j one beside another.
environments: $(DEV_STAMP) $(NODE_STAMP) models conformance-environment

test: environments  ## every test
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder

conformance: $(DEV_STAMP) models conformance-environment  ## every function in Microsoft's worker library, on Python 3.13
	$(BIN)/python -m pytest tests/conformance

fuzz: $(DEV_STAMP) models  ## five minutes of requests from the API's own description; no crash, no lie, no hang
	$(BIN)/python -m tests.conformance.fuzz

check: $(DEV_STAMP) lint unit  ## what to run before a commit: linters, types, unit tests

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(DEV_STAMP)
	$(BIN)/python -m pytest tests/unit

bench-recognition: $(DEV_STAMP) models  ## accuracy on labelled photographs; LFW=folder with images/ and pairs.txt
	$(BIN)/python -m bench.recognition --lfw $(LFW)

bench-impostors: $(DEV_STAMP) models  ## the embedders' impostor curves, as shared/vision/assets.toml has them; LFW=folder
	$(BIN)/python -m bench.impostors --lfw $(LFW)

bench-strangers: $(DEV_STAMP) models  ## strangers before a running service, beside the seed's classifier; LFW=folder
	$(BIN)/python -m bench.strangers --lfw $(LFW)

bench-quality: $(DEV_STAMP) models  ## what the quality gates refuse, and whether it deserves it; LFW=folder
	$(BIN)/python -m bench.quality --lfw $(LFW)

bench-hygiene: $(DEV_STAMP) models  ## planted errors in a gallery, and what its review finds; LFW=folder
	$(BIN)/python -m bench.hygiene --lfw $(LFW)

bench-grouping: $(DEV_STAMP) models  ## grouping of unknown faces beside other algorithms, and of 100,000; LFW as above
	$(BIN)/python -m bench.grouping --lfw $(LFW) --alternatives

bench-scale: $(DEV_STAMP) models  ## training and identification of 1,000 to 50,000 people; one person more over HTTP
	$(BIN)/python -m bench.scale

bench-throughput: $(DEV_STAMP) models  ## requests a second of a running service, beside the seed's pipeline
	$(BIN)/python -m bench.throughput

bench-reliability: $(DEV_STAMP) $(NODE_STAMP) models  ## kill -9 while crops arrive; nothing may be lost or doubled
	$(BIN)/python -m bench.reliability --backend local
	$(BIN)/python -m bench.reliability --backend azure

bench-edge-faults: $(DEV_STAMP) $(NODE_STAMP) models  ## a gateway under every fault of store, disk and process; root fills a real disk
	$(BIN)/python -m bench.edge_faults

bench-edge: $(DEV_STAMP) $(NODE_STAMP) models  ## best shots beside every frame, on composed scenes; and beside the seed's loop; LFW as above
	$(BIN)/python -m bench.edge --lfw $(LFW) --fixtures --clips $(VIDEO) --ultra-light $(ULTRA_LIGHT)
	$(BIN)/python -m bench.edge_seed --lfw $(LFW) --ultra-light $(ULTRA_LIGHT)

bench-edge-streams: $(DEV_STAMP) models  ## a real RTSP camera killed, stopped and frozen, and two hours of looped video; needs GStreamer
	$(BIN)/python -m bench.edge_streams --video $(VIDEO)/one_by_one_person.mp4

bench-edge-latency: $(DEV_STAMP) models  ## from a frame to the stored detection, four cameras at once; LFW as above
	$(BIN)/python -m bench.edge_latency --lfw $(LFW)

bench-cold-start: $(DEV_STAMP) models  ## from a cold process to the app, and to the first recognised face
	$(BIN)/python -m bench.cold_start

check-infra: requirements-infra.txt  ## the Bicep: security, properties, and its compiler where there is one
	@test -x $(INFRA_VENV)/bin/python || $(PYTHON) -m venv $(INFRA_VENV)
	@$(INFRA_VENV)/bin/python -m pip install --quiet -r requirements-infra.txt
	$(INFRA_VENV)/bin/python -m infra.check

clean:  ## removes what was built here; the model cache stays
	rm -rf build .pytest_cache .mypy_cache .ruff_cache *.egg-info
