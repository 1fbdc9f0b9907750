//! Lists of members and changes of them, without a group.
//!
//! A conf-change entry holds our own [`log::ConfChange`], on the wire, on disk and in memory; it
//! becomes the library's form only when it is applied, so the library's decoder never sees it. What
//! an entry comes to is a function of the log alone: of the entry and of the members before it. So
//! an entry that is impossible is skipped by every replica alike.
//!
//! A change that touches voters goes through joint consensus (Raft thesis section 4.3), which is
//! left by an entry without data. One that adds or removes one learner takes effect at once: no
//! majority changes.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use proto::log::conf_change_step::Kind;
use proto::{NodeId, log};
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};
use raft::{Changer, ProgressTracker};

use crate::wire;

/// What a conf-change entry says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// Leave the joint configuration.
    Leave,
    /// Carry out these steps, all at once.
    Steps(log::ConfChange),
}

/// The data of an entry.
pub(crate) fn encode(change: &log::ConfChange) -> Bytes {
    Bytes::from(change.encode_to_vec())
}

/// Reads the data of an entry; `None` if it is not of a form that this version knows.
pub(crate) fn decode(data: &[u8]) -> Option<Change> {
    if data.is_empty() {
        return Some(Change::Leave);
    }
    let change = log::ConfChange::decode(data).ok()?;
    check_form(&change).ok()?;
    Some(Change::Steps(change))
}

/// Whether a change makes sense, whoever the members are.
pub(crate) fn check_form(change: &log::ConfChange) -> Result<(), &'static str> {
    if change.steps.is_empty() {
        return Err("it has no steps");
    }
    let mut nodes = BTreeSet::new();
    for step in &change.steps {
        if !matches!(
            Kind::try_from(step.kind),
            Ok(Kind::AddVoter | Kind::AddLearner | Kind::Remove)
        ) {
            return Err("a step is of an unknown kind");
        }
        if step.node == 0 {
            return Err("node id 0 is reserved");
        }
        if !nodes.insert(step.node) {
            return Err("two steps name the same node");
        }
    }
    Ok(())
}

/// What a change comes to: its form for the library, and the members once it has taken effect (if
/// it touches voters, those of the joint configuration).
///
/// # Errors
/// Why it is impossible for the members of `tracker`.
pub(crate) fn plan(
    tracker: &ProgressTracker,
    change: &log::ConfChange,
) -> Result<(ConfChangeV2, log::ConfState), &'static str> {
    check_form(change)?;
    let voters = tracker.conf().voters();
    let learners_only = |step: &log::ConfChangeStep| {
        step.kind != Kind::AddVoter as i32 && !voters.contains(step.node)
    };
    let simple = matches!(&*change.steps, [step] if learners_only(step));
    let steps: Vec<ConfChangeSingle> = change.steps.iter().map(single).collect();
    let mut changer = Changer::new(tracker);
    let members = if simple { changer.simple(&steps) } else { changer.enter_joint(false, &steps) };
    let (members, _) = members.map_err(|_| "it is impossible for these members")?;
    let transition =
        if simple { ConfChangeTransition::Auto } else { ConfChangeTransition::Explicit };
    let change = ConfChangeV2 { transition, changes: steps.into(), ..Default::default() };
    Ok((change, sorted(wire::conf_state_to_log(members.to_conf_state()))))
}

fn single(step: &log::ConfChangeStep) -> ConfChangeSingle {
    let change_type = match step.kind() {
        Kind::AddVoter => ConfChangeType::AddNode,
        Kind::AddLearner => ConfChangeType::AddLearnerNode,
        Kind::Remove => ConfChangeType::RemoveNode,
        Kind::Unspecified => unreachable!("the form was checked"),
    };
    ConfChangeSingle { change_type, node_id: step.node, ..Default::default() }
}

/// The lists in ascending order; the library keeps sets, whose order differs from node to node.
pub(crate) fn sorted(mut conf: log::ConfState) -> log::ConfState {
    for list in
        [&mut conf.voters, &mut conf.learners, &mut conf.voters_outgoing, &mut conf.learners_next]
    {
        list.sort_unstable();
    }
    conf
}

/// Whether a node is in any of the lists.
pub(crate) fn lists(conf: &log::ConfState, node: NodeId) -> bool {
    // `learners_next` are outgoing voters.
    [&conf.voters, &conf.learners, &conf.voters_outgoing]
        .iter()
        .any(|list| list.contains(&node.get()))
}

