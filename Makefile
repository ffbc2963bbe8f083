# Two commands matter: `make serve` needs only the torch-free runtime; `make test` adds the build stage.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests import libraries before any command of ours can say so: see runtime/telemetry.py.
export ORT_DISABLE_TELEMETRY := 1

.PHONY: serve test test-long fuzz soak check lint types imports unit rehearse clients gpu-check format openapi screenshots wheel clean

serve: .venv/serve.stamp
	$(BIN)/calotype serve $(if $(PORT),--port $(PORT))

test: check unit

check: lint types imports

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/test.stamp .venv/stubs.stamp
	$(BIN)/mypy

.venv/stubs.stamp: .venv/test.stamp scripts/tensorrt_stubs.py
	$(BIN)/python -m scripts.tensorrt_stubs .venv/stubs
	touch $@

imports: .venv/test.stamp
	$(BIN)/lint-imports

# A process more takes most of a core, and up to 3 GB; each has its own servers, and one thread.
PROCESSES ?= 2
unit: .venv/test.stamp .venv/bindings.stamp .venv/openvino.stamp
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(PROCESSES) --dist worksteal --durations 15 $(EXAMPLES)

# `make test` with all examples of the property tests: four times as many.
test-long: EXAMPLES := --hypothesis-profile long
test-long: test

# Every fuzz of what others write, at 100,000 inputs each: 40 minutes on two quiet cores.
fuzz: .venv/test.stamp .venv/bindings.stamp
	$(BIN)/python -m scripts.fuzz --processes $(PROCESSES) $(addprefix --inputs ,$(INPUTS)) $(addprefix --only ,$(ONLY)) $(addprefix --seed ,$(SEED)) $(addprefix --write ,$(WRITE))

# Every soak whole, then ten minutes of Schemathesis: half an hour on two quiet cores.
soak: .venv/test.stamp
	$(BIN)/python -m benchmarks.soak $(addprefix --only ,$(ONLY)) $(addprefix --write ,$(WRITE))
	$(BIN)/pytest -q --hypothesis-profile soak tests/api/test_contract.py

# Of TensorRT itself only the bindings can be had here: a binary in which names can be looked up.
.venv/bindings.stamp: Makefile | .venv/test.stamp
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv/tensorrt-10 tensorrt-cu13-bindings==10.16.1.11
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv/tensorrt-11 tensorrt-cu13-bindings==11.4.0.106
	touch $@

# In a folder of its own: where it is installed, every server of the tests would try it first.
.venv/openvino.stamp: Makefile constraints.txt | .venv/test.stamp
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv/openvino $(shell grep ^openvino== constraints.txt)
	touch $@

# The real onnxruntime-gpu, 256 MB, on stand-ins for CUDA's libraries: its host code with no GPU.
rehearse: .venv/test.stamp .venv/onnxruntime-gpu.stamp
	REHEARSAL_ONNXRUNTIME=$(CURDIR)/.venv/onnxruntime-gpu $(BIN)/pytest tests/rehearsal

.venv/onnxruntime-gpu.stamp: Makefile constraints.txt | .venv/test.stamp
	$(BIN)/pip install --quiet --no-deps --upgrade --target .venv/onnxruntime-gpu $(shell grep ^onnxruntime-gpu== constraints.txt)
	touch $@

# Programs over OpenAI's client that are too large for `make test`: 620 MB.
clients: .venv/test.stamp .venv/clients.stamp
	CLIENTS=$(CURDIR)/.venv/clients $(BIN)/pytest tests/api/test_large_clients.py

.venv/clients.stamp: Makefile | .venv/test.stamp
	$(BIN)/pip install --quiet --upgrade --target .venv/clients/litellm litellm==1.110.2
	$(BIN)/pip install --quiet --upgrade --target .venv/clients/langchain langchain-community==0.4.2 openai==3.57.0
	touch $@

# On a machine with a GPU, and needing no network: installs nothing.
gpu-check:
	$(BIN)/python -m scripts.gpu_check $(if $(WRITE),--write "$(WRITE)") $(if $(SECONDS),--seconds $(SECONDS)) $(addprefix --only ,$(ONLY)) $(if $(PACKAGES),--packages "$(PACKAGES)")

format: .venv/test.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The HTTP contract as a snapshot, so that a change of it is seen in review.
openapi: .venv/test.stamp
	$(BIN)/python -m tests.api.paper

# The README's picture of the page, in the browser that this machine has.
screenshots: .venv/test.stamp
	SCREENSHOTS=docs/images $(BIN)/pytest tests/api/page/test_looks.py -k readme

# For machines without a checkout: docs/install.md. A build packs what an older one left in build/.
wheel: .venv/bin/python
	rm -rf build
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/*.whl

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/serve.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing what serves on a CPU into .venv: half a minute on the first start."
	$(BIN)/pip install --quiet --progress-bar on --constraint constraints.txt --editable .
	touch $@

.venv/test.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing what builds and tests into .venv: two minutes the first time."
	$(BIN)/pip install --quiet --progress-bar on --constraint constraints.txt --editable ".[build,dev]"
	touch $@ .venv/serve.stamp

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
