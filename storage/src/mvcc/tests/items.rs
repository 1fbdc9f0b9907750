//! Items of a node's own log.

use bytes::Bytes;
use proto::limits::{ITEM_KEY_BYTES_MAX, ITEM_VALUE_BYTES_MAX};
use proto::{Code, KeyspaceId, LogIndex, Revision};

use super::super::{RangeQuery, ReadError, key};
use super::build::{bytes, items};
use super::{Bench, export, import};
use crate::state::StateStore;

const ID: KeyspaceId = KeyspaceId::DEFAULT;

fn put(key: &str, value: &str) -> (Bytes, Option<Bytes>) {
    (bytes(key), Some(bytes(value)))
}

fn remove(key: &str) -> (Bytes, Option<Bytes>) {
    (bytes(key), None)
}

/// Number of items in the store that belong to versions.
fn stored(bench: &Bench) -> usize {
    let (from, to) = key::keyspace_bounds(ID, ID.next());
    bench.store.scan(&from, &to).count()
}

fn all(bench: &Bench) -> Vec<(Bytes, Bytes)> {
    let page = bench.machine.range(ID, &RangeQuery::default()).unwrap();
    assert!(!page.more);
    page.items.into_iter().map(|item| (item.key, item.value)).collect()
}

#[test]
fn what_is_replaced_or_removed_leaves_with_the_next_checkpoint() {
    let mut bench = Bench::new();
    for round in 0..5 {
        let value = round.to_string();
        let outcome = bench.apply(items([put("a", &value), put("b", &value), put("c", "0")]));
        assert_eq!((outcome.succeeded, outcome.revision), (true, round + 2));
        assert_eq!(bench.machine.superseded_versions(), 0, "no history");
        assert_eq!(bench.machine.compacted(ID), Revision(round + 2));
        if round == 2 {
            bench.checkpoint();
            assert_eq!(stored(&bench), 3);
        }
    }
    bench.apply(items([remove("b"), remove("never"), put("c", "1"), put("c", "2"), remove("a")]));
    bench.apply(items([put("a", "back")]));
    assert_eq!(all(&bench), [(bytes("a"), bytes("back")), (bytes("c"), bytes("2"))]);
    let older = bench.machine.get(ID, b"b", Some(Revision(6)));
    assert!(matches!(older, Err(ReadError::Compacted { .. })), "{older:?}");
    bench.checkpoint();
    assert_eq!(stored(&bench), 2);
    let digest = bench.machine.digest().unwrap();
    bench.reopen();
    assert_eq!(bench.machine.digest().unwrap(), digest);
    assert_eq!(all(&bench).len(), 2);
    bench.apply(items([remove("a"), remove("c")]));
    bench.checkpoint();
    assert_eq!((stored(&bench), all(&bench)), (0, Vec::new()));
}

#[test]
fn entries_without_effect_make_no_revision() {
    let mut bench = Bench::new();
    bench.apply(items([put("a", "1")]));
    assert_eq!(bench.apply(items([])).revision, 2);
    assert_eq!(bench.apply(items([remove("b")])).revision, 2);
    assert_eq!(bench.apply(items([put("b", "1"), remove("b")])).revision, 2);
    assert_eq!(all(&bench), [(bytes("a"), bytes("1"))]);
}

#[test]
fn the_largest_items_are_kept_exported_and_imported() {
    let mut bench = Bench::new();
    let key = Bytes::from(vec![0xff; ITEM_KEY_BYTES_MAX]);
    let value: Bytes = (0..ITEM_VALUE_BYTES_MAX).map(|n| (n / 7) as u8).collect();
    for bad in [
        (Bytes::new(), None, Code::KeyEmpty),
        (vec![1; ITEM_KEY_BYTES_MAX + 1].into(), None, Code::KeyTooLarge),
        (bytes("a"), Some(vec![1; ITEM_VALUE_BYTES_MAX + 1].into()), Code::ValueTooLarge),
    ] {
        let refused = bench.apply(items([put("b", "1"), (bad.0, bad.1)]));
        assert_eq!(refused.refused, bad.2.number());
    }
    bench.apply(items([(key.clone(), Some(value.clone())), put("a", "1")]));
    bench.checkpoint();
    bench.reopen();
    let expected = [(bytes("a"), bytes("1")), (key, value)];
    let first = bench.machine.range(ID, &RangeQuery::default()).unwrap();
    assert!(first.more && first.items.len() == 1, "the second one takes a page of its own");
    let records = export(&mut bench.machine, &bench.store);
    let store = import(LogIndex(4), &records).unwrap();
    let mut copy = Bench::new();
    copy.store = store;
    copy.reopen();
    let query = RangeQuery { from: bytes("b"), ..RangeQuery::default() };
    let page = copy.machine.range(ID, &query).unwrap();
    assert_eq!((&page.items[0].key, &page.items[0].value), (&expected[1].0, &expected[1].1));
}
