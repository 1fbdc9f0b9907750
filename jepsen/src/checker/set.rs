//! Sets to which elements are added (models `set` and `set-full`).
//!
//! Each key is a set, empty at first; each element is added once, and a read returns all of them.
//! In both models a read may hold no element twice (**duplicated**), and none that was not added
//! before the read returned (**unexpected**); a failed add does not count, one with an unknown
//! outcome may appear or not.
//!
//! An element is known from the return of its add on, or of the first read that showed it.
//!
//! - `set`: no known element is **lost**: missing in reads called later, without ever showing
//!   again. Reads may be stale, so this suits reads from any replica, if the last reads are fresh.
//! - `set-full`: the set is linearizable. A read called when an element is known shows it (else it
//!   is **stale**, or lost). Of two reads one shows all that the other does; and the order of reads
//!   and adds that follows from this respects real time, which is then enough: see
//!   `slots.rs`.
//!
//! Cost: O(n log n + the elements in all reads). Unknown if an element is added twice, or a set
//! with acknowledged elements is never read. The failing part does not hold the adds of elements
//! that are not concerned.

use std::collections::HashMap;

use super::slots::{Slotted, against_real_time};
use super::stop::Stop;
use super::{Checker, Verdict};
use crate::operation::{Function, Operation, Outcome};
use crate::value::Value;

/// Checks sets to which elements are added.
#[derive(Clone, Copy, Debug)]
pub struct SetChecker {
    /// Whether reads must be linearizable (model `set-full`).
    pub linearizable: bool,
}

impl Checker for SetChecker {
    fn model(&self) -> &'static str {
        if self.linearizable { "set-full" } else { "set" }
    }

    /// Unknown only as said on the page of the module.
    fn check(&self, history: &[Operation]) -> Verdict {
        if let Some(unknown) = super::foreign(history, &[Function::Add, Function::Read]) {
            return unknown;
        }
        let judged = by_key(history).into_iter().try_for_each(|(key, places)| {
            let set = Set::new(history, key, &places)?;
            set.check_reads()?;
            if self.linearizable {
                set.check_fresh()?;
                set.check_order()
            } else {
                set.check_lost()
            }
        });
        Stop::verdict(judged, history)
    }
}

/// The places of the operations of each key; keys in the order of their first operation.
pub(super) fn by_key(history: &[Operation]) -> Vec<(&str, Vec<usize>)> {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut keys: Vec<(&str, Vec<usize>)> = Vec::new();
    for (place, operation) in history.iter().enumerate() {
        let number = *numbers.entry(&operation.key).or_insert_with(|| {
            keys.push((&operation.key, Vec::new()));
            keys.len() - 1
        });
        keys[number].1.push(place);
    }
    keys
}

/// What is known of an element.
#[derive(Clone, Debug)]
struct Element<'h> {
    value: &'h Value,
    /// Its add, unless that failed.
    add: Option<usize>,
    /// An add of it that failed.
    failed: Option<usize>,
    /// From when on it is known, and by what.
    known: Option<(u64, usize)>,
    /// When the last read that shows it returned.
    shown: u64,
}

/// A successful read.
struct Read {
    place: usize,
    elements: Vec<u32>,
}

struct Set<'h> {
    history: &'h [Operation],
    key: &'h str,
    elements: Vec<Element<'h>>,
    /// Ordered by their calls.
    reads: Vec<Read>,
}

impl<'h> Set<'h> {
    fn new(history: &'h [Operation], key: &'h str, places: &[usize]) -> Result<Self, Stop> {
        let mut set = Self { history, key, elements: Vec::new(), reads: Vec::new() };
        let mut numbers: HashMap<&'h Value, u32> = HashMap::new();
        for &place in places {
            let operation = &history[place];
            match operation.function {
                Function::Read if operation.outcome == Outcome::Ok => {
                    let elements = set.read(operation, &mut numbers)?;
                    set.reads.push(Read { place, elements });
                }
                Function::Read => {}
                _ => set.add(operation, place, &mut numbers)?,
            }
        }
        set.reads.sort_by_key(|read| (history[read.place].invoke_ns, read.place));
        for read in &set.reads {
            let end = history[read.place].end_ns();
            for &element in &read.elements {
                let element = &mut set.elements[element as usize];
                element.shown = element.shown.max(end);
                element.learn(end, read.place);
            }
        }
        let acknowledged = set.elements.iter().any(|element| element.known.is_some());
        if set.reads.is_empty() && acknowledged {
            return Err(Stop::Unjudged(format!("the set {key:?} is never read")));
        }
        Ok(set)
    }

