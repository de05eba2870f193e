# Everything that is done with this project from a shell. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLIENTS := .clients
LINT := .lint
PYTEST_ARGS ?=
TORTURE_ARGS ?=

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# What is compiled once need not be compiled by each of the many processes that the tests start.
export PYTHONDONTWRITEBYTECODE :=
.PHONY: help run install test quick simulate torture reliability coverage check format lock packages checks pictures \
	recording clean clients dev chromium node faketime

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 13

run: $(VENV)/installed  ## start Apperate: database, server and background work (HOST, PORT)
	@exec $(BIN)/python manage.py up

install: $(VENV)/installed  ## install what this version runs on, and start nothing

# Two at a time; the tests of one file stay together, because they share what they start.
test: dev chromium clients  ## run every test (PYTEST_ARGS="-k …" for some)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

quick: dev  ## the tests without browser, server and database, in a minute, for the loop while working
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	-m "not browser and not server and not database and not slow" $(PYTEST_ARGS)

SEED ?= 1
SEEDS ?= 10
STEPS ?= 1000000
simulate: dev  ## simulate the token core with clocks, crashes and a network of its own (SEED, SEEDS, STEPS)
	$(BIN)/python -m tests.simulation --seed $(SEED) --seeds $(SEEDS) --steps $(STEPS)

coverage: dev chromium clients  ## run every test and show what they cover, by module (slower)
	@status=0; $(BIN)/coverage run -m pytest $(PYTEST_ARGS) || status=$$?; \
	$(BIN)/coverage report || true; exit $$status

torture: dev faketime  ## break a running installation in every way, for an hour (ONLY=E-D4,E-D5, SEED=7)
	@$(BIN)/python -m tests.torture $(if $(ONLY),--only $(ONLY)) $(if $(SEED),--seed $(SEED)) $(TORTURE_ARGS)

reliability: dev  ## make docs/reliability.md from the report of a whole `make torture`
	@$(BIN)/python -m tests.torture.page

check: dev $(LINT)/installed  ## everything that is checked without running tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --cache-dir .import_linter_cache
	@# Characters, not bytes: a quotation mark has three of those.
	@if LC_ALL=C.UTF-8 grep -rnE --include='*.html' '.{141}' templates; then \
	echo "Lines of templates have at most 140 characters." >&2; exit 1; fi
	find templates -name '*.html' -print0 | xargs -0 -r $(BIN)/djade --target-version 5.2 --check
	$(BIOME) check --config-path=.ci/lint/biome.jsonc --error-on-warnings static tests
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python .ci/lint/migrations.py
	@# As it is served in production: https, a real key, and no warning left.
	APPERATE_PUBLIC_URL=https://data.example.com APPERATE_ALLOWED_HOSTS=data.example.com APPERATE_DEBUG=0 \
	APPERATE_SECRET_KEY="$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(50))')" \
	$(BIN)/python manage.py check --deploy --fail-level WARNING

format: dev $(LINT)/installed  ## format Python, templates, styles and scripts
	$(BIN)/ruff format .
	find templates -name '*.html' -print0 | xargs -0 -r $(BIN)/djade --target-version 5.2
	$(BIOME) check --config-path=.ci/lint/biome.jsonc --write static tests

UV_COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock"
NPM_LOCK = npm install --package-lock-only --ignore-scripts --no-audit --no-fund --omit-lockfile-registry-resolved
lock: dev node  ## pin the requirements again, with hashes (UPGRADE=--upgrade for newer releases)
	$(UV_COMPILE) pyproject.toml $(UPGRADE) --output-file requirements.txt
	$(UV_COMPILE) pyproject.toml $(UPGRADE) --extra observability --constraint requirements.txt \
	--output-file requirements-observability.txt
	$(UV_COMPILE) pyproject.toml $(UPGRADE) --extra observability --group dev --constraint requirements-observability.txt \
	--output-file requirements-dev.txt
	cd tests/clients && ../../$(UV_COMPILE) build.in $(UPGRADE) --output-file build.txt
	cd tests/clients && ../../$(UV_COMPILE) pyproject.toml $(UPGRADE) --output-file requirements.txt
	for folder in tests/clients .ci/lint; do (cd $$folder && $(NPM_LOCK)); \
	$(BIN)/python tests/clients/trim_npm_lock.py $$folder/package-lock.json; done

packages: dev  ## write the bill of materials of requirements.txt, and what is known against its packages
	@$(BIN)/python docs/packages.py

