//! Kills at every step of opening a store, and damaged snapshots.

use std::sync::Arc;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::StateStore;
use storage::state::{SledStore, StateError};

use crate::image::Image;
use crate::load::{Load, closed_store};
use crate::scratch;
use crate::verdict::{Kind, Strange, Verdict, judge, read};

/// Opens with something planted, per test.
const OPENS: usize = 200;
const CHECKPOINTS: u64 = 5;

/// A store that was killed after its last flush, and the same after it was opened again: sled then
/// writes its snapshot.
fn before_and_after() -> (Arc<Load>, Image, Image) {
    let scratch = scratch();
    let dir = scratch.path().join("s");
    let mut load = closed_store(&dir, 5, 150, CHECKPOINTS);
    let store = SledStore::open(&dir).unwrap();
    load.run(&store, 100, || (), |_| ());
    let before = Image::of(&dir);
    drop(store);
    before.put(&dir);
    let store = SledStore::open(&dir).unwrap();
    let after = Image::of(&dir);
    drop(store);
    assert_ne!(before.snapshot(), after.snapshot(), "opening wrote a snapshot");
    (Arc::new(load), before, after)
}

fn assert_whole(load: &Arc<Load>, image: &Image, dir: &std::path::Path, what: &str) {
    let (verdict, strange) = judge(load, image, dir);
    assert_eq!(verdict, Verdict::Whole(load.checkpoint()), "{what}");
    assert_eq!(strange, Strange::default(), "{what}");
}

/// spacejam/sled#1527.
#[test]
fn b67_s03_a_snapshot_that_was_being_written_never_hinders() {
    let (load, before, after) = before_and_after();
    let scratch = scratch();
    let dir = scratch.path().join("s");
    let mut rng = ChaCha8Rng::seed_from_u64(67);
    for n in 0..OPENS {
        let image = if n % 2 == 0 { &before } else { &after };
        let snapshot = &after.files[after.snapshot()];
        let content = match n % 4 {
            0 => snapshot[..rng.random_range(0..=snapshot.len())].to_vec(),
            1 => Vec::new(),
            2 => vec![0; rng.random_range(1..2 * snapshot.len())],
            _ => {
                let mut noise = vec![0; rng.random_range(1..2 * snapshot.len())];
                rng.fill_bytes(&mut noise);
                noise
            }
        };
        let lsn = if n % 3 == 0 { u64::MAX } else { rng.random_range(0..1 << 40) };
        let planted = image.with(&format!("snap.{lsn:016X}.generating"), content);
        assert_whole(&load, &planted, &dir, &format!("open {n}"));
        let left = Image::of(&dir).files.into_keys().find(|name| name.ends_with(".generating"));
        assert_eq!(left, None);
    }
}

/// What sled does when it opens, in its order: it cleans the end of its log, writes the snapshot
/// under another name, renames it, removes the old one, cleans torn segments.
#[test]
fn b67_s04_a_kill_at_each_step_of_opening_leaves_a_store_that_opens() {
    let (load, before, after) = before_and_after();
    let scratch = scratch();
    let dir = scratch.path().join("s");
    let (old, new) = (before.snapshot(), after.snapshot());
    let snapshot = after.files[new].clone();
    let cleaned = before.with("db", after.files["db"].clone());
    let generating = format!("{new}.generating");
    let mut steps = vec![
        ("nothing yet".to_owned(), before.clone()),
        ("the end of the log cleaned".to_owned(), cleaned.clone()),
        ("the snapshot written".to_owned(), cleaned.with(&generating, snapshot.clone())),
        ("renamed".to_owned(), cleaned.with(new, snapshot.clone())),
        ("renamed, the log not cleaned".to_owned(), before.with(new, snapshot.clone())),
        ("the old one removed".to_owned(), after.clone()),
    ];
    for cut in [0, 1, snapshot.len() / 2, snapshot.len() - 1] {
        let partial = cleaned.with(&generating, snapshot[..cut].to_vec());
        steps.push((format!("{cut} bytes of the snapshot"), partial));
    }
    for (what, image) in &steps {
        assert_whole(&load, image, &dir, what);
        // And killed again, later.
        let again = Image::of(&dir).with(&generating, snapshot[..snapshot.len() / 3].to_vec());
        assert_whole(&load, &again, &dir, &format!("{what}, then killed again"));
    }
    // A power loss may keep the removal of the old snapshot and lose the name of the new one. sled
    // would open that empty.
    for image in [before.without(old), cleaned.without(old), after.without(new)] {
        assert_eq!(judge(&load, &image, &dir).0, Verdict::Refused(Kind::Damaged));
    }
}

