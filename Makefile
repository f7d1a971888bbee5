# Two commands matter: `make sandbox` tries the bot, `make test` checks it. Both install what they need into .venv here.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

# With the cache of compiled modules, whatever the environment says of it: each worker compiles all tests without it,
# which takes 9 s of CPU instead of 3. Three workers for each of two cores: more than half of the time is waiting.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 6 --dist loadscope --no-loadscope-reorder

.PHONY: sandbox run test test-all unit coverage lint check-deploy image-test docs bench chaos chaos-rotate plants soak attack fuzz supply-chain dist test-wheels lock clean

sandbox: $(VENV)/.run ## try the bot: a page, a fake Slack and a fake Cloudflare, all on this machine
	$(BIN)/r2-credential-bot sandbox

run: $(VENV)/.run ## run the bot with the settings from the environment and .env
	$(BIN)/r2-credential-bot run

test: $(VENV)/.dev ## everything that a change must pass: linters and tests side by side, in four minutes
	@$(MAKE) --no-print-directory --jobs=2 lint unit

test-all: test ## the above and the rest: many more runs of the same tests, and the same stories over the other transport
	$(PYTEST) -m thorough

unit: $(VENV)/.dev ## only the tests
	$(PYTEST) -m "not thorough"

coverage: $(VENV)/.dev ## all tests with branch coverage, of which 95 % is required; takes three times as long
	$(PYTEST) --cov --cov-report=term

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tests.deploy

check-deploy: $(VENV)/.dev ## check the files for deployment without a cluster; part of `make lint`
	$(BIN)/python -m tests.deploy

image-test: $(VENV)/.dev ## build the image and drive it through stops and a kill; BUILD has more flags for docker build
	$(BIN)/python -m tests.image $(BUILD)

docs: $(VENV)/.dev ## generate docs/diagnosis.md and docs/metrics.md from the code
	$(BIN)/python -m tests.diagnosis_page
	$(BIN)/python -m tests.metrics_page

bench: $(VENV)/.dev ## measure performance, also of what one would use instead, and write docs/benchmark.md; checks nothing
	$(BIN)/python -m tests.benchmarks.acknowledge
	$(BIN)/python -m tests.benchmarks.permit
	$(BIN)/python -m tests.benchmarks.footprint
	$(BIN)/python -m tests.benchmarks.deliveries
	$(BIN)/python -m tests.benchmarks.waiting
	$(BIN)/python -m tests.benchmarks.growth
	$(BIN)/python -m tests.benchmarks.pace 400
	$(BIN)/python -m tests.benchmarks.memory_copies
	$(BIN)/python -m tests.benchmarks.alternatives --docs docs

chaos: $(VENV)/.dev ## kill the bot at random moments, on SQLite and PostgreSQL, and count what is lost
	$(BIN)/python -m tests.chaos.kills

chaos-rotate: $(VENV)/.dev ## rotate 200 times while processes are killed and frozen, and look at what is left; CHAOS="postgres 40 4 7" is a try, with a seed
	$(BIN)/python -m tests.chaos.rotations $(CHAOS)

plants: $(VENV)/.dev ## leave one rule of rotation out after the other, and see that the state machine finds each (some minutes)
	$(BIN)/python -m tests.rotation.plants

soak: $(VENV)/.dev ## run the bot for half an hour at 20 submissions a second; fails if anything grows or is lost; SOAK="60" is a try
	$(BIN)/python -m tests.soak $(SOAK)

attack: $(VENV)/.dev ## attack the running bot with every known class of attack, and count what succeeds
	$(BIN)/python -m tests.attack

fuzz: $(VENV)/.dev ## make up what others may send, 10 s for each target and way; fails if any of it breaks more than itself; FUZZ="60"
	$(BIN)/python -m tests.fuzz $(FUZZ)

supply-chain: $(VENV)/.dev ## check what comes from elsewhere, and write an SBOM into dist/; fails too if no advisories are to be had; AUDIT has flags for pip-audit
	$(BIN)/python -m tests.supply $(AUDIT)

dist: export SOURCE_DATE_EPOCH = 315532800
dist: $(VENV)/.dev ## build the sdist, the wheel from it, and an SBOM, into dist/: the same bytes each time
	$(BIN)/uv build --quiet --offline --no-build-isolation --python $(BIN)/python --out-dir dist --clear .
	$(BIN)/python -m tests.supply.bom dist

test-wheels: $(VENV)/.dev ## try the wheel on each Python 3.11 to 3.14 that is here; PYTHONS="PATH ..." names them
	$(BIN)/python -m tests.wheels $(PYTHONS)

lock: $(VENV)/.dev ## write what changed in pyproject.toml into the lock files; UPGRADE=--upgrade takes the newest versions of all
	$(BIN)/uv pip compile $(UV_FLAGS) $(UPGRADE) --group build --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile $(UV_FLAGS) $(UPGRADE) --group build --group dev --constraint requirements.lock $(NOT_PIP) --output-file requirements-dev.lock pyproject.toml
NOT_PIP := --no-emit-package pip # pip installs from that file, and must not replace itself meanwhile
UV_FLAGS := --extra postgres --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate

clean:
	rm -rf $(VENV) dist

# Only wheels: to build a source distribution, pip would fetch build tools that are locked nowhere.
# The stamps save a second call the installation; a changed lock file or pyproject.toml installs again.
$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.13"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is needed (Debian: apt install python3-venv)"; exit 1; }
	@touch $@

$(VENV)/.run: $(VENV)/.venv requirements.lock pyproject.toml
	@echo "Installing into $(VENV) ..."
	@$(PIP) install --no-deps --only-binary=:all: --require-hashes --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@echo "Installing what the tests need ..."
	@$(PIP) install --no-deps --only-binary=:all: --require-hashes --requirement requirements-dev.lock
	@touch $@
