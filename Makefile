.PHONY: help demo run build test lint bench bench-quick performance scale hot-key instructions leaks docs servers clients setup

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "make %-12s %s\n", $$1, $$2 }'

demo: build ## a day of hits, a breakdown, a bill and a limiter, in a server of its own
	@scripts/with-server scripts/demo

run: build ## a server with the module to play with
	@scripts/with-server

build: setup ## target/release/libredis_meter.so
	cargo build --release --locked

test: build servers clients ## every test, on every server that can be had
	cargo test --workspace --locked

lint: setup ## formatting, clippy without a warning, and figures as they are recorded
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@scripts/draw-performance --check

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

performance: build servers ## all of it, an hour: measures, records, and writes the tables and pictures of docs/performance.md
	@scripts/fetch-redis-cell
	METER_BENCH_RECORD=benches/results cargo bench --locked --bench side_by_side
	METER_BENCH_RECORD=benches/results cargo bench --locked --bench scale
	METER_BENCH_RECORD=benches/results cargo bench --locked --bench hot_key
	scripts/draw-performance

instructions: build servers ## the instructions of each command, beside those that are recorded
	@scripts/setup count
	@scripts/count-instructions --check

leaks: build servers ## a few thousand mixed calls under valgrind: nothing lost, nothing invalid
	@scripts/setup count
	@scripts/check-leaks

docs: build ## the pictures of docs/limiters.md, drawn from real calls
	@scripts/with-server scripts/draw-limiters

servers: ## fetch the servers that the tests run against
	@scripts/fetch-servers

clients: ## fetch the client libraries that the tests speak through
	@scripts/fetch-clients

setup: ## install what building needs, where it is missing
	@scripts/setup build
