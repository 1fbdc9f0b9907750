//! Linearizability of a register with any values, by a frontier of states.
//!
//! The engine walks through the calls and returns of a history and keeps all states the register
//! can be in: the value, which of the open acts have already taken effect, and which crashed acts
//! were used. Only when an act returns must it have taken effect, so only then are states expanded
//! (just-in-time linearization: Lowe, Testing for Linearizability, 2017): each state in which the
//! act has not been placed yet is continued by placing open acts, until the act itself is placed.
//! No state left means that the history is not linearizable.
//!
//! Deciding this is NP-complete, so everything hangs on having few states. Each of these rules
//! leaves out states without leaving out an answer:
//!
//! 1. An open read is placed as soon as the state has its value: it changes nothing.
//! 2. Of open acts with the same effect, the one that ends first is placed first: they can be
//!    exchanged.
//! 3. A value that no later or open act can see is like any other such value: they are all
//!    [`DEAD`].
//! 4. An open write of a dead value is placed for free before another write, or when the value is
//!    dead anyway: nobody sees it.
//! 5. Crashed acts with the same effect are counted, not told apart; and a state that used fewer
//!    of them, and is otherwise equal, makes the other superfluous.
//! 6. A crashed act is placed only if some open act sees its value: within one expansion the last
//!    act placed is never a crashed one, so nothing else can be the reason for placing it.
//!
//! The budget counts states and comparisons of states; when it is spent the answer is unknown.

mod state;

use self::state::{DEAD, Expansion, State, StateSet};
use super::acts::{Act, Conflict, Effect, Finding, NEVER, Register, Value};
use super::options::Deadline;
use super::trail::{Trail, bits};
use crate::hash::QuickMap;

/// Most acts that may be open at one time, crashed ones not counted.
const OPEN_MAX: usize = 128;

/// States between two looks at the clock.
const CLOCK_EVERY: u32 = 4096;

/// States that each attempt keeps from one return to the next; the last one keeps all.
const WIDTHS: [usize; 4] = [4, 16, 128, usize::MAX];

/// Checks a register with a budget of this many states.
///
/// The first attempts keep only the most promising states. Good histories mostly need no more, and
/// with many crashed acts it is the difference between milliseconds and never.
pub fn check(
    register: &Register<'_>,
    budget: u64,
    deadline: Deadline,
    want_order: bool,
) -> Finding {
    let mut left = budget;
    let mut finding = Finding::Unknown("the budget of states is zero".to_owned());
    for width in WIDTHS {
        let mut search = Search::new(register, left, want_order);
        search.width = width;
        search.deadline = deadline;
        finding = search.run();
        left = search.budget;
        if !matches!(finding, Finding::Unknown(_)) {
            break;
        }
    }
    finding
}

/// Like [`check`], but tells dead values apart (without rules 3 and 4), so that an explanation names
/// them. For small registers.
pub fn explain(register: &Register<'_>, budget: u64) -> Finding {
    let mut search = Search::new(register, budget, false);
    search.last_seen.fill(NEVER);
    search.run()
}

/// Crashed acts with the same effect.
#[derive(Debug)]
struct Class {
    effect: Effect,
    value: Value,
    expected: Value,
    /// In the order of their calls.
    acts: Vec<u32>,
    /// How many have been called.
    called: u32,
}

/// An open act in its slot.
#[derive(Clone, Copy, Debug)]
struct Slot {
    act: u32,
    /// Open acts with the same effect that end before this one (rule 2).
    earlier: u128,
}

struct Search<'r, 'h> {
    register: &'r Register<'h>,
    want_order: bool,
    budget: u64,
    deadline: Deadline,
    /// Returns until the clock is looked at.
    clock: u32,
    last_seen: Vec<u64>,
    classes: Vec<Class>,
    /// The class of each crashed act.
    class_of: QuickMap<u32, u32>,
    /// Classes with acts that were called, by the value a cas of them expects; writes are apart.
    called_writes: Vec<u32>,
    called_cas: QuickMap<Value, Vec<u32>>,

    slots: [Option<Slot>; OPEN_MAX],
    /// The slot of each open act.
    slot_of: QuickMap<u32, u8>,
    /// Slots of open reads by value.
    reads: Vec<u128>,
    /// Slots of open cas by the value they expect.
    cas: Vec<u128>,
    /// Slots of open writes.
    writes: u128,
    /// Slots of open writes of dead values, as of `now`.
    dead_writes: u128,
    /// The end of the act that returns.
    now: u64,

