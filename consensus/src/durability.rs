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

use std::collections::VecDeque;

use crate::effects::{Outgoing, ReadyNumber};

/// The units of work handed out, and what waits for them.
///
/// Invariants: `unsynced` and `held` are in ascending order; `reported <= handed_out`; a held
/// message belongs to a unit above [`Durability::durable`].
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
    /// Messages by the unit they wait for.
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
        if self.durable() == self.handed_out {
            return messages;
        }
        let waits = |message: &Outgoing| self.unsynced_vote.is_some() || promises(message);
        let (held, free): (Vec<_>, Vec<_>) = messages.into_iter().partition(waits);
        if !held.is_empty() {
            self.held.push_back((self.handed_out, held));
        }
        free
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

#[cfg(test)]
mod tests {
    use super::*;
    use proto::NodeId;
    use proto::peer::RaftMessage;

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
