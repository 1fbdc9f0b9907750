//! What waits for the disk: which units of work are durable, and the messages that promise them.
//!
//! A follower's confirmation says "I have this on disk", a vote says "I shall remember", so they
//! leave after the sync of the unit of work they came with. A leader's messages promise nothing
//! about its own disk and leave at once, in parallel with its write (Raft thesis section 10.2.1).
//! So do an answer to a heartbeat and a rejection: reads and the leader's check of its majority do
//! not wait for the disks of followers.
//!
//! But whatever a node says, it says in a term. While a term or vote of its own is not durable,
//! every message waits. For a leader this matters only if it is the lone voter: it was elected
//! without asking anyone, so no sync of its new term lies behind it when it begins to replicate to
//! learners; after a crash it would use the same term again for other entries.
//!
//! A sync may take long, for days where a disk is full, and the others go on to ask meanwhile. So of what waits
//! for the *same* sync, that is dropped which adds nothing to another message, as if it had been lost on the way:
//!
//! - what is equal to one that waits already;
//! - a confirmation of the same leader in the same term, whose log only grows, up to a lower index and commit index;
//! - the answer to an earlier heartbeat of the same leader in the same term: a later one names the newest round of reads,
//!   which settles those before it.
//!
//! What waits for one sync never gives way to what waits for a later one: under a leader that sends without a pause there
//! would always be a later one, and it would hear nothing. Those of different syncs are as many as the units of
//! work that wait to be written anyway.

use std::collections::VecDeque;

use proto::peer::{RaftKind, RaftMessage};

use crate::effects::{Outgoing, ReadyNumber};

/// The units of work handed out, and what waits for them.
///
/// Invariants: `unsynced` and `held` are in ascending order; `reported <= handed_out`; a held
/// message waits for a unit in `unsynced`, so for one above [`Durability::durable`].
#[derive(Debug, Default)]
pub(crate) struct Durability {
    /// The last unit handed out.
    handed_out: ReadyNumber,
    /// The last unit the node said is durable.
    reported: ReadyNumber,
    /// Units that must be synced and are not yet.
    unsynced: VecDeque<ReadyNumber>,
    /// The last unit with a new term or vote, until it is durable.
    unsynced_vote: Option<ReadyNumber>,
    /// Messages by the unit whose sync they wait for, together with all before it.
    held: VecDeque<(ReadyNumber, Vec<Outgoing>)>,
    /// Messages that wait no longer.
    released: Vec<Outgoing>,
}

impl Durability {
    /// Notes the next unit of work.
    ///
    /// # Panics
    /// If its number does not follow the last one.
    pub(crate) fn hand_out(&mut self, ready: ReadyNumber, must_sync: bool, new_vote: bool) {
        assert!(ready.0 == self.handed_out.0 + 1, "ready {ready} after {}", self.handed_out);
        assert!(must_sync || !new_vote, "ready {ready} has a vote that need not be synced");
        self.handed_out = ready;
        if must_sync {
            self.unsynced.push_back(ready);
        }
        if new_vote {
            self.unsynced_vote = Some(ready);
        }
    }

    /// The messages of the last unit handed out: those that may leave now are returned, the others
    /// are held. `promises` tells which of them speak for the disk.
    pub(crate) fn send(
        &mut self,
        messages: Vec<Outgoing>,
        promises: impl Fn(&Outgoing) -> bool,
    ) -> Vec<Outgoing> {
        // A unit that need not be synced is durable with the last one before it that must be.
        let Some(sync) = self.unsynced.back().copied() else { return messages };
        let waits = |message: &Outgoing| self.unsynced_vote.is_some() || promises(message);
        let (held, free): (Vec<_>, Vec<_>) = messages.into_iter().partition(waits);
        if !held.is_empty() {
            self.hold(sync, held);
        }
        free
    }

