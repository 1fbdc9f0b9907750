//! Linearizability of a register whose values say by whom they were written: O(n log n).
//!
//! Where each value that anyone observed has a single writer, the acts fall into *groups*: a write,
//! the reads of its value, and, joined by successful cas, the value that follows it, its reads and
//! so on. A linearization keeps a group together, in an order that is known up to the order of
//! reads between two writes. So it remains to place the groups (after Gibbons and Korach, Testing
//! Shared Memories, 1997, who treat groups of one value):
//!
//! - Let `first_end` be the earliest end and `last_start` the latest start in a group. If
//!   `first_end < last_start`, the register must hold the group over the whole span between
//!   (a *forward* zone). Otherwise all acts share the span `[last_start, first_end]`, and the group
//!   can be squeezed into any moment of it (a *backward* zone).
//! - The register is linearizable if and only if each group is possible by itself, no two forward
//!   zones overlap, and no backward zone lies inside a forward one.
//!
//! A group is possible by itself if no act of it ends before one starts that must precede it.
//! Spans may touch: acts that meet in one moment are concurrent.

use super::acts::{Conflict, Effect, Finding, INITIAL, Register, Value};
use crate::operation::{Function, Operation, Outcome};
use crate::value::Value as Written;

/// Checks a register. `None`: some observed value has more than one writer.
pub fn check(register: &Register<'_>, want_order: bool) -> Option<Finding> {
    let zones = Zones::new(register)?;
    let placed = zones.groups().and_then(|mut groups| {
        zones.place(&mut groups)?;
        Ok(groups)
    });
    Some(match placed {
        Ok(mut groups) if want_order => {
            groups.sort_by_key(|group| (group.from, group.to));
            Finding::Valid(zones.order(&groups))
        }
        Ok(_) => Finding::Valid(Vec::new()),
        Err(conflict) => Finding::Invalid(conflict),
    })
}

/// What is known of one value.
#[derive(Clone, Copy, Debug, Default)]
struct Holding {
    /// The act that wrote it; of a value that nobody observed, the last one that did.
    writer: Option<u32>,
    /// The cas that found and replaced it.
    successor: Option<u32>,
    /// The read that ended first.
    first_end: Option<u32>,
    /// The read that started last.
    last_start: Option<u32>,
    /// Whether a read or a cas observed it.
    observed: bool,
}

/// A value and those that cas made of it.
#[derive(Clone, Copy, Debug)]
struct Group {
    /// The write that began it; `None` for the initial value.
    root: Option<u32>,
    /// The act that ended first; `None`: before everything.
    first_end: Option<u32>,
    /// The act that started last.
    last_start: Option<u32>,
    /// The span that the group occupies, or may be squeezed into; see [`Zones::place`].
    from: u64,
    to: u64,
}

struct Zones<'r, 'h> {
    register: &'r Register<'h>,
    holdings: Vec<Holding>,
    /// Two cas that found one value.
    replaced_twice: Option<(u32, u32)>,
}

impl<'r, 'h> Zones<'r, 'h> {
    /// Collects what is known of each value; `None` if an observed one has two writers.
    fn new(register: &'r Register<'h>) -> Option<Self> {
        let mut holdings = vec![Holding::default(); register.value_count];
        for act in &register.acts {
            if let Some(value) = act.observed() {
                holdings[value as usize].observed = true;
            }
        }
        let mut replaced_twice = None;
        for (place, act) in (0..).zip(&register.acts) {
            if act.effect == Effect::Cas
                && let Some(first) = holdings[act.expected as usize].successor.replace(place)
            {
                replaced_twice = Some((first, place));
            }
            let holding = &mut holdings[act.value as usize];
            if act.effect == Effect::Read {
                let ends_first = |other: u32| register.acts[other as usize].end > act.end;
                if holding.first_end.is_none_or(ends_first) {
                    holding.first_end = Some(place);
                }
                // Acts are ordered by their starts.
                holding.last_start = Some(place);
            } else {
                let second = holding.writer.is_some() || act.value == INITIAL;
                if second && holding.observed {
                    return None;
                }
                holding.writer = Some(place);
            }
        }
        Some(Self { register, holdings, replaced_twice })
    }

