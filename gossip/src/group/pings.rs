//! How far the clocks of the other members are from this one's, and how long it takes to reach them.
//!
//! Every [`PING_MS`] a member asks each other one that it has a link to for its time. Of the last answers the one with
//! the shortest round trip counts ([`best`]). The median of the members' clocks is what this member stamps with
//! ([`correction`]); while fewer than a majority answer, the correction stays what it was.
//!
//! Times are those of the members' clocks before any correction, so that corrections do not chase each other.

use std::collections::{BTreeSet, VecDeque};

use proto::NodeId;

use super::message::Message;
use super::{Group, Member};
use crate::hlc::AHEAD_MAX_MS;
use crate::offset::{Estimate, Exchange, best, correction};

/// Milliseconds between two questions to a member.
pub const PING_MS: u64 = 1_000;

/// A member that has answered within this time is in contact.
pub const CONTACT_MS: u64 = 5_000;

/// Answers of a member that are remembered.
const ESTIMATES_MAX: usize = 8;

/// What two answers may contradict each other beyond what is unsure of both, in microseconds: clocks drift. Beyond
/// that a clock has jumped, and the older answer says nothing any more.
const DRIFT_US: u64 = 10_000;

/// A clock that is further from another one than this, in microseconds, is off.
pub const OFF_MAX_US: u64 = AHEAD_MAX_MS * 1_000;

/// What is known of another member's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerClock {
    /// The member.
    pub node: NodeId,
    /// Its clock minus this member's, both without correction, and the time on the way.
    pub estimate: Estimate,
}

/// Questions to one member, and its answers.
#[derive(Debug, Default)]
pub(super) struct Pings {
    /// The times of questions that were not answered yet, oldest first: as many as fit into [`CONTACT_MS`].
    asked_us: VecDeque<u64>,
    /// Answers, oldest first, and when they came.
    heard: VecDeque<(u64, Estimate)>,
}

impl Pings {
    fn ask(&mut self, now_us: u64) {
        self.asked_us.push_back(now_us);
        if self.asked_us.len() as u64 > CONTACT_MS / PING_MS {
            self.asked_us.pop_front();
        }
    }

    /// Whether that was asked, and not answered before. What was asked earlier is not waited for any more.
    fn is_asked(&mut self, asked_us: u64) -> bool {
        let at = self.asked_us.iter().position(|asked| *asked == asked_us);
        at.map(|at| self.asked_us.drain(..=at)).is_some()
    }

    fn take(&mut self, now_ms: u64, estimate: Estimate) {
        let agrees = |(_, older): &(u64, Estimate)| {
            let unsure_us = older.round_trip / 2 + estimate.round_trip / 2;
            older.offset.abs_diff(estimate.offset) <= unsure_us.saturating_add(DRIFT_US)
        };
        self.heard.retain(agrees);
        self.heard.push_back((now_ms, estimate));
        if self.heard.len() > ESTIMATES_MAX {
            self.heard.pop_front();
        }
    }

    /// What is known of the member's clock, if it is in contact.
    fn estimate(&self, now_ms: u64) -> Option<Estimate> {
        let (heard_ms, _) = self.heard.back()?;
        if now_ms.saturating_sub(*heard_ms) > CONTACT_MS {
            return None;
        }
        // Of equally good ones the newest.
        best(self.heard.iter().rev().map(|(_, estimate)| *estimate))
    }
}

/// Whether a clock that is estimated so is surely not off.
fn is_near(estimate: &Estimate) -> bool {
    estimate.offset.unsigned_abs().saturating_add(estimate.round_trip / 2) <= OFF_MAX_US
}

impl Group {
    /// It is that late by the node's own clock, in microseconds since 1970: one that never jumps
    /// ([`Timekeeper`](crate::timekeeper::Timekeeper)) and is not corrected.
    pub fn set_clock(&mut self, own_us: u64) {
        self.own_us = own_us;
        let corrected_us = own_us.saturating_add_signed(self.correction_us);
        self.wall_ms = corrected_us / 1_000;
        self.replica.set_time(self.wall_ms);
    }

    /// As [`Group::set_clock`], in milliseconds.
    pub fn set_wall(&mut self, own_ms: u64) {
        self.set_clock(own_ms.saturating_mul(1_000));
    }

    /// By how much the clock of this member is corrected, in microseconds: the median of the members' clocks minus its
    /// own.
    #[must_use]
    pub const fn correction_us(&self) -> i64 {
        self.correction_us
    }

    /// What is known of the clocks of the members in contact.
    pub fn peer_clocks(&self) -> impl Iterator<Item = PeerClock> {
        let now_ms = self.now_ms;
        self.members.iter().filter_map(move |(node, member)| {
            Some(PeerClock { node: *node, estimate: member.estimate(now_ms)? })
        })
    }

