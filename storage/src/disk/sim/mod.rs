//! A disk in memory that loses power, fills up and fails on command.
//!
//! Writes go to a cache of 512-byte sectors in 4 KiB pages. A sync makes them durable; a power
//! loss ([`SimDisk::crash`]) keeps or loses each unsynced sector, each change of a length and each
//! change of a name on its own, in no particular order, so pages tear. That is less than any real
//! file system promises, and it is all the log may rely on. A sector itself is never torn.
//!
//! Losing only the process, not the power, needs no call: open the files again.
//!
//! All chance comes from the generator passed in; everything inside is ordered, so equal calls
//! give equal disks.

mod file;
mod names;
mod platter;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use self::platter::{Platter, Unit};
use super::{Disk, DiskFile, OpenMode};

/// Up to this many units, [`SimDisk::images`] gives all subsets.
const EXHAUSTIVE_UNITS_MAX: usize = 10;
/// Random subsets among the images beyond that.
const RANDOM_IMAGES: usize = 64;

/// A named operation, into which an error can be injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Opening a file that exists.
    Open,
    /// Creating a file.
    Create,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Syncing a file.
    Sync,
    /// Listing a directory.
    List,
    /// Creating a directory.
    CreateDir,
    /// Renaming a file or a directory.
    Rename,
    /// Removing a file.
    Remove,
    /// Syncing a directory.
    SyncDir,
}

impl Operation {
    /// Whether it changes what a crash leaves; only these are counted.
    #[must_use]
    pub const fn changes(self) -> bool {
        match self {
            Self::Open | Self::Read | Self::List => false,
            Self::Create
            | Self::Write
            | Self::Sync
            | Self::CreateDir
            | Self::Rename
            | Self::Remove
            | Self::SyncDir => true,
        }
    }
}

/// What happened on a simulated disk since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimCounters {
    /// Operations that [change](Operation::changes) something, failed ones included.
    pub operations: u64,
    /// Syncs of files that succeeded.
    pub syncs: u64,
    /// Unsynced sectors and changes of names that crashes lost.
    pub lost_writes: u64,
    /// Pages of which a crash kept some unsynced sectors and lost others.
    pub torn_pages: u64,
}

/// A handle to a simulated disk; clones share it.
#[derive(Clone, Default)]
pub struct SimDisk {
    platter: Arc<Mutex<Platter>>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let platter = self.lock();
        f.debug_struct("SimDisk")
            .field("names", &platter.names.paths().collect::<Vec<_>>())
            .field("counters", &platter.counters)
            .finish_non_exhaustive()
    }
}

impl SimDisk {
    /// An empty disk without faults and without an end.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().expect("no operation panics while it holds the disk")
    }

    /// An independent copy of this disk as it is, unsynced writes, faults and counters included.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { platter: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// Loses power and comes back: each unsynced sector, length and change of names survives or
    /// not, by chance. Open files are dead, faults and the halt are cleared.
    pub fn crash(&self, rng: &mut (impl Rng + ?Sized)) {
        self.lock().crash(rng);
    }

    /// The disks that a power loss at this moment could leave, at most `limit` of them; this one
    /// stays as it is.
    ///
    /// What may survive on its own are unsynced pages (single sectors while there are at most ten),
    /// changes of a length and changes of names. Up to ten of them: none, all, and every other
    /// subset in random order. Beyond: none, all, 64 random subsets, every single one kept, every
    /// single one lost, every pair kept, in this order.
    pub fn images(&self, limit: usize, rng: &mut dyn Rng) -> impl Iterator<Item = SimDisk> + use<> {
        let platter = self.lock().clone();
        let units = platter.units(EXHAUSTIVE_UNITS_MAX);
        let mut subsets = subsets_of(&units, rng);
        subsets.truncate(limit);
        subsets
            .into_iter()
            .map(move |kept| Self { platter: Arc::new(Mutex::new(platter.image(&kept))) })
    }

    /// Makes the next such operation fail with this error, without effect; calls queue up. A
    /// failed sync also makes the system forget what it had to write: the next one succeeds
    /// without those bytes.
    pub fn fail_next(&self, operation: Operation, kind: io::ErrorKind) {
        self.lock().fail_next(operation, kind);
    }

    /// From the operation on that would be counted as number `operation` (the first is 0),
    /// everything fails until [`SimDisk::crash`].
    pub fn halt_at(&self, operation: u64) {
        self.lock().halt_at = Some(operation);
    }

    /// Limits the length of all files together; growing beyond fails with `StorageFull`. Holds
    /// across crashes.
    pub fn set_quota_bytes(&self, quota: Option<u64>) {
        self.lock().quota_bytes = quota;
    }

    /// From the operation on that would be counted as number `operation`, nothing can be made,
    /// renamed or grown: all that needs room fails with `StorageFull`, across crashes and until
    /// `None` is set.
    pub fn set_full_at(&self, operation: Option<u64>) {
        self.lock().full_at = operation;
    }

    /// Length of all files together.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// Inverts one bit of a file, as a decaying medium does; `bit` counts from the lowest.
    ///
    /// # Errors
    /// `NotFound` for an absent file.
    ///
    /// # Panics
    /// If the file has no such byte or the byte has no such bit.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        assert!(bit < 8, "a byte has no bit {bit}");
        let mut platter = self.lock();
        let file = platter.file_of(path)?;
        platter.file_mut(file).flip_bit(offset, bit);
        Ok(())
    }

    /// Makes the sector of this byte unreadable until it is written again: every read that touches
    /// it fails.
    ///
    /// # Errors
    /// `NotFound` for an absent file.
    ///
    /// # Panics
    /// If the file has no such byte.
    pub fn break_sector(&self, path: &Path, offset: u64) -> io::Result<()> {
        let mut platter = self.lock();
        let file = platter.file_of(path)?;
        platter.file_mut(file).break_sector(offset);
        Ok(())
    }

    /// Cuts a file to its first `bytes` bytes, synced or not.
    ///
    /// # Errors
    /// `NotFound` for an absent file.
    ///
    /// # Panics
    /// If the file is shorter.
    pub fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let mut content = self.content(path)?;
        assert!(bytes <= content.len() as u64, "the file is shorter than {bytes}");
        content.truncate(bytes as usize);
        self.replace(path, content)
    }

    /// Exchanges two blocks of a file, as a medium does that wrote each where the other belongs.
    /// Blocks are counted from 0 in units of `block_bytes`; only whole ones can be exchanged.
    ///
    /// # Errors
    /// `NotFound` for an absent file.
    ///
    /// # Panics
    /// If the file has no such whole block.
    pub fn swap_blocks(
        &self,
        path: &Path,
        first: u64,
        second: u64,
        block_bytes: u64,
    ) -> io::Result<()> {
        let mut content = self.content(path)?;
        for byte in 0..block_bytes {
            let at = |block: u64| (block * block_bytes + byte) as usize;
            content.swap(at(first), at(second));
        }
        self.replace(path, content)
    }

    /// The current content of a file.
    ///
    /// # Errors
    /// `NotFound` for an absent file.
    pub fn content(&self, path: &Path) -> io::Result<Vec<u8>> {
        let platter = self.lock();
        Ok(platter.file(platter.file_of(path)?).content())
    }

    /// Gives a file this content, durable at once: an older copy that somebody puts back, or a
    /// write that went elsewhere.
    ///
    /// # Errors
    /// `NotFound` for an absent file.
    pub fn replace(&self, path: &Path, content: Vec<u8>) -> io::Result<()> {
        let mut platter = self.lock();
        let file = platter.file_of(path)?;
        platter.file_mut(file).replace(content);
        Ok(())
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> SimCounters {
        self.lock().counters
    }
}

