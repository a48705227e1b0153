# Mask Scoring R-CNN. Start with `make demo`; `make help` lists the targets.

VENV ?= .venv
# The first Python from 3.10 to 3.13 that can create a virtual environment.
SUITABLE := import sys, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python3.10; do \
  $$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check
STAMP := $(VENV)/.installed

DEMO_CONFIG := configs/quick/shapes_ms_rcnn_R_18_FPN_fitted.yaml
DEMO_OUTPUT := output/demo
SHAPES := datasets/shapes/annotations/instances_val.json

.PHONY: help setup demo reproduce-shapes reproduce-nuclei reproduce-animals reproduce-ccp reproduce-coco test test-all test-gpu lint format wheelhouse clean

help:
	@echo "make demo        install, create a small dataset, train, evaluate and draw (minutes on a CPU)"
	@echo "make reproduce-NAME  train and compare joint and fitted scores, 3 seeds, on shapes, nuclei, animals or ccp"
	@echo "make reproduce-coco  commands, times and published results of the COCO models, for 1 and 8 GPUs"
	@echo "make test        install and run the tests, except slow end-to-end ones"
	@echo "make test-all    run all tests, as continuous integration does"
	@echo "make test-gpu    run the checks that need a GPU, and print what a bug report needs"
	@echo "make setup       install into $(VENV)"
	@echo "make lint        check style"
	@echo "make format      fix style, fill in the tables of the documentation"
	@echo "make wheelhouse  collect wheels for a machine without internet (PYTHON=... DEST=...)"
	@echo "make clean       remove $(VENV), datasets/shapes and build files; keep output/"

setup: $(STAMP)

$(STAMP): setup.py constraints.txt tools/install_detectron2.py
	@$(PYTHON) -c '$(SUITABLE)' 2>/dev/null || { echo "make: found no Python 3.10 to 3.13 with venv and pip.\
	 Install one (Debian, Ubuntu: apt-get install python3-venv) or select one: make PYTHON=/path/to/python3.12"; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "Installing PyTorch and the other packages (a minute or two) ..."
	@$(PIP) install -c constraints.txt pip setuptools wheel torch torchvision
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[dev]' 2> $(VENV)/pip.log || { cat $(VENV)/pip.log; exit 1; }
	@$(PY) tools/install_detectron2.py
	@$(PY) -m pip check
	@touch $@

$(SHAPES): msrcnn/data/shapes.py datasets/prepare_shapes.py | setup
	$(PY) datasets/prepare_shapes.py --output datasets/shapes

demo: export DETECTRON2_DATASETS = datasets
demo: setup $(SHAPES)
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
reproduce-shapes reproduce-nuclei reproduce-animals reproduce-ccp: reproduce-%: setup
	$(VENV)/bin/msrcnn ablate --sweep configs/ablations/claim.yaml --quick --protocol $* --head-only \
	  --output-dir output/claim/$*

reproduce-coco: setup
	@$(VENV)/bin/msrcnn compare

PARALLEL := --numprocesses auto --maxprocesses 8 --dist loadfile

test: setup
	$(PY) -m pytest $(PARALLEL)

test-all: setup
	$(PY) -m pytest $(PARALLEL) -m ""

test-gpu: setup
	-$(PY) -m detectron2.utils.collect_env
	-nvidia-smi
	$(PY) -m pytest -rs -v tests/test_gpu.py

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: setup
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/cog -r -P -I docs -p "import tables" README.md docs/*.md

DEST ?= wheelhouse
wheelhouse: setup
	@echo "Collecting wheels for $$($(PYTHON) --version) in $(DEST), except torch and torchvision ..."
	@rm -rf build/wheelhouse && $(PYTHON) -m venv build/wheelhouse && mkdir -p $(DEST)
	@awk '/^##/ { keep = /Runtime|Tests/ } keep' constraints.txt > build/wheelhouse/pins.txt
	@build/wheelhouse/bin/python -m pip --quiet wheel --no-deps --wheel-dir $(DEST) -r build/wheelhouse/pins.txt .
	@$(PY) tools/install_detectron2.py --wheel-dir $(DEST)
	@echo "Install with: pip install --no-index --no-deps $(DEST)/*.whl"

clean:
	rm -rf $(VENV) datasets/shapes build *.egg-info .pytest_cache .ruff_cache .hypothesis
