//! Lists. The definition: some order of the transactions that took place, on real lists, gives
//! each read what it returned; in the stricter models it respects processes or real time.

use std::collections::BTreeMap;

use jepsen::checker::{ListAppendChecker, Respects};
use jepsen::{Call, Function, Operation, Outcome, Value};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::script::STEP_NS;
use crate::trial::{HISTORIES, compare_some, invalid, planted, unknown, valid};

const LISTS: ListAppendChecker = ListAppendChecker { respects: Respects::Nothing };
const PROCESS: ListAppendChecker = ListAppendChecker { respects: Respects::Processes };
const STRICT: ListAppendChecker = ListAppendChecker { respects: Respects::RealTime };

/// Transactions one a line: process, then `a:key:element` or `r:key:[1,2]`, then `info`, `fail`,
/// `from=` and `to=`.
fn txns(script: &str) -> Vec<Operation> {
    let lines = script.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .zip(0_u64..)
        .map(|(line, number)| {
            let mut words = line.split_whitespace();
            let process = words.next().unwrap().parse().unwrap();
            let mut txn = txn(process, number * STEP_NS, Vec::new());
            let mut steps = Vec::new();
            for word in words {
                let parts: Vec<&str> = word.splitn(3, ':').collect();
                match (parts[0].split_once('='), parts[0]) {
                    (Some(("from", time)), _) => txn.invoke_ns = time.parse().unwrap(),
                    (Some(("to", time)), _) => txn.return_ns = Some(time.parse().unwrap()),
                    (_, "info") => txn.outcome = Outcome::Info,
                    (_, "fail") => txn.outcome = Outcome::Fail,
                    (_, "a") => steps.push(("append", parts[1], Some(parts[2].into()))),
                    (_, "r") => steps.push(("r", parts[1], crate::script::value(parts[2]))),
                    other => panic!("{other:?}"),
                }
            }
            let steps = steps.into_iter().map(|(f, key, value)| micro(f, key, value));
            txn.value = Some(Value::List(steps.collect()));
            txn
        })
        .collect()
}

fn micro(function: &str, key: &str, value: Option<Value>) -> Option<Value> {
    Some(Value::List(vec![Some(function.into()), Some(key.into()), value]))
}

fn txn(process: u64, time: u64, steps: Vec<Option<Value>>) -> Operation {
    let value = Some(Value::List(steps));
    let call = Call { key: String::new(), function: Function::Txn, value, expected: None };
    let mut operation = Operation::invoked(process, call, time);
    operation.return_ns = Some(time + STEP_NS / 2);
    operation.outcome = Outcome::Ok;
    operation
}

fn steps(operation: &Operation) -> impl Iterator<Item = (&str, &str, Option<&Value>)> {
    operation.value.as_ref().unwrap().as_list().unwrap().iter().map(|step| {
        let step = step.as_ref().unwrap().as_list().unwrap();
        let text = |place: usize| step[place].as_ref().unwrap().as_text().unwrap();
        (text(0), text(1), step[2].as_ref())
    })
}

type Lists = BTreeMap<String, Vec<Option<Value>>>;

/// Runs a transaction; `None` if it cannot have read what it read.
fn run(operation: &Operation, mut lists: Lists) -> Option<Lists> {
    for (function, key, value) in steps(operation) {
        let list = lists.entry(key.to_owned()).or_default();
        if function == "append" {
            list.push(value.cloned());
        } else if operation.outcome == Outcome::Ok {
            let read = value.map_or(&[][..], |value| value.as_list().unwrap());
            if list != read {
                return None;
            }
        }
    }
    Some(lists)
}

fn serial(open: &[&Operation], lists: &Lists, respects: Respects) -> bool {
    if open.iter().all(|txn| txn.outcome == Outcome::Info) {
        return true;
    }
    open.iter().any(|next| {
        let must_wait = open.iter().any(|other| match respects {
            Respects::Nothing => false,
            Respects::Processes => {
                other.process == next.process && other.invoke_ns < next.invoke_ns
            }
            Respects::RealTime => {
                other.outcome == Outcome::Ok && other.return_ns.unwrap() < next.invoke_ns
            }
        });
        !must_wait
            && run(next, lists.clone()).is_some_and(|lists| {
                let rest: Vec<&Operation> =
                    open.iter().copied().filter(|other| *other != *next).collect();
                serial(&rest, &lists, respects)
            })
    })
}