    frontier: Vec<State>,
    /// States that are kept from one return to the next; those that used the fewest crashed acts.
    width: usize,
    /// Whether states were left out, so that having none left proves nothing.
    narrowed: bool,
    /// What was placed: (previous entry, act). Entry 0 is the start.
    trail: Trail,
}

/// Why an expansion stopped early.
struct BudgetSpent;

impl<'r, 'h> Search<'r, 'h> {
    fn new(register: &'r Register<'h>, budget: u64, want_order: bool) -> Self {
        let mut search = Self {
            register,
            want_order,
            budget: budget.min(u64::from(u32::MAX)),
            deadline: Deadline::NEVER,
            clock: 0,
            last_seen: register.last_seen(),
            classes: Vec::new(),
            class_of: QuickMap::default(),
            called_writes: Vec::new(),
            called_cas: QuickMap::default(),
            slots: [None; OPEN_MAX],
            slot_of: QuickMap::default(),
            reads: vec![0; register.value_count],
            cas: vec![0; register.value_count],
            writes: 0,
            dead_writes: 0,
            now: 0,
            frontier: vec![State {
                value: super::acts::INITIAL,
                placed: 0,
                used: Vec::new(),
                trail: 0,
            }],
            width: usize::MAX,
            narrowed: false,
            trail: Trail::new(),
        };
        search.classify();
        search
    }

    fn classify(&mut self) {
        let mut numbers: QuickMap<(Effect, Value, Value), u32> = QuickMap::default();
        for (place, act) in (0..).zip(&self.register.acts).filter(|(_, act)| act.crashed()) {
            let number =
                *numbers.entry((act.effect, act.value, act.expected)).or_insert_with(|| {
                    let Act { effect, value, expected, .. } = *act;
                    self.classes.push(Class {
                        effect,
                        value,
                        expected,
                        acts: Vec::new(),
                        called: 0,
                    });
                    u32::try_from(self.classes.len() - 1)
                        .expect("there are fewer classes than acts")
                });
            self.classes[number as usize].acts.push(place);
            self.class_of.insert(place, number);
        }
    }

    /// Walks through calls and returns in the order of time, calls first in each moment.
    fn run(&mut self) -> Finding {
        let acts = &self.register.acts;
        let mut returns: Vec<(u64, u32)> = (0..)
            .zip(acts)
            .filter(|(_, act)| !act.crashed())
            .map(|(at, act)| (act.end, at))
            .collect();
        returns.sort_unstable();
        let mut returns = returns.into_iter().peekable();
        let mut calls = (0..).zip(acts).peekable();
        loop {
            let end = returns.peek().map_or(NEVER, |&(end, _)| end);
            if let Some((place, act)) = calls.next_if(|(_, act)| act.start <= end) {
                if !self.call(place, act) {
                    return Finding::Unknown(format!(
                        "more than {OPEN_MAX} operations are open at one time"
                    ));
                }
                continue;
            }
            let Some((_, place)) = returns.next() else { break };
            match self.returned(place) {
                Ok(None) => {}
                Ok(Some(_)) if self.narrowed => {
                    return Finding::Unknown("the search was too narrow".to_owned());
                }
                Ok(Some(conflict)) => return Finding::Invalid(conflict),
                Err(BudgetSpent) => {
                    let ns = acts[place as usize].end - 1;
                    return Finding::Unknown(format!(
                        "the budget of states was spent at what returned at {}.{:06} ms",
                        ns / 1_000_000,
                        ns % 1_000_000,
                    ));
                }
            }
        }
        Finding::Valid(self.order())
    }

    /// Notes a call; false if too many acts are open.
    fn call(&mut self, place: u32, act: &Act) -> bool {
        if let Some(&number) = self.class_of.get(&place) {
            let class = &mut self.classes[number as usize];
            class.called += 1;
            if class.called == 1 {
                match class.effect {
                    Effect::Cas => self.called_cas.entry(class.expected).or_default().push(number),
                    Effect::Read | Effect::Write => self.called_writes.push(number),
                }
            }
            return true;
        }
        let Some(free) = self.slots.iter().position(Option::is_none) else { return false };
        let bit = 1 << free;
        let mut earlier = 0;
        for (slot, other) in self.slots.iter_mut().enumerate() {
            let Some(other) = other else { continue };
            let open = &self.register.acts[other.act as usize];
            if (open.effect, open.value, open.expected) == (act.effect, act.value, act.expected) {
                if open.end <= act.end {
                    earlier |= 1 << slot;
                } else {
                    other.earlier |= bit;
                }
            }
        }
        self.slots[free] = Some(Slot { act: place, earlier });
        self.slot_of.insert(place, u8::try_from(free).expect("there are 128 slots"));
        match act.effect {
            Effect::Read => self.reads[act.value as usize] |= bit,
            Effect::Write => self.writes |= bit,
            Effect::Cas => self.cas[act.expected as usize] |= bit,
        }
        true
    }

