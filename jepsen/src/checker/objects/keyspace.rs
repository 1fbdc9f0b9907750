//! Several strings or registers at once, changed by transactions.

use super::text::Strings;
use super::{DEAD, Kind, Object, State};
use crate::hash::QuickMap;

/// One step of a transaction, on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Micro<'h> {
    /// Returned the string.
    Get(&'h str),
    /// Set it.
    Put(&'h str),
    /// Added to its end.
    Append(&'h str),
    /// Found the first string and set the second one.
    Cas(&'h str, &'h str),
}

/// Some keys, each with a string. A state is the number of a list of their states.
#[derive(Debug)]
pub struct Keyspace<'h> {
    names: Vec<&'h str>,
    strings: Vec<Strings<'h>>,
    /// What each effect does, key by key in its order.
    effects: Vec<Vec<(u32, Micro<'h>)>>,
    states: Vec<Box<[State]>>,
    numbers: QuickMap<Box<[State]>, State>,
}

impl<'h> Keyspace<'h> {
    /// The object, from the names of its keys, what they hold at first, and its effects.
    pub fn new(names: Vec<&'h str>, initial: &str, effects: Vec<Vec<(u32, Micro<'h>)>>) -> Self {
        let mut seen = vec![Vec::new(); names.len()];
        for &(key, micro) in effects.iter().flatten() {
            match micro {
                Micro::Get(text) | Micro::Cas(text, _) => seen[key as usize].push(text),
                Micro::Put(_) | Micro::Append(_) => {}
            }
        }
        let strings: Vec<Strings<'h>> = seen.into_iter().map(Strings::new).collect();
        let first = strings.iter().map(|strings| strings.state(initial)).collect();
        let (states, numbers) = (Vec::new(), QuickMap::default());
        let mut keyspace = Self { names, strings, effects, states, numbers };
        keyspace.number(first);
        keyspace
    }

    fn number(&mut self, state: Box<[State]>) -> State {
        if let Some(&number) = self.numbers.get(&state) {
            return number;
        }
        let number = self.states.len() as State;
        self.states.push(state.clone());
        self.numbers.insert(state, number);
        number
    }
}

impl Object for Keyspace<'_> {
    fn initial(&self) -> State {
        0
    }

    fn kind(&self, effect: u32) -> Kind {
        let looks = |(_, micro): &(u32, Micro<'_>)| matches!(micro, Micro::Get(_));
        if self.effects[effect as usize].iter().all(looks) { Kind::Observe } else { Kind::Change }
    }

    fn step(&mut self, state: State, effect: u32) -> Option<State> {
        let number = usize::try_from(state).expect("states are numbers of a list");
        let mut after = self.states[number].clone();
        for &(key, micro) in &self.effects[effect as usize] {
            let key = key as usize;
            let (strings, state) = (&self.strings[key], &mut after[key]);
            match micro {
                Micro::Get(text) if !strings.is(*state, text) => return None,
                Micro::Cas(old, _) if !strings.is(*state, old) => return None,
                Micro::Get(_) => {}
                Micro::Put(text) | Micro::Cas(_, text) => *state = strings.state(text),
                Micro::Append(text) => *state = strings.appended(*state, text),
            }
        }
        Some(self.number(after))
    }

    fn settle(&mut self, state: State, _now: u64) -> Option<State> {
        Some(state)
    }

    fn useful(&self, _effect: u32, _now: u64) -> bool {
        true
    }

    fn observed_at_once(&self) -> bool {
        false
    }

    fn show(&self, state: State) -> String {
        assert!(state != DEAD, "states of a keyspace are told apart by key");
        let number = usize::try_from(state).expect("states are numbers of a list");
        let each = self.states[number].iter().zip(&self.strings).zip(&self.names);
        let shown: Vec<String> = each
            .map(|((&state, strings), name)| format!("{name} = {}", strings.show(state)))
            .collect();
        shown.join(", ")
    }
}
