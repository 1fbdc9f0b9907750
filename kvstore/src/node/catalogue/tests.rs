use consensus::{GroupStatus, Role};
use proto::log::change_member::Kind;
use proto::log::put_keyspace::Step;
use proto::v1;
use proto::v1::keyspace::{self, State};

use super::*;

fn catalogue() -> Catalogue {
    Catalogue::formed(&[(NodeId(1), "n1".into()), (NodeId(2), "n2".into())])
}

fn apply(catalogue: &mut Catalogue, body: Body) -> Result<u64, u32> {
    let index = StateMachine::applied(catalogue).next();
    let command = Command { body: Some(body) };
    let outcome = catalogue.apply(index, Term(1), Some(&command)).unwrap().unwrap();
    if outcome.refused == 0 { Ok(outcome.revision) } else { Err(outcome.refused) }
}

fn change(catalogue: &mut Catalogue, kind: Kind, name: &str) -> Result<u64, u32> {
    let decided_after = catalogue.members().change_number();
    late_change(catalogue, kind, name, decided_after)
}

fn late_change(
    catalogue: &mut Catalogue,
    kind: Kind,
    name: &str,
    decided_after: u64,
) -> Result<u64, u32> {
    let change = log::ChangeMember {
        kind: kind.into(),
        name: name.into(),
        peer_address: "127.0.0.1:1".into(),
        stay_learner: false,
        lose_unseen: false,
        decided_after,
    };
    apply(catalogue, Body::ChangeMember(change))
}

fn bind(catalogue: &mut Catalogue, name: &str, id: u64) -> Result<u64, u32> {
    apply(catalogue, Body::BindMember(log::BindMember { name: name.into(), id }))
}

fn done(catalogue: &mut Catalogue, change: u64) {
    apply(catalogue, Body::ChangeDone(log::ChangeDone { change })).unwrap();
}

fn put(catalogue: &mut Catalogue, step: Step, id: u64, name: &str) -> Result<u64, u32> {
    let keyspace = v1::Keyspace {
        id,
        name: name.into(),
        kind: keyspace::Kind::Linearizable.into(),
        ..v1::Keyspace::default()
    };
    apply(
        catalogue,
        Body::PutKeyspace(log::PutKeyspace { step: step.into(), keyspace: Some(keyspace) }),
    )
}

#[test]
fn only_members_publish_addresses() {
    let mut catalogue = catalogue();
    let set = |id| {
        let member = v1::Member { id, name: "n1".into(), ..v1::Member::default() };
        Body::SetMember(log::SetMember { member: Some(member) })
    };
    assert_eq!(apply(&mut catalogue, set(1)), Ok(0));
    assert_eq!(apply(&mut catalogue, set(4)), Err(Code::InvalidRequest.number()));
}

#[test]
fn an_address_that_no_record_could_hold_is_refused() {
    let mut catalogue = catalogue();
    for (bytes, expected) in [(512, Ok(1)), (513, Err(Code::InvalidRequest.number()))] {
        let add = log::ChangeMember {
            kind: Kind::Add.into(),
            name: format!("n{bytes}"),
            peer_address: "a".repeat(bytes),
            decided_after: catalogue.members().change_number(),
            ..log::ChangeMember::default()
        };
        assert_eq!(apply(&mut catalogue, Body::ChangeMember(add)), expected);
        done(&mut catalogue, 1);
    }
}

