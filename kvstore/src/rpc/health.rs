//! Keeps `grpc.health.v1` up to date.
//!
//! Services: `kv.linearizable` (reads and writes with a quorum), `kv.local` (reads of this
//! replica's own state), and the empty name, which stands for the first.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
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
        // Taken before the checks: a change behind them is noticed.
        let summaries = seen_summaries(&mut stages);
        let now = serving(&front.checks());
        if last != Some(now) {
            set(&reporter, now).await;
            last = Some(now);
        }
        changed(&mut stages, summaries).await;
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

/// The summaries of the running node, if there is one; neither the present stage nor the present
/// summary counts as a change any more.
fn seen_summaries(
    stages: &mut watch::Receiver<Stage>,
) -> Option<watch::Receiver<crate::node::Summary>> {
    match &*stages.borrow_and_update() {
        Stage::Running(running) => {
            let mut summaries = running.handle.summaries();
            // A clone of a receiver that nobody reads believes that everything is new.
            summaries.mark_unchanged();
            Some(summaries)
        }
        Stage::Forming | Stage::Opening | Stage::Repairing(_) | Stage::Stopping => None,
    }
}

/// Returns when the stage or the node's summary changed, or after a while.
async fn changed(
    stages: &mut watch::Receiver<Stage>,
    summaries: Option<watch::Receiver<crate::node::Summary>>,
) {
    let summary = async {
        if let Some(mut summaries) = summaries
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::front::Running;
    use crate::shell::testing::{CLUSTER, SingleNode};
    use storage::disk::SimDisk;

    /// A loop that never waits took a fifth of a node's processor time.
    #[tokio::test]
    async fn nothing_new_means_waiting() {
        let node = SingleNode::start(&SimDisk::new());
        let handle = node.ready().await;
        let running = Running { handle, cluster: CLUSTER, commit_at_start: 0 };
        let (_stage, mut stages) = watch::channel(Stage::Running(running));
        let mut turns = 0;
        let watching = async {
            loop {
                let summaries = seen_summaries(&mut stages);
                changed(&mut stages, summaries).await;
                turns += 1;
            }
        };
        assert!(tokio::time::timeout(4 * PERIOD, watching).await.is_err());
        // Four periods, and what the node announces as it settles.
        assert!((3..40).contains(&turns), "{turns}");
        node.stop().await;
    }
}
