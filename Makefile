# The commands of the project. `make help` lists them.
#
# Every target that builds runs `deps` first, so that a machine with Rust, git and make is enough.

# One build cache for all clones on a machine.
CARGO_TARGET_DIR ?= $(HOME)/.cache/hurtig/target
export CARGO_TARGET_DIR

# Where `make docs` keeps mdBook, and `make check` looks for cargo-deny.
TOOLS := $(CARGO_TARGET_DIR)/tools
export PATH := $(TOOLS)/bin:$(PATH)

# C parts of dependencies (jemalloc, zstd) look for `cc`; clang takes its place where there is none.
ifeq ($(shell command -v cc 2>/dev/null),)
export CC = clang
export CXX = clang++
endif

# In CI a Cargo.lock that does not match is an error, not something to repair.
LOCKED := $(if $(CI),--locked)

.DEFAULT_GOAL := help
.PHONY: help demo test bench check docs deps fmt

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: deps ## Run the access-log job on the shipped sample as a live stream
	cargo run $(LOCKED) --release -p hurtig --example access_log -- --demo

test: deps ## Everything that CI checks: format, clippy, docs, all tests
	@scripts/test

bench: deps ## Measure, each figure beside its baseline
	cargo run $(LOCKED) --release -p hurtig-bench

check: deps ## Format, clippy and, if cargo-deny is installed, licences and advisories
	@scripts/check

docs: deps ## Build the book (docs/book) and the API documentation
	@scripts/docs

deps: ## Install the missing system packages (Debian and its relatives)
	@scripts/install-deps

fmt: ## Format the sources
	cargo fmt --all
