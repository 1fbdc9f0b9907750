//! Objects as the search sees them: numbers for states, numbers for effects.
//!
//! | file | object |
//! |---|---|
//! | `cell` | a register |
//! | `text` | a string with get, put and append |
//! | `lock` | a mutex |
//! | `keyspace` | several strings or registers at once, with transactions |

mod cell;
mod keyspace;
mod lock;
mod text;

pub use cell::Cell;
pub use keyspace::{Keyspace, Micro};
pub use lock::Lock;
pub use text::{Doing, Text};

/// A state of an object.
pub type State = u64;

/// A state from which nothing can be observed any more, until it is overwritten. All such states
/// are one.
pub const DEAD: State = State::MAX;

/// What an effect does with the state before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Looks at it and leaves it as it is.
    Observe,
    /// Replaces it, whatever it was.
    Overwrite,
    /// Depends on it and may change it.
    Change,
}

/// A sequential object. Effects have numbers; equal effects have equal numbers.
pub trait Object {
    /// The state at the beginning.
    fn initial(&self) -> State;

    /// What an effect does with states.
    fn kind(&self, effect: u32) -> Kind;

    /// The state after an effect; `None` if it cannot have happened in this state.
    fn step(&mut self, state: State, effect: u32) -> Option<State>;

    /// The same state, or [`DEAD`] if no effect that ends at `now` or later can tell. `None` if
    /// no continuation can exist.
    fn settle(&mut self, state: State, now: u64) -> Option<State>;

    /// Whether a crashed effect may still be of use to effects that end at `now` or later. False
    /// only if it then never is again.
    fn useful(&self, effect: u32, now: u64) -> bool;

    /// Whether a crashed effect is of no use unless the very next one observes it.
    fn observed_at_once(&self) -> bool;

    /// A state as people read it.
    fn show(&self, state: State) -> String;
}
