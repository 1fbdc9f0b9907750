//! Makes the histories in `testdata/`: `cargo run -p jepsen --example make_testdata`.
//!
//! Everything follows from the seeds that it prints. Verdicts are those of the simulation where it is
//! flawless, else of engines that share no code; tests compare them with porcupine.

use std::fs;
use std::path::Path;

use jepsen::checker::register::{Engine, RegisterChecker};
use jepsen::checker::{LinearizableChecker, ModelOptions, Sequential};
use jepsen::history::{write, write_edn};
use jepsen::simulated::{Flaw, Simulation, Values};
use jepsen::{Call, Checker, Function, Operation, Outcome, Verdict};

fn main() -> std::io::Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    fs::create_dir_all(&dir)?;
    let mut table = "file\tmodel\tverdict\tsource\n".to_owned();
    let mut add = |name: &str, model: &str, valid: bool, source: &str, file: Vec<u8>| {
        table.push_str(&format!("{name}\t{model}\t{valid}\t{source}\n"));
        fs::write(dir.join(name), file)
    };
    for seed in 1..=10 {
        let simulation = simulation(seed);
        let mut history = simulation.run();
        if simulation.keys == 1 {
            // A single register needs no name.
            history.iter_mut().for_each(|operation| operation.key.clear());
        }
        let valid = agreed(&history);
        assert!(valid || simulation.flaw != Flaw::None, "seed {seed}: a flawless run is valid");
        let keyed = simulation.keys > 1;
        let model = if keyed {
            "independent cas-registers ([key value]), initially absent"
        } else {
            "cas-register, initially absent"
        };
        let source = format!("simulated, seed {seed}, {:?}", simulation.flaw);
        println!("seed {seed}: {} operations, valid: {valid}", history.len());
        let mut file = Vec::new();
        if keyed || seed % 2 == 0 {
            write_edn(&mut file, &history)?;
            add(&format!("register-{seed:02}.edn"), model, valid, &source, file)?;
        } else {
            write(&mut file, &history)?;
            add(&format!("register-{seed:02}.jsonl"), model, valid, &source, file)?;
        }
    }
    for (name, lost) in [("strings-good.jsonl", false), ("strings-bad.jsonl", true)] {
        let history = strings(lost);
        let checker = LinearizableChecker::new(Sequential::Kv, &ModelOptions::default());
        assert_eq!(checker.check(&history).is_valid(), !lost, "{name}");
        let mut file = Vec::new();
        write(&mut file, &history)?;
        add(name, "kv get/put/append", !lost, "one client, by hand", file)?;
    }
    for (name, twice) in [("lock-good.jsonl", false), ("lock-bad.jsonl", true)] {
        let history = lock(twice);
        let mut file = Vec::new();
        write(&mut file, &history)?;
        add(name, "mutex", !twice, "two clients, by hand", file)?;
    }
    fs::write(dir.join("verdicts.tsv"), table)
}

fn simulation(seed: u64) -> Simulation {
    Simulation {
        seed,
        operations: 120,
        clients: 4,
        keys: if seed.is_multiple_of(5) { 3 } else { 1 },
        values: if seed.is_multiple_of(3) { Values::Unique } else { Values::Few(4) },
        cas: 20,
        crashes: 4,
        flaw: match seed % 4 {
            0 => Flaw::StaleReads(2),
            1 => Flaw::LostWrites(2),
            _ => Flaw::None,
        },
        ..Simulation::default()
    }
}

/// The verdict on which the engines agree.
fn agreed(history: &[Operation]) -> bool {
    let by = |engine| {
        let verdict = RegisterChecker { engine, ..RegisterChecker::default() }.check(history);
        assert!(!matches!(verdict, Verdict::Unknown { .. }), "{engine:?}: {verdict}");
        verdict.is_valid()
    };
    let valid = by(Engine::Frontier);
    assert_eq!(valid, by(Engine::Depth));
    valid
}

fn done(process: u64, key: &str, function: Function, value: Option<&str>, at: u64) -> Operation {
    let value = value.map(Into::into);
    let call = Call { key: key.to_owned(), function, value, expected: None };
    let mut operation = Operation::invoked(process, call, at);
    operation.return_ns = Some(at + 15);
    operation.outcome = Outcome::Ok;
    operation
}

/// One client appends and reads in turns; in the bad one an append is lost.
fn strings(lost: bool) -> Vec<Operation> {
    let mut held = String::new();
    let mut history = Vec::new();
    for number in 0..20_u64 {
        let text = format!("{number},");
        history.push(done(0, "s", Function::Append, Some(&text), 40 * number));
        if !(lost && number == 13) {
            held.push_str(&text);
        }
        history.push(done(0, "s", Function::Read, Some(&held), 40 * number + 20));
    }
    history
}

/// Two clients take a lock in turns; in the bad one both have it for a while.
fn lock(twice: bool) -> Vec<Operation> {
    let mut history = Vec::new();
    for turn in 0..10_u64 {
        let process = turn % 2;
        let early = if twice && turn == 7 { 25 } else { 0 };
        history.push(done(process, "l", Function::Acquire, None, 100 * turn + 30 - early * 3));
        history.push(done(process, "l", Function::Release, None, 100 * turn + 80));
    }
    history.sort_by_key(|operation| operation.invoke_ns);
    history
}