    /// Builds the groups and checks each by itself.
    fn groups(&self) -> Result<Vec<Group>, Conflict> {
        if let Some((first, second)) = self.replaced_twice {
            return Err(self.replaced_twice(first, second));
        }
        let mut groups = Vec::new();
        let mut reached = 0;
        let absence = self.holdings[INITIAL as usize].observed.then_some(None);
        let writes = (0..)
            .zip(&self.register.acts)
            .filter(|(_, act)| act.effect == Effect::Write)
            .map(|(place, _)| Some(place));
        for root in absence.into_iter().chain(writes) {
            groups.push(self.group(root, &mut reached)?);
        }
        for (value, holding) in (0..).zip(&self.holdings) {
            if holding.observed && holding.writer.is_none() && value != INITIAL {
                return Err(self.never_written(value, holding));
            }
        }
        let cas = self.register.acts.iter().filter(|act| act.effect == Effect::Cas).count();
        if reached < cas {
            return Err(self.cycle());
        }
        Ok(groups)
    }

    /// Walks one group from its root and checks its inner order. Adds the cas it meets to `reached`.
    fn group(&self, root: Option<u32>, reached: &mut usize) -> Result<Group, Conflict> {
        let acts = &self.register.acts;
        let end = |act: u32| acts[act as usize].end;
        let start = |act: u32| acts[act as usize].start;
        let mut group = Group { root, first_end: root, last_start: root, from: 0, to: 0 };
        let mut writer = root;
        loop {
            let value = writer.map_or(INITIAL, |writer| acts[writer as usize].value);
            let holding = &self.holdings[value as usize];
            let reads =
                if holding.observed { holding.first_end.zip(holding.last_start) } else { None };
            for (first_end, last_start) in
                writer.map(|writer| (writer, writer)).into_iter().chain(reads)
            {
                if let Some(before) = group.last_start
                    && end(first_end) < start(before)
                {
                    return Err(self.too_early(before, first_end));
                }
                if root.is_some() && group.first_end.is_none_or(|act| end(first_end) < end(act)) {
                    group.first_end = Some(first_end);
                }
                if group.last_start.is_none_or(|act| start(last_start) > start(act)) {
                    group.last_start = Some(last_start);
                }
            }
            writer = if holding.observed { holding.successor } else { None };
            if writer.is_none() {
                return Ok(group);
            }
            *reached += 1;
        }
    }

    /// Finds a span for each group: groups ordered by `(from, to)` can follow one another.
    fn place(&self, groups: &mut [Group]) -> Result<(), Conflict> {
        let acts = &self.register.acts;
        let mut forwards = 0;
        for at in 0..groups.len() {
            let group = &mut groups[at];
            group.from = group.first_end.map_or(0, |act| acts[act as usize].end);
            group.to = group.last_start.map_or(0, |act| acts[act as usize].start);
            if group.from < group.to {
                groups.swap(at, forwards);
                forwards += 1;
            }
        }
        let (forward, backward) = groups.split_at_mut(forwards);
        forward.sort_unstable_by_key(|group| (group.from, group.to));
        for pair in forward.windows(2) {
            if pair[1].from < pair[0].to {
                return Err(self.overlap(&pair[0], &pair[1]));
            }
        }
        for group in backward {
            let (start, end) = (group.to, group.from);
            let begun = forward.partition_point(|zone| zone.from < start);
            let mut moment = start;
            if let Some(zone) = begun.checked_sub(1).map(|last| &forward[last])
                && start < zone.to
            {
                if end < zone.to {
                    return Err(self.inside(zone, group));
                }
                moment = zone.to;
            }
            (group.from, group.to) = (moment, moment);
        }
        Ok(())
    }

