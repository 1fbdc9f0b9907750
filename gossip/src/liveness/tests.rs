//! Liveness under simulated time, with loss and partitions.

use std::collections::BTreeSet;

use bytes::Bytes;
use proto::NodeId;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const STEP_MS: u64 = 50;

/// From which time a cluster without faults has to agree.
const JOINED_MS: u64 = 10_000;

/// A probe of each of up to four others, the time to refute, and the word of it; with a half more.
const DETECTED_MS: u64 = 15_000;

/// Nodes with a network that delays, loses and splits.
struct World {
    rng: ChaCha8Rng,
    now_ms: u64,
    nodes: Vec<Option<Swim>>,
    /// On their way: when they arrive, from whom, to whom.
    packets: Vec<(u64, usize, usize, Bytes)>,
    /// Pairs that hear nothing of each other, lower first.
    cut: BTreeSet<(usize, usize)>,
    lost_percent: u32,
    /// Who said of whom that it is down.
    downs: Vec<(usize, NodeId)>,
    sent_bytes: usize,
}

fn id(at: usize) -> NodeId {
    NodeId(at as u64 + 1)
}

impl World {
    fn new(seed: u64, size: usize) -> Self {
        let mut world = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now_ms: 0,
            nodes: (0..size).map(|_| None).collect(),
            packets: Vec::new(),
            cut: BTreeSet::new(),
            lost_percent: 0,
            downs: Vec::new(),
            sent_bytes: 0,
        };
        for at in 0..size {
            world.start(at, 1_000);
        }
        world
    }

    fn start(&mut self, at: usize, incarnation: u64) {
        let mut swim = Swim::new(id(at), incarnation, self.rng.random());
        let others = (0..self.nodes.len()).filter(|other| *other != at).map(id);
        swim.set_members(&others.collect());
        swim.on_time(self.now_ms);
        self.nodes[at] = Some(swim);
    }

    fn node(&self, at: usize) -> &Swim {
        self.nodes[at].as_ref().unwrap()
    }

    fn cut(&mut self, one: usize, other: usize) {
        self.cut.insert((one.min(other), one.max(other)));
    }

    fn run_ms(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += STEP_MS;
            let now_ms = self.now_ms;
            let due = |packet: &(u64, usize, usize, Bytes)| packet.0 <= now_ms;
            let (due, later): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.packets).into_iter().partition(due);
            self.packets = later;
            for (_, from, to, packet) in due {
                if let Some(node) = &mut self.nodes[to] {
                    node.on_packet(id(from), &packet);
                }
            }
            for at in 0..self.nodes.len() {
                let Some(node) = &mut self.nodes[at] else { continue };
                node.on_time(now_ms);
                let output = node.poll();
                self.downs.extend(output.downs.into_iter().map(|node| (at, node)));
                for (to, packet) in output.sends {
                    self.sent_bytes += packet.len();
                    self.send(at, to.get() as usize - 1, packet);
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, packet: Bytes) {
        let is_cut = self.cut.contains(&(from.min(to), from.max(to)));
        let is_lost = self.rng.random_range(0..100) < self.lost_percent;
        if !is_cut && !is_lost {
            let delay_ms = self.rng.random_range(0..3) * STEP_MS;
            self.packets.push((self.now_ms + delay_ms, from, to, packet));
        }
    }

    /// What each node that runs says of each other one, and what it should.
    fn assert_all(&self, expected: impl Fn(usize, usize) -> Vitality) {
        for at in (0..self.nodes.len()).filter(|at| self.nodes[*at].is_some()) {
            for of in (0..self.nodes.len()).filter(|of| *of != at) {
                let found = self.node(at).vitality(id(of));
                assert_eq!(found, expected(at, of), "{of} at {at}, {} ms", self.now_ms);
            }
        }
    }
}

#[test]
fn a_node_that_dies_is_found_and_one_that_comes_back_too() {
    for seed in 0..20 {
        let mut world = World::new(seed, 5);
        world.run_ms(JOINED_MS);
        world.assert_all(|_, _| Vitality::Up);
        world.nodes[3] = None;
        world.run_ms(DETECTED_MS);
        world.assert_all(|_, of| if of == 3 { Vitality::Down } else { Vitality::Up });
        let found = world.downs.iter().filter(|(_, node)| *node == id(3));
        assert_eq!(found.count(), 4, "everybody says so once");
        world.start(3, 60_000);
        world.run_ms(JOINED_MS);
        world.assert_all(|_, _| Vitality::Up);
    }
}

/// Its clock was set back, by minutes and by a year: it has to overtake what it was before.
#[test]
fn a_node_with_a_lower_incarnation_comes_back_as_well() {
    const YEAR_MS: u64 = 365 * 24 * 3_600_000;
    for (before, after) in [(10_000_000, 9_000_000), (57 * YEAR_MS, 56 * YEAR_MS)] {
        let mut world = World::new(30, 3);
        world.start(2, before);
        world.run_ms(JOINED_MS);
        world.nodes[2] = None;
        world.run_ms(DETECTED_MS);
        world.start(2, after);
        world.run_ms(60_000);
        world.assert_all(|_, _| Vitality::Up);
    }
}

