//! Members that leave while there are eventual keyspaces.

use log::change_member::Kind;
use log::command::Body;
use log::put_keyspace::Step;
use proto::v1;
use proto::v1::keyspace;

use super::*;

const OTHER: NodeId = NodeId(2);

fn change(alone: &mut Alone, kind: Kind, lose_unseen: bool) {
    let decided_after = alone.node.meta.machine().members().change_number();
    let change = log::ChangeMember {
        kind: kind.into(),
        name: "n2".into(),
        peer_address: "127.0.0.1:7621".into(),
        stay_learner: true,
        lose_unseen,
        decided_after,
    };
    alone.node.submit_meta(Body::ChangeMember(change));
}

/// Whether a group has the other member.
fn holds_other(conf: &log::ConfState) -> bool {
    [&conf.voters, &conf.learners].into_iter().flatten().any(|id| *id == OTHER.get())
}

/// A node of one that has a learner which never says anything.
fn with_a_learner() -> Alone {
    let mut alone = Alone::new(opened(&SimDisk::new()));
    alone.node.step(Input::Time { monotonic_us: 1_000, wall_us: 1_000_000_000 });
    alone.pass(200);
    assert!(alone.node.eventual.serves());
    change(&mut alone, Kind::Add, false);
    alone.pass(20);
    let bind = log::BindMember { name: "n2".into(), id: OTHER.get() };
    alone.node.submit_meta(Body::BindMember(bind));
    alone.pass(50);
    assert!(holds_other(&alone.node.meta.conf_state()));
    assert!(alone.node.meta.machine().members().open_change().is_none());
    alone
}

fn create_eventual(alone: &mut Alone) {
    let keyspace = v1::Keyspace {
        name: "carts".into(),
        kind: keyspace::Kind::Eventual.into(),
        ..v1::Keyspace::default()
    };
    let create = log::PutKeyspace { step: Step::Create.into(), keyspace: Some(keyspace) };
    alone.node.submit_meta(Body::PutKeyspace(create));
}

#[test]
fn who_has_not_handed_on_what_it_took_stays_in_group_0_until_that_is_given_up() {
    let mut alone = with_a_learner();
    // Together, as a removal of who is not heard is refused where there are eventual keyspaces.
    change(&mut alone, Kind::Remove, false);
    create_eventual(&mut alone);
    alone.pass(200);
    let members = alone.node.meta.machine().members();
    assert_eq!(members.open_change().and_then(|open| open.drains()), Some(OTHER));
    assert!(!holds_other(&alone.node.data.conf_state()), "the data group needs nothing of it");
    assert!(holds_other(&alone.node.meta.conf_state()), "it would not hear that it leaves");
    // Nobody waits for it any more.
    change(&mut alone, Kind::Remove, true);
    alone.pass(50);
    assert!(!holds_other(&alone.node.meta.conf_state()));
    assert!(alone.node.meta.machine().members().open_change().is_none());
}

#[test]
fn without_eventual_keyspaces_nothing_is_handed_on() {
    let mut alone = with_a_learner();
    change(&mut alone, Kind::Remove, false);
    alone.pass(50);
    assert!(!holds_other(&alone.node.meta.conf_state()));
    assert!(alone.node.meta.machine().members().open_change().is_none());
}

#[test]
fn who_is_not_heard_is_not_removed_where_it_may_have_what_nobody_else_has() {
    let mut alone = with_a_learner();
    create_eventual(&mut alone);
    alone.pass(20);
    change(&mut alone, Kind::Remove, false);
    alone.pass(50);
    assert!(alone.node.meta.machine().members().open_change().is_none(), "it was refused");
    assert!(holds_other(&alone.node.meta.conf_state()));
    change(&mut alone, Kind::Remove, true);
    alone.pass(50);
    assert!(!holds_other(&alone.node.meta.conf_state()));
}
