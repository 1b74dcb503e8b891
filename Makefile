# SPDX-License-Identifier: Apache-2.0
# Everything that is made lies outside the tree, below RUNV_CACHE, and is made once.

PREFIX     ?= /usr/local
DESTDIR    ?=
RUNV_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/runv
# The interpreter that bin/runv names; the compiled dependencies must fit it.
PYTHON     := /usr/bin/python3
# Tests to run, and more options for pytest: make test TESTS=tests/unit PYTEST_ADDOPTS=-x
TESTS      ?= tests
# How test-kvm has the agent reached, one run each
TRANSPORTS ?= vsock serial
# Options for the benchmark: make bench BENCH="--json out.json"
BENCH      ?=
# Options for the validation programs: make test-conformance CONFORMANCE="--only runv hooks"
CONFORMANCE ?=

BUILD := $(RUNV_CACHE)/build
GUEST := $(BUILD)/guest-plain
STAGE := $(RUNV_CACHE)/stage

# Looked up when a recipe needs them: on a fresh machine setup-% has to install Python first.
VENV   = $(shell RUNV_CACHE='$(RUNV_CACHE)' PYTHON='$(PYTHON)' tools/python-env.sh --print-path venv)
DEPS   = $(shell RUNV_CACHE='$(RUNV_CACHE)' PYTHON='$(PYTHON)' tools/python-env.sh --print-path deps)
HYPERD_DEPS = $(shell RUNV_CACHE='$(RUNV_CACHE)' PYTHON='$(PYTHON)' tools/python-env.sh --print-path hyperd-deps)
KERNEL = $(shell $(PYTHON) kernel-config/build.py --print-path)
# Installed where it has been built: make qemu
QEMU   = $(shell $(PYTHON) qemu-config/build_qemu.py --print-path 2>/dev/null)

STAGED = PATH='$(STAGE)/bin':"$$PATH" PYTHONDONTWRITEBYTECODE=1

export RUNV_CACHE PYTHON
unexport TESTS TRANSPORTS BENCH CONFORMANCE
MAKEFLAGS += --no-print-directory
# The steps of a target share caches and a terminal; the work below them is parallel.
.NOTPARALLEL:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

run: setup-run own-qemu stage ## Install what is missing, build, start hyperd, and run containers in VMs of their own
	@$(PYTHON) tools/demo.py '$(STAGE)/bin' '$(RUNV_CACHE)/demo'

test: setup-test check qemu stage ## Check the sources and run all tests
	@$(STAGED) '$(VENV)/bin/python' -m pytest -m '(not engines or smoke) and not soak' $(TESTS)

test-soak: setup-test venv qemu stage ## Run the tests that take minutes: SIGKILL at 50 moments, made-up requests, many pods
	@$(STAGED) '$(VENV)/bin/python' -m pytest -m soak $(TESTS)

test-engines: setup-test venv qemu stage ## Run the tests that drive Docker, containerd and Podman
	@$(STAGED) '$(VENV)/bin/python' -m pytest -m engines tests/engines

test-kvm: setup-test venv stage ## Run the tests that boot machines under real KVM, in the lab
	@status=0; for transport in $(TRANSPORTS); do \
		$(STAGED) '$(VENV)/bin/python' -m tests.lab --timeout 14400 --show '$(RUNV_CACHE)' --env RUNV_TRANSPORT=$$transport -- \
			'$(VENV)/bin/python' -m pytest -p no:cacheprovider -vv -m vm $(TESTS) || status=$$?; \
	done; exit $$status

test-conformance: setup-conformance venv stage ## Run the OCI's validation programs with runv, runc and crun
	@$(STAGED) '$(VENV)/bin/python' -m tests.conformance $(CONFORMANCE)

