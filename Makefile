# Everything that people do often. `make help` lists it; each target sets up what it needs.

PYTHON ?= python3
PROFILE ?= smoke
# JAX and PyTorch are installed by `make backends` alone, nbgrader by `make nbgrader`, Sphinx by `make site`, Playwright and axe
# by `make browser` and `make slides`: none is in the lock.
JAX ?= jax==0.10.2
TORCH ?= torch==2.13.0
NBGRADER ?= nbgrader==0.9.6
SITE ?= sphinx==9.0.4 myst-nb==1.4.0 sphinx-book-theme==1.4.0
BROWSER ?= playwright==1.65.2 axe-playwright-python==0.1.8
# The slides' own script, from npm.
REVEAL ?= reveal.js@5.2.1
# Two tests at a time, each file in one process: its fixtures are made once. In the order of the files: sorted by their number of
# tests, the slow ones would come last and one after the other.
WORKERS ?= --numprocesses 2 --dist loadfile --no-loadscope-reorder

BIN := .venv/bin
# Bytecode is written once, at set-up: without it TensorFlow takes three times as long to import.
export PYTHONDONTWRITEBYTECODE :=
export TF_CPP_MIN_LOG_LEVEL ?= 3

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup course test lint unit twice folders grading nbgrader backends site slides browser lab build lock release clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  Variables: PROFILE=smoke|cpu|real|gpu (now $(PROFILE)), PYTHON (now $(PYTHON), 3.11 to 3.13)"

# The stamp is written last, so a set-up that was interrupted starts over; `--clear` takes away what it had left.
.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit(f"make: {sys.executable} is Python {v[0]}.{v[1]}: the course needs 3.11, 3.12 or 3.13 (make PYTHON=python3.12 ...)")'
	@echo "Setting up .venv"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -o '^uv==[^ ;]*' requirements.lock)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps --editable .
	@touch $@

setup: .venv/ready ## the environment alone, in .venv

course: .venv/ready ## execute the whole course (PROFILE=smoke by default) and write its report
	@$(BIN)/course run --profile $(PROFILE); status=$$?; \
	 [ $$status -ge 2 ] || $(BIN)/course report --profile $(PROFILE) || exit; exit $$status

test: .venv/ready lint unit ## lint, unit tests, notebooks (nbval) and the proof of the labs
	$(BIN)/course test

lint: .venv/ready ## style, types, and whether the notebooks are what their sources say
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/course build --check
	$(BIN)/course check

unit: .venv/ready ## the unit tests alone
	$(BIN)/python -m pytest $(WORKERS)

twice: .venv/ready ## every notebook twice: the same values to the last bit
	$(BIN)/python -m pytest -m twice tests/test_twice.py

folders: .venv/ready ## every notebook with a data parameter on folders of strangers, in every layout
	$(BIN)/python -m pytest -m folders tests/test_strangers.py

.venv/nbgrader: .venv/ready
	@echo "Adding nbgrader"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock "$(NBGRADER)"
	@touch $@

nbgrader: .venv/nbgrader ## a lab's marks held against those of nbgrader itself
	$(BIN)/python -m pytest tests/course/test_build.py tests/grading/test_nbgrader.py -k nbgrader

grading: .venv/nbgrader ## every lab through the grader: solutions, wrong answers, a cluster; most of an hour
	$(BIN)/python -m pytest -m grading tests/grading

.venv/backends: .venv/ready
	@echo "Adding JAX and PyTorch"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock "$(JAX)" "$(TORCH)"
	@touch $@

backends: .venv/backends ## the tests of utils under JAX and PyTorch too
	KERAS_BACKEND=jax $(BIN)/python -m pytest $(WORKERS) tests/utils
	KERAS_BACKEND=torch $(BIN)/python -m pytest $(WORKERS) tests/utils

.venv/site: .venv/ready
	@echo "Adding Sphinx"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock $(SITE)
	@touch $@

# The notebooks that have run in this profile already, unchanged, are taken from the cache.
site: .venv/site ## the site, build/site/html, from a run in PROFILE
	$(BIN)/course run --profile $(PROFILE) || [ $$? -eq 1 ]  # a notebook that failed is told by the next line
	$(BIN)/python docs/gather.py --profile $(PROFILE)
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --jobs 2 -b html build/site/source build/site/html

.venv/browser: .venv/ready
	@echo "Adding Playwright and axe"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock $(BROWSER)
	@touch $@

build/node/reveal: Makefile
	@command -v npm >/dev/null || { echo "make: npm is missing, which fetches $(REVEAL) (apt-get install npm)" >&2; exit 1; }
	@rm -rf $@ && mkdir -p $@
	@npm pack --silent --pack-destination $@ $(REVEAL) >/dev/null && tar -xzf $@/*.tgz -C $@ --strip-components 1

slides: .venv/browser build/node/reveal ## the lectures as slide shows and PDF files, build/slides, from a run in PROFILE
	$(BIN)/course run --kind lecture --profile $(PROFILE) || [ $$? -eq 1 ]  # a lecture that failed is told by the next line
	$(BIN)/python docs/slideshow.py --profile $(PROFILE) --reveal build/node/reveal

browser: .venv/browser site ## a lab in JupyterLab, report and site in a real browser (Debian's chromium, found on PATH)
	$(BIN)/python -m pytest -m browser tests/browser

lab: .venv/ready ## JupyterLab, at the root: lectures, labs, and your own copies in work/
	$(BIN)/jupyter lab

build: .venv/ready ## the notebooks from their sources
	$(BIN)/course build

lock: .venv/ready ## requirements.lock from pyproject.toml, with the newest versions
	$(BIN)/uv pip compile pyproject.toml --upgrade --extra course --group backend --group dev --universal --python-version 3.11 \
	    --no-header --no-emit-index-url --no-emit-find-links -o requirements.lock

release: .venv/ready ## look at everything that VERSION needs, build it and tag it; nothing is pushed
	$(BIN)/python scripts/release.py $(VERSION)

clean: ## take away .venv and everything that was built or cached here
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find utils course tests -name __pycache__ -type d -prune -exec rm -rf {} +
