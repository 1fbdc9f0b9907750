//! Lets searches compete, each for a while, with growing patience: the first answer wins.

use super::acts::{Conflict, Finding, Register};
use super::frontier;
use super::objects::{Cell, Object};
use super::options::{Deadline, Limits};
use super::search::{Act, BYTES_PER_STATE, Contradiction, Discipline, OPEN_MAX, Progress, Search};

/// Configurations that each search may visit in the first round.
const FIRST_ROUND: u64 = 10_000;

/// How much more each round allows than the one before.
const GROWTH: u64 = 4;

/// What a search may cost.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Configurations that each search may visit.
    pub states: u64,
    /// When to give up.
    pub deadline: Deadline,
}

impl Patience {
    /// What the limits of a history leave for each of several searches at one time.
    pub fn of(limits: &Limits, states: u64, at_one_time: usize) -> Self {
        let memory = limits.memory_bytes / at_one_time.max(1) as u64 / 2;
        let states = states.min(memory / BYTES_PER_STATE).min(u64::from(u32::MAX / 8));
        Self { states, deadline: limits.deadline() }
    }

    /// So many configurations, whatever the time.
    pub const fn states(states: u64) -> Self {
        Self { states, deadline: Deadline::NEVER }
    }

    fn rounds(self) -> impl Iterator<Item = u64> {
        let mut next = Some(FIRST_ROUND.min(self.states));
        std::iter::from_fn(move || {
            let round = next.filter(|_| !self.deadline.is_over())?;
            let more = (round * GROWTH).min(self.states);
            next = (more > round).then_some(more);
            Some(round)
        })
    }

    /// What was not enough.
    fn spent(self) -> String {
        if self.deadline.is_over() {
            "the time is over".to_owned()
        } else {
            format!("the budget of {} states is spent", self.states)
        }
    }
}

/// Decides a register whose values are not unique: the frontier against a search in depth.
pub fn register(register: &Register<'_>, patience: Patience, want_order: bool) -> Finding {
    let mut depth = None;
    let mut unknown = None;
    for states in patience.rounds() {
        match frontier::check(register, states, patience.deadline, want_order) {
            Finding::Unknown(why) => unknown = Some(why),
            decided => return decided,
        }
        // Mostly it is not needed, so it is not made before.
        let made = depth.get_or_insert_with(|| {
            let (cell, acts) = cell(register);
            Search::new(cell, &acts, Discipline::Depth, want_order)
        });
        let Some(depth) = made else { continue };
        match depth.run(states, patience.deadline) {
            Progress::Valid(order) => return Finding::Valid(order),
            Progress::Invalid(contradiction) => {
                return Finding::Invalid(conflict(register, &contradiction));
            }
            Progress::Spent => {}
        }
    }
    let spent = patience.deadline.is_over().then(|| patience.spent());
    Finding::Unknown(spent.or(unknown).unwrap_or_else(|| patience.spent()))
}

/// Decides a register by a search in depth alone.
pub fn register_in_depth(register: &Register<'_>, patience: Patience, want_order: bool) -> Finding {
    let (cell, acts) = cell(register);
    let Some(mut depth) = Search::new(cell, &acts, Discipline::Depth, want_order) else {
        return Finding::Unknown(too_many_open());
    };
    match depth.run(patience.states, patience.deadline) {
        Progress::Valid(order) => Finding::Valid(order),
        Progress::Invalid(contradiction) => Finding::Invalid(conflict(register, &contradiction)),
        Progress::Spent => Finding::Unknown(patience.spent()),
    }
}

fn cell<'r, 'h>(register: &'r Register<'h>) -> (Cell<'r, 'h>, Vec<Act>) {
    let (cell, effects) = Cell::new(register);
    let acts = register.acts.iter().zip(effects);
    let acts = acts.map(|(act, effect)| Act { effect, start: act.start, end: act.end }).collect();
    (cell, acts)
}

/// The acts up to the one that cannot be placed.
fn conflict(register: &Register<'_>, contradiction: &Contradiction) -> Conflict {
    let end = register.acts[contradiction.act as usize].end;
    let acts = (0..).zip(&register.acts).filter(|(_, act)| act.start <= end);
    let culprit = contradiction.act;
    let why = register.say(|| contradiction.sentence(register.operation(culprit)));
    Conflict { acts: acts.map(|(place, _)| place).collect(), culprit: Some(culprit), why }
}

/// Decides any object: depth against breadth. `make` builds the object, once for each.
pub fn object<O: Object>(
    make: impl Fn() -> O,
    acts: &[Act],
    patience: Patience,
    want_order: bool,
) -> Result<Progress, String> {
    let Some(mut depth) = Search::new(make(), acts, Discipline::Depth, want_order) else {
        return Err(too_many_open());
    };
    let mut breadth = None;
    for states in patience.rounds() {
        match depth.run(states, patience.deadline) {
            Progress::Spent => {}
            decided => return Ok(decided),
        }
        if breadth.is_none() {
            breadth = Search::new(make(), acts, Discipline::Breadth, want_order);
        }
        let breadth = breadth.as_mut().expect("as many acts are open as before");
        match breadth.run(states, patience.deadline) {
            Progress::Spent => {}
            decided => return Ok(decided),
        }
        if depth.remembered() + breadth.remembered() > 2 * patience.states {
            break;
        }
    }
    Err(patience.spent())
}

fn too_many_open() -> String {
    format!("more than {OPEN_MAX} operations are open at one time")
}
