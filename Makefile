# Every way of running, testing and measuring Warren. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# A fresh rustup is not on the PATH of a shell that was open before.
export PATH := $(PATH):$(HOME)/.cargo/bin
TARGET := $(or $(CARGO_TARGET_DIR),target)
STACK := $(TARGET)/debug/stack
RELEASE_BINARIES := -p api-service -p mailer-service -p testkit
COMPOSE := docker compose --project-name warren -f deploy/docker-compose.yml
# docker where an engine answers, else native; `make run RUNNER=native` decides otherwise.
RUNNER ?= $(shell [ -f deploy/docker-compose.yml ] && timeout 10 docker info >/dev/null 2>&1 && echo docker || echo native)

.PHONY: help
help: ## This list
	@echo "Warren: make <target>"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-12s %s\n", $$1, $$2 }'

.PHONY: run
run: ## Run Warren here (docker if its engine answers, else native; RUNNER=native|docker decides); Ctrl-C ends it
	@$(MAKE) --no-print-directory run-$(RUNNER)

.PHONY: run-native
run-native: install
	@! { [ -x $(TARGET)/release/stack ] && $(TARGET)/release/stack status; }
	cargo build --release --locked $(RELEASE_BINARIES)
	@exec $(TARGET)/release/stack run

.PHONY: run-docker
run-docker: up

.PHONY: up
up: ## Run Warren with docker compose, in the foreground (ARGS="--scale mailer=4")
	@exec deploy/compose/up.sh $(ARGS)

.PHONY: stop
stop: ## End a `make run` of this checkout from another shell
	@if [ -x $(TARGET)/release/stack ]; then $(TARGET)/release/stack stop; else echo "No make run of this checkout."; fi
	@if timeout 10 docker info >/dev/null 2>&1; then $(COMPOSE) stop; fi

.PHONY: install
install: ## Install what is missing to build and run natively (PostgreSQL, RabbitMQ, gcc)
	@deploy/native/install.sh

.PHONY: test
test: ## All tests, against a private PostgreSQL and RabbitMQ
	@deploy/native/install.sh test
	cargo build --locked -p testkit --bins
	cargo test --workspace --locked --no-run
	$(STACK) exec -- cargo test --workspace --locked

.PHONY: check
check: fmt clippy deny test ## What CI runs: fmt, clippy, deny, test

.PHONY: fmt
fmt: ## Check the formatting (`make fmt-fix` repairs it)
	rustfmt --check --edition 2024 $$(git ls-files '*.rs')

.PHONY: fmt-fix
fmt-fix: ## Format everything
	rustfmt --edition 2024 $$(git ls-files '*.rs')

.PHONY: clippy
clippy: ## Lints, none tolerated
	cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: deny
deny: ## Licenses, banned crates, sources; advisories where their database can be fetched
	@command -v cargo-deny >/dev/null || { echo "Installing cargo-deny, once (some minutes)"; cargo install --locked cargo-deny; }
	cargo deny --locked check --hide-inclusion-graph bans licenses sources
	@if timeout 120 cargo deny --locked fetch db >/dev/null 2>&1; then \
	  cargo deny --locked check --hide-inclusion-graph advisories; \
	else \
	  echo "advisories: NOT CHECKED, since the advisory database (github.com/rustsec/advisory-db) could not be fetched"; \
	fi

.PHONY: bench
bench: install ## Measure throughput, latency and memory beside a bare echo server (ARGS="--help" tells more)
	cargo build --release --locked $(RELEASE_BINARIES) -p bench
	$(TARGET)/release/bench bench $(ARGS)

.PHONY: faults
faults: ## Kill, freeze and cut every part under load and count what is lost (nothing)
	@deploy/native/install.sh faults
	cargo build --release --locked $(RELEASE_BINARIES) -p bench
	$(TARGET)/release/bench faults $(ARGS)

.PHONY: clean-run
clean-run: stop ## Delete the data of `make run`
	@cluster=$$(readlink .run/postgres/cluster || true); \
	case "$$cluster" in /var/tmp/warren-*) rm -rf "$$cluster" ;; esac
	@rm -rf .run
