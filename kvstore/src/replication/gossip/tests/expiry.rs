//! Values that expire, and clocks that jump, drift and are wrong.

use gossip::group::{Counts, Group, TURN_MS};
use gossip::record::EntryKey;
use proto::KeyspaceId;

use super::*;

const SECOND: u64 = 1_000 / TICK_MS;
const HOUR_US: i64 = 3_600_000_000;

impl Bench {
    fn group(&mut self, node: u64) -> &Group {
        &self.one(node).replica.serving.as_ref().unwrap().group
    }

    fn counts(&mut self, node: u64) -> Counts {
        self.group(node).counts()
    }

    /// How many values each node has ended.
    fn expired(&mut self) -> [u64; 3] {
        [1, 2, 3].map(|node| self.counts(node).expired)
    }

    fn put_for(&mut self, node: u64, keyspace: u64, value: &str, ttl_ms: u64) {
        let options = EventualOptions { ttl_ms, ..EventualOptions::default() };
        let id = self.send(node, keyspace, put("k", value), options);
        self.answer(id).unwrap();
    }

    /// Whether anything lives of the key, shown or not.
    fn lives(&mut self, node: u64, keyspace: u64) -> bool {
        let key = EntryKey::new(KeyspaceId(keyspace), "k");
        let entry = self.group(node).entry(&key);
        entry.is_some_and(|entry| entry.live().next().is_some())
    }

    fn written_ms(&mut self, node: u64) -> u64 {
        let reply = self.get(node, SIBLINGS.1, "k").unwrap();
        reply.siblings.iter().map(|sibling| sibling.written_ms).max().unwrap()
    }

    fn now_ms(&self) -> u64 {
        START_US / 1_000 + self.ticks * TICK_MS
    }

    fn restart(&mut self, node: u64, start: u32, wall_us: u64) {
        let one = self.nodes.remove(&NodeId(node)).unwrap();
        self.nodes.insert(NodeId(node), one.restarted_at(NodeId(node), start, wall_us));
        let is_cut = self.cut.contains(&NodeId(node));
        self.cut(node, is_cut);
    }

    fn is_alarmed(&mut self, node: u64) -> bool {
        self.one(node).replica.clocks().unwrap().alarm
    }
}

#[test]
fn a_value_is_ended_once_by_the_node_that_took_it() {
    let mut bench = Bench::new();
    bench.pass(10 * SECOND);
    bench.put_for(2, SIBLINGS.0, "a", 2_000);
    bench.pass(SECOND);
    for node in 1..=NODES {
        assert_eq!(bench.values(node, "k"), ["a"], "at {node}");
        assert_eq!(bench.group(node).deadlines(), 1, "at {node}");
    }
    bench.pass(2 * SECOND);
    assert_eq!(bench.expired(), [0, 1, 0]);
    for node in 1..=NODES {
        assert!(!bench.lives(node, SIBLINGS.0), "at {node}");
        assert_eq!(bench.group(node).deadlines(), 0, "at {node}");
    }
    bench.pass(2 * TURN_MS / TICK_MS);
    assert_eq!(bench.expired(), [0, 1, 0]);
    assert_eq!(bench.counts(2).expired_for_others, 0);
}

#[test]
fn only_the_value_that_expired_ends() {
    let mut bench = Bench::new();
    bench.pass(10 * SECOND);
    bench.cut(3, true);
    bench.put_for(1, SIBLINGS.0, "short", 8_000);
    bench.put_for(3, SIBLINGS.0, "long", 0);
    bench.cut(3, false);
    bench.pass(6 * SECOND);
    assert_eq!(bench.values(2, "k"), ["long", "short"]);
    bench.pass(20 * SECOND);
    assert_eq!(bench.expired().iter().sum::<u64>(), 1);
    for node in 1..=NODES {
        assert_eq!(bench.values(node, "k"), ["long"], "at {node}");
        assert_eq!(bench.group(node).deadlines(), 0, "at {node}");
    }
}

/// The certificate takes the place of the value, so what had lost to the value stays lost.
#[test]
fn the_last_writer_has_won_also_after_its_value_expired() {
    let mut bench = Bench::new();
    bench.pass(10 * SECOND);
    bench.cut(3, true);
    bench.put_for(3, LWW.0, "early", 0);
    bench.pass(1);
    bench.put_for(1, LWW.0, "late", 20_000);
    bench.cut(3, false);
    bench.pass(10 * SECOND);
    assert_eq!(bench.get(3, LWW.1, "k").unwrap().item.unwrap().value, "late");
    bench.pass(30 * SECOND);
    for node in 1..=NODES {
        assert!(bench.get(node, LWW.1, "k").unwrap().siblings.is_empty(), "at {node}");
        assert!(!bench.lives(node, LWW.0), "at {node}");
    }
    assert_eq!(bench.expired(), [1, 0, 0]);
    bench.put_for(2, LWW.0, "again", 0);
    assert_eq!(bench.get(3, LWW.1, "k").unwrap().item.unwrap().value, "again");
}

