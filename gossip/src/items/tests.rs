//! The items of a replica give the replica.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proto::KeyspaceId;

use super::*;
use crate::Replica;
use crate::actor::ActorId;
use crate::clock::{Clock, Fold, FoldNumber};
use crate::context::Context;
use crate::dot::Dot;
use crate::entry::Entry;
use crate::hlc::{Hlc, Stamp};
use crate::record::{Body, EntryKey, Record};
use crate::replica::{Basis, Policy, Standing, Write};
use crate::state::State;
use crate::tree::TreeKey;

const KEYSPACE: KeyspaceId = KeyspaceId(7);

/// A store: the newest value of each item.
type Store = BTreeMap<Bytes, Bytes>;

fn store(store: &mut Store, items: Vec<Item>) {
    for Item { key, value } in items {
        match value {
            Some(value) => store.insert(key, value),
            None => store.remove(&key),
        };
    }
}

fn actor(number: u8) -> ActorId {
    ActorId::from_bytes([number; 16])
}

fn key(key: &'static str) -> EntryKey {
    EntryKey::new(KEYSPACE, key)
}

fn write(replica: &mut Replica, key: EntryKey, body: Body, basis: Basis) -> Dot {
    let write = Write { key, body, deadline: Some(Stamp(9)), basis };
    replica.write(&write, &mut Hlc::default(), 5).unwrap().record.dot
}

/// A replica with everything that there is an item for, and its store.
fn replica() -> (Replica, Store) {
    let mut kept = Store::new();
    let (mut replica, _) = Replica::start(State::default(), actor(1), TreeKey::new(&[1; 32]));
    replica.set_keyspace(KEYSPACE, Standing::Open(Policy::Siblings));
    let large = || Body::Value(vec![b'x'; INLINE_BYTES_MAX + 1].into());
    write(&mut replica, key("gone"), large(), Basis::Held);
    write(&mut replica, key("two"), large(), Basis::Nothing);
    write(&mut replica, key("two"), Body::Value("small".into()), Basis::Nothing);
    store(&mut kept, replica.take_items());
    let seen: Clock = [Dot::new(actor(8), 3), Dot::new(actor(9), 1)].into_iter().collect();
    let basis = Basis::Seen { context: Arc::new(seen), stamp: Stamp(4) };
    write(&mut replica, key("waits"), Body::Certificate, basis);
    write(&mut replica, key("gone"), Body::Certificate, Basis::Held);
    let bare = write(&mut replica, key("bare"), Body::Value("value".into()), Basis::Held);
    let _ = replica.forget_context(&key("bare"), bare);
    store(&mut kept, replica.take_items());
    let _ = replica.mint(actor(2));
    let last = replica.state().sealed()[&actor(1)];
    let _ = replica.fold(Fold { number: FoldNumber(3), actor: actor(1), last });
    write(&mut replica, key(""), Body::Value("".into()), Basis::Held);
    let _ = replica.mint(actor(3));
    store(&mut kept, replica.take_items());
    (replica, kept)
}

