//! Prints what the hash tree costs a put: the item of the new value added, that of the old one removed.
//!
//! ```text
//! cargo run --release -p gossip --example tree_cost
//! ```

use std::time::Instant;

use gossip::record::EntryKey;
use gossip::tree::{Tree, TreeKey};
use gossip::{ActorId, Dot};
use proto::KeyspaceId;

/// Keys in the tree.
const KEYS: usize = 1_000_000;

/// Puts that are timed, in each of some rounds.
const PUTS: usize = 200_000;
const ROUNDS: u64 = 5;

fn main() {
    let hash = TreeKey::new(&[7; 32]);
    let actor = ActorId::from_bytes([1; 16]);
    let keys: Vec<EntryKey> = (0..KEYS)
        .map(|number| EntryKey::new(KeyspaceId(1), format!("user/{number:012}")))
        .collect();
    let mut tree = Tree::for_keys(KEYS);
    for key in &keys {
        let at = hash.hash(key);
        tree.add(at.place, at.item(Dot::new(actor, 1)));
    }
    // A stride that is prime to the number of keys, so that puts are far apart.
    let key = |put: usize| &keys[put * 7_919 % KEYS];
    let hashes = best_of(|_| {
        let items = (0..PUTS).map(|put| hash.hash(key(put)).item(Dot::new(actor, 1)));
        std::hint::black_box(items.fold(0, u128::wrapping_add));
    });
    let puts = best_of(|round| {
        for put in 0..PUTS {
            let at = hash.hash(key(put));
            tree.remove(at.place, at.item(Dot::new(actor, round + 1)));
            tree.add(at.place, at.item(Dot::new(actor, round + 2)));
        }
    });
    println!("{KEYS} keys, depth {}: {hashes:.0} ns for hash and item", tree.depth());
    println!("{puts:.0} ns a put: one item removed, one added");
}

/// Nanoseconds for each of the puts, in the best round.
fn best_of(mut round: impl FnMut(u64)) -> f64 {
    let mut best = f64::MAX;
    for number in 0..ROUNDS {
        let start = Instant::now();
        round(number);
        best = best.min(start.elapsed().as_secs_f64());
    }
    best * 1e9 / PUTS as f64
}
