//! Bugs around the simulated node.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use tests::sim::{self, Mutant, Plan};

use super::table::{Finding, Row, Table};

/// Kinds of violations by words that name them, and the check that found them; the first one counts.
const CHECKS: [(&str, &str); 19] = [
    ("panicked", "assertion in the node"),
    ("show different states", "states at equal index"),
    ("counts voters", "voters at equal index"),
    ("commits another entry", "one committed entry an index"),
    ("both lead in term", "one leader a term"),
    ("was removed, and leads", "no removed leader"),
    (" fell from ", "positions never fall"),
    ("knows ", "positions and votes"),
    ("never committed", "log of what was committed"),
    ("no convergence", "convergence after the faults"),
    ("is repaired up to", "what a repair owes"),
    ("is damaged, and no fault did it", "damage without a cause"),
    ("does not start", "every node starts"),
    ("cannot go on", "every node goes on"),
    ("bytes are allowed", "bound of the log"),
    ("although operation", "real time"),
    ("the log shows", "reads against the log"),
    ("the log says", "answers against the log"),
    ("acknowledged, but not in the log", "acknowledged writes in the log"),
];

/// Searches for every bug that is wanted, then runs the seeds that found one without it.
pub fn search(seeds: u64, threads: usize, wanted: impl Fn(&str) -> bool, table: &mut Table) {
    let wanted: Vec<Mutant> =
        Mutant::ALL.into_iter().filter(|mutant| wanted(&mutant.to_string())).collect();
    let searched = in_parallel(threads, &wanted, |mutant| look_for(*mutant, seeds));
    let clean: BTreeSet<u64> = searched.iter().filter_map(|(_, seed)| *seed).collect();
    let clean: Vec<u64> = clean.into_iter().collect();
    let controls = in_parallel(threads, &clean, |seed| sim::run(Plan::new(*seed)));
    table.controls += controls.len();
    for outcome in controls {
        if let Some(violation) = outcome.violations.first() {
            table.false_alarms.push(format!("seed {}: {violation}", outcome.seed));
        }
    }
    table.simulation = searched.into_iter().map(|(row, _)| row).collect();
}

/// Runs seeds with one bug until it is found. Returns the row, and the seed.
fn look_for(mutant: Mutant, seeds: u64) -> (Row, Option<u64>) {
    let mut operations = 0;
    let mut found = (Err(format!("in {seeds} seeds")), None);
    for seed in 0..seeds {
        let outcome = sim::run(Plan { mutant: Some(mutant), ..Plan::new(seed) });
        operations += outcome.counters.operations;
        if let Some(violation) = outcome.violations.first() {
            eprintln!("{mutant}: seed {seed}: {}", violation.chars().take(160).collect::<String>());
            let check = check(violation).to_owned();
            found = (Ok(Finding { by: seed.to_string(), operations, check }), Some(seed));
            break;
        }
    }
    let (found, seed) = found;
    let bug = mutant.to_string();
    (Row { bug, catalogue: mutant.catalogue(), about: mutant.about(), found }, seed)
}

/// The check that found a violation.
fn check(violation: &str) -> &'static str {
    let known = CHECKS.iter().find(|(words, _)| violation.contains(words));
    known.map_or("another check", |(_, check)| check)
}

/// Does the same with all of these, on several threads; results come in the same order.
fn in_parallel<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        while let Some((number, item)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            items.get(number).map(|item| (number, item))
        } {
            done.push((number, work(item)));
        }
        done
    };
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(run)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a seed panicked")).collect()
    });
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}
