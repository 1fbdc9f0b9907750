//! How far the members agree, for people and metrics. Nothing here decides anything.
//!
//! What a member says of others is what it heard at the last exchange with each: clocks are compared then, and what is
//! on its way counts as lacking. How many *keys* differ is known only while a hash tree is walked; the writes that
//! one of two lacks are no fewer than those keys.

use std::collections::VecDeque;
use std::sync::Arc;

use proto::NodeId;

use super::message::Message;
use super::{Group, Member};
use crate::actor::ActorId;
use crate::clock::Clock;
use crate::session::Hello;

/// Milliseconds between two looks. What is counted write by write is that old at most.
const LOOK_MS: u64 = 1_000;

/// Certificates that are counted for one member in one look; more are not told apart from so many.
pub const BLOCKED_COUNTED_MAX: usize = 100_000;

/// Marks of time that are kept. Where there are more, every other one goes, and lags are told more coarsely.
const MARKS_MAX: usize = 512;

/// What a member knows of how far the group agrees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Actors that its clock names.
    pub actors: u64,
    /// Spans of its clock above what is complete: writes that are known without some that were made before.
    pub holes: u64,
    /// Certificates of deletes that are still told to others.
    pub certificates: u64,
    /// Keys with more than one value.
    pub conflicts: u64,
    /// The other members, in the order of their ids.
    pub peers: Vec<PeerView>,
}

impl View {
    /// The largest lag of any other member.
    #[must_use]
    pub fn lag_ms(&self) -> u64 {
        self.peers.iter().map(|peer| peer.lag_ms).max().unwrap_or(0)
    }
}

/// What a member knows of how far it agrees with one other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// The other.
    pub node: NodeId,
    /// There is a link to it.
    pub is_linked: bool,
    /// What the last comparison of clocks said; `None`: there was none since the start.
    pub compared: Option<Compared>,
    /// Milliseconds since it brought this member up to its own position, or was found equal; `None`: not since the start.
    pub level_ms: Option<u64>,
    /// Certificates here that cannot be known to be everywhere because this member is not known to have them, up to
    /// [`BLOCKED_COUNTED_MAX`].
    pub blocks: u64,
    /// Age of the oldest write that was taken here and that it is not known to have. Writes of before the start
    /// count from the start.
    pub lag_ms: u64,
    /// Flagged sessions with it that closed here.
    pub flagged: u64,
    /// What was said to it and heard from it.
    pub traffic: Traffic,
}

/// A comparison of two members' clocks and roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Milliseconds since then.
    pub ago_ms: u64,
    /// Writes that the other had and this member had not.
    pub lacked_here: u64,
    /// Writes that this member had and the other had not.
    pub lacked_there: u64,
    /// The roots of the hash trees were equal: both showed the same values.
    pub roots_agree: bool,
}

/// Bytes of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sent in exchanges, for quorum reads, and to compare clocks of the wall.
    pub sessions_sent: u64,
    /// Received in exchanges, for quorum reads, and to compare clocks of the wall.
    pub sessions_received: u64,
    /// Sent as fresh writes, as repairs of quorum reads, and as acknowledgements.
    pub rumors_sent: u64,
    /// Received as fresh writes, as repairs of quorum reads, and as acknowledgements.
    pub rumors_received: u64,
}

impl Traffic {
    pub(super) const fn sent(&mut self, message: &Message, bytes: usize) {
        if is_rumor(message) {
            self.rumors_sent += bytes as u64;
        } else {
            self.sessions_sent += bytes as u64;
        }
    }

    pub(super) const fn received(&mut self, message: &Message, bytes: usize) {
        if is_rumor(message) {
            self.rumors_received += bytes as u64;
        } else {
            self.sessions_received += bytes as u64;
        }
    }
}

const fn is_rumor(message: &Message) -> bool {
    match message {
        Message::Rumor { .. }
        | Message::Offer { .. }
        | Message::Fetch { .. }
        | Message::Stored { .. } => true,
        Message::Hello { .. }
        | Message::Refused { .. }
        | Message::Part(_)
        | Message::Taken { .. }
        | Message::Ask { .. }
        | Message::Below { .. }
        | Message::Tell { .. }
        | Message::Walked { .. }
        | Message::Epoch { .. }
        | Message::Read { .. }
        | Message::Answer { .. }
        | Message::Standing { .. }
        | Message::Stands { .. }
        | Message::Ping { .. }
        | Message::Pong { .. } => false,
    }
}

