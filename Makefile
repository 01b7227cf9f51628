# Tasks. `make run` and `make test` set everything up on a fresh Debian or Ubuntu; the rest is for working on it.

CARGO ?= cargo
# Nothing is installed that is there already. Root installs by itself, anyone else through sudo.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# Where `make install` puts things, and what it takes where it is built already.
export PREFIX DESTDIR SYSCONFDIR PROGRAM PAGES

# Patroni's virtual environment: where the user that runs Postgres can read it.
export HA_VENV ?= $(if $(filter 0,$(shell id -u)),/var/lib/rinha/ha-venv,$(CURDIR)/target/ha-venv)

.PHONY: help run up down install uninstall test e2e systemd live-page ha ha-up ha-down ha-kill-primary ha-status ha-deps openapi up-local stress stress-smoke fuzz torture torture-lies power miri soak hostile lint fmt bench release release-deps deps test-deps local-deps stress-deps browser-deps openapi-deps fuzz-deps torture-deps clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: deps ## Build, and run on 0.0.0.0:9999 with a private Postgres
	$(call long_build,target/release/rinha)
	$(CARGO) run --release --locked

up: ## The whole system on Docker or Podman, what it is given checked first (ARGS=-d: in the background; ENGINE=podman)
	@tools/compose up $(ARGS)

down: ## Stop it; the rows stay (ARGS=-v throws them away)
	@tools/compose down $(ARGS)

install: ## The server, its units, man pages and completions below PREFIX (/usr/local); DESTDIR is honoured
	@tools/install install $(ARGS)

uninstall: ## Take them away again; /etc/rinha and the rows stay
	@tools/install uninstall $(ARGS)

live: deps ## The live page of what runs here: its address (METRICS_PORT=9100; ARGS=data/admin.sock: of this server)
	@tools/live $(ARGS)

test: deps test-deps ## All tests, against the real binary and real Postgres clusters
	$(CARGO) test --locked --workspace $(ARGS)

e2e: deps ## The composition end to end on each engine that is there (ENGINE=docker, podman or local: on that one)
	tests/e2e/run

openapi: deps openapi-deps ## The documentation: two validators, Schemathesis against the live server, the page in a browser
	tests/openapi/run

systemd: deps ## The units in a systemd of their own, by systemd-nspawn as root (PROGRAM=target/release/rinha: that build)
	tests/host/boot

live-page: deps browser-deps ## The live page of two servers in a browser, in every size and colour (PICTURES=docs: leave pictures there)
	$(CARGO) test --locked --test live -- --ignored --test-threads=1

up-local: deps local-deps ## The topology of compose.yml as plain processes on :9999 (ARGS=--fresh: an empty database)
	@tools/check local
	$(call long_build,target/release/local)
	$(CARGO) build --release --locked -p rinha -p local
	@exec target/release/local $(ARGS)

ha: deps ha-deps ## Every fault of a highly available database while clients are at work (ARGS=short, or a part of a name)
	tests/ha/run $(ARGS)

ha-up: deps ha-deps ## docs/ha.md as plain processes on :9999 (ARGS=--help: what can be changed); ha-down stops it
	$(CARGO) build --release --locked -p rinha -p ha --bin rinha --bin ha
	target/release/ha up $(ARGS)

ha-down: ## Stop it
	target/release/ha down

ha-kill-primary: ## Kill its primary Postgres with kill -9
	target/release/ha kill-primary

ha-status: ## Who of it is what
	target/release/ha status

stress: deps stress-deps ## The contest's 205 s by Gatling against compose.yml, the verdict, a report (ARGS=--help: what can be changed)
	$(call long_build,target/debug/stress-test)
	$(CARGO) run --locked -p stress-test -- run --pictures $(ARGS)

stress-smoke: deps stress-deps ## The same in 20 s
	$(call long_build,target/debug/stress-test)
	$(CARGO) run --locked -p stress-test -- run --name smoke --seconds 20 $(ARGS)

fuzz: fuzz-deps ## Fuzz what reads the bytes of strangers, 30 s for each target (ARGS='TARGET SECONDS': other ones)
	$(call long_build,target/fuzz)
	tests/fuzz/run $(ARGS)

