//! Messages there and back, changed, cut and arbitrary; and how long they are.

use std::sync::Arc;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use proto::KeyspaceId;

use super::super::Taking;
use super::*;
use crate::change::{Change, decode as decode_changes, encode as encode_changes};
use crate::clock::Fold;
use crate::context::Context;
use crate::entry::Sibling;
use crate::hlc::Hlc;
use crate::record::Body;
use crate::record::EntryKey;
use crate::replica::{Basis, Policy, Replica, Standing, Write};
use crate::state::State;
use crate::tree::TreeKey;

fn actor(number: u8) -> ActorId {
    ActorId::from_bytes([number; 16])
}

fn dot() -> impl Strategy<Value = Dot> {
    let counter = prop_oneof![8 => 1..24_u64, 1 => Dot::COUNTER_MAX - 3..=Dot::COUNTER_MAX];
    (0..4_u8, counter).prop_map(|(number, counter)| Dot::new(actor(number), counter))
}

fn folds() -> Folds {
    let mut folds = Folds::default();
    for number in 1..=3_u8 {
        let fold = Fold {
            number: FoldNumber(number.into()),
            actor: actor(100 + number),
            last: number.into(),
        };
        folds.learn(fold);
    }
    folds
}

/// A clock that may have folds.
fn clock() -> impl Strategy<Value = Clock> {
    (btree_set(dot(), 0..12), btree_set(1..=3_u32, 0..3)).prop_map(|(dots, folded)| {
        let mut clock: Clock = dots.into_iter().collect();
        for number in folded {
            let fold = *folds().get(FoldNumber(number)).unwrap();
            clock.add_up_to(fold.actor, fold.last);
            assert!(clock.fold(fold));
        }
        clock
    })
}

/// Some of it usual, some not.
fn horizon() -> impl Strategy<Value = Horizon> {
    let folded = (101..=103_u8, 1..5_u64).prop_map(|(a, c)| Dot::new(actor(a), c));
    vec(prop_oneof![dot(), folded], 0..6).prop_map(|dots| {
        let mut horizon = Horizon::default();
        for dot in dots {
            horizon.raise(dot);
        }
        horizon
    })
}

fn hello() -> impl Strategy<Value = Hello> {
    let beat = (any::<u64>(), vec(dot(), 0..4), any::<u64>())
        .prop_map(|(node, last, age_ms)| Beat { node: NodeId(node), last, age_ms });
    let numbers = (any::<u64>(), any::<u64>(), (any::<u32>(), any::<u64>()), any::<u128>());
    (numbers, 0..9_u8, clock(), horizon(), vec(beat, 0..4)).prop_map(
        |((session, epoch, (folds, retiring), root), speaker, clock, horizon, beats)| Hello {
            session,
            epoch,
            actor: actor(speaker),
            clock,
            horizon,
            folds: FoldNumber(folds),
            retiring,
            leaves: retiring % 2 == 1,
            root,
            beats,
        },
    )
}

fn sibling(own: Dot) -> impl Strategy<Value = Sibling> {
    let body = prop::option::of(vec(any::<u8>(), 0..9));
    (any::<u64>(), prop::option::of(dot()), body, prop::option::of(any::<u64>())).prop_map(
        move |(stamp, rank, body, deadline)| Sibling {
            stamp: Stamp(stamp),
            rank: rank.unwrap_or(own),
            body: body.map_or(Body::Certificate, |value| Body::Value(value.into())),
            deadline: deadline.map(Stamp),
            context: None,
        },
    )
}

fn key() -> impl Strategy<Value = EntryKey> {
    let id = prop_oneof![8 => 1..4_u64, 1 => any::<u64>()];
    (id, vec(0..2_u8, 0..2)).prop_map(|(id, key)| EntryKey::new(KeyspaceId(id), key))
}

