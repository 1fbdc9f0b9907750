//! Connections, links and certificates.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Snapshot;
use super::register::{PeerLabel, PeerSeconds, Register, raise};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabel {
    role: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabel {
    listener: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectionLabels {
    listener: &'static str,
    reason: &'static str,
}

/// Instruments of the network.
#[derive(Debug)]
pub(super) struct NetworkMetrics {
    rtt: PeerSeconds,
    dropped: Counter,
    unsent: Family<ReasonLabel, Counter>,
    accepted: Family<ListenerLabel, Counter>,
    rejected: Family<RejectionLabels, Counter>,
    certificate_expiry: Family<RoleLabel, Gauge>,
}

impl NetworkMetrics {
    pub(super) fn new(r: &mut Register<'_>) -> Self {
        Self {
            rtt: r.family("peer_rtt_seconds", "Round trip to a peer"),
            dropped: r.counter(
                "peer_messages_dropped",
                "Messages of peers dropped because the node was behind",
            ),
            unsent: r.family("peer_messages_unsent", "Messages to peers that were not sent"),
            accepted: r.family("connections_accepted", "Connections let in"),
            rejected: r.family("connections_rejected", "Connections not let in"),
            certificate_expiry: r.family(
                "tls_certificate_expiry_timestamp_seconds",
                "Unix time at which a certificate ends",
            ),
        }
    }

    pub(super) fn certificate_expiry(&self, role: &'static str, unix_seconds: i64) {
        self.certificate_expiry.get_or_create(&RoleLabel { role }).set(unix_seconds);
    }

    pub(super) fn take(&self, snapshot: &Snapshot) {
        // A peer without a link has no round trip.
        self.rtt.clear();
        for (peer, rtt) in &snapshot.peer_rtt {
            self.rtt.get_or_create(&PeerLabel { peer: peer.clone() }).set(rtt.as_secs_f64());
        }
        raise(&self.dropped, snapshot.inbox_dropped as u64);
        let (down, full) = snapshot.unsent;
        for (reason, count) in [("link_down", down), ("lane_full", full)] {
            raise(&self.unsent.get_or_create(&ReasonLabel { reason }), count);
        }
        for (listener, count) in &snapshot.accepted {
            raise(&self.accepted.get_or_create(&ListenerLabel { listener }), *count);
        }
        for (listener, reason, count) in &snapshot.rejected {
            let labels = RejectionLabels { listener, reason };
            raise(&self.rejected.get_or_create(&labels), *count);
        }
    }
}