    /// Makes sure that an act that returns has been placed in all states.
    fn returned(&mut self, place: u32) -> Result<Option<Conflict>, BudgetSpent> {
        self.now = self.register.acts[place as usize].end;
        self.dead_writes = self.find_dead_writes();
        self.forget_dead_classes();
        let slot = self.slot_of.remove(&place).expect("an act returns after its call");
        let bit = 1u128 << slot;
        let mut expansion = Expansion::new(bit);
        for mut state in std::mem::take(&mut self.frontier) {
            self.settle(&mut state);
            expansion.add(state);
        }
        let mut successors = Vec::new();
        while let Some(state) = expansion.pop() {
            self.clock = (self.clock + 1) % CLOCK_EVERY;
            if self.clock == 0 && self.deadline.is_over() {
                return Err(BudgetSpent);
            }
            self.successors(&state, slot, &mut successors);
            for mut state in successors.drain(..) {
                self.settle(&mut state);
                let cost = expansion.add(state);
                self.budget = self.budget.checked_sub(cost).ok_or(BudgetSpent)?;
            }
            if expansion.done.states.len() >= self.width || expansion.is_wide(self.width) {
                self.narrowed = true;
                break;
            }
        }
        if expansion.done.states.is_empty() {
            return Ok(Some(self.conflict(place, &expansion.seen)));
        }
        self.free(slot);
        self.frontier = expansion.done.states;
        if self.frontier.len() > self.width {
            self.narrowed = true;
            self.frontier.sort_by_key(State::crashed_used);
            self.frontier.truncate(self.width);
        }
        Ok(None)
    }

    fn free(&mut self, slot: u8) {
        let bit = 1u128 << slot;
        let freed = self.slots[usize::from(slot)].take().expect("the slot was in use");
        let act = &self.register.acts[freed.act as usize];
        match act.effect {
            Effect::Read => self.reads[act.value as usize] &= !bit,
            Effect::Write => self.writes &= !bit,
            Effect::Cas => self.cas[act.expected as usize] &= !bit,
        }
        for other in self.slots.iter_mut().flatten() {
            other.earlier &= !bit;
        }
    }

    fn is_dead(&self, value: Value) -> bool {
        value == DEAD || self.last_seen[value as usize] < self.now
    }

    fn find_dead_writes(&self) -> u128 {
        bits(self.writes)
            .filter(|&slot| self.is_dead(self.act_in(slot).value))
            .fold(0, |dead, slot| dead | 1 << slot)
    }

    /// Crashed writes of dead values are never used again.
    fn forget_dead_classes(&mut self) {
        let (classes, last_seen, now) = (&self.classes, &self.last_seen, self.now);
        self.called_writes
            .retain(|&class| last_seen[classes[class as usize].value as usize] >= now);
    }

