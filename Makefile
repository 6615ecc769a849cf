# The commands that stay. Everything they do can be done by hand with cargo and scripts/.

MAKEFLAGS += --no-print-directory
CARGO ?= cargo
LIBSURICATA = scripts/install-libsuricata
DENY = scripts/cargo-deny
# By itself and last: built together, cargo gives it the others' cryptography too (features of rustls
# are united), whose licence does not go with libsuricata's.
INSPECTOR = $(CARGO) build --release --locked --quiet -p meergate-inspector

.PHONY: help demo run install test bench check fuzz audit deps

help:
	@echo 'make demo    build all, show malware inside TLS being stopped, print what happened, end'
	@echo 'make run     the gateway with working defaults, until stopped'
	@echo 'make install both programs as services of systemd, below PREFIX and DESTDIR'
	@echo 'make test    everything that CI runs; installs what it needs'
	@echo 'make bench   figures, side by side with the peers'
	@echo 'make check   formatting, lints, docs, licences'
	@echo 'make fuzz    every fuzz target, SECONDS=30 each'
	@echo 'make audit   known vulnerabilities in what we depend on (asks the network)'

demo:
	@scripts/install-deps build run
	@$(LIBSURICATA)
	@$(CARGO) build --release --locked --quiet -p meergate -p e2e
	@$(INSPECTOR)
	@$(CARGO) run --release --locked --quiet -p e2e --bin demo

run:
	@scripts/install-deps build
	@$(LIBSURICATA)
	@$(CARGO) build --release --locked --quiet -p meergate
	@$(INSPECTOR)
	@scripts/run

install:
	@scripts/install-deps build
	@$(LIBSURICATA)
	@$(CARGO) build --release --locked --quiet -p meergate
	@$(INSPECTOR)
	@scripts/install

# What makes the next build faster takes 5 GB here, more than all else together.
test: export CARGO_INCREMENTAL = 0
test: deps check
	$(CARGO) build --locked --workspace --all-targets
	scripts/fuzz 30
	scripts/test
	bench/guards

bench: deps
	$(CARGO) build --release --locked --workspace
	@$(INSPECTOR)
	bench/run

check: deps
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps --document-private-items
	$(DENY) --workspace --locked check --hide-inclusion-graph bans licenses sources
	$(DENY) --config crates/meergate-inspector/deny.toml --manifest-path crates/meergate-inspector/Cargo.toml \
		--locked --exclude-dev check --hide-inclusion-graph bans licenses sources

fuzz: deps
	scripts/fuzz $(or $(SECONDS),30)

audit:
	$(DENY) --workspace --locked check advisories

deps:
	@scripts/install-deps
	@$(LIBSURICATA)
