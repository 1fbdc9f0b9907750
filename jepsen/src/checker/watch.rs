//! What watchers are told (model `watch`): O(n log n).
//!
//! A watch operation is one delivery: its events, and where its watcher had got to before. A
//! watcher is a process and what it watches: the key of the operation, or everything if that is
//! empty. Writes name the revisions that they were given.
//!
//! 1. **As written**: each event is a write of that key, with that revision and that value (none:
//!    deleted). A write with an unknown outcome fits if it was called before the delivery came; it
//!    explains one revision.
//! 2. **Ordered, and nothing twice**: in a delivery revisions do not fall, and no key has one twice.
//! 3. **Nothing before the start**: all are above where the watcher had got to.
//! 4. **No gap**: what lies between that and the last event was all delivered, and a watcher gets
//!    on from delivery to delivery only over revisions in which nothing was written that it
//!    watches. What somebody was told or what a write names was written.
//!
//! A watcher that goes back has resumed from there. What was written after its last delivery may
//! still be on its way.

use std::collections::HashMap;

use super::stop::Stop;
use super::versions::Versions;
use super::{Checker, Verdict};
use crate::operation::{Function, Operation, Outcome};
use crate::value::Value;

/// What watched histories are made of.
const FUNCTIONS: [Function; 5] =
    [Function::Read, Function::Write, Function::Cas, Function::Delete, Function::Watch];

/// Checks that watchers are told everything once and in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct WatchChecker;

impl Checker for WatchChecker {
    fn model(&self) -> &'static str {
        "watch"
    }

    /// Unknown if a write or a delivery does not name its revision, if events cannot be read, or if
    /// something was written and nothing delivered.
    fn check(&self, history: &[Operation]) -> Verdict {
        if let Some(unknown) = super::foreign(history, &FUNCTIONS) {
            return unknown;
        }
        let judged = Log::new(history).and_then(|mut log| {
            let deliveries = deliveries(history)?;
            if deliveries.is_empty() && !log.writes.is_empty() {
                return Err(Stop::Unjudged("nothing is delivered to any watcher".to_owned()));
            }
            log.learn(&deliveries)?;
            log.sort();
            log.check(&deliveries)
        });
        Stop::verdict(judged, history)
    }
}

/// One thing that a watcher was told.
#[derive(Clone, Copy, Debug)]
struct Event<'h> {
    revision: u64,
    key: &'h str,
    value: Option<&'h Value>,
}

/// A delivery.
#[derive(Debug)]
struct Delivery<'h> {
    place: usize,
    /// Where the watcher had got to.
    after: u64,
    events: Vec<Event<'h>>,
}

/// The successful deliveries of each process in its order.
fn deliveries(history: &[Operation]) -> Result<Vec<Delivery<'_>>, Stop> {
    let mut deliveries = Vec::new();
    for place in Versions::sessions(history).into_iter().flatten() {
        let operation = &history[place];
        if operation.function != Function::Watch || operation.outcome != Outcome::Ok {
            continue;
        }
        let unreadable = |what: &str| Stop::Unjudged(format!("{what}: {operation}"));
        let after = operation.at_revision;
        let after = after.ok_or_else(|| unreadable("does not say where the watcher had got to"))?;
        let events = match &operation.value {
            None => Some(Vec::new()),
            Some(list) => list.as_list().and_then(|list| list.iter().map(event).collect()),
        };
        let events = events.ok_or_else(|| unreadable("events that cannot be read"))?;
        deliveries.push(Delivery { place, after, events });
    }
    Ok(deliveries)
}

fn event(event: &Option<Value>) -> Option<Event<'_>> {
    let event = event.as_ref()?.as_map()?;
    let key = event.get("key")?.as_ref()?.as_text()?;
    let revision = event.get("rev")?.as_ref()?.as_text()?.parse().ok()?;
    Some(Event { revision, key, value: event.get("value").and_then(Option::as_ref) })
}

/// All that was written, as far as it is known.
struct Log<'h> {
    history: &'h [Operation],
    /// Key and revision: the write.
    writes: HashMap<(&'h str, u64), usize>,
    /// Which delivery showed that a write with an unknown outcome took place.
    proofs: HashMap<usize, usize>,
    /// Revision and write, sorted: of each key, and of all under the empty name.
    sorted: HashMap<&'h str, Vec<(u64, usize)>>,
}

impl<'h> Log<'h> {
    fn new(history: &'h [Operation]) -> Result<Self, Stop> {
        let mut writes = HashMap::new();
        for (place, operation) in history.iter().enumerate() {
            if operation.outcome != Outcome::Ok || !operation.function.writes() {
                continue;
            }
            let Some(revision) = operation.revision.filter(|&revision| revision > 0) else {
                if operation.function == Function::Delete && operation.at_revision.is_some() {
                    continue;
                }
                return Err(Stop::Unjudged(format!("a write names no revision: {operation}")));
            };
            if let Some(other) = writes.insert((operation.key.as_str(), revision), place) {
                let why =
                    format!("two writes have one revision: {} and {operation}", history[other]);
                return Err(Stop::broken(&operation.key, why, [other, place]));
            }
        }
        Ok(Self { history, writes, proofs: HashMap::new(), sorted: HashMap::new() })
    }

