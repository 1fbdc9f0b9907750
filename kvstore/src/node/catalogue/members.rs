//! Members of the cluster: who they are and what they shall be.

use std::collections::{BTreeMap, BTreeSet};

use consensus::GroupStatus;
use proto::log::change_member::Kind;
use proto::{Code, Failure, NodeId, log, v1};

use super::Verdict;

/// Most members of a cluster, learners included.
pub const MEMBERS_MAX: usize = 64;
/// Most bytes of a member's name.
const NAME_BYTES_MAX: usize = 64;
/// Most bytes of its address: a DNS name and a port, with room to spare.
const ADDRESS_BYTES_MAX: usize = 512;

/// One member.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Name and addresses. Its id is 0 until the node has started and said which one it minted.
    pub member: v1::Member,
    /// It shall vote.
    pub voter: bool,
    /// It becomes a voter by itself once it has caught up.
    pub promote: bool,
}

impl Member {
    /// Its id, once it is known.
    #[must_use]
    pub fn id(&self) -> Option<NodeId> {
        (self.member.id != 0).then_some(NodeId(self.member.id))
    }
}

/// A change that is being carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenChange {
    /// What was asked for.
    pub change: log::ChangeMember,
    /// The member that it removes; it is told everything until the change is done.
    pub leaving: Option<Member>,
}

impl OpenChange {
    /// Whether it removes the member of this name.
    fn removes(&self, name: &str) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.member.name == name)
    }

    /// The member that leaves and whose writes have to be elsewhere before it has gone.
    #[must_use]
    pub fn drains(&self) -> Option<NodeId> {
        self.leaving.as_ref().filter(|_| !self.change.lose_unseen).and_then(Member::id)
    }
}

/// What the members of every group shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Nodes that shall vote.
    pub voters: BTreeSet<NodeId>,
    /// Nodes that shall follow without a vote.
    pub learners: BTreeSet<NodeId>,
}

/// All members by name.
///
/// Invariants: no id occurs twice; an id in `removed` is no member's; at most one change is open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    pub(super) by_name: BTreeMap<String, Member>,
    /// Number of the newest change.
    pub(super) change: u64,
    pub(super) open: Option<OpenChange>,
    /// Ids that never come back (etcd's members that rose from the dead, 2025-12-17; B20).
    pub(super) removed: BTreeSet<NodeId>,
}

impl Members {
    /// The founders of a cluster.
    pub(super) fn formed(founders: &[(NodeId, String)]) -> Self {
        let member = |(id, name): &(NodeId, String)| {
            let member = v1::Member { id: id.get(), name: name.clone(), ..v1::Member::default() };
            (name.clone(), Member { member, voter: true, promote: false })
        };
        Self { by_name: founders.iter().map(member).collect(), ..Self::default() }
    }

