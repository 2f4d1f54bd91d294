# Every target works with plain python3 and pip; uv is used where it is there, because it is faster.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# cpu or gpu: which TensorFlow. Picked by whether an NVIDIA driver is there.
TF ?= $(shell test -e /proc/driver/nvidia/version && echo gpu || echo cpu)
ROOMS := -e ./proto -e ./client -e ./vision -e ./server -e ./training
UV := $(shell command -v uv 2>/dev/null)
ifdef UV
  MAKE_VENV = $(UV) venv -q --seed --allow-existing --python $(PYTHON) $(VENV)
  INSTALL = $(UV) pip install -q --python $(BIN)/python
else
  MAKE_VENV = $(PYTHON) -m venv $(VENV)
  INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check
endif

.PHONY: help
help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z][a-zA-Z_-]*:.*## /{printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---------------------------------------------------------------- set-up

$(VENV)/.runtime-$(TF): requirements/$(TF).lock $(wildcard */pyproject.toml)
	$(MAKE_VENV)
	$(INSTALL) --require-hashes -r requirements/$(TF).lock
	$(INSTALL) --no-deps --no-build-isolation $(ROOMS)
	@touch $@

$(VENV)/.dev-$(TF): $(VENV)/.runtime-$(TF) requirements/dev.lock
	$(INSTALL) --require-hashes -r requirements/dev.lock
	@touch $@

.PHONY: setup
setup: $(VENV)/.runtime-$(TF) ## Make .venv with all five rooms installed (TF=cpu|gpu overrides the detection).

.PHONY: dev
dev: $(VENV)/.dev-$(TF) ## Add what the checks and the tests need.

LOCK = $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" -c requirements/in/constraints.in \
	$(foreach room,proto client vision server training,--no-emit-package ferserve-$(room))

# What has an environment of its own, as other people's clients do, agrees with nothing else, so no constraints.
LOCK_ALONE = $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" requirements/in/$(name).in \
	-o requirements/$(name).lock

.PHONY: lock
lock: ## Compile the hashed lock files again (needs uv).
	$(LOCK) requirements/in/cpu.in -o requirements/cpu.lock
	$(foreach name,gpu server-cpu server-gpu training-cpu training-gpu dev,\
	  $(LOCK) -c requirements/cpu.lock requirements/in/$(name).in -o requirements/$(name).lock &&) true
	$(foreach name,docs ray $(addprefix conformance-,triton-old triton-new grpclib model-signing),$(LOCK_ALONE) &&) true
	$(foreach name,conformance-stubs conformance-tensorflow-serving,$(LOCK_ALONE) --no-deps &&) true

# ---------------------------------------------------------------- proto

