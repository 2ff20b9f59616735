# Every target sets its environment up by itself. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
PORT ?= 5000
MODEL ?= runs/fashion_mnist/vae/seed-0
IMAGES ?= 50
BIN := $(abspath $(VENV))/bin
# DVC runs the `python` of PATH: that of the environment.
RUN := env -u PYTHONPATH PATH="$(BIN):$$PATH"
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help repro readme verify demo converged families published test test-all ui watch article ais bench bench-gpu audit lint clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 10

repro: $(READY) ## run the benchmark: what is out of date, and nothing else
	@# Some mistakes, such as a word in place of a list, DVC meets before its first stage: check first.
	@# When all of it began and ended is kept for `make bench`.
	@begun=$$(date +%s); \
	$(RUN) python stages/check.py && \
	$(RUN) python scripts/unlock.py && \
	$(RUN) python scripts/scm.py && \
	$(RUN) dvc repro && \
	echo "$$begun $$(date +%s)" > .aebench/repro && \
	$(RUN) python scripts/readme.py

readme: $(READY) ## make the tables in README.md and docs/ anew from the results, as `make repro` does at its end
	@$(RUN) python scripts/readme.py

verify: $(READY) ## train one seed of each variant again and compare it with the committed results
	@$(RUN) python scripts/verify.py

demo: $(READY) ## the whole pipeline on small digits, in demo/, in a minute or two
	@$(RUN) python scripts/demo.py

converged: $(READY) ## the benchmark trained until nothing improves, into converged/ and published/: hours, goes on after any stop
	@$(RUN) python scripts/comparison.py converged

families: $(READY) ## every kind of model on one data set, one seed, into families/ and published/: an hour
	@$(RUN) python scripts/comparison.py families

published: $(READY) ## tables of the literature, into published/: days; ONLY=TABLE/VARIANT/SEED makes a part; goes on after any stop
	@$(RUN) python scripts/published.py $(ONLY)

test: $(READY) ## run the quick tests
	@$(RUN) python -m pytest -n 2 --dist loadfile -m 'not slow'

test-all: $(READY) ## run the slow tests: faults of servers, browsers, long walks
	@$(RUN) python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow

ui: $(READY) ## sync the results into MLflow and open its UI on 127.0.0.1 (PORT=5000)
	@$(RUN) python stages/track.py always
	@$(RUN) python scripts/ui.py $(PORT)

watch: $(READY) ## show runs in MLflow while they train, from a second terminal
	@$(RUN) python stages/track.py watch

article: $(READY) ## the source article's experiment, into article/
	@$(RUN) python scripts/article.py

ais: $(READY) ## check log p̂(x) of a trained run by annealed importance sampling, in minutes (MODEL=runs/…/seed-0 IMAGES=50)
	@$(RUN) python scripts/ais.py $(MODEL) $(IMAGES)

bench: $(READY) ## how fast training, estimates and stages are, beside the obvious and the possible; needs the data of `make repro`
	@$(RUN) python benchmarks/bench.py && $(RUN) python scripts/readme.py

bench-gpu: $(READY) ## runs a minute and estimates a second on a GPU, beside the CPU; needs the data of `make repro`
	@$(RUN) python benchmarks/gpu.py

lint: $(READY) ## check style, types and the directions of imports
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) mypy
	@$(RUN) mypy --config-file tests/mypy.ini
	@$(RUN) lint-imports --no-logo --no-cache

audit: ## look the pinned versions up among known vulnerabilities; needs the network
	@$(PYTHON) -m venv .aebench/audit
	@.aebench/audit/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2,<3'
	@.aebench/audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

clean: ## delete the environment, scratch files and the demo; results stay
	rm -rf $(VENV) .aebench demo

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "aebench needs Python 3.11 or newer, found " + sys.version.split()[0] + "; name another with PYTHON=…")'
	@echo "setting up $(VENV): 2.1 GB (more where pip brings a CUDA build of torch) and some minutes" >&2
	@$(PYTHON) -m venv "$(VENV)"
	@"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@"$(BIN)/python" scripts/renderer.py
	@touch $@
