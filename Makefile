# The two commands of the README: `make demo` and `make test`. Each sets up .venv from the lock when it is missing or
# older than the lock. Needs Python and make only; uv is used where it is installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROOMS := cli core data_checks deployments flows reproduction tasks tracking

# The tests start some hundred programs, and each would compile again all that it imports: 9.7 s in place of 6.1.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow coverage mutation chaos lint setup lock clean

demo: setup ## a model's life on real data
	$(BIN)/prefect-mlops demo

# Whole files, because their tests share what they prepare; in the order of tests/conftest.py, long ones first.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: setup ## the required tests
	$(PYTEST) -m "not slow"

test-slow: setup ## the other tests: kills, clusters of processes, large tables, long programs
	$(PYTEST) -m slow

# Not in CI: on Python 3.11 counting branches doubles the processor time of the tests.
coverage: setup ## the required tests with the branches they take, child processes too; prints the files below 90 %
	$(PYTEST) -m "not slow" --cov --cov-report=
	@$(BIN)/coverage report | awk '/^(Name|-|TOTAL)/ || $$NF + 0 < 90'

SAMPLE ?= 10
mutation: setup ## break sampled places of MODULE=core/lake/ingest.py one at a time; prints what its tests do not notice
	$(BIN)/python -m tests.mutation $(MODULE) $(TESTS) --sample $(SAMPLE)

ROUNDS ?= 20
SEED ?= 0
chaos: setup ## kill servers, workers and flows while files arrive, and count the rows
	$(BIN)/python -m tests.chaos --rounds $(ROUNDS) --seed $(SEED)

lint: setup ## what CI checks besides the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(VENV)/.ready

# pip before 23.3 refuses the lock: it does not find the hashes of `pandas` for somebody's `pandas[parquet]`.
$(VENV)/.ready: requirements.lock pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
		{ [ -x $(BIN)/python ] || uv venv --quiet --python $(PYTHON) $(VENV); } && \
		uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock && \
		uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	else \
		{ [ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV); } && \
		$(BIN)/python -m pip install --quiet 'pip>=23.3' && \
		$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock && \
		$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e . ; \
	fi
	@# Type checkers cannot see through an editable install of mapped packages: link the rooms for them.
	@mkdir -p $(VENV)/rooms/prefect_mlops/examples
	@for room in $(ROOMS); do ln -sfn ../../../$$room $(VENV)/rooms/prefect_mlops/$$room; done
	@ln -sfn ../../../../examples/flights $(VENV)/rooms/prefect_mlops/examples/flights
	@touch $@

LOCKED_ON := 2026-11-30 # newest releases of that day work together; move it, then run everything
lock: ## resolve again; names no package index
	uv pip compile --upgrade --universal --python-version 3.10 --generate-hashes --no-emit-index-url --no-header \
		--exclude-newer $(LOCKED_ON) \
		--extra demo --extra dask --extra s3 --group dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info