/// Says nothing where no order exists but the reason may be in appends that nobody saw: their
/// order is open.
fn definition(history: &[Operation], respects: Respects) -> Option<bool> {
    let open: Vec<&Operation> = history.iter().filter(|txn| txn.outcome != Outcome::Fail).collect();
    if serial(&open, &Lists::new(), respects) {
        return Some(true);
    }
    let mut unseen: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (number, txn) in open.iter().enumerate() {
        for (_, key, value) in steps(txn).filter(|step| step.0 == "append") {
            let seen = open.iter().filter(|txn| txn.outcome == Outcome::Ok).any(|txn| {
                steps(txn).filter(|step| step.0 == "r" && step.1 == key).any(|(_, _, list)| {
                    list.is_some_and(|list| {
                        list.as_list().unwrap().iter().any(|e| e.as_ref() == value)
                    })
                })
            });
            let writers = unseen.entry(key).or_default();
            if !seen && !writers.contains(&number) {
                writers.push(number);
            }
        }
    }
    unseen.values().all(|writers| writers.len() < 2).then_some(false)
}

/// Transactions that run one after the other on real lists, each at a moment between its call and
/// its return, or at any moment; then some reads are disturbed.
struct Database {
    transactions: u64,
    processes: u64,
    keys: u64,
    steps: usize,
    crashes: u32,
    /// Whether moments lie between call and return.
    strict: bool,
}

impl Database {
    fn run(&self, rng: &mut ChaCha8Rng) -> Vec<Operation> {
        let mut free = vec![0_u64; self.processes as usize];
        let mut names: Vec<u64> = (0..self.processes).collect();
        let mut history: Vec<(u64, Operation)> = Vec::new();
        for number in 0..self.transactions {
            let process = rng.random_range(0..self.processes) as usize;
            let mut txn = txn(names[process], free[process], Vec::new());
            let moment = free[process] + rng.random_range(0..4);
            let end = moment + rng.random_range(0..4);
            txn.return_ns = Some(end);
            free[process] = end + rng.random_range(1..3);
            let steps = (0..rng.random_range(1..=self.steps)).map(|step| {
                let key = rng.random_range(0..self.keys).to_string();
                if rng.random_bool(0.5) {
                    let element = number * 10 + step as u64;
                    micro("append", &key, Some(Value::from(element as i64)))
                } else {
                    micro("r", &key, None)
                }
            });
            txn.value = Some(Value::List(steps.collect()));
            let mut at = moment;
            if !self.strict {
                at = rng.random_range(0..self.transactions * 2);
            }
            if rng.random_ratio(self.crashes, 100) {
                txn.outcome = if rng.random_bool(0.5) { Outcome::Fail } else { Outcome::Info };
                names[process] += self.processes;
                if txn.outcome == Outcome::Fail || rng.random_bool(0.5) {
                    at = u64::MAX;
                }
            }
            history.push((at, txn));
        }
        history.shuffle(rng);
        history.sort_by_key(|(at, _)| *at);
        let mut lists = Lists::new();
        for (at, txn) in &mut history {
            if *at < u64::MAX {
                execute(txn, &mut lists);
            }
        }
        history.into_iter().map(|(_, txn)| txn).collect()
    }
}

fn execute(txn: &mut Operation, lists: &mut Lists) {
    let Some(Value::List(steps)) = &mut txn.value else { unreachable!() };
    for step in steps.iter_mut() {
        let Some(Value::List(step)) = step else { unreachable!() };
        let list =
            lists.entry(step[1].as_ref().unwrap().as_text().unwrap().to_owned()).or_default();
        match step[0].as_ref().unwrap().as_text().unwrap() {
            "append" => list.push(step[2].clone()),
            _ if txn.outcome == Outcome::Ok => step[2] = Some(Value::List(list.clone())),
            _ => {}
        }
    }
}

/// Changes what one read returned.
fn disturb(history: &mut [Operation], rng: &mut ChaCha8Rng) {
    let place = rng.random_range(0..history.len());
    let any = rng.random_range(0..history.len() as i64 * 10);
    let ok = history[place].outcome == Outcome::Ok;
    let Some(Value::List(steps)) = &mut history[place].value else { unreachable!() };
    let number = rng.random_range(0..steps.len());
    let Some(Value::List(step)) = &mut steps[number] else { unreachable!() };
    let Some(Value::List(list)) = &mut step[2] else { return };
    if !ok || list.is_empty() {
        return;
    }
    match rng.random_range(0..10) {
        0 => list.push(Some(any.into())),
        1 => list.swap_remove(0).map_or((), drop),
        2 => list.reverse(),
        3 => history[rng.random_range(0..history.len())].outcome = Outcome::Fail,
        _ => list.pop().map_or((), drop),
    }
}

fn tiny(rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let database = Database {
        transactions: rng.random_range(3..=6),
        processes: rng.random_range(2..=3),
        keys: rng.random_range(1..=2),
        steps: 3,
        crashes: 10,
        strict: rng.random_bool(0.6),
    };
    let mut history = database.run(rng);
    for _ in 0..rng.random_range(0..=2) {
        disturb(&mut history, rng);
    }
    history
}

#[test]
fn lists_agree_with_their_definition() {
    for checker in [LISTS, PROCESS, STRICT] {
        compare_some(&checker, HISTORIES, tiny, |history| definition(history, checker.respects));
    }
}

