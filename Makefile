# The toolchain of rust-toolchain.toml, or an installed one of the same version, so that nothing need be fetched.
same_toolchain := $(shell scripts/same-toolchain)
ifneq ($(same_toolchain),)
export RUSTUP_TOOLCHAIN := $(same_toolchain)
endif

.PHONY: help demo run build test lint test-meterd bench-meterd page advisories fuzz soak soak-meterd dist draft-release bench bench-quick performance scale hot-key instructions leaks docs servers clients databases bench-archive meterd-tools setup foreign

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "make %-12s %s\n", $$1, $$2 }'

demo: build ## a day of hits, a breakdown, a bill, a limiter, and meterd with its page, on a server of its own
	@scripts/setup demo
	@scripts/with-server scripts/demo

run: build ## a server with the module to play with
	@scripts/with-server

build: setup ## target/release/libredis_meter.so
	cargo build --release --locked

test: build servers clients meterd-tools ## every test, on every server that can be had
	cargo test --workspace --locked --no-fail-fast

test-meterd: build servers meterd-tools ## the tests of meterd and of its client alone
	cargo test --locked -p meterd -p redis-meter-client

lint: setup ## formatting, clippy, rustdoc, scripts, workflows, licences, and figures as they are recorded
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items --locked
	@scripts/lint-scripts
	@scripts/check-workflows
	@scripts/check-dependencies
	@scripts/draw-performance --check

advisories: ## the dependencies against the RustSec database, which is fetched
	@scripts/check-dependencies advisories

fuzz: setup ## search for inputs that break a property, a minute for each (METER_FUZZ_SECONDS)
	@scripts/fuzz

soak: build servers ## everything at once on every server, ten minutes (METER_SOAK_SECONDS)
	METER_SOAK_SECONDS=$${METER_SOAK_SECONDS:-600} cargo test --locked --test soak -- --nocapture

soak-meterd: build servers ## meterd under traffic while it and Redis are killed, ten minutes (METER_SOAK_SECONDS)
	METER_SOAK_SECONDS=$${METER_SOAK_SECONDS:-600} cargo test --locked -p meterd --test soak_meterd -- --nocapture

bench: build servers ## the commands beside what they replace and beside redis-cell, as ratios
	@scripts/fetch-redis-cell
	cargo bench --locked --bench side_by_side

bench-quick: build servers ## the same in two minutes at most: three short rounds on one server
	@scripts/fetch-redis-cell
	METER_BENCH_QUICK=yes cargo bench --locked --bench side_by_side

scale: build servers ## one server beside clusters of one to three nodes, many keys beside one hot key
	cargo bench --locked --bench scale

hot-key: setup ## what a limit that is spread over several keys refuses too much, simulated and derived
	cargo bench --locked --bench hot_key

performance: build servers ## all of it, two hours: measures, records, and writes the tables and pictures of docs/performance.md
	@scripts/fetch-redis-cell
	METER_BENCH_RECORD=benches/results cargo bench --locked --bench side_by_side
	METER_BENCH_RECORD=benches/results METER_BENCH_REPLICATED=yes cargo bench --locked --bench side_by_side
	METER_BENCH_RECORD=benches/results cargo bench --locked --bench scale
	METER_BENCH_RECORD=benches/results cargo bench --locked --bench hot_key
	scripts/draw-performance

instructions: build servers ## the instructions of each command, beside those that are recorded
	@scripts/setup count
	@scripts/count-instructions --check

leaks: build servers ## a few thousand mixed calls under valgrind: nothing lost, nothing invalid
	@scripts/setup count
	@scripts/check-leaks

foreign: build ## the tests of Redis 7.0 itself, with the module loaded and without it
	@scripts/foreign

docs: build ## the pictures of docs/limiters.md, drawn from real calls
	@scripts/with-server scripts/draw-limiters

dist: build ## dist/: the module and its pages, packed, with checksums
	@scripts/dist

draft-release: ## a draft release of the tag that is checked out, with dist/ and its section of the changelog
	@scripts/draft-release

bench-meterd: build servers meterd-tools ## POST /counter of meterd beside a bare hello and beside a session counter in Node.js
	cargo build --release --locked -p meterd --bin meterd --example hello
	@scripts/with-server scripts/bench-meterd

page: build servers meterd-tools ## docs/img/page.png, a picture of meterd's page
	cargo build --release --locked -p meterd
	@scripts/with-server scripts/draw-page

meterd-tools: ## fetch what the tests of meterd speak through: a browser, databases, a tester of interfaces
	@scripts/setup databases
	@scripts/fetch-meterd-tools

servers: ## fetch the servers that the tests run against
	@scripts/fetch-servers

clients: ## fetch the client libraries that the tests speak through
	@scripts/fetch-clients

databases: ## install the databases that the tests of the archive run on
	@scripts/setup databases

bench-archive: build servers databases ## rows a second that meterd moves to SQLite, PostgreSQL and MariaDB
	cargo bench --locked -p meterd --bench archive

setup: ## install what building needs, where it is missing
	@scripts/setup build