torture: deps torture-deps ## Real servers and a real Postgres under faults drawn from a seed (ARGS='--seconds 300 --seed 7'; ARGS=--help: more)
	$(CARGO) build --locked -p rinha -p torture
	target/debug/torture $(ARGS)

torture-lies: deps torture-deps ## Servers that lie: each must be caught by the same within a minute
	$(CARGO) build --locked -p rinha -p torture -p lies
	target/debug/torture --lies $(ARGS)

power: deps ## Power cuts below the database, by seed (ARGS='--seconds N --seed S'; needs root and /dev/fuse)
	tests/power/run $(ARGS)

miri: ## What needs no kernel, under Miri: memory and schedules (ARGS=FILTER; skipped where no nightly toolchain can be had)
	tests/miri/run $(ARGS)

soak: deps local-deps ## Half an hour of the contest's load: do memory, descriptors, sessions, latency stay flat? (ARGS=MINUTES)
	perf/soak $(ARGS)

hostile: deps local-deps ## Hostile clients beside polite ones, direct and through HAProxy (ARGS='--only NAME --seconds N --seed S')
	tests/hostile/run $(ARGS)

lint: ## Formatting and clippy, as CI demands them
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

fmt: ## Format
	$(CARGO) fmt --all

bench: deps ## One core against a constant answer and a bare insert loop (needs wrk)
	perf/ratios

release: ## A release of this commit in target/dist: program, image, parts, licences, sums (ARGS=--help: what can be chosen)
	@tools/release $(ARGS)

release-deps: deps ## What it needs beside a build
	@tools/release-deps

clean: ## Remove what was built
	$(CARGO) clean

deps:
	@command -v $(CARGO) >/dev/null || { echo "make: expected cargo; install Rust 1.93 or newer: https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || $(call install,gcc libc6-dev,no C compiler was found)
	@command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres >/dev/null 2>&1 \
		|| { $(own_clusters_only); $(call install,postgresql,no Postgres was found); }

test-deps:
	@command -v curl >/dev/null || $(call install,curl,the examples of the pages are run with curl)

local-deps:
	@command -v haproxy >/dev/null || $(call install,haproxy,no HAProxy was found)

ha-deps:
	@deploy/ha/install

openapi-deps:
	@python3 -c 'import ensurepip' 2>/dev/null || $(call install,python3 python3-venv,no Python with virtual environments was found)
	@tests/openapi/install

browser-deps:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
		|| ( $(call install,chromium,pages are looked at by a browser) ) || ( $(call install,chromium-browser,it may have another name) ) \
		|| echo "make: no browser: reports come without pictures, and make live-page fails"

fuzz-deps:
	@command -v c++ >/dev/null || $(call install,g++,libFuzzer needs a C++ compiler)

torture-deps: local-deps
	@command -v strace >/dev/null || $(call install,strace,it makes an fsync slow)
	@ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || $(call install,libfaketime,it sets the clock of one program)

# Where no container engine answers, the stress test runs plain processes, which need `local-deps`.
stress-deps: browser-deps
	@command -v javac >/dev/null || $(call install,default-jdk-headless,Gatling needs a JDK of 17 or newer)
	@command -v mvn >/dev/null || $(call install,maven,Gatling is run by Maven)
	@{ docker compose version && docker info; } >/dev/null 2>&1 || command -v podman-compose >/dev/null || $(MAKE) --no-print-directory local-deps

# $(call long_build,program): says that a first build takes its time.
define long_build
@[ -e $(1) ] || echo "make: the first build takes some minutes; $(1) is not there yet"
endef

# $(call install,packages,reason)
define install
{ command -v apt-get >/dev/null || { echo "make: $(2); install $(1) with this system's package manager" >&2; exit 1; }; \
  echo "make: $(2): installing $(1)"; \
  $(SUDO) apt-get update -qq && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(1) >/dev/null; }
endef

# Debian's package would make and start a cluster for the whole system; this server runs its own.
define own_clusters_only
command -v apt-get >/dev/null && [ ! -e /etc/postgresql-common ] \
  && echo "make: telling postgresql-common not to make a cluster of its own" \
  && $(SUDO) mkdir -p /etc/postgresql-common/createcluster.d \
  && echo "create_main_cluster = false" | $(SUDO) tee /etc/postgresql-common/createcluster.d/rinha.conf >/dev/null || true
endef
