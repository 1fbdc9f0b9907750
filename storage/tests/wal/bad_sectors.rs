//! A disk that cannot read some of its sectors.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage::disk::{Disk, DiskFile, OpenMode, SimDisk};
use storage::wal::{SEGMENT_BYTES_MIN, Wal, WalError, salvage};

use crate::{
    GROUP, batches, create, dir, entries_frame, indexes, open, options, segment_path, start_at,
};

/// A disk on which reads that touch a byte of one file fail.
#[derive(Clone, Debug)]
struct Worn {
    disk: SimDisk,
    path: PathBuf,
    at: u64,
}

#[derive(Debug)]
struct WornFile {
    file: Box<dyn DiskFile>,
    at: Option<u64>,
}

impl Disk for Worn {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let at = (path == self.path).then_some(self.at);
        Ok(Box::new(WornFile { file: self.disk.open(path, mode)?, at }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
}

impl DiskFile for WornFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if self.at.is_some_and(|at| (offset..offset + buf.len() as u64).contains(&at)) {
            return Err(io::Error::other("a bad sector"));
        }
        self.file.read_at(offset, buf)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[test]
fn b51_a_sector_that_cannot_be_read_is_damage_of_its_place() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    for index in 1..=40 {
        wal.append(&[entries_frame(index, 1, 2000)]);
        wal.sync().unwrap();
    }
    wal.seal().unwrap();
    let all = batches(&disk);
    let (seal, others) = all.split_last().unwrap();
    let headers = (1..=4).map(|number| (segment_path(number), 0));
    let places = others.iter().map(|batch| (batch.path.clone(), batch.offset as u64));
    for (path, at) in headers.chain(places) {
        let worn = Worn { disk: disk.fork(), path: path.clone(), at };
        match Wal::open(Arc::new(worn.clone()), &dir(), options()) {
            Err(WalError::Damaged { path: found, offset, .. }) => {
                assert_eq!(found, path);
                assert!((offset..offset + 4096).contains(&at), "{offset} for {at}");
            }
            other => panic!("{path:?} at {at}: {:?}", other.map(|(_, recovered)| recovered)),
        }
        let salvaged = salvage(&worn, &dir(), &options()).unwrap();
        let group = &salvaged.groups[&GROUP];
        assert_eq!(group.highest.get(), 40);
        // The seal says it all, unless it shares the page that cannot be read.
        let readable = path != seal.path || at / 4096 != seal.offset as u64 / 4096;
        assert_eq!(group.hard_state.is_some(), readable, "{path:?} at {at}");
    }

    // Behind the seal there may have been something, for all anybody knows.
    let at = SEGMENT_BYTES_MIN - 1;
    assert!(at / 4096 > seal.offset as u64 / 4096);
    let worn = Worn { disk: disk.fork(), path: seal.path.clone(), at };
    let salvaged = salvage(&worn, &dir(), &options()).unwrap();
    assert_eq!(salvaged.damage.1, at / 4096 * 4096);
    assert_eq!(salvaged.groups[&GROUP].hard_state, None);

    // What nobody needs may be unreadable.
    start_at(&mut wal, 39);
    wal.sync().unwrap();
    let worn = Worn { disk: disk.clone(), path: segment_path(1), at: 5000 };
    let (_, recovered) = Wal::open(Arc::new(worn), &dir(), options()).unwrap();
    assert_eq!(indexes(&recovered), [40]);
    assert_eq!(indexes(&open(&disk).unwrap().1), [40]);
}
