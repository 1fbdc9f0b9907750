//! The directories below `state/`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use proto::GroupId;
use storage::disk::DIR_MODE;
use storage::state::{MemoryStore, SledStore, StateError, StateStore};

/// Name of a directory that the group has not used, where `current` is the one it uses now. Group 0, which
/// lives in memory, has none.
pub(crate) fn next_state_dir(group: GroupId, current: &str) -> String {
    if group == GroupId::META {
        return String::new();
    }
    let number = current.rsplit('-').next().and_then(|number| number.parse().ok());
    format!("{group}-{}", number.unwrap_or(0_u64) + 1)
}

/// Names of state directories for what is built while a node runs.
///
/// A snapshot may be built while the store is being renewed, and a directory that is of no use is removed
/// some time after it was given up. So within a start no name is given out twice; what an earlier start
/// has left, this one has removed.
#[derive(Debug)]
pub(crate) struct StateNames {
    /// By group, the name that was given out last, or the one that it begins with.
    last: BTreeMap<GroupId, String>,
}

impl StateNames {
    /// Names for groups whose states lie in these directories.
    pub(crate) fn after(current: impl IntoIterator<Item = (GroupId, String)>) -> Self {
        Self { last: current.into_iter().collect() }
    }

    /// A name that was not given out before. Group 0, which lives in memory, has none.
    pub(crate) fn next(&mut self, group: GroupId) -> String {
        let last = self.last.entry(group).or_default();
        *last = next_state_dir(group, last);
        last.clone()
    }
}

/// Makes, opens and removes state stores by name. A store is a cache, so nothing here has to survive
/// a crash; what is left of a removal is removed by the next start.
pub trait StateDirs: Send + Sync + fmt::Debug {
    /// Opens the store of this name, empty when there is none.
    ///
    /// # Errors
    /// Those of the store; it is then of no use.
    fn open(&self, name: &str) -> Result<Arc<dyn StateStore>, StateError>;

    /// Keeps a store that is of no use under another name, for inspection. One of each group is kept.
    ///
    /// # Errors
    /// What the system reports.
    fn set_aside(&self, name: &str) -> io::Result<()>;

    /// Makes the next start refuse to open this store, durably: it has failed.
    ///
    /// # Errors
    /// What the system reports.
    fn mark_suspect(&self, name: &str) -> io::Result<()>;

    /// Removes a store; fine when there is none.
    ///
    /// # Errors
    /// What the system reports.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Names of all stores, those set aside left out.
    ///
    /// # Errors
    /// What the system reports.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Bytes that may still be written where the stores are.
    ///
    /// # Errors
    /// What the system reports.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// What the name of a store ends in that is kept for inspection.
const ASIDE: &str = "damaged";

/// Stores of sled, one directory each.
#[derive(Debug)]
pub struct SledDirs {
    root: PathBuf,
}

impl SledDirs {
    /// The directories below `data_dir/state`.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { root: data_dir.join("state") }
    }

    fn mark(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.suspect"))
    }

    fn aside(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.{ASIDE}"))
    }

    /// The names of everything there is; nothing where there is no directory.
    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is no UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }
}

impl StateDirs for SledDirs {
    fn open(&self, name: &str) -> Result<Arc<dyn StateStore>, StateError> {
        let dir = self.root.join(name);
        if self.mark(name).exists() {
            return Err(StateError::Damaged { why: "its last checkpoint failed".to_owned() });
        }
        // What lives here is as private as the rest of the data directory.
        DirBuilder::new()
            .recursive(true)
            .mode(DIR_MODE)
            .create(&dir)
            .map_err(|source| StateError::Io { path: dir.clone(), source })?;
        Ok(Arc::new(SledStore::open(&dir)?))
    }

    fn set_aside(&self, name: &str) -> io::Result<()> {
        let (dir, aside) = (self.root.join(name), self.aside(name));
        for older in self.names()? {
            let same_group = older.split('-').next() == name.split('-').next();
            if same_group && older.rsplit('.').next() == Some(ASIDE) {
                absent_is_fine(std::fs::remove_dir_all(self.root.join(older)))?;
            }
        }
        absent_is_fine(std::fs::rename(dir, aside))?;
        absent_is_fine(std::fs::remove_file(self.mark(name)))
    }