    /// A linearization, from groups in the order of their spans.
    fn order(&self, groups: &[Group]) -> Vec<u32> {
        let acts = &self.register.acts;
        let mut reads = vec![Vec::new(); self.holdings.len()];
        let mut successors = vec![None; self.holdings.len()];
        for (place, act) in (0..).zip(acts) {
            match act.effect {
                Effect::Read => reads[act.value as usize].push(place),
                Effect::Cas => successors[act.expected as usize] = Some(place),
                Effect::Write => {}
            }
        }
        let mut order = Vec::with_capacity(acts.len());
        for group in groups {
            let mut writer = group.root;
            loop {
                order.extend(writer);
                let value = writer.map_or(INITIAL, |writer| acts[writer as usize].value);
                // Taken, so that an unobserved value with many writers stays cheap.
                order.append(&mut reads[value as usize]);
                writer = successors[value as usize].take();
                if writer.is_none() {
                    break;
                }
            }
        }
        order
    }
}

/// Explanations.
impl Zones<'_, '_> {
    fn replaced_twice(&self, first: u32, second: u32) -> Conflict {
        let why = self.register.say(|| {
            format!(
                "the value {} was there only once, but two cas found it: {} and {}",
                self.register.show(self.register.acts[first as usize].expected),
                self.register.operation(first),
                self.register.operation(second),
            )
        });
        self.conflict(&[first, second], why)
    }

    fn never_written(&self, value: Value, holding: &Holding) -> Conflict {
        let observer =
            holding.first_end.or(holding.successor).expect("an observed value has an observer");
        let why = self.register.say(|| self.why_never_written(value, observer));
        self.conflict(&[observer], why)
    }

    fn why_never_written(&self, value: Value, observer: u32) -> String {
        let observer_operation = self.register.operation(observer);
        let shown = self.register.show(value);
        let text = self.register.text(value);
        // The acts may be a part of the history that begins with a write.
        let end = observer_operation.end_ns();
        let writers = || {
            self.register.history().iter().filter(|operation| {
                operation.key == observer_operation.key && writes(operation, text)
            })
        };
        let possible = |o: &&Operation| o.outcome != Outcome::Fail && o.invoke_ns <= end;
        match writers().find(possible).or_else(|| writers().next()) {
            None => format!("{observer_operation} found {shown}, which no operation wrote"),
            Some(write) if write.outcome == Outcome::Fail => {
                format!("{observer_operation} found {shown}, whose write certainly failed: {write}")
            }
            Some(write) if write.invoke_ns > end => {
                format!("{observer_operation} found {shown} before its write was called: {write}")
            }
            Some(_) => match self.last_write_before(observer) {
                Some(write) => format!(
                    "{observer_operation} found {shown}, but nothing wrote that any more after \
                     {write}"
                ),
                None => format!("{observer_operation} found {shown}, which was not there any more"),
            },
        }
    }

    /// The write that returned last before an act was called.
    fn last_write_before(&self, act: u32) -> Option<&Operation> {
        let start = self.register.acts[act as usize].start;
        let writes = (0..)
            .zip(&self.register.acts)
            .filter(|(_, act)| act.effect == Effect::Write && act.end < start);
        let (write, _) = writes.max_by_key(|(_, act)| act.end)?;
        Some(self.register.operation(write))
    }

    fn cycle(&self) -> Conflict {
        let acts = &self.register.acts;
        // Every value has a writer here, so walking backwards from a cas that no write leads to
        // never ends: after as many steps as there are acts we are in the circle.
        let unreached = (0..)
            .zip(acts)
            .filter(|(_, act)| act.effect == Effect::Cas)
            .map(|(place, _)| place)
            .find(|&place| self.in_circle(place))
            .expect("some cas is reached from no write");
        let back = |place: u32| {
            let expected = acts[place as usize].expected;
            self.holdings[expected as usize].writer.expect("all observed values have writers")
        };
        let mut inside = unreached;
        for _ in 0..acts.len() {
            inside = back(inside);
        }
        let mut circle = vec![inside];
        let mut place = back(inside);
        while place != inside {
            circle.push(place);
            place = back(place);
        }
        let why = self.register.say(|| {
            let name = |&act: &u32| self.register.operation(act).to_string();
            let names: Vec<String> = circle.iter().rev().take(3).map(name).collect();
            format!("each of these cas needs the one before it, in a circle: {}", names.join("; "))
        });
        self.conflict(&circle, why)
    }