/// Each list names a node once, somebody votes, nobody votes and learns at the same time.
pub(crate) fn check_members(conf: &log::ConfState) -> Result<(), &'static str> {
    let set = |list: &[u64]| list.iter().copied().collect::<BTreeSet<u64>>();
    let voters = set(&conf.voters);
    let learners = set(&conf.learners);
    let outgoing = set(&conf.voters_outgoing);
    let next = set(&conf.learners_next);
    for (list, set) in [
        (&conf.voters, &voters),
        (&conf.learners, &learners),
        (&conf.voters_outgoing, &outgoing),
        (&conf.learners_next, &next),
    ] {
        if list.len() != set.len() {
            return Err("a node is listed twice");
        }
        if set.contains(&0) {
            return Err("node id 0 is reserved");
        }
    }
    if voters.is_empty() {
        return Err("nobody votes");
    }
    if !learners.is_disjoint(&voters) || !learners.is_disjoint(&outgoing) {
        return Err("a node both votes and learns");
    }
    if !next.is_subset(&outgoing) || !next.is_disjoint(&voters) {
        return Err("a node is to become a learner that is not a leaving voter");
    }
    if conf.auto_leave {
        return Err("a change of members would finish by itself, which is not in use");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(voters: &[u64], learners: &[u64], outgoing: &[u64], next: &[u64]) -> log::ConfState {
        log::ConfState {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            voters_outgoing: outgoing.to_vec(),
            learners_next: next.to_vec(),
            auto_leave: false,
        }
    }

    fn change(steps: &[(Kind, u64)]) -> log::ConfChange {
        let step = |&(kind, node): &(Kind, u64)| log::ConfChangeStep { kind: kind as i32, node };
        log::ConfChange { steps: steps.iter().map(step).collect(), change: 1 }
    }

    /// A tracker with these voters and learners.
    fn tracker(voters: &[u64], learners: &[u64]) -> ProgressTracker {
        let mut tracker = ProgressTracker::new(1);
        let voters = voters.iter().map(|node| (Kind::AddVoter, *node));
        let learners = learners.iter().map(|node| (Kind::AddLearner, *node));
        for (kind, node) in voters.chain(learners) {
            let step = single(&log::ConfChangeStep { kind: kind as i32, node });
            let (conf, changes) = Changer::new(&tracker).simple(&[step]).unwrap();
            tracker.apply_conf(conf, changes, 1);
        }
        tracker
    }

    #[test]
    fn contradicting_memberships_are_refused() {
        for sound in
            [conf(&[1], &[], &[], &[]), conf(&[2], &[1], &[], &[]), conf(&[2], &[], &[1, 2], &[1])]
        {
            assert_eq!(check_members(&sound), Ok(()), "{sound:?}");
        }
        for contradicting in [
            conf(&[], &[], &[], &[]),
            conf(&[], &[1], &[], &[]),
            conf(&[1, 1], &[], &[], &[]),
            conf(&[1, 0], &[], &[], &[]),
            conf(&[1, 2], &[2], &[], &[]),
            conf(&[1], &[2], &[2], &[]),
            conf(&[1], &[], &[1], &[3]),
            log::ConfState { auto_leave: true, ..conf(&[1], &[], &[], &[]) },
            log::ConfState { auto_leave: true, ..conf(&[1], &[], &[1], &[]) },
        ] {
            assert!(check_members(&contradicting).is_err(), "{contradicting:?}");
        }
    }

    #[test]
    fn what_touches_voters_goes_through_joint_consensus() {
        let tracker = tracker(&[1, 2, 3], &[4]);
        let joint = |change: &log::ConfChange| {
            let (library, members) = plan(&tracker, change).unwrap();
            assert_eq!(library.enter_joint().is_some(), !members.voters_outgoing.is_empty());
            library.enter_joint()
        };
        for simple in
            [(Kind::AddLearner, 5), (Kind::AddLearner, 4), (Kind::Remove, 4), (Kind::Remove, 9)]
        {
            assert_eq!(joint(&change(&[simple])), None, "{simple:?}");
        }
        for steps in [
            &[(Kind::AddVoter, 4)][..],
            &[(Kind::AddVoter, 5)],
            &[(Kind::Remove, 3)],
            &[(Kind::AddLearner, 3)],
            &[(Kind::AddVoter, 4), (Kind::Remove, 1)],
            &[(Kind::AddLearner, 5), (Kind::AddLearner, 6)],
        ] {
            // Explicitly: it is left by an entry of its own.
            assert_eq!(joint(&change(steps)), Some(false), "{steps:?}");
        }
        let (_, members) =
            plan(&tracker, &change(&[(Kind::Remove, 2), (Kind::AddVoter, 4)])).unwrap();
        assert_eq!(members, conf(&[1, 3, 4], &[], &[1, 2, 3], &[]));
    }

    #[test]
    fn impossible_changes_are_told_from_possible_ones() {
        let lone = tracker(&[1], &[2]);
        for impossible in [
            change(&[]),
            change(&[(Kind::Unspecified, 3)]),
            change(&[(Kind::AddVoter, 0)]),
            change(&[(Kind::AddVoter, 3), (Kind::Remove, 3)]),
            change(&[(Kind::Remove, 1)]),
            change(&[(Kind::AddLearner, 1)]),
        ] {
            assert!(plan(&lone, &impossible).is_err(), "{impossible:?}");
        }
        assert!(plan(&lone, &change(&[(Kind::AddVoter, 2), (Kind::Remove, 1)])).is_ok());
        // Nobody's change is possible while nobody is known to vote.
        let nobody = ProgressTracker::new(1);
        assert!(plan(&nobody, &change(&[(Kind::AddLearner, 2)])).is_err());
    }

    #[test]
    fn only_known_forms_decode() {
        let known = change(&[(Kind::AddVoter, 3)]);
        assert_eq!(decode(&encode(&known)), Some(Change::Steps(known.clone())));
        assert_eq!(decode(b""), Some(Change::Leave));
        assert_eq!(decode(b"\xff\xff"), None);
        let mut newer = known.clone();
        newer.steps[0].kind = 9;
        assert_eq!(decode(&encode(&newer)), None);
        assert_eq!(decode(&encode(&log::ConfChange { steps: vec![], ..known })), None);
        // The library's own form of "add node 3" is not ours.
        let library = [0x12, 0x02, 0x10, 0x03];
        assert_eq!(decode(&library), None);
    }
}
