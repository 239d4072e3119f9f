# The project's verbs. `make run` and `make test` do everything on a fresh Debian 12 machine.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help deps deps-bench deps-soak build run test bench lint format tidy soak campaign fuzz clean

PORT ?= 8080
VAR ?= var
SWIFT ?= swift
RELEASE_FLAGS := -c release --static-swift-stdlib
PRODUCTS := clickd attributiond clickctl clickd-workbench

# Debian packages, each with why it is needed.
PACKAGES := \
  "libpq-dev:the PostgreSQL client library" \
  "libssl-dev:digests, signatures and TLS" \
  "openssl:certificates for tests and benchmarks" \
  "libmaxminddb-dev:country look-ups" \
  "libyaml-dev:the configuration file" \
  "pkg-config:finding those libraries" \
  "postgresql-15:a private server for make run and the tests" \
  "curl:the commands that make run prints"
BENCH_PACKAGES := "nginx-light:the peer to compare with" "wrk:the load" "gcc:the do-nothing server"
SOAK_PACKAGES := "slowhttptest:slow clients" "testssl.sh:the look at TLS" "python3-venv:sslyze" "fiu-utils:sync errors" \
  "libfiu-dev:sync errors" "faketime:clock steps" "e2fsprogs:file systems to break" \
  "xfsprogs:a disk as it was when the power went"

help:
	@echo "make run    start everything here: PostgreSQL, clickd, attributiond, sample data (PORT=8080 VAR=var)"
	@echo "make test   every test, against a real PostgreSQL of its own"
	@echo "make build  the executables, release, into .build/release/"
	@echo "make bench  the comparisons of Benchmarks/, in pairs"
	@echo "make lint   swift format, strict;  make format  rewrites"
	@echo "make fuzz   the parsers under libFuzzer and AddressSanitizer (FUZZ_RUNS=100000 each)"
	@echo "make campaign NAME=idle|overload|slow|follow  one campaign of docs/testing.md"
	@echo "make soak   the long tests;  make clean  removes what was built"

