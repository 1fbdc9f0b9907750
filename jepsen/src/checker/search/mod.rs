//! Linearizability of any object, by search: depth first or breadth first.
//!
//! Take the acts that returned in the order of their returns. Whatever a search has placed of them is
//! a beginning of that order, up to the *front*, and some acts beyond it, which must be open when the
//! front returns: otherwise the front should have been placed before them. So a configuration is
//! small, however long the history is: the front, a bit for each act that is open then, the state,
//! and the crashed acts that were used. Configurations that were met before are not met again; this
//! is the memo of Lowe, Testing for Linearizability, 2017, with a window in place of the history.
//!
//! Depth first finds a linearization soon, if there is one and luck helps. Breadth first, by the
//! front, refutes soon: a contradiction ends it where it stands, and what lies behind is forgotten.
//! The caller lets both compete.
//!
//! Rules that leave out configurations without leaving out an answer:
//!
//! 1. An open act that only observes is placed as soon as the state allows it.
//! 2. Of open acts with the same effect, the one that ends first is placed first.
//! 3. States that nothing can tell apart any more are one ([`DEAD`]).
//! 4. An open overwrite that leaves such a state is placed for free before another overwrite, or when
//!    the state is dead anyway.
//! 5. Crashed acts with the same effect are counted, not told apart; and a configuration that used
//!    fewer of them, and is otherwise equal, makes the other superfluous.
//! 6. A crashed act is placed only if it changes the state into one that is not dead, and, where an
//!    effect is gone with the next one, if some other act can observe it at once.

mod agenda;
mod crashed;
mod timeline;

use self::agenda::{Agenda, Configuration, Node};
use self::crashed::{Crashed, NONE_USED};
use self::timeline::{Timed, Timeline};
use super::objects::{DEAD, Kind, Object, State};
use super::options::Deadline;
use super::trail::{Trail, bits};
use crate::operation::Operation;

pub use self::agenda::Discipline;
pub use self::timeline::OPEN_MAX;

/// Memory that one configuration takes, about: in the memo and on the stack.
pub const BYTES_PER_STATE: u64 = 160;

/// Configurations between two looks at the clock.
const CLOCK_EVERY: u64 = 1024;

/// States that an explanation names.
const SHOWN_MAX: usize = 4;

/// One act as a search sees it.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    /// What it does, as the object numbers it.
    pub effect: u32,
    /// Its call.
    pub start: u64,
    /// Its return; `u64::MAX` if it crashed.
    pub end: u64,
}

/// How far a search got.
#[derive(Clone, Debug)]
pub enum Progress {
    /// There is a linearization: this order of acts. Empty unless an order was asked for.
    Valid(Vec<u32>),
    /// There is none.
    Invalid(Contradiction),
    /// The steps were spent; the search can go on.
    Spent,
}

/// Where a history cannot be continued.
#[derive(Clone, Debug)]
pub struct Contradiction {
    /// The act that cannot be placed. All that starts after its return plays no part.
    pub act: u32,
    /// States in which the object can be then, as people read them; not all if there are many.
    pub states: Vec<String>,
    /// Whether there are more.
    pub more: bool,
}

impl Contradiction {
    /// One sentence about the operation that cannot be placed.
    pub fn sentence(&self, operation: &Operation) -> String {
        let more = if self.more { " or others" } else { "" };
        format!(
            "{operation} has no place: after all that returned before, there can only be {}{more}",
            self.states.join(" or "),
        )
    }
}

/// A search that can be interrupted.
pub struct Search<O> {
    object: O,
    timeline: Timeline,
    crashed: Crashed,
    agenda: Agenda,
    want_order: bool,
    /// What was placed: (previous entry, act). Entry 0 is the start.
    trail: Trail,
    /// The furthest front that was met, and some states in which it was.
    furthest: usize,
    /// Whether the object refused to be continued, knowing what comes later.
    foreseen: bool,
    there: Vec<State>,
    /// Successors of the configuration at hand, each with the end of what was placed for it.
    successors: Vec<(u64, Node)>,
}

