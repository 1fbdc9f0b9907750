//! The alarm for clocks that are not what they should be.

use gossip::group::{Group, OFF_MAX_US, PeerClock};

use super::TICK_MS;
use crate::node::Ticks;

/// How long a stamp that was far ahead keeps the alarm up, in milliseconds.
const AHEAD_KEPT_MS: u64 = 60_000;

/// Ticks between two lines of the log while the alarm is up.
const REPEAT_TICKS: u64 = 60 * 20;

/// Tells of it in the log when clocks are more than half a second apart, this node's or that of a member in contact, and
/// while they stay so. Nothing that is stored depends on it but when values expire, and which writer wins in keyspaces of
/// policy `lww`.
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
    pub(super) fn look(&mut self, group: &Group, apart_us: i64, now: Ticks) {
        let own = [off(group), jumped(apart_us), ahead(group, now.0 * TICK_MS)];
        let mut found: Vec<String> = own.into_iter().flatten().collect();
        found.extend(others_off(group));
        let was_up = std::mem::replace(&mut self.is_up, !found.is_empty());
        if was_up && !self.is_up {
            tracing::info!("the clocks of the members in contact agree to half a second again");
        }
        if !self.is_up || (was_up && now.0 < self.repeat_at) {
            return;
        }
        self.repeat_at = now.0 + REPEAT_TICKS;
        for what in found {
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

/// What is to be said of the others' clocks, where this node's own is not what is wrong.
fn others_off(group: &Group) -> Vec<String> {
    if off(group).is_some() {
        return Vec::new();
    }
    let is_off = |clock: &PeerClock| {
        // An estimate is wrong by half the round trip at most.
        let off_us = clock.estimate.offset.unsigned_abs();
        off_us.saturating_sub(clock.estimate.round_trip / 2) > OFF_MAX_US
    };
    let told = |clock: PeerClock| {
        let (node, ahead_ms) = (clock.node, clock.estimate.offset / 1_000);
        format!("that of member {node} is {ahead_ms} ms ahead of this node's")
    };
    group.peer_clocks().filter(is_off).map(told).collect()
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