/// One packet in ten gets lost: those who are up may be suspected, and are hardly ever taken for dead; afterwards
/// nobody is.
#[test]
fn loss_makes_few_wrong_and_no_lasting_verdicts() {
    let mut wrong = 0;
    for seed in 100..110 {
        let mut world = World::new(seed, 5);
        world.lost_percent = 10;
        world.run_ms(300_000);
        wrong += world.downs.len();
        world.lost_percent = 0;
        world.run_ms(2 * DETECTED_MS);
        world.assert_all(|_, _| Vitality::Up);
    }
    // Ten times five minutes of five nodes: 15,000 probes.
    assert!(wrong <= 20, "{wrong} wrong verdicts");
}

#[test]
fn both_sides_of_a_partition_say_so_and_find_each_other_again() {
    for seed in 200..210 {
        let mut world = World::new(seed, 5);
        world.run_ms(JOINED_MS);
        for one in 0..2 {
            for other in 2..5 {
                world.cut(one, other);
            }
        }
        world.run_ms(2 * DETECTED_MS);
        world.assert_all(|at, of| if (at < 2) == (of < 2) { Vitality::Up } else { Vitality::Down });
        world.cut.clear();
        world.run_ms(2 * ANNOUNCE_MS + JOINED_MS);
        world.assert_all(|_, _| Vitality::Up);
    }
}

/// One broken link is no dead node: others reach it.
#[test]
fn a_node_that_others_reach_is_not_taken_for_dead() {
    for seed in 300..310 {
        let mut world = World::new(seed, 5);
        world.run_ms(JOINED_MS);
        world.cut(0, 1);
        world.run_ms(120_000);
        assert_eq!(world.downs, [], "seed {seed}");
    }
}

#[test]
fn an_error_and_a_panic_inside_end_with_a_new_instance() {
    let mut world = World::new(400, 3);
    world.run_ms(JOINED_MS);
    for by_panic in [false, true] {
        let node = world.nodes[0].as_mut().unwrap();
        node.fail(by_panic);
        assert_eq!(node.counts().rebuilt, 1 + u64::from(by_panic));
        assert_eq!(node.vitality(id(1)), Vitality::Unknown);
        world.run_ms(JOINED_MS);
        world.assert_all(|_, _| Vitality::Up);
    }
}

#[test]
fn strange_packets_are_counted_and_change_nothing() {
    let mut world = World::new(500, 3);
    world.run_ms(JOINED_MS);
    let mut other = Swim::new(id(1), 5_000_000, [9; 32]);
    other.set_members(&[id(0)].into());
    other.on_time(0);
    let (_, packet) = other.poll().sends.pop().unwrap();
    let node = world.nodes[0].as_mut().unwrap();
    // Another one than it says, no member, cut, too long.
    node.on_packet(id(2), &packet);
    node.on_packet(NodeId(77), &packet);
    node.on_packet(id(1), &packet[..packet.len() - 1]);
    node.on_packet(id(1), b"");
    let padded = [&packet[..], &vec![0; 1_401 - packet.len()]].concat();
    node.on_packet(id(1), &padded);
    assert_eq!(node.counts(), LivenessCounts { malformed: 4, rebuilt: 0 });
    world.assert_all(|_, _| Vitality::Up);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let node = world.nodes[0].as_mut().unwrap();
    for _ in 0..2_000 {
        let mut bytes: Vec<u8> = packet.to_vec();
        for _ in 0..rng.random_range(1..8) {
            let at = rng.random_range(17..bytes.len());
            bytes[at] = rng.random();
        }
        node.on_packet(id(1), &bytes);
    }
    assert_eq!(node.counts().rebuilt, 0);
}

/// Nobody but members is asked, listened to or spoken of.
#[test]
fn who_left_is_left_alone() {
    let mut world = World::new(600, 4);
    world.run_ms(JOINED_MS);
    for at in 0..3 {
        let others: BTreeSet<NodeId> = (0..3).filter(|other| *other != at).map(id).collect();
        world.nodes[at].as_mut().unwrap().set_members(&others);
    }
    world.packets.clear();
    world.run_ms(DETECTED_MS);
    for at in 0..3 {
        let node = world.nodes[at].as_mut().unwrap();
        node.on_time(world.now_ms + ANNOUNCE_MS);
        assert!(node.poll().sends.iter().all(|(to, _)| *to != id(3)));
    }
}

/// Two runs of a seed are the same, and twenty minutes leave nothing behind.
#[test]
fn runs_are_repeatable_and_bounded() {
    let run = || {
        let mut world = World::new(700, 5);
        world.lost_percent = 5;
        world.run_ms(1_200_000);
        let timers = (0..5).map(|at| world.node(at).timers()).max().unwrap();
        (world.downs.clone(), world.sent_bytes, timers)
    };
    let (downs, bytes, timers) = run();
    assert_eq!(run(), (downs, bytes, timers));
    assert!(timers < 100, "{timers} timers");
    // Of each of five nodes, with what was suspected and refuted all the time.
    assert!(bytes / 5 / 1_200 < 4_000, "{bytes} bytes");
}