/// What is remembered of a member only to be looked at.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// The last comparison, with the time of it in the place of its age.
    compared: Option<Compared>,
    flagged: u64,
    traffic: Traffic,
}

/// When writes were taken here: each mark is a time, and the first counter of the present actor that was issued no
/// earlier. Times and counters rise.
#[derive(Debug, Default)]
pub(super) struct Marks {
    actor: Option<ActorId>,
    /// Counters up to this one are marked.
    through: u64,
    marks: VecDeque<(u64, u64)>,
}

impl Marks {
    /// The actor has issued counters up to `last` by now.
    fn issued(&mut self, actor: Option<ActorId>, last: u64, now_ms: u64) {
        if self.actor != actor {
            *self = Self { actor, ..Self::default() };
        }
        if last > self.through {
            self.marks.push_back((now_ms, self.through + 1));
            self.through = last;
        }
        if self.marks.len() > MARKS_MAX {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// Everybody has the counters up to `base`.
    fn settled(&mut self, base: u64) {
        while self.marks.get(1).is_some_and(|(_, first)| *first <= base + 1) {
            self.marks.pop_front();
        }
    }

    /// When a counter was issued, at the earliest.
    fn since(&self, counter: u64) -> Option<u64> {
        let after = self.marks.partition_point(|(_, first)| *first <= counter);
        let at = after.checked_sub(1)?;
        self.marks.get(at).map(|(at_ms, _)| *at_ms)
    }
}

impl Group {
    /// How far the group agrees, as of the last look: it is looked once a second.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// Writes that were taken on this disk, or by a start that is folded, and that no other member is known to have. 0 in a
    /// group of one.
    #[must_use]
    pub fn unreplicated(&self) -> u64 {
        if self.members.is_empty() {
            return 0;
        }
        let state = self.replica.state();
        let actors = state.sealed().keys().copied().chain(state.actor());
        // Of those that are folded nobody knows whose they were. Every member had them, so only who knows the fold and
        // says so lacks them.
        let known = self.members.values().map(|member| member.folds).min().flatten();
        let folds = state.clock().folds().filter(|fold| known >= Some(fold.number));
        let actors = actors.chain(folds.map(|fold| fold.actor));
        actors.map(|actor| self.unreplicated_of(&actor)).sum()
    }

    fn unreplicated_of(&self, actor: &ActorId) -> u64 {
        let Some(mine) = self.replica.state().clock().track(actor) else { return 0 };
        let theirs = || self.members.values().filter_map(|member| member.clock.track(actor));
        if theirs().any(|track| track.base() >= mine.last()) {
            return 0;
        }
        let rest = theirs().fold(mine.clone(), |rest, track| rest.minus(track));
        rest.spans().map(|span| span.last - span.first + 1).sum()
    }

    /// Takes note of what a Hello tells of the difference to its sender.
    pub(super) fn compared(&mut self, from: NodeId, hello: &Hello) {
        let mine = self.replica.state().clock();
        let compared = Compared {
            ago_ms: self.now_ms,
            lacked_here: beyond(&hello.clock, mine),
            lacked_there: beyond(mine, &hello.clock),
            roots_agree: self.replica.root() == hello.root,
        };
        if let Some(member) = self.members.get_mut(&from) {
            member.look.compared = Some(compared);
        }
    }

    /// A flagged session with a member has closed here.
    pub(super) fn flagged(&mut self, with: NodeId) {
        self.counts.flagged += 1;
        if let Some(member) = self.members.get_mut(&with) {
            member.look.flagged += 1;
        }
    }

    pub(super) fn note_traffic(&mut self, with: NodeId, note: impl Fn(&mut Traffic)) {
        note(&mut self.counts.traffic);
        if let Some(member) = self.members.get_mut(&with) {
            note(&mut member.look.traffic);
        }
    }

    /// Marks the time of new writes, and looks around now and then.
    pub(super) fn look(&mut self) {
        let actor = self.replica.state().actor();
        let last = actor.map_or(0, |actor| self.replica.state().clock().last(&actor));
        self.marks.issued(actor, last, self.now_ms);
        if self.now_ms < self.next_look_ms {
            return;
        }
        self.next_look_ms = self.now_ms + LOOK_MS;
        if let Some(actor) = actor {
            let bases = self.members.values().map(|member| member.clock.base(&actor));
            self.marks.settled(bases.min().unwrap_or(0));
        }
        let state = self.replica.state();
        self.view = Arc::new(View {
            actors: state.clock().tracks().count() as u64,
            holes: state.clock().holes() as u64,
            certificates: state.tally().certificates() as u64,
            conflicts: state.tally().conflicts() as u64,
            peers: self.members.iter().map(|(node, member)| self.look_at(*node, member)).collect(),
        });
    }

    fn look_at(&self, node: NodeId, member: &Member) -> PeerView {
        let ago = |at_ms: u64| self.now_ms.saturating_sub(at_ms);
        let Look { compared, flagged, traffic } = &member.look;
        PeerView {
            node,
            is_linked: member.is_linked,
            compared: compared.map(|at| Compared { ago_ms: ago(at.ago_ms), ..at }),
            level_ms: member.met_ms.map(ago),
            blocks: self.blocked_by(member),
            lag_ms: self.lag_of(member),
            flagged: *flagged,
            traffic: *traffic,
        }
    }

    /// Certificates above what the member has without a gap: only up to there may be forgotten.
    fn blocked_by(&self, member: &Member) -> u64 {
        let state = self.replica.state();
        let tracks = state.clock().tracks();
        let blocked = tracks.flat_map(|(actor, _)| {
            state.tally().certificates_behind(*actor, member.clock.base(actor))
        });
        blocked.take(BLOCKED_COUNTED_MAX).count() as u64
    }

    fn lag_of(&self, member: &Member) -> u64 {
        let state = self.replica.state();
        let lacks = |actor: &ActorId, last: u64| member.clock.base(actor) < last;
        if state.sealed().iter().any(|(actor, last)| lacks(actor, *last))
            || (state.clock().folds())
                .any(|fold| member.folds >= Some(fold.number) && lacks(&fold.actor, fold.last))
        {
            return self.now_ms;
        }
        let Some(actor) = state.actor().filter(|actor| lacks(actor, state.clock().last(actor)))
        else {
            return 0;
        };
        // Without a mark it was everywhere before, or is as old as the start: the member has lost what it had, or is new.
        let since = self.marks.since(member.clock.base(&actor) + 1);
        self.now_ms.saturating_sub(since.unwrap_or(0))
    }
}

/// How many dots of one clock are not in the other.
fn beyond(one: &Clock, other: &Clock) -> u64 {
    one.difference(other).map(|(_, span)| span.last - span.first + 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_tell_when_a_counter_was_issued_at_the_earliest() {
        let actor = Some(ActorId::from_bytes([1; 16]));
        let mut marks = Marks::default();
        assert_eq!(marks.since(1), None);
        marks.issued(actor, 3, 100);
        marks.issued(actor, 3, 150);
        marks.issued(actor, 7, 200);
        assert_eq!((marks.since(1), marks.since(3)), (Some(100), Some(100)));
        assert_eq!((marks.since(4), marks.since(7)), (Some(200), Some(200)));
        marks.settled(2);
        assert_eq!(marks.since(3), Some(100), "the third write is not everywhere");
        marks.settled(3);
        assert_eq!((marks.since(3), marks.since(4)), (None, Some(200)));
        marks.issued(Some(ActorId::from_bytes([2; 16])), 1, 300);
        assert_eq!(marks.since(1), Some(300), "another actor");
    }

    #[test]
    fn marks_are_bounded_and_never_too_young() {
        let actor = Some(ActorId::from_bytes([1; 16]));
        let mut marks = Marks::default();
        for tick in 1..=5_000 {
            marks.issued(actor, tick, tick * 50);
            assert!(marks.marks.len() <= MARKS_MAX);
        }
        for counter in 1..=5_000 {
            let since = marks.since(counter).unwrap();
            assert!(since <= counter * 50, "{counter} at {since}");
        }
        assert!(marks.since(5_000).unwrap() > 4_900 * 50);
    }
}
