# The commands of the project. `make help` lists them.
#
# Every target that builds runs `deps` first, so that a machine with Rust, git and make is enough.

# One build cache for all clones on a machine.
CARGO_TARGET_DIR ?= $(HOME)/.cache/hurtig/target
export CARGO_TARGET_DIR

# Where `make docs` keeps mdBook, `make check` looks for cargo-deny, and `make etcd` puts etcd.
TOOLS := $(CARGO_TARGET_DIR)/tools
export PATH := $(TOOLS)/bin:$(PATH)

# C parts of dependencies (jemalloc, zstd, RocksDB) look for `cc` and `c++`; clang takes their places where there are
# none. Looked up before each command, because `make deps` may just have installed them: what changes between two
# runs is compiled again.
compilers = $(if $(shell command -v cc 2>/dev/null),,CC=clang )$(if $(shell command -v c++ 2>/dev/null),,CXX=clang++ )

# RocksDB is built once for all profiles, unless the caller has one already.
ROCKSDB_LIB_DIR ?= $(CARGO_TARGET_DIR)/rocksdb
ROCKSDB_STATIC ?= 1
export ROCKSDB_LIB_DIR ROCKSDB_STATIC

# In CI a Cargo.lock that does not match is an error, not something to repair.
LOCKED := $(if $(CI),--locked)

.DEFAULT_GOAL := help
.PHONY: help demo test bench soak check docs deps rocksdb etcd fmt sweep fuzz-rest

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# Without RocksDB, which takes many minutes to build and which the demo does not need.
demo: deps ## Run the access-log job on the shipped sample as a live stream
	$(compilers)cargo run $(LOCKED) --release -p hurtig --no-default-features --features jemalloc --example access_log -- --demo

test: deps rocksdb etcd ## Everything that CI checks: format, clippy, docs, all tests
	@$(compilers)scripts/test

bench: deps rocksdb ## Measure, each figure beside its baseline
	$(compilers)cargo run $(LOCKED) --release -p hurtig-bench

soak: deps rocksdb ## Measure what takes an hour and 40 GB of disk
	$(compilers)cargo run $(LOCKED) --release -p hurtig-bench -- soak_

check: deps rocksdb ## Format, clippy and, if cargo-deny is installed, licences and advisories
	@$(compilers)scripts/check

docs: deps rocksdb ## Build the book (docs/book) and the API documentation
	@$(compilers)scripts/docs

deps: ## Install the missing system packages (Debian and its relatives)
	@scripts/install-deps

rocksdb: deps ## Build RocksDB, which tests and checks link; only the first time
	@[ "$(ROCKSDB_LIB_DIR)" != "$(CARGO_TARGET_DIR)/rocksdb" ] || $(compilers)scripts/rocksdb

etcd: deps ## Put the etcd that tests start beside the build, unless there is one
	@scripts/etcd

sweep: ## Delete what was built of the workspace if the disk is nearly full
	@scripts/sweep

fmt: ## Format the sources
	cargo fmt --all

fuzz-rest: deps rocksdb ## Send the REST API what its OpenAPI document allows, and what it does not
	@$(compilers)scripts/fuzz-rest
