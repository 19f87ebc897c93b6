# The one door: `make help`. CI calls the same targets. Needs make, and Python 3.11 or newer; everything else is fetched.

.DEFAULT_GOAL := help
.SUFFIXES:

VENV := .venv
BIN := $(VENV)/bin
LOCKS := requirements-dev.lock requirements-build.lock

# Which Python makes the environment: `make install PYTHON=/path/to/python3.12` to choose.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$python && break; done)
# What the environment is made of. The path is part of it: scripts and the editable install know where they are.
MADE_OF := $(shell { cat $(LOCKS) pyproject.toml; echo '$(CURDIR)'; } | cksum | tr -s ' \t' '-')
STAMP := $(VENV)/.made-of-$(MADE_OF)
# uv is quicker, where it is; pip does the same.
UV := $(shell command -v uv 2>/dev/null)
# Tests that start fleets and foreign programs.
SLOW := bench clients conformance contract fleet redis

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: install ## Start the gateway with its sample backends, try them, say how to connect a client (ARGS='--port 8090')
	@$(BIN)/mcp-gateway demo $(ARGS)

.PHONY: install
install: $(STAMP) ## Make .venv with the locked packages and the program mcp-gateway

$(STAMP): $(LOCKS) pyproject.toml
	@if [ -z '$(PYTHON)' ]; then echo 'Python 3.11 or newer is needed, and none was found: install one, or say where it is with `make install PYTHON=/path/to/python3`.' >&2; exit 1; fi
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo '$(PYTHON) is older than Python 3.11, or does not run: say `make install PYTHON=/path/to/python3`.' >&2; exit 1; }
	@if [ -x $(BIN)/python ] && ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then rm -rf $(VENV); fi
	@rm -f $(VENV)/.made-of-*
	@echo 'Making $(VENV) with $(PYTHON): the first time it takes a minute.'
ifdef UV
	@[ -x $(BIN)/python ] || uv venv --quiet --python '$(PYTHON)' $(VENV)
	uv pip install --quiet --python $(BIN)/python --require-hashes $(LOCKS:%=-r %)
	uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || '$(PYTHON)' -m venv $(VENV) \
	    || { rm -rf $(VENV); echo '$(PYTHON) can make no environment. On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes $(LOCKS:%=-r %)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endif
	@touch $@

.PHONY: test
test: install tools ## Everything: lint, types, walls and all tests; pytest's summary comes last (ARGS='-k name')
	@failed=; for step in lint types walls; do $(MAKE) --no-print-directory $$step || failed="$$failed $$step"; done; \
	$(BIN)/python -m pytest $(ARGS) || failed="$$failed pytest"; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

.PHONY: test-quick
test-quick: install ## The tests that need nothing but Python, and little time
	@$(BIN)/python -m pytest $(SLOW:%=--ignore=tests/%) $(ARGS)

.PHONY: lint
lint: install ## Check style and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

.PHONY: types
types: install ## Check types, strictly
	@$(BIN)/mypy

.PHONY: walls
walls: install ## Check that each room imports only what it may
	@$(BIN)/lint-imports --no-logo

.PHONY: fmt
fmt: install ## Mend style and format where that is safe
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

.PHONY: tools
tools: install ## Fetch what tests need besides: Node, the conformance suite, other clients' environments
	@$(BIN)/python tests/tools/install.py

.PHONY: bench
bench: install ## Measure: direct, nginx, the gateway, FastMCP's proxy, side by side (ARGS='--help')
	@$(BIN)/python -m tests.bench $(ARGS)

.PHONY: fuzz
fuzz: install ## Give every parser some million inputs: about 20 minutes (EXAMPLES=10000: fewer)
	@MCPGW_FUZZ_EXAMPLES=$(or $(EXAMPLES),150000) $(BIN)/python -m pytest tests/protocol/test_parsers.py

# uv resolves for every platform and Python at once. The locks name versions and hashes, no download addresses.
COMPILE = .tools/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-header $(if $(UPGRADE),--upgrade)
HEADER := \# Locked by `make lock`. Install with: pip install --require-hashes -r THIS_FILE

.PHONY: lock
lock: .tools/uv/bin/uv ## Lock versions and hashes anew after a change of pyproject.toml (UPGRADE=1: newest versions)
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock
	'$(PYTHON)' -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	    | $(COMPILE) - -o requirements-build.lock
	@for lock in requirements.lock $(LOCKS); do \
	    { echo '$(HEADER)'; cat $$lock; } >$$lock.new && mv $$lock.new $$lock; done

.tools/uv/bin/uv:
	'$(PYTHON)' -m venv .tools/uv
	.tools/uv/bin/python -m pip install --quiet --disable-pip-version-check uv

.PHONY: clean
clean: ## Remove all that was made here: environment, tools, caches
	rm -rf $(VENV) .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
