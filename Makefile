# Mask Scoring R-CNN. Start with `make demo`; `make help` lists the targets.

VENV ?= .venv
# Exact versions of all packages; constraints-lowest.txt has the lowest ones that setup.py allows.
CONSTRAINTS ?= constraints.txt
# The first Python from 3.10 to 3.13 that can create a virtual environment.
SUITABLE := import sys, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python3.10; do \
  $$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check
STAMP := $(VENV)/.installed

DEMO_CONFIG := configs/quick/shapes_ms_rcnn_R_18_FPN_fitted.yaml
DEMO_OUTPUT := output/demo
# The last file that prepare_shapes.py writes.
SHAPES := datasets/shapes/annotations/instances_test.json

.PHONY: help setup demo reproduce-shapes reproduce-nuclei reproduce-animals reproduce-ccp reproduce-coco test-fast test test-all coverage test-gpu benchmark lint format docs lowest wheelhouse clean

# Each target has its help after "##".
help:  ## list the targets
	@awk '/^[a-z][^=]*:.* ## / { name = text = $$0; sub(/:.*/, "", name); gsub(/ /, ", ", name); \
	  sub(/.* ## /, "", text); if (length(name) > 15) name = name sprintf("\n%20s", ""); \
	  printf "make %-15s%s\n", name, text }' Makefile

setup: $(STAMP)  ## install everything into .venv

