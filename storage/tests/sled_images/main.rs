//! What sled makes of the files that a power loss, a kill or a decaying medium leaves.
//!
//! A scripted load writes to a real store as checkpoints do ([`load`]). From copies of its files
//! images are made that a crash could leave, each is opened and read whole ([`verdict`]), and what
//! comes out is compared with what was written. An image may be refused, or show itself to be damaged
//! by the sums that the load keeps; what opens and agrees with its sums has to be exactly what was
//! flushed. No image may hang or end the process.

mod flips;
mod image;
mod load;
mod opening;
mod packs;
mod power_loss;
mod verdict;

use std::path::Path;

use tempfile::TempDir;

/// A directory in memory where the system has one: thousands of stores are synced in it.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}