#[test]
fn a_member_is_added_bound_promoted_and_removed_for_good() {
    let mut catalogue = catalogue();
    assert_eq!(change(&mut catalogue, Kind::Add, "n3"), Ok(1));
    assert!(catalogue.members().wanted().learners.is_empty(), "it has no id yet");
    // One at a time.
    assert_eq!(change(&mut catalogue, Kind::Add, "n4"), Err(Code::ChangeInProgress.number()));
    assert_eq!(bind(&mut catalogue, "n3", 3), Ok(3));
    assert_eq!(bind(&mut catalogue, "n3", 5), Err(Code::MemberExists.number()));
    assert_eq!(catalogue.members().wanted().learners, [NodeId(3)].into());
    // The groups have something to do only since then, under a number of its own.
    done(&mut catalogue, 1);
    let refused = Err(Code::ChangeInProgress.number());
    assert_eq!(change(&mut catalogue, Kind::Promote, "n3"), refused, "a group may lack it yet");
    done(&mut catalogue, 2);
    assert_eq!(change(&mut catalogue, Kind::Promote, "n3"), Ok(3));
    assert!(catalogue.members().wanted().voters.contains(&NodeId(3)));
    done(&mut catalogue, 3);
    assert_eq!(change(&mut catalogue, Kind::Remove, "n3"), Ok(4));
    assert!(catalogue.members().with_id(NodeId(3)).is_some(), "it is told until it is gone");
    assert!(catalogue.members().removed().is_empty());
    done(&mut catalogue, 4);
    assert!(catalogue.members().removed().contains(&NodeId(3)));
}

/// Those that acknowledge and answer in the configuration before the open change.
#[test]
fn those_that_counted_before_a_change_are_known_until_it_is_done() {
    let mut catalogue = catalogue();
    let before = |catalogue: &Catalogue| -> Vec<u64> {
        catalogue.members().counted_before().into_iter().map(NodeId::get).collect()
    };
    assert_eq!(before(&catalogue), [1, 2]);
    change(&mut catalogue, Kind::Add, "n3").unwrap();
    assert_eq!(before(&catalogue), [1, 2]);
    done(&mut catalogue, 1);
    bind(&mut catalogue, "n3", 3).unwrap();
    assert_eq!(before(&catalogue), [1, 2], "the third is the change");
    // It is taken back before anybody has followed: it may have acknowledged something.
    change(&mut catalogue, Kind::Remove, "n3").unwrap();
    assert_eq!(before(&catalogue), [1, 2, 3]);
    done(&mut catalogue, 3);
    assert_eq!(before(&catalogue), [1, 2]);
}

#[test]
fn b20_a_removed_id_never_comes_back() {
    let mut catalogue = catalogue();
    change(&mut catalogue, Kind::Remove, "n2").unwrap();
    done(&mut catalogue, 1);
    change(&mut catalogue, Kind::Add, "n2").unwrap();
    assert_eq!(bind(&mut catalogue, "n2", 2), Err(Code::Removed.number()));
    assert_eq!(bind(&mut catalogue, "n2", 9), Ok(9));
}

#[test]
fn a_change_that_comes_late_does_not_meet_other_members() {
    let mut catalogue = catalogue();
    let decided_after = catalogue.members().change_number();
    change(&mut catalogue, Kind::Remove, "n2").unwrap();
    done(&mut catalogue, 1);
    change(&mut catalogue, Kind::Add, "n2").unwrap();
    bind(&mut catalogue, "n2", 9).unwrap();
    done(&mut catalogue, 3);
    let refused = Err(Code::ChangeInProgress.number());
    assert_eq!(late_change(&mut catalogue, Kind::Remove, "n2", decided_after), refused);
    assert!(catalogue.members().wanted().learners.contains(&NodeId(9)), "the new node stays");
}

#[test]
fn a_new_node_binds_once_other_changes_are_done() {
    let mut catalogue = catalogue();
    change(&mut catalogue, Kind::Add, "n3").unwrap();
    done(&mut catalogue, 1);
    change(&mut catalogue, Kind::Remove, "n2").unwrap();
    assert_eq!(bind(&mut catalogue, "n3", 3), Err(Code::ChangeInProgress.number()));
    done(&mut catalogue, 2);
    assert_eq!(bind(&mut catalogue, "n3", 3), Ok(3));
    assert_eq!(bind(&mut catalogue, "n3", 3), Ok(3), "said again");
    assert_eq!(catalogue.members().change_number(), 3, "newer than what the groups carry out");
}