    fn mark_suspect(&self, name: &str) -> io::Result<()> {
        std::fs::File::create(self.mark(name))?.sync_all()?;
        std::fs::File::open(&self.root)?.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        absent_is_fine(std::fs::remove_file(self.mark(name)))?;
        absent_is_fine(std::fs::remove_dir_all(self.root.join(name)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.names()?;
        names.retain(|name| !name.contains('.'));
        names.sort();
        Ok(names)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let system = rustix::fs::statvfs(&self.root)?;
        Ok(system.f_bavail.saturating_mul(system.f_frsize))
    }
}

/// Stores in memory, for tests and the simulator. They belong to a machine, not to a process: clones
/// share them, and they outlive a node.
#[derive(Clone, Debug, Default)]
pub struct MemoryDirs {
    stores: Arc<Mutex<BTreeMap<String, MemoryStore>>>,
    /// There is no room for more.
    full: Arc<AtomicBool>,
}

impl MemoryDirs {
    /// Takes the room for more, or gives it back.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Release);
    }

    /// Whatever was not flushed may be gone, in any part, as after a loss of power.
    pub fn crash(&self, rng: &mut impl rand::Rng) {
        for store in self.stores().values() {
            store.crash(rng);
        }
    }

    /// A copy that goes its own way from here on.
    #[must_use]
    pub fn fork(&self) -> Self {
        let stores = self.stores();
        let copies = stores.iter().map(|(name, store)| (name.clone(), store.fork()));
        let full = AtomicBool::new(self.full.load(Ordering::Acquire));
        Self { stores: Arc::new(Mutex::new(copies.collect())), full: Arc::new(full) }
    }

    /// Removes everything, as an operator who deletes `state/`.
    pub fn clear(&self) {
        self.stores().clear();
    }

    fn stores(&self) -> MutexGuard<'_, BTreeMap<String, MemoryStore>> {
        self.stores.lock().expect("nobody panics while holding it")
    }
}

impl StateDirs for MemoryDirs {
    fn open(&self, name: &str) -> Result<Arc<dyn StateStore>, StateError> {
        Ok(Arc::new(self.stores().entry(name.to_owned()).or_default().clone()))
    }

    fn set_aside(&self, name: &str) -> io::Result<()> {
        self.remove(name)
    }

    fn mark_suspect(&self, name: &str) -> io::Result<()> {
        self.remove(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.stores().remove(name);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.stores().keys().cloned().collect())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(if self.full.load(Ordering::Acquire) { 0 } else { u64::MAX })
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_stores_of_a_group_that_were_set_aside_the_last_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let states = SledDirs::new(dir.path());
        states.set_aside("1-0").unwrap();
        for name in ["1-1", "2-0", "1-2"] {
            std::fs::create_dir_all(states.root.join(name)).unwrap();
            states.set_aside(name).unwrap();
        }
        let mut names = states.names().unwrap();
        names.sort();
        assert_eq!(
            (names, states.list().unwrap()),
            (vec!["1-2.damaged".to_owned(), "2-0.damaged".to_owned()], vec![],)
        );
    }

    #[test]
    fn the_room_is_that_of_the_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let states = SledDirs::new(dir.path());
        assert!(states.free_bytes().is_err(), "there is no directory yet");
        states.open("1-0").unwrap();
        assert!((1..u64::MAX).contains(&states.free_bytes().unwrap()));
    }

    #[test]
    fn a_fork_in_memory_has_the_room_of_its_origin_and_goes_its_own_way() {
        let states = MemoryDirs::default();
        states.set_full(true);
        let fork = states.fork();
        assert_eq!(fork.free_bytes().unwrap(), 0);
        fork.set_full(false);
        assert_eq!(states.free_bytes().unwrap(), 0, "the fork's room is its own");
        assert!(fork.free_bytes().unwrap() > 0);
    }

    #[test]
    fn no_name_is_given_out_twice() {
        let (data, own) = (GroupId::DATA, GroupId::EVENTUAL);
        let mut names = StateNames::after([(data, "1-7".to_owned()), (own, "2-0".to_owned())]);
        let given = [data, GroupId::META, own, data].map(|group| names.next(group));
        assert_eq!(given, ["1-8", "", "2-1", "1-9"]);
    }
}
