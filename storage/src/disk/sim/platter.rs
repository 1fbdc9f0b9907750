//! Everything a simulated disk holds, and what a power loss makes of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;

use rand::{Rng, RngExt};

use super::file::{PAGE_BYTES, SECTOR_BYTES, SimFile};
use super::names::Names;
use super::{Operation, SimCounters};

/// Sectors of one page.
const PAGE_SECTORS: u64 = PAGE_BYTES / SECTOR_BYTES;

/// Something that a power loss keeps or loses as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    /// The unsynced sectors `from <= s < to` of a file.
    Sectors { file: u64, from: u64, to: u64 },
    /// The change of a file's length.
    Length { file: u64 },
    /// The nth unsynced change of names.
    Entry { change: usize },
}

/// Everything a simulated disk holds.
#[derive(Clone, Default)]
pub(super) struct Platter {
    pub(super) files: BTreeMap<u64, SimFile>,
    pub(super) names: Names,
    pub(super) counters: SimCounters,
    pub(super) quota_bytes: Option<u64>,
    /// Counts crashes; files opened before the last one are dead.
    pub(super) life: u64,
    pub(super) halt_at: Option<u64>,
    /// From this operation on, nothing can be made, renamed or grown.
    pub(super) full_at: Option<u64>,
    files_made: u64,
    faults: BTreeMap<Operation, VecDeque<io::ErrorKind>>,
    halted: bool,
}

impl Platter {
    /// Counts an operation and says whether it fails.
    pub(super) fn begin(&mut self, operation: Operation) -> io::Result<()> {
        if self.halt_at.is_some_and(|at| self.counters.operations >= at) && operation.changes() {
            self.halted = true;
        }
        if self.halted {
            return Err(io::Error::other("the simulated machine has no power"));
        }
        if operation.changes() {
            self.counters.operations += 1;
        }
        match self.faults.get_mut(&operation).and_then(VecDeque::pop_front) {
            Some(kind) => Err(io::Error::new(kind, format!("injected into {operation:?}"))),
            None => Ok(()),
        }
    }

    pub(super) fn fail_next(&mut self, operation: Operation, kind: io::ErrorKind) {
        self.faults.entry(operation).or_default().push_back(kind);
    }

    pub(super) fn file_of(&self, path: &Path) -> io::Result<u64> {
        self.names.file_of(path)
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
        self.names.check_free(path)?;
        self.check_room()?;
        let file = self.files_made;
        self.files_made += 1;
        self.files.insert(file, SimFile::new());
        self.names.link(path, file);
        Ok(file)
    }

    pub(super) fn create_dir_all(&mut self, dir: &Path) -> io::Result<()> {
        self.check_room()?;
        self.names.create_dir_all(dir);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.check_room()?;
        self.names.rename(from, to)
    }

    /// Fails once [`Platter::full_at`] is reached; the operation that asks has been counted.
    fn check_room(&self) -> io::Result<()> {
        if self.full_at.is_some_and(|at| self.counters.operations > at) { full() } else { Ok(()) }
    }

    /// Writes bytes, unless the disk is full.
    pub(super) fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let growth = (offset + bytes.len() as u64).saturating_sub(self.file(file).len());
        if growth > 0 {
            self.check_room()?;
            if self.quota_bytes.is_some_and(|quota| self.used_bytes() + growth > quota) {
                return full();
            }
        }
        self.file_mut(file).write_at(offset, bytes);
        Ok(())
    }

    /// Length of all files that have a name.
    pub(super) fn used_bytes(&self) -> u64 {
        self.names.files().map(|file| self.file(file).len()).sum()
    }

    pub(super) fn file(&self, file: u64) -> &SimFile {
        self.files.get(&file).expect("files live as long as their disk")
    }

    pub(super) fn file_mut(&mut self, file: u64) -> &mut SimFile {
        self.files.get_mut(&file).expect("files live as long as their disk")
    }

    /// Loses power: every unsynced sector, length and change of names survives or not, by chance.
    pub(super) fn crash(&mut self, rng: &mut (impl Rng + ?Sized)) {
        let mut files = BTreeMap::new();
        let (mut lost_writes, mut torn_pages) = (0, 0);
        for (&number, file) in &self.files {
            let len = file.lens()[rng.random_range(0..file.lens().len())];
            let mut pages: BTreeMap<u64, (bool, bool)> = BTreeMap::new();
            let after = file.after_power_loss(len, |sector| {
                let chosen = rng.random_range(0..=file.versions(sector));
                let kept = chosen == file.versions(sector) && sector * SECTOR_BYTES < len;
                let page = pages.entry(sector / PAGE_SECTORS).or_default();
                if kept {
                    page.0 = true;
                } else {
                    page.1 = true;
                    lost_writes += 1;
                }
                chosen
            });
            torn_pages += pages.values().filter(|(kept, lost)| *kept && *lost).count() as u64;
            files.insert(number, after);
        }
        let kept: Vec<bool> = (0..self.names.undecided()).map(|_| rng.random()).collect();
        lost_writes += kept.iter().filter(|kept| !**kept).count() as u64;
        self.counters.lost_writes += lost_writes;
        self.counters.torn_pages += torn_pages;
        self.restart(files, |change| kept[change]);
    }

    /// All that a power loss would decide about. Single sectors if there are few of them,
    /// otherwise pages.
    pub(super) fn units(&self, sectors_max: usize) -> Vec<Unit> {
        let sectors: usize = self.files.values().map(|f| f.unsynced_sectors().count()).sum();
        let grain = if sectors <= sectors_max { 1 } else { PAGE_SECTORS };
        let mut units = Vec::new();
        for (&file, content) in &self.files {
            let mut grains: Vec<u64> = content.unsynced_sectors().map(|s| s / grain).collect();
            grains.dedup();
            units.extend(grains.into_iter().map(|g| Unit::Sectors {
                file,
                from: g * grain,
                to: (g + 1) * grain,
            }));
            if content.lens().len() > 1 {
                units.push(Unit::Length { file });
            }
        }
        units.extend((0..self.names.undecided()).map(|change| Unit::Entry { change }));
        units
    }

    /// The disk after a power loss that keeps exactly these units, each in its newest content.
    pub(super) fn image(&self, kept: &BTreeSet<Unit>) -> Self {
        let mut files = BTreeMap::new();
        for (&number, file) in &self.files {
            let durable = file.lens()[0];
            let len =
                if kept.contains(&Unit::Length { file: number }) { file.len() } else { durable };
            let after = file.after_power_loss(len, |sector| {
                let keeps = [1, PAGE_SECTORS].into_iter().any(|grain| {
                    let from = sector / grain * grain;
                    kept.contains(&Unit::Sectors { file: number, from, to: from + grain })
                });
                if keeps { file.versions(sector) } else { 0 }
            });
            files.insert(number, after);
        }
        let mut image = self.clone();
        image.counters = SimCounters::default();
        image.restart(files, |change| kept.contains(&Unit::Entry { change }));
        image
    }

    /// Starts again from what survived. Faults and the halt are gone, the size of the disk stays.
    fn restart(&mut self, files: BTreeMap<u64, SimFile>, survives: impl Fn(usize) -> bool) {
        self.files = files;
        self.names.lose_power(survives);
        let named: BTreeSet<u64> = self.names.files().collect();
        self.files.retain(|file, _| named.contains(file));
        self.faults.clear();
        self.halt_at = None;
        self.halted = false;
        self.life += 1;
    }
}

fn full<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::StorageFull, "the simulated disk is full"))
}
