//! Keeps `grpc.health.v1` up to date.
//!
//! Services: `kv.linearizable` (reads and writes with a quorum), `kv.local` (reads of this
//! replica's own state), and the empty name, which stands for the first.

use std::sync::Arc;
use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::front::{Checks, Front, Stage};

/// How often the checks are looked at beside every announced change; a stuck loop announces
/// nothing.
const PERIOD: Duration = Duration::from_millis(500);

/// Reports until it is aborted. What does not change is not repeated.
pub async fn report(front: Arc<Front>, reporter: HealthReporter) {
    let mut stages = front.stages();
    let mut last: Option<(bool, bool)> = None;
    loop {
        let now = serving(&front.checks());
        if last != Some(now) {
            set(&reporter, now).await;
            last = Some(now);
        }
        changed(&mut stages).await;
    }
}

fn serving(checks: &Checks) -> (bool, bool) {
    (checks.linearizable(), checks.local())
}

async fn set(reporter: &HealthReporter, (linearizable, local): (bool, bool)) {
    let status = |fine| if fine { ServingStatus::Serving } else { ServingStatus::NotServing };
    reporter.set_service_status("", status(linearizable)).await;
    reporter.set_service_status("kv.linearizable", status(linearizable)).await;
    reporter.set_service_status("kv.local", status(local)).await;
}

/// Returns when the stage or the node's summary changed, or after a while.
async fn changed(stages: &mut tokio::sync::watch::Receiver<Stage>) {
    let running = match &*stages.borrow_and_update() {
        Stage::Running(running) => Some(running.handle.summaries()),
        Stage::Forming | Stage::Opening | Stage::Stopping => None,
    };
    let summary = async {
        if let Some(mut summaries) = running
            && summaries.changed().await.is_ok()
        {
            return;
        }
        // No node, or one that has ended and announces nothing more.
        std::future::pending().await
    };
    tokio::select! {
        _ = stages.changed() => {}
        () = summary => {}
        () = tokio::time::sleep(PERIOD) => {}
    }
}
