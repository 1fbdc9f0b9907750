//! What a node measures about itself, in the OpenMetrics text format.
//!
//! One registry per node, so that several nodes can share a process. Labels are operations,
//! levels, outcomes and names of members; never a key, a value or the name of a client.

mod convergence;
mod gossip;
mod network;
mod raft;
mod register;
mod requests;
mod storage;

pub use requests::{Op, Outcome};

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use self::convergence::ConvergenceMetrics;
use self::gossip::GossipMetrics;
use self::network::NetworkMetrics;
use self::raft::RaftMetrics;
use self::register::Register;
use self::requests::RequestMetrics;
use self::storage::StorageMetrics;
use crate::node::Summary;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    commit: &'static str,
}

/// What is read off at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The node, once there is one.
    pub summary: Option<Summary>,
    /// Name and round trip of each peer that is connected.
    pub peer_rtt: Vec<(String, Duration)>,
    /// Requests inside the admission queue.
    pub admission_requests: usize,
    /// Their bytes.
    pub admission_bytes: usize,
    /// Requests the queue refused.
    pub admission_refused: usize,
    /// Messages of peers dropped because the node was behind.
    pub inbox_dropped: usize,
    /// Messages to peers that were not sent: because the link was down, because its lane was full.
    pub unsent: (u64, u64),
    /// The log waits for space.
    pub read_only: bool,
    /// Connections accepted, by listener.
    pub accepted: Vec<(&'static str, u64)>,
    /// Connections refused, by listener and reason.
    pub rejected: Vec<(&'static str, &'static str, u64)>,
}

/// The instruments of one node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: RequestMetrics,
    storage: StorageMetrics,
    raft: RaftMetrics,
    network: NetworkMetrics,
    gossip: GossipMetrics,
    convergence: ConvergenceMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("kvstore");
        let mut r = Register(&mut registry);
        let build: Family<BuildLabels, Gauge> =
            r.family("build_info", "Version of this binary; always 1");
        let (version, commit) = (client::version::VERSION, client::version::COMMIT);
        let labels = BuildLabels { version, commit };
        build.get_or_create(&labels).set(1);
        let (requests, storage) = (RequestMetrics::new(&mut r), StorageMetrics::new(&mut r));
        let (raft, network) = (RaftMetrics::new(&mut r), NetworkMetrics::new(&mut r));
        let (gossip, convergence) = (GossipMetrics::new(&mut r), ConvergenceMetrics::new(&mut r));
        Self { registry, requests, storage, raft, network, gossip, convergence }
    }
}

impl Metrics {
    /// A request was answered.
    pub fn request(&self, op: Op, level: &'static str, outcome: Outcome, took: Duration) {
        self.requests.request(op, level, outcome, took);
    }

    /// A read was refused at its level. `reason` is the stable code.
    pub fn consistency_refusal(&self, level: &'static str, reason: proto::Code) {
        self.requests.refusal(level, reason);
    }

    /// The log was synced; its files have this many bytes together.
    pub fn log_synced(&self, took: Duration, bytes_on_disk: u64) {
        self.storage.log_synced(took, bytes_on_disk);
    }

    /// The certificate of `role` ends at this Unix time.
    pub fn certificate_expiry(&self, role: &'static str, unix_seconds: i64) {
        self.network.certificate_expiry(role, unix_seconds);
    }

