//! A mutex as an object of the search.

use super::{Kind, Object, State};

/// A mutex, free at first. Whoever holds it, anyone may release it.
pub struct Lock;

impl Lock {
    /// The effect of taking it.
    pub const ACQUIRE: u32 = 0;
    /// The effect of giving it back.
    pub const RELEASE: u32 = 1;
}

/// States of a [`Lock`].
const FREE: State = 0;
const HELD: State = 1;

impl Object for Lock {
    fn initial(&self) -> State {
        FREE
    }

    fn kind(&self, _effect: u32) -> Kind {
        Kind::Change
    }

    fn step(&mut self, state: State, effect: u32) -> Option<State> {
        match (state, effect) {
            (FREE, Self::ACQUIRE) => Some(HELD),
            (HELD, Self::RELEASE) => Some(FREE),
            _ => None,
        }
    }

    fn settle(&mut self, state: State, _now: u64) -> Option<State> {
        Some(state)
    }

    fn useful(&self, _effect: u32, _now: u64) -> bool {
        true
    }

    fn observed_at_once(&self) -> bool {
        true
    }

    fn show(&self, state: State) -> String {
        if state == FREE { "free" } else { "held" }.to_owned()
    }
}
