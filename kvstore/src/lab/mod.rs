//! Faults that this server does to itself, when the lab asks for them. Only in builds with the feature
//! `lab`, which is never a default.
//!
//! The lab names a file in the environment (`KVLAB_FAULTS`). It is read again and again; what it says
//! is in force until it says something else. How often each fault had an effect is written beside it,
//! as `FILE.counts`.
//!
//! - [`instructions`]: the file. `disk`: a disk that fails. `messages`: messages between nodes that are
//!   lost, doubled or late.
//! - [`mutant`]: bugs that the lab plants to see whether it finds them, one at most, named in the
//!   environment (`KVLAB_MUTANT`). They are planted in `disk`, in `messages`, in what a node hears from
//!   its peers (`hearing`), and between clients and the node (`requests`).
//!
//! A build that can break its promises must not meet data that somebody needs: it serves only data
//! directories that such a build began ([`guard`]).

pub mod instructions;
pub mod mutant;

mod disk;
mod hearing;
mod messages;
mod requests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use storage::disk::{Disk, RealDisk};

pub use self::hearing::hear;
pub use self::instructions::Instructions;
use self::instructions::{Counts, Current};
pub use self::messages::Messages;
pub use self::mutant::Mutant;
pub use self::requests::ask;

/// The variable that names the file of instructions.
pub const VARIABLE: &str = "KVLAB_FAULTS";

/// The file that says that a data directory is the lab's.
const MARK: &str = "lab-build";

/// How often the file of instructions is read.
const EVERY: Duration = Duration::from_millis(50);

/// What is in force in this process, from the first use on.
fn current() -> &'static Arc<Current> {
    static CURRENT: OnceLock<Arc<Current>> = OnceLock::new();
    CURRENT.get_or_init(|| {
        let current = Arc::new(Current::new(mutant::planted()));
        if let Some(path) = std::env::var_os(VARIABLE) {
            follow(PathBuf::from(path), Arc::clone(&current));
        }
        current
    })
}

/// Reads the file now, and again and again from a thread of its own.
fn follow(path: PathBuf, current: Arc<Current>) {
    current.set(Instructions::read(&path));
    let thread = move || {
        let mut told = Counts::default();
        loop {
            std::thread::sleep(EVERY);
            current.set(Instructions::read(&path));
            let counts = current.counts();
            if counts != told {
                // If the lab cannot read it, it cannot tell what had an effect; nothing else is lost.
                let _ = std::fs::write(path.with_extension("counts"), counts.to_text());
                told = counts;
            }
        }
    };
    let started = std::thread::Builder::new().name("lab-faults".to_owned()).spawn(thread);
    if let Err(error) = started {
        tracing::error!(%error, "the lab's faults are not followed");
    }
}

/// The disk of this process.
#[must_use]
pub fn disk() -> Arc<dyn Disk> {
    Arc::new(disk::LabDisk::new(Arc::new(RealDisk), Arc::clone(current())))
}

/// Refuses a data directory with data of a build without the feature, and a bug that nobody knows. Says
/// which one is planted.
///
/// # Errors
/// `PermissionDenied` for such a directory, `InvalidInput` for such a bug, and what the system reports.
pub fn guard(data_dir: &Path) -> io::Result<()> {
    if let Some(mutant) = mutant::asked()? {
        tracing::error!(%mutant, "a bug is planted in this server; it will break its promises");
    }
    let mark = data_dir.join(MARK);
    if mark.exists() {
        return Ok(());
    }
    let holds_data = data_dir.is_dir() && std::fs::read_dir(data_dir)?.next().is_some();
    if holds_data {
        let why = "it was not begun by a build with the feature `lab`, which serves no other data";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    std::fs::create_dir_all(data_dir)?;
    std::fs::write(mark, "begun by a build with the feature lab\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_labs_own_directories_are_served() {
        let dir = tempfile::tempdir().unwrap();
        let fresh = dir.path().join("fresh");
        guard(&fresh).unwrap();
        std::fs::write(fresh.join("identity"), "x").unwrap();
        guard(&fresh).unwrap();
        let other = dir.path().join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("identity"), "x").unwrap();
        assert_eq!(guard(&other).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
