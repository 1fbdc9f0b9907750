//! Which faults a seed injects, and when.

use proto::NodeId;
use rand::{Rng, RngExt};

use super::network::{Micros, Network};

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One host crashes and starts again after a while.
    Crash(usize),
    /// One host crashes inside its next write to the log.
    CrashWriting(usize),
    /// All hosts start anew, two stand for election at once over a slow network, and a third, whose
    /// vote decides, crashes in the middle of it and is back at once.
    Election(usize),
    /// The leader of the data group crashes.
    CrashLeader,
    /// Every host crashes at once.
    CrashAll,
    /// Nothing gets from the first to the second.
    OneWayCut(usize, usize),
    /// One host is cut off in both directions.
    Isolate(usize),
    /// Messages are lost, doubled, delayed and reordered.
    Weather,
    /// The network is whole again.
    HealNetwork,
}

impl Fault {
    /// Draws a fault for a cluster of `hosts`.
    pub fn draw(hosts: usize, rng: &mut impl Rng) -> Self {
        match rng.random_range(0..100) {
            0..10 => Self::Crash(rng.random_range(0..hosts)),
            10..18 => Self::CrashWriting(rng.random_range(0..hosts)),
            18..26 => Self::Election(rng.random_range(0..hosts)),
            26..34 => Self::CrashLeader,
            34..40 => Self::CrashAll,
            40..55 => {
                let from = rng.random_range(0..hosts);
                Self::OneWayCut(from, (from + rng.random_range(1..hosts)) % hosts)
            }
            55..65 => Self::Isolate(rng.random_range(0..hosts)),
            65..82 => Self::Weather,
            _ => Self::HealNetwork,
        }
    }

    /// Microseconds until the next fault.
    pub fn pause(rng: &mut impl Rng) -> Micros {
        rng.random_range(50_000..1_200_000)
    }

    /// Microseconds from [`Fault::Election`] until the deciding host crashes: after two rounds of
    /// messages on average.
    pub fn within_election(rng: &mut impl Rng) -> Micros {
        rng.random_range(ELECTION_DELAY_MAX..3 * ELECTION_DELAY_MAX)
    }

    /// Microseconds that a crashed host stays down.
    pub fn downtime(rng: &mut impl Rng) -> Micros {
        rng.random_range(1_000..1_500_000)
    }
}

/// Slowest message during [`Fault::Election`].
pub const ELECTION_DELAY_MAX: Micros = 60_000;

/// How long hosts are down before [`Fault::Election`], and the deciding one within it.
pub const ELECTION_DOWNTIME: Micros = 500;

/// Makes the network bad in a way drawn per fault.
pub fn weather(network: &mut Network, rng: &mut impl Rng) {
    network.loss = rng.random_range(0..150);
    network.duplication = rng.random_range(0..200);
    network.reordering = rng.random_range(0..100);
    network.delay_max = rng.random_range(0..30_000);
}

/// Cuts `node` off from all others, both ways.
pub fn isolate(network: &mut Network, node: NodeId, others: impl Iterator<Item = NodeId>) {
    for other in others.filter(|other| *other != node) {
        network.cut(node, other);
        network.cut(other, node);
    }
}
