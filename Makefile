# The two commands to know: make demo, make test. Everything lives in .venv.
PYTHON ?= python3
BIN := .venv/bin
DOCKER ?= docker
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# Arguments for the server: make run ARGS="--port 9000"
ARGS ?=
# Folder of data sets, for make bench and make bench-serve
DATA ?= data

.PHONY: setup demo run test cover faults wire zoo bench bench-gpu bench-serve check fix lock openapi image clean
.DEFAULT_GOAL := demo

setup: .venv/.ready

# TORCH=cpu takes PyTorch's builds without CUDA: smaller, from PyTorch's own index, so that the
# versions of requirements.lock hold, and its hashes do not.
.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "danlu needs Python 3.11 to 3.13; try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	@# uv does not read pip's settings: an index of one's own is handed on.
	index=$$($(BIN)/python -m pip config get global.index-url 2>/dev/null || true); \
	[ -z "$$index" ] || export UV_DEFAULT_INDEX="$$index"; \
	if [ "$(TORCH)" = cpu ]; then \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --torch-backend cpu --no-verify-hashes \
	    --constraints requirements.lock -r pyproject.toml --extra dev; \
	else \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock; \
	fi
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/danlu demo

run: setup
	$(BIN)/danlu serve $(ARGS)

test: setup
	$(BIN)/python -m pytest -n 3 --dist loadgroup $(ARGS)

# The same, and which lines ran: it takes a fifth more.
cover: setup
	$(MAKE) test ARGS="--cov --cov-report=term $(ARGS)"

# The long proofs: 200 processes killed at random, 1,000 runs of the job API against its model.
faults: setup
	DANLU_KILLS=200 $(BIN)/python -m pytest tests/faults $(ARGS)
	DANLU_EXAMPLES=1000 $(BIN)/python -m pytest tests/test_job_states.py --timeout 3600 $(ARGS)

# The server held against its OpenAPI document, with other requests each time; all of its page.
wire: setup
	DANLU_EXAMPLES=200 $(BIN)/python -m pytest tests/app/wire tests/browser $(ARGS)

# Every network of torchvision below 100 M parameters trains two steps; renews docs/zoo.md.
zoo: setup
	$(BIN)/python -m benchmarks.zoo docs/zoo.md

# Training beside the loops that people write: make bench DATA=folder, of MNIST/raw and cifar10-jpeg.
# Wants a machine with nothing else to do; renews docs/performance.md.
bench: setup
	$(BIN)/python -m benchmarks.training --data $(DATA) --page docs/performance.md $(ARGS)

bench-gpu: setup
	$(BIN)/python -m benchmarks.training --data $(DATA) --device cuda $(ARGS)

# Predictions beside the servers that people write; wants wrk (apt-get install wrk), and for one of
# them litserve: ARGS="--litserve-python PYTHON", or .venv/bin/uv pip install -e ".[bench]".
bench-serve: setup
	$(BIN)/python -m benchmarks.serving --data $(DATA) --page docs/performance.md $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# After a change of the dependencies in pyproject.toml.
lock: setup
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --extra dev --output-file requirements.lock pyproject.toml

# After a change of the wire: the copy that a test compares with.
openapi: setup
	$(BIN)/python -c 'import json; from app.main import create_app; from settings import Settings; \
	  print(json.dumps(create_app(Settings()).openapi(), indent=1, ensure_ascii=False))' > docs/openapi.json

# For servers: docs/guide/deploy.md. TORCH=cpu and INDEX=<address of a package index> are handed on.
image:
	$(DOCKER) build --build-arg TORCH=$(TORCH) --build-arg INDEX=$(INDEX) \
	  --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null) \
	  --tag danlu:$(VERSION) .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.*
