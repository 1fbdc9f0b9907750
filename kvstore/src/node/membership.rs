//! What the leader of a group does next so that the group consists of whom the catalogue wants.
//!
//! Every group is led by somebody who knows the catalogue up to some point, perhaps not the newest. The
//! number of the change that a conf-change entry carries out keeps an older view from undoing a newer
//! one: a leader acts only on changes newer than the newest that its group has applied.

use std::collections::BTreeSet;

use consensus::{GroupStatus, Role};
use proto::{NodeId, log};

use super::catalogue::Wanted;

/// One step of a change of members.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Propose this.
    Propose(log::ConfChange),
    /// This node is to leave: hand leadership to another one first.
    HandOver(NodeId),
}

/// Where a group stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// This node.
    pub node: NodeId,
    /// Role and progress.
    pub status: &'a GroupStatus,
    /// The members as applied.
    pub conf: &'a log::ConfState,
    /// Number of the newest change that the group has applied.
    pub applied_change: u64,
}

/// The next step towards `wanted`, which change number `change` of the catalogue asks for; `None` when
/// there is nothing to do, when it is not this node's turn, or when something has to be waited for.
#[must_use]
pub fn next_step(standing: Standing<'_>, wanted: &Wanted, change: u64) -> Option<Step> {
    let Standing { node, status, conf, applied_change } = standing;
    let may_act = status.role == Role::Leader
        && status.ready_for_reads
        && !status.joint
        && !status.conf_pending
        && status.transferring_to.is_none();
    if !may_act || change <= applied_change || carried_out(conf, wanted) {
        return None;
    }
    let voters = ids(&conf.voters);
    let present: BTreeSet<NodeId> = voters.union(&ids(&conf.learners)).copied().collect();
    let all: BTreeSet<NodeId> = wanted.voters.union(&wanted.learners).copied().collect();
    let added: Vec<NodeId> = all.difference(&present).copied().collect();
    if !added.is_empty() {
        return Some(propose(change, &added, log::conf_change_step::Kind::AddLearner, &[]));
    }
    let leaving: Vec<NodeId> = present.difference(&all).copied().collect();
    if leaving.contains(&node) {
        let heir = |id: &&NodeId| **id != node && status.active_voters.contains(id);
        return wanted.voters.iter().find(heir).map(|id| Step::HandOver(*id));
    }
    let ready: Vec<NodeId> = wanted
        .voters
        .iter()
        .filter(|id| !voters.contains(id) && status.learners_caught_up.contains(id))
        .copied()
        .collect();
    if ready.is_empty() && leaving.is_empty() {
        return None;
    }
    let after: BTreeSet<NodeId> =
        voters.iter().chain(&ready).filter(|id| !leaving.contains(id)).copied().collect();
    let up =
        |id: &&NodeId| status.active_voters.contains(id) || status.learners_caught_up.contains(id);
    // A group whose new voters are mostly gone would stop for good (nats-server#7545; B31).
    if after.iter().filter(up).count() * 2 <= after.len() {
        return None;
    }
    Some(propose(change, &ready, log::conf_change_step::Kind::AddVoter, &leaving))
}

/// Whether a group consists of whom is wanted, with nothing left to do.
#[must_use]
pub fn carried_out(conf: &log::ConfState, wanted: &Wanted) -> bool {
    conf.voters_outgoing.is_empty()
        && conf.learners_next.is_empty()
        && ids(&conf.voters) == wanted.voters
        && ids(&conf.learners) == wanted.learners
}

/// Whether a group still has somebody whom nobody wants.
#[must_use]
pub fn holds_leaving(conf: &log::ConfState, wanted: &Wanted) -> bool {
    let lists = [&conf.voters, &conf.voters_outgoing, &conf.learners, &conf.learners_next];
    let mut present = lists.into_iter().flatten().map(|id| NodeId(*id));
    present.any(|id| !wanted.voters.contains(&id) && !wanted.learners.contains(&id))
}

fn propose(
    change: u64,
    added: &[NodeId],
    kind: log::conf_change_step::Kind,
    leaving: &[NodeId],
) -> Step {
    use log::conf_change_step::Kind;
    let step = |kind: Kind| {
        move |node: &NodeId| log::ConfChangeStep { kind: kind.into(), node: node.get() }
    };
    let steps = added.iter().map(step(kind)).chain(leaving.iter().map(step(Kind::Remove)));
    Step::Propose(log::ConfChange { steps: steps.collect(), change })
}

