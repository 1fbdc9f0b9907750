//! Any one item is taken from the store of any one member, at every kind of moment. What is written down beside the
//! group says what may be gone: what was in that item and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::cluster::{Cluster, KEYSPACE};
use super::*;
use crate::group::message::{Refusal, Turn};
use crate::record::Body;
use crate::replica::Basis;
use crate::session::Hello;
use crate::state::State;
use crate::tree::TreeKey;

/// Seeds of the default run; `DAMAGED` overrides it.
const SEEDS: u64 = 250;

const MEMBERS: usize = 3;

/// A write as its client saw it.
struct Wrote {
    key: String,
    /// What was put, unlike all others; `None` is a delete.
    value: Option<String>,
    /// The values that it ended, with those that these had ended.
    ended: BTreeSet<String>,
}

/// A group, and what is true of it.
struct Judged {
    cluster: Cluster,
    rng: ChaCha8Rng,
    writes: BTreeMap<Dot, Wrote>,
    /// Whose store has lost an item, until it has begun again.
    damaged: Option<usize>,
    /// Writes of which the only copy may have gone with the item.
    lost: BTreeSet<Dot>,
    /// Writes that nobody else knew of, and of which it is forgotten what they ended. That may be back.
    forgotten: BTreeSet<Dot>,
}

/// When the loss is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    /// At a start, at once.
    Start,
    /// At a start, after the member has gone on for a while.
    Later,
}

impl Judged {
    fn new(seed: u64) -> Self {
        Self {
            cluster: Cluster::new(seed, MEMBERS),
            rng: ChaCha8Rng::seed_from_u64(seed),
            writes: BTreeMap::new(),
            damaged: None,
            lost: BTreeSet::new(),
            forgotten: BTreeSet::new(),
        }
    }

    fn write(&mut self, at: usize, key: &str, deletes: bool, basis: Basis) {
        let mut ended = BTreeSet::new();
        if matches!(basis, Basis::Held) {
            let of_key = EntryKey::new(KEYSPACE, key.to_owned());
            let entry = self.cluster.group(at).entry(&of_key);
            for dot in entry.into_iter().flat_map(|entry| entry.siblings().keys()) {
                let seen = self.writes.get(dot);
                ended.extend(seen.iter().flat_map(|seen| seen.ended.iter().cloned()));
            }
            ended.extend(self.live(at, key));
        }
        // Some are items of their own.
        let width =
            if self.rng.random_range(0..6) == 0 { 2 * crate::items::INLINE_BYTES_MAX } else { 1 };
        let value = (!deletes).then(|| format!("{key}-{:0width$}", self.writes.len()));
        let body = value.clone().map_or(Body::Certificate, |value| Body::Value(value.into()));
        let dot = self.cluster.write(at, key, (body, basis), 1);
        self.writes.insert(dot, Wrote { key: key.to_owned(), value, ended });
    }

    fn live(&self, at: usize, key: &str) -> BTreeSet<String> {
        let values = self.cluster.values(at, key).into_iter();
        values.map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
    }

    /// Random things happen.
    fn play(&mut self, steps: usize) {
        for _ in 0..steps {
            let at = self.rng.random_range(0..MEMBERS);
            let key = format!("k{}", self.rng.random_range(0..6));
            match self.rng.random_range(0..24) {
                0..9 => {
                    let blind = self.rng.random_range(0..5) == 0;
                    self.write(at, &key, false, if blind { Basis::Nothing } else { Basis::Held });
                }
                9..12 => self.write(at, &key, true, Basis::Held),
                12..18 => self.cluster.run_ms(400),
                18 => self.cluster.cut(at),
                19 | 20 => self.cluster.heal(),
                21 => self.restart(at),
                22 => self.cluster.jump_ms(forgetting::KEEP_MS / 2),
                _ => self.cluster.run_ms(5_000),
            }
            self.cluster.settle(1);
        }
    }

    fn restart(&mut self, at: usize) {
        self.cluster.settle(1);
        if self.damaged == Some(at) {
            self.damaged = None;
            self.excuse(at, None);
        }
        self.cluster.restart(at);
    }

    /// Takes an item from a store, and notes what may be gone with it. Answers its kind.
    fn damage(&mut self, at: usize) -> u8 {
        self.cluster.settle(1);
        let disk = self.cluster.disk_mut(at);
        // Each kind as often as any other.
        let kinds: Vec<u8> =
            disk.keys().map(|key| key[0]).collect::<BTreeSet<_>>().into_iter().collect();
        let kind = kinds[self.rng.random_range(0..kinds.len())];
        let of_kind: Vec<Bytes> = disk.keys().filter(|key| key[0] == kind).cloned().collect();
        let gone = of_kind[self.rng.random_range(0..of_kind.len())].clone();
        self.damaged = Some(at);
        self.excuse(at, Some(&gone));
        self.cluster.disk_mut(at).remove(&gone);
        kind
    }

