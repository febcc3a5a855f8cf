# `make demo` and `make test` install what they need; see README.md.
PYTHON ?= python3
SEED ?= 7
# Half of the demo's users get a profile: none is needed for recommendations.
PROFILE_USERS ?= 200
# Enough for a demonstration; validation still rises then, so the model is served by --serve-anyway.
EPOCHS ?= 15
# Processes that share the tests, a file at a time; on two cores three, because tests also wait.
TEST_PROCESSES ?= 3
BIN := .venv/bin
DEMO := demo
# Spinning idle OpenMP threads would slow other processes.
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 1000
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test local-pair test-without-pair check docs locked lock sbom audit clean

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1|/' | column -t -s '|'

demo: .venv/ready ## Two generated shops, a local LLM, recommendations, a report.
	$(BIN)/llm4cdsr demo-dump $(DEMO) --seed $(SEED)
	$(BIN)/llm4cdsr run --interactions $(DEMO)/interactions.parquet --items $(DEMO)/items.parquet \
		--profile-users $(PROFILE_USERS) --epochs $(EPOCHS) --seed $(SEED) --name "the demo shops" --report $(DEMO)/report.html \
		--serve-anyway
	@echo "See it in the browser: $(BIN)/llm4cdsr serve-recs, then http://localhost:8080 (Random user only in: a user of one domain)"

test: .venv/ready ## Lint, types and every test, the real local LLM pair included.
	$(MAKE) --no-print-directory --jobs 3 local-pair check test-without-pair
	$(BIN)/python -m pytest -m local_vllm

# Installing the local pair waits for the network and the disk, so the other tests run in parallel.
local-pair: .venv/ready
	$(BIN)/llm4cdsr setup-local

# Failed tests are repeated alone: browsers and servers time out on a busy machine.
test-without-pair: .venv/ready
	$(BIN)/python -m pytest -m "not local_vllm" --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder \
		|| $(BIN)/python -m pytest -m "not local_vllm" --last-failed --last-failed-no-failures none

check: .venv/ready ## Lint, format and types only.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: .venv/ready ## The documentation site, into site/.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --site-dir site

# pip accepts no editable package with --require-hashes, so ours is installed separately.
locked: ## Install .venv with every download checked against its SHA-256 (Python 3.11, x86-64).
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --no-deps --require-hashes --requirement requirements-hashed.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch .venv/ready

lock: .venv-tools/ready ## Regenerate requirements-hashed.txt from constraints.txt.
	.venv-tools/bin/python benchmarks/hashed_requirements.py

sbom: .venv/ready .venv-tools/ready ## Write the bill of materials of the installation to sbom.json (CycloneDX).
	.venv-tools/bin/cyclonedx-py environment .venv/bin/python --pyproject pyproject.toml \
		--output-reproducible --output-file sbom.json

audit: .venv-tools/ready ## Look up known vulnerabilities of all pinned packages in the package index.
	@.venv-tools/bin/pip-audit --requirement requirements-hashed.txt --require-hashes --disable-pip \
		--progress-spinner off > .venv-tools/audit.txt 2>&1; status=$$?; cat .venv-tools/audit.txt; \
	skipped=$$(grep -c "could not be audited" .venv-tools/audit.txt); \
	if [ $$skipped -gt 0 ] || grep -q "ServiceError\|ConnectionError\|Max retries" .venv-tools/audit.txt; then \
		echo "Not audited: the index of vulnerabilities is unreachable, or does not know $$skipped packages."; exit 1; \
	fi; exit $$status

clean: ## Delete what make created: environments, artifacts, the demo.
	rm -rf .venv .venv-vllm .venv-tools artifacts/data $(DEMO) site sbom.json

# The stamp is written last, so an interrupted installation is repeated.
.venv/ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or newer, or make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make PYTHON=python3.11"; exit 1; }
	@echo "Installing into .venv (one to two minutes)"
	$(PYTHON) -m venv .venv
	# --no-compile: half of the time would be spent on modules that are never imported.
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv-tools/ready: constraints-tools.txt
	$(PYTHON) -m venv .venv-tools
	.venv-tools/bin/pip install --quiet --constraint constraints-tools.txt uv pip-audit cyclonedx-bom
	touch $@
