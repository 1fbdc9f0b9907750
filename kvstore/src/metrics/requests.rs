//! What clients asked and how it ended.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Snapshot;
use super::register::{Histograms, Register, raise, signed};

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
    History,
    Members,
    ChangeMember,
    MoveLeader,
    Keyspaces,
    PutKeyspace,
    Node,
    SaveSnapshot,
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
            Self::History => "history",
            Self::Members => "members",
            Self::ChangeMember => "change_member",
            Self::MoveLeader => "move_leader",
            Self::Keyspaces => "keyspaces",
            Self::PutKeyspace => "put_keyspace",
            Self::Node => "node",
            Self::SaveSnapshot => "save_snapshot",
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

/// Instruments of the handlers and of the queue behind them.
#[derive(Debug)]
pub(super) struct RequestMetrics {
    duration: Histograms<RequestLabels>,
    unknown_outcome: Family<OpLabel, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    queue_requests: Gauge,
    queue_bytes: Gauge,
    queue_refused: Counter,
}

impl RequestMetrics {
    pub(super) fn new(r: &mut Register<'_>) -> Self {
        Self {
            duration: r
                .histograms("request_duration_seconds", "Time from a request's entry to its reply"),
            unknown_outcome: r
                .family("requests_unknown_outcome", "Writes whose outcome the node could not tell"),
            refusals: r.family("consistency_refusals", "Reads whose level could not be met"),
            queue_requests: r.gauge("admission_queue_requests", "Requests inside the node"),
            queue_bytes: r.gauge("admission_queue_bytes", "Bytes of the requests inside the node"),
            queue_refused: r.counter("admission_refused", "Requests refused by a full node"),
        }
    }

    pub(super) fn request(&self, op: Op, level: &'static str, outcome: Outcome, took: Duration) {
        let labels = RequestLabels { op: op.as_str(), level, outcome: outcome.as_str() };
        self.duration.get_or_create(&labels).observe(took.as_secs_f64());
        if outcome == Outcome::Unknown {
            self.unknown_outcome.get_or_create(&OpLabel { op: op.as_str() }).inc();
        }
    }

    pub(super) fn refusal(&self, level: &'static str, reason: proto::Code) {
        let labels = RefusalLabels { level, reason: reason.to_string() };
        self.refusals.get_or_create(&labels).inc();
    }

    pub(super) fn take(&self, snapshot: &Snapshot) {
        self.queue_requests.set(signed(snapshot.admission_requests as u64));
        self.queue_bytes.set(signed(snapshot.admission_bytes as u64));
        raise(&self.queue_refused, snapshot.admission_refused as u64);
    }
}
