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
    /// One process stands still while messages for it pile up.
    Pause(usize),
    /// The leader's process stands still.
    PauseLeader,
    /// The disk of one host has no room for a while.
    DiskFull(usize),
    /// The disk of one host is slow for a while.
    SlowDisk(usize),
    /// One host is cut off until the others have started anew and freed the log that it needs.
    Straggler(usize),
    /// The files of one host are damaged while it is down.
    Damage(usize),
    /// The state directories of one host, or of all, are deleted while they are down.
    StateLost(Option<usize>),
    /// A member is removed, its machine wiped, and a new one takes its place.
    Replace(usize),
    /// The leader is removed and replaced.
    ReplaceLeader,
}

/// Which faults a plan has more of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emphasis {
    /// None.
    #[default]
    Mixed,
    /// Losses of power.
    Power,
    /// Failovers.
    Leader,
    /// Processes that stand still.
    Pause,
    /// Disks without room.
    Full,
    /// Damaged files.
    Damage,
    /// Followers that fall far behind.
    Straggler,
    /// Lost state directories.
    State,
    /// Changes of members.
    Members,
}

impl Emphasis {
    fn fault(self, hosts: usize, rng: &mut impl Rng) -> Option<Fault> {
        let host = rng.random_range(0..hosts);
        let first = rng.random_bool(0.5);
        Some(match self {
            Self::Mixed => return None,
            Self::Power if first => Fault::Crash(host),
            Self::Power => Fault::CrashAll,
            Self::Leader => Fault::CrashLeader,
            Self::Pause if first => Fault::Pause(host),
            Self::Pause => Fault::PauseLeader,
            Self::Full => Fault::DiskFull(host),
            Self::Damage => Fault::Damage(host),
            Self::Straggler => Fault::Straggler(host),
            Self::State => Fault::StateLost(first.then_some(host)),
            Self::Members if first => Fault::Replace(host),
            Self::Members => Fault::ReplaceLeader,
        })
    }
}

impl Fault {
    /// Draws a fault for a cluster of `hosts`; with an emphasis, every other one is of that kind.
    pub fn draw(hosts: usize, emphasis: Emphasis, rng: &mut impl Rng) -> Self {
        let host = rng.random_range(0..hosts);
        if let Some(fault) = emphasis.fault(hosts, rng).filter(|_| rng.random_bool(0.5)) {
            return fault;
        }
        match rng.random_range(0..100) {
            0..8 => Self::Crash(host),
            8..15 => Self::CrashWriting(host),
            15..22 => Self::Election(host),
            22..28 => Self::CrashLeader,
            28..32 => Self::CrashAll,
            32..42 => Self::OneWayCut(host, (host + rng.random_range(1..hosts)) % hosts),
            42..49 => Self::Isolate(host),
            49..60 => Self::Weather,
            60..72 => Self::HealNetwork,
            72..75 => Self::Pause(host),
            75..78 => Self::PauseLeader,
            78..81 => Self::DiskFull(host),
            81..83 => Self::SlowDisk(host),
            83..88 => Self::Straggler(host),
            88..92 => Self::Damage(host),
            92..94 => Self::StateLost(Some(host)),
            94..95 => Self::StateLost(None),
            95..98 => Self::Replace(host),
            _ => Self::ReplaceLeader,
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

    /// Microseconds that a process stands still: up to twice an election timeout and more.
    pub fn standstill(rng: &mut impl Rng) -> Micros {
        rng.random_range(100_000..4_000_000)
    }

    /// Microseconds that a disk has no room, or is slow.
    pub fn shortage(rng: &mut impl Rng) -> Micros {
        rng.random_range(500_000..4_000_000)
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
