//! What a node measures about itself, in the OpenMetrics text format.
//!
//! One registry per node, so that several nodes can share a process. Labels are operations,
//! levels, outcomes and names of members; never a key, a value or the name of a client.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

use crate::node::Summary;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a client asked for: the calls of the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after its call")]
pub enum Op {
    Hello,
    Get,
    Range,
    Put,
    Delete,
    Txn,
    Status,
}

impl Op {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Get => "get",
            Self::Range => "range",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Txn => "txn",
            Self::Status => "status",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered.
    Ok,
    /// Refused or failed, and nothing was changed.
    Failed,
    /// Failed, and a write may have been applied.
    Unknown,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    op: &'static str,
    level: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OpLabel {
    op: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    level: &'static str,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabel {
    peer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabel {
    role: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    commit: &'static str,
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
    request_duration: Family<RequestLabels, Histogram, fn() -> Histogram>,
    requests_unknown_outcome: Family<OpLabel, Counter>,
    consistency_refusals: Family<RefusalLabels, Counter>,
    log_fsync_duration: Histogram,
    log_size_bytes: Gauge,
    raft_has_leader: Gauge,
    raft_is_leader: Gauge,
    raft_leader_changes: Counter,
    raft_proposals_pending: Gauge,
    raft_proposals_committed: Counter,
    raft_proposals_failed: Counter,
    raft_apply_lag_entries: Family<PeerLabel, Gauge>,
    raft_term: Gauge,
    raft_applied_index: Gauge,
    reads_pending: Gauge,
    peer_rtt: Family<PeerLabel, Gauge<f64, AtomicU64>>,
    revision_current: Gauge,
    store_size_bytes: Gauge,
    store_layer_bytes: Gauge,
    admission_requests: Gauge,
    admission_bytes: Gauge,
    admission_refused: Counter,
    peer_messages_dropped: Counter,
    peer_messages_unsent: Family<ReasonLabel, Counter>,
    read_only: Gauge,
    certificate_expiry: Family<RoleLabel, Gauge>,
    connections_accepted: Family<ListenerLabel, Counter>,
    connections_rejected: Family<RejectionLabels, Counter>,
}

/// 0.1 ms to 13 s, doubling: from a write on a fast disk to beyond the default timeout.
fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 18))
}

/// Registers a metric and keeps a handle to it.
fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("kvstore");
        let r = &mut registry;
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&build_labels()).set(1);
        r.register("build_info", "Version of this binary; always 1", build);
        Self {
            request_duration: add(
                r,
                "request_duration_seconds",
                "Time from a request's entry to its reply",
                Family::new_with_constructor(latency_histogram as fn() -> Histogram),
            ),
            requests_unknown_outcome: add(
                r,
                "requests_unknown_outcome",
                "Writes whose outcome the node could not tell",
                Family::default(),
            ),
            consistency_refusals: add(
                r,
                "consistency_refusals",
                "Reads refused because their level could not be met or is not offered",
                Family::default(),
            ),
            log_fsync_duration: add(
                r,
                "log_fsync_duration_seconds",
                "Time of one fdatasync of the write-ahead log",
                latency_histogram(),
            ),
            log_size_bytes: add(
                r,
                "log_size_bytes",
                "Bytes of the write-ahead log on disk",
                Gauge::default(),
            ),
            raft_has_leader: add(
                r,
                "raft_has_leader",
                "1 when a leader is known",
                Gauge::default(),
            ),
            raft_is_leader: add(r, "raft_is_leader", "1 on the leader", Gauge::default()),
            raft_leader_changes: add(
                r,
                "raft_leader_changes",
                "New leaders seen, over all groups",
                Counter::default(),
            ),
            raft_proposals_pending: add(
                r,
                "raft_proposals_pending",
                "Writes proposed and not answered",
                Gauge::default(),
            ),
            raft_proposals_committed: add(
                r,
                "raft_proposals_committed",
                "Writes proposed here that were committed",
                Counter::default(),
            ),
            raft_proposals_failed: add(
                r,
                "raft_proposals_failed",
                "Writes that could not be proposed or were replaced",
                Counter::default(),
            ),
            raft_apply_lag_entries: add(
                r,
                "raft_apply_lag_entries",
                "Entries a peer lacks, as the leader knows",
                Family::default(),
            ),
            raft_term: add(r, "raft_term", "Term of the data group", Gauge::default()),
            raft_applied_index: add(
                r,
                "raft_applied_index",
                "Applied index of the data group",
                Gauge::default(),
            ),
            reads_pending: add(
                r,
                "raft_reads_pending",
                "Reads that wait for a confirmed index",
                Gauge::default(),
            ),
            peer_rtt: add(r, "peer_rtt_seconds", "Round trip to a peer", Family::default()),
            revision_current: add(
                r,
                "revision_current",
                "Revision of keyspace default here",
                Gauge::default(),
            ),
            store_size_bytes: add(
                r,
                "store_size_bytes",
                "Bytes of the state store on disk",
                Gauge::default(),
            ),
            store_layer_bytes: add(
                r,
                "store_layer_bytes",
                "Bytes of the memory layer over the state store",
                Gauge::default(),
            ),
            admission_requests: add(
                r,
                "admission_queue_requests",
                "Requests inside the node",
                Gauge::default(),
            ),
            admission_bytes: add(
                r,
                "admission_queue_bytes",
                "Bytes of the requests inside the node",
                Gauge::default(),
            ),
            admission_refused: add(
                r,
                "admission_refused",
                "Requests refused because the node was full",
                Counter::default(),
            ),
            peer_messages_dropped: add(
                r,
                "peer_messages_dropped",
                "Messages of peers dropped because the node was behind",
                Counter::default(),
            ),
            peer_messages_unsent: add(
                r,
                "peer_messages_unsent",
                "Messages to peers that were not sent",
                Family::default(),
            ),
            read_only: add(r, "read_only", "1 while the disk has no space", Gauge::default()),
            certificate_expiry: add(
                r,
                "tls_certificate_expiry_timestamp_seconds",
                "Unix time at which a certificate ends",
                Family::default(),
            ),
            connections_accepted: add(
                r,
                "connections_accepted",
                "Connections accepted after their handshake",
                Family::default(),
            ),
            connections_rejected: add(
                r,
                "connections_rejected",
                "Connections refused",
                Family::default(),
            ),
            registry,
        }
    }
}