fn body() -> impl Strategy<Value = PartBody> {
    let bare = dot().prop_flat_map(|dot| sibling(dot).prop_map(move |sibling| (dot, sibling)));
    let entry = (key(), any::<bool>(), btree_set(dot(), 0..5), clock(), vec(bare, 0..3)).prop_map(
        |(key, is_whole, present, effective, bare)| {
            PartBody::Entry(Staged { key, is_whole, present, effective, bare })
        },
    );
    let record = (key(), dot(), clock());
    let record = record.prop_flat_map(|(key, dot, context)| {
        sibling(dot).prop_map(move |sibling| {
            let context = Context::new(Arc::new(context.minus(&[dot].into_iter().collect())));
            let context = Some(context);
            Sibling { context, ..sibling }.record(&key, dot).unwrap()
        })
    });
    let end = (clock(), horizon(), any::<u64>()).prop_map(|(clock, horizon, highest)| {
        PartBody::End { clock, horizon, highest: Stamp(highest) }
    });
    prop_oneof![
        any::<bool>().prop_map(|is_flagged| PartBody::Opening { is_flagged }),
        vec(record, 0..5).prop_map(PartBody::Records),
        entry,
        end,
        Just(PartBody::Void),
        Just(PartBody::Damaged),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    (any::<u64>(), any::<u64>(), body()).prop_map(|(session, number, body)| Part {
        session,
        number,
        body,
    })
}

/// Bytes as they are, or changed somewhere, or cut.
fn spoil(bytes: &mut Vec<u8>, changes: Vec<(prop::sample::Index, u8)>, cut: Option<usize>) {
    for (at, value) in changes {
        let at = at.index(bytes.len());
        bytes[at] = value;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut);
    }
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    let value = prop_oneof![any::<u8>(), 0..4_u8];
    vec((any::<prop::sample::Index>(), value), 0..4)
}

