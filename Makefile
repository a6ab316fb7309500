# make test   everything that must hold: style, types, who imports whom, tests with coverage
# make test-versions   the lowest and the newest versions of every dependency, on every Python there is (minutes)
# make hostile   more than 500 damaged and hostile inputs through every door -> results/hostile.json (Linux; minutes)
# make demo   two famous photos -> demo/
# All set up their own virtual environment in .venv the first time (Python 3.11 or newer, package registries).

PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# compiled files are kept, whatever the environment says: without them each process of a test takes 15 s more to start
export PYTHONDONTWRITEBYTECODE :=

.PHONY: test test-versions slow hostile demo format clean
.DELETE_ON_ERROR:

test: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=

test-versions: .venv/.dev
	$(PIP) install uv
	$(BIN)/python tools/test_versions.py

slow: .venv/.dev
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -m slow

hostile: .venv/.dev
	PYTHONPATH=tests $(BIN)/python tests/hostile/hostile_run.py --out results/hostile.json

demo: .venv/.run demo/.photos
	$(BIN)/python tools/demo.py reconstruct demo

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo build src/*.egg-info .coverage .pytest_cache .ruff_cache .hypothesis

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	touch $@

.venv/.run: .venv/.made pyproject.toml
	$(PIP) install --editable .
	touch $@

# torch first and alone, pinned: the exporter's and the optimiser's numbers in the tests belong to this version. The tests
# need no GPU; where the package registry has builds for both, the smaller is enough: make test TORCH=torch==2.13.0+cpu
.venv/.dev: .venv/.made pyproject.toml
	$(PIP) install $(TORCH)
	$(PIP) install --editable '.[dev]'
	touch $@ .venv/.run

# the two photos ride in the wheels of matplotlib and scikit-image; nothing of these is installed or run
demo/.photos: .venv/.made tools/demo.py
	$(PIP) download --no-deps --only-binary :all: --dest demo/wheels matplotlib scikit-image
	$(BIN)/python tools/demo.py photos demo
	rm -r demo/wheels
	touch $@