#[test]
fn an_addition_that_never_came_is_taken_back() {
    let mut catalogue = catalogue();
    change(&mut catalogue, Kind::Add, "n3").unwrap();
    assert_eq!(change(&mut catalogue, Kind::Remove, "n2"), Err(Code::ChangeInProgress.number()));
    change(&mut catalogue, Kind::Remove, "n3").unwrap();
    assert_eq!(catalogue.members().open_change(), None, "it was in no group");
    assert_eq!(change(&mut catalogue, Kind::Add, "n4"), Ok(3));
}

#[test]
fn the_last_voter_stays() {
    let mut catalogue = Catalogue::formed(&[(NodeId(1), "n1".into())]);
    let refused = Err(Code::InvalidRequest.number());
    assert_eq!(change(&mut catalogue, Kind::Remove, "n1"), refused);
    assert_eq!(change(&mut catalogue, Kind::Remove, "n9"), Err(Code::MemberNotFound.number()));
    assert_eq!(change(&mut catalogue, Kind::Add, "n1"), Err(Code::MemberExists.number()));
}

#[test]
fn b32_keyspaces_live_and_die_and_their_ids_are_never_reused() {
    let mut catalogue = catalogue();
    assert_eq!(put(&mut catalogue, Step::Create, 0, "orders"), Ok(2));
    assert_eq!(put(&mut catalogue, Step::Create, 0, "orders"), Err(Code::KeyspaceExists.number()));
    assert_eq!(catalogue.keyspaces().named("orders").unwrap().state(), State::Creating);
    put(&mut catalogue, Step::Ready, 2, "").unwrap();
    assert_eq!(catalogue.keyspaces().unsettled().count(), 0);
    put(&mut catalogue, Step::Set, 0, "orders").unwrap();
    assert_eq!(catalogue.keyspaces().unsettled().count(), 1);
    // A confirmation of older settings confirms nothing.
    put(&mut catalogue, Step::Settled, 2, "").unwrap();
    assert_eq!(catalogue.keyspaces().unsettled().count(), 1);
    put(&mut catalogue, Step::Remove, 0, "orders").unwrap();
    put(&mut catalogue, Step::Ready, 2, "").unwrap();
    assert_eq!(catalogue.keyspaces().named("orders").unwrap().state(), State::Removing);
    put(&mut catalogue, Step::Gone, 2, "").unwrap();
    assert_eq!(catalogue.keyspaces().named("orders"), None);
    assert_eq!(put(&mut catalogue, Step::Create, 0, "orders"), Ok(3));
    let protected = Err(Code::KeyspaceProtected.number());
    assert_eq!(put(&mut catalogue, Step::Remove, 0, "default"), protected);
    for name in ["", "-x", "a b", "a/b", &"x".repeat(129)] {
        let refused = Err(Code::KeyspaceNameInvalid.number());
        assert_eq!(put(&mut catalogue, Step::Create, 0, name), refused, "{name}");
    }
}

fn status(active: &[u64], caught_up: &[u64]) -> GroupStatus {
    let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
    GroupStatus {
        role: Role::Leader,
        leader: Some(NodeId(1)),
        term: Term(1),
        commit: LogIndex(9),
        applied: LogIndex(9),
        last_index: LogIndex(9),
        voters: ids(&[1, 2]),
        learners: Vec::new(),
        joint: false,
        conf_pending: false,
        active_voters: ids(active),
        learners_caught_up: ids(caught_up),
        ready_for_reads: true,
        majority_active: true,
        transferring_to: None,
        peers: Vec::new(),
    }
}

/// What the leader says to a change of `name`, with these voters active and learners caught up.
fn vet(
    catalogue: &Catalogue,
    kind: Kind,
    name: &str,
    (active, caught_up): (&[u64], &[u64]),
) -> Result<(), Code> {
    let change = log::ChangeMember {
        kind: kind.into(),
        name: name.into(),
        peer_address: "127.0.0.1:1".into(),
        stay_learner: false,
        lose_unseen: false,
        decided_after: catalogue.members().change_number(),
    };
    let command = Command { body: Some(Body::ChangeMember(change)) };
    catalogue.vet(&command, &status(active, caught_up)).map_err(|failure| failure.code)
}

