# Exeunt: `make demo` searches the bundled checkpoint, `make test` runs the tests, `make check` does everything.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A server for the tests: EXEUNT_TEST_POSTGRES=$(.ci/postgres start FOLDER) make test
POSTGRES := $(if $(EXEUNT_TEST_POSTGRES),, and not postgres)
# Processes side by side take one core each; what waits for work doesn't take another's.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-cpu test-all check install clean

# Each stamp says which set of dependencies the environment holds.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.test-installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	touch $@ $(VENV)/.installed

$(VENV)/.dev-installed: pyproject.toml constraints.txt $(VENV)/.test-installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt ruff pyright
	touch $@

install: $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/exeunt optimize

test: $(VENV)/.test-installed
	EXEUNT_TEST_COVERAGE=1 $(PYTEST) -m "not slow and not gpu$(POSTGRES)"

# As on a processor that has AVX2 and no AVX-512, for a user whose fonts nobody has looked for yet.
test-cpu: $(VENV)/.test-installed
	fonts=$$(mktemp -d) && trap 'rm -rf "$$fonts"' EXIT && \
	MPLCONFIGDIR=$$fonts ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST) -m "cpu and not slow and not gpu$(POSTGRES)"

test-all: $(VENV)/.test-installed
	$(BIN)/python -m pytest $(if $(EXEUNT_TEST_POSTGRES),,-m "not postgres")

# pyright sees the folder mapping only in a strict editable install, which must be renewed when files are added.
check: $(VENV)/.dev-installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . --config-settings editable_mode=strict
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	EXEUNT_TEST_COVERAGE=1 $(PYTEST) -m "not slow and not gpu$(POSTGRES)"

clean:
	rm -rf $(VENV) build dist *.egg-info