/// sled writes a snapshot when it opens only: everything since is in its log.
#[test]
fn a_kill_after_a_long_session_loses_nothing_that_was_flushed() {
    let scratch = scratch();
    let (origin, dir) = (scratch.path().join("origin"), scratch.path().join("s"));
    let mut load = Load::new(8, 300);
    let store = SledStore::open(&origin).unwrap();
    let mut images = Vec::new();
    for _ in 0..60 {
        load.run(&store, 150, || (), |_| ());
        if load.checkpoint().is_multiple_of(6) {
            images.push((load.checkpoint(), Image::of(&origin)));
        }
    }
    let load = Arc::new(load);
    for (checkpoint, image) in images {
        let (verdict, strange) = judge(&load, &image, &dir);
        assert_eq!((verdict, strange), (Verdict::Whole(checkpoint), Strange::default()));
    }
}

#[test]
fn b67_a_kill_at_each_step_of_creation_leaves_a_store_that_opens() {
    let scratch = scratch();
    let dir = scratch.path().join("s");
    drop(SledStore::open(&dir).unwrap());
    let created = Image::of(&dir);
    assert!(!created.files.contains_key("creating"));
    let (conf, db) = (&created.files["conf"], &created.files["db"]);
    let empty = Image::default().with("db", Vec::new());
    let creating = empty.with("creating", Vec::new());
    let mut images = vec![Image::default(), empty.clone(), creating.clone()];
    for cut in 0..=conf.len() {
        images.push(creating.with("conf", conf[..cut].to_vec()));
        images.push(empty.with("conf", conf[..cut].to_vec()));
    }
    let creating = created.with("creating", Vec::new());
    for cut in [0, 1, 20, db.len() / 2, db.len()] {
        let cut = creating.with("db", db[..cut].to_vec());
        images.push(cut.without(created.snapshot()));
        images.push(cut.with("snap.0000000000000100.generating", vec![1; 7]));
        images.push(cut.with(created.snapshot(), Vec::new()));
        images.push(cut);
    }
    images.push(created.clone());
    for image in images {
        image.put(&dir);
        let store = SledStore::open(&dir).unwrap();
        store.write(&[(b"k"[..].into(), Some(b"v"[..].into()))]).unwrap();
        store.flush().unwrap();
        drop(store);
        let store = SledStore::open(&dir).unwrap();
        assert_eq!(store.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
        assert!(!dir.join("creating").exists());
    }
}

#[test]
fn s03_a_cut_snapshot_is_refused_or_does_not_matter() {
    let (load, before, after) = before_and_after();
    let scratch = scratch();
    let dir = scratch.path().join("s");
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (mut refused, mut whole) = (0, 0);
    for n in 0..OPENS {
        let image = if n % 2 == 0 { &before } else { &after };
        let name = image.snapshot().to_owned();
        let mut content = image.files[&name].clone();
        content.truncate(rng.random_range(0..content.len()));
        let cut = image.with(&name, content);
        match judge(&load, &cut, &dir) {
            (Verdict::Whole(at), _) => {
                assert_eq!(at, load.checkpoint());
                whole += 1;
            }
            (Verdict::Refused(_), _) => refused += 1,
            (Verdict::Noticed(why), _) => panic!("open {n}: {why}"),
        }
    }
    println!("{refused} refused, {whole} whole");
    assert!(refused > OPENS / 2, "a cut is noticed by sled itself, as a rule");
}

#[test]
fn a_store_that_lost_a_file_is_damaged_and_never_empty() {
    let (_, before, _) = before_and_after();
    let scratch = scratch();
    let dir = scratch.path().join("s");
    let lost =
        [before.without("db"), before.with("db", Vec::new()), before.without(before.snapshot())];
    for image in lost {
        image.put(&dir);
        let lost = SledStore::open(&dir).unwrap_err();
        assert!(matches!(lost, StateError::Damaged { .. }), "{lost}");
        assert!(read(&image, &dir).is_err());
    }
}
