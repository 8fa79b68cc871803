# The commands of this project; `make help` lists them. They need only git, make and python3.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Keeps bytecode out of folders that are copied into images, and spares compiling Ansible in each run.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.cache/pycache
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

# Renew the virtual environment when the lock file changes.
.venv/.locked: pdm.lock scripts/bootstrap
	@scripts/bootstrap
	@touch $@

# Local and test inventories hold nothing encrypted, so a clone without the vault's passphrase can use them.
ifeq ($(wildcard .vault-passphrase),)
up down lint test test-molecule test-quick test-unit: export FLASK_VPS_VAULT_PASSPHRASE ?= none
endif

.PHONY: venv
venv: .venv/.locked ## Create .venv from the lock file

.PHONY: up
up down: ENV = local
up: .venv/.locked ## Boot a throwaway server and deploy to it, as to production (ENV=vagrant: a virtual machine)
	@ansible-playbook -i "inventory/$(ENV)" playbooks/dev.yml
	ansible-playbook -i "inventory/$(ENV)" site.yml
	ansible-playbook -i "inventory/$(ENV)" playbooks/dev.yml --tags report

.PHONY: down
down: .venv/.locked ## Remove what `make up` created, and nothing else
	@ansible-playbook -i "inventory/$(ENV)" playbooks/dev.yml -e dev_state=absent

.PHONY: vault
vault: ENV = prod
vault: ROTATE =
vault: .venv/.locked ## Write inventory/ENV's encrypted secrets, or add missing ones (ENV=prod, ROTATE=app.NAME)
	@scripts/vault $(if $(ROTATE),--rotate "$(ROTATE)") "inventory/$(ENV)"

# The output of each job is printed in one piece when it ends. A failed job stops only those that need it.
PARALLEL = make --jobs=3 --keep-going --output-sync --no-print-directory

