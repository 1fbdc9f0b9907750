//! What a node does between its start and being ready.

use super::*;

/// Bytes that stay in the layer of a node that applies its log after a crash.
const LEFT: usize = 24 * VALUE_BYTES;

/// A node that begins its checkpoints at so many bytes, after a crash of one that had made none. It is
/// not asked to lead.
fn crashed_and_started(checkpoint_layer_bytes: usize) -> Alone {
    let disk = SimDisk::new();
    let mut alone =
        Alone::new(opened_with(&disk, |config| config.checkpoint_layer_bytes = BOUND as usize));
    while alone.node.machine().layer_bytes() < LEFT {
        alone.grow();
    }
    drop(alone);
    let with = |config: &mut NodeConfig| config.checkpoint_layer_bytes = checkpoint_layer_bytes;
    let mut again = Alone::silent(opened_with(&disk, with));
    for _ in 0..20 {
        again.poll();
    }
    assert!(!again.node.ready());
    again
}

#[test]
fn a_checkpoint_waits_until_the_node_is_ready() {
    let mut alone = crashed_and_started(LEFT * 2 / 3);
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
    let alone = crashed_and_started(LEFT / 4);
    assert!(alone.node.machine().layer_bytes() < LEFT / 4, "a checkpoint was made");
}
