# Everything runs from .venv, which `make setup` builds and every other target brings up to date first.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The site's tools have an environment of their own, which only `make docs` builds.
DOCS := .venv-docs
DOCS_STAMP := $(DOCS)/.installed
RUN ?= runs/demo
# Half as many updates for a step as the preset has, over twice as many steps as these would take otherwise.
DEMO = --cost-limit 25 --steps 150000 --loop.updates-per-decision 0.2

# A mirror that drops a connection should cost a retry, not the set-up.
retry = for attempt in 1 2 3; do $(1) && break || { [ $$attempt = 3 ] && exit 1; sleep $$((attempt * 5)); }; done
pip_flags = -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 --no-deps
pip_install = $(BIN)/python $(pip_flags)
# xdist takes one worker a core; more than four only compete for JAX's own threads.
pytest = $(BIN)/python -m pytest -q --numprocesses=logical --maxprocesses=4 --dist=worksteal --durations=15 --durations-min=5
# The emitters of fusions take most of the time and two thirds of the memory of compiling small programs, and make them
# no quicker.
plain = --xla_cpu_use_fusion_emitters=false
# Programs of tests/learning run thousands of times. LLVM's least effort makes them about as quick as its greatest.
least = $(plain) --xla_backend_optimization_level=1
# A program that runs twice is not worth optimising at all: neither by LLVM nor by passes that look at every loop again.
unoptimised = $(plain) --xla_backend_optimization_level=0 \
	--xla_disable_hlo_passes=simplify-while-loops,while-loop-invariant-code-motion,while-loop-constant-sinking

.PHONY: help setup gl test test-slow test-learning wheel lint format demo docs results bench clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

setup: $(STAMP) gl  ## Build .venv and see to the libraries that rendering needs

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "No python3 found. Install Python 3.11 or newer, or say: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than Python 3.11. Say: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "Python cannot build environments. On Debian or Ubuntu: sudo apt-get install python3-venv"; exit 1; }
	@echo "Installing into $(VENV) (some minutes the first time)"
	@$(call retry,$(pip_install) -r requirements.lock)
	@$(call retry,$(pip_install) --quiet --no-build-isolation --editable .)
	@touch $@

gl:
	@bash tools/gl.sh

test: setup  ## Fast tests
	XLA_FLAGS="$(unoptimised)" $(pytest) -m "not slow"

test-slow: setup  ## Slow tests: resume after a kill, every task, sweeps, shipped policies
	XLA_FLAGS="$(unoptimised)" $(pytest) -m slow --ignore=tests/learning

test-learning: setup  ## Tests that learn: every system solves its probes
	XLA_FLAGS="$(least)" $(pytest) -m slow tests/learning

wheel: setup  ## Build the package, and try it in an environment of its own, away from this repository
	.ci/wheel $(BIN)/python

lint: $(STAMP)  ## Ruff, basedpyright and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(STAMP)  ## Apply Ruff's fixes and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: setup  ## Train a safe agent for about ten minutes, evaluate it, draw its curve
	@printf '%s\n' "" \
		"A budget is what an episode may cost on average. On SafetyPointGoal1 a robot earns about 2 for every goal that it" \
		"reaches, and pays 1 for each of 1,000 steps that it spends in a hazard. The suite's customary budget is 25; an" \
		"agent that minds no costs earns about 25 and pays 50 to 60." ""
	$(BIN)/prudence train safedreamer-bsrp-lag --task SafetyPointGoal1-v0 --obs lidar --preset cpu $(DEMO) --out $(RUN)
	$(BIN)/prudence plot $(RUN)
	$(BIN)/prudence evaluate $(RUN) --episodes 100 --video
	@printf '%s\n' "" "Beside it, OmniSafe's published benchmark of this task at the same budget, after 10,000,000 steps (5 seeds):" \
		"  PPO-Lag  return 13.0, cost 25.8" "  CPO      return 20.5, cost 28.8"

docs: $(DOCS_STAMP)  ## Build the documentation site into build/docs/site; a warning is an error
	$(DOCS)/bin/python tools/docs/pages.py build/docs
	cd build/docs && ../../$(DOCS)/bin/zensical build --clean --strict --config-file mkdocs.yml
	$(DOCS)/bin/python tools/docs/check.py build/docs/site

$(DOCS_STAMP): docs/requirements.lock
	@test -n "$(PYTHON)" || { echo "No python3 found. Install Python 3.11 or newer, or say: make PYTHON=/path/to/python"; exit 1; }
	@test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	@echo "Installing the site's tools into $(DOCS)"
	@$(call retry,$(DOCS)/bin/python $(pip_flags) -r docs/requirements.lock)
	@touch $@

results: $(STAMP)  ## Write results/README.md from the records
	$(BIN)/python tools/results_table.py

bench: setup  ## Speed of the update, of planning, of the environments and of the training loop
	@for name in update posterior asymmetric planning simulate environments replay_memory train_loop on_policy; do $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:  ## Remove both environments and every cache; runs/ stays
	rm -rf $(VENV) $(DOCS) .pytest_cache .ruff_cache .jax_cache .hypothesis .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
