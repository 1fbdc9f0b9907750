//! What a run says on stderr while it goes on.

use std::time::Duration;

use client::CallOptions;
use proto::v1::Role;
use tokio::time::{Instant, MissedTickBehavior};

use super::clocks::Skipped;
use crate::nemesis::Faults;
use crate::recorder::{Counts, Recorder};
use crate::target::{Given, Target};

/// Time between two lines.
const EVERY: Duration = Duration::from_secs(5);

/// Time in which the cluster has to say who leads.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// Says what is left out.
pub fn skipped(skipped: &[Skipped]) {
    for Skipped { nemesis, why } in skipped {
        eprintln!("skipped: nemesis {nemesis}: {why}");
    }
}

/// Prints a line now and then, until it is dropped.
pub async fn tell(target: Given, recorder: Recorder, faults: Faults) {
    let client = target.client(target.endpoints(), STATUS_TIMEOUT).ok();
    let start = Instant::now();
    let mut ticks = tokio::time::interval_at(start + EVERY, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = recorder.counts();
    loop {
        ticks.tick().await;
        let mut leader = None;
        if let Some(client) = &client
            && let Ok(status) = client.status(&CallOptions::default()).await
        {
            let leads = status.nodes.into_iter().find(|node| node.role() == Role::Leader);
            leader = leads.and_then(|node| node.member).map(|member| member.name);
        }
        let now = recorder.counts();
        eprintln!("{}", line(start.elapsed(), before, now, leader.as_deref(), &faults.in_force()));
        before = now;
    }
}

fn line(
    elapsed: Duration,
    before: Counts,
    now: Counts,
    leader: Option<&str>,
    in_force: &str,
) -> String {
    let rate = (now.ok - before.ok) as f64 / EVERY.as_secs_f64();
    let leader = leader.unwrap_or("unknown");
    let in_force = if in_force.is_empty() { "no fault" } else { in_force };
    format!(
        "{:>5.0}s {:>8} ok ({rate:.0}/s) {} failed {} unknown; leader {leader}; {in_force}",
        elapsed.as_secs_f64(),
        now.ok,
        now.fail,
        now.info
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_rate_leader_and_faults() {
        let before = Counts { ok: 100, ..Counts::default() };
        let now = Counts { ok: 600, fail: 2, info: 1 };
        let shown = line(Duration::from_secs(10), before, now, Some("n2"), "kill one n1");
        assert_eq!(shown, "   10s      600 ok (100/s) 2 failed 1 unknown; leader n2; kill one n1");
        assert!(line(EVERY, before, now, None, "").ends_with("; leader unknown; no fault"));
    }
}