    fn excuse(&mut self, at: usize, gone: Option<&Bytes>) {
        let others = (0..MEMBERS).filter(|other| *other != at);
        let mut elsewhere = Clock::default();
        for other in others {
            elsewhere.join(self.cluster.group(other).replica().state().clock());
        }
        let replica = self.cluster.group(at).replica();
        let key_of = |key: &str| EntryKey::new(KEYSPACE, key.to_owned());
        let of_key = gone.filter(|gone| matches!(gone[0], b'e' | b'k' | b'v'));
        let is_of = |key: &EntryKey| of_key.is_some_and(|gone| gone[9..].starts_with(&key.key));
        for (dot, wrote) in &self.writes {
            let key = key_of(&wrote.key);
            if !replica.state().clock().contains(*dot) || elsewhere.contains(*dot) {
                continue;
            }
            // Nobody else has it. It is whole if it is stored with its context.
            let sibling = replica.entry(&key).and_then(|entry| entry.siblings().get(dot));
            let is_whole = sibling.is_some_and(|sibling| sibling.context.is_some());
            if is_of(&key) {
                self.lost.insert(*dot);
            }
            if is_of(&key) || !is_whole {
                self.forgotten.insert(*dot);
            }
        }
    }

    /// What the group agrees on, held against what is true.
    fn judge(&mut self) {
        for at in 0..MEMBERS {
            assert!(!self.cluster.is_recovering(at), "member {at} has met all");
        }
        self.cluster.assert_equal();
        let ended: BTreeSet<&String> =
            self.writes.values().flat_map(|wrote| &wrote.ended).collect();
        let remembered = self.writes.iter().filter(|(dot, _)| !self.forgotten.contains(*dot));
        let ended_for_sure: BTreeSet<&String> =
            remembered.flat_map(|(_, wrote)| &wrote.ended).collect();
        for (dot, Wrote { key, value, .. }) in &self.writes {
            let Some(value) = value else { continue };
            let is_live = self.live(0, key).contains(value);
            let is_excused = self.lost.contains(dot) || ended.contains(value);
            assert!(is_live || is_excused, "{value} ({dot}) is lost");
            assert!(!is_live || !ended_for_sure.contains(value), "{value} ({dot}) came back");
        }
    }
}

#[test]
fn any_one_item_of_any_one_store_may_be_lost() {
    let seeds = std::env::var("DAMAGED").ok().map_or(SEEDS, |text| text.parse().unwrap());
    let first = std::env::var("FIRST").ok().map_or(0, |text| text.parse().unwrap());
    let mut losses: BTreeMap<(char, Found), u64> = BTreeMap::new();
    let (mut started_over, mut rewritten) = (0, 0);
    for seed in first..first + seeds {
        let mut judged = Judged::new(seed);
        let steps = judged.rng.random_range(5..60);
        judged.play(steps);
        let at = judged.rng.random_range(0..MEMBERS);
        let kind = judged.damage(at);
        let found = if seed % 2 == 0 { Found::Start } else { Found::Later };
        if found == Found::Later {
            judged.play(10);
        }
        judged.restart(at);
        judged.play(15);
        judged.cluster.heal();
        judged.cluster.run_ms(40_000);
        judged.judge();
        *losses.entry((char::from(kind), found)).or_default() += 1;
        let counts = (0..MEMBERS).map(|at| judged.cluster.group(at).counts());
        rewritten += counts.map(|counts| counts.rewritten).sum::<u64>();
        started_over += judged.cluster.began_anew;
    }
    println!("{seeds} losses: {losses:?}; {started_over} started over, {rewritten} written anew");
    for kind in "acehnstv".chars() {
        let of_kind = losses.iter().filter(|((lost, _), _)| *lost == kind);
        assert!(of_kind.count() > 0, "no item {kind:?} was lost");
    }
    assert!(started_over > seeds / 3);
}

/// Equal clocks and unequal roots: one of the two is damaged and does not know it.
#[test]
fn who_may_be_damaged_verifies_everything_before_anything_is_dropped() {
    let mut cluster = Cluster::new(5, 3);
    for number in 0..40 {
        cluster.write(0, &format!("k{number}"), (Body::Value("v".into()), Basis::Held), 1);
    }
    cluster.settle(50);
    // Nothing was forgotten yet, and all have the same.
    let mut hello = Hello::of(cluster.group(1).replica(), 7, 1, Vec::new()).what;
    hello.root ^= 1;
    let group = cluster.group_mut(0);
    let message = Message::Hello { hello, turn: Turn::Ask, epoch: 0 };
    let bytes: Bytes = message.encode(FoldNumber::NONE).into();
    group.receive(NodeId(2), &bytes);
    let state = ScrubState { runs: true, is_suspicious: true };
    assert_eq!((group.scrub_state(), group.counts().suspected), (state, 1));
    let output = group.poll();
    let answer = output.sends.iter().find(|(to, _)| *to == NodeId(2)).unwrap();
    let answer = Message::decode(&answer.1, group.replica().state().folds()).unwrap();
    assert!(matches!(answer, Message::Refused { session: 7, why: Refusal::Damaged }));
    // Until it is done it opens nothing, serves nothing and forgets nothing.
    let (exchanges, forgotten) = (group.counts().exchanges, group.counts().forgotten);
    let (actor, tree) = (ActorId::from_bytes([9; 16]), TreeKey::new(&[7; 32]));
    let (empty, _) = Replica::start(State::default(), actor, tree);
    let hello = Hello::of(&empty, 8, 1, Vec::new()).what;
    let bytes: Bytes =
        Message::Hello { hello, turn: Turn::Ask, epoch: 0 }.encode(FoldNumber::NONE).into();
    group.receive(NodeId(3), &bytes);
    assert!(group.serving.is_empty() && group.asking.is_empty());
    group.open_exchange();
    group.forget();
    assert_eq!((group.counts().exchanges, group.counts().forgotten), (exchanges, forgotten));
    cluster.run_ms(5_000);
    let group = cluster.group(0);
    assert_eq!(group.scrub_state(), ScrubState::default());
    assert_eq!((group.counts().scrubs, group.counts().damaged), (1, 0));
    cluster.run_ms(20_000);
    cluster.assert_equal();
    assert!(cluster.group(0).counts().forgotten > forgotten, "it goes on");
}

