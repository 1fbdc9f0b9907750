//! What eventual keyspaces promise to cost, held against the shipped core: two members ([`gossip::group::Group`])
//! whose messages are counted in their bytes.
//!
//! Bytes and round trips are checked in every run, with fewer keys. At a million keys, with times on the clock, which only
//! say something on a quiet machine:
//!
//! ```text
//! cargo test --release -p gossip --test figures -- --ignored --nocapture --test-threads 1
//! ```

mod pair;

use std::time::Duration;

use gossip::group::EXCHANGE_MS;
use gossip::record::Body;
use gossip::replica::Basis;

use pair::{Cost, Pair, key};

/// Bytes of a key and a value here, which nobody has to justify.
const KEY_AND_VALUE: u64 = 17 + 16;

/// The clocks of both have this many actors, and nothing is left to tell.
fn pair_of_actors(actors: usize) -> Pair {
    let mut pair = Pair::new();
    for number in 0..actors {
        pair.put(number % 2, number, Basis::Held);
        if number + 2 < actors {
            pair.restart(number % 2);
        }
    }
    pair.rest();
    let tracks = pair.group(0).replica().state().clock().tracks().count();
    assert_eq!(tracks, actors, "each of them has written");
    pair
}

/// Bytes of an idle exchange of the member that says more.
fn idle_bytes(actors: usize) -> u64 {
    let mut pair = pair_of_actors(actors);
    let same = pair.group(1).counts().same;
    let cost = pair.exchange(0);
    assert_eq!(pair.group(1).counts().same, same + 1, "nothing was to be told");
    assert_eq!(cost.messages, 2);
    cost.bytes.into_iter().max().unwrap_or_default()
}

#[test]
fn an_idle_exchange_takes_200_bytes_each_way_and_24_an_actor_more() {
    let (few, many) = (idle_bytes(5), idle_bytes(25));
    let each = (many - few) as f64 / 20.0;
    println!("idle exchange: {few} B each way at 5 actors, {each:.1} B an actor more");
    assert!(few <= 200, "{few} B at 5 actors");
    assert!(each <= 24.0, "{each} B an actor");
}

/// So many keys are overwritten at member 0 while the link is down. With tokens, each write has a context of its
/// own: what a client had read there just before.
fn differ(pair: &mut Pair, keys: usize, differing: usize, with_tokens: bool) {
    pair.set_link(false);
    for number in 0..differing {
        // A stride that is prime to all numbers of keys that are used here.
        let number = number * 7_919 % keys;
        let basis = if with_tokens { pair.seen(0, number) } else { Basis::Held };
        pair.put(0, number, basis);
    }
    // With the link down nothing is mailed.
    pair.settle();
}

/// What it takes to bring member 1 up, which opens the exchange.
fn bring_up(pair: &mut Pair) -> Cost {
    pair.set_link(true);
    let cost = pair.exchange(1);
    pair.assert_equal();
    cost
}

/// What was measured, and what was promised of it.
#[derive(Debug)]
struct Row {
    name: String,
    differing: u64,
    cost: Cost,
    bytes_max: u64,
    round_trips_max: u32,
    took_max: Duration,
}

impl Row {
    fn overhead(&self) -> u64 {
        self.cost.all_bytes() - self.differing * KEY_AND_VALUE
    }

    fn print(&self) {
        println!(
            "{}, {} differ: {} B beyond keys and values ({:.1} each; <= {}), of these {} to find them; {} round \
             trips (<= {}), {:.2?} (<= {:.0?})",
            self.name,
            self.differing,
            self.overhead(),
            self.overhead() as f64 / self.differing as f64,
            self.bytes_max,
            self.cost.walked_bytes,
            self.cost.round_trips(),
            self.round_trips_max,
            self.cost.took,
            self.took_max,
        );
    }
}

/// An exchange of two replicas of which one has written while the other was away, and nothing was forgotten.
fn listed(pair: &mut Pair, keys: usize, differing: usize, with_tokens: bool) -> Row {
    differ(pair, keys, differing, with_tokens);
    let flagged = pair.group(1).counts().flagged;
    let cost = bring_up(pair);
    assert_eq!(pair.group(1).counts().flagged, flagged, "no walk");
    let each = if with_tokens { 45 } else { 20 };
    Row {
        name: format!("listed{}", if with_tokens { ", with tokens" } else { "" }),
        differing: differing as u64,
        cost,
        bytes_max: 300 + each * differing as u64,
        round_trips_max: 2,
        took_max: took_max(differing, [5, 20, 1_000]),
    }
}

/// The same, after the one that has written forgot by age what the other had not heard of.
fn walked(pair: &mut Pair, keys: usize, differing: usize) -> Row {
    differ(pair, keys, differing, false);
    pair.age(0);
    let flagged = pair.group(1).counts().flagged;
    let cost = bring_up(pair);
    assert_eq!(pair.group(1).counts().flagged, flagged + 1, "the tree was walked");
    let bytes_max = match differing {
        ..=10 => 6_000,
        11..=1_000 => 320_000,
        _ => 10_500_000,
    };
    Row {
        name: "walked".to_owned(),
        differing: differing as u64,
        cost,
        bytes_max,
        round_trips_max: 7,
        took_max: took_max(differing, [10, 50, 2_000]),
    }
}