impl<O: Object> Search<O> {
    /// A search from the beginning; `None` if more than [`OPEN_MAX`] acts are open at one time.
    pub fn new(object: O, acts: &[Act], discipline: Discipline, want_order: bool) -> Option<Self> {
        let returned = (0..).zip(acts).filter(|(_, act)| act.end < u64::MAX);
        let timeline =
            Timeline::new(returned.map(|(place, act)| (act.effect, act.start, act.end, place)))?;
        let crashed = (0..).zip(acts).filter(|(_, act)| act.end == u64::MAX);
        let of_use = crashed.filter(|(_, act)| object.useful(act.effect, act.start));
        let crashed = Crashed::new(of_use.map(|(place, act)| (act.effect, act.start, place)));
        let state = object.initial();
        let start = Configuration { front: 0, state, placed: 0 };
        let mut search = Self {
            timeline,
            crashed,
            agenda: Agenda::new(discipline),
            want_order,
            trail: Trail::new(),
            furthest: 0,
            foreseen: false,
            there: Vec::new(),
            successors: Vec::new(),
            object,
        };
        let mut start = Node { at: start, used: NONE_USED, trail: 0 };
        if search.settle(&mut start) {
            search.agenda.push(start, &search.crashed);
        }
        Some(search)
    }

    /// Configurations remembered.
    pub fn remembered(&self) -> u64 {
        self.agenda.remembered()
    }

    /// Goes on for so many configurations, or until the deadline.
    pub fn run(&mut self, steps: u64, deadline: Deadline) -> Progress {
        for step in 1..=steps {
            let Some(node) = self.agenda.pop(&self.crashed) else {
                return Progress::Invalid(self.contradiction());
            };
            if node.at.front as usize == self.timeline.len() {
                return Progress::Valid(self.trail.order(node.trail));
            }
            self.expand(&node);
            if step.is_multiple_of(CLOCK_EVERY) && deadline.is_over() {
                break;
            }
        }
        Progress::Spent
    }

    /// Puts all configurations with one more act on the agenda.
    fn expand(&mut self, node: &Node) {
        let front = node.at.front as usize;
        self.timeline.go(front);
        let now = self.timeline.now(front);
        let unplaced = self.timeline.open() & !node.at.placed;
        let dead_writes = self.dead_writes(unplaced, now);
        for slot in bits(unplaced) {
            let act = *self.timeline.in_slot(slot);
            let kind = self.object.kind(act.effect);
            let is_front = act.act == self.timeline.act(front).act;
            let waits = dead_writes & 1 << slot != 0 && !is_front;
            if kind == Kind::Observe || waits || self.comes_later(&act, unplaced) {
                continue;
            }
            let Some(state) = self.object.step(node.at.state, act.effect) else { continue };
            let mut next = *node;
            if kind == Kind::Overwrite {
                self.place_all(&mut next, dead_writes & !(1 << slot));
            }
            self.place_all(&mut next, 1 << slot);
            next.at.state = state;
            self.successors.push((act.end, next));
        }
        self.expand_crashed(node, now, unplaced, dead_writes);
        let mut successors = std::mem::take(&mut self.successors);
        successors.retain_mut(|(_, next)| self.settle(next));
        // What is put on the agenda last is looked at first.
        successors.sort_by_key(|(end, next)| std::cmp::Reverse((next.at.state == DEAD, *end)));
        for (_, next) in successors.drain(..) {
            self.agenda.push(next, &self.crashed);
        }
        self.successors = successors;
    }

    /// The same for crashed acts.
    fn expand_crashed(&mut self, node: &Node, now: u64, unplaced: u128, dead_writes: u128) {
        for class in (0..).take(self.crashed.classes.len()) {
            let effect = self.crashed.classes[class as usize].effect;
            let Some(act) = self.crashed.next(node.used, class, now) else { continue };
            if !self.object.useful(effect, now) {
                continue;
            }
            let Some(state) = self.object.step(node.at.state, effect) else { continue };
            let hides = self.object.kind(effect) == Kind::Overwrite && dead_writes != 0;
            let idle = state == node.at.state && !hides;
            if idle || self.object.settle(state, now).is_none_or(|state| state == DEAD) {
                continue;
            }
            let mut next = *node;
            next.used = self.crashed.with(node.used, class);
            if self.object.observed_at_once() && !self.is_observed(state, next.used, unplaced, now)
            {
                continue;
            }
            if hides {
                self.place_all(&mut next, dead_writes);
            }
            next.at.state = state;
            self.leave_trail(&mut next, act);
            self.successors.push((u64::MAX, next));
        }
    }

