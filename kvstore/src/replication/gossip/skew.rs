//! The alarm for clocks that are not what they should be.

use gossip::group::{Group, OFF_MAX_US};

use crate::node::Ticks;

/// How long a stamp that was far ahead keeps the alarm up, in milliseconds.
const AHEAD_KEPT_MS: u64 = 60_000;

/// Ticks between two lines of the log while the alarm is up.
const REPEAT_TICKS: u64 = 60 * 20;

/// Tells of it in the log when clocks are more than half a second apart, and while they stay so. Nothing that is
/// stored depends on it but when values expire, and which writer wins in keyspaces of policy `lww`.
#[derive(Debug, Default)]
pub(super) struct SkewAlarm {
    is_up: bool,
    repeat_at: u64,
}

impl SkewAlarm {
    /// Whether it is up.
    pub(super) const fn is_up(&self) -> bool {
        self.is_up
    }

    /// Looks at the clocks. `apart_us` is by how much the wall clock is ahead of the node's own time.
    pub(super) fn look(&mut self, group: &Group, apart_us: i64, now_ms: u64, now: Ticks) {
        let found = [off(group), jumped(apart_us), ahead(group, now_ms)];
        let was_up = std::mem::replace(&mut self.is_up, found.iter().any(Option::is_some));
        if was_up && !self.is_up {
            tracing::info!("the clocks of the members agree to half a second again");
        }
        if !self.is_up || (was_up && now.0 < self.repeat_at) {
            return;
        }
        self.repeat_at = now.0 + REPEAT_TICKS;
        for what in found.into_iter().flatten() {
            tracing::warn!("clocks: {what}");
        }
    }
}

fn off(group: &Group) -> Option<String> {
    let off_us = group.correction_us();
    (off_us.unsigned_abs() > OFF_MAX_US).then(|| {
        let off_ms = -off_us / 1_000;
        format!("this node's is {off_ms} ms ahead of the members' median, and is corrected by that")
    })
}

fn jumped(apart_us: i64) -> Option<String> {
    (apart_us.unsigned_abs() > OFF_MAX_US).then(|| {
        let apart_ms = apart_us / 1_000;
        format!(
            "this node's wall clock was set: it is {apart_ms} ms ahead of the time that this process has carried on \
             since it started, and goes on with"
        )
    })
}

fn ahead(group: &Group, now_ms: u64) -> Option<String> {
    let ahead =
        group.ahead().filter(|ahead| now_ms.saturating_sub(ahead.at_ms) <= AHEAD_KEPT_MS)?;
    let (actor, by_ms) = (ahead.actor, ahead.by_ms);
    Some(format!(
        "a write of another node is stamped {by_ms} ms ahead of this node's clock (actor {actor})"
    ))
}
