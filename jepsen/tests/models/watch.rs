//! Watches. The definition: some way to give revisions to the writes with an unknown outcome makes
//! all that was told right, by the rules in plain loops.

use std::collections::BTreeMap;

use jepsen::checker::WatchChecker;
use jepsen::{Function, Operation, Outcome, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::script::{STEP_NS, history};
use crate::trial::{HISTORIES, compare_some, invalid, planted, unknown, valid};

type Event = (u64, String, Option<Value>);

fn events(delivery: &Operation) -> Vec<Event> {
    let list = delivery.value.as_ref().unwrap().as_list().unwrap();
    list.iter()
        .map(|event| {
            let event = event.as_ref().unwrap().as_map().unwrap();
            let text = |name: &str| event[name].as_ref().unwrap().as_text().unwrap();
            (text("rev").parse().unwrap(), text("key").to_owned(), event["value"].clone())
        })
        .collect()
}

fn told(events: &[Event]) -> Value {
    let event = |(revision, key, value): &Event| {
        Some(Value::Map(BTreeMap::from([
            ("key".to_owned(), Some(key.as_str().into())),
            ("rev".to_owned(), Some(Value::from(*revision as i64))),
            ("value".to_owned(), value.clone()),
        ])))
    };
    Value::List(events.iter().map(event).collect())
}

fn deliveries(history: &[Operation]) -> Vec<&Operation> {
    let mut all: Vec<&Operation> =
        history.iter().filter(|operation| operation.function == Function::Watch).collect();
    all.sort_by_key(|operation| operation.invoke_ns);
    all
}

fn right(history: &[Operation]) -> bool {
    let writes = |outcome: Outcome| {
        history.iter().filter(move |one| one.function != Function::Watch && one.outcome == outcome)
    };
    let log: Vec<Event> = writes(Outcome::Ok)
        .map(|write| (write.revision.unwrap(), write.key.clone(), write.value.clone()))
        .collect();
    let mut strange: Vec<Event> = Vec::new();
    for event in deliveries(history).into_iter().flat_map(events) {
        if !log.contains(&event) && !strange.contains(&event) {
            strange.push(event);
        }
    }
    let unknown: Vec<&Operation> = writes(Outcome::Info).collect();
    explained(history, &log, &strange, &unknown)
}

/// Tries all unknown writes for the first event that is not explained yet.
fn explained(
    history: &[Operation],
    log: &[Event],
    strange: &[Event],
    unknown: &[&Operation],
) -> bool {
    let Some((event, rest)) = strange.split_first() else {
        return ruled(history, log);
    };
    let first_told = deliveries(history).into_iter().filter(|one| events(one).contains(event));
    let first_told = first_told.map(|one| one.return_ns.unwrap()).min().unwrap();
    let taken = log.iter().any(|(revision, key, _)| (revision, key) == (&event.0, &event.1));
    (0..unknown.len()).any(|number| {
        let write = unknown[number];
        let fits = write.key == event.1 && write.value == event.2 && write.invoke_ns <= first_told;
        let mut left = unknown.to_vec();
        left.remove(number);
        let log = [log, std::slice::from_ref(event)].concat();
        fits && !taken && explained(history, &log, rest, &left)
    })
}

fn ruled(history: &[Operation], log: &[Event]) -> bool {
    let mut reached: BTreeMap<(u64, &str), u64> = BTreeMap::new();
    deliveries(history).into_iter().all(|delivery| {
        let after = delivery.at_revision.unwrap();
        let events = events(delivery);
        let watched = |event: &&Event| delivery.key.is_empty() || delivery.key == event.1;
        let last = events.last().map_or(after, |event| event.0);
        let watcher = (delivery.process, delivery.key.as_str());
        let before = reached.insert(watcher, last).unwrap_or(after);
        let ordered = events.windows(2).all(|pair| pair[0].0 <= pair[1].0);
        let once = (0..events.len()).all(|one| !events[..one].contains(&events[one]));
        let fresh =
            events.iter().all(|event| event.0 > after) && events.iter().all(|e| watched(&e));
        let complete = log
            .iter()
            .filter(watched)
            .all(|event| event.0 <= after || event.0 > last || events.contains(event));
        let no_jump = !log.iter().filter(watched).any(|event| event.0 > before && event.0 <= after);
        ordered && once && fresh && complete && no_jump
    })
}

/// Writes, and watchers that are told of them.
fn store(rng: &mut ChaCha8Rng, operations: usize, crashes: u32) -> Vec<Operation> {
    let mut log: Vec<Event> = Vec::new();
    let mut revision = 1;
    let mut reached = [1; 3];
    let mut history = history(&"0 r k -\n".repeat(operations));
    for (number, operation) in history.iter_mut().enumerate() {
        operation.key = rng.random_range(0..2).to_string();
        if rng.random_bool(0.5) {
            let delete = rng.random_ratio(1, 4);
            operation.process = 100 + number as u64;
            operation.function = if delete { Function::Delete } else { Function::Write };
            operation.value = (!delete).then(|| Value::from(number as i64));
            let lost = rng.random_ratio(crashes, 100);
            if !lost || rng.random() {
                revision += rng.random_range(1..=2);
                log.push((revision, operation.key.clone(), operation.value.clone()));
            }
            operation.outcome = if lost { Outcome::Info } else { Outcome::Ok };
            operation.revision = (!lost).then_some(revision);
            continue;
        }
        // Watchers 0 and 1 watch a key each, watcher 2 everything.
        let watcher = rng.random_range(0..3);
        operation.function = Function::Watch;
        operation.process = watcher as u64;
        operation.key = if watcher < 2 { watcher.to_string() } else { String::new() };
        let after = reached[watcher];
        operation.at_revision = Some(after);
        let open = log.iter().filter(|event| {
            event.0 > after && (operation.key.is_empty() || event.1 == operation.key)
        });
        let open: Vec<Event> = open.cloned().collect();
        let count = rng.random_range(0..=open.len());
        operation.value = Some(told(&open[..count]));
        if let Some(last) = open[..count].last() {
            reached[watcher] = last.0;
        } else if open.is_empty() && rng.random() {
            reached[watcher] = revision;
        }
    }
    history
}

fn disturb(history: &mut [Operation], rng: &mut ChaCha8Rng) {
    let watches: Vec<usize> =
        (0..history.len()).filter(|&place| history[place].function == Function::Watch).collect();
    if watches.is_empty() {
        return;
    }
    let delivery = &mut history[watches[rng.random_range(0..watches.len())]];
    let mut all = events(delivery);
    if rng.random_ratio(1, 5) {
        let after = delivery.at_revision.unwrap() + rng.random_range(0..3);
        delivery.at_revision = Some(after.saturating_sub(1));
    }
    if !all.is_empty() {
        let one = rng.random_range(0..all.len());
        match rng.random_range(0..6) {
            0 => drop(all.remove(one)),
            1 => all.push(all[one].clone()),
            2 => all[one].2 = Some(Value::from(rng.random_range(0..8))),
            3 => all.reverse(),
            4 => all[one].0 += 1,
            _ => all[one].2 = None,
        }
    }
    delivery.value = Some(told(&all));
}

#[test]
fn watches_agree_with_their_definition() {
    let make = |rng: &mut ChaCha8Rng| {
        let mut history = store(rng, 8, 20);
        for _ in 0..rng.random_range(0..=2) {
            disturb(&mut history, rng);
        }
        history
    };
    compare_some(&WatchChecker, HISTORIES, make, |history| {
        (!deliveries(history).is_empty()).then(|| right(history))
    });
}

#[test]
fn planted_gaps_are_found() {
    planted(&WatchChecker, |rng, bad| {
        let mut history = store(rng, 150, 5);
        if bad {
            let long = |one: &Operation| {
                one.function == Function::Watch && events(one).len() > 1 && one.key.is_empty()
            };
            let place = history.iter().position(long);
            // Some histories have no long delivery: there something else is wrong.
            match place {
                Some(place) => {
                    let mut all = events(&history[place]);
                    match rng.random_range(0..3) {
                        0 => all.swap(0, 1),
                        1 => all[0] = all[1].clone(),
                        _ => all[1].2 = Some("never".into()),
                    }
                    history[place].value = Some(told(&all));
                }
                None => {
                    history.extend(with("", &[(9_000, "0", Some("never"))], 1));
                }
            }
        }
        history
    });
}

/// Two writes and one delivery.
fn with(key: &str, events: &[(u64, &str, Option<&str>)], after: u64) -> Vec<Operation> {
    let mut all = history("0 w a 1 rev=2 \n 0 w b 1 rev=3 \n 0 del a - rev=4 \n 1 r - -");
    let events: Vec<Event> = events
        .iter()
        .map(|&(revision, key, value)| (revision, key.to_owned(), value.map(Value::from)))
        .collect();
    all[3].function = Function::Watch;
    all[3].key = key.to_owned();
    all[3].value = Some(told(&events));
    all[3].at_revision = Some(after);
    all
}

#[test]
fn anomalies_have_their_sentences() {
    let checker = WatchChecker;
    let (one, two, three) = ((2, "a", Some("1")), (3, "b", Some("1")), (4, "a", None));
    valid(&checker, &with("", &[one, two, three], 1));
    valid(&checker, &with("a", &[one, three], 1));
    valid(&checker, &with("", &[two], 2));
    invalid(&checker, &with("", &[one, three], 1), "a watcher was not told of write b \"1\" rev 3");
    invalid(&checker, &with("", &[two, one], 1), "revision 2 comes after 3");
    invalid(&checker, &with("", &[one, one, two], 1), "revision 2 of key \"a\" comes twice");
    invalid(
        &checker,
        &with("", &[one, two], 2),
        "revision 2 is not after where the watcher had got to",
    );
    invalid(&checker, &with("a", &[one, two], 1), "key \"b\" is not watched");
    invalid(
        &checker,
        &with("", &[(2, "a", Some("7"))], 1),
        "is not as it was written by write a \"1\"",
    );
    invalid(&checker, &with("", &[(5, "a", Some("7"))], 4), "is what no write can have made");
    // An unknown write explains one revision, if it was called before.
    let mut lost = history("7 w a 7 info").swap_remove(0);
    let told = with("", &[(5, "a", Some("7"))], 4);
    valid(&checker, &[&told[..], &[lost.clone()]].concat());
    lost.invoke_ns = 100 * STEP_NS;
    invalid(&checker, &[&told[..], &[lost]].concat(), "is what no write can have made");
    // From one delivery to the next.
    let first = with("", &[one], 1);
    let mut second = with("", &[three], 3).swap_remove(3);
    second.invoke_ns += 50;
    second.return_ns = second.return_ns.map(|time| time + 50);
    let jumped = [&first[..], &[second.clone()]].concat();
    invalid(&checker, &jumped, "got on to revision 3 without being told of write b \"1\" rev 3");
    second.at_revision = None;
    unknown(&checker, &[second], "does not say where the watcher had got to");
    unknown(&checker, &history("0 w a 1"), "names no revision");
    invalid(&checker, &history("0 w a 1 rev=2 \n 0 w a 2 rev=2"), "two writes have one revision");
    unknown(&checker, &history("0 w a 1 rev=2"), "nothing is delivered to any watcher");
    // A history of one key may leave its name out.
    let mut nameless = with("", &[(2, "", Some("1")), (4, "", None)], 1);
    nameless.remove(1);
    nameless.iter_mut().for_each(|operation| operation.key.clear());
    valid(&checker, &nameless);
}