# The failed tests, and of each failed job its last error and its name. Scenarios that pass have expected errors, too.
define FAILURES
/\[ERROR\]: / { error = $$0 "\n" }
/fatal: / { fatal = $$0 "\n" }
/Molecule executed .*successful/ { error = fatal = "" }
/FAILED .*::/ { print }
/\*\*\* \[/ { printf "%s%s%s\n", error, fatal, $$0; error = fatal = "" }
endef
test test-molecule: export FAILURES := $(FAILURES)

.PHONY: test
test: CHECKS = lint test-unit test-installing
test: ## Lint, unit tests, the app's tests, all Molecule scenarios (40 minutes on 2 cores)

.PHONY: test-molecule
test-molecule: ## All Molecule scenarios, in throwaway servers

test test-molecule: .venv/.locked
	@mkdir -p .cache
	trap 'make --no-print-directory test-clean' EXIT
	# File descriptor 3 shows Molecule's steps as they begin and end.
	exec 3>&1
	$(PARALLEL) test-server $(CHECKS) $(MOLECULE) 2>&1 | tee .cache/test.log ||
		{ printf '\nWhat failed:\n'; awk "$$FAILURES" .cache/test.log | cut -c 1-400; exit 1; }

.PHONY: test-quick
test-quick: .venv/.locked ## Lint, unit tests, the app's tests (5 minutes)
	@$(PARALLEL) lint test-unit test-app

.PHONY: lint
lint: .venv/.locked ## All linters, no skips
	@ruff format --check .
	ruff check .
	yamllint --strict .
	git ls-files '*Dockerfile' | xargs hadolint
	git ls-files -sz | sed -z '/^120000/d; s/^[^\t]*\t//' |
		xargs -0 awk 'FNR == 1 && /^#!\/bin\/(sh|bash)/ { print FILENAME } { nextfile }' | xargs shellcheck
	ansible-lint

.PHONY: test-unit
test-unit: .venv/.locked ## Unit tests of filters, modules, templates and specs
	@pytest -q

.PHONY: test-app
test-app: .venv/.locked ## The tests of the app in app/
	@scripts/test-app

.PHONY: test-vagrant
test-vagrant: ## Check that Vagrant accepts the Vagrantfile
	@scripts/test-vagrant

# Install Docker and build the images of the servers, once, before scenarios boot theirs in parallel.
.PHONY: test-server
test-server: .venv/.locked
	@ansible-playbook -i inventory/local -i molecule/shared/inventory playbooks/dev.yml

# Not in parallel, because all of these may install packages on this machine.
.PHONY: test-installing
test-installing: test-server
	@scripts/test-app
	scripts/test-programs
	scripts/test-vagrant

# `molecule test -s NAME` runs one scenario. In parallel they form one chain for each job. The checks and `engine` run
# while `default` builds the images and wheels that the other scenarios load.
SCENARIOS = default deploy chaos browser hostile sources ubuntu contract apps debian12 engine server
MOLECULE = $(SCENARIOS:%=molecule-%)
molecule-default molecule-engine: test-server
molecule-deploy molecule-browser molecule-ubuntu: molecule-default
# These use the server of the scenario before them.
molecule-chaos: molecule-deploy
molecule-hostile: molecule-browser
molecule-sources: molecule-hostile
molecule-contract: molecule-ubuntu
# These have servers of their own, and are added to the shorter chains.
molecule-apps: molecule-contract
molecule-debian12: molecule-sources
molecule-server: molecule-engine

# `deploy` has priority, because its load lasts for as long as its deploys do.
NICE = nice
molecule-deploy: private NICE =

.PHONY: $(MOLECULE)
$(MOLECULE): molecule-%: .venv/.locked
	@{ : >&3; } 2>/dev/null || exec 3>/dev/null
	$(NICE) molecule test -s $* 2>&1 | tee >(grep --line-buffered Execut >&3)

# One scenario of each server.
SERVERS = default ubuntu deploy apps debian12 engine server

.PHONY: test-clean
test-clean: .venv/.locked ## Remove the servers that scenarios have left behind
	@mkdir -p .cache
	printf '%s\n' $(SERVERS) | xargs -P 3 -n 1 molecule destroy -s >.cache/destroy.log 2>&1 ||
		{ cat .cache/destroy.log; exit 1; }

.PHONY: test-chaos
test-chaos: .venv/.locked ## Kill a deploy at each of its tasks (hours)
	@trap 'molecule destroy -s chaos' EXIT
	CHAOS_RANDOM=1000 molecule test -s chaos

.PHONY: bench-deploy
bench-deploy: .venv/.locked ## Measure 50 deploys, 10 rollbacks, 10 broken releases under load (an hour)
	@VIRTUAL_ENV="$$PWD/.venv" PDM_IGNORE_SAVED_PYTHON=1 .venv/pdm/bin/pdm sync --quiet -G :all
	# More than 60 requests a second would overload two cores that run controller, server and visitors.
	export DEPLOY_GOOD=$${DEPLOY_GOOD:-50} DEPLOY_ROLLBACKS=$${DEPLOY_ROLLBACKS:-10} DEPLOY_BROKEN=$${DEPLOY_BROKEN:-10}
	export DEPLOY_RATE=$${DEPLOY_RATE:-60} DEPLOY_QUIET=60 DEPLOY_NICE=1 DEPLOY_PLOT=1
	trap 'molecule destroy -s deploy' EXIT
	molecule test -s deploy
	cat .cache/bench/deploys.txt
	echo "Latency over time: .cache/bench/deploys.png"

.PHONY: docs
docs: .venv/.locked ## Write the roles' READMEs, and the keys of an app in docs/inventory.md and inventory/example
	@python scripts/role_docs.py

.PHONY: pin
pin: MIRROR =
pin: .venv/.locked ## Pin the upstream images to the current digests of their tags (MIRROR=https://...: ask a mirror)
	@python scripts/pin --mirror "$(MIRROR)"

.PHONY: lock
lock: .venv/.locked ## Update both lock files within their version ranges
	@.venv/pdm/bin/pdm lock -G :all
	.venv/pdm/bin/pdm lock --project app -G :all
