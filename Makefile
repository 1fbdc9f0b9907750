# Local checks. `make verify` never writes; CI runs the same.

SEEDS ?= 1000
FIRST ?= 0
KILLS ?= 30
MINUTES ?= 30
APART ?= 10
SCHEDULES ?= 100000000
CORE_SCHEDULES ?= 1000000
FOLLOWED ?= 1000000
SEED ?= 4

.PHONY: verify fix format lint docs test release lab-verify lab-matrix sim sim-gossip mutants lab-server power-loss process failover soak overload eventual ratios limits licences

verify: format lint docs test

format:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets --locked -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

test:
	cargo test --workspace --locked

fix:
	cargo fmt --all
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

# The server and `kv`, which say the commit that they were built from.
release:
	KVSTORE_COMMIT=$$(git rev-parse --short HEAD 2>/dev/null) cargo build --release --locked --bin kvstore --bin kv

# The checkers of the lab against porcupine and brute force, on many histories, and each model on a large one. Five
# minutes, after the build.
lab-verify:
	cargo test --locked -p jepsen --test porcupine --test linearizable --test models -- --ignored --nocapture

# Every workload of the lab under every nemesis, 20 s each, and docs/lab-matrix.md. Half an hour to an hour, after the
# builds; ended and called again, it goes on where it was. ARGS=--pairs runs a subset.
lab-matrix:
	cargo build --release --locked --bin kvstore --bin kv-lab
	cargo build --release --locked -p kvstore --features lab --target-dir target/lab
	target/release/kv-lab matrix --seed $(SEED) --clients 3 --binary target/release/kvstore \
		--lab-binary target/lab/release/kvstore --table docs/lab-matrix.md $(ARGS)

# Simulated clusters: make sim SEEDS=10000 FIRST=5000. 10 to 30 seeds a second on two cores.
sim:
	cargo run --release --locked -p tests --bin sim -- --first $(FIRST) --seeds $(SEEDS)

# The rules of eventual keyspaces in random schedules, then the core against them step by step, then the core alone:
# make sim-gossip SCHEDULES=1000000 FOLLOWED=10000 CORE_SCHEDULES=10000 FIRST=5000. By default an hour on two cores,
# by estimate: 60,000, 2,000 and 700 a second.
sim-gossip:
	FIRST=$(FIRST) SCHEDULES=$(SCHEDULES) cargo test --release --locked -p gossip --test model no_schedule -- --nocapture
	FIRST=$(FIRST) FOLLOWED=$(FOLLOWED) cargo test --release --locked -p gossip --test follow the_core_does_what -- --nocapture
	FIRST=$(FIRST) SEEDS=$(CORE_SCHEDULES) cargo test --release --locked -p gossip --lib schedules_at_length -- --ignored --nocapture

# Plants each known bug, in simulated clusters and in real servers, searches for it, and writes docs/mutants.md.
# Ten minutes on two cores after the build: 200 seeds a bug at most, 3 runs of at most 40 s a bug, and all
# that found one again without it.
mutants: lab-server
	cargo build --locked -p jepsen -p tests --bin kv-lab --bin mutants
	target/debug/mutants

# A server that can do faults to itself and plant bugs, apart from the one that is shipped.
lab-server:
	cargo build --locked -p kvstore --features lab --target-dir target/lab

# Cuts power within sled's files, and a script of 500 writes at every disk operation, and opens the images that
# are left. Minutes, after the build.
power-loss:
	cargo test --locked -p storage --test sled_images -- --ignored --nocapture
	cargo test --locked -p tests --test crash_points -- --ignored --nocapture

# Real processes under kill -9, judged by the lab. About a minute, after the build.
process:
	cargo test --release --locked -p tests --test process

# Kills the leader KILLS times and prints how long the next acknowledged write took. About a minute.
failover:
	cargo build --release --locked --bin kvstore
	cargo run --release --locked -p tests --bin failover -- --kills $(KILLS)

# Half an hour (make soak MINUTES=120) of load with a fault every five minutes; then all is compared.
# 2 GiB of disk, a core and a half.
soak:
	cargo build --release --locked --bin kvstore
	cargo run --release --locked -p tests --bin soak -- --minutes $(MINUTES)

# Twice the load that fits. Two minutes, both cores.
overload:
	cargo build --release --locked --bin kvstore
	cargo run --release --locked -p tests --bin overload

# Eventual keyspaces: each of five nodes alone for APART minutes, then kills, lost disks, old images and copied directories.
# A quarter of an hour with the build, both cores at little load.
eventual:
	cargo build --release --locked --bin kvstore
	cargo run --release --locked -p tests --bin eventual -- --minutes $(APART)

# Puts and gets of an eventual keyspace beside a linearizable one and a server that does nothing. Three minutes, both
# cores.
ratios:
	cargo build --release --locked --bin kvstore
	cargo run --release --locked -p tests --bin ratios

# Memory, restarts, a lost node, the exactly-once table. Ten minutes, both cores, 10 GiB of disk.
limits:
	cargo build --release --locked --bin kvstore
	cargo run --release --locked -p tests --bin limits

# Licences and advisories; needs cargo-deny and its advisory data.
licences:
	cargo deny --locked check
