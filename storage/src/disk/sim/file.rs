//! One simulated file: durable bytes, and sectors written since the last sync.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// What a disk writes as a whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;
/// What the system caches and writes back together, in any order of its sectors.
pub(super) const PAGE_BYTES: u64 = 4096;

type Sector = [u8; SECTOR_BYTES as usize];

/// One content of a sector that no sync has made durable.
#[derive(Clone)]
struct Version {
    bytes: Box<Sector>,
    /// The system still knows that it has to write it. A failed sync forgets that, while reads
    /// go on seeing the bytes.
    dirty: bool,
}

/// A file with its durable and its current content.
///
/// Invariants: `lens` is not empty and its first element is the length of `synced`; the last one
/// is the current length; no list of versions is empty.
#[derive(Clone)]
pub(super) struct SimFile {
    synced: Arc<Vec<u8>>,
    lens: Vec<u64>,
    sectors: BTreeMap<u64, Vec<Version>>,
    /// Sectors of the medium that cannot be read until they are written again.
    unreadable: BTreeSet<u64>,
}

impl SimFile {
    pub(super) fn new() -> Self {
        Self::holding(Vec::new())
    }

    /// A file of which all is durable.
    fn holding(synced: Vec<u8>) -> Self {
        Self {
            lens: vec![synced.len() as u64],
            synced: Arc::new(synced),
            sectors: BTreeMap::new(),
            unreadable: BTreeSet::new(),
        }
    }

    /// Current length.
    pub(super) fn len(&self) -> u64 {
        *self.lens.last().expect("lens is never empty")
    }

    /// Current content from `offset` on; returns how many bytes there were.
    pub(super) fn read_at(&self, offset: u64, buf: &mut [u8]) -> usize {
        let end = (offset + buf.len() as u64).min(self.len());
        if offset >= end {
            return 0;
        }
        let count = (end - offset) as usize;
        copy_padded(&self.synced, offset, &mut buf[..count]);
        for (&sector, versions) in self.sectors.range(sectors_of(offset, end)) {
            let bytes = &versions.last().expect("versions are never empty").bytes;
            let start = sector * SECTOR_BYTES;
            let (from, to) = (start.max(offset), (start + SECTOR_BYTES).min(end));
            buf[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
        }
        count
    }

    pub(super) fn write_at(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        for sector in sectors_of(offset, end) {
            let start = sector * SECTOR_BYTES;
            let mut content = self.current(sector);
            let (from, to) = (start.max(offset), (start + SECTOR_BYTES).min(end));
            content[(from - start) as usize..(to - start) as usize]
                .copy_from_slice(&bytes[(from - offset) as usize..(to - offset) as usize]);
            self.unreadable.remove(&sector);
            let version = Version { bytes: content, dirty: true };
            self.sectors.entry(sector).or_default().push(version);
        }
        if end > self.len() {
            self.lens.push(end);
        }
    }

    /// Makes durable what the system still knows to be unwritten.
    pub(super) fn sync(&mut self) {
        let len = self.len();
        self.lens = vec![len];
        let synced = Arc::make_mut(&mut self.synced);
        synced.resize(len as usize, 0);
        self.sectors.retain(|&sector, versions| {
            let newest = versions.last().expect("versions are never empty");
            if newest.dirty {
                put_sector(synced, sector, &newest.bytes);
            }
            !newest.dirty
        });
    }

    /// A sync that failed: the system drops its marks, so that the next sync succeeds without
    /// these bytes.
    pub(super) fn forget_dirty(&mut self) {
        self.sectors.values_mut().flatten().for_each(|version| version.dirty = false);
    }

    /// Inverts a bit, in the durable and in the current content.
    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) {
        assert!(offset < self.len(), "no byte at {offset}");
        let mask = 1 << bit;
        if offset < self.synced.len() as u64 {
            Arc::make_mut(&mut self.synced)[offset as usize] ^= mask;
        }
        for version in self.sectors.get_mut(&(offset / SECTOR_BYTES)).into_iter().flatten() {
            version.bytes[(offset % SECTOR_BYTES) as usize] ^= mask;
        }
    }

    /// Replaces the content, durable and current, as a medium does that loses or mixes up what was
    /// synced.
    pub(super) fn replace(&mut self, bytes: Vec<u8>) {
        *self = Self::holding(bytes);
    }

    /// The current content.
    pub(super) fn content(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len() as usize];
        self.read_at(0, &mut bytes);
        bytes
    }

    /// Makes the sector of this byte unreadable until it is written again.
    pub(super) fn break_sector(&mut self, offset: u64) {
        assert!(offset < self.len(), "no byte at {offset}");
        self.unreadable.insert(offset / SECTOR_BYTES);
    }

    /// Whether all of `[offset, offset + bytes)` can be read.
    pub(super) fn is_readable(&self, offset: u64, bytes: u64) -> bool {
        let end = (offset + bytes).min(self.len());
        offset >= end || self.unreadable.range(sectors_of(offset, end)).next().is_none()
    }

    /// Sectors that a power loss may or may not keep, ascending.
    pub(super) fn unsynced_sectors(&self) -> impl Iterator<Item = u64> {
        self.sectors.keys().copied()
    }

    /// How many contents of this sector no sync has made durable.
    pub(super) fn versions(&self, sector: u64) -> usize {
        self.sectors.get(&sector).map_or(0, Vec::len)
    }

    /// Lengths that a power loss may leave: the durable one first, the current one last.
    pub(super) fn lens(&self) -> &[u64] {
        &self.lens
    }

    /// The file after a power loss.
    ///
    /// `version_of` names, for each unsynced sector, which of its contents reached the disk: 0 for
    /// the durable one, n for the nth since. Sectors beyond `len` are lost.
    pub(super) fn after_power_loss(
        &self,
        len: u64,
        mut version_of: impl FnMut(u64) -> usize,
    ) -> Self {
        let mut synced = self.synced.as_ref().clone();
        synced.resize(len as usize, 0);
        for (&sector, versions) in &self.sectors {
            let chosen = version_of(sector);
            if chosen > 0 && sector * SECTOR_BYTES < len {
                put_sector(&mut synced, sector, &versions[chosen - 1].bytes);
            }
        }
        Self { unreadable: self.unreadable.clone(), ..Self::holding(synced) }
    }

    fn current(&self, sector: u64) -> Box<Sector> {
        if let Some(versions) = self.sectors.get(&sector) {
            return versions.last().expect("versions are never empty").bytes.clone();
        }
        let mut bytes = Box::new([0; SECTOR_BYTES as usize]);
        copy_padded(&self.synced, sector * SECTOR_BYTES, bytes.as_mut_slice());
        bytes
    }
}

/// Numbers of the sectors that `[from, to)` touches.
fn sectors_of(from: u64, to: u64) -> Range<u64> {
    from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES)
}

/// Copies from `offset` of `bytes`, zeros beyond the end.
fn copy_padded(bytes: &[u8], offset: u64, buf: &mut [u8]) {
    let start = (offset as usize).min(bytes.len());
    let count = buf.len().min(bytes.len() - start);
    buf[..count].copy_from_slice(&bytes[start..start + count]);
    buf[count..].fill(0);
}

/// Stores a sector, as far as the file reaches.
fn put_sector(bytes: &mut [u8], sector: u64, content: &Sector) {
    let start = (sector * SECTOR_BYTES) as usize;
    let end = (start + SECTOR_BYTES as usize).min(bytes.len());
    bytes[start..end].copy_from_slice(&content[..end - start]);
}