/// Each member drops what is left of a removed keyspace in its own time, and that is no damage.
#[test]
fn a_removed_keyspace_that_is_cleared_is_no_damage() {
    let mut cluster = Cluster::new(6, 2);
    for number in 0..3_000 {
        cluster.write(0, &format!("k{number}"), (Body::Value("v".into()), Basis::Held), 1);
    }
    cluster.run_ms(20_000);
    cluster.assert_equal();
    for at in [0, 1] {
        cluster.group_mut(at).set_keyspace(KEYSPACE, Standing::Removed);
    }
    let same = cluster.group(0).counts().same;
    // One of them clears, part by part, and the other one does not.
    while cluster.group(0).is_clearing() {
        cluster.run_ms(2_000);
        cluster.group_mut(0).clear();
    }
    assert!(cluster.group(1).is_clearing());
    cluster.run_ms(5_000);
    for at in [0, 1] {
        assert_eq!(cluster.group(at).counts().suspected, 0, "member {at}");
    }
    assert!(cluster.group(0).counts().same > same, "they go on to find each other equal");
}

/// What memory loses is found by the scrub, and the member begins again on what is stored.
#[test]
fn the_daily_scrub_finds_what_memory_has_lost() {
    let mut cluster = Cluster::new(8, 3);
    for number in 0..40 {
        cluster.write(0, &format!("k{number}"), (Body::Value("v".into()), Basis::Held), 1);
    }
    cluster.run_ms(20_000);
    let key = EntryKey::new(KEYSPACE, "k7");
    let dot = *cluster.group(1).entry(&key).unwrap().siblings().keys().next().unwrap();
    cluster.group_mut(1).lose(&key, dot);
    cluster.run_ms(1_000);
    assert_eq!(cluster.group(1).counts().damaged, 0, "nobody looked");
    cluster.jump_ms(SCRUB_MS + 10_000);
    cluster.run_ms(20_000);
    assert_eq!(cluster.group(1).counts().damaged, 1);
    assert_eq!(cluster.began_anew, 0, "what is stored was whole");
    assert_eq!(cluster.values(1, "k7"), ["v"]);
    cluster.assert_equal();
    for at in [0, 2] {
        assert!(cluster.group(at).counts().scrubs >= 1, "member {at}");
    }
}

/// A member that was alone for so long that it forgot contexts of what nobody else has, and then is damaged.
#[test]
fn what_had_lost_its_context_and_is_nowhere_else_is_written_anew() {
    for kind in "aceht".chars() {
        let mut cluster = Cluster::new(9, 3);
        let value = |text: &'static str| (Body::Value(text.into()), Basis::Held);
        cluster.write(0, "both", value("first"), 1);
        cluster.run_ms(20_000);
        cluster.cut(0);
        cluster.write(0, "alone", value("alone"), 1);
        cluster.write(0, "both", value("second"), 1);
        cluster.write(0, "x", value("x"), 1);
        cluster.jump_ms(2 * forgetting::KEEP_MS);
        cluster.write(1, "gone", value("gone"), 1);
        cluster.settle(5);
        let mut gone = cluster.disk_mut(0).keys().filter(|key| key[0] == kind as u8);
        let gone = gone.next_back().unwrap().clone();
        cluster.disk_mut(0).remove(&gone);
        cluster.restart(0);
        assert_eq!(cluster.began_anew, 1, "without {kind:?}");
        assert!(cluster.is_recovering(0) && cluster.values(0, "alone").is_empty());
        cluster.run_ms(5_000);
        // It waits through another start.
        cluster.restart(0);
        assert_eq!(cluster.began_anew, 1, "what it begins with is whole");
        cluster.heal();
        cluster.run_ms(20_000);
        assert!(!cluster.is_recovering(0));
        cluster.assert_equal();
        assert!(cluster.group(0).counts().rewritten >= 2);
        for at in 0..3 {
            assert_eq!(cluster.values(at, "alone"), ["alone"], "without {kind:?}");
            // What it had replaced is known to the others, and nobody knows any more that it was.
            let both = cluster.values(at, "both");
            assert!(both.iter().any(|value| value == "second"), "without {kind:?}: {both:?}");
        }
    }
}