# install(list): installs what dpkg does not know as installed; one clear line where that cannot be.
define install
	@missing=""; \
	for entry in $(1); do \
	  name="$${entry%%:*}"; \
	  if ! dpkg-query -W -f='$${Status}' "$$name" 2>/dev/null | grep -q "ok installed"; then \
	    echo "install $$name: $${entry#*:}"; missing="$$missing $$name"; \
	  fi; \
	done; \
	if [ -n "$$missing" ]; then \
	  asroot=""; \
	  if [ "$$(id -u)" -ne 0 ]; then \
	    if command -v sudo >/dev/null && sudo -n true 2>/dev/null || { [ -t 0 ] && command -v sudo >/dev/null; }; then asroot="sudo"; \
	    else echo "cannot install without root: run as root: apt-get install$$missing" >&2; exit 1; fi; \
	  fi; \
	  case "$$missing" in *postgresql-15*) \
	    $$asroot mkdir -p /etc/postgresql-common && \
	    { [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" | $$asroot tee /etc/postgresql-common/createcluster.conf >/dev/null; };; \
	  esac; \
	  log="$$(mktemp)"; \
	  if ! { $$asroot env DEBIAN_FRONTEND=noninteractive apt-get update && \
	         $$asroot env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; } >"$$log" 2>&1; then \
	    echo "cannot install: apt-get install$$missing failed (is there a network?): $$(grep -E '^(E|Err)' "$$log" | tail -n 1)" >&2; \
	    exit 1; \
	  fi; \
	  rm -f "$$log"; \
	fi
endef

deps:
	@command -v $(SWIFT) >/dev/null || { echo "no Swift toolchain: install Swift 6.3 or newer from https://www.swift.org/install/linux/ and put its usr/bin into PATH" >&2; exit 1; }
	$(call install,$(PACKAGES))

deps-bench: deps
	$(call install,$(BENCH_PACKAGES))

deps-soak: deps-bench
	$(call install,$(SOAK_PACKAGES))
	@command -v sslyze >/dev/null || test -x .build/sslyze/bin/sslyze || \
	  { echo "install sslyze from PyPI into .build/sslyze: the look at TLS"; \
	    python3 -m venv .build/sslyze && .build/sslyze/bin/pip install -q sslyze; }

build: deps
	@$(foreach product,$(PRODUCTS),$(SWIFT) build $(RELEASE_FLAGS) --product $(product) &&) true

run: build
	@exec .build/release/clickd-workbench run --port $(PORT) --var $(VAR)

# The end-to-end tests run the release executables, so both configurations are built.
test: build
	@$(SWIFT) build --build-tests
	@CLICKD_BINARIES="$(CURDIR)/.build/release" CLICKD_ROOT="$(CURDIR)" $(SWIFT) test --skip-build --no-parallel $(TEST_FLAGS)

soak: deps-soak build
	@CLICKD_SOAK=1 CLICKD_BINARIES="$(CURDIR)/.build/release" CLICKD_ROOT="$(CURDIR)" $(SWIFT) test $(TEST_FLAGS)

# NAME: idle, overload, slow or follow (docs/testing.md).
campaign: deps-soak build
	@exec .build/release/clickd-workbench $(NAME) $(ARGUMENTS)

bench: deps-bench build
	@exec .build/release/clickd-workbench bench --directory Benchmarks

# libFuzzer and AddressSanitizer over the parsers: three modules, compiled without the package's build
# system, which has no fuzzer. One target after the other, FUZZ_RUNS executions each; what they find new
# stays in .build/fuzz/corpus, an input that fails in Fuzz/Crashes.
FUZZ_RUNS ?= 100000
FUZZ_TARGETS ?= request-head chunked-body query redirect proxy forwarded json
FUZZ_BUILD := .build/fuzz
FUZZ_SWIFTC = $(SWIFT)c -O -wmo -parse-as-library -swift-version 6 -sanitize=fuzzer,address \
  -enable-upcoming-feature ExistentialAny -enable-upcoming-feature MemberImportVisibility \
  -enable-upcoming-feature InternalImportsByDefault -enable-experimental-feature Lifetimes -I $(FUZZ_BUILD)
FUZZ_SOURCES := $(shell find Sources/Tracking Sources/EdgeCore Fuzz/Bodies Fuzz/Target -name '*.swift' 2>/dev/null)

$(FUZZ_BUILD)/fuzzer: $(FUZZ_SOURCES)
	@mkdir -p $(FUZZ_BUILD)
	@for module in Sources/Tracking Sources/EdgeCore Fuzz/Bodies; do \
	  name="$$(basename $$module)"; [ "$$name" = Bodies ] && name=FuzzBodies; \
	  $(FUZZ_SWIFTC) -emit-module -emit-module-path $(FUZZ_BUILD)/$$name.swiftmodule -emit-object \
	    -o $(FUZZ_BUILD)/$$name.o -module-name $$name $$(find $$module -name '*.swift') || exit 1; \
	done
	@$(FUZZ_SWIFTC) -module-name FuzzTarget -o $@ Fuzz/Target/*.swift \
	  $(FUZZ_BUILD)/FuzzBodies.o $(FUZZ_BUILD)/EdgeCore.o $(FUZZ_BUILD)/Tracking.o

fuzz: deps $(FUZZ_BUILD)/fuzzer
	@for target in $(FUZZ_TARGETS); do \
	  mkdir -p $(FUZZ_BUILD)/corpus/$$target Fuzz/Crashes; \
	  echo "fuzz $$target: $(FUZZ_RUNS) executions"; \
	  FUZZ_TARGET=$$target $(FUZZ_BUILD)/fuzzer -runs=$(FUZZ_RUNS) -max_len=1024 -timeout=10 \
	    -verbosity=0 -print_final_stats=1 -artifact_prefix=Fuzz/Crashes/$$target- \
	    $(FUZZ_BUILD)/corpus/$$target Fuzz/Corpus/$$target || exit 1; \
	done

lint:
	@$(SWIFT) format lint --strict --recursive --parallel Package.swift Sources Tests Fuzz

format:
	@$(SWIFT) format --in-place --recursive --parallel Package.swift Sources Tests Fuzz

tidy:
	@CLICKD_ROOT="$(CURDIR)" $(SWIFT) test --filter TidyTests

clean:
	@rm -rf .build