#[test]
fn a_promotion_waits_until_the_learner_has_caught_up() {
    let mut catalogue = catalogue();
    change(&mut catalogue, Kind::Add, "n3").unwrap();
    bind(&mut catalogue, "n3", 3).unwrap();
    done(&mut catalogue, 2);
    let promote = |status| vet(&catalogue, Kind::Promote, "n3", status);
    assert_eq!(promote((&[1, 2], &[])), Err(Code::MemberNotCaughtUp));
    assert_eq!(promote((&[1, 2], &[3])), Ok(()));
    assert_eq!(promote((&[1], &[3])), Ok(()), "two of the three voters after it are up");
}

#[test]
fn a_voter_is_promoted_again_without_effect() {
    let mut catalogue = catalogue();
    assert_eq!(vet(&catalogue, Kind::Promote, "n2", (&[1, 2], &[])), Ok(()));
    assert_eq!(change(&mut catalogue, Kind::Promote, "n2"), Ok(0));
    assert_eq!(catalogue.members().open_change(), None);
}

#[test]
fn b31_no_change_leaves_voters_who_are_mostly_gone() {
    let catalogue = Catalogue::formed(&[1, 2, 3].map(|id| (NodeId(id), format!("n{id}"))));
    let remove = |name, active| vet(&catalogue, Kind::Remove, name, (active, &[]));
    assert_eq!(remove("n3", &[1, 2]), Ok(()));
    assert_eq!(remove("n2", &[1, 2]), Err(Code::QuorumAtRisk), "of n1 and n3 one is up");
    assert_eq!(vet(&catalogue, Kind::Add, "n4", (&[1, 2], &[])), Ok(()), "it votes later");
    assert_eq!(remove("n9", &[]), Ok(()), "apply says what is wrong");
}

#[test]
fn an_export_holds_everything() {
    let mut catalogue = catalogue();
    change(&mut catalogue, Kind::Add, "n3").unwrap();
    bind(&mut catalogue, "n3", 3).unwrap();
    done(&mut catalogue, 2);
    change(&mut catalogue, Kind::Remove, "n3").unwrap();
    done(&mut catalogue, 3);
    change(&mut catalogue, Kind::Add, "n4").unwrap();
    bind(&mut catalogue, "n4", 4).unwrap();
    done(&mut catalogue, 5);
    let retire = log::RetireActors { actors: vec![vec![7; 16].into()], change: 5 };
    apply(&mut catalogue, Body::RetireActors(retire)).unwrap();
    let end = log::ActorEnd { actor: vec![7; 16].into(), round: 1, last: 3 };
    apply(&mut catalogue, Body::FoldActors(log::FoldActors { actors: vec![end] })).unwrap();
    change(&mut catalogue, Kind::Remove, "n2").unwrap();
    put(&mut catalogue, Step::Create, 0, "orders").unwrap();
    put(&mut catalogue, Step::Create, 0, "gone").unwrap();
    put(&mut catalogue, Step::Remove, 0, "gone").unwrap();
    put(&mut catalogue, Step::Gone, 3, "").unwrap();
    let secret = crate::secrets::SecretId::parse("token-1").unwrap();
    let secret = Some(record(secret, crate::secrets::Fingerprint([4; 32])));
    apply(&mut catalogue, Body::PutSecret(log::PutSecret { secret, lost: false })).unwrap();
    // Each part of it says something that it would not say by default.
    assert_eq!(catalogue.secrets().iter().count(), 1);
    assert_eq!((catalogue.actors().round(), catalogue.actors().folds().len()), (1, 1));
    assert!(catalogue.members().removed().contains(&NodeId(3)));
    assert!(catalogue.members().named("n4").is_some_and(|member| member.promote));
    assert!(catalogue.members().open_change().is_some_and(|open| open.leaving.is_some()));
    let conf = (log::ConfState { voters: vec![1, 2], ..log::ConfState::default() }, 4);
    let index = StateMachine::applied(&catalogue).next();
    catalogue.apply_conf(index, Term(2), &conf.0, conf.1);
    let mut again = Catalogue::import(catalogue.export(), index, Term(2), conf);
    assert_eq!(again, catalogue);
    assert_eq!(put(&mut again, Step::Create, 0, "more"), Ok(4), "an id is never used again");
}

