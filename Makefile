# Everything a person runs here; `make help` lists it. Nothing needs to be installed first but git, make and python3.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Folders that become images stay free of bytecode, and no run compiles Ansible anew.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.cache/pycache
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

# The virtual environment is as new as the lock file.
.venv/.locked: pdm.lock scripts/bootstrap
	@scripts/bootstrap
	@touch $@

.PHONY: venv
venv: .venv/.locked ## Make .venv from the lock file

.PHONY: up
up down: ENV = local
up: .venv/.locked ## Boot a throwaway server and deploy to it, as to production (ENV=vagrant: a virtual machine)
	@ansible-playbook -i "inventory/$(ENV)" playbooks/dev.yml
	ansible-playbook -i "inventory/$(ENV)" site.yml
	ansible-playbook -i "inventory/$(ENV)" playbooks/dev.yml --tags report

.PHONY: down
down: .venv/.locked ## Remove what `make up` made, and nothing else
	@ansible-playbook -i "inventory/$(ENV)" playbooks/dev.yml -e dev_state=absent

.PHONY: vault
vault: ENV = prod
vault: ROTATE =
vault: .venv/.locked ## Write inventory/ENV's encrypted secrets, or add missing ones (ENV=prod, ROTATE=app.NAME)
	@scripts/vault $(if $(ROTATE),--rotate "$(ROTATE)") "inventory/$(ENV)"

.PHONY: test
test: ## Lint, unit tests, the app's tests, all Molecule scenarios
	@make test-molecule CHECKS="lint test-unit test-app test-vagrant"

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
test-unit: .venv/.locked ## Filters, modules, templates, specs
	@pytest -q

.PHONY: test-app
test-app: .venv/.locked ## The tests of the app in app/
	@scripts/test-app

.PHONY: test-vagrant
test-vagrant: ## Whether Vagrant accepts the Vagrantfile
	@scripts/test-vagrant

# Three lanes side by side, as a scenario waits for a good part of its time. Those of a lane that share a server stand in
# the order in which they can.
LANE_1 = default browser hostile apps sources
LANE_2 = debian12 ubuntu contract
LANE_3 = deploy chaos engine
# Each has a server of its own.
APART = debian12 engine
# Each makes the server that the others of its lane share.
FIRST = default ubuntu deploy

.PHONY: test-molecule
test-molecule: .venv/.locked ## All Molecule scenarios, in throwaway servers (LANE_1=, LANE_2=, LANE_3=: which ones)
	@mkdir -p .cache
	clean() {
		{
			printf '%s\n' "$$@" | xargs -r -P 2 -n 1 molecule destroy -s
			molecule reset $(addprefix -s ,$(sort $(LANE_1) $(LANE_2) $(LANE_3)))
		} >.cache/destroy.log 2>&1 || { cat .cache/destroy.log; return 1; }
	}
	# Lanes end with their servers, unless something ends them.
	trap 'clean $(FIRST) $(APART)' EXIT
	clean $(FIRST)
	# All lanes need the engine and the images of servers.
	scripts/side-by-side 1="molecule create -s default" $(if $(CHECKS),2="make $(word 1,$(CHECKS))")
	# What default builds on its server, the other lanes wait for: there is time for checks that need no server.
	export IMAGES_AWAITED='$(filter default,$(LANE_1))'
	# The load of deploys lasts as long as they do, so the other lanes step back.
	# Not by make's own name for itself: it would run the whole of this where `make -n` only asks what it would do.
	scripts/side-by-side \
		1="nice make test-scenarios SCENARIOS='$(LANE_1)'" \
		2="$(if $(CHECKS),nice make $(wordlist 3,9,$(CHECKS)) &&) nice make test-scenarios SCENARIOS='$(LANE_2)'" \
		3="$(if $(CHECKS),nice make $(word 2,$(CHECKS)) &&) make test-scenarios SCENARIOS='$(LANE_3)'"
	trap clean EXIT

.PHONY: test-scenarios
test-scenarios:
	@for scenario in $(SCENARIOS); do
		echo "== $$scenario, $$(date +%T)"
		if [[ " $(APART) " == *" $$scenario "* ]]; then
			env -u CREATE_PLAYBOOK -u SITE_PLAYBOOK molecule test -s $$scenario
		else
			molecule test --destroy=never -s $$scenario
			# The next ones find the server there and set up.
			export CREATE_PLAYBOOK=molecule/shared/created.yml SITE_PLAYBOOK=playbooks/deploy.yml
		fi
	done
	for scenario in $(filter $(FIRST),$(SCENARIOS)); do
		molecule destroy -s $$scenario
	done
	echo "== done, $$(date +%T)"

.PHONY: test-chaos
test-chaos: .venv/.locked ## Kill a deploy at every one of its tasks (hours)
	@CHAOS_RANDOM=1000 molecule test -s chaos

.PHONY: bench-deploy
bench-deploy: .venv/.locked ## Measure 50 deploys, 10 rollbacks, 10 broken releases under load (an hour)
	@VIRTUAL_ENV="$$PWD/.venv" PDM_IGNORE_SAVED_PYTHON=1 .venv/pdm/bin/pdm sync --quiet -G :all
	# More than 60 requests a second keep two cores busy that are controller, server and visitors in one.
	export DEPLOY_GOOD=$${DEPLOY_GOOD:-50} DEPLOY_ROLLBACKS=$${DEPLOY_ROLLBACKS:-10} DEPLOY_BROKEN=$${DEPLOY_BROKEN:-10}
	export DEPLOY_RATE=$${DEPLOY_RATE:-60} DEPLOY_QUIET=60 DEPLOY_NICE=1 DEPLOY_PLOT=1
	molecule test -s deploy
	cat .cache/bench/deploys.txt
	echo "Latency over time: .cache/bench/deploys.png"

.PHONY: docs
docs: .venv/.locked ## Write the roles' READMEs from their argument specs
	@python scripts/role_docs.py

.PHONY: pin
pin: MIRROR =
pin: .venv/.locked ## Pin the upstream images to the digests that their tags have now (MIRROR=https://... asks a mirror)
	@python scripts/pin --mirror "$(MIRROR)"

.PHONY: lock
lock: .venv/.locked ## Renew both lock files within their ranges
	@.venv/pdm/bin/pdm lock -G :all
	.venv/pdm/bin/pdm lock --project app -G :all
