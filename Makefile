# Every target that needs the environment makes it first: .venv/, from requirements.lock.

PYTHON ?= python3
CONFIG ?=
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check
SETTINGS := $(if $(CONFIG),--config $(CONFIG))
# $(call need,VARIABLES,EXAMPLE) in a recipe ends make when one of the variables is empty.
need = $(foreach name,$1,$(if $($(name)),,$(error make $@: expected $(name)=..., got none, as in `make $@ $2`. Nothing was done)))

.DEFAULT_GOAL := help
.PHONY: help setup demo test init update adopt worker assist scheduler status find sql catalog skip unskip
.PHONY: verify serve publish withdraw bench torture
.PHONY: plan get retry pause resume lint clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: .venv/ready ## make .venv/ from the lock file; does nothing when it is current

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "expected Python 3.11, 3.12 or 3.13, got %d.%d from PYTHON=$(PYTHON); name another one, such as PYTHON=python3.13" % sys.version_info[:2])'
	@echo "making .venv/ with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear .venv
	@echo "installing $$(grep -c == requirements.lock) packages from requirements.lock into .venv/: about a minute"
	@{ $(INSTALL) --no-compile --require-hashes -r requirements.lock || touch .venv/failed; } | \
	while read -r word name rest; do \
		case $$word in Collecting) printf ' %s' "$${name%%==*}";; Installing) printf '\nunpacking them\n';; esac; \
	done
	@test ! -e .venv/failed
	@echo "compiling them on all processors"
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(CURDIR)/.venv/lib || true
	@echo "installing ipp-mirror into .venv/"
	@$(INSTALL) --quiet --no-build-isolation --no-deps -e .
	@touch $@

demo: setup ## start the sample Data Store, mirror it into var/demo/, print the result
	@$(BIN)/python -m pipeline.sample.demo

test: setup ## run every test
	$(BIN)/python -m pytest

init: setup ## write mirror.yaml for a new mirror: URL=... (ROOT=DIR, PRODUCTS=a,b)
	$(call need,URL,URL=http://HOST/ds)
	@$(BIN)/ipp-mirror init $(SETTINGS) $(if $(ROOT),--root "$(ROOT)") $(if $(PRODUCTS),--products "$(PRODUCTS)") "$(URL)"

update: setup ## one update of the mirror (CONFIG=FILE for other settings than mirror.yaml)
	@$(BIN)/ipp-mirror update $(SETTINGS)

adopt: setup ## take over a mirror made by update_mirror.py: FOLDER=... (BY=rename, BY=copy)
	$(call need,FOLDER,FOLDER=/panstarrs/data/MIRROR)
	@$(BIN)/ipp-mirror adopt $(SETTINGS) $(if $(BY),--by "$(BY)") "$(FOLDER)"

worker: setup ## take part in the running update, also from another host (HOST=... of its scheduler)
	@$(BIN)/ipp-mirror worker $(SETTINGS) $(if $(HOST),--scheduler-host $(HOST))

assist: setup
	@$(BIN)/ipp-mirror assist $(SETTINGS) $(if $(HOST),--scheduler-host $(HOST))

scheduler: setup ## Luigi's central scheduler with its web page at http://127.0.0.1:8082
	@$(BIN)/ipp-mirror scheduler

status: setup ## print the state of the mirror
	@$(BIN)/ipp-mirror status $(SETTINGS)

plan: setup ## print what the next update will fetch, how long it takes, and whether it fits
	@$(BIN)/ipp-mirror plan $(SETTINGS)

find: setup ## find images in the catalog: ASK='--stage warp --filter r'
	@$(BIN)/ipp-mirror find $(SETTINGS) $(ASK)

sql: setup ## ask the catalog in SQL: QUERY="SELECT ..."
	$(call need,QUERY,QUERY="SELECT count(*) FROM image")
	@$(BIN)/ipp-mirror sql $(SETTINGS) "$(QUERY)"

catalog: setup ## compare the catalog with the mirror; REBUILD=1 makes it anew
	@$(BIN)/ipp-mirror catalog $(if $(REBUILD),rebuild,check) $(SETTINGS)

skip: setup ## skip a fileset: PRODUCT=... FILESET=... REASON=...
	$(call need,PRODUCT FILESET REASON,PRODUCT=NAME FILESET=NAME REASON="wrong md5")
	@$(BIN)/ipp-mirror skip $(SETTINGS) "$(PRODUCT)" "$(FILESET)" --reason "$(REASON)"

unskip: setup ## unskip a fileset: PRODUCT=... FILESET=...
	$(call need,PRODUCT FILESET,PRODUCT=NAME FILESET=NAME)
	@$(BIN)/ipp-mirror unskip $(SETTINGS) "$(PRODUCT)" "$(FILESET)"

retry: setup ## make failed filesets due now: all, or PRODUCT=... CAUSE=... PATTERN=...
	$(if $(PATTERN),$(call need,PRODUCT,PRODUCT=NAME PATTERN="*.stack.*"))
	@$(BIN)/ipp-mirror retry $(SETTINGS) --cause "$(CAUSE)" $(if $(PRODUCT),"$(PRODUCT)" $(if $(PATTERN),"$(PATTERN)"))

get: setup ## fetch filesets now, whatever the selection: PRODUCT=... FILESET="..."
	$(call need,PRODUCT FILESET,PRODUCT=NAME FILESET="NAME NAME")
	@$(BIN)/ipp-mirror get $(SETTINGS) "$(PRODUCT)" $(FILESET)

pause: setup ## let no update begin (REASON=...)
	@$(BIN)/ipp-mirror pause $(SETTINGS) --reason "$(REASON)"

resume: setup ## let updates begin again
	@$(BIN)/ipp-mirror resume $(SETTINGS)

verify: setup ## compare every file with listings and markers (REPAIR=1 repairs, UPSTREAM=1: with the server)
	@$(BIN)/ipp-mirror verify $(SETTINGS) $(if $(UPSTREAM),--upstream) $(if $(REPAIR),--repair)

serve: setup ## serve the mirror to other sites at http://127.0.0.1:8080/ds
	@$(BIN)/ipp-mirror serve $(SETTINGS)

publish: setup ## publish files of your own: PRODUCT=... FILESET=... FILES="..."
	$(call need,PRODUCT FILESET FILES,PRODUCT=NAME FILESET=NAME FILES="a.fits b.fits")
	@$(BIN)/ipp-mirror publish $(SETTINGS) "$(PRODUCT)" "$(FILESET)" $(FILES)

withdraw: setup ## withdraw a fileset of your own: PRODUCT=... FILESET=...
	$(call need,PRODUCT FILESET,PRODUCT=NAME FILESET=NAME)
	@$(BIN)/ipp-mirror withdraw $(SETTINGS) "$(PRODUCT)" "$(FILESET)"

bench: setup ## compare first updates with wget, aria2c and rclone
	@$(BIN)/python -m bench

torture: setup ## the long tests; then kill an update 200 times, and compare every byte (some minutes)
	@$(BIN)/python -m pytest -m long
	@$(BIN)/python tests/torture/kill_storm.py

lint: setup ## ruff, formatting included; types; the directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

clean: ## remove .venv/, the demo and caches; never a mirror
	rm -rf .venv var/demo build .mypy_cache .import_linter_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
