//! Replication of one group by Raft, as a synchronous core over the `raft` crate.
//!
//! A [`Group`] is one member of one group. It owns no clock, thread, socket, disk or chance: the
//! node calls it with what happened ([`Group::tick`], [`Group::step`], [`Group::propose`],
//! [`Group::read_index`], [`Group::persisted`], ...) and collects what to do with [`Group::poll`].
//! So the same code runs under the real node and under the simulation, and a seed replays byte for
//! byte.
//!
//! # The order of things
//!
//! For every [`GroupEffects`], in this order:
//!
//! 1. `send` may leave at once. Messages that promise something about the disk are not among them
//!    before it is true.
//! 2. `persist` goes into the open batch of the write-ahead log. When that batch is durable, the
//!    node calls [`Group::persisted`]; meanwhile it goes on. Batches become durable in order.
//! 3. `committed` is applied and reported by [`Group::applied`].
//! 4. `reads` are answered once everything up to their index is applied; `reads_lost` are asked
//!    again, of the next leader.
//!
//! # Positions
//!
//! ```text
//!  start  <=  applied  <=  handed out  <=  min(commit, durable here)  <=  last
//! ```
//!
//! Nothing above `durable here` is handed out on any node, the leader included. A leader counts
//! itself towards a majority only up to `durable here`; it may well commit without itself.
//!
//! # What guards what
//!
//! - [`config`] has every setting. Pre-vote and quorum check are on, so neither an isolated node
//!   nor a one-way partition disturbs a working leader.
//! - `gate` checks what peers send before the library sees it, because the library panics on much
//!   of what a broken peer could say; [`Rejected`] lists it.
//! - `wire` converts between the library's types and ours. No foreign byte reaches its decoder.
//! - `durability` holds messages back until what they promise is on disk.
//! - `read` makes read indexes safe: a context is never used twice, and an answer counts only if
//!   nothing changed since the question.
//! - `boot` refuses to start from a log that lost its tail.
//! - `log` is the log in memory.
//!
//! # Left out so far
//!
//! Changes of membership, snapshots and freeing of the log: all three are refused, not ignored. A
//! follower behind the start of its leader's log therefore stays behind.

pub mod config;

mod boot;
mod drain;
mod durability;
mod effects;
mod error;
mod gate;
mod group;
mod log;
mod read;
mod status;
mod wire;

pub use boot::GroupLog;
pub use config::GroupConfig;
pub use effects::{GroupEffects, Outgoing, Persist, Proposed, ReadyNumber};
pub use error::{GroupError, ProposeError, ReadRefused, Rejected};
pub use group::Group;
pub use read::ReadId;
pub use status::{GroupStatus, PeerProgress, Role};