checks: $(BIN)/python  ## write docs/security-checks.md from the marks of the tests
	@$(BIN)/python docs/checks.py

pictures: dev chromium  ## take the pictures of docs/pictures again, from a throw-away installation
	@$(BIN)/python docs/pictures.py

recording: dev chromium  ## record docs/pictures/token-created.gif again: a token is created
	@$(BIN)/python docs/recording.py

clean:  ## remove what can be made again; the data in var/ stays
	rm -rf $(VENV) $(CLIENTS) $(LINT) .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find apperate benchmarks datasets tests tokens -name __pycache__ -type d -prune -exec rm -rf {} +

clients: $(CLIENTS)/installed  ## install the clients of the older service, for the tests

# --- what the targets above stand on -----------------------------------------------------------

dev: $(VENV)/installed-dev

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "Apperate needs Python 3.11 or newer, and there is no $(PYTHON)." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "Apperate needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.11 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The stamps hold the requirements they stand for, so a checkout that only changes times installs nothing.
$(VENV)/installed: requirements.txt | $(BIN)/python
	@cmp -s requirements.txt $@ || { echo "Installing the requirements (once) …"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt; }
	@cp requirements.txt $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	@cmp -s requirements-dev.txt $@ || { echo "Installing the development requirements (once) …"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt; }
	@cp requirements-dev.txt $@

# Both package managers compare what they fetch with the hashes; npm runs no scripts of packages. Node takes the
# build for browsers as a module only under a name with .mjs; it is a copy.
NPM_CI := npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
CLIENT_LISTS := $(addprefix tests/clients/,build.txt requirements.txt package.json package-lock.json)
CLIENT_PIP := $(CLIENTS)/python/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes
$(CLIENTS)/installed: $(CLIENT_LISTS) | $(BIN)/python node
	@cat $(CLIENT_LISTS) | cmp -s - $@ || { echo "Installing the clients of the older service (once) …"; rm -rf $(CLIENTS); \
	$(BIN)/python -m venv $(CLIENTS)/python; $(CLIENT_PIP) -r tests/clients/build.txt; \
	$(CLIENT_PIP) --no-build-isolation -r tests/clients/requirements.txt; \
	cp tests/clients/package.json tests/clients/package-lock.json $(CLIENTS); \
	(cd $(CLIENTS) && $(NPM_CI)); \
	cp $(CLIENTS)/node_modules/@apperate/iexjs/dist/esm/iexjs.js $(CLIENTS)/iexjs.mjs; }
	@cat $(CLIENT_LISTS) > $@

# Its own folder, because the clients come with much that `make check` does not need.
LINT_LISTS := $(addprefix .ci/lint/,package.json package-lock.json)
BIOME := $(LINT)/node_modules/@biomejs/biome/bin/biome
$(LINT)/installed: $(LINT_LISTS) | node
	@cat $(LINT_LISTS) | cmp -s - $@ || { echo "Installing the linter of styles and scripts (once) …"; rm -rf $(LINT); \
	mkdir $(LINT); cp $(LINT_LISTS) $(LINT); (cd $(LINT) && $(NPM_CI)); }
	@cat $(LINT_LISTS) > $@

APT_INSTALL = if [ "$$(id -u)" = 0 ]; then become=; else become=sudo; fi; \
	$$become apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$become apt-get install -y -qq
node:
	@command -v node >/dev/null && command -v npm >/dev/null && exit 0; \
	command -v apt-get >/dev/null || { echo "The linter of styles and scripts, and the tests of the old clients, need Node and npm: install them and try again." >&2; exit 1; }; \
	echo "Installing Node …"; $(APT_INSTALL) --no-install-recommends nodejs npm >/dev/null

# Jumps of the clock; without it the experiments of the clock are not run, and say so.
faketime:
	@compgen -G "/usr/lib/*/faketime/libfaketime.so.1" >/dev/null && exit 0; \
	command -v apt-get >/dev/null || { echo "There is no libfaketime: the clock will not jump." >&2; exit 0; }; \
	echo "Installing libfaketime …"; $(APT_INSTALL) faketime >/dev/null

chromium:
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
	command -v $$name >/dev/null && exit 0; done; \
	command -v apt-get >/dev/null || { echo "The browser tests need Chromium: install it and try again." >&2; exit 1; }; \
	echo "Installing Chromium for the browser tests …"; $(APT_INSTALL) chromium >/dev/null
