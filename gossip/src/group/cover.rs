//! Bringing this member up to all others: what a backup needs before it takes a cut.
//!
//! ```text
//! R -> S   Standing    has S lost anything?
//! S -> R   Stands      whether it has
//! R -> S   Hello       a session, as in any exchange
//! R -> S   Standing    is it still the same S?
//! S -> R   Stands
//! ```
//!
//! What a member had acknowledged before [`Group::cover`] was called is here once a session with it has closed that
//! began afterwards, or once it has answered the Hello of such a session that both have the same. A Hello that it sent by
//! itself may have been on its way for long, and says nothing.
//!
//! What a majority had made durable is here once a majority is covered of which each had lost nothing when the
//! session with it began. One that began without data and has not met all others had perhaps acknowledged a write that
//! it lacks now. A member that loses its data begins with another actor, with its node or without: so it is asked before the
//! session and after it, and where it was another one in between all is done again.

use proto::NodeId;

use super::Group;
use super::configuration::Configuration;
use super::message::{Message, Turn};
use crate::actor::ActorId;

/// Milliseconds before a member is asked again who did not answer, or whose session did not close.
const AGAIN_MS: u64 = 200;

/// What a member said before a session: who it is in this life, and whether it has lost anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    actor: ActorId,
    is_whole: bool,
}

/// How far another member has told this one what it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Covering {
    /// It has not said whether it has lost anything.
    #[default]
    Unknown,
    /// It has said so.
    Known(Standing),
    /// This session is to bring it all.
    Asked { session: u64, before: Standing },
    /// The session has closed. It has not said yet that it was the same all the time.
    Closed { before: Standing },
    /// All that it had is here.
    Covered { is_whole: bool },
}

impl Covering {
    const fn is_over(self) -> bool {
        matches!(self, Self::Covered { .. })
    }

    /// The link is down: who it is when it comes back is not known.
    pub(super) const fn unlinked(self) -> Self {
        if self.is_over() { self } else { Self::Unknown }
    }
}

/// The last call of [`Group::cover`].
#[derive(Debug, Default)]
pub(super) struct Cover {
    /// Names it.
    id: u64,
    /// It goes on, and who is not covered is asked again at this time.
    next_ms: Option<u64>,
    /// Who counted when it began.
    of: Configuration,
}

impl Cover {
    pub(super) fn starting(id: u64) -> Self {
        Self { id, ..Self::default() }
    }
}

impl Group {
    /// Begins to bring this member up to every other one that has a link; [`Group::is_covering`] says until when.
    /// What an earlier call has begun counts no more.
    pub fn cover(&mut self) {
        let (id, next_ms) = (self.cover.id + 1, Some(self.now_ms));
        self.cover = Cover { id, next_ms, of: self.configuration.clone() };
        for member in self.members.values_mut() {
            member.covering = Covering::Unknown;
        }
        self.go_on_covering();
    }

    /// Nobody waits any more for those that are not covered.
    pub fn end_cover(&mut self) {
        self.cover.next_ms = None;
    }

    /// Whether some member that has a link is not covered yet.
    #[must_use]
    pub fn is_covering(&self) -> bool {
        let mut others = self.members.values();
        self.cover.next_ms.is_some()
            && others.any(|member| member.is_linked && !member.covering.is_over())
    }

    /// The other members of which this one has all that they had at the last call of [`Group::cover`].
    #[must_use]
    pub fn covered_members(&self) -> Vec<NodeId> {
        let covered = self.members.iter().filter(|(_, member)| member.covering.is_over());
        covered.map(|(node, _)| *node).collect()
    }

    /// Whether this member has what any majority had made durable before the last call of [`Group::cover`].
    #[must_use]
    pub fn covers_majority(&self) -> bool {
        let of = &self.cover.of;
        let is_whole = |node: &&NodeId| {
            let member = self.members.get(*node);
            member.is_some_and(|member| member.covering == Covering::Covered { is_whole: true })
        };
        let own = of.counts_itself && self.has_lost_nothing();
        of.others.iter().filter(is_whole).count() + usize::from(own) >= of.majority()
    }

    /// Whether this member has lost nothing that it does not know of.
    fn has_lost_nothing(&self) -> bool {
        !self.is_recovering && self.replica.damage().is_empty()
    }

    /// Asks those that are not covered and not asked.
    pub(super) fn go_on_covering(&mut self) {
        if self.cover.next_ms.is_none_or(|next_ms| self.now_ms < next_ms) {
            return;
        }
        if !self.is_covering() {
            self.cover.next_ms = None;
            return;
        }
        self.cover.next_ms = Some(self.now_ms + AGAIN_MS);
        let linked: Vec<NodeId> = self.linked().collect();
        for node in linked {
            self.cover_member(node);
        }
    }

    /// Takes the next step with a member, unless one is under way.
    fn cover_member(&mut self, node: NodeId) {
        let Some(member) = self.members.get(&node) else { return };
        let asking = self.asking.get(&node).map(super::Asking::session);
        let before = match member.covering {
            Covering::Unknown | Covering::Closed { .. } => {
                return self.send(node, Message::Standing { id: self.cover.id });
            }
            Covering::Known(before) => before,
            Covering::Asked { session, before } if asking != Some(session) => before,
            Covering::Asked { .. } | Covering::Covered { .. } => return,
        };
        if !self.may_close() {
            return;
        }
        self.counts.exchanges += 1;
        let session = self.ask(node, Turn::Ask);
        self.set_covering(node, Covering::Asked { session, before });
    }

    fn set_covering(&mut self, node: NodeId, covering: Covering) {
        if let Some(member) = self.members.get_mut(&node) {
            member.covering = covering;
        }
    }

    /// A member asks whether this one has lost anything.
    pub(super) fn asked_for_standing(&mut self, from: NodeId, id: u64) {
        let Some(actor) = self.replica.state().actor() else { return };
        let is_whole = self.has_lost_nothing();
        self.send(from, Message::Stands { id, actor, is_whole });
    }

    /// A member says whether it has lost anything.
    pub(super) fn stands(&mut self, from: NodeId, id: u64, actor: ActorId, is_whole: bool) {
        if id != self.cover.id || self.cover.next_ms.is_none() {
            return;
        }
        match self.members.get(&from).map(|member| member.covering) {
            Some(Covering::Closed { before }) if before.actor == actor => {
                self.set_covering(from, Covering::Covered { is_whole: before.is_whole });
            }
            Some(Covering::Unknown | Covering::Closed { .. }) => {
                self.set_covering(from, Covering::Known(Standing { actor, is_whole }));
                self.cover_member(from);
            }
            Some(Covering::Known(_) | Covering::Asked { .. } | Covering::Covered { .. }) | None => {
            }
        }
    }

    /// A session with a member has closed here, or it has answered its Hello that both have the same.
    pub(super) fn covered_by(&mut self, node: NodeId, session: u64) {
        let Some(member) = self.members.get_mut(&node) else { return };
        if let Covering::Asked { session: asked, before } = member.covering
            && asked == session
        {
            member.covering = Covering::Closed { before };
            self.cover_member(node);
        }
    }
}