    /// Lets messages wait for the last unit that must be synced.
    fn hold(&mut self, sync: ReadyNumber, messages: Vec<Outgoing>) {
        if self.held.back().is_none_or(|(last, _)| *last < sync) {
            self.held.push_back((sync, Vec::new()));
        }
        let (last, waiting) = self.held.back_mut().expect("there is one at least");
        assert!(*last == sync, "messages wait for {last}, after the last unit to sync, {sync}");
        for message in messages {
            if !waiting.iter().any(|earlier| *earlier == message || covers(earlier, &message)) {
                waiting
                    .retain(|earlier| !covers(&message, earlier) && !outdates(&message, earlier));
                waiting.push(message);
            }
        }
    }

    /// The last unit that is durable together with all before it. A unit that need not be synced
    /// counts as durable as soon as all before it are.
    pub(crate) fn durable(&self) -> ReadyNumber {
        self.unsynced.front().map_or(self.handed_out, |first| ReadyNumber(first.0 - 1))
    }

    /// Everything up to `ready` is durable; messages that waited for it are released.
    ///
    /// # Panics
    /// If the unit was never handed out, or is before one already reported.
    pub(crate) fn report(&mut self, ready: ReadyNumber) {
        assert!(ready <= self.handed_out, "ready {ready} of {} is durable", self.handed_out);
        assert!(ready >= self.reported, "ready {ready} is durable after {}", self.reported);
        self.reported = ready;
        while self.unsynced.front().is_some_and(|first| *first <= ready) {
            self.unsynced.pop_front();
        }
        self.unsynced_vote = self.unsynced_vote.filter(|vote| *vote > ready);
        let durable = self.durable();
        let free = self.held.partition_point(|(wait, _)| *wait <= durable);
        self.released.extend(self.held.drain(..free).flat_map(|(_, messages)| messages));
    }

    pub(crate) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// The messages whose waiting ended since the last call.
    pub(crate) fn take_released(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.released)
    }
}

/// Whether `one` confirms all that `other` does, and says nothing else. False for all other kinds.
fn covers(one: &Outgoing, other: &Outgoing) -> bool {
    let (this, that) = (&one.message, &other.message);
    let confirms =
        |message: &RaftMessage| message.kind() == RaftKind::AppendResponse && !message.reject;
    if !confirms(this) || !confirms(that) {
        return false;
    }
    if this.index < that.index || this.commit < that.commit {
        return false;
    }
    let (index, commit) = (this.index, this.commit);
    let raised = RaftMessage { index, commit, ..that.clone() };
    one.to == other.to && *this == raised
}