    /// Everything as text, with what `snapshot` read off just now.
    pub fn render(&self, snapshot: &Snapshot) -> String {
        self.requests.take(snapshot);
        self.storage.take(snapshot);
        self.network.take(snapshot);
        if let Some(summary) = &snapshot.summary {
            self.raft.take(summary);
            self.gossip.take(summary);
            self.convergence.take(summary);
        }
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{NodeId, v1};

    #[test]
    fn names_follow_the_conventions() {
        let metrics = Metrics::default();
        metrics.request(Op::Put, "linearizable", Outcome::Unknown, Duration::from_millis(3));
        metrics.log_synced(Duration::from_micros(107), 4096);
        metrics.consistency_refusal("bounded", proto::Code::LevelNotOffered);
        metrics.certificate_expiry("node", 1_800_000_000);
        let member = v1::Member { id: 7, name: "n2".into(), ..v1::Member::default() };
        let summary = Summary {
            leader: Some(NodeId(7)),
            revision: 9,
            leader_changes: 2,
            members: vec![member],
            lag: vec![(NodeId(7), 4)],
            ..Summary::default()
        };
        let snapshot = Snapshot {
            summary: Some(summary),
            peer_rtt: vec![("n2".into(), Duration::from_micros(250))],
            admission_requests: 3,
            ..Snapshot::default()
        };
        let text = metrics.render(&snapshot);
        for line in [
            "kvstore_request_duration_seconds_count{op=\"put\",level=\"linearizable\",outcome=\"unknown\"} 1",
            "kvstore_requests_unknown_outcome_total{op=\"put\"} 1",
            "kvstore_consistency_refusals_total{level=\"bounded\",reason=\"KV1007\"} 1",
            "kvstore_log_fsync_duration_seconds_count 1",
            "kvstore_log_size_bytes 4096",
            "kvstore_tls_certificate_expiry_timestamp_seconds{role=\"node\"} 1800000000",
            "kvstore_raft_has_leader 1",
            "kvstore_raft_is_leader 0",
            "kvstore_raft_leader_changes_total 2",
            "kvstore_raft_apply_lag_entries{peer=\"n2\"} 4",
            "kvstore_peer_rtt_seconds{peer=\"n2\"} 0.00025",
            "kvstore_revision_current 9",
            "kvstore_admission_queue_requests 3",
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn convergence_is_shown_by_peer_and_goes_with_it() {
        use ::gossip::group::{Compared, PeerView, Traffic, View};
        let metrics = Metrics::default();
        let peer = PeerView {
            node: NodeId(7),
            is_linked: true,
            compared: Some(Compared {
                ago_ms: 1_500,
                lacked_here: 2,
                lacked_there: 3,
                roots_agree: false,
            }),
            level_ms: None,
            blocks: 4,
            lag_ms: 2_500,
            flagged: 0,
            traffic: Traffic::default(),
        };
        let view = View { holes: 5, certificates: 6, conflicts: 8, actors: 9, peers: vec![peer] };
        let mut gossip = crate::node::GossipSummary { unreplicated: 11, ..Default::default() };
        gossip.view = view.into();
        let members = &mut gossip.liveness.members;
        members.push((NodeId(7), ::gossip::liveness::Vitality::Down));
        members.push((NodeId(9), ::gossip::liveness::Vitality::Unknown));
        gossip.liveness.downs = 13;
        gossip.counts.traffic.rumors_sent = 12;
        let member = v1::Member { id: 7, name: "n2".into(), ..v1::Member::default() };
        let summary = Summary { members: vec![member], gossip: Some(gossip), ..Summary::default() };
        let render = |summary: &Summary| {
            metrics.render(&Snapshot { summary: Some(summary.clone()), ..Snapshot::default() })
        };
        let text = render(&summary);
        for line in [
            "kvstore_gossip_unreplicated_acked_writes 11",
            "kvstore_gossip_convergence_lag_seconds{peer=\"n2\"} 2.5",
            "kvstore_gossip_last_exchange_age_seconds{peer=\"n2\"} 1.5",
            "kvstore_gossip_writes_lacked{peer=\"n2\",at=\"here\"} 2",
            "kvstore_gossip_writes_lacked{peer=\"n2\",at=\"peer\"} 3",
            "kvstore_gossip_roots_agree{peer=\"n2\"} 0",
            "kvstore_gossip_certificates_blocked{peer=\"n2\"} 4",
            "kvstore_gossip_certificates 6",
            "kvstore_gossip_peer_up{peer=\"n2\"} 0",
            "kvstore_gossip_peer_downs_total 13",
            "kvstore_gossip_clock_holes 5",
            "kvstore_gossip_clock_actors 9",
            "kvstore_gossip_keys_in_conflict 8",
            "kvstore_gossip_bytes_total{kind=\"rumor\",direction=\"sent\"} 12",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("peer=\"9\""), "nothing was heard of it: {text}");
        let text = render(&Summary { gossip: None, ..summary });
        assert!(!text.contains("peer=\"n2\""), "{text}");
    }

    #[test]
    fn a_peer_that_is_gone_is_not_shown() {
        let metrics = Metrics::default();
        let peer_rtt = vec![("n2".to_owned(), Duration::from_micros(250))];
        metrics.render(&Snapshot { peer_rtt, ..Snapshot::default() });
        assert!(!metrics.render(&Snapshot::default()).contains("n2"));
    }
}