fn ids(list: &[u64]) -> BTreeSet<NodeId> {
    list.iter().copied().map(NodeId).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::PeerProgress;
    use log::conf_change_step::Kind;
    use proto::{LogIndex, Term};

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);
    const D: NodeId = NodeId(4);

    fn leader(active: &[NodeId], caught_up: &[NodeId]) -> GroupStatus {
        GroupStatus {
            role: Role::Leader,
            leader: Some(A),
            term: Term(3),
            commit: LogIndex(9),
            applied: LogIndex(9),
            last_index: LogIndex(9),
            voters: vec![A, B, C],
            learners: vec![],
            ready_for_reads: true,
            majority_active: true,
            transferring_to: None,
            peers: Vec::<PeerProgress>::new(),
            learners_caught_up: caught_up.to_vec(),
            joint: false,
            conf_pending: false,
            active_voters: active.to_vec(),
        }
    }

    fn conf(voters: &[NodeId], learners: &[NodeId]) -> log::ConfState {
        log::ConfState {
            voters: voters.iter().map(|id| id.get()).collect(),
            learners: learners.iter().map(|id| id.get()).collect(),
            ..log::ConfState::default()
        }
    }

    fn wanted(voters: &[NodeId], learners: &[NodeId]) -> Wanted {
        Wanted {
            voters: voters.iter().copied().collect(),
            learners: learners.iter().copied().collect(),
        }
    }

    fn step(status: &GroupStatus, conf: &log::ConfState, wanted: &Wanted) -> Option<Step> {
        next_step(Standing { node: A, status, conf, applied_change: 4 }, wanted, 5)
    }

    fn steps(step: Option<Step>) -> Vec<(Kind, NodeId)> {
        match step {
            Some(Step::Propose(change)) => {
                assert_eq!(change.change, 5);
                change.steps.iter().map(|step| (step.kind(), NodeId(step.node))).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_new_member_learns_first() {
        let status = leader(&[A, B, C], &[]);
        for wanted in [wanted(&[A, B, C], &[D]), wanted(&[A, B, C, D], &[])] {
            let next = step(&status, &conf(&[A, B, C], &[]), &wanted);
            assert_eq!(steps(next), [(Kind::AddLearner, D)]);
        }
    }

    #[test]
    fn b21_a_member_is_added_while_another_one_is_down() {
        let status = leader(&[A, B], &[]);
        let next = step(&status, &conf(&[A, B, C], &[]), &wanted(&[A, B, C], &[D]));
        assert_eq!(steps(next), [(Kind::AddLearner, D)]);
    }

    #[test]
    fn a_learner_votes_once_it_has_caught_up() {
        let (conf, wanted) = (conf(&[A, B, C], &[D]), wanted(&[A, B, C, D], &[]));
        assert_eq!(step(&leader(&[A, B, C], &[]), &conf, &wanted), None);
        assert_eq!(steps(step(&leader(&[A, B, C], &[D]), &conf, &wanted)), [(Kind::AddVoter, D)]);
    }

    #[test]
    fn b31_no_removal_that_would_stop_the_group() {
        let (conf, wanted) = (conf(&[A, B, C], &[]), wanted(&[A, B], &[]));
        assert_eq!(step(&leader(&[A, C], &[]), &conf, &wanted), None);
        assert_eq!(steps(step(&leader(&[A, B], &[]), &conf, &wanted)), [(Kind::Remove, C)]);
    }

    #[test]
    fn a_leader_that_is_to_leave_hands_over() {
        let next = step(&leader(&[A, C], &[]), &conf(&[A, B, C], &[]), &wanted(&[B, C], &[]));
        assert_eq!(next, Some(Step::HandOver(C)));
    }

    #[test]
    fn an_older_view_undoes_nothing() {
        let status = leader(&[A, B, C], &[]);
        let (conf, old) = (conf(&[A, B], &[]), wanted(&[A, B, C], &[]));
        let standing = Standing { node: A, status: &status, conf: &conf, applied_change: 5 };
        assert_eq!(next_step(standing, &old, 5), None);
        assert_eq!(next_step(standing, &old, 4), None);
    }

    #[test]
    fn a_group_is_seen_to_hold_somebody_who_leaves() {
        let wanted = wanted(&[A, B], &[D]);
        assert!(!holds_leaving(&conf(&[A, B], &[D]), &wanted));
        assert!(!holds_leaving(&conf(&[A], &[]), &wanted));
        assert!(holds_leaving(&conf(&[A, B, C], &[D]), &wanted));
        let joint = log::ConfState { voters_outgoing: vec![1, 2, 3], ..conf(&[A, B], &[]) };
        assert!(holds_leaving(&joint, &wanted));
    }

    #[test]
    fn one_change_at_a_time() {
        let (conf, wanted) = (conf(&[A, B, C], &[]), wanted(&[A, B], &[]));
        let busy = GroupStatus { conf_pending: true, ..leader(&[A, B, C], &[]) };
        assert_eq!(step(&busy, &conf, &wanted), None);
        // A leader may propose a change only with a commit in its own term (raft-dev 2015; B34).
        let fresh = GroupStatus { ready_for_reads: false, ..leader(&[A, B, C], &[]) };
        assert_eq!(step(&fresh, &conf, &wanted), None);
    }
}