/// Whether `later` answers a heartbeat that followed the one which `earlier` answers, and confirms no round of
/// reads less. False for all other kinds.
fn outdates(later: &Outgoing, earlier: &Outgoing) -> bool {
    let (this, that) = (&later.message, &earlier.message);
    if this.kind() != RaftKind::HeartbeatResponse || that.kind() != RaftKind::HeartbeatResponse {
        return false;
    }
    if this.commit < that.commit || (this.context.is_empty() && !that.context.is_empty()) {
        return false;
    }
    let (context, commit) = (this.context.clone(), this.commit);
    let raised = RaftMessage { context, commit, ..that.clone() };
    later.to == earlier.to && *this == raised
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::NodeId;

    impl Durability {
        fn held_messages(&self) -> usize {
            self.held.iter().map(|(_, messages)| messages.len()).sum()
        }
    }

    fn message(to: u64) -> Vec<Outgoing> {
        vec![Outgoing { to: NodeId(to), message: RaftMessage::default() }]
    }

    fn to(messages: &[Outgoing]) -> Vec<u64> {
        messages.iter().map(|outgoing| outgoing.to.get()).collect()
    }

    #[test]
    fn promises_wait_for_their_unit_and_all_before_it() {
        let mut durability = Durability::default();
        durability.hand_out(ReadyNumber(1), true, false);
        assert!(durability.send(message(11), |_| true).is_empty());
        durability.hand_out(ReadyNumber(2), false, false);
        assert!(durability.send(message(12), |_| true).is_empty());
        durability.hand_out(ReadyNumber(3), true, false);
        assert!(durability.send(message(13), |_| true).is_empty());
        assert_eq!(durability.durable(), ReadyNumber(0));
        durability.report(ReadyNumber(1));
        assert_eq!(durability.durable(), ReadyNumber(2));
        assert_eq!(to(&durability.take_released()), [11, 12]);
        durability.report(ReadyNumber(3));
        assert_eq!(to(&durability.take_released()), [13]);
        assert!(!durability.has_released());
    }

    #[test]
    fn what_need_not_be_synced_holds_nothing_up() {
        let mut durability = Durability::default();
        durability.hand_out(ReadyNumber(1), false, false);
        assert_eq!(to(&durability.send(message(1), |_| true)), [1]);
        assert_eq!(durability.durable(), ReadyNumber(1));
    }

    #[test]
    fn what_promises_nothing_overtakes_what_does() {
        let mut durability = Durability::default();
        durability.hand_out(ReadyNumber(1), true, false);
        let both = [message(1), message(2)].concat();
        assert_eq!(to(&durability.send(both, |message| message.to == NodeId(1))), [2]);
        durability.report(ReadyNumber(1));
        assert_eq!(to(&durability.take_released()), [1]);
    }

    #[test]
    fn a_leader_waits_only_for_its_term() {
        let mut durability = Durability::default();
        durability.hand_out(ReadyNumber(1), true, true);
        assert!(durability.send(message(1), |_| false).is_empty());
        durability.hand_out(ReadyNumber(2), true, false);
        assert!(durability.send(message(2), |_| false).is_empty());
        durability.report(ReadyNumber(1));
        assert_eq!(to(&durability.take_released()), [1]);
        durability.hand_out(ReadyNumber(3), true, false);
        assert_eq!(to(&durability.send(message(3), |_| false)), [3]);
    }

    #[test]
    fn the_same_report_twice_changes_nothing() {
        let mut durability = Durability::default();
        durability.hand_out(ReadyNumber(1), true, false);
        assert!(durability.send(message(1), |_| true).is_empty());
        durability.report(ReadyNumber(1));
        durability.report(ReadyNumber(1));
        assert_eq!(to(&durability.take_released()), [1]);
    }

    fn accepts(to: u64, term: u64, index: u64, commit: u64) -> Outgoing {
        let kind = RaftKind::AppendResponse.into();
        let message = RaftMessage { kind, to, term, index, commit, ..RaftMessage::default() };
        Outgoing { to: NodeId(to), message }
    }

    /// A leader that hears nothing goes on to ask, and a disk may be full for days.
    #[test]
    fn of_what_is_accepted_while_a_sync_takes_long_only_the_last_is_kept() {
        let mut durability = Durability::default();
        durability.hand_out(ReadyNumber(1), true, false);
        assert!(durability.send(vec![accepts(2, 1, 5, 3)], |_| true).is_empty());
        for unit in 2..1_000 {
            durability.hand_out(ReadyNumber(unit), false, false);
            let again = accepts(2, 1, 5, 3 + u64::from(unit > 500));
            assert!(durability.send(vec![again], |_| true).is_empty());
        }
        assert_eq!(durability.held_messages(), 1);
        durability.report(ReadyNumber(1));
        assert_eq!(durability.take_released(), [accepts(2, 1, 5, 4)]);
    }

    #[test]
    fn one_that_says_less_than_what_waits_is_not_kept() {
        let mut durability = Durability::default();
        durability.hand_out(ReadyNumber(1), true, false);
        let late = vec![accepts(2, 1, 9, 3), accepts(2, 1, 4, 3), accepts(2, 1, 6, 4)];
        assert!(durability.send(late, |_| true).is_empty());
        durability.report(ReadyNumber(1));
        let left = [accepts(2, 1, 9, 3), accepts(2, 1, 6, 4)];
        assert_eq!(durability.take_released(), left, "each says something the other does not");
    }

    #[test]
    fn what_another_one_does_not_say_is_kept_in_its_order() {
        let rejects = |to, index| {
            let mut rejection = accepts(to, 1, index, 0);
            rejection.message.reject = true;
            rejection
        };
        let vote = |term| {
            let mut vote = accepts(2, term, 0, 0);
            vote.message.set_kind(RaftKind::VoteResponse);
            vote
        };
        let (old_term, other) = (accepts(2, 1, 5, 3), accepts(3, 1, 5, 3));
        let new_term = accepts(2, 2, 5, 3);
        let all = vec![
            old_term.clone(),
            rejects(2, 7),
            vote(2),
            accepts(2, 2, 4, 3),
            other.clone(),
            rejects(2, 7),
            vote(2),
            new_term.clone(),
        ];
        let mut durability = Durability::default();
        durability.hand_out(ReadyNumber(1), true, true);
        assert!(durability.send(all, |_| true).is_empty());
        durability.report(ReadyNumber(1));
        let left = [old_term, rejects(2, 7), vote(2), other, new_term];
        assert_eq!(durability.take_released(), left, "what is said twice is kept once");
    }

    fn answers_heartbeat(term: u64, context: &str, commit: u64) -> Outgoing {
        let mut answer = accepts(2, term, 0, commit);
        answer.message.set_kind(RaftKind::HeartbeatResponse);
        answer.message.context = context.to_owned().into();
        answer
    }

    /// While an own vote is not durable everything waits, and heartbeats come for as long as the disk is full.
    #[test]
    fn of_answers_to_heartbeats_the_last_and_the_last_round_of_reads_are_kept() {
        let mut durability = Durability::default();
        durability.hand_out(ReadyNumber(1), true, true);
        for round in 0..1_000 {
            let context = if round % 3 == 0 { format!("round {round}") } else { String::new() };
            let answer = vec![answers_heartbeat(4, &context, round / 10)];
            assert!(durability.send(answer, |_| false).is_empty());
            assert!(durability.held_messages() <= 2, "{} held", durability.held_messages());
        }
        let last = [answers_heartbeat(4, "", 99), answers_heartbeat(5, "", 99)];
        assert!(durability.send(last.to_vec(), |_| false).is_empty());
        durability.report(ReadyNumber(1));
        let left = [answers_heartbeat(4, "round 999", 99), last[0].clone(), last[1].clone()];
        assert_eq!(durability.take_released(), left, "an empty one settles no round of reads");
    }

    /// Else a leader that sends without a pause would hear nothing as long as it does.
    #[test]
    fn what_an_earlier_sync_lets_go_does_not_wait_for_a_later_one() {
        let mut durability = Durability::default();
        for unit in 1..=3 {
            durability.hand_out(ReadyNumber(unit), true, false);
            assert!(durability.send(vec![accepts(2, 1, unit, 0)], |_| true).is_empty());
        }
        for unit in 1..=3 {
            durability.report(ReadyNumber(unit));
            assert_eq!(durability.take_released(), [accepts(2, 1, unit, 0)]);
        }
    }

    #[test]
    #[should_panic(expected = "ready 1 is durable after 2")]
    fn reports_run_forward() {
        let mut durability = Durability::default();
        durability.hand_out(ReadyNumber(1), true, false);
        durability.hand_out(ReadyNumber(2), true, false);
        durability.report(ReadyNumber(2));
        durability.report(ReadyNumber(1));
    }

    #[test]
    #[should_panic(expected = "ready 2 of 1 is durable")]
    fn what_was_not_handed_out_cannot_be_durable() {
        let mut durability = Durability::default();
        durability.hand_out(ReadyNumber(1), true, false);
        durability.report(ReadyNumber(2));
    }
}
