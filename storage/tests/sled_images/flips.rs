//! Single flipped bits in the files of a closed store.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::image::Image;
use crate::load::closed_store;
use crate::scratch;
use crate::verdict::{Verdict, judge};

/// Bits flipped in `db` and in the snapshot; of `conf` every bit is tried.
const FLIPS: usize = 1_200;

#[derive(Debug, Default)]
struct Seen {
    harmless: usize,
    rolled_back: usize,
    noticed: BTreeMap<&'static str, usize>,
    refused: BTreeMap<crate::verdict::Kind, usize>,
    /// Items with bytes that nobody wrote which sled returned without an error.
    changed_items: u64,
}

#[test]
fn s06_a_flipped_bit_is_refused_noticed_or_harmless() {
    let scratch = scratch();
    let origin = scratch.path().join("origin");
    let load = closed_store(&origin, 3, 120, 6);
    // Opened once more, so that there is a snapshot of it.
    drop(storage::state::SledStore::open(&origin).unwrap());
    let whole = Image::of(&origin);
    let load = Arc::new(load);
    let dir = scratch.path().join("s");
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut places: Vec<(String, usize, u8)> = Vec::new();
    let conf = whole.files["conf"].len();
    places.extend((0..conf * 8).map(|bit| ("conf".to_owned(), bit / 8, (bit % 8) as u8)));
    for _ in 0..FLIPS {
        let name = if rng.random_ratio(1, 4) { whole.snapshot() } else { "db" };
        let at = rng.random_range(0..whole.files[name].len());
        places.push((name.to_owned(), at, rng.random_range(0..8)));
    }
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    for (name, at, bit) in &places {
        let mut content = whole.files[name].clone();
        content[*at] ^= 1 << bit;
        let seen = seen.entry(if name.starts_with("snap") { "snap" } else { name }).or_default();
        let (verdict, strange) = judge(&load, &whole.with(name, content), &dir);
        assert_eq!(strange.unnoticed, 0, "{name}, byte {at}, bit {bit}: passed its checksum");
        seen.changed_items += strange.items;
        match verdict {
            Verdict::Whole(at) if at < load.checkpoint() => seen.rolled_back += 1,
            Verdict::Whole(_) => seen.harmless += 1,
            Verdict::Noticed(why) => *seen.noticed.entry(why).or_default() += 1,
            Verdict::Refused(kind) => *seen.refused.entry(kind).or_default() += 1,
        }
    }
    println!("{seen:#?}");
    let refused: usize = seen.values().flat_map(|seen| seen.refused.values()).sum();
    assert!(refused > 100, "{seen:?}");
}