$(STAMP): setup.py $(CONSTRAINTS) tools/install_detectron2.py
	@$(PYTHON) -c '$(SUITABLE)' 2>/dev/null || { echo "make: found no Python 3.10 to 3.13 with venv and pip.\
	 Install one (Debian, Ubuntu: apt-get install python3-venv) or select one: make PYTHON=/path/to/python3.12"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "Installing PyTorch and the other packages (a minute or two) ..."
	@$(PIP) install -c $(CONSTRAINTS) pip setuptools wheel torch torchvision
	@$(PIP) install -c $(CONSTRAINTS) --no-build-isolation -e '.[dev]' 2> $(VENV)/pip.log || { cat $(VENV)/pip.log; exit 1; }
	@$(PY) tools/install_detectron2.py
	@$(PY) -m pip check
	@touch $@

$(SHAPES): msrcnn/data/shapes.py datasets/prepare_shapes.py | setup
	$(PY) datasets/prepare_shapes.py --output datasets/shapes

demo: export DETECTRON2_DATASETS = datasets
demo: setup $(SHAPES)  ## install, create a small dataset, train, evaluate and draw (minutes on a CPU)
	$(VENV)/bin/msrcnn train --config-file $(DEMO_CONFIG) OUTPUT_DIR $(DEMO_OUTPUT)
	$(VENV)/bin/msrcnn draw --dataset shapes_val \
	  --predictions $(DEMO_OUTPUT)/inference/predictions.npz --output $(DEMO_OUTPUT)/predictions.png
	@echo
	@echo "Open      $(DEMO_OUTPUT)/report.html        the evaluation: table, plots and the masks whose rank changed most"
	@echo "          $(DEMO_OUTPUT)/predictions.png    ground truth beside predictions, with both scores"
	@echo "          $(DEMO_OUTPUT)/evaluation.json    all metrics, as JSON"
	@echo "          $(VENV)/bin/tensorboard --logdir $(DEMO_OUTPUT)    the training curves"
	@echo "Next      source $(VENV)/bin/activate, then see README.md: COCO, custom datasets, fine-tuning"

reproduce-shapes: export DETECTRON2_DATASETS = datasets
reproduce-shapes: $(SHAPES)
reproduce-shapes reproduce-nuclei reproduce-animals reproduce-ccp: reproduce-%: setup  ## train and compare joint and fitted scores, 3 seeds
	$(VENV)/bin/msrcnn ablate --sweep configs/ablations/claim.yaml --quick --protocol $* --head-only \
	  --output-dir output/claim/$*

reproduce-coco: setup  ## commands, times and published results of the COCO models, for 1 and 8 GPUs
	@$(VENV)/bin/msrcnn compare

PARALLEL := --numprocesses auto --maxprocesses 8 --dist loadfile

test-fast: setup  ## run the tests of the core logic, in less than a minute
	$(PY) -m pytest $(PARALLEL) @tests/fast.txt

test: setup  ## run the tests, except slow end-to-end ones
	$(PY) -m pytest $(PARALLEL)

test-all: setup  ## run all tests, as continuous integration does
	$(PY) -m pytest $(PARALLEL) -m ""

TESTS ?= @tests/fast.txt
coverage: setup  ## the lines that the fast tests leave out (other tests: TESTS=...)
	$(PY) -m pytest $(PARALLEL) --cov --cov-report term-missing:skip-covered $(TESTS)

test-gpu: setup  ## run the checks that need a GPU, and print what a bug report needs
	-$(PY) -m detectron2.utils.collect_env
	-nvidia-smi
	$(PY) -m pytest -rs -v tests/test_gpu.py

BENCHMARK := $(PY) tools/benchmark.py
RECORDS := output/benchmark/speed_
benchmark: export DETECTRON2_DATASETS ?= datasets
benchmark: setup  ## repeat the measurements of docs/speed.md on COCO, on a GPU if there is one
	$(BENCHMARK) cost --json output/benchmark/cost.json
	$(BENCHMARK) inference --json $(RECORDS)inference.json
	$(BENCHMARK) inference --dtype bf16 --json $(RECORDS)inference_bf16.json
	$(BENCHMARK) training --json $(RECORDS)training.json SOLVER.IMS_PER_BATCH 1 DATALOADER.NUM_WORKERS 0
	$(BENCHMARK) target --json $(RECORDS)target.json SOLVER.IMS_PER_BATCH 4
	$(BENCHMARK) soft-nms --json $(RECORDS)soft_nms.json
	$(BENCHMARK) loader --json $(RECORDS)loader.json
	$(BENCHMARK) loader --json $(RECORDS)loader_bitmask.json INPUT.MASK_FORMAT bitmask
	$(BENCHMARK) fit --json output/benchmark/fit_time.json
	$(BENCHMARK) evaluation --images 100 1000 5000 --repeats 3 3 1 --json output/benchmark/evaluation.json \
	  --annotations $(DETECTRON2_DATASETS)/coco/annotations/instances_val2017.json

lint: setup  ## check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: setup  ## fix style, fill in the tables of the documentation
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/cog -r -P -I docs -p "import ablation_tables, claim_tables, tables, zoo_tables" README.md docs/*.md

docs: export NO_MKDOCS_2_WARNING = 1
docs: setup  ## build the documentation site in build/site; open its index.html
	@$(PIP) install -c $(CONSTRAINTS) --no-build-isolation -e '.[docs]'
	$(VENV)/bin/mkdocs build --strict

# tensorboard before 2.21 needs setuptools before 82.
lowest: setup  ## find the versions of constraints-lowest.txt again, from setup.py
	@$(PY) -m uv --version 2>/dev/null || $(PIP) install uv
	@echo 'setuptools>=70.1,<82' | $(PY) -m uv --quiet pip compile setup.py - --extra dev \
	  --resolution lowest-direct --python-version 3.10 --upgrade --no-annotate \
	  --custom-compile-command 'make lowest' --output-file constraints-lowest.txt

DEST ?= wheelhouse
wheelhouse: setup  ## collect wheels for a machine without internet (PYTHON=... DEST=...)
	@echo "Collecting wheels for $$($(PYTHON) --version) in $(DEST), except torch and torchvision ..."
	@rm -rf build/wheelhouse && $(PYTHON) -m venv build/wheelhouse && mkdir -p $(DEST)
	@awk '/^##/ { keep = /Runtime|Tests/ } keep' constraints.txt > build/wheelhouse/pins.txt
	@build/wheelhouse/bin/python -m pip --quiet wheel --no-deps --wheel-dir $(DEST) -r build/wheelhouse/pins.txt .
	@$(PY) tools/install_detectron2.py --wheel-dir $(DEST)
	@echo "Install with: pip install --no-index --no-deps $(DEST)/*.whl"

clean:  ## remove .venv, datasets/shapes and build files; keep output/
	rm -rf $(VENV) datasets/shapes build *.egg-info .pytest_cache .ruff_cache .mypy_cache .coverage* .hypothesis
