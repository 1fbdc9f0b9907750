//! The causal models. The definition: for CC each read, for CM all reads of a process, must be
//! explained by an order of the causal past; for CCv one order of all writes explains all reads.

use jepsen::checker::{CausalChecker, Strength};
use jepsen::{Function, Operation, Outcome};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::causal_store::{Store, disturb};
use crate::script::{STEP_NS, history};
use crate::trial::{compare, invalid, planted, unknown, valid};

const CC: CausalChecker = CausalChecker { strength: Strength::Consistency };
const CCV: CausalChecker = CausalChecker { strength: Strength::Convergence };
const CM: CausalChecker = CausalChecker { strength: Strength::Memory };

/// What happened, and for each pair whether one comes causally before the other.
struct Past<'h> {
    operations: Vec<&'h Operation>,
    before: Vec<Vec<bool>>,
}

impl<'h> Past<'h> {
    /// `None` if a value was read that nobody wrote, or if causal order has a cycle.
    fn new(history: &'h [Operation]) -> Option<Self> {
        let read = |write: &Operation| {
            history.iter().any(|operation| {
                operation.function == Function::Read
                    && operation.outcome == Outcome::Ok
                    && (&operation.key, &operation.value) == (&write.key, &write.value)
            })
        };
        let happened = |operation: &&Operation| match operation.outcome {
            Outcome::Ok => true,
            Outcome::Info => operation.function == Function::Write && read(operation),
            Outcome::Fail => false,
        };
        let operations: Vec<&Operation> = history.iter().filter(happened).collect();
        let count = operations.len();
        let mut before = vec![vec![false; count]; count];
        for (one, first) in operations.iter().enumerate() {
            for (two, second) in operations.iter().enumerate() {
                let process = first.process == second.process && first.invoke_ns < second.invoke_ns;
                let wrote = first.function == Function::Write
                    && second.function == Function::Read
                    && (&first.key, &first.value) == (&second.key, &second.value);
                before[one][two] = process || wrote;
            }
        }
        for middle in 0..count {
            for one in 0..count {
                for two in 0..count {
                    before[one][two] |= before[one][middle] && before[middle][two];
                }
            }
        }
        let explained = |read: &&Operation| {
            read.function == Function::Write
                || read.value.is_none()
                || operations.iter().any(|write| {
                    write.function == Function::Write
                        && (&write.key, &write.value) == (&read.key, &read.value)
                })
        };
        let good = operations.iter().all(explained) && (0..count).all(|one| !before[one][one]);
        good.then_some(Self { operations, before })
    }

    /// Whether some order of `open` gives each of the reads `checked` its value.
    fn explains(&self, open: &[usize], checked: &[usize], done: &mut Vec<usize>) -> bool {
        if open.is_empty() {
            return true;
        }
        open.iter().any(|&next| {
            let free = open.iter().all(|&other| !self.before[other][next]);
            if !free || (checked.contains(&next) && !self.returns(next, done.iter().rev())) {
                return false;
            }
            let rest: Vec<usize> = open.iter().copied().filter(|&other| other != next).collect();
            done.push(next);
            let found = self.explains(&rest, checked, done);
            done.pop();
            found
        })
    }

    /// Whether a read returns what the first write of its key in `newest_first` wrote.
    fn returns<'p>(&self, read: usize, mut newest_first: impl Iterator<Item = &'p usize>) -> bool {
        let read = self.operations[read];
        let write = newest_first.find(|&&other| {
            let other = self.operations[other];
            other.function == Function::Write && other.key == read.key
        });
        write.and_then(|&write| self.operations[write].value.as_ref()) == read.value.as_ref()
    }

    fn past_with(&self, last: usize) -> Vec<usize> {
        let counts = |&other: &usize| other == last || self.before[other][last];
        (0..self.operations.len()).filter(counts).collect()
    }

    fn is_read(&self, operation: usize) -> bool {
        self.operations[operation].function == Function::Read
    }

    fn convergent(&self, open: &[usize], order: &mut Vec<usize>) -> bool {
        if open.is_empty() {
            return (0..self.operations.len()).filter(|&read| self.is_read(read)).all(|read| {
                self.returns(read, order.iter().rev().filter(|&&other| self.before[other][read]))
            });
        }
        open.iter().any(|&next| {
            if open.iter().any(|&other| self.before[other][next]) {
                return false;
            }
            let rest: Vec<usize> = open.iter().copied().filter(|&other| other != next).collect();
            order.push(next);
            let found = self.convergent(&rest, order);
            order.pop();
            found
        })
    }
}

fn cc(history: &[Operation]) -> bool {
    Past::new(history).is_some_and(|past| {
        (0..past.operations.len())
            .filter(|&read| past.is_read(read))
            .all(|read| past.explains(&past.past_with(read), &[read], &mut Vec::new()))
    })
}

fn ccv(history: &[Operation]) -> bool {
    Past::new(history).is_some_and(|past| {
        let all: Vec<usize> = (0..past.operations.len()).collect();
        past.convergent(&all, &mut Vec::new())
    })
}

fn cm(history: &[Operation]) -> bool {
    Past::new(history).is_some_and(|past| {
        (0..past.operations.len()).all(|last| {
            let process = past.operations[last].process;
            let open = past.past_with(last);
            let own =
                |&read: &usize| past.is_read(read) && past.operations[read].process == process;
            let checked: Vec<usize> = open.iter().copied().filter(own).collect();
            past.explains(&open, &checked, &mut Vec::new())
        })
    })
}