PROTOS := $(wildcard proto/ferserve/v1/*.proto)
SERVICES := $(wildcard proto/ferserve/v1/*_service.proto)
# $(call PROTOC,DIRECTORY) writes the stubs under DIRECTORY.
PROTOC = $(BIN)/python -m grpc_tools.protoc -I proto --python_out=$(1) --pyi_out=$(1) $(PROTOS) && \
	$(BIN)/python -m grpc_tools.protoc -I proto --grpc_python_out=$(1) $(SERVICES)

# Interfaces of other servers: no stubs, one file of descriptors for a pool of our own (docs/adr/0011).
COMPAT := server/src/ferserve_server/interop/descriptors.binpb
# $(call DESCRIBE,FILE) writes the descriptors to FILE.
DESCRIBE = $(BIN)/python -m grpc_tools.protoc -I proto --include_imports --descriptor_set_out=$(1) \
	$(sort $(wildcard proto/compat/*.proto))

.PHONY: proto
proto: dev ## Generate the stubs from proto/ with the pinned toolchain.
	$(call PROTOC,proto/src)
	$(call DESCRIBE,$(COMPAT))

.PHONY: proto-check
proto-check: dev ## Lint the proto and compare the committed stubs with fresh ones.
	cd proto && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code
	@rm -rf build/proto && mkdir -p build/proto
	$(call PROTOC,build/proto)
	@diff -r -x __pycache__ -x __init__.py -x py.typed build/proto/ferserve proto/src/ferserve \
	  || { echo "The committed stubs differ from the proto: run 'make proto'."; exit 1; }
	$(call DESCRIBE,build/proto/descriptors.binpb)
	@cmp build/proto/descriptors.binpb $(COMPAT) \
	  || { echo "The committed descriptors differ from the proto: run 'make proto'."; exit 1; }

# Seconds and the first seed of each half of `make fuzz`.
FUZZ ?= 30 0

.PHONY: fuzz
fuzz: dev ## Send mutated HTTP/2 exchanges to a connection, and to a server (FUZZ="SECONDS FIRST_SEED").
	PYTHONPATH=tests:benchmarks $(BIN)/python tests/protocol/fuzz.py $(FUZZ)
	PYTHONPATH=tests:benchmarks $(BIN)/python tests/protocol/socket_fuzz.py $(FUZZ)

# ---------------------------------------------------------------- use

SERVE_FLAGS ?=

.PHONY: serve
serve: setup ## Keep a server in the foreground (SERVE_FLAGS="--listen 127.0.0.1:50051").
	exec $(BIN)/ferserve-server --model-repo model_repo $(SERVE_FLAGS)

.PHONY: demo
demo: setup ## Serve the bundled model and send a photograph and a video through the client.
	$(BIN)/python demo/run.py

# ---------------------------------------------------------------- train

RECIPE ?= fer-nano
RUN_DIR ?= runs/$(RECIPE)
# A smoke run's net is none to be served, so that it goes into a repository of its own.
MODEL_REPO ?= $(if $(findstring --smoke,$(TRAIN_FLAGS)),$(RUN_DIR)/model_repo,model_repo)
# For all commands that read the data ("--validation-fraction 0.2"), for training ("--max-minutes 60") and for the
# export ("--onnx int16") alone.
DATA_FLAGS ?=
TRAIN_FLAGS ?=
EXPORT_FLAGS ?=

.PHONY: train
train: setup ## Data set to served version: make train DATA=fer2013.zip [RECIPE=fer-nano] [TRAIN_FLAGS="--max-minutes 60"].
	@test -n "$(DATA)" || { echo "Name the data set: make train DATA=fer2013.zip"; exit 2; }
	$(BIN)/ferserve-train data-check "$(DATA)" $(DATA_FLAGS)
	$(BIN)/ferserve-train train $(RECIPE) --data "$(DATA)" --run-dir "$(RUN_DIR)" $(DATA_FLAGS) $(TRAIN_FLAGS) \
	  $$(test ! -e "$(RUN_DIR)/run.json" || echo --resume)
	$(BIN)/ferserve-train evaluate "$(RUN_DIR)" --data "$(DATA)" $(DATA_FLAGS)
	$(BIN)/ferserve-train export "$(RUN_DIR)" --model-repo "$(MODEL_REPO)" $(EXPORT_FLAGS)

.PHONY: results
results: setup ## Write the table of docs/models.md from training/results/.
	$(BIN)/ferserve-train results training/results --document docs/models.md

# ---------------------------------------------------------------- documentation

.docs-venv/.ready: requirements/docs.lock
	$(subst $(VENV),.docs-venv,$(MAKE_VENV))
	$(subst $(VENV),.docs-venv,$(INSTALL)) --require-hashes -r requirements/docs.lock
	@touch $@

# What draws the diagrams of the site; without npm they are shown as text.
.PHONY: docs-tools
docs-tools: .docs-venv/.ready
	@command -v npm >/dev/null || { echo "There is no npm: diagrams are shown as text."; exit 0; }; \
	  [ scripts/docs_site/node_modules/.package-lock.json -nt scripts/docs_site/package-lock.json ] || \
	  npm ci --prefix scripts/docs_site --no-audit --no-fund --loglevel=error

.PHONY: docs
docs: docs-tools ## Write the documentation as a site to build/site; a broken link is an error.
	NO_MKDOCS_2_WARNING=1 .docs-venv/bin/mkdocs build --strict

# ---------------------------------------------------------------- checks

.PHONY: check
check: lint types walls proto-check ## Everything that can be said without running it: lint, types, walls, proto.

.PHONY: lint
lint: dev ## ruff: style and formatting.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: dev ## mypy, strict, over all rooms.
	$(BIN)/mypy -p ferserve_client -p ferserve_vision -p ferserve_server -p ferserve_training -p ferserve_ray
	$(BIN)/mypy demo benchmarks scripts

.PHONY: walls
walls: dev ## import-linter: the walls between the rooms.
	$(BIN)/lint-imports

.PHONY: release-check
release-check: setup ## Build wheels and sdists into dist/, install them in an empty environment, and serve from there.
	$(BIN)/python scripts/release_check.py

.PHONY: sbom
sbom: dev ## Write a bill of materials (CycloneDX) of every lock file to build/sbom/.
	$(BIN)/python scripts/sbom.py

.PHONY: architecture
architecture: dev ## Draw the diagrams of docs/architecture.md from the imports.
	$(BIN)/python scripts/architecture_diagrams.py

.PHONY: tree-report
tree-report: dev ## Measure the server's tree: files, lines, cycles, files that one crop passes.
	$(BIN)/python scripts/tree_report.py

.PHONY: format
format: dev ## Format the code and mend what ruff can.
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# ---------------------------------------------------------------- tests

PYTEST_FLAGS ?=

# Chromium comes from Debian, the driver and axe from npm; without root or npm the tests of the page are skipped.
.PHONY: browser-tools
browser-tools: ## Install what the tests of the page need: Debian's chromium (root) and tests/browser/node_modules.
	@command -v chromium >/dev/null || [ "$$(id -u)" != 0 ] || { apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-liberation >/dev/null; }
	@command -v npm >/dev/null || { echo "There is no npm: the tests of the page are skipped."; exit 0; }; \
	  [ tests/browser/node_modules/.package-lock.json -nt tests/browser/package-lock.json ] || \
	  npm ci --prefix tests/browser --no-audit --no-fund --loglevel=error

# $(call DEBIAN,PROGRAM OR FILE,PACKAGES) installs packages unless the program is there; nothing without root.
DEBIAN = @{ command -v $(1) || test -e $(1); } >/dev/null || [ "$$(id -u)" != 0 ] || { apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(2) >/dev/null; }

.PHONY: http2-tools
http2-tools: ## Install Debian's curl, nghttp and h2load for the tests that use them (root).
	$(call DEBIAN,h2load,curl nghttp2-client)

.PHONY: client-tools
client-tools: http2-tools ## Install what builds the gRPC clients in Go and C++ (root, 200 MB).
	$(call DEBIAN,/usr/share/gocode/src/google.golang.org/grpc/clientconn.go,golang-go golang-google-grpc-dev)
	$(call DEBIAN,grpc_cpp_plugin,g++ pkg-config libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc)

.PHONY: page-screenshots
page-screenshots: setup browser-tools ## Make docs/images/page-*.jpg again with Chromium (a minute).
	$(BIN)/python tests/browser/make_screenshots.py docs/images

.PHONY: trace-picture
trace-picture: setup ## Make docs/images/batch-trace.svg from a real run (half a minute).
	$(BIN)/python tests/documents/draw_batch_trace.py

.PHONY: test
test: dev tools browser-tools http2-tools ## Run all tests (PYTEST_FLAGS="-k batcher" picks some).
	PATH="$(CURDIR)/.tools/bin:$$PATH" $(BIN)/python -m pytest $(PYTEST_FLAGS)

.PHONY: conformance
conformance: dev tools client-tools ## Run other people's clients and load generators against the server (minutes).
	PATH="$(CURDIR)/.tools/bin:$$PATH" $(BIN)/python -m pytest -m conformance tests/conformance $(PYTEST_FLAGS)

.PHONY: protocol-report
protocol-report: dev client-tools ## Run the suites of HTTP/2 and gRPC at both servers; writes docs/protocol.md (two minutes).
	$(BIN)/python scripts/protocol_report.py

# Flags of the server in the benchmarks that have one variant, such as --server-flag=--engine=process
BENCH_FLAGS ?=

# The server as it is installed for use, for the time of its start.
.bench/server/.ready: requirements/server-cpu.lock $(shell find proto/src server/src -name '*.py')
	@mkdir -p .bench/server
	$(subst $(VENV),.bench/server,$(MAKE_VENV))
	$(subst $(VENV),.bench/server,$(INSTALL)) --require-hashes -r requirements/server-cpu.lock
	$(subst $(VENV),.bench/server,$(INSTALL)) --no-deps --no-build-isolation --force-reinstall ./proto ./server
	@touch $@

.PHONY: bench
bench: setup .bench/server/.ready ## Measure engine, batcher, large calls, transport, pictures, server, scaling, overload and start (10 to 12 minutes); writes docs/performance.md.
	$(BIN)/python benchmarks/batcher_overhead.py
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/large_calls.py $(BENCH_FLAGS)
	$(BIN)/python benchmarks/transport.py $(BENCH_FLAGS)
	$(BIN)/python benchmarks/pictures.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/scaling.py $(BENCH_FLAGS)
	$(BIN)/python benchmarks/overload.py $(BENCH_FLAGS)
	$(BIN)/python benchmarks/impatience.py
	$(BIN)/python benchmarks/start_time.py --command .bench/server/bin/ferserve-server $(BENCH_FLAGS)
	$(BIN)/python benchmarks/performance_tables.py

.PHONY: bench-tracing
bench-tracing: setup ## Measure the processor time that traces take (a minute); writes benchmarks/results/tracing.json.
	$(BIN)/python benchmarks/tracing.py

.PHONY: bench-losses
bench-losses: setup ## Kill and stop engines under load, with and without a standby (3 minutes); writes benchmarks/results/engine_losses.json.
	$(BIN)/python benchmarks/engine_losses.py

# Seconds of `make chaos`.
CHAOS ?= 1300

.PHONY: chaos
chaos: setup ## Restart, kill, overload and starve real servers (22 minutes; CHAOS=150: fewer of everything); writes docs/chaos.md.
	cd benchmarks && PYTHONPATH=. ../$(BIN)/python -m chaos --seconds $(CHAOS)

.PHONY: bench-peers
bench-peers: setup ## Measure other servers with the same net, installed below .bench/ (about 15 minutes, installing included); writes docs/performance.md.
	$(BIN)/python benchmarks/peer_comparison.py
	$(BIN)/python benchmarks/performance_tables.py

.PHONY: bench-flame
bench-flame: setup ## Record flame graphs of the server with py-spy; writes build/flame/*.svg.
	$(BIN)/python benchmarks/flame.py $(BENCH_FLAGS)

BENCH_SWAPS ?= 20
BENCH_CYCLES ?= 50

.PHONY: bench-lifecycle
bench-lifecycle: setup ## Measure swaps under load and memory over many versions (5 minutes); writes docs/performance.md.
	$(BIN)/python benchmarks/swaps.py --swaps $(BENCH_SWAPS)
	$(BIN)/python benchmarks/load_cycles.py --cycles $(BENCH_CYCLES)
	$(BIN)/python benchmarks/performance_tables.py

-include deploy/targets.mk
