# make up     from nothing to a running recommender; Ctrl-C stops it all
# make test   every test
# make bench  measure everything into bench/results/ (an hour; needs wrk); AREAS="filter stages" for some of it
# make bench-quick  the request path alone, two minutes
# make canary-demo  a good version of the ranker is promoted under load, a slow, an erring and a random one rolled back
# make chaos  faults under load, a table in docs/reliability.md (two hours; ROW=kill-ranker for one row, SECONDS=60 each,
#             SOAK=3600 its soak), and 100,000 events while workers and Redis are killed: each is in the Parquet exactly once
# make docs   the documentation as a site, in artifacts/site; strict
# make pictures  pictures of the pages for the documentation, taken anew by the browser tests (needs Chromium)
# make locked  the development environment as requirements/ locks it, by hash, instead of the newest versions; TORCH=cpu or cuda
# make lock   the newest versions into requirements/
# make audit  locked versions against the list of known vulnerabilities; says `skipped` where the list cannot be reached
# make sbom   what each image holds, with versions, hashes and licences, as CycloneDX in build/sbom
# make k8s    render every overlay of k8s/ (needs kubectl or kustomize), validate all objects, hold the house rules
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
SHOP   ?=
# PyTorch's CPU build is not on the ordinary index: only where pip is told of another one is it taken for granted
TORCH  ?= $(if $(PIP_EXTRA_INDEX_URL)$(PIP_FIND_LINKS),cpu,cuda)

# threads that wait for work sleep: on few cores torch's spinning ones take time from those that work
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: up test bench bench-quick canary-demo chaos docs pictures k8s lint lock locked audit sbom install clean

up: $(VENV)/.installed
	$(BIN)/cascade up $(if $(SHOP),--shop "$(SHOP)")

test: $(VENV)/.installed-dev lint
	$(BIN)/pytest

chaos: $(VENV)/.installed-dev
	$(BIN)/python -m bench.chaos $(ROW) --seconds $(or $(SECONDS),60) --soak-seconds $(or $(SOAK),3600)
	$(if $(ROW),,CASCADE_CHAOS_EVENTS=$(or $(EVENTS),100000) $(BIN)/pytest tests/chaos/test_no_event_is_lost.py -s)

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

pictures: $(VENV)/.installed-dev
	$(BIN)/pytest tests/e2e/test_storefront.py
	$(BIN)/python docs/_site/pictures.py

k8s: $(VENV)/.installed-dev
	$(BIN)/pytest tests/k8s

lock: $(VENV)/.installed-dev
	$(BIN)/python -m supply_chain.lock

audit: $(VENV)/.installed-dev
	$(BIN)/python -m supply_chain.audit

sbom: $(VENV)/.installed-dev
	$(BIN)/python -m supply_chain.sbom

bench: $(VENV)/.installed
	$(BIN)/python -m bench $(AREAS)

bench-quick: $(VENV)/.installed
	$(BIN)/python -m bench request_path --quick

canary-demo: $(VENV)/.installed
	$(BIN)/python -m bench canary

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit -q -ll -r libs services orchestration feature_repo k8s/images supply_chain

install: $(VENV)/.installed

# nothing is resolved: a pip before 23.3 takes the pin of a distribution for none of its extras; `pip check` looks instead
locked: | $(BIN)/python
	$(BIN)/python -m pip install --progress-bar on --require-hashes --no-deps --only-binary :all: -r requirements/development.lock \
		-r requirements/build.lock $(if $(filter cpu,$(TORCH)),-c requirements/torch-cpu.lock,-r requirements/torch-cuda.lock)
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $(VENV)/.installed $(VENV)/.installed-docs $(VENV)/.installed-dev

$(BIN)/python:
	$(if $(shell command -v $(PYTHON)),$(PYTHON),python3) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --progress-bar on -e '.[local]'
	@touch $@

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --progress-bar on -e '.[docs]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-docs

clean:
	rm -rf .cascade build $(VENV)
