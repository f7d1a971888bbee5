# Two commands matter: `make sandbox` tries the bot, `make test` checks it. Both set themselves up inside the checkout.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

PYTEST := $(BIN)/python -m pytest -n 4 --dist loadscope --no-loadscope-reorder

.PHONY: sandbox run test test-all unit coverage lint docs bench chaos attack lock clean

sandbox: $(VENV)/.run ## try the bot: a page, a fake Slack and a fake Cloudflare, all on this machine
	$(BIN)/r2-credential-bot sandbox

run: $(VENV)/.run ## run the bot with the settings of the environment and .env
	$(BIN)/r2-credential-bot run

test: $(VENV)/.dev ## everything that a change needs: the checks beside the tests, in four minutes
	@$(MAKE) --no-print-directory --jobs=2 lint unit

test-all: test ## and what is left: many more runs of the same, and the same stories over the other transport
	$(PYTEST) -m thorough

unit: $(VENV)/.dev ## the tests alone
	$(PYTEST) -m "not thorough"

coverage: $(VENV)/.dev ## all tests with branch coverage, which must not fall below 95 %; takes three times as long
	$(PYTEST) --cov --cov-report=term

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/hadolint Dockerfile

docs: $(VENV)/.dev ## write docs/diagnosis.md anew, which is made from the code
	$(BIN)/python -m tests.diagnosis_page

bench: $(VENV)/.dev ## measure; asserts nothing
	$(BIN)/python -m tests.benchmarks.acknowledge
	$(BIN)/python -m tests.benchmarks.footprint
	$(BIN)/python -m tests.benchmarks.deliveries
	$(BIN)/python -m tests.benchmarks.waiting
	$(BIN)/python -m tests.benchmarks.pace 400

chaos: $(VENV)/.dev ## kill the bot at random moments, on SQLite and on PostgreSQL, and count what is lost
	$(BIN)/python -m tests.chaos.kills

attack: $(VENV)/.dev ## attack the running bot with every known class of attack, and count what comes through
	$(BIN)/python -m tests.attack

lock: $(VENV)/.dev ## renew the locks from pyproject.toml
	$(BIN)/uv pip compile $(UV_FLAGS) --group build --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile $(UV_FLAGS) --group build --group dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
UV_FLAGS := --extra postgres --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --upgrade

clean:
	rm -rf $(VENV)

# The stamps make a second call install nothing; a changed lock or pyproject installs again.
$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.13"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is needed (Debian: apt install python3-venv)"; exit 1; }
	@touch $@

$(VENV)/.run: $(VENV)/.venv requirements.lock pyproject.toml
	@echo "Installing into $(VENV) ..."
	@$(PIP) install --no-deps --require-hashes --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@echo "Installing what the tests need ..."
	@$(PIP) install --no-deps --require-hashes --requirement requirements-dev.lock
	@touch $@
