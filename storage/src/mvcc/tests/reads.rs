//! Reads of keys and ranges, at old revisions, of large values, from every layer.

use proto::limits::{KEY_BYTES_MAX, PAGE_BYTES_MAX, PAGE_ITEMS_MAX, VALUE_BYTES_MAX};
use proto::{KeyspaceId, Revision, v1};

use super::super::{CheckpointProgress, RangePage, RangeQuery, ReadError};
use super::Bench;
use super::build::{bytes, delete, put, write};

fn range(bench: &Bench, query: RangeQuery) -> RangePage {
    bench.machine.range(KeyspaceId::DEFAULT, &query).unwrap()
}

fn from_to(from: &str, to: &str) -> RangeQuery {
    RangeQuery { from: bytes(from), to: bytes(to), ..Default::default() }
}

fn keys(page: &RangePage) -> Vec<String> {
    page.items.iter().map(|item| item.key.escape_ascii().to_string()).collect()
}

#[test]
fn revisions_outside_of_the_history_are_refused() {
    let mut bench = Bench::new();
    bench.write(write([put("a", "1")]));
    let read = |keyspace, at: u64| bench.machine.get(keyspace, b"a", Some(Revision(at)));
    assert!(matches!(
        read(KeyspaceId::DEFAULT, 3),
        Err(ReadError::Future { asked: Revision(3), newest: Revision(2) })
    ));
    assert!(matches!(
        read(KeyspaceId::DEFAULT, 0),
        Err(ReadError::Compacted { asked: Revision(0), oldest: Revision(1) })
    ));
    assert!(matches!(read(KeyspaceId(5), 1), Err(ReadError::UnknownKeyspace)));
    assert_eq!(read(KeyspaceId::DEFAULT, 1).unwrap(), None);
    assert!(read(KeyspaceId::DEFAULT, 2).unwrap().is_some());
    let query = RangeQuery { at: Some(Revision(3)), ..Default::default() };
    let page = bench.machine.range(KeyspaceId::DEFAULT, &query);
    assert!(matches!(page, Err(ReadError::Future { .. })));
    assert_eq!(bench.machine.compacted(KeyspaceId::DEFAULT), Revision(1));
}

/// The same history, read in every phase of its way into the store.
#[test]
fn old_revisions_read_the_same_from_every_layer() {
    let mut bench = Bench::new();
    for n in 2..=60_u64 {
        let value = n.to_string();
        bench.write(match n % 5 {
            4 => write([delete("k"), put("other", value)]),
            _ => write([put("k", value)]),
        });
    }
    let history = |bench: &Bench| -> Vec<(Option<v1::Item>, RangePage)> {
        let page = |at| range(bench, RangeQuery { at: Some(Revision(at)), ..Default::default() });
        (1..=60).map(|at| (bench.get_at("k", at), page(at))).collect()
    };
    let expected = history(&bench);
    for (at, (item, page)) in (1_u64..).zip(&expected) {
        let newest = (2..=at).rev().find(|n| n % 5 != 4 || n + 1 > at);
        let value = newest.filter(|n| n % 5 != 4).map(|n| bytes(n.to_string()));
        assert_eq!(item.as_ref().map(|item| item.value.clone()), value, "at {at}");
        assert_eq!(page.items.iter().find(|i| i.key == "k"), item.as_ref(), "at {at}");
    }
    let mut job = bench.machine.begin_checkpoint().unwrap();
    assert_eq!(history(&bench), expected, "from the frozen layer");
    while job.step(&bench.store).unwrap() == CheckpointProgress::Continue {
        assert_eq!(history(&bench), expected, "while records arrive in the store");
    }
    bench.machine.finish_checkpoint(job.index());
    assert_eq!(history(&bench), expected, "from the settled layer");
    bench.reopen();
    assert_eq!(history(&bench), expected, "from the store");
    bench.write(write([put("k", "61")]));
    bench.checkpoint();
    bench.write(write([put("k", "62")]));
    assert_eq!(history(&bench), expected, "below newer layers");
    assert_eq!(bench.value("k").as_deref(), Some("62"));
    bench.machine.verify().unwrap();
}