fn larger(rng: &mut ChaCha8Rng, violation: Option<&str>) -> Vec<Operation> {
    let database =
        Database { transactions: 150, processes: 5, keys: 6, steps: 4, crashes: 4, strict: true };
    let mut history = database.run(rng);
    if let Some(script) = violation {
        history.extend(txns(script).into_iter().map(|mut txn| {
            txn.process += 1_000;
            txn
        }));
    }
    history
}

const ANOMALIES: [(&str, &str); 16] = [
    ("0 a:x:a a:x:b r:x:[a]", "internal: txn"),
    ("0 r:x:[] r:x:[a] \n 1 a:x:a", "reads something else than what it read and appended"),
    ("0 r:x:[a] a:x:a", "reads what it only appends later"),
    ("0 r:x:[a,a] \n 1 a:x:a", "duplicate elements: "),
    ("0 r:x:[a]", "which nobody appended"),
    ("0 r:x:[a] \n 1 a:x:a fail", "aborted read (G1a): "),
    ("0 r:x:[a,b] \n 1 a:x:a fail \n 2 a:x:b", "dirty update: "),
    ("0 r:x:[a] \n 1 a:x:a a:x:b", "intermediate read (G1b): "),
    ("0 r:x:[a] \n 1 a:x:a \n 2 a:x:b \n 3 r:x:[b]", "incompatible orders: "),
    ("0 a:x:a a:x:b \n 1 r:x:[b,a]", "intermediate read (G1b): "),
    ("0 a:x:a a:x:b a:x:c \n 1 r:x:[b,a,c]", "wrong order: "),
    (
        "0 a:x:a a:y:a \n 1 a:x:b a:y:b \n 2 r:x:[a,b] r:y:[b,a]",
        "G0: T1 (of process 0, called at 0 ns), T2 (of process 1, called at 10 ns): T1 appended \"a\" \
         to key \"x\" before T2 appended \"b\"; T2 appended \"b\" to key \"y\" before T1 appended \"a\"",
    ),
    ("0 a:x:a r:y:[a] \n 1 a:y:a r:x:[a]", "G1c: T1"),
    ("0 r:x:[] r:y:[a] \n 1 a:x:a a:y:a", "T1 did not see \"a\" in key \"x\", which T2 appended"),
    ("0 r:x:[] a:x:a \n 1 r:x:[] a:x:b \n 2 r:x:[a,b]", "lost update (G-single): "),
    ("0 r:x:[] a:y:a \n 1 r:y:[] a:x:a", "G2-item: "),
];

#[test]
fn anomalies_have_their_sentences() {
    for (script, sentence) in ANOMALIES {
        invalid(&LISTS, &txns(script), sentence);
    }
    let stale = "0 a:x:a \n 1 r:x:[]";
    valid(&LISTS, &txns(stale));
    valid(&PROCESS, &txns(stale));
    invalid(&STRICT, &txns(stale), "G-single-realtime: ");
    invalid(&STRICT, &txns(stale), "returned before T");
    let forgot = "0 a:x:a \n 0 r:x:[]";
    valid(&LISTS, &txns(forgot));
    invalid(&PROCESS, &txns(forgot), "G-single-process: ");
    // Neither saw the other's append, and nobody saw any: whichever came first is missed.
    invalid(&LISTS, &txns("0 r:x:[] a:x:a \n 1 r:x:[] a:x:b"), "G2-item: ");
    // Two appends that nobody saw come in either order, but after what was seen.
    valid(&STRICT, &txns("0 a:x:a from=0 to=9 \n 1 a:x:b from=0 to=9 \n 2 r:x:[] from=0 to=9"));
    let after =
        "0 a:x:a \n 1 a:x:b from=11 to=50 \n 3 a:x:c from=11 to=50 \n 2 r:x:[a] \n 4 a:y:1 r:x:[a]";
    valid(&STRICT, &txns(after));
    invalid(&STRICT, &txns(&format!("{after} \n 5 r:x:[a] from=60 to=70")), "G-single-realtime: ");
}

#[test]
fn planted_violations_are_found() {
    planted(&LISTS, |rng, bad| {
        let (script, _) = ANOMALIES[rng.clone().random_range(0..ANOMALIES.len())];
        larger(rng, bad.then_some(script))
    });
    planted(&PROCESS, |rng, bad| larger(rng, bad.then_some("0 a:x:a \n 0 r:x:[]")));
    planted(&STRICT, |rng, bad| larger(rng, bad.then_some("0 a:x:a \n 1 r:x:[]")));
}

#[test]
fn what_cannot_be_read_is_not_judged() {
    unknown(&LISTS, &txns("0 a:x:a \n 1 a:x:a"), "is appended twice");
    let mut writes = txns("0 a:x:a");
    writes[0].value = Some(Value::List(vec![micro("w", "x", Some("a".into()))]));
    unknown(&LISTS, &writes, "a micro-operation that the model does not know");
    writes[0].function = Function::Write;
    unknown(&LISTS, &writes, "the model knows no such operation");
}
