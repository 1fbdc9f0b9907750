//! Registers instruments, one line each.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

/// A histogram per set of labels.
pub(super) type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Which peer it is about, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PeerLabel {
    pub(super) peer: String,
}

/// A time of each peer.
pub(super) type PeerSeconds = Family<PeerLabel, Gauge<f64, AtomicU64>>;

/// What can be a set of labels.
pub(super) trait Labels:
    EncodeLabelSet + Clone + Debug + Hash + Eq + Send + Sync + 'static
{
}

impl<L: EncodeLabelSet + Clone + Debug + Hash + Eq + Send + Sync + 'static> Labels for L {}

/// Adds instruments to a registry and hands them out.
pub(super) struct Register<'a>(pub(super) &'a mut Registry);

impl Register<'_> {
    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.add(name, help, Gauge::default())
    }

    /// A time in seconds.
    pub(super) fn seconds(&mut self, name: &str, help: &str) -> Gauge<f64, AtomicU64> {
        self.add(name, help, Gauge::default())
    }

    /// A counter; the text adds `_total` to its name.
    pub(super) fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.add(name, help, Counter::default())
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str) -> Histogram {
        self.add(name, help, latencies())
    }

    pub(super) fn histograms<L: Labels>(&mut self, name: &str, help: &str) -> Histograms<L> {
        self.add(name, help, Family::new_with_constructor(latencies as fn() -> Histogram))
    }

    /// An instrument per set of labels.
    pub(super) fn family<L: Labels, M>(&mut self, name: &str, help: &str) -> Family<L, M>
    where
        M: Default + 'static,
        Family<L, M>: Metric,
    {
        self.add(name, help, Family::default())
    }

    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}

/// 0.1 ms to 13 s, doubling: from a write on a fast disk to beyond the default timeout.
fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 18))
}

pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Brings a counter that mirrors another count up to it.
pub(super) fn raise(counter: &Counter, value: u64) {
    counter.inner().fetch_max(value, Ordering::Relaxed);
}