#[test]
fn ranges_merge_all_layers() {
    let mut bench = Bench::new();
    for key in ["a", "c", "e", "g"] {
        bench.write(write([put(key, "stored")]));
    }
    bench.checkpoint();
    bench.write(write([put("b", "frozen"), put("c", "frozen"), delete("e")]));
    let _job = bench.machine.begin_checkpoint().unwrap();
    bench.write(write([put("c", "active"), put("d", "active"), delete("b"), put("e", "active")]));
    bench.write(write([delete("g")]));
    let page = range(&bench, RangeQuery::default());
    let seen: Vec<(String, String)> = page
        .items
        .iter()
        .map(|i| (i.key.escape_ascii().to_string(), i.value.escape_ascii().to_string()))
        .collect();
    let expected = [("a", "stored"), ("c", "active"), ("d", "active"), ("e", "active")];
    assert_eq!(seen, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    assert_eq!((page.revision, page.more), (Revision(8), false));
    let before = range(&bench, RangeQuery { at: Some(Revision(5)), ..Default::default() });
    assert_eq!(keys(&before), ["a", "c", "e", "g"]);
    let between = range(&bench, RangeQuery { at: Some(Revision(6)), ..Default::default() });
    assert_eq!(keys(&between), ["a", "b", "c", "g"]);
}

#[test]
fn bounds_and_limits_of_a_range() {
    let mut bench = Bench::new();
    bench.write(write(["a", "aa", "b", "c"].map(|key| put(key, "v"))));
    for checkpoint in [false, true] {
        if checkpoint {
            bench.checkpoint();
        }
        let cases = [
            ("", "", vec!["a", "aa", "b", "c"]),
            ("a", "b", vec!["a", "aa"]),
            ("a\0", "", vec!["aa", "b", "c"]),
            ("b", "b", vec![]),
            ("c", "a", vec![]),
            ("d", "", vec![]),
        ];
        for (from, to, expected) in cases {
            let page = range(&bench, from_to(from, to));
            assert_eq!(keys(&page), expected, "[{from:?}, {to:?})");
            let count = range(&bench, RangeQuery { count_only: true, ..from_to(from, to) });
            assert_eq!((count.count, count.items.len()), (expected.len() as u64, 0));
        }
        let limited = |limit| range(&bench, RangeQuery { limit, ..Default::default() });
        assert_eq!((keys(&limited(2)), limited(2).more), (vec!["a".into(), "aa".into()], true));
        assert_eq!((limited(4).items.len(), limited(4).more), (4, false));
        assert_eq!((limited(9).items.len(), limited(9).more), (4, false));
        let bare = range(&bench, RangeQuery { keys_only: true, ..Default::default() });
        assert!(bare.items.iter().all(|item| item.value.is_empty() && item.value_size == 1));
    }
}

#[test]
fn pages_are_bounded_in_items_and_bytes() {
    let mut bench = Bench::new();
    for chunk in (0..=PAGE_ITEMS_MAX).collect::<Vec<_>>().chunks(100) {
        bench.write(write(chunk.iter().map(|n| put(format!("k{n:05}"), "v"))));
    }
    for limit in [0, usize::MAX] {
        let page = range(&bench, RangeQuery { limit, ..Default::default() });
        assert_eq!((page.items.len(), page.more), (PAGE_ITEMS_MAX, true));
    }
    for n in 0..3 {
        bench.write(write([put(format!("a{n}"), vec![n; PAGE_BYTES_MAX / 2 - 2])]));
    }
    bench.write(write([put("b", vec![9; VALUE_BYTES_MAX])]));
    let page = range(&bench, from_to("a", "k"));
    assert_eq!((keys(&page), page.more), (vec!["a0".into(), "a1".into()], true));
    let large = range(&bench, from_to("b", "k"));
    assert_eq!((keys(&large), large.more), (vec!["b".into()], false), "the first always fits");
    let bare = range(&bench, RangeQuery { keys_only: true, ..from_to("a", "k") });
    assert_eq!((bare.items.len(), bare.more), (4, false));
}

#[test]
fn long_histories_are_skipped() {
    let mut bench = Bench::new();
    for n in 0..300 {
        let large = vec![n as u8; 30_000];
        bench.write(write([put("a", &large), put("b", n.to_string()), put("c", "v")]));
    }
    bench.write(write([delete("a")]));
    bench.checkpoint();
    assert_eq!(keys(&range(&bench, RangeQuery::default())), ["b", "c"]);
    for revision in [2_u64, 3, 20, 150, 299, 301] {
        let at = Some(Revision(revision));
        let page = range(&bench, RangeQuery { at, ..Default::default() });
        assert_eq!(keys(&page), ["a", "b", "c"], "at {revision}");
        assert_eq!(page.items[0].value, vec![(revision - 2) as u8; 30_000]);
        assert_eq!(page.items[1].value, (revision - 2).to_string());
        assert_eq!(page.items[0].mod_rev, revision);
    }
    bench.machine.verify().unwrap();
}

#[test]
fn the_largest_keys_and_values_go_through_every_layer() {
    let long = |byte: u8| vec![byte; KEY_BYTES_MAX];
    let large = |seed: u64| -> Vec<u8> {
        (0..VALUE_BYTES_MAX as u64).map(|n| ((n * seed) >> 7) as u8).collect()
    };
    let mut bench = Bench::new();
    bench.write(write([put(long(0x00), large(9))]));
    bench.write(write([put(long(0x00), large(3))]));
    bench.write(write([put(long(0xff), large(5))]));
    bench.write(write([put([0xff], "short"), put([0x00], "short")]));
    let check = |bench: &Bench| {
        for (key, value) in [(long(0x00), large(3)), (long(0xff), large(5))] {
            let item = bench.machine.get(KeyspaceId::DEFAULT, &key, None).unwrap().unwrap();
            assert!(item.value == value && item.key == key);
            assert_eq!(item.value_size, VALUE_BYTES_MAX as u64);
        }
        let all = range(bench, RangeQuery { keys_only: true, ..Default::default() });
        let expected = [vec![0x00], long(0x00), vec![0xff], long(0xff)];
        let found: Vec<Vec<u8>> = all.items.iter().map(|item| item.key.to_vec()).collect();
        assert_eq!(found, expected);
    };
    check(&bench);
    bench.checkpoint();
    assert_eq!(bench.machine.layer_bytes(), 0);
    check(&bench);
    bench.reopen();
    check(&bench);
    bench.machine.verify().unwrap();
}
