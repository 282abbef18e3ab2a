# `make demo` and `make test` each set up everything on a fresh machine with Python 3.11 and make.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# nproc alone would count OMP_NUM_THREADS, where that is set.
PROCESSES := $(shell n=$$(env -u OMP_NUM_THREADS nproc); echo $$((n < 8 ? n + 1 : 8)))
MEMORY := $(shell df --output=avail /dev/shm 2>/dev/null | awk 'NR > 1 && $$1 > 4e6 {found = 1} END {print found ? "/dev/shm" : "/tmp"}')

.PHONY: demo figures check test test-without-ray test-with-ray test-slow lint lock clean

# Where this is set, every process compiles all its modules and tests again: three seconds each of pytest's processes.
unexport PYTHONDONTWRITEBYTECODE

demo: $(READY)  ## the main job on bundled real data, with an embedded local Ray
	rm -rf studies/al4
	$(BIN)/dftune study run examples/al4.toml

figures: $(READY)  ## the runs that the documents show, and their numbers and figures
	$(BIN)/python benchmarks/figures.py

check: lint test-without-ray  ## style, types, and the tests that need no Ray
ifeq ($(MAKECMDGOALS),check)
MAKEFLAGS += -j2  # types are checked on one core alone, so the tests begin beside it
endif

test: test-without-ray test-with-ray  ## all tests but the slow ones

# One process of pytest more than cores, as some tests wait; each with one thread: torch's wait for each other busily.
# A test that hangs fails by its name, after far longer than any takes on a busy machine.
# Each keeps the memory of its arrays: to give it back and fetch it again was most of the time in the kernel.
# Files lie in memory where it has 4 GB for them, of which they take two: a ledger writes through to the disk, which takes 5 ms each time.
# Others may enter the folder: as root, the PostgreSQL of the tests belongs to nobody.
test-without-ray: $(READY)
	folder=$$(mktemp -d -p "$(MEMORY)" dftune-XXXXXX) && trap 'rm -rf "$$folder"' EXIT INT TERM && chmod 711 "$$folder" && \
	TMPDIR=$$folder OMP_NUM_THREADS=1 MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=268435456 \
		$(BIN)/python -m pytest -m "not ray and not slow" -n $(PROCESSES) --dist worksteal --timeout 300

# Two processes, each with a Ray of its own; the longest files first (tests/conftest.py).
test-with-ray: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "ray and not slow" -n 2 --dist loadfile --no-loadscope-reorder --timeout 900

test-slow: $(READY)  ## the slow tests
	$(BIN)/python -m pytest -m slow

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p $(VENV)/types && ln -sfn $(CURDIR) $(VENV)/types/dftune  # mypy finds the root under its package's name
	cd $(VENV)/types && ../bin/mypy --config-file dftune/pyproject.toml \
		-p dftune.platform -p dftune.searchers -p dftune.trainables -p dftune.cluster

# Installed once, and again when the pins or the packaging change.
$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

lock: ## the newest versions that pyproject.toml admits, pinned
	rm -rf $(VENV)/lock && $(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet torch==2.13.0 "setuptools>=77" ".[dev]"
	$(VENV)/lock/bin/python -m pip freeze --all --exclude dftune --exclude pip | sed 's/+cpu$$//; s/^pgserver==.*/&; python_version < "3.13"/' > requirements.lock
	rm -rf $(VENV)/lock

clean:  ## everything that was made here
	rm -rf $(VENV) studies screens comparisons build *.egg-info examples/*/descriptors
