# demo, test, check, bench, fuzz and build each do all the set-up they need, in .venv and node_modules.

# An empty environment has no PATH, and without one Python does not find itself.
export PATH := $(or $(PATH),/usr/local/bin:/usr/bin:/bin)

# The first Python that runs, is 3.11 to 3.13 (what libtorrent ships wheels for) and can make a venv.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	2>/dev/null && echo $$python && break; done)
VENV := .venv
RUN := $(VENV)/bin/python -m
PEER := tests/interop/node_modules/bittorrent-dht/package.json
FAST := $(wildcard dhtmeta/_fast/*.pyx dhtmeta/_fast/*.pxd)
# Node does not look at the system's certificates by itself, as pip does.
SYSTEM_CERTIFICATES := $(wildcard /etc/ssl/certs/ca-certificates.crt)
ifneq ($(SYSTEM_CERTIFICATES),)
export NODE_EXTRA_CA_CERTS ?= $(SYSTEM_CERTIFICATES)
endif
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check bench bench-check fuzz build clean

demo: build
	$(RUN) dhtmeta demo

test: build $(VENV)/test.done peer
	$(RUN) pytest -n 2 --dist worksteal

check: build $(VENV)/test.done $(VENV)/check.done $(VENV)/bench.done
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cython-lint dhtmeta bench

# Every bench in ten minutes; docs/benchmarks.md says how to run one of them whole.
bench: build $(VENV)/test.done $(VENV)/bench.done peer
	$(RUN) dhtmeta bench all --quick

# Fails where a ratio to a peer got worse than the kept one by more than its margin.
bench-check: build $(VENV)/test.done $(VENV)/bench.done peer
	$(RUN) dhtmeta bench check

# For so many seconds each; what is found is kept in build/fuzz.
FUZZ_SECONDS ?= 120
fuzz: build $(VENV)/fuzz.done
	$(RUN) tests.fuzz codec $(FUZZ_SECONDS)
	$(RUN) tests.fuzz core $(FUZZ_SECONDS)
	$(RUN) tests.fuzz exchange $(FUZZ_SECONDS)

build: $(VENV)/build.done

$(VENV)/build.done: pyproject.toml setup.py constraints.txt $(FAST)
	@test -n "$(PYTHON)" || { echo "dhtmeta needs Python 3.11, 3.12 or 3.13 with venv (Debian: python3-venv)"; exit 1; }
	@command -v cc >/dev/null || { echo "dhtmeta needs a C compiler (Debian: gcc and python3-dev)"; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(RUN) pip install -q -c constraints.txt setuptools cython
	$(RUN) pip install -q -c constraints.txt --no-build-isolation -e .
	touch $@

$(VENV)/%.done: $(VENV)/build.done
	$(RUN) pip install -q -c constraints.txt --no-build-isolation -e '.[$*]'
	touch $@

# The foreign peer. Without node the interop tests say so and skip; with CI set they fail instead.
.PHONY: peer
peer:
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(PEER) || true; fi
	@test -e $(PEER) || echo "no bittorrent-dht: the tests against it will be skipped"

$(PEER):
	timeout 180 npm install --fetch-retries=1 --fetch-timeout=30000 --no-save --no-package-lock --no-audit --no-fund --loglevel=error --prefix tests/interop bittorrent-dht@11.0.12

clean:
	rm -rf $(VENV) build *.egg-info tests/interop/node_modules dhtmeta/_fast/*.so dhtmeta/_fast/*.c
