//! The log and the state.

use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::Snapshot;
use super::register::{Register, signed};

/// Instruments of what lies on the disk.
#[derive(Debug)]
pub(super) struct StorageMetrics {
    log_fsync: Histogram,
    log_size: Gauge,
    read_only: Gauge,
    overloaded: Gauge,
    store_size: Gauge,
    store_layer: Gauge,
    revision: Gauge,
}

impl StorageMetrics {
    pub(super) fn new(r: &mut Register<'_>) -> Self {
        Self {
            log_fsync: r.histogram("log_fsync_duration_seconds", "Time of one sync of the log"),
            log_size: r.gauge("log_size_bytes", "Bytes of the log on disk"),
            read_only: r.gauge("read_only", "1 while the disk has no space for the log"),
            overloaded: r.gauge(
                "overloaded",
                "1 while log or memory is full until an export is written: as leader it refuses writes",
            ),
            store_size: r.gauge("store_size_bytes", "Bytes of the state store on disk"),
            store_layer: r.gauge("store_layer_bytes", "Bytes of the layer in memory over it"),
            revision: r.gauge("revision_current", "Revision of keyspace default here"),
        }
    }

    pub(super) fn log_synced(&self, took: Duration, bytes_on_disk: u64) {
        self.log_fsync.observe(took.as_secs_f64());
        self.log_size.set(signed(bytes_on_disk));
    }

    pub(super) fn take(&self, snapshot: &Snapshot) {
        self.read_only.set(i64::from(snapshot.read_only));
        if let Some(summary) = &snapshot.summary {
            self.overloaded.set(i64::from(summary.overloaded));
            self.store_size.set(signed(summary.store_bytes));
            self.store_layer.set(signed(summary.layer_bytes));
            self.revision.set(signed(summary.revision));
        }
    }
}
