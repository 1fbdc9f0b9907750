//! A script of 500 writes with checkpoints, compactions, exports and the install of a snapshot, cut at
//! the operations of a disk; see `sim/scripted.rs`.

use tests::sim::{Cut, Script};

/// Images of one cut in the default run.
const IMAGES_MAX: usize = 24;
/// In the default run every so many operations are a cut; `make power-loss` takes all.
const STRIDE: u64 = 5;

fn sweep(host: usize, stride: u64, images_max: usize) {
    let reference = Script::run(None).reference();
    let operations = reference.operations[host];
    let (mut cuts, mut images) = (0, 0);
    for at in (0..operations).step_by(stride as usize) {
        let script = Script::run(Some(Cut { host, at }));
        images += script.check(&reference, images_max).unwrap_or_else(|why| panic!("{why}"));
        cuts += 1;
    }
    println!("host {host}: {cuts} of {operations} operations cut, {images} images booted");
    assert!(images > cuts, "power loss leaves more than one image: {images} of {cuts} cuts");
}

#[test]
fn b01_b02_b19_b26_b39_a_leader_cut_anywhere_boots_with_all_it_promised() {
    sweep(0, STRIDE, IMAGES_MAX);
}

#[test]
fn b11_b19_b38_b39_a_follower_cut_anywhere_while_it_installs_boots_with_all_it_promised() {
    sweep(2, STRIDE, IMAGES_MAX);
}

/// `make power-loss`: every operation, all subsets of up to ten units, pairs and 64 random ones beyond.
#[test]
#[ignore = "minutes; make power-loss"]
fn every_operation_of_every_machine() {
    for host in 0..3 {
        sweep(host, 1, usize::MAX);
    }
}