    fn act_in(&self, slot: u8) -> &'r Act {
        let slot = self.slots[usize::from(slot)].as_ref().expect("the slot is in use");
        &self.register.acts[slot.act as usize]
    }

    /// Applies rules 1, 3, 4 and 5 to a state.
    fn settle(&mut self, state: &mut State) {
        if self.is_dead(state.value) {
            state.value = DEAD;
            self.place_all(state, self.dead_writes);
        } else {
            self.place_all(state, self.reads[state.value as usize]);
        }
        let (classes, last_seen, now) = (&self.classes, &self.last_seen, self.now);
        state.used.retain(|&(class, _)| last_seen[classes[class as usize].value as usize] >= now);
    }

    /// Places those of some open acts that are not placed yet; their order does not matter.
    fn place_all(&mut self, state: &mut State, slots: u128) {
        let missing = slots & !state.placed;
        if missing == 0 {
            return;
        }
        state.placed |= missing;
        for slot in bits(missing) {
            let act = self.slots[usize::from(slot)].as_ref().expect("the slot is in use").act;
            self.leave_trail(state, act);
        }
    }

    fn leave_trail(&mut self, state: &mut State, act: u32) {
        if self.want_order {
            state.trail = self.trail.push(state.trail, act);
        }
    }

    /// All ways to place one more act that may lead to placing the one in `target`.
    fn successors(&mut self, state: &State, target: u8, out: &mut Vec<State>) {
        let open = !state.placed;
        for slot in bits(self.writes & open & (!self.dead_writes | 1 << target)) {
            if self.earlier(slot) & open == 0 {
                let act = self.slots[usize::from(slot)].as_ref().expect("the slot is in use").act;
                out.push(self.written(state, slot, act));
            }
        }
        for at in 0..self.called_writes.len() {
            let class = self.called_writes[at];
            if let Some(act) = self.usable(state, class) {
                let mut next = state.clone();
                self.place_all(&mut next, self.dead_writes);
                self.take_class(&mut next, class, act);
                out.push(next);
            }
        }
        if state.value == DEAD {
            return;
        }
        for slot in bits(self.cas[state.value as usize] & open) {
            if self.earlier(slot) & open == 0 {
                let mut next = state.clone();
                next.value = self.act_in(slot).value;
                self.place_all(&mut next, 1 << slot);
                out.push(next);
            }
        }
        for at in 0..self.called_cas.get(&state.value).map_or(0, Vec::len) {
            let class = self.called_cas[&state.value][at];
            if let Some(act) = self.usable(state, class) {
                let mut next = state.clone();
                self.take_class(&mut next, class, act);
                out.push(next);
            }
        }
    }

    fn earlier(&self, slot: u8) -> u128 {
        self.slots[usize::from(slot)].as_ref().expect("the slot is in use").earlier
    }

    /// The state after an open write, with dead writes placed before it.
    fn written(&mut self, state: &State, slot: u8, act: u32) -> State {
        let mut next = state.clone();
        self.place_all(&mut next, self.dead_writes & !(1 << slot));
        self.place_all(&mut next, 1 << slot);
        next.value = self.register.acts[act as usize].value;
        next
    }

    /// The crashed act of a class that a state may use next, if that can help (rule 6).
    fn usable(&self, state: &State, number: u32) -> Option<u32> {
        let class = &self.classes[number as usize];
        let used = state.used(number);
        if used == class.called {
            return None;
        }
        // Setting the value that is there helps only to hide a dead write.
        let hides = class.effect == Effect::Write && self.dead_writes & !state.placed != 0;
        if class.value == state.value && !hides {
            return None;
        }
        let seers = self.reads[class.value as usize] | self.cas[class.value as usize];
        let seen_by_crashed = || {
            let cas = self.called_cas.get(&class.value).into_iter().flatten();
            cas.copied().any(|cas| state.used(cas) < self.classes[cas as usize].called)
        };
        (seers & !state.placed != 0 || seen_by_crashed()).then(|| class.acts[used as usize])
    }

    fn take_class(&mut self, state: &mut State, class: u32, act: u32) {
        state.use_one(class);
        state.value = self.classes[class as usize].value;
        self.leave_trail(state, act);
    }

    /// What contradicts itself once an act cannot be placed.
    fn conflict(&self, place: u32, seen: &StateSet) -> Conflict {
        let why = self.register.say(|| self.no_place(place, seen));
        let acts = (0..).zip(&self.register.acts).filter(|(_, act)| act.start <= self.now);
        Conflict { acts: acts.map(|(place, _)| place).collect(), culprit: Some(place), why }
    }

    fn no_place(&self, place: u32, seen: &StateSet) -> String {
        let mut values: Vec<Value> = seen.states.iter().map(|state| state.value).collect();
        values.sort_unstable();
        values.dedup();
        let shown: Vec<String> = values
            .iter()
            .take(4)
            .map(|&value| match value {
                DEAD => "a value that nobody reads".to_owned(),
                value => self.register.show(value),
            })
            .collect();
        let more = if values.len() > shown.len() { " or others" } else { "" };
        format!(
            "{} has no place: after all that returned before, the register can only hold {}{more}",
            self.register.operation(place),
            shown.join(" or "),
        )
    }

    /// The order in which some state placed everything.
    fn order(&self) -> Vec<u32> {
        let last = self.frontier.first().expect("a valid history leaves a state");
        self.trail.order(last.trail)
    }
}