#[test]
fn the_items_of_a_replica_give_the_replica() {
    let (mut replica, kept) = replica();
    assert_eq!(replica.take_items(), [], "nothing changed");
    let kinds: Vec<u8> = kept.keys().map(|key| key[0]).collect();
    assert!(b"acefhstv".iter().all(|kind| kinds.contains(kind)), "{kept:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == b'v').count(), 1, "one large value is left");
    let restored = restore(kept.clone()).unwrap();
    assert_eq!(restored.state, *replica.state());
    assert_eq!(restored.items, kept.len());
    assert_eq!(restore(Store::new()).unwrap().state, State::default());
}

/// Values of many actors that came together: more than one item may hold.
#[test]
fn an_entry_of_any_length_is_stored_in_pieces() {
    const COUNT: u64 = 4_500;
    let (mut replica, mut kept) = replica();
    for number in 0..COUNT {
        let mut actor = [0xab; 16];
        actor[..8].copy_from_slice(&number.to_be_bytes());
        let dot = Dot::new(ActorId::from_bytes(actor), 1);
        let record = Record {
            key: key("long"),
            dot,
            stamp: Stamp(4),
            rank: dot,
            body: Body::Value(vec![b'x'; INLINE_BYTES_MAX].into()),
            deadline: None,
            context: Context::new(Arc::default()),
        };
        let _ = replica.apply(&record).unwrap();
    }
    store(&mut kept, replica.take_items());
    let long = |kept: &Store| kept.keys().filter(|key| key[0] == b'x').count();
    assert!(long(&kept) >= 4, "{}", long(&kept));
    assert!(kept.values().all(|value| value.len() <= ITEM_VALUE_BYTES_MAX));
    assert_eq!(restore(kept.clone()).unwrap().state, *replica.state());
    for gone in kept.keys().filter(|key| key[0] == b'x') {
        let mut kept = kept.clone();
        kept.remove(gone);
        assert_eq!(restore(kept).unwrap_err(), ItemsDamaged::PieceMissing(gone.clone()));
    }
    // A replica that was restored knows which pieces there are.
    let state = restore(kept.clone()).unwrap().state;
    let (mut replica, _) = Replica::start(state, actor(4), TreeKey::new(&[1; 32]));
    replica.set_keyspace(KEYSPACE, Standing::Open(Policy::Siblings));
    write(&mut replica, key("long"), Body::Value("all".into()), Basis::Held);
    let pieces = kept.clone();
    store(&mut kept, replica.take_items());
    assert_eq!(long(&kept), 0);
    assert_eq!(restore(kept.clone()).unwrap().state, *replica.state());
    let (left, piece) = pieces.iter().find(|(key, _)| key[0] == b'x').unwrap();
    kept.insert(left.clone(), piece.clone());
    assert_eq!(restore(kept).unwrap_err(), ItemsDamaged::PieceLeft(left.clone()));
}

#[test]
fn a_missing_item_is_an_error() {
    let (replica, kept) = replica();
    for gone in kept.keys() {
        let mut kept = kept.clone();
        kept.remove(gone);
        let restored = restore(kept);
        match gone[0] {
            b'e' if gone.ends_with(b"two") => {
                assert!(matches!(restored, Err(ItemsDamaged::ValueLeft(_))));
            }
            b'e' => assert_eq!(restored.unwrap_err(), ItemsDamaged::Sum, "{gone:?}"),
            b'n' => assert_eq!(restored.unwrap().state, *replica.state()),
            _ => assert!(restored.is_err(), "{gone:?}"),
        }
    }
}

/// A store that goes back to what an item was before: everything looks whole.
#[test]
fn an_older_item_is_an_error() {
    let (mut replica, mut kept) = replica();
    let before = kept.clone();
    let two = replica.entry(&key("two")).unwrap().siblings().keys().copied().collect::<Clock>();
    let basis = Basis::Seen { context: Arc::new(two), stamp: Stamp(7) };
    write(&mut replica, key("two"), Body::Value("newer".into()), basis);
    store(&mut kept, replica.take_items());
    assert_eq!(restore(kept.clone()).unwrap().state, *replica.state());
    let mut found = 0;
    for (at, value) in &kept {
        let Some(old) = before.get(at).filter(|old| *old != value) else { continue };
        let mut kept = kept.clone();
        kept.insert(at.clone(), old.clone());
        assert!(restore(kept).is_err(), "{at:?}");
        found += 1;
    }
    assert!(found >= 3, "an entry, the clock and the sums at least");
}

/// What is left after any one item is gone: all records but its own, and what had lost its context waits.
#[test]
fn what_can_be_read_of_a_damaged_store_is_taken_back() {
    let (replica, kept) = replica();
    let folds = replica.state().folds();
    let whole = Salvaged::of_items(kept.clone(), folds);
    let stored: usize = replica.state().entries().map(|(_, entry)| entry.siblings().len()).sum();
    assert_eq!(whole.records.len() + whole.bare.len(), stored);
    assert_eq!(whole.bare.len(), 1);
    let bare = whole.bare.values().next().unwrap();
    assert_eq!((bare.key.clone(), bare.context.contains(bare.dot)), (key("bare"), true));
    for gone in kept.keys() {
        let mut kept = kept.clone();
        kept.remove(gone);
        let left = Salvaged::of_items(kept, folds);
        let is_gone =
            |of: &EntryKey| matches!(gone[0], b'e' | b'v') && gone[9..].starts_with(&of.key);
        for (at, record) in &whole.records {
            let is_there = left.records.get(at) == Some(record);
            assert!(is_there || is_gone(&at.0), "{at:?} without {gone:?}");
        }
    }
    // It is the same from memory, but that more is known of what has lost its context.
    let of_memory = replica.salvage();
    assert_eq!(of_memory.records, whole.records);
    let known = &of_memory.bare.values().next().unwrap().context;
    assert!(known.covers(&bare.context) && !bare.context.covers(known));
}

#[test]
fn what_waits_is_an_item_until_it_is_settled() {
    let (replica, kept) = replica();
    let salvaged = Salvaged::of_items(kept, replica.state().folds());
    let begin = |salvaged: Salvaged| {
        let (mut replica, _) =
            Replica::restored(Restored::default(), actor(7), TreeKey::new(&[1; 32]));
        replica.set_keyspace(KEYSPACE, Standing::Open(Policy::Siblings));
        assert!(replica.take_back(salvaged).is_empty());
        replica
    };
    let mut replica = begin(salvaged.clone());
    let mut kept = Store::new();
    store(&mut kept, replica.take_items());
    let restored = restore(kept.clone()).unwrap();
    assert_eq!((restored.state, &restored.kept), (replica.state().clone(), replica.kept()));
    assert_eq!(*replica.kept(), salvaged.bare);
    // A second loss before it is settled takes nothing of it.
    assert_eq!(Salvaged::of_items(kept.clone(), replica.state().folds()).bare, salvaged.bare);
    let written = replica.settle_kept(10);
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].body, Body::Value("value".into()));
    assert!(replica.kept().is_empty());
    store(&mut kept, replica.take_items());
    assert!(!kept.keys().any(|key| key[0] == b'k'));
    assert!(restore(kept).unwrap().kept.is_empty());
    // Where somebody knew of it, it is let go.
    let ((of, dot), _) = salvaged.bare.iter().next().unwrap();
    let mut replica = begin(salvaged.clone());
    let newer = Record {
        key: of.clone(),
        dot: Dot::new(actor(9), 9),
        stamp: Stamp(99),
        rank: Dot::new(actor(9), 9),
        body: Body::Certificate,
        deadline: None,
        context: Context::new(Arc::new([*dot].into_iter().collect())),
    };
    replica.apply(&newer).unwrap();
    assert!(replica.settle_kept(10).is_empty() && replica.kept().is_empty());
    assert_eq!(replica.entry(of).unwrap().live().count(), 0);
}

