# The two commands of the README are `make demo` and `make test`; `make help` lists the rest.

PYTHON ?= python3
BASE ?= docker.io/library/python:3.12-slim-bookworm
BUILDER ?= $(shell for tool in podman buildah docker; do command -v $$tool && break; done)
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' meshlet/__init__.py)
IMAGE ?= localhost/meshlet:$(VERSION)
BIN = .venv/bin
# These need no program but Python and share nothing, so two processes run them.
QUICK = tests/unit tests/conversations
TWO = --numprocesses 2

.DEFAULT_GOAL := help
.PHONY: help demo test cover check lowest bench fuzz image pod clean

help: ## this list
	@sed -n 's/^\([a-z%-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST)

demo: .venv/installed ## an app, a sidecar in front of it and some traffic, until Ctrl-C
	@$(BIN)/meshlet demo

test: check ## everything: format, lint, types, import contracts, docs, tests
	$(BIN)/pytest $(QUICK) $(TWO)
	$(BIN)/pytest $(patsubst %,--ignore=%,$(QUICK))

test-%: .venv-%/installed ## unit tests and conversations on another Python, as in `make test-3.13`
	.venv-$*/bin/pytest $(QUICK) $(TWO)

lowest: .venv-lowest/installed ## the same with the lowest releases that pyproject.toml allows
	.venv-lowest/bin/pytest $(QUICK) $(TWO)

cover: .venv/installed-dev ## the tests with branch coverage, which doubles their time
	$(BIN)/pytest --cov --cov-report=term

check: .venv/installed-dev ## the part of `make test` that runs no test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports
	$(BIN)/python -m meshlet.config.docs --check

bench: .venv/installed-bench ## meshlet beside Envoy, nginx and HAProxy; arguments in ARGS
	$(BIN)/python -m benchmarks $(ARGS)

fuzz: .venv/installed-dev ## mutated HTTP/1.1 against the codec; arguments in ARGS
	$(BIN)/python -m tests.fuzz $(ARGS)

image: ## the container image; IMAGE names it, BASE is what it is built on
	$(BUILDER) build --build-arg BASE=$(BASE) --tag $(IMAGE) .

pod: image ## deploy/pod.yaml on podman; `podman kube down deploy/pod.yaml` ends it
	DISABLE_HC_SYSTEMD=true podman kube play deploy/pod.yaml

clean: ## all that was made, the environment too
	rm -rf .venv .venv-* build dist htmlcov .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find meshlet tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps say when the environment was last brought up to what pyproject.toml asks for.
.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/installed-%: .venv/bin/python pyproject.toml
	$(BIN)/pip install --quiet --editable '.[$*]'
	@touch $@

# pyenv has its Pythons in places of their own, and on the PATH stand-ins that may refuse to start.
.venv-3.%/installed: pyproject.toml
	$(or $(shell .ci/python 3.$*),$(error there is no Python 3.$* on this machine)) -m venv .venv-3.$*
	.venv-3.$*/bin/pip install --quiet --editable '.[test]'
	@touch $@

.venv-lowest/installed: pyproject.toml tests/support/lowest.py
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) -m tests.support.lowest > .venv-lowest/constraints.txt
	.venv-lowest/bin/pip install --quiet --editable '.[test]' --constraint .venv-lowest/constraints.txt
	@touch $@