    fn number(&mut self, value: &'h Value, numbers: &mut HashMap<&'h Value, u32>) -> u32 {
        *numbers.entry(value).or_insert_with(|| {
            let number = u32::try_from(self.elements.len());
            self.elements.push(Element { value, add: None, failed: None, known: None, shown: 0 });
            number.expect("2^32 elements do not fit into memory")
        })
    }

    fn add(
        &mut self,
        operation: &'h Operation,
        place: usize,
        numbers: &mut HashMap<&'h Value, u32>,
    ) -> Result<(), Stop> {
        let Some(value) = &operation.value else {
            return Err(Stop::Unjudged(format!("nothing is added: {operation}")));
        };
        let number = self.number(value, numbers);
        let element = &mut self.elements[number as usize];
        if operation.outcome == Outcome::Fail {
            element.failed = Some(place);
            return Ok(());
        }
        if element.add.replace(place).is_some() {
            let key = self.key;
            return Err(Stop::Unjudged(format!("the set {key:?}: {value} is added twice")));
        }
        if operation.outcome == Outcome::Ok {
            element.learn(operation.end_ns(), place);
        }
        Ok(())
    }

    fn read(
        &mut self,
        operation: &'h Operation,
        numbers: &mut HashMap<&'h Value, u32>,
    ) -> Result<Vec<u32>, Stop> {
        let Some(value) = &operation.value else { return Ok(Vec::new()) };
        let list = value.as_list().and_then(|list| list.iter().map(Option::as_ref).collect());
        let list: Vec<&'h Value> =
            list.ok_or_else(|| Stop::Unjudged(format!("no list of elements: {operation}")))?;
        Ok(list.into_iter().map(|value| self.number(value, numbers)).collect())
    }

    /// No element twice, and none that nobody added.
    fn check_reads(&self) -> Result<(), Stop> {
        let mut seen_in = vec![usize::MAX; self.elements.len()];
        for (number, read) in self.reads.iter().enumerate() {
            let operation = &self.history[read.place];
            for &id in &read.elements {
                let element = &self.elements[id as usize];
                let value = element.value;
                if std::mem::replace(&mut seen_in[id as usize], number) == number {
                    let why = format!("duplicated: {operation} shows {value} twice");
                    return Err(self.broken(why, element.add.into_iter().chain([read.place])));
                }
                let add = element.add.map(|add| (add, &self.history[add]));
                let why = match (add, element.failed) {
                    (Some((_, add)), _) if add.invoke_ns <= operation.end_ns() => continue,
                    (Some((_, add)), _) => {
                        format!("unexpected: {operation} shows what was added only later: {add}")
                    }
                    (None, Some(failed)) => format!(
                        "unexpected: {operation} shows what a failed add left: {}",
                        self.history[failed]
                    ),
                    (None, None) => {
                        format!("unexpected: {operation} shows {value}, which nobody added")
                    }
                };
                let others = element.add.or(element.failed);
                return Err(self.broken(why, others.into_iter().chain([read.place])));
            }
        }
        Ok(())
    }

    /// No known element is missing for good. The read that was called last decides: if it was
    /// called after all reads that show an element returned, it does not show it.
    fn check_lost(&self) -> Result<(), Stop> {
        let Some(last) = self.reads.last() else { return Ok(()) };
        let called = self.history[last.place].invoke_ns;
        let lost = self.elements.iter().find_map(|element| {
            let (known, by) = element.known?;
            (known < called && element.shown < called).then_some((element, by))
        });
        lost.map_or(Ok(()), |(element, by)| Err(self.missing(element, by, last.place, "lost")))
    }

