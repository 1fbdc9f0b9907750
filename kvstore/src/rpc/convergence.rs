//! How far the eventual keyspaces agree, as `kv.v1` says it.

use gossip::group::{Compared, PeerView, Traffic};
use gossip::liveness::Vitality;
use gossip::offset::Estimate;
use proto::v1;

use crate::node::GossipSummary;

/// What this node says of itself and of its peers.
pub(super) fn convergence(gossip: &GossipSummary) -> v1::Convergence {
    // Of actors the metrics say more.
    let GossipSummary { recovering, counts, unreplicated, view, liveness, clocks, actors: _ } =
        gossip;
    let vitality = |node| {
        let mut members = liveness.members.iter();
        members.find(|(member, _)| *member == node).map_or(Vitality::Unknown, |(_, found)| *found)
    };
    let clock_of = |node| {
        let mut clocks = clocks.peers.iter();
        clocks.find(|clock| clock.node == node).map(|clock| &clock.estimate)
    };
    let said = |view: &PeerView| peer(view, vitality(view.node), clock_of(view.node));
    v1::Convergence {
        recovering: *recovering,
        unreplicated_writes: *unreplicated,
        certificates: view.certificates,
        actors: view.actors,
        holes: view.holes,
        conflicts: view.conflicts,
        flagged_sessions: counts.flagged,
        keys_differing: counts.keys_differing,
        traffic: Some(traffic(&counts.traffic)),
        peers: view.peers.iter().map(said).collect(),
    }
}

fn peer(view: &PeerView, seems: Vitality, clock: Option<&Estimate>) -> v1::PeerConvergence {
    v1::PeerConvergence {
        node: view.node.get(),
        linked: view.is_linked,
        compared: view.compared.as_ref().map(comparison),
        level_ms: view.level_ms,
        blocked_certificates: view.blocks,
        lag_ms: view.lag_ms,
        flagged_sessions: view.flagged,
        traffic: Some(traffic(&view.traffic)),
        vitality: match seems {
            Vitality::Unknown => v1::Vitality::Unspecified,
            Vitality::Up => v1::Vitality::Up,
            Vitality::Suspect => v1::Vitality::Suspect,
            Vitality::Down => v1::Vitality::Down,
        }
        .into(),
        offset_us: clock.map(|clock| clock.offset),
        round_trip_us: clock.map(|clock| clock.round_trip),
    }
}

fn comparison(compared: &Compared) -> v1::ClockComparison {
    v1::ClockComparison {
        ago_ms: compared.ago_ms,
        lacked_here: compared.lacked_here,
        lacked_there: compared.lacked_there,
        roots_agree: compared.roots_agree,
    }
}

fn traffic(traffic: &Traffic) -> v1::Traffic {
    v1::Traffic {
        sessions_sent: traffic.sessions_sent,
        sessions_received: traffic.sessions_received,
        rumors_sent: traffic.rumors_sent,
        rumors_received: traffic.rumors_received,
    }
}