fn took_max(differing: usize, of: [u64; 3]) -> Duration {
    let place = match differing {
        ..=10 => 0,
        11..=1_000 => 1,
        _ => 2,
    };
    Duration::from_millis(of[place])
}

#[test]
fn what_was_missed_comes_for_20_bytes_a_write_and_45_with_a_token_in_two_round_trips() {
    const KEYS: usize = 5_000;
    let mut pair = Pair::with_keys(KEYS);
    for with_tokens in [false, true] {
        for differing in [10, 1_000] {
            let row = listed(&mut pair, KEYS, differing, with_tokens);
            row.print();
            // Two Hellos and two ends, one of each for nothing, take more than was promised of few writes.
            let few_max = if differing < 100 { 500 } else { 0 };
            assert!(row.overhead() <= row.bytes_max + few_max, "{row:?}");
            assert!(row.cost.round_trips() <= 2, "{:?}", row.cost);
            pair.rest();
        }
    }
}

#[test]
fn at_rest_a_key_has_one_dot_and_nothing_else_is_remembered() {
    const KEYS: usize = 500;
    let mut pair = Pair::with_keys(KEYS);
    for number in 0..KEYS {
        let basis = if number % 3 == 0 { Basis::Nothing } else { Basis::Held };
        pair.put(number % 2, number, basis);
    }
    pair.rest();
    for number in 0..KEYS {
        let body = if number % 5 == 0 { Body::Certificate } else { Body::Value("v".into()) };
        pair.write(1, number, body, Basis::Held);
    }
    pair.rest();
    pair.assert_equal();
    for at in 0..2 {
        let state = pair.group(at).replica().state();
        assert_eq!(state.remembered(state.clock(), None).count(), 0, "contexts and certificates");
        assert_eq!(state.entries().count(), KEYS - KEYS / 5, "nothing of a deleted key");
        assert_eq!(state.clock().holes(), 0);
        for (key, entry) in state.entries() {
            assert_eq!(entry.siblings().len(), 1, "{key:?}");
            assert!(entry.pending().is_empty() && entry.dormant().is_empty(), "{key:?}");
        }
        let entries = pair.disk(at).iter().filter(|(key, _)| key.first() == Some(&b'e'));
        let (count, bytes) = entries.fold((0, 0), |(count, bytes), (key, value)| {
            (count + 1, bytes + key.len() + value.len())
        });
        assert_eq!(count, KEYS - KEYS / 5, "nothing of a deleted key on the disk");
        println!(
            "member {at}: {} B on its disk for a key of 17 B and a value of 1 B",
            bytes / count
        );
    }
}

#[test]
fn a_quiet_exchange_leaves_nothing_pending() {
    let mut pair = Pair::new();
    // What the first write superseded has not arrived when it does: only the second write travels.
    pair.set_link(false);
    pair.put(0, 1, Basis::Held);
    let seen = pair.seen(0, 1);
    pair.settle();
    pair.set_link(true);
    pair.put(1, 1, seen);
    let pending = |pair: &Pair, at: usize| pair.group(at).replica().state().pending_keys().count();
    assert_eq!(pending(&pair, 1), 1, "a dot that member 1 has only heard of");
    pair.exchange(1);
    assert_eq!((pending(&pair, 0), pending(&pair, 1)), (0, 0));
    pair.assert_equal();
    assert_eq!(pair.group(0).entry(&key(1)).map(|entry| entry.siblings().len()), Some(1));
}

#[test]
fn differences_behind_the_horizon_are_found_by_few_bytes() {
    const KEYS: usize = 60_000;
    let mut pair = Pair::with_keys(KEYS);
    for differing in [10, 1_000] {
        let row = walked(&mut pair, KEYS, differing);
        row.print();
        assert!((1..=row.bytes_max).contains(&row.cost.walked_bytes), "{:?}", row.cost);
        assert!(row.cost.round_trips() <= row.round_trips_max, "{:?}", row.cost);
        pair.rest();
    }
}

#[test]
#[ignore = "a minute, 5 GiB of memory and a quiet machine"]
fn figures_at_a_million_keys() {
    const KEYS: usize = 1_000_000;
    let mut pair = Pair::with_keys(KEYS);
    println!("{KEYS} keys, an exchange every {EXCHANGE_MS} ms");
    let depth = pair.group(0).replica().tree().depth();
    println!("depth of the tree: {depth}");
    let mut rows = Vec::new();
    for differing in [10, 1_000, 100_000] {
        for with_tokens in [false, true] {
            rows.push(listed(&mut pair, KEYS, differing, with_tokens));
            pair.rest();
        }
        rows.push(walked(&mut pair, KEYS, differing));
        pair.rest();
    }
    rows.iter().for_each(Row::print);
    for row in &rows {
        assert!(row.cost.round_trips() <= row.round_trips_max, "{row:?}");
        if row.name == "walked" {
            assert!((1..=row.bytes_max).contains(&row.cost.walked_bytes), "{row:?}");
        } else if row.differing > 100 {
            assert!(row.overhead() <= row.bytes_max, "{row:?}");
        }
    }
}
