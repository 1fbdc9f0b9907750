//! The rules of eventual keyspaces, played in millions of schedules.
//!
//! Replicas take writes at any time, in any place. What they tell each other may come late, twice, in
//! any order or never; disks are lost, put back and damaged; and yet nothing that was written may
//! vanish without a successor, and nothing that was deleted may come back. The model is these rules as
//! plain data: a set of dots is 128 bits, a replica some 200 bytes, a schedule some 15 us. So chance
//! can try what no one thinks of.
//!
//! # The rules
//!
//! - [`replica`]: a write has a dot and a context, the dots that it supersedes. A replica stores
//!   records and keeps one clock of all dots that it stores or knows to be obsolete. A dot in the clock
//!   that is not stored is obsolete, for ever. A record may be applied at any time, any number of
//!   times; what its context names and has not arrived is *pending*.
//! - [`session`]: clocks are merged only when a session closes, after all that its list named has been
//!   handed over. Certificates and contexts may be dropped at any time; each drop raises the
//!   *horizon*, and a session that carries a dot below the sender's horizon is *flagged*: it compares
//!   entries and hands over whole ones.
//! - [`world`]: the rest, one file a subject. `writes` (collapse of the last writer, expiry, drops),
//!   `clients` (tokens, sessions of clients, repeated writes), `travel` (rumors, sessions), `failures`
//!   (actors, recovery), `damage`, `retirement`, `quorum`, `members`, `freshness`.
//!
//! # The oracle
//!
//! [`truth`] knows all writes with their true contexts. No rule reads it, but for what a record itself
//! carries. After every step, at each replica that changed (`world/check.rs`):
//!
//! - no dot stands for two writes;
//! - I1: a value that was obsolete at a replica is not stored there again;
//! - I2: nothing live is superseded by a dot of the clock; no live sibling is in another's context;
//! - I3: a value in the clock is stored, or a dot of the clock supersedes it;
//! - I4: equal clocks mean equal live siblings.
//!
//! Where it applies: a quorum read misses no quorum write that was acknowledged before it, its answer
//! is exact, and no quorum write is lost while at most N - W disks fail at a time; sessions of clients
//! never go back; nobody claims to be fresher than it is; an expiry ends its own value only; a repeated
//! write goes over nothing that superseded the first; retirement takes nothing that a member holds.
//!
//! In the end (`world/heal.rs`) sessions alone must make all members agree; then exactly the values are
//! live that nothing known supersedes, what nobody knows was on no disk at some time, and where the
//! last writer wins, it does.
//!
//! # Finding
//!
//! A seed is a whole schedule ([`Schedule`]); [`Runner`] plays seeds, [`Runner::trace`] prints one step
//! by step. [`Search`] tries all schedules of a small setting. Each [`Mutant`] is a rule broken on
//! purpose that has to be found by chance or by a [`Script`]. [`Baseline`] has certificates that age,
//! for comparison.
//!
//! # What is not in it
//!
//! - Bytes: encoding and batches of the log. The shipped core, which follows, has them ([`follow`](crate::follow)).
//! - Time, except for expiry, stamps and the order of beats: no drift, no timeouts.
//! - Stamps far ahead that a receiver stores without moving its own clock.
//! - Hash trees: leaves are compared as sets. Limits on siblings, tokens and batches.
//! - Keys share a clock here too, but a context is cut to the dots of its key, because nothing ever
//!   asks a context about another key.

pub mod baseline;
pub mod counters;
pub mod dots;
pub mod follow;
pub mod mutant;
pub mod operation;
pub mod replica;
pub mod runner;
pub mod schedule;
pub mod script;
pub mod search;
pub mod session;
pub mod truth;
pub mod violation;
pub mod world;

pub use baseline::Baseline;
pub use counters::{Counters, Event};
pub use follow::{Effect, Follow};
pub use mutant::Mutant;
pub use operation::{Basis, Operation};
pub use runner::{Finding, Outcome, Runner};
pub use schedule::Schedule;
pub use script::Script;
pub use search::{Reached, Search};
pub use violation::Violation;
pub use world::{Setting, World};
