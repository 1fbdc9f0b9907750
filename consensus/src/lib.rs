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
//! 2. `offers` leave with what describes the snapshot they are about.
//! 3. `installed` and then `persist` go into the open batch of the write-ahead log. When that batch
//!    is durable, the node calls [`Group::persisted`]; meanwhile it goes on. Batches become durable
//!    in order.
//! 4. `committed` is applied, changes of members by [`Group::apply_conf_change`], and reported by
//!    [`Group::applied`].
//! 5. `reads` are answered once everything up to their index is applied; `reads_lost` are asked
//!    again, of the next leader.
//!
//! # Positions
//!
//! ```text
//!  start  <=  applied  <=  handed out  <=  min(commit, durable here)  <=  last
//! ```
//!
//! An installed snapshot moves all of them to its index: commit and last at once, the others when it
//! is durable. Only then is anything after it handed out.
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
//! - `log` is the log in memory, which begins where the node lets it.
//!
//! # Members
//!
//! Members change by entries of the log that take effect where they are applied: learners one at a
//! time, voters by joint consensus, which the leader leaves by itself. `group/changes.rs` says why
//! that is safe, `membership` what an entry comes to. A node in no list of members neither campaigns
//! nor counts, but it votes when asked and follows: it may not have heard yet that it was added. A
//! node that joins knows no members at all and begins with a snapshot.
//!
//! # Snapshots
//!
//! A leader whose log in memory no longer reaches back to what a follower needs asks its node for a
//! snapshot ([`Group::snapshot_wanted`], [`Group::set_snapshot`]) and hands out an offer. The
//! content travels between the nodes; [`Group::install`] takes the message when all of it is there.
//! The group knows of a snapshot what [`SnapshotMeta`] says, and no more.
//!
//! # Left out
//!
//! What is on its way to one follower is bounded by messages
//! ([`config::INFLIGHT_MESSAGES_MAX`]), not by bytes: the library counts messages only. The node
//! bounds the bytes, where its lanes to each peer are.

pub mod config;

mod boot;
mod drain;
mod durability;
mod effects;
mod error;
mod gate;
mod group;
mod log;
mod membership;
mod read;
mod snapshot;
mod status;
mod wire;

pub use boot::GroupLog;
pub use config::GroupConfig;
pub use effects::{GroupEffects, Outgoing, Persist, Proposed, ReadyNumber};
pub use error::{GroupError, ProposeError, ReadRefused, Rejected};
pub use group::{Group, conf_after};
pub use read::ReadId;
pub use snapshot::SnapshotMeta;
pub use status::{GroupStatus, LogExtent, PeerProgress, Role};
