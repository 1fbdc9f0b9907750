//! How far the eventual keyspaces of this node agree with those of the others.

use gossip::liveness::Vitality;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::register::{PeerLabel, PeerSeconds, Register, raise, signed};
use crate::node::{GossipSummary, Summary};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LackedLabels {
    peer: String,
    at: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BytesLabels {
    kind: &'static str,
    direction: &'static str,
}

/// Instruments of convergence. Peers that were not compared with since the start have no comparison.
#[derive(Debug)]
pub(super) struct ConvergenceMetrics {
    unreplicated: Gauge,
    certificates: Gauge,
    holes: Gauge,
    actors: Gauge,
    conflicts: Gauge,
    keys_differing: Counter,
    bytes: Family<BytesLabels, Counter>,
    lag: PeerSeconds,
    exchange_age: PeerSeconds,
    lacked: Family<LackedLabels, Gauge>,
    roots_agree: Family<PeerLabel, Gauge>,
    blocked: Family<PeerLabel, Gauge>,
    up: Family<PeerLabel, Gauge>,
    downs: Counter,
    liveness_malformed: Counter,
    liveness_rebuilt: Counter,
}

impl ConvergenceMetrics {
    pub(super) fn new(r: &mut Register<'_>) -> Self {
        Self {
            unreplicated: r.gauge(
                "gossip_unreplicated_acked_writes",
                "Writes acknowledged here that no other node is known to have",
            ),
            certificates: r.gauge(
                "gossip_certificates",
                "Certificates of deletes that are still told to others",
            ),
            holes: r.gauge("gossip_clock_holes", "Spans of the clock above what is complete"),
            actors: r.gauge("gossip_clock_actors", "Actors that the clock names"),
            conflicts: r.gauge(
                "gossip_keys_in_conflict",
                "Keys with more than one value, also where the last writer hides the others",
            ),
            keys_differing: r.counter(
                "gossip_keys_differing",
                "Keys that comparisons of hash trees found to differ",
            ),
            bytes: r.family(
                "gossip_bytes",
                "Bytes of messages between replicas; quorum reads count among sessions",
            ),
            lag: r.family(
                "gossip_convergence_lag_seconds",
                "Age of the oldest write taken here that a peer is not known to have",
            ),
            exchange_age: r.family(
                "gossip_last_exchange_age_seconds",
                "Time since clocks were compared with a peer",
            ),
            lacked: r.family(
                "gossip_writes_lacked",
                "Writes that one of the two had not when clocks were compared last",
            ),
            roots_agree: r.family(
                "gossip_roots_agree",
                "1 when both showed the same values when clocks were compared last",
            ),
            blocked: r.family(
                "gossip_certificates_blocked",
                "Certificates kept because a peer is not known to have them",
            ),
            up: r.family(
                "gossip_peer_up",
                "1 while a peer answers, or has not been silent for long",
            ),
            downs: r.counter("gossip_peer_downs", "Times that a peer was found to be down"),
            liveness_malformed: r.counter(
                "gossip_liveness_malformed",
                "Messages about who is up that say nothing that they may",
            ),
            liveness_rebuilt: r.counter(
                "gossip_liveness_rebuilt",
                "Times that liveness had to begin anew after an error",
            ),
        }
    }

    pub(super) fn take(&self, summary: &Summary) {
        // Peers come and go.
        self.lag.clear();
        self.exchange_age.clear();
        self.lacked.clear();
        self.roots_agree.clear();
        self.blocked.clear();
        self.up.clear();
        let Some(gossip) = &summary.gossip else { return };
        self.take_own(gossip);
        for (node, vitality) in &gossip.liveness.members {
            let is_up = match vitality {
                Vitality::Up | Vitality::Suspect => true,
                Vitality::Down => false,
                // It is not known to be either.
                Vitality::Unknown => continue,
            };
            let label = PeerLabel { peer: summary.name_of(*node) };
            self.up.get_or_create(&label).set(i64::from(is_up));
        }
        for view in &gossip.view.peers {
            let peer = summary.name_of(view.node);
            let label = PeerLabel { peer: peer.clone() };
            self.lag.get_or_create(&label).set(seconds(view.lag_ms));
            self.blocked.get_or_create(&label).set(signed(view.blocks));
            let Some(compared) = &view.compared else { continue };
            self.exchange_age.get_or_create(&label).set(seconds(compared.ago_ms));
            self.roots_agree.get_or_create(&label).set(i64::from(compared.roots_agree));
            for (at, writes) in [("here", compared.lacked_here), ("peer", compared.lacked_there)] {
                let labels = LackedLabels { peer: peer.clone(), at };
                self.lacked.get_or_create(&labels).set(signed(writes));
            }
        }
    }

    fn take_own(&self, gossip: &GossipSummary) {
        self.unreplicated.set(signed(gossip.unreplicated));
        self.certificates.set(signed(gossip.view.certificates));
        self.holes.set(signed(gossip.view.holes));
        self.actors.set(signed(gossip.view.actors));
        self.conflicts.set(signed(gossip.view.conflicts));
        raise(&self.keys_differing, gossip.counts.keys_differing);
        raise(&self.downs, gossip.liveness.downs);
        raise(&self.liveness_malformed, gossip.liveness.counts.malformed);
        raise(&self.liveness_rebuilt, gossip.liveness.counts.rebuilt);
        let traffic = &gossip.counts.traffic;
        for (kind, direction, bytes) in [
            ("session", "sent", traffic.sessions_sent),
            ("session", "received", traffic.sessions_received),
            ("rumor", "sent", traffic.rumors_sent),
            ("rumor", "received", traffic.rumors_received),
        ] {
            raise(&self.bytes.get_or_create(&BytesLabels { kind, direction }), bytes);
        }
    }
}

fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}