    /// All members, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_name.values()
    }

    /// The member of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Member> {
        self.by_name.get(name)
    }

    /// The member with this id, also while it is leaving.
    #[must_use]
    pub fn with_id(&self, id: NodeId) -> Option<&Member> {
        self.reachable().find(|member| member.id() == Some(id))
    }

    /// All nodes to keep a link to: the members, and one that is leaving.
    pub fn reachable(&self) -> impl Iterator<Item = &Member> {
        let leaving = self.open.as_ref().and_then(|open| open.leaving.as_ref());
        self.by_name.values().chain(leaving)
    }

    /// Ids that were removed for good.
    #[must_use]
    pub fn removed(&self) -> &BTreeSet<NodeId> {
        &self.removed
    }

    /// Number of the newest change.
    #[must_use]
    pub fn change_number(&self) -> u64 {
        self.change
    }

    /// The change that is being carried out.
    #[must_use]
    pub fn open_change(&self) -> Option<&OpenChange> {
        self.open.as_ref()
    }

    /// Ids of those that were members before the change that is being carried out.
    #[must_use]
    pub fn counted_before(&self) -> BTreeSet<NodeId> {
        let mut ids: BTreeSet<NodeId> = self.by_name.values().filter_map(Member::id).collect();
        let Some(open) = &self.open else { return ids };
        if let Some(leaving) = open.leaving.as_ref().and_then(Member::id) {
            ids.insert(leaving);
        } else if Kind::try_from(open.change.kind) == Ok(Kind::Add)
            && let Some(added) = self.named(&open.change.name).and_then(Member::id)
        {
            ids.remove(&added);
        }
        ids
    }

    /// What the groups shall consist of.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        for member in self.by_name.values() {
            let Some(id) = member.id() else { continue };
            let set = if member.voter { &mut wanted.voters } else { &mut wanted.learners };
            set.insert(id);
        }
        wanted
    }

    /// Numbers of voters before and after a change, or why it is refused whoever is up.
    ///
    /// # Errors
    /// The code with which apply would refuse it.
    pub fn preview(&self, change: &log::ChangeMember) -> Result<(usize, usize), Code> {
        let voters = |members: &Self| members.by_name.values().filter(|m| m.voter).count();
        let mut after = self.clone();
        after.change(change)?;
        Ok((voters(self), voters(&after)))
    }

    /// A member published its addresses.
    pub(super) fn set_addresses(&mut self, set: &log::SetMember) -> Verdict {
        let Some(new) = &set.member else { return Err(Code::InvalidRequest) };
        // Only addresses change here: who is a member is a matter of membership changes.
        match self.by_name.get_mut(&new.name).filter(|known| known.member.id == new.id) {
            Some(known) if new.id != 0 => {
                known.member = new.clone();
                Ok(0)
            }
            Some(_) | None => Err(Code::InvalidRequest),
        }
    }

    /// A change begins. Returns its number. Refused when another one began since it was decided on.
    pub(super) fn change(&mut self, change: &log::ChangeMember) -> Verdict {
        let kind = Kind::try_from(change.kind).unwrap_or(Kind::Unspecified);
        if change.decided_after != self.change {
            return Err(Code::ChangeInProgress);
        }
        if kind == Kind::Remove
            && change.lose_unseen
            && let Some(open) = self.open.as_mut().filter(|open| open.removes(&change.name))
        {
            open.change.lose_unseen = true;
            return Ok(self.change);
        }
        self.check_open(kind, &change.name)?;
        let leaving = match kind {
            Kind::Add => self.add(change).map(|()| None)?,
            Kind::Promote => {
                let member = self.by_name.get_mut(&change.name).ok_or(Code::MemberNotFound)?;
                if member.id().is_none() {
                    return Err(Code::MemberNotCaughtUp);
                }
                if member.voter {
                    return Ok(self.change);
                }
                member.voter = true;
                member.promote = false;
                None
            }
            Kind::Remove => Some(self.remove(&change.name)?),
            Kind::Unspecified => return Err(Code::InvalidRequest),
        };
        self.change += 1;
        // What never started is in no group: nothing is left to do.
        let leaving = leaving.filter(|member| member.id().is_some());
        self.open = (kind != Kind::Remove || leaving.is_some())
            .then(|| OpenChange { change: change.clone(), leaving });
        Ok(self.change)
    }

    /// One change at a time, but an addition or promotion that does not come to an end can be taken
    /// back by removing that node.
    fn check_open(&self, kind: Kind, name: &str) -> Result<(), Code> {
        match &self.open {
            Some(open) if kind != Kind::Remove || open.change.name != name => {
                Err(Code::ChangeInProgress)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn add(&mut self, change: &log::ChangeMember) -> Result<(), Code> {
        let name_fits = (1..=NAME_BYTES_MAX).contains(&change.name.len());
        let address_fits = (1..=ADDRESS_BYTES_MAX).contains(&change.peer_address.len());
        if !name_fits || !address_fits || self.by_name.len() >= MEMBERS_MAX {
            return Err(Code::InvalidRequest);
        }
        if self.by_name.contains_key(&change.name) {
            return Err(Code::MemberExists);
        }
        let member = v1::Member {
            name: change.name.clone(),
            peer_address: change.peer_address.clone(),
            ..v1::Member::default()
        };
        let member = Member { member, voter: false, promote: !change.stay_learner };
        self.by_name.insert(change.name.clone(), member);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<Member, Code> {
        let member = self.by_name.get(name).ok_or(Code::MemberNotFound)?;
        let others = self.by_name.values().filter(|m| m.voter && m.member.name != name).count();
        if member.voter && others == 0 {
            // The last voter cannot leave: nobody would be left to agree on it.
            return Err(Code::InvalidRequest);
        }
        Ok(self.by_name.remove(name).expect("it was found"))
    }

    /// A node that was added has started. Refused while another change is open: it says so again.
    pub(super) fn bind(&mut self, bind: &log::BindMember) -> Verdict {
        let id = NodeId(bind.id);
        if self.removed.contains(&id) {
            return Err(Code::Removed);
        }
        if bind.id == 0
            || self.reachable().any(|m| m.id() == Some(id) && m.member.name != bind.name)
        {
            return Err(Code::InvalidRequest);
        }
        let member = self.by_name.get_mut(&bind.name).ok_or(Code::MemberNotFound)?;
        if member.member.id == bind.id {
            return Ok(bind.id);
        }
        if member.member.id != 0 {
            return Err(Code::MemberExists);
        }
        if self.open.as_ref().is_some_and(|open| open.change.name != bind.name) {
            return Err(Code::ChangeInProgress);
        }
        member.member.id = bind.id;
        // From here on the groups have something to do: a change with a number of its own, which must
        // be carried out before the next one may begin.
        let kind = Kind::Add.into();
        let change =
            log::ChangeMember { kind, name: bind.name.clone(), ..log::ChangeMember::default() };
        self.change += 1;
        self.open = Some(OpenChange { change, leaving: None });
        Ok(bind.id)
    }

    /// Every group carries a change out.
    pub(super) fn done(&mut self, change: u64) -> Verdict {
        if change == self.change
            && let Some(open) = self.open.take()
        {
            self.removed.extend(open.leaving.and_then(|member| member.id()));
        }
        Ok(change)
    }

    /// Whether a change may begin now, with respect to who is up: the leader's judgement. `takes_writes`: there are eventual
    /// keyspaces, so each member may have what no other has.
    pub(super) fn vet(
        &self,
        change: &log::ChangeMember,
        status: &GroupStatus,
        takes_writes: bool,
    ) -> Result<(), Failure> {
        let refuse = |code: Code, why: String| Err(Failure::new(code, "", why));
        let mut after = self.clone();
        if after.change(change).is_err() {
            // Apply refuses it and says why, the same everywhere.
            return Ok(());
        }
        let kind = Kind::try_from(change.kind).unwrap_or(Kind::Unspecified);
        // One that votes already stays what it is.
        let learns = |member: &&Member| !member.voter;
        if kind == Kind::Promote
            && let Some(id) = self.named(&change.name).filter(learns).and_then(Member::id)
            && !status.learners_caught_up.contains(&id)
        {
            let why = format!("{} does not follow the leader closely yet", change.name);
            return refuse(Code::MemberNotCaughtUp, why);
        }
        let leaves = self.named(&change.name).filter(|_| kind == Kind::Remove);
        let is_silent = |id| status.peers.iter().any(|peer| peer.node == id && !peer.active);
        if takes_writes && !change.lose_unseen && leaves.and_then(Member::id).is_some_and(is_silent)
        {
            let name = &change.name;
            let why = format!(
                "{name} is not heard, so what it alone took would be lost; if it never comes back: --lose-unseen"
            );
            return refuse(Code::MemberUnheard, why);
        }
        let voters = after.wanted().voters;
        let learners_heard = &status.learners_caught_up;
        let up = voters
            .iter()
            .filter(|id| status.active_voters.contains(id) || learners_heard.contains(id))
            .count();
        // An addition changes no voter.
        if kind != Kind::Add && up * 2 <= voters.len() {
            let why = format!("{up} of the {} voters after the change were heard", voters.len());
            return refuse(Code::QuorumAtRisk, why);
        }
        Ok(())
    }
}