fn tiny(rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let store = Store {
        processes: rng.random_range(2..=4),
        keys: rng.random_range(1..=2),
        operations: rng.random_range(5..=10),
        single_writer: false,
        converges: rng.random_bool(0.5),
        crashes: 60,
    };
    let mut history = store.run(rng);
    let times = rng.random_range(0..=3);
    disturb(&mut history, rng, times);
    if rng.random_ratio(1, 30) {
        let place = rng.random_range(0..history.len());
        history[place].outcome = Outcome::Fail;
    }
    history
}

#[test]
fn consistency_agrees_with_its_definition() {
    compare(&CC, tiny, cc);
}

#[test]
fn convergence_agrees_with_its_definition() {
    compare(&CCV, tiny, ccv);
}

#[test]
fn memory_agrees_with_its_definition() {
    compare(&CM, tiny, cm);
}

/// A history of two hundred operations; a violation is put in anywhere.
fn larger(rng: &mut ChaCha8Rng, converges: bool, violation: Option<&str>) -> Vec<Operation> {
    let store = Store {
        processes: 5,
        keys: 4,
        operations: 200,
        single_writer: false,
        converges,
        crashes: 5,
    };
    let mut base = store.run(rng);
    let Some(script) = violation else { return base };
    let at = rng.random_range(0..base.len() as u64) * STEP_NS;
    let mut added = history(script);
    let shift = added.len() as u64 * STEP_NS;
    for operation in base.iter_mut().filter(|operation| operation.invoke_ns >= at) {
        operation.invoke_ns += shift;
        operation.return_ns = operation.return_ns.map(|time| time + shift);
    }
    // The planted operations belong to clients that crash nowhere else.
    let crashed: Vec<u64> = base
        .iter()
        .filter(|operation| operation.outcome == Outcome::Info)
        .map(|operation| operation.process)
        .collect();
    for operation in &mut added {
        operation.invoke_ns += at;
        operation.return_ns = operation.return_ns.map(|time| time + at);
        if crashed.contains(&operation.process) {
            operation.process += 1_000;
        }
    }
    base.extend(added);
    base
}

const STALE: &str = "0 w 0 a
    0 w 1 c
    0 w 0 b
    1 r 0 b
    1 w 2 d
    2 r 2 d
    2 r 0 a";
const DIVERGENT: &str = "0 w 0 a
    1 w 0 b
    0 r 0 b
    1 r 0 a";
const BACK: &str = "0 w 0 a
    1 w 0 b
    1 r 0 a
    1 r 0 b";

#[test]
fn planted_violations_are_found() {
    planted(&CC, |rng, bad| larger(rng, rng.clone().random(), bad.then_some(STALE)));
    planted(&CCV, |rng, bad| larger(rng, true, bad.then_some(DIVERGENT)));
    planted(&CM, |rng, bad| larger(rng, false, bad.then_some(BACK)));
}

#[test]
fn anomalies_have_their_sentences() {
    invalid(
        &CC,
        &history(STALE),
        "returned what was overwritten in its causal past: write 0 \"b\"",
    );
    invalid(&CC, &history("0 w x 1 \n 1 r x 1 \n 1 r x -"), "returned absence although it came");
    invalid(&CC, &history("0 r x 1 \n 0 w x 1"), "has a cycle: ");
    invalid(&CC, &history("0 r x 1"), "returned a value that no operation wrote");
    invalid(&CC, &history("0 w x 1 fail \n 1 r x 1"), "what a failed write left: write x \"1\"");
    valid(&CC, &history(DIVERGENT));
    valid(&CM, &history(DIVERGENT));
    invalid(
        &CCV,
        &history(DIVERGENT),
        "write 0 \"a\" [ok of process 0, 0.000000 ms to 0.000005 ms] \
        was overwritten by write 0 \"b\"",
    );
    valid(&CC, &history(BACK));
    invalid(&CM, &history(BACK), "no order of what process 1 knew explains all its reads: ");
    valid(&CM, &history("0 w x 1 info \n 1 r x 1 \n 2 r x -"));
}

#[test]
fn what_cannot_be_told_apart_is_not_judged() {
    unknown(&CC, &history("0 w x 1 \n 1 w x 1"), "is written more than once");
    unknown(&CC, &history("0 del x -"), "the model knows no such operation");
}

/// The last read puts y 1 before y 2, which was known before x was read: so x 1 was known as well.
#[test]
fn later_reads_bear_on_earlier_ones() {
    let script = "0 w x 2 \n 0 w x 1 \n 0 w y 1 \n 0 w z 1 \n 1 w y 2
        2 r y 2 \n 2 r x 2 \n 2 r z 1 \n 2 r y 2";
    let all = history(script);
    assert!(cc(&all) && !cm(&all));
    valid(&CC, &all);
    invalid(&CM, &all, "no order of what process 2 knew explains all its reads");
    valid(&CM, &all[..8]);
}

/// The parts that are reported stay small in long histories.
#[test]
fn a_violation_is_small() {
    use rand::SeedableRng;
    for (checker, script, most) in [(CC, STALE, 7), (CCV, DIVERGENT, 4), (CM, BACK, 4)] {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let history = larger(&mut rng, checker.strength != Strength::Memory, Some(script));
        let jepsen::Verdict::Invalid(violation) = jepsen::Checker::check(&checker, &history) else {
            panic!("a planted violation is found");
        };
        assert!(violation.operations.len() <= 2 * most, "{}", violation.explanation);
    }
}