    /// Each read shows what was known at its call.
    fn check_fresh(&self) -> Result<(), Stop> {
        let mut known: Vec<u64> =
            self.elements.iter().filter_map(|element| Some(element.known?.0)).collect();
        known.sort_unstable();
        for read in &self.reads {
            let called = self.history[read.place].invoke_ns;
            let before = |element: &Element<'_>| element.known.filter(|(known, _)| *known < called);
            let must = known.partition_point(|&known| known < called);
            let shown =
                read.elements.iter().filter(|&&id| before(&self.elements[id as usize]).is_some());
            if shown.count() == must {
                continue;
            }
            let mut shown = vec![false; self.elements.len()];
            for &id in &read.elements {
                shown[id as usize] = true;
            }
            let mut all = self.elements.iter().zip(shown);
            let missing = all.find_map(|(element, shown)| {
                before(element).filter(|_| !shown).map(|(_, by)| (element, by))
            });
            let (element, by) = missing.expect("fewer known elements are shown than there are");
            let word = if element.shown < called { "lost" } else { "stale" };
            return Err(self.missing(element, by, read.place, word));
        }
        Ok(())
    }

    fn missing(&self, element: &Element<'_>, by: usize, read: usize, word: &str) -> Stop {
        let why = format!(
            "{word}: {} does not show {}, which was known since {}",
            self.history[read], element.value, self.history[by]
        );
        self.broken(why, element.add.into_iter().chain([by, read]))
    }

    /// Reads are nested, and the order that this gives respects real time.
    fn check_order(&self) -> Result<(), Stop> {
        let mut order: Vec<&Read> = self.reads.iter().collect();
        order.sort_by_key(|read| read.elements.len());
        let mut first_shown = vec![None; self.elements.len()];
        let mut slotted = Vec::new();
        let mut slot = |place: usize, slot: u64| {
            let Operation { invoke_ns: call, .. } = self.history[place];
            slotted.push(Slotted { slot, call, end: self.history[place].end_ns(), place });
        };
        let mut level = 0_u64;
        let mut before: Option<&Read> = None;
        for read in order {
            // The elements of a nested read that is as long are the same.
            let grew = before.is_none_or(|before| before.elements.len() < read.elements.len());
            level += u64::from(grew);
            for &id in &read.elements {
                first_shown[id as usize].get_or_insert((level, read.place));
            }
            if let Some(before) = before {
                let mut shown = read.elements.iter().filter(|&&id| {
                    first_shown[id as usize].is_some_and(|(first, _)| first < level || !grew)
                });
                let nested = if grew {
                    shown.count() == before.elements.len()
                } else {
                    shown
                        .all(|&id| first_shown[id as usize].is_some_and(|(_, by)| by != read.place))
                };
                if !nested {
                    let why = format!(
                        "neither of two reads shows all that the other does: {} and {}",
                        self.history[before.place], self.history[read.place]
                    );
                    return Err(self.broken(why, [before.place, read.place]));
                }
            }
            slot(read.place, 2 * level + 1);
            before = Some(read);
        }
        for (element, first) in self.elements.iter().zip(first_shown) {
            let Some(add) = element.add else { continue };
            match first {
                Some((level, _)) => slot(add, 2 * level),
                None if self.history[add].outcome == Outcome::Ok => slot(add, 2 * level + 2),
                None => {}
            }
        }
        match against_real_time(slotted) {
            None => Ok(()),
            Some((early, late)) => {
                let why = format!(
                    "the reads show that {} took effect after {}, but it returned before the \
                     other was called",
                    self.history[early], self.history[late]
                );
                Err(self.broken(why, self.with_evidence(early, late)))
            }
        }
    }

    /// Two operations and a read that shows in which order they took effect: it shows what the
    /// first one added, and not what the second one did.
    fn with_evidence(&self, early: usize, late: usize) -> Vec<usize> {
        let element =
            |place: usize| self.elements.iter().position(|element| element.add == Some(place));
        let shows =
            |read: &Read, element: usize| read.elements.iter().any(|&id| id as usize == element);
        let evidence = element(early).zip(element(late)).and_then(|(early, late)| {
            self.reads.iter().find(|read| shows(read, late) && !shows(read, early))
        });
        [early, late].into_iter().chain(evidence.map(|read| read.place)).collect()
    }

    fn broken(&self, why: String, places: impl IntoIterator<Item = usize>) -> Stop {
        Stop::broken(self.key, format!("set {:?}: {why}", self.key), places)
    }
}

impl Element<'_> {
    /// It was there at a moment.
    fn learn(&mut self, moment: u64, place: usize) {
        if self.known.is_none_or(|(known, _)| moment < known) {
            self.known = Some((moment, place));
        }
    }
}
