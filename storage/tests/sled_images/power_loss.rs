//! Power loss between two of our syncs: any of the pages written since the first one may be missing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::state::SledStore;

use crate::image::Image;
use crate::load::Load;
use crate::scratch;
use crate::verdict::{Strange, Verdict, judge};

const PAGE_BYTES: usize = 4096;
/// Keys of the load, and how many of them each checkpoint writes: enough to fill a segment of sled
/// (512 KiB) every third checkpoint, so that segments are freed and used again.
const KEYS: u16 = 400;
const WRITES: usize = 220;
/// Checkpoints of a run, and after which of them the store is closed and opened again.
const CHECKPOINTS: u64 = 24;
const REOPEN_AFTER: u64 = 9;
/// Up to this many changed pages, all their subsets are tried.
const EXHAUSTIVE_PAGES_MAX: usize = 10;
/// Random subsets tried beyond that.
const RANDOM_SUBSETS: usize = 64;
/// Pairs of pages tried alone beyond that.
const PAIRS_MAX: usize = 200;
/// Images tried of the pages between two syncs: in the test of every day, and in the long one.
const IMAGES_PER_SYNC_MAX: usize = 40;
const IMAGES_PER_SYNC_MAX_LONG: usize = 1_100;

/// All between two syncs.
struct Interval {
    /// The files as of the first sync.
    base: Image,
    /// The last checkpoint that was durable then.
    durable: u64,
    /// Contents of `db` since then, the last one as of the second sync.
    later: Vec<Vec<u8>>,
}

/// Runs the load and takes `db` after each write and each sync.
fn record() -> (Load, Vec<Interval>) {
    let scratch = scratch();
    let dir = scratch.path().join("s");
    let mut load = Load::new(1, KEYS);
    let mut store = SledStore::open(&dir).unwrap();
    let mut base = Image::of(&dir);
    let mut intervals: Vec<Interval> = Vec::new();
    for checkpoint in 1..=CHECKPOINTS {
        let later = RefCell::new(Vec::new());
        let take = || later.borrow_mut().push(fs::read(dir.join("db")).unwrap());
        let mut durable = load.checkpoint();
        load.run(&store, WRITES, take, |now| {
            take();
            let later = later.take();
            let next = base.with("db", later.last().unwrap().clone());
            let base = std::mem::replace(&mut base, next);
            intervals.push(Interval { base, durable, later });
            durable = now;
        });
        if checkpoint == REOPEN_AFTER {
            drop(store);
            store = SledStore::open(&dir).unwrap();
            base = Image::of(&dir);
        }
    }
    (load, intervals)
}

impl Interval {
    /// The distinct contents of each page that changed, the oldest first.
    fn pages(&self) -> BTreeMap<usize, Vec<&[u8]>> {
        let mut pages: BTreeMap<usize, Vec<&[u8]>> = BTreeMap::new();
        let old = &self.base.files["db"];
        for later in &self.later {
            for (page, content) in later.chunks(PAGE_BYTES).enumerate() {
                let before = pages.get(&page).and_then(|seen| seen.last()).copied();
                let before = before.or_else(|| old.chunks(PAGE_BYTES).nth(page)).unwrap_or(&[]);
                if before != content {
                    pages.entry(page).or_default().push(content);
                }
            }
        }
        pages
    }

    /// The image that keeps these contents of these pages, and is as long as that takes.
    fn image(&self, kept: &[(usize, &[u8])]) -> Image {
        let mut db = self.base.files["db"].clone();
        for (page, content) in kept {
            let at = page * PAGE_BYTES;
            db.resize(db.len().max(at + content.len()), 0);
            db[at..at + content.len()].copy_from_slice(content);
        }
        self.base.with("db", db)
    }