check: venv ## Lint and check the types of the sources
	@'$(VENV)/bin/ruff' check --quiet .
	@'$(VENV)/bin/mypy' --no-error-summary
	@if command -v shellcheck >/dev/null; then shellcheck tools/*.sh .ci/run; fi

kernel: ## Build the guest kernel if needed; print its path
	@$(PYTHON) kernel-config/build.py

qemu: setup-qemu ## Build a QEMU of runv's own from Debian's source if needed: less memory, and faster without KVM
	@$(PYTHON) qemu-config/build_qemu.py >/dev/null

own-qemu:
	@$(MAKE) qemu || echo "runv: Debian's QEMU is used; \`make qemu\` says more" >&2

guest: ## Build the guest's init, the initramfs and the C programs of the host
	@mkdir -p '$(GUEST)'
	@flock '$(GUEST)/.lock' $(MAKE) -s -j"$$(nproc)" -C guest O='$(GUEST)'
	@$(PYTHON) guest/mkinitrd.py --init '$(GUEST)/init' '$(BUILD)/initrd.img'

bench: setup-bench qemu stage bench-env ## Time runv against floors and peers
	@RUNV_KERNEL='$(STAGE)/share/runv/vmlinux' $(STAGED) "$$(tools/python-env.sh --print-path bench)/bin/python" -m bench --runv '$(STAGE)/bin/runv' $(BENCH)

bench-kvm: setup-bench stage bench-env ## Measure memory and ratios under real KVM, in the lab
	@mkdir -p '$(RUNV_CACHE)/bench-kvm'
	@python="$$(tools/python-env.sh --print-path bench)/bin/python"; $(STAGED) "$$python" -m tests.lab --timeout 7200 \
		--show '$(RUNV_CACHE)' --results '$(RUNV_CACHE)/bench-kvm' --env RUNV_KERNEL='$(STAGE)/share/runv/vmlinux' -- \
		"$$python" -m bench --runv '$(STAGE)/bin/runv' --json '$(RUNV_CACHE)/bench-kvm/figures.json' --only start --only pods --count 3 --pods 10 $(BENCH)

install: setup-run build ## Install below $(DESTDIR)$(PREFIX)
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' BUILD='$(BUILD)' DEPS='$(DEPS)' HYPERD_DEPS='$(HYPERD_DEPS)' KERNEL='$(KERNEL)' QEMU='$(QEMU)' tools/install.sh install

uninstall: ## Remove what install put there
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' tools/install.sh uninstall

stage: build
	@DESTDIR= PREFIX='$(STAGE)' BUILD='$(BUILD)' DEPS='$(DEPS)' HYPERD_DEPS='$(HYPERD_DEPS)' KERNEL='$(KERNEL)' QEMU='$(QEMU)' tools/install.sh install

build: deps hyperd-deps guest
	@$(PYTHON) kernel-config/build.py >/dev/null
	@$(PYTHON) -IS tools/busybox_image.py '$(BUILD)/busybox.tar'

clean: ## Remove what was built, but not the kernel, QEMU and the Python packages
	@rm -rf '$(BUILD)' '$(STAGE)' '$(RUNV_CACHE)/demo'

clean-all: clean ## Remove kernels, QEMU, Python packages and the lab's kernel as well
	@rm -rf '$(RUNV_CACHE)'/kernel '$(RUNV_CACHE)'/kernel-build '$(RUNV_CACHE)'/qemu '$(RUNV_CACHE)'/qemu-build '$(RUNV_CACHE)'/lab '$(RUNV_CACHE)'/gvisor '$(RUNV_CACHE)'/bench-kvm '$(RUNV_CACHE)'/conformance '$(RUNV_CACHE)'/venv-* '$(RUNV_CACHE)'/bench-* '$(RUNV_CACHE)'/deps-* '$(RUNV_CACHE)'/hyperd-deps-* '$(RUNV_CACHE)'/venv.lock '$(RUNV_CACHE)'/bench.lock '$(RUNV_CACHE)'/deps.lock '$(RUNV_CACHE)'/hyperd-deps.lock

setup-run setup-test setup-bench setup-conformance setup-qemu: setup-%:
	@tools/setup.sh $*

venv deps hyperd-deps:
	@tools/python-env.sh $@

bench-env:
	@tools/python-env.sh bench

.DEFAULT_GOAL := help
.PHONY: help run test test-soak test-engines test-kvm test-conformance check kernel qemu own-qemu guest bench install uninstall stage build clean clean-all setup-run setup-test setup-bench setup-conformance setup-qemu venv deps hyperd-deps bench-env
