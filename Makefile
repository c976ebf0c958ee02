# One environment from the lock, then DVC does the work. Needs Python 3.11 to 3.13, git and make.

PYTHON ?= python3
PORT ?= 3000
BUNDLE ?= out/bundle
DEVICE ?= cpu
SEEDS ?= 0 1 2
DATA ?= datasets
PLAN ?= results/plan.yaml
WHAT ?= attack
ROOM ?= tests
RUN := .venv/bin/python

# Idle OpenMP threads that spin would take the cores from whoever computes.
export OMP_WAIT_POLICY := PASSIVE
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Compiled bytecode makes imports of torch and its companions three times quicker.
unexport PYTHONDONTWRITEBYTECODE
# The machine's own certificates, as pip uses them.
export UV_SYSTEM_CERTS := true

.PHONY: help repro check test test-processors chaos mutants coverage lint docs experiments serve bento compare evaluate results bench profile lock pythons audit-deps licences
.DEFAULT_GOAL := help

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 17

repro: .venv/.installed  ## images to an attested model: DATA=pictures for your own
	@rm -f out/timings.json
	@$(if $(filter file,$(origin DATA)),,$(RUN) -m pipeline.own_images "$(DATA)")
	@if said=$$(git rev-parse --git-dir 2>&1); then $(RUN) -m dvc repro; else \
	  echo "No git repository here ($$said): DVC runs without one; 'git init' and a commit keep the history of claims." && \
	  DVC_SYSTEM_CONFIG_DIR="$(CURDIR)/.dvc/no-git" $(RUN) -m dvc repro; fi
	@$(RUN) -m pipeline.stage
	@.venv/bin/hallmark show out/bundle

# Tests run in two processes of one thread each: threads of two processes on two cores wait for each other.
check: .venv/.installed lint  ## lint and the quick tests: before a commit
	@OMP_NUM_THREADS=1 $(RUN) -m tests.quick

test: .venv/.installed lint  ## every test
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile

test-processors: .venv/.installed  ## tests that compute, as on other processors: before a release
	@$(RUN) -m tests.processors

coverage: .venv/.installed  ## lines and branches that the tests reach: ROOM="tests/bundle"
	@mkdir -p .coverage
	@$(RUN) -m pytest $(ROOM) --cov

pythons: .venv/.installed  ## whether the lock installs on each Python: a dry run
	@for version in 3.11 3.12 3.13; do \
	  .venv/bin/uv pip install --quiet --dry-run --python-version $$version --target "$${TMPDIR:-/tmp}/hallmark-$$version" \
	    --require-hashes -r requirements.lock || exit 1; \
	  echo "requirements.lock installs on Python $$version"; \
	done

chaos: .venv/.installed  ## runs killed, starved and doubled: SEED=15; 15 minutes
	@$(RUN) -m tests.chaos $(if $(SEED),--seed $(SEED)) $(OPTIONS)

mutants: .venv/.installed  ## small faults that the tests miss: SAMPLE=300 SEED=1
	@OMP_NUM_THREADS=1 $(RUN) -m tests.mutants $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(ONLY),--only "$(ONLY)")

lint: .venv/.installed  ## ruff and pyright
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/basedpyright

docs: .venv/.installed .venv-docs/.installed  ## site/: these pages with search, and the Python interface
	@$(RUN) -m docs.site
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict
	@echo "Site: site/index.html"

serve: .venv/.installed  ## the service on 127.0.0.1:PORT, from out/bundle
	@$(RUN) -m serving --port $(PORT)

bento: .venv/.installed  ## a bento that serves by itself: BUNDLE=releases/v1 DEVICE=cuda
	@$(RUN) -m serving.bento "$(BUNDLE)" --device "$(DEVICE)"

compare: .venv/.installed  ## the methods side by side on the digits: SEEDS="0 1 2"; resumes
	@$(RUN) -m pipeline.compare --seeds "$(SEEDS)"

evaluate: .venv/.installed  ## your own model: MODEL=module:function WEIGHTS=file
	@test -n "$(MODEL)" || { echo "make evaluate: MODEL= is missing: module:function, or torchvision:NAME" >&2; exit 2; }
	@$(RUN) -m pipeline.evaluate --model "$(MODEL)" $(if $(filter file,$(origin DATA)),,--data "$(DATA)") \
	  $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(NAME),--name "$(NAME)") $(if $(DIR),--path "$(DIR)") \
	  $(if $(MEAN),--mean "$(MEAN)") $(if $(STD),--std "$(STD)") $(if $(SIZE),--image-size $(SIZE)) \
	  $(if $(OUTPUTS),--outputs "$(OUTPUTS)") $(if $(TIER),--tier $(TIER)) $(OPTIONS)

experiments: .venv/.installed  ## dvc exp show without the columns of code: OPTIONS=--csv
	@$(RUN) -m dvc exp show --drop "^(bundle|pipeline|out|datasets|requirements)" $(OPTIONS)

results: .venv/.installed  ## the experiments of PLAN: BUDGET=25m DATA=folder; resumes
	@$(RUN) -m pipeline.experiments --plan "$(PLAN)" --data "$(DATA)" $(if $(BUDGET),--budget $(BUDGET)) $(if $(ONLY),--only "$(ONLY)") $(OPTIONS)

bench: .venv/.installed  ## benchmarks/WHAT.md: WHAT=train, attack, serving or fuzz
	@$(RUN) -m benchmarks.$(WHAT) $(OPTIONS)

profile: .venv/.installed  ## where a training step's time goes: trace.json
	@$(RUN) -m benchmarks.trace

lock: .venv/.installed  ## requirements.lock, and what a bento installs, anew
	@.venv/bin/uv pip compile -q pyproject.toml --extra serving --extra pipeline --extra dev --universal --generate-hashes \
	  --no-emit-index-url --no-header -c constraints.txt -o requirements.lock
	@.venv/bin/uv pip compile -q --group docs --universal --generate-hashes --no-annotate --no-emit-index-url --no-header \
	  -o docs/requirements.txt
	@for device in cpu cuda; do \
	  .venv/bin/uv pip compile -q pyproject.toml --extra serving --universal --generate-hashes --no-annotate \
	    --no-emit-index-url --no-header -c requirements.lock --override deploy/$$device.override -o deploy/$$device.txt \
	    || exit 1; \
	done

audit-deps: .venv/.installed  ## known weaknesses of locked packages; ADVISORIES=file
	@$(RUN) -m tests.supply.advisories $(if $(ADVISORIES),"$(ADVISORIES)")

licences: .venv/.installed  ## docs/licences.md: the licence of every locked package
	@$(RUN) -m tests.supply.licences

.venv-docs/.installed: .venv/.installed docs/requirements.txt
	@.venv/bin/uv venv --quiet --clear --python .venv/bin/python .venv-docs
	@.venv/bin/uv pip install --quiet --python .venv-docs/bin/python --require-hashes -r docs/requirements.txt
	@touch $@

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, {sys.executable} is {v[0]}.{v[1]}; make PYTHON=python3.12 chooses another")'
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@test -x .venv/bin/uv || .venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	@.venv/bin/uv pip install --python .venv/bin/python --require-hashes --compile-bytecode -r requirements.lock
	@.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .
	@touch $@