    /// Applies rules 1, 3, 4 and 5 to a configuration, and moves its front to what is not placed.
    /// False if it cannot be continued.
    fn settle(&mut self, node: &mut Node) -> bool {
        loop {
            let mut front = node.at.front as usize;
            while front < self.timeline.len() && node.at.placed & self.timeline.bit(front) != 0 {
                node.at.placed &= !self.timeline.bit(front);
                front += 1;
            }
            node.at.front = u32::try_from(front).expect("acts are counted in u32");
            if front == self.timeline.len() {
                return true;
            }
            self.timeline.go(front);
            let now = self.timeline.now(front);
            let Some(state) = self.object.settle(node.at.state, now) else {
                self.foreseen = true;
                return false;
            };
            node.at.state = state;
            if node.used != NONE_USED {
                let object = &self.object;
                node.used = self.crashed.reduced(node.used, |effect| object.useful(effect, now));
            }
            let unplaced = self.timeline.open() & !node.at.placed;
            let free = self.free_of_choice(state, unplaced, now);
            if free == 0 {
                self.note(node);
                return true;
            }
            self.place_all(node, free);
        }
    }

    /// Open acts that are placed at once, whatever else is to come (rules 1 and 4).
    fn free_of_choice(&mut self, state: State, unplaced: u128, now: u64) -> u128 {
        let mut free = 0;
        for slot in bits(unplaced) {
            let effect = self.timeline.in_slot(slot).effect;
            let placed = match self.object.kind(effect) {
                Kind::Observe => self.object.step(state, effect).is_some(),
                Kind::Overwrite => state == DEAD && self.leaves_dead(effect, now),
                Kind::Change => false,
            };
            free |= u128::from(placed) << slot;
        }
        free
    }

    /// Open overwrites that leave a dead state.
    fn dead_writes(&mut self, unplaced: u128, now: u64) -> u128 {
        let mut dead = 0;
        for slot in bits(unplaced) {
            let effect = self.timeline.in_slot(slot).effect;
            if self.object.kind(effect) == Kind::Overwrite && self.leaves_dead(effect, now) {
                dead |= 1 << slot;
            }
        }
        dead
    }

    fn leaves_dead(&mut self, overwrite: u32, now: u64) -> bool {
        let state = self.object.step(DEAD, overwrite).expect("an overwrite is always possible");
        self.object.settle(state, now).is_none_or(|state| state == DEAD)
    }

    /// Whether an open act with the same effect ends before this one (rule 2).
    fn comes_later(&self, act: &Timed, unplaced: u128) -> bool {
        bits(unplaced).any(|slot| {
            let other = self.timeline.in_slot(slot);
            other.effect == act.effect && (other.end, other.act) < (act.end, act.act)
        })
    }

    /// Whether some act that could come next observes a state (rule 6).
    fn is_observed(&mut self, state: State, used: u32, unplaced: u128, now: u64) -> bool {
        for slot in bits(unplaced) {
            let effect = self.timeline.in_slot(slot).effect;
            let observes = self.object.kind(effect) != Kind::Overwrite;
            if observes && self.object.step(state, effect).is_some() {
                return true;
            }
        }
        for class in (0..).take(self.crashed.classes.len()) {
            let effect = self.crashed.classes[class as usize].effect;
            let observes = self.object.kind(effect) == Kind::Change;
            if observes
                && self.crashed.next(used, class, now).is_some()
                && self.object.step(state, effect).is_some()
            {
                return true;
            }
        }
        false
    }

    /// Places open acts whose order does not matter.
    fn place_all(&mut self, node: &mut Node, slots: u128) {
        node.at.placed |= slots;
        if self.want_order {
            for slot in bits(slots) {
                self.leave_trail(node, self.timeline.in_slot(slot).act);
            }
        }
    }

    fn leave_trail(&mut self, node: &mut Node, act: u32) {
        if self.want_order {
            node.trail = self.trail.push(node.trail, act);
        }
    }

    /// Takes note of how far the search got.
    fn note(&mut self, node: &Node) {
        let front = node.at.front as usize;
        if front > self.furthest {
            self.furthest = front;
            self.there.clear();
        }
        let known = front < self.furthest || self.there.contains(&node.at.state);
        if !known && self.there.len() <= SHOWN_MAX {
            self.there.push(node.at.state);
        }
    }

    fn contradiction(&self) -> Contradiction {
        let states = self.there.iter().take(SHOWN_MAX).map(|&state| self.object.show(state));
        let last = if self.foreseen { self.timeline.len() - 1 } else { self.furthest };
        Contradiction {
            act: self.timeline.act(last).act,
            states: states.collect(),
            more: self.there.len() > SHOWN_MAX,
        }
    }
}
