//! Sets, counters and banks.
//!
//! The definitions: for `set-full` some order of the operations explains all reads; for `set` the
//! rules, in plain loops; for counters the sums of all subsets of what may have been added; for
//! banks every two reads.

use std::collections::BTreeMap;

use jepsen::checker::{BankChecker, CounterChecker, SetChecker};
use jepsen::{Call, Function, Operation, Outcome, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::script::history;
use crate::trial::{HISTORIES, compare, compare_some, invalid, planted, unknown, valid};

const SET: SetChecker = SetChecker { linearizable: false };
const FULL: SetChecker = SetChecker { linearizable: true };
const BANK: BankChecker = BankChecker { total: None, overdrafts: false };

fn shown(read: &Operation) -> Vec<&Value> {
    let list = read.value.as_ref().and_then(Value::as_list).unwrap_or(&[]);
    list.iter().map(|value| value.as_ref().unwrap()).collect()
}

fn is_read(operation: &Operation) -> bool {
    operation.function == Function::Read && operation.outcome == Outcome::Ok
}

fn reads(history: &[Operation]) -> impl Iterator<Item = &Operation> {
    history.iter().filter(|operation| is_read(operation))
}

/// Whether some order of what is open explains the reads.
fn linearizable(open: &[&Operation], set: &[&Value]) -> bool {
    if open.iter().all(|operation| operation.outcome == Outcome::Info) {
        return true;
    }
    open.iter().any(|next| {
        let must_wait = open
            .iter()
            .any(|other| other.outcome == Outcome::Ok && other.return_ns.unwrap() < next.invoke_ns);
        if must_wait {
            return false;
        }
        let mut set = set.to_vec();
        if is_read(next) {
            let mut shown = shown(next);
            shown.sort();
            set.sort();
            if shown != set {
                return false;
            }
        } else if next.function == Function::Add {
            set.push(next.value.as_ref().unwrap());
        }
        let rest: Vec<&Operation> = open.iter().copied().filter(|other| *other != *next).collect();
        linearizable(&rest, &set)
    })
}

fn full(history: &[Operation]) -> bool {
    let open: Vec<&Operation> = history.iter().filter(|one| one.outcome != Outcome::Fail).collect();
    linearizable(&open, &[])
}

fn not_lost(history: &[Operation]) -> bool {
    for read in reads(history) {
        let shown = shown(read);
        for (number, value) in shown.iter().enumerate() {
            let added = history.iter().any(|add| {
                add.function == Function::Add
                    && add.outcome != Outcome::Fail
                    && add.value.as_ref() == Some(*value)
                    && add.invoke_ns <= read.return_ns.unwrap()
            });
            if !added || shown[..number].contains(value) {
                return false;
            }
        }
    }
    for add in history.iter().filter(|add| add.function == Function::Add) {
        let value = add.value.as_ref().unwrap();
        let shows = |read: &Operation| shown(read).contains(&value);
        for read in reads(history).filter(|read| !shows(read)) {
            let before = |other: &Operation| other.return_ns.unwrap() < read.invoke_ns;
            let known = (add.outcome == Outcome::Ok && before(add))
                || reads(history).any(|other| shows(other) && before(other));
            if known && reads(history).filter(|other| shows(other)).all(before) {
                return false;
            }
        }
    }
    true
}

/// Operations at random times, ordered by a moment between call and return.
fn timed(rng: &mut ChaCha8Rng, count: u64, span: u64, crashes: u32) -> Vec<(u64, Operation)> {
    let mut all: Vec<(u64, Operation)> = (0..count)
        .map(|process| {
            let call = rng.random_range(0..span);
            let moment = call + rng.random_range(0..4);
            let mut operation = Operation::invoked(process, Call::read("k"), call);
            operation.return_ns = Some(moment + rng.random_range(0..4));
            operation.outcome = Outcome::Ok;
            if rng.random_ratio(crashes, 100) {
                operation.outcome =
                    if rng.random_bool(0.6) { Outcome::Info } else { Outcome::Fail };
            }
            (moment, operation)
        })
        .collect();
    all.sort_by_key(|(moment, _)| *moment);
    all
}

fn sets(rng: &mut ChaCha8Rng, count: u64, span: u64, crashes: u32) -> Vec<Operation> {
    let mut set: Vec<Option<Value>> = Vec::new();
    let mut history: Vec<Operation> = Vec::new();
    for (number, (_, mut operation)) in timed(rng, count, span, crashes).into_iter().enumerate() {
        if rng.random_bool(0.5) {
            let value = Value::from(number as i64);
            operation.function = Function::Add;
            operation.value = Some(value.clone());
            let happens = match operation.outcome {
                Outcome::Ok => true,
                Outcome::Info => rng.random_bool(0.5),
                Outcome::Fail => false,
            };
            if happens {
                set.insert(rng.random_range(0..=set.len()), Some(value));
            }
        } else if operation.outcome == Outcome::Ok {
            operation.value = Some(Value::List(set.clone()));
        }
        history.push(operation);
    }
    // Somebody reads, so that there is something to judge.
    let mut last = Operation::invoked(count, Call::read("k"), span + 8);
    last.return_ns = Some(span + 9);
    last.outcome = Outcome::Ok;
    last.value = Some(Value::List(set));
    history.push(last);
    history
}

fn disturb_set(history: &mut [Operation], rng: &mut ChaCha8Rng) {
    let place = rng.random_range(0..history.len());
    let any = rng.random_range(0..history.len()) as i64;
    let Some(Value::List(list)) = &mut history[place].value else { return };
    match rng.random_range(0..6) {
        0 => list.push(Some(any.into())),
        1 => history[place].outcome = Outcome::Ok,
        _ if list.is_empty() => {}
        _ => drop(list.swap_remove(rng.random_range(0..list.len()))),
    }
}

fn tiny_set(rng: &mut ChaCha8Rng) -> Vec<Operation> {
    let span = rng.random_range(4..20);
    let count = rng.random_range(3..=7);
    let mut history = sets(rng, count, span, 20);
    if rng.random() && reads(&history).count() > 1 {
        history.pop();
    }
    for _ in 0..rng.random_range(0..=2) {
        disturb_set(&mut history, rng);
    }
    history
}

#[test]
fn sets_agree_with_their_definitions() {
    compare(&SET, tiny_set, not_lost);
    compare(&FULL, tiny_set, full);
}

const ADDED: &str = "0 add k a \n 1 add k b";

#[test]
fn set_anomalies_have_their_sentences() {
    let with = |more: &str| history(&format!("{ADDED} \n {more}"));
    for checker in [SET, FULL] {
        valid(&checker, &with("2 r k [b,a]"));
        invalid(&checker, &with("2 r k [a]"), "set \"k\": lost: read k -> [\"a\"]");
        invalid(&checker, &with("2 r k [a,b,a]"), "duplicated: ");
        invalid(&checker, &with("2 r k [a,b,c]"), "which nobody added");
        invalid(&checker, &with("2 r k [a,b,c] \n 3 add k c"), "was added only later");
        invalid(&checker, &with("3 add k c fail \n 2 r k [a,b,c]"), "what a failed add left");
        valid(&checker, &with("3 add k c info \n 2 r k [a,b] \n 2 r k [a,b,c]"));
        invalid(&checker, &with("3 add k c info \n 2 r k [a,b,c] \n 2 r k [a,b]"), "lost: ");
        unknown(&checker, &with(""), "is never read");
        unknown(&checker, &with("2 add k a \n 2 r k [a,b]"), "is added twice");
        unknown(&checker, &with("2 w k a"), "the model knows no such operation");
    }
    let stale = with("2 r k [a] \n 2 r k [a,b]");
    valid(&SET, &stale);
    invalid(&FULL, &stale, "stale: read k -> [\"a\"]");
    let fork = history(
        "0 add k a from=0 to=90 \n 1 add k b from=0 to=90 \n 2 r k [a] from=5 to=50 \n 3 r k [b] from=5 to=50",
    );
    invalid(&FULL, &fork, "neither of two reads shows all that the other does");
    let skipped =
        history("0 add k a from=5 to=10 \n 1 add k b from=20 to=30 \n 2 r k [b] from=0 to=50");
    invalid(&FULL, &skipped, "the reads show that add k \"a\"");
}

#[test]
fn planted_losses_are_found() {
    for checker in [SET, FULL] {
        planted(&checker, |rng, bad| {
            let mut history = sets(rng, 80, 300, 10);
            if bad {
                // The last read misses something that it should show.
                let added =
                    |one: &&Operation| one.function == Function::Add && one.outcome == Outcome::Ok;
                let added: Vec<&Operation> = history.iter().filter(added).collect();
                let value = added[rng.random_range(0..added.len())].value.clone();
                let last = history.last_mut().unwrap();
                let Some(Value::List(list)) = &mut last.value else { unreachable!() };
                list.retain(|element| *element != value);
            }
            history
        });
    }
}

fn counters(rng: &mut ChaCha8Rng, count: u64, span: u64) -> Vec<Operation> {
    let mut sum = 0;
    let all = timed(rng, count, span, 15).into_iter().map(|(_, mut operation)| {
        if rng.random_bool(0.6) {
            let number = rng.random_range(-3..=6);
            operation.function = Function::Add;
            operation.value = Some(Value::from(number));
            if operation.outcome == Outcome::Ok
                || (operation.outcome == Outcome::Info && rng.random_bool(0.5))
            {
                sum += number;
            }
        } else if operation.outcome == Outcome::Ok {
            operation.value = (sum != 0).then(|| Value::from(sum));
        }
        operation
    });
    all.collect()
}

fn within_bounds(history: &[Operation]) -> bool {
    let number = |one: &Operation| one.value.as_ref().map_or(0, |v| v.as_number().unwrap());
    reads(history).all(|read| {
        let adds = || {
            history.iter().filter(|add| {
                add.function == Function::Add
                    && add.outcome != Outcome::Fail
                    && add.invoke_ns <= read.return_ns.unwrap()
            })
        };
        let certain = |add: &&Operation| {
            add.outcome == Outcome::Ok && add.return_ns.unwrap() < read.invoke_ns
        };
        let base: i64 = adds().filter(certain).map(number).sum();
        let open: Vec<i64> = adds().filter(|add| !certain(add)).map(number).collect();
        let sums: Vec<i64> = (0..1_u32 << open.len())
            .map(|subset| {
                let chosen = open.iter().enumerate().filter(|(bit, _)| subset >> bit & 1 == 1);
                base + chosen.map(|(_, number)| number).sum::<i64>()
            })
            .collect();
        (*sums.iter().min().unwrap()..=*sums.iter().max().unwrap()).contains(&number(read))
    })
}

fn nudge(history: &mut [Operation], rng: &mut ChaCha8Rng) {
    let place = rng.random_range(0..history.len());
    let read = &mut history[place];
    if is_read(read) {
        let now = read.value.as_ref().map_or(0, |value| value.as_number().unwrap());
        read.value = Some(Value::from(now + rng.random_range(-9..=9)));
    }
}

#[test]
fn counters_agree_with_their_definition() {
    let make = |rng: &mut ChaCha8Rng| {
        let span = rng.random_range(4..30);
        let mut history = counters(rng, 8, span);
        for _ in 0..rng.random_range(0..=3) {
            nudge(&mut history, rng);
        }
        history
    };
    compare_some(&CounterChecker, HISTORIES, make, |history| {
        reads(history).next().map(|_| within_bounds(history))
    });
}

#[test]
fn counters_out_of_bounds_are_found() {
    let adds = "0 add k 3 \n 1 add k 4 info \n 2 add k -1 \n 3 add k 9 fail";
    let with = |more: &str| history(&format!("{adds} \n {more}"));
    valid(&CounterChecker, &with("4 r k 2 \n 4 r k 6 \n 4 r k 4"));
    invalid(&CounterChecker, &with("4 r k 7"), "but at most 6 can have been added");
    invalid(&CounterChecker, &with("4 r k 1"), "but at least 2 can have been added");
    unknown(&CounterChecker, &with("4 r k x"), "no whole number");
    unknown(&CounterChecker, &history("0 add k 1"), "the counter \"k\" is never read");
    planted(&CounterChecker, |rng, bad| {
        let mut history = counters(rng, 200, 1_000);
        if bad {
            let place = history.len() / 2;
            history[place].function = Function::Read;
            history[place].outcome = Outcome::Ok;
            history[place].value = Some(Value::from(if rng.random() { 5_000 } else { -5_000 }));
        }
        history
    });
}

fn bank(rng: &mut ChaCha8Rng, count: u64) -> Vec<Operation> {
    let mut balances = [10, 10, 10];
    let all = timed(rng, count, count * 3, 10).into_iter().map(|(_, mut operation)| {
        let (from, to) = (rng.random_range(0..3), rng.random_range(0..3));
        let amount = rng.random_range(0..=balances[from]);
        if rng.random_bool(0.5) {
            operation.function = Function::Transfer;
            operation.value =
                Some(map(&[("from", from as i64), ("to", to as i64), ("amount", amount)]));
            if operation.outcome == Outcome::Ok {
                balances[from] -= amount;
                balances[to] += amount;
            }
        } else if operation.outcome == Outcome::Ok {
            operation.value =
                Some(map(&[("a", balances[0]), ("b", balances[1]), ("c", balances[2])]));
        }
        operation
    });
    all.collect()
}

fn map(entries: &[(&str, i64)]) -> Value {
    let entries = entries.iter().map(|&(key, number)| (key.to_owned(), Some(Value::from(number))));
    Value::Map(entries.collect::<BTreeMap<_, _>>())
}

fn balances(read: &Operation) -> Vec<i64> {
    let map = read.value.as_ref().unwrap().as_map().unwrap();
    map.values().map(|balance| balance.as_ref().unwrap().as_number().unwrap()).collect()
}

fn balanced(history: &[Operation]) -> bool {
    let sum = |read: &Operation| balances(read).iter().sum::<i64>();
    reads(history).all(|one| {
        balances(one).iter().all(|&balance| balance >= 0)
            && reads(history).all(|other| sum(one) == sum(other))
    })
}

fn embezzle(history: &mut [Operation], rng: &mut ChaCha8Rng) {
    let place = rng.random_range(0..history.len());
    if is_read(&history[place]) {
        let mut balances = balances(&history[place]);
        balances[0] += rng.random_range(-12..=3);
        balances[1] += rng.random_range(0..=1);
        let named = [("a", balances[0]), ("b", balances[1]), ("c", balances[2])];
        history[place].value = Some(map(&named));
    }
}

#[test]
fn banks_agree_with_their_definition() {
    let make = |rng: &mut ChaCha8Rng| {
        let mut history = bank(rng, 8);
        for _ in 0..rng.random_range(0..=2) {
            embezzle(&mut history, rng);
        }
        history
    };
    compare_some(&BANK, HISTORIES, make, |history| {
        reads(history).next().map(|_| balanced(history))
    });
}

#[test]
fn wrong_balances_are_found() {
    let read = |entries: &[(&str, i64)]| {
        let mut read = history("0 r - -").swap_remove(0);
        read.value = Some(map(entries));
        read
    };
    let good = read(&[("a", 5), ("b", 5)]);
    let less = read(&[("a", 5), ("b", 4)]);
    let below = read(&[("a", -1), ("b", 11)]);
    let all = [good.clone(), less, good.clone()];
    invalid(&BANK, &all, "the balances add up to 9 in read");
    let given = BankChecker { total: Some(11), ..BANK };
    invalid(&given, &all[..1], "the balances add up to 10 instead of 11");
    invalid(&BANK, &[good.clone(), below.clone()], "account \"a\" has the balance -1");
    valid(&BankChecker { overdrafts: true, ..BANK }, &[good, below.clone()]);
    let mut absent = below;
    absent.value = Some(Value::Map(BTreeMap::from([("a".to_owned(), None)])));
    invalid(&BANK, &[absent.clone()], "account \"a\" has no balance");
    absent.value = Some("a".into());
    unknown(&BANK, &[absent], "not a map of whole numbers");
    let mut transfer = history("0 add - -").swap_remove(0);
    transfer.function = Function::Transfer;
    unknown(&BANK, &[transfer], "is never read");
    planted(&BANK, |rng, bad| {
        let mut history = bank(rng, 200);
        if bad {
            let reads = |one: &&mut Operation| is_read(one);
            let read = history.iter_mut().filter(reads).nth(7).unwrap();
            let balances = balances(read);
            read.value =
                Some(map(&[("a", balances[0] + 1), ("b", balances[1]), ("c", balances[2])]));
        }
        history
    });
}