    /// Whether no write leads to this cas, only other cas.
    fn in_circle(&self, cas: u32) -> bool {
        let chain = self.chain_of(cas);
        let first = &self.register.acts[*chain.last().expect("a chain holds its own act") as usize];
        first.effect == Effect::Cas && first.expected != INITIAL
    }

    fn too_early(&self, before: u32, after: u32) -> Conflict {
        let why = self.register.say(|| {
            format!(
                "{} returned before {} was called, but the values that cas found and left demand \
                 the opposite order",
                self.register.operation(after),
                self.register.operation(before),
            )
        });
        self.conflict(&[before, after], why)
    }

    fn overlap(&self, one: &Group, other: &Group) -> Conflict {
        let why = self.register.say(|| {
            format!(
                "the register cannot hold two values at once: {}; but also {}",
                self.span(one),
                self.span(other)
            )
        });
        self.conflict(&bounds(&[one, other]), why)
    }

    fn inside(&self, zone: &Group, group: &Group) -> Conflict {
        let last = group.last_start.expect("a backward zone starts after the initial state");
        let first = group.first_end.expect("a backward zone ends after the initial state");
        let why = self.register.say(|| {
            let name = self.register.operation(last);
            let ending = self.register.operation(first);
            let which = if last == first {
                format!("{name} lies within that span")
            } else {
                format!("{name} was called and {ending} returned within that span")
            };
            format!("{}; but {which} and has another value", self.span(zone))
        });
        self.conflict(&bounds(&[zone, group]), why)
    }

    /// Says over which span a forward zone occupies the register.
    fn span(&self, group: &Group) -> String {
        let last = group.last_start.expect("a forward zone has a last start");
        let last_value = self.seen_by(last);
        let last = self.register.operation(last);
        match group.first_end {
            None => format!("{} was there from the beginning until {last} was called", last_value),
            Some(first) => {
                let value = self.seen_by(first);
                let to =
                    if value == last_value { String::new() } else { format!(" to {last_value}") };
                let first = self.register.operation(first);
                format!("{value}{to} was there from the return of {first} to the call of {last}")
            }
        }
    }

    fn seen_by(&self, act: u32) -> String {
        self.register.show(self.register.acts[act as usize].value)
    }

    fn conflict(&self, acts: &[u32], why: String) -> Conflict {
        Conflict { acts: self.with_chains(acts), culprit: None, why }
    }

    /// These acts, those that lead to them, and for each that crashed one that proves its effect.
    fn with_chains(&self, acts: &[u32]) -> Vec<u32> {
        let mut all = Vec::new();
        for &act in acts {
            all.extend(self.chain_of(act));
            let mut last = act;
            // A crashed act is kept only if some act that returned has seen it, at last.
            for _ in 0..self.register.acts.len() {
                let act = &self.register.acts[last as usize];
                let holding = &self.holdings[act.value as usize];
                let Some(observer) = holding.first_end.or(holding.successor) else { break };
                if !act.crashed() {
                    break;
                }
                all.push(observer);
                last = observer;
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// An act and the writers that lead to it, the last one first.
    fn chain_of(&self, act: u32) -> Vec<u32> {
        let mut chain = vec![act];
        while chain.len() <= self.register.acts.len() {
            let act = &self.register.acts[chain[chain.len() - 1] as usize];
            match act.observed().and_then(|value| self.holdings[value as usize].writer) {
                Some(writer) => chain.push(writer),
                None => break,
            }
        }
        chain
    }
}

/// Whether an operation writes this value.
fn writes(operation: &Operation, value: Option<&Written>) -> bool {
    match operation.function {
        Function::Write | Function::Cas => operation.value.as_ref() == value,
        Function::Delete => value.is_none(),
        _ => false,
    }
}

/// The acts that bound some groups.
fn bounds(groups: &[&Group]) -> Vec<u32> {
    groups.iter().flat_map(|group| group.first_end.into_iter().chain(group.last_start)).collect()
}