/// Subsets of what a power loss may keep, as [`SimDisk::images`] describes.
fn subsets_of(units: &[Unit], rng: &mut dyn Rng) -> Vec<BTreeSet<Unit>> {
    let all: BTreeSet<Unit> = units.iter().copied().collect();
    if units.len() <= EXHAUSTIVE_UNITS_MAX {
        let mut masks: Vec<u32> = (0..1 << units.len()).collect();
        if let [_, others @ .., _] = masks.as_mut_slice() {
            others.shuffle(rng);
        }
        let last = masks.len() - 1;
        masks.swap(last, last.min(1));
        return masks
            .into_iter()
            .map(|mask| (0..units.len()).filter(|n| mask >> n & 1 == 1).map(|n| units[n]).collect())
            .collect();
    }
    let mut subsets = vec![BTreeSet::new(), all.clone()];
    for _ in 0..RANDOM_IMAGES {
        subsets.push(units.iter().copied().filter(|_| rng.random::<bool>()).collect());
    }
    subsets.extend(units.iter().map(|unit| BTreeSet::from([*unit])));
    subsets.extend(units.iter().map(|unit| {
        let mut rest = all.clone();
        rest.remove(unit);
        rest
    }));
    for (n, first) in units.iter().enumerate() {
        subsets.extend(units[n + 1..].iter().map(|second| BTreeSet::from([*first, *second])));
    }
    subsets
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut platter = self.lock();
        let file = match mode {
            OpenMode::Read | OpenMode::ReadWrite => {
                platter.begin(Operation::Open)?;
                platter.file_of(path)?
            }
            OpenMode::CreateNew => {
                platter.begin(Operation::Create)?;
                platter.create(path)?
            }
        };
        let life = platter.life;
        drop(platter);
        let writable = mode != OpenMode::Read;
        Ok(Box::new(SimHandle { disk: self.clone(), file, life, writable }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut platter = self.lock();
        platter.begin(Operation::List)?;
        Ok(platter.names.list(dir))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut platter = self.lock();
        platter.begin(Operation::CreateDir)?;
        platter.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut platter = self.lock();
        platter.begin(Operation::Rename)?;
        platter.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut platter = self.lock();
        platter.begin(Operation::Remove)?;
        platter.names.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut platter = self.lock();
        if let Err(error) = platter.begin(Operation::SyncDir) {
            platter.names.forget(dir);
            return Err(error);
        }
        platter.names.sync_dir(dir);
        Ok(())
    }
}

/// An open file; dead once the disk has lost power.
struct SimHandle {
    disk: SimDisk,
    file: u64,
    life: u64,
    writable: bool,
}

impl fmt::Debug for SimHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimHandle").field("file", &self.file).finish_non_exhaustive()
    }
}

impl SimHandle {
    fn alive(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = self.disk.lock();
        if platter.life == self.life {
            Ok(platter)
        } else {
            Err(io::Error::other("the file was opened before the power was lost"))
        }
    }

    fn writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl DiskFile for SimHandle {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut platter = self.alive()?;
        platter.begin(Operation::Read)?;
        let file = platter.file(self.file);
        if !file.is_readable(offset, buf.len() as u64) {
            return Err(io::Error::other("a sector of the simulated disk cannot be read"));
        }
        Ok(file.read_at(offset, buf))
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writable()?;
        let mut platter = self.alive()?;
        platter.begin(Operation::Write)?;
        platter.write(self.file, offset, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.alive()?.file(self.file).len())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.writable()?;
        let mut platter = self.alive()?;
        if let Err(error) = platter.begin(Operation::Sync) {
            platter.file_mut(self.file).forget_dirty();
            return Err(error);
        }
        platter.file_mut(self.file).sync();
        platter.counters.syncs += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
