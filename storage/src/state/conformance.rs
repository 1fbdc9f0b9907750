//! The suite that every [`StateStore`] passes.
//!
//! An engine's test calls [`run`] with a function that makes an empty store and a way to open the
//! same store again. Checks panic, as tests do.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{BATCH_ITEMS_MAX, BatchItem, ITEM_BYTES_MAX, StateStore, StoredItem};

/// Opens the store of a test once more; the earlier handle is gone by then.
pub type Reopen = Box<dyn Fn() -> Box<dyn StateStore>>;

/// Runs every check, each on a store of its own.
///
/// # Panics
/// When a check fails.
pub fn run(make: impl Fn() -> (Box<dyn StateStore>, Reopen)) {
    let checks: [fn(Box<dyn StateStore>, Reopen); 9] = [
        get_sees_the_last_write,
        batches_may_be_empty_or_full,
        first_in_finds_the_smallest,
        scans_are_ordered_and_bounded,
        large_scans_are_complete,
        a_scan_survives_writes_beside_it,
        runs_of_ff_bytes_are_found,
        large_items_survive,
        flushed_content_is_there_when_opened_again,
    ];
    for check in checks {
        let (store, reopen) = make();
        check(store, reopen);
    }
}

fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> BatchItem {
    (bytes(key), Some(bytes(value)))
}

fn delete(key: impl AsRef<[u8]>) -> BatchItem {
    (bytes(key), None)
}

fn write(store: &dyn StateStore, batch: &[BatchItem]) {
    store.write(batch).expect("the store takes a batch");
}

fn read(store: &dyn StateStore, key: impl AsRef<[u8]>) -> Option<Bytes> {
    store.get(key.as_ref()).expect("the store can be read")
}

