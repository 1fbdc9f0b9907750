# Local checks. `make verify` never writes; CI runs the same.

SEEDS ?= 1000
FIRST ?= 0
KILLS ?= 30

.PHONY: verify fix format lint docs test sim mutants process failover licences

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

# Simulated clusters: make sim SEEDS=10000 FIRST=5000. About 20 seeds a second on two cores.
sim:
	cargo run --release --locked -p tests --bin sim -- --first $(FIRST) --seeds $(SEEDS)

# Plants each known bug and searches for it, at most 200 seeds each. Seconds, after the build.
mutants:
	cargo run --release --locked -p tests --bin sim -- --mutants

# Real processes under kill -9, judged by the lab. About a minute, after the build.
process:
	cargo test --release --locked -p tests --test process

# Kills the leader KILLS times and prints how long the next acknowledged write took. About a minute.
failover:
	cargo build --release --locked --bin kvstore
	cargo run --release --locked -p tests --bin failover -- --kills $(KILLS)

# Licences and advisories; needs cargo-deny and its advisory data.
licences:
	cargo deny --locked check