fn build_labels() -> BuildLabels {
    BuildLabels {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("KVSTORE_COMMIT").unwrap_or("unknown"),
    }
}

impl Metrics {
    /// A request was answered.
    pub fn request(&self, op: Op, level: &'static str, outcome: Outcome, took: Duration) {
        let labels = RequestLabels { op: op.as_str(), level, outcome: outcome.as_str() };
        self.request_duration.get_or_create(&labels).observe(took.as_secs_f64());
        if outcome == Outcome::Unknown {
            self.requests_unknown_outcome.get_or_create(&OpLabel { op: op.as_str() }).inc();
        }
    }

    /// A read was refused at its level. `reason` is the stable code.
    pub fn consistency_refusal(&self, level: &'static str, reason: proto::Code) {
        let labels = RefusalLabels { level, reason: reason.to_string() };
        self.consistency_refusals.get_or_create(&labels).inc();
    }

    /// The log was synced.
    pub fn log_fsync(&self, took: Duration) {
        self.log_fsync_duration.observe(took.as_secs_f64());
    }

    /// The files of the log have this many bytes together.
    pub fn log_size(&self, bytes: u64) {
        self.log_size_bytes.set(signed(bytes));
    }

    /// The certificate of `role` ends at this Unix time.
    pub fn certificate_expiry(&self, role: &'static str, unix_seconds: i64) {
        self.certificate_expiry.get_or_create(&RoleLabel { role }).set(unix_seconds);
    }

    /// Everything as text, with what `snapshot` read off just now.
    pub fn render(&self, snapshot: &Snapshot) -> String {
        self.take(snapshot);
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a string cannot fail");
        text
    }

    fn take(&self, snapshot: &Snapshot) {
        self.admission_requests.set(signed(snapshot.admission_requests as u64));
        self.admission_bytes.set(signed(snapshot.admission_bytes as u64));
        raise(&self.admission_refused, snapshot.admission_refused as u64);
        raise(&self.peer_messages_dropped, snapshot.inbox_dropped as u64);
        for (reason, count) in [("link_down", snapshot.unsent.0), ("lane_full", snapshot.unsent.1)]
        {
            raise(&self.peer_messages_unsent.get_or_create(&ReasonLabel { reason }), count);
        }
        self.read_only.set(i64::from(snapshot.read_only));
        self.peer_rtt.clear();
        for (peer, rtt) in &snapshot.peer_rtt {
            self.peer_rtt.get_or_create(&PeerLabel { peer: peer.clone() }).set(rtt.as_secs_f64());
        }
        for (listener, count) in &snapshot.accepted {
            let labels = ListenerLabel { listener };
            raise(&self.connections_accepted.get_or_create(&labels), *count);
        }
        for (listener, reason, count) in &snapshot.rejected {
            let labels = RejectionLabels { listener, reason };
            raise(&self.connections_rejected.get_or_create(&labels), *count);
        }
        if let Some(summary) = &snapshot.summary {
            self.take_summary(summary);
        }
    }

    fn take_summary(&self, summary: &Summary) {
        self.raft_has_leader.set(i64::from(summary.leader.is_some()));
        self.raft_is_leader.set(i64::from(summary.role == proto::v1::Role::Leader));
        raise(&self.raft_leader_changes, summary.leader_changes);
        self.raft_proposals_pending.set(signed(summary.proposals_pending));
        raise(&self.raft_proposals_committed, summary.proposals_committed);
        raise(&self.raft_proposals_failed, summary.proposals_failed);
        self.raft_term.set(signed(summary.term));
        self.raft_applied_index.set(signed(summary.applied));
        self.reads_pending.set(signed(summary.reads_pending));
        self.revision_current.set(signed(summary.revision));
        self.store_size_bytes.set(signed(summary.store_bytes));
        self.store_layer_bytes.set(signed(summary.layer_bytes));
        self.raft_apply_lag_entries.clear();
        for (node, lag) in &summary.lag {
            let member = summary.members.iter().find(|member| member.id == node.get());
            let peer = member.map_or_else(|| node.to_string(), |member| member.name.clone());
            self.raft_apply_lag_entries.get_or_create(&PeerLabel { peer }).set(signed(*lag));
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Brings a counter that mirrors another count up to it.
fn raise(counter: &Counter, value: u64) {
    counter.inner().fetch_max(value, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{NodeId, v1};

    #[test]
    fn names_follow_the_conventions() {
        let metrics = Metrics::default();
        metrics.request(Op::Put, "linearizable", Outcome::Unknown, Duration::from_millis(3));
        metrics.log_fsync(Duration::from_micros(107));
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
    fn a_peer_that_is_gone_is_not_shown() {
        let metrics = Metrics::default();
        let peer_rtt = vec![("n2".to_owned(), Duration::from_micros(250))];
        metrics.render(&Snapshot { peer_rtt, ..Snapshot::default() });
        assert!(!metrics.render(&Snapshot::default()).contains("n2"));
    }
}