    /// Rule 1: compares events with writes, and finds writes with an unknown outcome for others.
    fn learn(&mut self, deliveries: &[Delivery<'h>]) -> Result<(), Stop> {
        let history = self.history;
        let mut unknown: HashMap<(&str, Option<&Value>), Vec<usize>> = HashMap::new();
        let lost = |operation: &Operation| {
            operation.outcome == Outcome::Info && operation.function.writes()
        };
        for (place, operation) in history.iter().enumerate().filter(|(_, one)| lost(one)) {
            let value = operation.value.as_ref();
            unknown.entry((operation.key.as_str(), value)).or_default().push(place);
        }
        for writes in unknown.values_mut() {
            // The first call last, to be taken first.
            writes.sort_by_key(|&place| std::cmp::Reverse((history[place].invoke_ns, place)));
        }
        // Whoever was told first is served first; later ones can do with any write that is left.
        let mut order: Vec<&Delivery<'h>> = deliveries.iter().collect();
        order.sort_by_key(|delivery| (history[delivery.place].end_ns(), delivery.place));
        for delivery in order {
            for event in &delivery.events {
                let known = (event.key, event.revision);
                if let Some(&write) = self.writes.get(&known) {
                    if history[write].value.as_ref() != event.value {
                        return Err(self.not_as_written(delivery, event, Some(write)));
                    }
                    continue;
                }
                let writes = unknown.get_mut(&(event.key, event.value));
                let end = history[delivery.place].end_ns();
                let write = writes.and_then(|writes| {
                    let first = *writes.last()?;
                    (history[first].invoke_ns <= end).then(|| writes.pop())?
                });
                let Some(write) = write else {
                    return Err(self.not_as_written(delivery, event, None));
                };
                self.writes.insert(known, write);
                self.proofs.insert(write, delivery.place);
            }
        }
        Ok(())
    }

    fn not_as_written(
        &self,
        delivery: &Delivery<'_>,
        event: &Event<'_>,
        write: Option<usize>,
    ) -> Stop {
        let Event { revision, key, .. } = event;
        let operation = &self.history[delivery.place];
        let why = match write {
            Some(write) => format!(
                "revision {revision} of key {key:?} is not as it was written by {}: {operation}",
                self.history[write]
            ),
            None => format!(
                "revision {revision} of key {key:?} is what no write can have made: {operation}"
            ),
        };
        Stop::broken(*key, why, write.into_iter().chain([delivery.place]))
    }

    fn sort(&mut self) {
        for (&(key, revision), &place) in &self.writes {
            // A history of one key may leave its name out.
            for name in ["", key].into_iter().take(1 + usize::from(!key.is_empty())) {
                self.sorted.entry(name).or_default().push((revision, place));
            }
        }
        self.sorted.values_mut().for_each(|writes| writes.sort_unstable());
    }

    /// What was written in `(after, upto]` of what a delivery's watcher watches.
    fn between(&self, delivery: &Delivery<'_>, after: u64, upto: u64) -> &[(u64, usize)] {
        let watched = self.history[delivery.place].key.as_str();
        let writes = self.sorted.get(watched).map_or(&[][..], Vec::as_slice);
        let start = writes.partition_point(|&(revision, _)| revision <= after);
        let end = writes.partition_point(|&(revision, _)| revision <= upto);
        &writes[start..end.max(start)]
    }

    /// Rules 2 to 4.
    fn check(&self, deliveries: &[Delivery<'h>]) -> Result<(), Stop> {
        let mut reached: HashMap<(u64, &str), (u64, usize)> = HashMap::new();
        for delivery in deliveries {
            let operation = &self.history[delivery.place];
            let watcher = (operation.process, operation.key.as_str());
            if let Some(&(upto, before)) = reached.get(&watcher)
                && let Some(&(_, missed)) = self.between(delivery, upto, delivery.after).first()
            {
                let why = format!(
                    "a watcher got on to revision {} without being told of {}: {operation}",
                    delivery.after, self.history[missed]
                );
                let proof = self.proofs.get(&missed).copied();
                return Err(self.broken(delivery, why, proof.into_iter().chain([before, missed])));
            }
            self.check_order(delivery)?;
            let last = delivery.events.last().map_or(delivery.after, |event| event.revision);
            let written = self.between(delivery, delivery.after, last);
            if written.len() > delivery.events.len() {
                let told = |place: usize| {
                    delivery
                        .events
                        .iter()
                        .any(|event| self.writes.get(&(event.key, event.revision)) == Some(&place))
                };
                let missed = written.iter().find(|(_, place)| !told(*place));
                let missed = missed.expect("more was written than was told").1;
                let why =
                    format!("a watcher was not told of {}: {operation}", self.history[missed]);
                let proof = self.proofs.get(&missed).copied();
                return Err(self.broken(delivery, why, proof.into_iter().chain([missed])));
            }
            reached.insert(watcher, (last, delivery.place));
        }
        Ok(())
    }

    /// Rules 2 and 3, and that only what is watched is delivered.
    fn check_order(&self, delivery: &Delivery<'_>) -> Result<(), Stop> {
        let operation = &self.history[delivery.place];
        let mut told = std::collections::HashSet::new();
        let mut before = 0;
        for event in &delivery.events {
            let Event { revision, key, .. } = *event;
            let what = if revision <= delivery.after {
                format!("revision {revision} is not after where the watcher had got to")
            } else if revision < before {
                format!("revision {revision} comes after {before}")
            } else if !told.insert((key, revision)) {
                format!("revision {revision} of key {key:?} comes twice")
            } else if !operation.key.is_empty() && operation.key != key {
                format!("key {key:?} is not watched")
            } else {
                before = revision;
                continue;
            };
            let write = self.writes.get(&(key, revision)).copied();
            return Err(self.broken(delivery, format!("{what}: {operation}"), write));
        }
        Ok(())
    }

    fn broken(
        &self,
        delivery: &Delivery<'_>,
        why: String,
        others: impl IntoIterator<Item = usize>,
    ) -> Stop {
        let places = others.into_iter().chain([delivery.place]);
        Stop::broken(&self.history[delivery.place].key, why, places)
    }
}