proptest! {
    #[test]
    fn the_bytes_of_a_hello_give_the_hello(hello in hello()) {
        let bytes = hello.encode(FoldNumber::ALL);
        prop_assert_eq!(Hello::decode(&bytes, &folds()), Ok(hello));
    }

    /// Who lags behind the catalogue reads the same, with full names.
    #[test]
    fn a_reader_who_knows_no_fold_hears_the_same(hello in hello(), part in part()) {
        let read = Hello::decode(&hello.encode(FoldNumber::NONE), &Folds::default()).unwrap();
        prop_assert!(read.clock.same_dots(&hello.clock) && read.clock.folds().count() == 0);
        prop_assert_eq!(&read.horizon, &hello.horizon);
        prop_assert_eq!(&read.beats, &hello.beats);
        let read = Part::decode(&part.encode(FoldNumber::NONE), &Folds::default()).unwrap();
        match (read.body, part.body) {
            (PartBody::Records(read), PartBody::Records(said)) => prop_assert_eq!(read, said),
            (PartBody::Entry(read), PartBody::Entry(said)) => {
                prop_assert!(read.effective.same_dots(&said.effective));
                prop_assert_eq!(read.bare, said.bare);
            }
            (PartBody::End { horizon, .. }, PartBody::End { horizon: said, .. }) => {
                prop_assert_eq!(horizon, said);
            }
            (read, said) => prop_assert_eq!(read, said),
        }
    }

    #[test]
    fn the_bytes_of_a_part_give_the_part(part in part()) {
        let bytes = part.encode(FoldNumber::ALL);
        prop_assert_eq!(Part::decode(&bytes, &folds()), Ok(part));
    }

    #[test]
    fn changed_bytes_are_refused_or_canonical(
        hello in hello(),
        part in part(),
        changed in changes(),
        cut in prop::option::of(0..200_usize),
    ) {
        let mut bytes = hello.encode(FoldNumber::ALL);
        spoil(&mut bytes, changed.clone(), cut);
        if let Ok(read) = Hello::decode(&bytes, &folds()) {
            prop_assert_eq!(read.encode(FoldNumber::ALL), bytes);
        }
        let mut bytes = part.encode(FoldNumber::ALL);
        spoil(&mut bytes, changed, cut);
        if let Ok(read) = Part::decode(&bytes, &folds()) {
            prop_assert_eq!(read.encode(FoldNumber::ALL), bytes);
        }
    }

    /// What can be read may still say anything. Nothing of it makes a replica panic, and own writes are made after it.
    #[test]
    fn any_parts_are_used_or_refused(bodies in vec(body(), 1..12), flagged: bool) {
        let (mut replica, _) =
            Replica::start(State::default(), actor(2), TreeKey::new(&[1; 32]));
        for (id, policy) in [(1, Policy::Siblings), (2, Policy::Lww)] {
            replica.set_keyspace(KeyspaceId(id), Standing::Open(policy));
        }
        replica.set_keyspace(KeyspaceId(3), Standing::Removed);
        for fold in folds().iter() {
            replica.fold(*fold);
        }
        let own = |id| Write {
            key: EntryKey::new(KeyspaceId(id), vec![0]),
            body: Body::Certificate,
            deadline: None,
            basis: Basis::Held,
        };
        let mut state = replica.state().clone();
        let mut log = |changes: Vec<Change>, replica: &Replica| {
            for change in decode_changes(&encode_changes(&changes), state.folds()).unwrap() {
                state.replay(&change);
            }
            assert_eq!(&state, replica.state());
        };
        let written = replica.write(&own(1), &mut Hlc::default(), 5).unwrap();
        log(written.changes, &replica);
        let mut taking = Taking::begin(&replica, 7);
        let opening = PartBody::Opening { is_flagged: flagged };
        for (number, body) in std::iter::once(opening).chain(bodies).enumerate() {
            taking.walked();
            let part = Part { session: 7, number: number as u64, body };
            let taken = taking.take(&mut replica, part);
            log(taken.changes, &replica);
        }
        for id in [1, 2] {
            if let Ok(written) = replica.write(&own(id), &mut Hlc::default(), 5) {
                log(written.changes, &replica);
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(mut bytes in vec(0..9_u8, 0..80)) {
        bytes.insert(0, 1);
        if let Ok(read) = Hello::decode(&bytes, &folds()) {
            prop_assert_eq!(&read.encode(FoldNumber::ALL), &bytes);
        }
        if let Ok(read) = Part::decode(&bytes, &folds()) {
            prop_assert_eq!(&read.encode(FoldNumber::ALL), &bytes);
        }
    }
}

#[test]
fn what_is_too_long_or_of_another_format_is_refused() {
    let long = vec![FORMAT; MESSAGE_BYTES_MAX + 1];
    let refused = DecodeError::OutOfRange("length of a message");
    assert_eq!(Hello::decode(&long, &folds()), Err(refused));
    assert_eq!(Part::decode(&long, &folds()), Err(refused));
    assert_eq!(Hello::decode(&[2], &folds()), Err(DecodeError::UnknownFormat(2)));
    assert_eq!(
        Part::decode(&[FORMAT, 0, 0, 9], &folds()),
        Err(DecodeError::OutOfRange("kind of a part"))
    );
    // A count that promises more than there is takes no memory.
    let mut bytes = vec![FORMAT, 0, 0, ENTRY];
    put_number(&mut bytes, u64::MAX);
    assert_eq!(Part::decode(&bytes, &folds()), Err(DecodeError::Truncated));
    let mut clock = Clock::default();
    clock.add_up_to(actor(101), 1);
    assert!(clock.fold(*folds().get(FoldNumber(1)).unwrap()));
    let end = PartBody::End { clock, horizon: Horizon::default(), highest: Stamp::ZERO };
    let bytes = Part { session: 1, number: 1, body: end }.encode(FoldNumber::ALL);
    let unknown = DecodeError::UnknownFold(FoldNumber(1));
    assert_eq!(Part::decode(&bytes, &Folds::default()), Err(unknown));
}

/// What an idle pair says: actors with millions of writes, a lag of some thousands, three members, a year of folds.
fn idle(actors: u8, folded: u32) -> Hello {
    let mut clock = Clock::default();
    let mut horizon = Horizon::default();
    for number in 1..=folded {
        let mut id = [200; ActorId::BYTES];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let fold = Fold { number: FoldNumber(number), actor: ActorId::from_bytes(id), last: 9 };
        clock.add_up_to(fold.actor, fold.last);
        assert!(clock.fold(fold));
        horizon.raise(Dot::new(fold.actor, fold.last));
    }
    let last = |number: u8| 5_000_000 + u64::from(number);
    for number in 0..actors {
        clock.add_up_to(actor(number), last(number));
        horizon.raise(Dot::new(actor(number), last(number) - 8_000));
    }
    let beat = |node: u8| Beat {
        node: NodeId(u64::MAX - u64::from(node)),
        last: (0..actors).filter(|a| a % 3 == node).map(|a| Dot::new(actor(a), last(a))).collect(),
        age_ms: 900,
    };
    Hello {
        session: 100_000,
        epoch: 3,
        actor: actor(0),
        clock,
        horizon,
        folds: FoldNumber(folded),
        retiring: 1_100,
        leaves: false,
        root: u128::MAX,
        beats: (0..3).map(beat).collect(),
    }
}

#[test]
fn an_idle_exchange_takes_200_bytes_each_way_with_five_actors() {
    let bytes = idle(5, 0).encode(FoldNumber::ALL).len();
    let more = (idle(25, 0).encode(FoldNumber::ALL).len() - bytes).div_ceil(20);
    let folded = idle(5, 1_100).encode(FoldNumber::ALL).len() - bytes;
    println!("{bytes} bytes with 5 actors, {more} for each further one, {folded} for 1,100 folds");
    assert!(bytes <= 200, "{bytes} bytes");
    assert!(more <= 26, "{more} bytes for an actor");
    assert!(folded <= 12, "{folded} bytes for folds");
    let decoded = idle(5, 0);
    assert_eq!(Hello::decode(&decoded.encode(FoldNumber::ALL), &Folds::default()), Ok(decoded));
}