/// Its disk has the deadline. The actor that took the value is a former one then.
#[test]
fn a_restart_between_deadline_and_certificate_forgets_nothing() {
    let mut bench = Bench::new();
    bench.pass(10 * SECOND);
    bench.put_for(1, SIBLINGS.0, "a", 2_000);
    bench.cut(1, true);
    bench.pass(5 * SECOND);
    assert_eq!(bench.expired(), [0, 0, 0], "it is cut off, and it is not the turn of the others");
    bench.restart(1, 1, START_US);
    bench.pass(5 * SECOND);
    assert_eq!(bench.expired(), [0, 0, 0]);
    assert!(bench.values(1, "k").is_empty(), "it is hidden all the same");
    bench.cut(1, false);
    bench.pass(10 * SECOND);
    assert_eq!(bench.expired(), [1, 0, 0]);
    assert_eq!(bench.counts(1).expired_for_others, 0);
    for node in 1..=NODES {
        assert!(!bench.lives(node, SIBLINGS.0), "at {node}");
    }
}

#[test]
fn the_lowest_member_in_contact_ends_what_the_taker_does_not() {
    let mut bench = Bench::new();
    bench.pass(10 * SECOND);
    bench.put_for(1, SIBLINGS.0, "a", 1_000);
    bench.cut(1, true);
    bench.pass(TURN_MS / TICK_MS);
    assert_eq!(bench.expired(), [0, 0, 0]);
    bench.pass(5 * SECOND);
    assert_eq!(bench.expired(), [0, 1, 0]);
    assert_eq!(bench.counts(2).expired_for_others, 1);
    bench.pass(3 * TURN_MS / TICK_MS);
    bench.cut(1, false);
    bench.pass(20 * SECOND);
    assert_eq!(bench.expired(), [0, 1, 0], "who comes back hears of it first");
    assert!(!bench.lives(1, SIBLINGS.0));
}

#[test]
fn a_node_that_is_cut_off_and_an_hour_fast_deletes_nothing() {
    let mut bench = Bench::new();
    bench.pass(10 * SECOND);
    bench.put_for(1, SIBLINGS.0, "a", 150_000);
    bench.put_for(3, LWW.0, "own", 150_000);
    bench.cut(3, true);
    let fast = Wrong { ahead_us: HOUR_US, ..Wrong::default() };
    bench.clocks.insert(NodeId(3), fast);
    bench.restart(3, 1, START_US + HOUR_US.unsigned_abs());
    bench.pass(100 * SECOND);
    assert!(bench.values(3, "k").is_empty(), "by its clock the time is over");
    assert!(bench.lives(3, SIBLINGS.0) && bench.lives(3, LWW.0));
    bench.cut(3, false);
    bench.pass(20 * SECOND);
    // In contact it knows that it is wrong, and goes by the others, which know it as well.
    assert!(bench.is_alarmed(3) && bench.is_alarmed(1));
    let correction = bench.group(3).correction_us();
    assert!((correction + HOUR_US).abs() < 1_000_000, "{correction}");
    for node in 1..=NODES {
        assert_eq!(bench.values(node, "k"), ["a"], "at {node}");
    }
    assert_eq!(bench.expired(), [0, 0, 0]);
    // Only the value's own node is wrong: the others end it, a minute late.
    bench.pass(35 * SECOND);
    assert_eq!(bench.expired(), [1, 0, 0]);
    bench.pass(TURN_MS / TICK_MS);
    assert_eq!(bench.expired(), [2, 0, 0]);
    assert!(!bench.lives(3, SIBLINGS.0) && !bench.lives(3, LWW.0));
}

/// Two of three: a majority is in contact, and its clocks do not agree.
#[test]
fn a_fast_node_with_one_other_ends_nothing_nor_does_that() {
    let mut bench = Bench::new();
    bench.put_for(1, SIBLINGS.0, "a", 300_000);
    bench.cut(2, true);
    let fast = Wrong { ahead_us: HOUR_US, ..Wrong::default() };
    bench.clocks.insert(NodeId(3), fast);
    bench.restart(3, 1, START_US + HOUR_US.unsigned_abs());
    bench.pass(200 * SECOND);
    assert_eq!(bench.expired(), [0, 0, 0]);
    assert!(bench.lives(1, SIBLINGS.0));
    assert_eq!(bench.group(1).correction_us(), 0, "nobody can say which of the two is wrong");
    bench.cut(2, false);
    bench.pass(20 * SECOND);
    assert_eq!(bench.values(3, "k"), ["a"]);
}

#[test]
fn a_wall_clock_that_jumps_does_not_show() {
    let mut bench = Bench::new();
    bench.pass(10 * SECOND);
    bench.put_for(2, SIBLINGS.0, "a", 200_000);
    for ahead_us in [HOUR_US, -HOUR_US, 20 * HOUR_US] {
        bench.clocks.insert(NodeId(2), Wrong { ahead_us, ..Wrong::default() });
        bench.pass(20 * SECOND);
        assert!(bench.is_alarmed(2) && !bench.is_alarmed(1));
        assert_eq!(bench.values(2, "k"), ["a"]);
        bench.put_for(2, SIBLINGS.0, "a", 200_000);
        let apart = bench.written_ms(1).abs_diff(bench.now_ms());
        assert!(apart < 100, "stamped {apart} ms off");
        assert_eq!(bench.counts(1).ahead, 0);
    }
    assert_eq!(bench.expired(), [0, 0, 0]);
}