    /// Images of this interval, at most `limit`, and whether all subsets are among them.
    fn images(&self, limit: usize, rng: &mut ChaCha8Rng) -> (Vec<Image>, bool) {
        let pages = self.pages();
        let newest: Vec<(usize, &[u8])> =
            pages.iter().map(|(page, seen)| (*page, *seen.last().unwrap())).collect();
        let mut choices: Vec<Vec<(usize, &[u8])>> = Vec::new();
        let exhaustive = newest.len() <= EXHAUSTIVE_PAGES_MAX;
        if exhaustive {
            choices.extend((0..1_usize << newest.len()).map(|mask| {
                (0..newest.len()).filter(|n| mask >> n & 1 == 1).map(|n| newest[n]).collect()
            }));
        } else {
            choices.extend(newest.iter().map(|one| vec![*one]));
            choices.extend((0..newest.len()).map(|n| {
                newest.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, one)| *one).collect()
            }));
            for _ in 0..RANDOM_SUBSETS {
                choices.push(newest.iter().copied().filter(|_| rng.random::<bool>()).collect());
            }
            choices.extend((0..PAIRS_MAX).map(|_| newest.sample(rng, 2).copied().collect()));
        }
        // Out of order: of a page that was written several times, an earlier content is the one that
        // reached the disk.
        for _ in 0..RANDOM_SUBSETS / 4 {
            let mut mixed = Vec::new();
            for (page, seen) in &pages {
                if rng.random_bool(0.7) {
                    mixed.push((*page, *seen.choose(rng).expect("a page that changed")));
                }
            }
            choices.push(mixed);
        }
        choices.shuffle(rng);
        let all = exhaustive && choices.len() <= limit - 2;
        choices.truncate(limit - 2);
        choices.extend([Vec::new(), newest]);
        (choices.iter().map(|kept| self.image(kept)).collect(), all)
    }
}

/// How the images came out.
#[derive(Debug, Default)]
struct Seen {
    exhaustive: usize,
    images: usize,
    pages: usize,
    reused_pages: usize,
    whole_at_the_sync: usize,
    whole_later: usize,
    /// Whole, but older than the sync; the log knows of the newer checkpoint.
    rolled_back: usize,
    noticed: BTreeMap<&'static str, usize>,
    refused: BTreeMap<crate::verdict::Kind, usize>,
}

/// Makes and judges the images of all intervals.
fn lose_power(images_per_sync_max: usize) -> Seen {
    let (load, intervals) = record();
    let load = Arc::new(load);
    let scratch = scratch();
    let dir = scratch.path().join("s");
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut seen = Seen::default();
    for interval in &intervals {
        let pages = interval.pages();
        let old = interval.base.files["db"].len() / PAGE_BYTES;
        seen.pages += pages.len();
        seen.reused_pages += pages.keys().filter(|page| **page < old).count();
        let (images, all) = interval.images(images_per_sync_max, &mut rng);
        seen.exhaustive += usize::from(all);
        let untouched = images.len() - 2;
        for (number, image) in images.iter().enumerate() {
            let (verdict, strange) = judge(&load, image, &dir);
            assert_eq!(strange, Strange::default(), "bytes that nobody wrote");
            // The last two lose nothing that was synced: what our sync promised is there.
            if number >= untouched {
                let kept = matches!(verdict, Verdict::Whole(at) if at >= interval.durable);
                assert!(kept, "{verdict:?} after checkpoint {}", interval.durable);
            }
            seen.count(verdict, interval.durable);
        }
    }
    println!("{seen:?}");
    let durable: BTreeSet<u64> = intervals.iter().map(|interval| interval.durable).collect();
    assert_eq!(durable.len() as u64, CHECKPOINTS);
    assert!(seen.reused_pages > 100, "{seen:?}");
    assert!(seen.whole_at_the_sync > 100 && seen.whole_later > 20, "{seen:?}");
    seen
}

impl Seen {
    fn count(&mut self, verdict: Verdict, durable: u64) {
        self.images += 1;
        match verdict {
            Verdict::Whole(at) if at < durable => self.rolled_back += 1,
            Verdict::Whole(at) if at == durable => self.whole_at_the_sync += 1,
            Verdict::Whole(_) => self.whole_later += 1,
            Verdict::Noticed(why) => *self.noticed.entry(why).or_default() += 1,
            Verdict::Refused(kind) => *self.refused.entry(kind).or_default() += 1,
        }
    }
}

#[test]
fn s01_power_loss_between_two_syncs_never_passes_for_a_whole_store() {
    let seen = lose_power(IMAGES_PER_SYNC_MAX);
    assert!(seen.images >= 1_000, "{seen:?}");
}

#[test]
#[ignore = "minutes, all subsets of up to ten pages; make power-loss"]
fn s01_power_loss_between_two_syncs_at_length() {
    let seen = lose_power(IMAGES_PER_SYNC_MAX_LONG);
    assert!(seen.images >= 8_000 && seen.exhaustive > 20, "{seen:?}");
}
