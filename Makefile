# make test   everything that must hold: style, types, who imports whom, tests (three minutes on two free cores)
# make coverage   the same, and the tests must reach 97 % of the lines (twice the time)
# make test-versions   the lowest and the newest versions of every dependency, on every Python there is (an hour)
# make hostile   more than 1,000 damaged and hostile inputs through every door -> results/hostile.json (Linux; minutes)
# make test-app   the app in headless Chromium (Debian: apt-get install chromium chromium-driver)
# make demo   two famous photos -> demo/
# Each sets up its own virtual environment in .venv the first time (Python 3.11 or newer, package registries).

PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# compiled files are kept, whatever the environment says: without them each process of a test takes 15 s more to start
export PYTHONDONTWRITEBYTECODE :=

MAKEFLAGS += --jobs=2

.PHONY: test coverage checks tests test-versions slow test-app hostile demo format clean
.DELETE_ON_ERROR:

test: checks tests

coverage: COVERAGE := --cov --cov-report=
coverage: test

checks: .venv/.dev
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

# files in their order, not the largest first: then the longest would run last, and alone
tests: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(COVERAGE)

test-versions: .venv/.dev
	$(PIP) install uv
	$(BIN)/python studies/test_versions.py

slow: .venv/.dev
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -m slow

test-app: .venv/.dev
	@command -v chromedriver >/dev/null || { echo "no chromedriver; Debian: apt-get install chromium chromium-driver"; exit 1; }
	$(PIP) install selenium
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -m browser tests/browser

hostile: .venv/.dev
	$(BIN)/python studies/hostile.py
	HOSTILE_RUNS=2000 $(BIN)/python -m pytest tests/hostile

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
