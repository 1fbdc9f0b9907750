//! Who seems to be up, for people and metrics.
//!
//! Who is a *member* comes from elsewhere and is never changed by what is said here; and nobody is left out of exchanges
//! because of it. A member that is said to be down is tried all the same, so that healing needs no verdict.
//!
//! [`Liveness`] is what a node needs of it; [`Swim`] is SWIM with suspicion (Das, Gupta and Motivala, DSN 2002) by the crate
//! `foca`. Its messages travel on a lane of their own of the links between nodes, may be lost there as datagrams are, and
//! come from a peer that is proven. No clock and no chance of its own: the caller says how late it is, and gives the
//! seed.
//!
//! # Guarantees
//! - Any message may be lost, come twice, late, or say anything: at worst a member is shown as what it is not, for a while; where
//!   somebody gave it the highest of all incarnations, until all have started anew.
//! - An error or a panic inside of `foca` ends with a new instance of it, which asks the members anew.
//! - What is kept grows with the number of nodes, not with how often they start: a node is its id, and of its
//!   incarnations the highest counts.

mod codec;
mod swim;

#[cfg(test)]
mod tests;

pub use swim::{ANNOUNCE_MS, Swim};

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use proto::NodeId;

/// What seems to be true of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Vitality {
    /// Nothing was heard of it yet.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It did not answer somebody, and has a while to say that it is there.
    Suspect,
    /// It did not say so in time.
    Down,
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Output {
    /// To be sent, unless the lane is full or the link is down.
    pub sends: Vec<(NodeId, Bytes)>,
    /// Members that were found to be down, in order.
    pub downs: Vec<NodeId>,
}

/// What happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LivenessCounts {
    /// Messages of peers that say nothing that they may.
    pub malformed: u64,
    /// Times that it had to begin anew after an error or a panic.
    pub rebuilt: u64,
}

/// Finds out who is up. See the module page.
pub trait Liveness: fmt::Debug + Send {
    /// The other members, from now on. Nobody else is sent anything, listened to or spoken of.
    fn set_members(&mut self, others: &BTreeSet<NodeId>);

    /// A peer says something. `from` is proven; what it says may be anything.
    fn on_packet(&mut self, from: NodeId, packet: &[u8]);

    /// It is that late by a clock that never stops or jumps back.
    fn on_time(&mut self, now_ms: u64);

    /// What is to be done since the last poll.
    fn poll(&mut self) -> Output;

    /// What seems to be true of a member.
    fn vitality(&self, node: NodeId) -> Vitality;

    /// What happened since the start.
    fn counts(&self) -> LivenessCounts;
}
