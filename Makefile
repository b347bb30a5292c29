# Every target that needs the environment makes it first: .venv/, from requirements.lock.

PYTHON ?= python3
CONFIG ?=
BIN := .venv/bin
SETTINGS := $(if $(CONFIG),--mirror-config $(CONFIG))

.DEFAULT_GOAL := help
.PHONY: help setup demo test update assist scheduler status skip unskip verify serve bench torture lint clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/ready ## make .venv/ from the lock file; nothing to do when it is current

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with PYTHON=...")'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

demo: setup ## start the sample Data Store, mirror it into var/demo/, print what arrived
	@$(BIN)/python -m pipeline.sample.demo

test: setup ## run every test
	$(BIN)/python -m pytest

update: setup ## one update of the mirror (CONFIG=FILE for other settings than mirror.yaml)
	@$(BIN)/python -m tasks update $(SETTINGS)

assist: setup ## take part in the update that is running, from another host too (HOST=... of its scheduler)
	@$(BIN)/python -m tasks assist $(SETTINGS) $(if $(HOST),--scheduler-host $(HOST))

scheduler: setup ## Luigi's central scheduler with its web page at http://127.0.0.1:8082
	@mkdir -p var/luigi
	@$(BIN)/python -m tasks.runtime.luigid --address 127.0.0.1 --port 8082 --state-path var/luigi/state.pickle

status: setup ## how the mirror is
	@$(BIN)/python -m tasks status $(SETTINGS)

skip: setup ## give a fileset up: PRODUCT=... FILESET=... REASON=...
	@$(BIN)/python -m tasks skip $(SETTINGS) "$(PRODUCT)" "$(FILESET)" --reason "$(REASON)"

unskip: setup ## take a skip back: PRODUCT=... FILESET=...
	@$(BIN)/python -m tasks unskip $(SETTINGS) "$(PRODUCT)" "$(FILESET)"

verify: setup ## check all that is here against listings and markers (REPAIR=1 mends it)
	@$(BIN)/python -m tasks verify $(SETTINGS) $(if $(REPAIR),--repair)

serve: setup ## serve the mirror to the next site at http://127.0.0.1:8080/ds
	@$(BIN)/python -m tasks serve $(SETTINGS)

bench: setup ## the whole job measured side by side with wget, aria2c and rclone
	@$(BIN)/python -m bench

torture: setup ## kill an update 200 times, then compare every byte (some minutes)
	@$(BIN)/python tests/torture/kill_storm.py

lint: setup ## ruff, formatting included
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean: ## remove what make made: .venv/, the demo, caches; never a mirror
	rm -rf .venv var/demo .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