#[test]
fn damaged_items_are_refused_or_say_something_whole() {
    let (_, kept) = replica();
    for (key, value) in &kept {
        for length in 0..value.len() {
            let mut kept = kept.clone();
            kept.insert(key.clone(), value.slice(..length));
            let _ = restore(kept);
        }
        if key[0] == b'v' {
            continue;
        }
        for at in 0..value.len() {
            for flip in [1, 0x40, 0x80, 0xff] {
                let mut damaged = value.to_vec();
                damaged[at] ^= flip;
                let mut kept = kept.clone();
                kept.insert(key.clone(), damaged.into());
                if let Ok(restored) = restore(kept) {
                    restored.state.verify().unwrap();
                }
            }
        }
    }
    for strange in ["", "x", "ab", "e", "v1234567", "f12345", "s"] {
        let mut kept = kept.clone();
        kept.insert(strange.into(), Bytes::new());
        let refused = restore(kept).unwrap_err();
        assert_eq!(refused, ItemsDamaged::UnknownKind(strange.into()));
    }
}

/// A cut of a replica that a whole new cluster begins with.
#[test]
fn replicas_that_begin_with_a_cut_own_none_of_its_actors_and_take_back_nothing_deleted() {
    let (mut first, mut kept) = replica();
    let late = {
        let value = Body::Value("late".into());
        let write = Write { key: key("late"), body: value, deadline: None, basis: Basis::Held };
        first.write(&write, &mut Hlc::default(), 5).unwrap().record
    };
    write(&mut first, key("late"), Body::Certificate, Basis::Held);
    store(&mut kept, first.take_items());
    let mut again = Replica::start(first.state().clone(), actor(4), TreeKey::new(&[1; 32])).0;
    store(&mut kept, again.take_items());
    let cut = kept.into_iter();
    let cut = cut.filter_map(|(key, value)| Some((key.clone(), handed_over(&key, value)?)));
    let cut: Store = cut.collect();
    let mut begun: Vec<Replica> = Vec::new();
    for number in [11, 12] {
        let state = restore(cut.clone()).unwrap().state;
        assert_eq!((state.actor(), state.sealed().len()), (None, 0));
        let tree = TreeKey::new(&[number; 32]);
        let (mut replica, _) = Replica::start(state, actor(number), tree);
        replica.set_keyspace(KEYSPACE, Standing::Open(Policy::Siblings));
        assert!(replica.state().sealed().is_empty(), "nobody folds what others may have issued");
        assert_eq!(replica.state().clock(), again.state().clock());
        assert_eq!(replica.state().horizon(), again.state().horizon());
        let entries: Vec<_> = replica.state().entries().collect();
        assert_eq!(entries, again.state().entries().collect::<Vec<_>>());
        // A copy that was under way in the old cluster.
        let _ = replica.apply(&late).unwrap();
        let stored = replica.entry(&key("late")).into_iter().flat_map(Entry::live);
        assert_eq!(stored.count(), 0, "a delete stays");
        begun.push(replica);
    }
    let dots = begun
        .iter_mut()
        .map(|replica| write(replica, key("new"), Body::Value("n".into()), Basis::Held));
    let dots: Vec<Dot> = dots.collect();
    assert_ne!(dots[0].actor, dots[1].actor);
    assert!(dots.iter().all(|dot| !again.state().clock().contains(*dot)));
}

#[test]
fn of_a_replica_that_has_seen_nothing_an_item_is_handed_over() {
    let (mut replica, _) = Replica::start(State::default(), actor(1), TreeKey::new(&[1; 32]));
    let mut kept = Store::new();
    store(&mut kept, replica.take_items());
    let cut = kept.into_iter();
    let cut = cut.filter_map(|(key, value)| Some((key.clone(), handed_over(&key, value)?)));
    let restored = restore(cut).unwrap();
    assert_eq!(restored.state, State::default());
    assert!(restored.items > 0);
}