    /// The others in contact whose clocks agree with that of this member, if these and itself are a majority of
    /// all: then it may judge what is due. A clock that is off agrees with no majority, and who is cut off has none in
    /// contact.
    pub(super) fn agreeing(&self) -> Option<BTreeSet<NodeId>> {
        let near = self.counted_clocks().filter(|clock| is_near(&clock.estimate));
        let near: BTreeSet<NodeId> = near.map(|clock| clock.node).collect();
        let is_right = self.correction_us.unsigned_abs() <= OFF_MAX_US;
        (is_right && self.is_majority(near.len())).then_some(near)
    }

    /// What is known of the clocks of those in contact that count: who is leaving does not.
    fn counted_clocks(&self) -> impl Iterator<Item = PeerClock> {
        self.peer_clocks().filter(|clock| self.configuration.others.contains(&clock.node))
    }

    /// Whether so many others that count and this member are a majority.
    fn is_majority(&self, others: usize) -> bool {
        others + usize::from(self.configuration.counts_itself) >= self.configuration.majority()
    }

    /// Asks all for their time, if it is time to.
    pub(super) fn ping(&mut self) {
        if self.now_ms < self.next_ping_ms {
            return;
        }
        self.next_ping_ms = self.now_ms + PING_MS;
        let asked = self.own_us;
        for (node, member) in self.members.iter_mut().filter(|(_, member)| member.is_linked) {
            member.pings.ask(asked);
            self.urgent.push((*node, Message::Ping { asked }));
        }
        self.correct();
    }

    /// Corrects the clock, if a majority says what it should be.
    fn correct(&mut self) {
        let offsets: Vec<i64> = self.counted_clocks().map(|clock| clock.estimate.offset).collect();
        if self.is_majority(offsets.len()) {
            self.correction_us = correction(&offsets, self.correction_us);
        }
    }

    pub(super) fn pinged(&mut self, from: NodeId, asked: u64) {
        let now = self.own_us;
        self.urgent.push((from, Message::Pong { asked, received: now, answered: now }));
    }

    pub(super) fn ponged(&mut self, from: NodeId, asked: u64, received: u64, answered: u64) {
        let (now_ms, heard) = (self.now_ms, self.own_us);
        let Some(member) = self.members.get_mut(&from) else { return };
        if !member.pings.is_asked(asked) {
            // It answers too late, or a question that was not asked.
            return;
        }
        let [Ok(asked), Ok(received), Ok(answered), Ok(heard)] =
            [asked, received, answered, heard].map(i64::try_from)
        else {
            self.counts.malformed += 1;
            return;
        };
        // Where the times contradict themselves a clock was set meanwhile.
        if let Some(estimate) = (Exchange { asked, received, answered, heard }).estimate() {
            member.pings.take(now_ms, estimate);
        }
    }
}

impl Member {
    fn estimate(&self, now_ms: u64) -> Option<Estimate> {
        self.pings.estimate(now_ms).filter(|_| self.is_linked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(offset: i64, round_trip: u64) -> Estimate {
        Estimate { offset, round_trip }
    }

    #[test]
    fn the_best_of_the_last_answers_counts_until_a_clock_jumps() {
        let mut pings = Pings::default();
        assert_eq!(pings.estimate(0), None);
        pings.take(1_000, estimate(900, 2_000));
        pings.take(2_000, estimate(30_000, 90_000));
        assert_eq!(pings.estimate(2_000), Some(estimate(900, 2_000)));
        assert_eq!(pings.estimate(2_000 + CONTACT_MS), Some(estimate(900, 2_000)));
        assert_eq!(pings.estimate(2_001 + CONTACT_MS), None, "nothing was heard for too long");
        // An answer that is less sure, but cannot be true together with those before.
        let hour = estimate(3_600_000_000, 90_000);
        pings.take(3_000, hour);
        assert_eq!(pings.estimate(3_000), Some(hour));
        for number in 0..2 * ESTIMATES_MAX as u64 {
            pings.take(4_000 + number, estimate(3_600_000_000, 100_000 + number));
        }
        assert_eq!(pings.heard.len(), ESTIMATES_MAX);
        let oldest = estimate(3_600_000_000, 100_000 + ESTIMATES_MAX as u64);
        assert_eq!(pings.estimate(5_000), Some(oldest));
    }

    #[test]
    fn an_answer_may_come_after_the_next_question() {
        let mut pings = Pings::default();
        for second in 1..=9 {
            pings.ask(second * 1_000_000);
        }
        assert!(!pings.is_asked(4_000_000), "longer ago than what counts as contact");
        assert!(!pings.is_asked(6_500_000), "never asked");
        assert!(pings.is_asked(7_000_000));
        assert!(!pings.is_asked(7_000_000), "answered");
        assert!(!pings.is_asked(6_000_000), "answers do not overtake each other");
        assert!(pings.is_asked(9_000_000));
    }

    #[test]
    fn what_is_unsure_is_not_near() {
        assert!(is_near(&estimate(-500_000, 0)) && is_near(&estimate(400_000, 200_000)));
        assert!(!is_near(&estimate(500_001, 0)) && !is_near(&estimate(0, 1_000_002)));
        assert!(!is_near(&estimate(i64::MIN, u64::MAX)));
    }
}