#[test]
fn a_clock_that_drifts_is_led_back_by_the_others() {
    let mut bench = Bench::new();
    bench.clocks.insert(NodeId(2), Wrong { drift: 5_000, ..Wrong::default() });
    bench.pass(200 * SECOND);
    // A second off by now, in its own eyes.
    bench.put_for(2, SIBLINGS.0, "a", 1_000);
    let apart = bench.written_ms(1).abs_diff(bench.now_ms());
    assert!(apart < 100, "stamped {apart} ms off");
    assert_eq!(bench.counts(1).ahead, 0);
    let correction = bench.group(2).correction_us();
    assert!((-1_100_000..-900_000).contains(&correction), "{correction}");
    let peers = bench.one(1).replica.clocks().unwrap().peers;
    assert_eq!(peers.len(), 2);
    assert!((900_000..1_100_000).contains(&peers[0].estimate.offset), "{peers:?}");
    bench.pass(TURN_MS / TICK_MS);
    assert_eq!(bench.expired(), [0, 0, 0], "whose clock is off ends nothing");
    bench.pass(5 * SECOND);
    assert_eq!(bench.expired(), [1, 0, 0]);
}

/// What a fast node wrote while it was alone is stored as it is, and leads nobody's clock astray.
#[test]
fn a_stamp_far_ahead_is_stored_counted_and_not_followed() {
    let mut bench = Bench::new();
    bench.pass(1);
    bench.cut(3, true);
    let fast = Wrong { ahead_us: HOUR_US, ..Wrong::default() };
    bench.clocks.insert(NodeId(3), fast);
    bench.restart(3, 1, START_US + HOUR_US.unsigned_abs());
    bench.pass(SECOND);
    bench.put_for(3, SIBLINGS.0, "ahead", 0);
    bench.cut(3, false);
    bench.pass(10 * SECOND);
    for node in [1, 2] {
        assert_eq!(bench.values(node, "k"), ["ahead"], "at {node}");
        assert_eq!(bench.counts(node).ahead, 1, "at {node}, however often it came");
        assert!(bench.is_alarmed(node), "at {node}");
        assert!(bench.group(node).now().ms() < bench.now_ms() + 1_000);
    }
    bench.pass(70 * SECOND);
    assert!(bench.is_alarmed(1), "its clock is an hour off still");
    bench.cut(3, true);
    bench.pass(2 * SECOND);
    assert!(!bench.is_alarmed(1), "the stamp is long ago");
    bench.cut(3, false);
    let id = bench.send(1, SIBLINGS.0, delete("k"), EventualOptions::default());
    bench.answer(id).unwrap();
    bench.put_for(1, SIBLINGS.0, "other", 0);
    assert_eq!(bench.values(3, "k"), ["other"]);
}

#[test]
fn many_values_end_some_at_a_time() {
    let mut bench = Bench::new();
    bench.pass(10 * SECOND);
    let count = 3 * gossip::group::EXPIRED_MAX as u64 / 2;
    for number in 0..count {
        let options = EventualOptions { ttl_ms: 1_000, ..EventualOptions::default() };
        let id = bench.send(1, SIBLINGS.0, put(&format!("k{number}"), "v"), options);
        bench.answer(id).unwrap();
    }
    bench.pass(SECOND - 1);
    assert_eq!(bench.counts(1).expired, 0);
    bench.pass(1);
    assert_eq!(bench.counts(1).expired, gossip::group::EXPIRED_MAX as u64);
    bench.pass(2);
    assert_eq!(bench.counts(1).expired, count);
}

#[test]
fn a_write_id_that_went_is_no_new_write() {
    let mut bench = Bench::new();
    let first = bench.send_as(77, 1, SIBLINGS.0, put("k", "a"), EventualOptions::default());
    bench.answer(first).unwrap();
    bench.pass(super::super::write_ids::KEPT_TICKS + 1);
    let again = bench.send_as(77, 1, SIBLINGS.0, put("k", "a"), EventualOptions::default());
    let Answered::Write { outcome, .. } = bench.answer(again).unwrap() else { panic!() };
    assert!(outcome.replayed, "nothing has taken its place yet");
    let second = bench.send_as(78, 1, SIBLINGS.0, put("k", "b"), EventualOptions::default());
    bench.answer(second).unwrap();
    for restarts in [false, true] {
        if restarts {
            bench.restart(1, 1, START_US);
        }
        let again = bench.send_as(77, 1, SIBLINGS.0, put("k", "a"), EventualOptions::default());
        let reply = bench.answer(again);
        assert_eq!(refusal(reply), (Code::OutcomeForgotten, Some(Applied::Unknown)));
        assert_eq!(bench.values(2, "k"), ["b"]);
    }
    let next = bench.send_as(79, 1, SIBLINGS.0, put("k", "c"), EventualOptions::default());
    bench.answer(next).unwrap();
    assert_eq!(bench.values(2, "k"), ["c"]);
}