fn scan(store: &dyn StateStore, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Vec<StoredItem> {
    let items = store.scan(from.as_ref(), to.as_ref());
    items.collect::<Result<_, _>>().expect("the store can be scanned")
}

fn keys(store: &dyn StateStore, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Vec<Bytes> {
    scan(store, from, to).into_iter().map(|(key, _)| key).collect()
}

fn first(store: &dyn StateStore, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Option<Bytes> {
    let item = store.first_in(from.as_ref(), to.as_ref()).expect("the store can be read");
    item.map(|(key, _)| key)
}

fn get_sees_the_last_write(store: Box<dyn StateStore>, _: Reopen) {
    let store = &*store;
    assert_eq!(read(store, "a"), None);
    write(store, &[put("a", "1"), put("b", "")]);
    assert_eq!(read(store, "a"), Some(bytes("1")));
    assert_eq!(read(store, "b"), Some(Bytes::new()), "an empty value is a value");
    write(store, &[put("a", "2"), delete("b")]);
    assert_eq!(read(store, "a"), Some(bytes("2")));
    assert_eq!(read(store, "b"), None);
    write(store, &[delete("absent")]);
    write(store, &[put("b", "3")]);
    assert_eq!(read(store, "b"), Some(bytes("3")), "a deleted key can be written again");
    assert_eq!(read(store, "aa"), None);
}

fn batches_may_be_empty_or_full(store: Box<dyn StateStore>, _: Reopen) {
    let store = &*store;
    write(store, &[]);
    store.flush().expect("nothing to flush is fine");
    let batch: Vec<BatchItem> =
        (0..BATCH_ITEMS_MAX).map(|n| put((n as u32).to_be_bytes(), "v")).collect();
    write(store, &batch);
    assert_eq!(scan(store, [0], [1]).len(), BATCH_ITEMS_MAX);
    let too_large = [put("k", vec![0; ITEM_BYTES_MAX])];
    let too_many: Vec<BatchItem> = (0..=BATCH_ITEMS_MAX).map(|n| put([n as u8], "v")).collect();
    for refused in [&too_large[..], &too_many[..]] {
        let refusal =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.write(refused)));
        assert!(refusal.is_err(), "a batch beyond the limits is refused");
    }
    assert_eq!(scan(store, [0], [1]).len(), BATCH_ITEMS_MAX, "a refused batch leaves nothing");
}

fn first_in_finds_the_smallest(store: Box<dyn StateStore>, _: Reopen) {
    let store = &*store;
    assert_eq!(first(store, "a", "z"), None);
    write(store, &[put("b", "1"), put("d", "2"), put("bb", "3")]);
    let cases = [
        ("a", "z", Some("b")),
        ("b", "c", Some("b")),
        ("b\0", "c", Some("bb")),
        ("c", "d", None),
        ("c", "d\0", Some("d")),
        ("d\0", "z", None),
        ("b", "b", None),
        ("z", "a", None),
    ];
    for (from, to, expected) in cases {
        assert_eq!(first(store, from, to), expected.map(bytes), "first in [{from:?}, {to:?})");
    }
    let item = store.first_in(b"c", b"z").expect("the store can be read");
    assert_eq!(item, Some((bytes("d"), bytes("2"))));
}

fn scans_are_ordered_and_bounded(store: Box<dyn StateStore>, _: Reopen) {
    let store = &*store;
    let mut sorted: Vec<&[u8]> =
        vec![b"\0", b"\0\0", b"\x01", b"a", b"a\0", b"a\xff", b"b", b"\xfe\xff", b"\xff"];
    let mut batch: Vec<BatchItem> = sorted.iter().map(|key| put(key, key)).collect();
    batch.reverse();
    write(store, &batch);
    sorted.sort_unstable();
    for from in &sorted {
        for to in &sorted {
            let expected: Vec<Bytes> =
                sorted.iter().filter(|key| (from..to).contains(key)).map(bytes).collect();
            assert_eq!(keys(store, from, to), expected, "keys in [{from:?}, {to:?})");
        }
    }
    assert_eq!(keys(store, b"\0", b"\xff\xff").len(), sorted.len());
    write(store, &[delete("a")]);
    assert_eq!(keys(store, "a", "b"), [bytes("a\0"), bytes(b"a\xff")]);
}

fn large_scans_are_complete(store: Box<dyn StateStore>, _: Reopen) {
    let store = &*store;
    let mut expected = BTreeMap::new();
    // Multiplying by an odd number visits every residue once, out of order.
    for start in (0..5_000_u64).step_by(BATCH_ITEMS_MAX) {
        let batch: Vec<BatchItem> = (start..start + BATCH_ITEMS_MAX as u64)
            .map(|n| put((n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes(), n.to_be_bytes()))
            .collect();
        write(store, &batch);
        expected.extend(batch.into_iter().filter_map(|(key, value)| Some((key, value?))));
    }
    let all: Vec<StoredItem> = expected.clone().into_iter().collect();
    assert_eq!(scan(store, [0], [0xff; 9]), all);
    let from = &all[1_234].0;
    let to = &all[4_321].0;
    assert_eq!(scan(store, from, to), all[1_234..4_321]);
    let (_, odd): (Vec<_>, Vec<_>) = all.iter().cloned().enumerate().partition(|(n, _)| n % 2 == 0);
    for chunk in odd.chunks(BATCH_ITEMS_MAX) {
        let batch: Vec<BatchItem> = chunk.iter().map(|(_, (key, _))| delete(key)).collect();
        write(store, &batch);
    }
    let even: Vec<StoredItem> = all.into_iter().step_by(2).collect();
    assert_eq!(scan(store, [0], [0xff; 9]), even, "what was not deleted is still there");
    assert!(store.size_bytes() > 0);
}

fn a_scan_survives_writes_beside_it(store: Box<dyn StateStore>, _: Reopen) {
    let store = &*store;
    for n in (0..1_000_u16).step_by(2) {
        write(store, &[put(n.to_be_bytes(), "old")]);
    }
    let mut seen = Vec::new();
    for (round, item) in store.scan(&[0], &[0xff; 3]).enumerate() {
        seen.push(item.expect("the store can be scanned").0);
        let fresh = u16::try_from((round * 7) % 1_000).expect("below 1,000") | 1;
        write(store, &[put(fresh.to_be_bytes(), "new")]);
    }
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "ascending, nothing twice");
    let old = |key: &&Bytes| key[1].is_multiple_of(2);
    assert_eq!(seen.iter().filter(old).count(), 500, "what was there before is all seen");
}

/// Boundaries between the nodes of a tree next to long runs of 0xff, at every position: where
/// sled's reverse iterator does not end.
fn runs_of_ff_bytes_are_found(store: Box<dyn StateStore>, _: Reopen) {
    let store = &*store;
    for tree in 0..40_u8 {
        let low: Vec<Vec<u8>> =
            (0..40 + tree).map(|n| [&[tree, b'a'][..], &[0xff; 6], &[0, n]].concat()).collect();
        let high: Vec<Vec<u8>> = (0..40).map(|n| vec![tree, b'b', 0, n]).collect();
        for key in low.iter().chain(&high) {
            write(store, &[put(key, "v")]);
        }
        let all: Vec<Bytes> = low.iter().chain(&high).map(bytes).collect();
        assert_eq!(keys(store, [tree, b'a'], [tree, b'c']), all);
        for pair in all.windows(2) {
            let after = [&pair[0][..], &[0]].concat();
            assert_eq!(first(store, after, [tree, b'c']), Some(pair[1].clone()));
        }
    }
}

fn large_items_survive(store: Box<dyn StateStore>, reopen: Reopen) {
    let item = |n: u8| {
        let key = vec![n; 1 + usize::from(n) * 20];
        let value = vec![!n; ITEM_BYTES_MAX - key.len()];
        put(key, value)
    };
    for start in (0..200).step_by(BATCH_ITEMS_MAX) {
        let batch: Vec<BatchItem> =
            (start..start + BATCH_ITEMS_MAX).map(|n| item(n as u8)).collect();
        write(&*store, &batch);
    }
    store.flush().expect("the store can be flushed");
    drop(store);
    let store = reopen();
    for n in 0..200 {
        let (key, value) = item(n);
        assert_eq!(read(&*store, key), value);
    }
}

fn flushed_content_is_there_when_opened_again(store: Box<dyn StateStore>, reopen: Reopen) {
    write(&*store, &[put("a", "1"), put("b", "1"), put("c", "1")]);
    write(&*store, &[put("a", "2"), delete("b")]);
    store.flush().expect("the store can be flushed");
    drop(store);
    let store = reopen();
    assert_eq!(scan(&*store, "a", "z"), [(bytes("a"), bytes("2")), (bytes("c"), bytes("1"))]);
    write(&*store, &[put("d", "1")]);
    store.flush().expect("the store can be flushed");
    drop(store);
    let store = reopen();
    assert_eq!(keys(&*store, "a", "z"), [bytes("a"), bytes("c"), bytes("d")]);
}
