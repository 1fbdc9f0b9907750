//! Measures the register checker on simulated histories: `cargo run --release -p jepsen --example
//! checker_speed`.

use std::time::{Duration, Instant};

use jepsen::checker::register::RegisterChecker;
use jepsen::simulated::{Flaw, Simulation, Values};
use jepsen::{Checker, Verdict};

fn main() {
    let unique = Simulation::default();
    let few = Simulation { values: Values::Few(5), cas: 20, ..unique };
    let crashing = Simulation { crashes: 5, flaw: Flaw::StaleReads(10), ..unique };
    let cases = [
        ("unique, 1 key, 5 clients", Simulation { operations: 10_000, ..unique }),
        ("unique, 1 key, 5 clients", Simulation { operations: 100_000, ..unique }),
        ("unique, 1 key, 5 clients", Simulation { operations: 1_000_000, ..unique }),
        ("unique, 100 a key", Simulation { operations: 1_000_000, keys: 10_000, ..unique }),
        ("unique, 1 key, 20 clients", Simulation { operations: 2_000, clients: 20, ..unique }),
        (
            "unique and deletes, 5 clients",
            Simulation { operations: 100_000, deletes: 10, ..unique },
        ),
        ("5 values, 20 % cas, 5 clients", Simulation { operations: 30_000, ..few }),
        ("5 values, 20 % cas, 20 clients", Simulation { operations: 2_000, clients: 20, ..few }),
        ("unique, 5 % crashed, bad", Simulation { operations: 1_600, ..crashing }),
        ("5 values, 20 % cas, 5 % crashed", Simulation { operations: 1_831, crashes: 5, ..few }),
    ];
    println!("{:34} {:>10} {:>12} {:>8}", "history", "operations", "ms (best)", "verdict");
    for (name, simulation) in cases {
        let history = simulation.run();
        let mut best = Duration::MAX;
        let mut verdict = Verdict::Valid;
        let begin = Instant::now();
        // At least once, then again while it is quick.
        while best == Duration::MAX || begin.elapsed() < Duration::from_secs(1) {
            let start = Instant::now();
            verdict = RegisterChecker::default().check(&history);
            best = best.min(start.elapsed());
        }
        let ms = best.as_secs_f64() * 1e3;
        println!("{name:34} {:>10} {ms:>12.3} {:>8}", history.len(), verdict.as_str());
    }
}