#[test]
fn retirements_are_of_one_set_of_members() {
    let mut catalogue = catalogue();
    let retire = |catalogue: &mut Catalogue, change| {
        let actors = vec![vec![7; 16].into()];
        apply(catalogue, Body::RetireActors(log::RetireActors { actors, change }))
    };
    let late = Err(Code::ChangeInProgress.number());
    assert_eq!(retire(&mut catalogue, 1), late);
    assert_eq!(retire(&mut catalogue, 0), Ok(1));
    assert_eq!(catalogue.actors().retiring().len(), 1);
    change(&mut catalogue, Kind::Add, "n3").unwrap();
    assert!(catalogue.actors().retiring().is_empty(), "who comes may know more");
    assert_eq!(retire(&mut catalogue, 1), late, "while a change is open");
    done(&mut catalogue, 1);
    assert_eq!(retire(&mut catalogue, 1), Ok(2));
    bind(&mut catalogue, "n3", 3).unwrap();
    assert!(catalogue.actors().retiring().is_empty());
}

#[test]
fn who_is_not_heard_is_removed_only_where_its_writes_may_be_lost() {
    let mut catalogue = Catalogue::formed(&[1, 2, 3].map(|id| (NodeId(id), format!("n{id}"))));
    let vet = |catalogue: &Catalogue, name: &str, lose_unseen| {
        let change = log::ChangeMember {
            kind: Kind::Remove.into(),
            name: name.into(),
            lose_unseen,
            decided_after: catalogue.members().change_number(),
            ..log::ChangeMember::default()
        };
        let peer = |node, active| consensus::PeerProgress {
            node: NodeId(node),
            matched: LogIndex(1),
            active,
            snapshot: None,
        };
        let peers = vec![peer(2, true), peer(3, false)];
        let status = GroupStatus { peers, ..status(&[1, 2], &[]) };
        let command = Command { body: Some(Body::ChangeMember(change)) };
        catalogue.vet(&command, &status).map_err(|failure| failure.code)
    };
    assert_eq!(vet(&catalogue, "n3", false), Ok(()), "nobody takes writes alone");
    let keyspace = v1::Keyspace {
        name: "likes".into(),
        kind: keyspace::Kind::Eventual.into(),
        ..v1::Keyspace::default()
    };
    let create = log::PutKeyspace { step: Step::Create.into(), keyspace: Some(keyspace) };
    apply(&mut catalogue, Body::PutKeyspace(create)).unwrap();
    assert_eq!(vet(&catalogue, "n3", false), Err(Code::MemberUnheard));
    assert_eq!(vet(&catalogue, "n3", true), Ok(()));
}

#[test]
fn a_removal_waits_for_a_live_member_until_that_is_given_up() {
    let mut catalogue = Catalogue::formed(&[1, 2, 3].map(|id| (NodeId(id), format!("n{id}"))));
    let drains =
        |catalogue: &Catalogue| catalogue.members().open_change().and_then(OpenChange::drains);
    assert_eq!(change(&mut catalogue, Kind::Remove, "n3"), Ok(1));
    assert_eq!(drains(&catalogue), Some(NodeId(3)));
    let late = Err(Code::ChangeInProgress.number());
    assert_eq!(change(&mut catalogue, Kind::Remove, "n2"), late);
    let give_up = |name: &str| log::ChangeMember {
        kind: Kind::Remove.into(),
        name: name.into(),
        lose_unseen: true,
        decided_after: 1,
        ..log::ChangeMember::default()
    };
    assert_eq!(apply(&mut catalogue, Body::ChangeMember(give_up("n2"))), late);
    assert_eq!(apply(&mut catalogue, Body::ChangeMember(give_up("n3"))), Ok(1));
    assert_eq!(drains(&catalogue), None);
    assert!(catalogue.members().open_change().is_some(), "the groups follow first");
}
