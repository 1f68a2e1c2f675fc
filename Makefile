# `make` lists the commands. Everything is installed in .venv, everything built goes to _build.

PYTHON ?= $(or $(shell for p in python3.11 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done),python3)
PROFILE ?= quick
DEVICE ?= auto
MISSING ?= gap

BIN := .venv/bin
STAMP := .venv/.installed
RUNS := $(or $(KDLIB_RUNS),runs)

.DEFAULT_GOAL := help
.PHONY: help install book html run notebooks test test-slow bench gpu lab audit clean

help:
	@echo "make book [PROFILE=quick] [DEVICE=auto]  run every notebook and build the book: _build/html/index.html"
	@echo "make html                                build the published notebooks as they are, nothing is run"
	@echo "make test                                check the style and run all tests but a slow one"
	@echo "make test-slow                           run what make test leaves out, with data sets of KDLIB_DATA"
	@echo "make bench                               ratios of speed on this machine, JSON and a figure: runs/benchmark.json"
	@echo "make gpu                                 check, measure and try a GPU; one report: runs/gpu.json; installs nothing"
	@echo "make lab                                 open the notebooks in JupyterLab"
	@echo "make run NOTEBOOK=05_proportion [ARGS=\"-y 'seeds: [0, 1]'\"]  run one chapter at PROFILE: _build/run/"
	@echo "make notebooks [MISSING=gap]             run notebooks/ in place at profile reference (maintainers)"
	@echo "make audit                               ask whether a version in .venv has a known weakness (needs a network)"
	@echo "make install                             only make .venv and install; the others do it when needed"
	@echo "make clean                               remove _build and the smoke and quick runs, nothing else"
	@echo "PYTHON=/path/to/python chooses the interpreter (3.11 or newer; found: $(PYTHON))"

install: $(STAMP)

# The stamp is newer than both files after an installation, so a second call installs nothing.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, $(PYTHON) is %d.%d: use make PYTHON=/path/to/python3.11" % sys.version_info[:2])'
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[study,elsewhere,book,test]'
	@touch $(STAMP)

# All runs first, side by side and with progress; the notebooks then read the store.
book: $(STAMP)
	$(if $(filter imagenet,$(PROFILE)),$(error profile imagenet has one chapter, 10_imagenet: train it with "python -m kdlib run 10_imagenet --profile imagenet"; PROFILE=paper shows it))
	$(if $(filter full,$(PROFILE)),$(error profile full has one chapter, 18_budget: train it with "python -m kdlib run 18_budget --profile full"; PROFILE=reference shows it))
	@$(BIN)/python -m kdlib run --profile $(PROFILE) --device $(DEVICE)
	@$(BIN)/python book/build.py --profile $(PROFILE) --device $(DEVICE)

html: $(STAMP)
	@$(BIN)/python book/build.py --published

run: $(STAMP)
	$(if $(wildcard notebooks/$(NOTEBOOK).ipynb),,$(error NOTEBOOK=$(NOTEBOOK) is not one of $(basename $(notdir $(wildcard notebooks/*.ipynb)))))
	@mkdir -p _build/run
	@$(BIN)/papermill notebooks/$(NOTEBOOK).ipynb _build/run/$(NOTEBOOK).ipynb --cwd notebooks -p profile $(PROFILE) -p device $(DEVICE) $(ARGS)

notebooks: $(STAMP)
	@$(BIN)/python book/build.py --in-place --device $(DEVICE) --missing $(MISSING)

test: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/python -m pytest -n 2

test-slow: $(STAMP)
	@$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[cluster]' || echo "Parsl cannot be installed here: its tests are skipped"
	@$(BIN)/python -m pytest -m slow

bench: $(STAMP)
	@$(BIN)/python -m kdlib bench

# Where nothing can be installed the interpreter that has torch will do: make gpu PYTHON=python3
gpu:
	@$(if $(wildcard $(STAMP)),$(BIN)/python,$(PYTHON)) tests/cuda/gpu.py

# From the project's folder, since chapters link to pages in book/.
lab: $(STAMP)
	@$(BIN)/jupyter lab notebooks/00_tour.ipynb --ServerApp.root_dir=.

# In an environment of its own, so that what is audited stays as it is.
audit: $(STAMP)
	@test -x _build/audit/bin/pip-audit || { $(PYTHON) -m venv _build/audit && _build/audit/bin/pip install --quiet --disable-pip-version-check pip-audit; }
	@$(BIN)/python -m pip --disable-pip-version-check freeze --exclude-editable | sed -n 's/+.*//; /==/p' > _build/audit/versions.txt
	@_build/audit/bin/python tests/audit.py _build/audit/bin/pip-audit _build/audit/versions.txt

clean:
	rm -rf _build '$(RUNS)/smoke' '$(RUNS)/quick'
