//! What a node does between its start and being ready.

use super::*;

/// Bytes that stay in the layer of a node that applies its log after a crash.
const LEFT: usize = 24 * VALUE_BYTES;

/// A node that is configured like this, after a crash of one that had made no checkpoint. It is not asked
/// to lead.
fn crashed_and_started(configure: impl FnOnce(&mut NodeConfig)) -> Alone {
    let disk = SimDisk::new();
    let mut alone =
        Alone::new(opened_with(&disk, |config| config.checkpoint_layer_bytes = BOUND as usize));
    while alone.node.machine().layer_bytes() < LEFT {
        alone.grow();
    }
    drop(alone);
    let mut again = Alone::silent(opened_with(&disk, configure));
    for _ in 0..20 {
        again.poll();
    }
    assert!(!again.node.ready());
    again
}

#[test]
fn a_checkpoint_waits_until_the_node_is_ready() {
    let mut alone = crashed_and_started(|config| config.checkpoint_layer_bytes = LEFT * 2 / 3);
    assert!(alone.node.machine().layer_bytes() >= LEFT * 2 / 3, "no checkpoint was made");
    alone.silent = false;
    alone.node.step(Input::Campaign);
    for _ in 0..20 {
        alone.poll();
    }
    assert!(alone.node.ready());
    assert!(alone.node.machine().layer_bytes() < LEFT / 2, "a checkpoint was made");
}

#[test]
fn a_node_that_does_not_become_ready_makes_a_checkpoint_before_it_runs_out_of_memory() {
    let alone = crashed_and_started(|config| config.checkpoint_layer_bytes = LEFT / 4);
    assert!(alone.node.machine().layer_bytes() < LEFT / 4, "a checkpoint was made");
}

/// A layer of three times its bound takes no entries; as long as two checkpoints it never becomes here.
#[test]
fn a_node_with_a_low_bound_of_the_layer_makes_a_checkpoint_before_it_takes_no_entries() {
    let mut alone = crashed_and_started(|config| {
        config.checkpoint_layer_bytes = LEFT;
        config.bounds.layer_bytes = LEFT / 2;
    });
    assert!(alone.node.machine().layer_bytes() < LEFT / 2, "a checkpoint was made");
    alone.holds = true;
    alone.pass(1);
    assert!(!alone.node.ready());
    assert!(alone.node.takes_entries(GroupId::DATA));
}

/// A round of exports begins with a checkpoint.
#[test]
fn an_export_waits_until_the_node_is_ready() {
    const LIMIT: u64 = LEFT as u64 / 2;
    let mut alone = crashed_and_started(|config| {
        config.checkpoint_layer_bytes = LEFT * 2 / 3;
        config.export_log_bytes = LIMIT / 2;
        config.log_bytes = LEFT as u64;
    });
    assert!(alone.node.exports.log_bytes() > LIMIT, "an export is due");
    // It votes for itself, and that is not durable.
    alone.holds = true;
    alone.pass(100);
    assert!(!alone.node.ready());
    assert!(alone.node.machine().layer_bytes() >= LEFT * 2 / 3, "no checkpoint was made");
    assert_eq!((alone.exporting.len(), alone.finished), (0, 0), "no round has begun");
    alone.holds = false;
    for ticket in std::mem::take(&mut alone.held) {
        alone.node.step(Input::WalDurable(ticket));
    }
    alone.pass(100);
    assert!(alone.node.ready());
    assert!(alone.finished > 0, "it was written");
}

/// A batch of the log that was cut between entries and the term in which they came kept the node from
/// starting.
#[test]
fn a_log_that_ends_between_entries_and_their_term_starts() {
    let disk = SimDisk::new();
    let (_, mut wal, _) = opened(&disk);
    let entry = log::Entry { index: 1, term: 7, ..log::Entry::default() };
    let entries = Some(FrameBody::Entries(log::Entries { entries: vec![entry] }));
    wal.append(&[log::Frame { group: GroupId::DATA.get(), body: entries }]);
    wal.sync().unwrap();
    drop(wal);
    let alone = Alone::new(opened(&disk));
    assert!(alone.node.summary().term > 7, "{:?}", alone.node.summary());
}
