//! A disk that does what the lab asks for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};
use storage::disk::{Disk, DiskFile, OpenMode};

use super::instructions::{Current, count};
use super::mutant::Mutant;

/// The error of a full disk, of Linux.
const FULL: i32 = 28;

/// The error of a disk that cannot be read or written, of Linux.
const BROKEN: i32 = 5;

/// How late the planted bug [`Mutant::AckBeforeSync`] syncs.
const LATE: Duration = Duration::from_millis(500);

/// Another disk, with faults. Reading never fails.
#[derive(Debug)]
pub(super) struct LabDisk {
    inner: Arc<dyn Disk>,
    current: Arc<Current>,
}

impl LabDisk {
    pub(super) fn new(inner: Arc<dyn Disk>, current: Arc<Current>) -> Self {
        Self { inner, current }
    }

    /// What happens before an operation that changes something.
    fn before(&self, what: &str, path: &Path) -> io::Result<()> {
        before(&self.current, what, path)
    }
}

fn before(current: &Current, what: &str, path: &Path) -> io::Result<()> {
    let asked = current.get();
    if let Some((operation, place)) = asked.crash_at.split_once(':')
        && operation == what
        && path.to_string_lossy().contains(place)
    {
        // As sudden as a switch: no destructor runs, nothing is flushed.
        let _ = kill_process(getpid(), Signal::KILL);
    }
    if asked.slow_disk_ms > 0 {
        count(&current.slowed);
        std::thread::sleep(Duration::from_millis(asked.slow_disk_ms));
    }
    let grows = matches!(what, "write" | "create");
    let error = match what {
        _ if grows && asked.disk_full => FULL,
        "write" if asked.write_error => BROKEN,
        "sync" | "sync_dir" if asked.sync_error && !ignores_errors(current, path) => BROKEN,
        _ => return Ok(()),
    };
    count(&current.failed);
    Err(io::Error::from_raw_os_error(error))
}

/// Whether this is the log.
fn is_log(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "wal")
}

/// Whether the planted bug takes a failed sync of this file for one that succeeded.
fn ignores_errors(current: &Current, path: &Path) -> bool {
    current.planted == Some(Mutant::SyncErrorIgnored) && is_log(path)
}

impl Disk for LabDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        if mode == OpenMode::CreateNew {
            self.before("create", path)?;
        }
        let inner = self.inner.open(path, mode)?;
        let current = Arc::clone(&self.current);
        let (path, held) = (path.to_owned(), Vec::new());
        Ok(Box::new(LabFile { inner, path, current, held, synced: None }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.before("create", dir)?;
        self.inner.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before("rename", to)?;
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.before("remove", path)?;
        self.inner.remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.before("sync_dir", dir)?;
        self.inner.sync_dir(dir)
    }
}

/// An open file, with the writes that no sync has followed yet while these are held back.
///
/// Invariant: only the handle that wrote sees what is held back, so another handle of the same file
/// must not be read before a sync. Who writes here syncs before anyone else is told of the file.
#[derive(Debug)]
struct LabFile {
    inner: Box<dyn DiskFile>,
    path: PathBuf,
    current: Arc<Current>,
    held: Vec<(u64, Vec<u8>)>,
    /// When it was really synced last.
    synced: Option<Instant>,
}

impl LabFile {
    /// Whether writes are held back until a sync.
    fn holds(&self) -> bool {
        let asked = self.current.get();
        let late = self.current.planted == Some(Mutant::AckBeforeSync) && is_log(&self.path);
        let lost = asked.sync_error && ignores_errors(&self.current, &self.path);
        asked.hold_unsynced || late || lost
    }

    /// Whether the planted bug reports a sync now that it does not do.
    fn pretends(&self) -> bool {
        match self.current.planted {
            Some(Mutant::AckBeforeSync) => {
                // A file without its header is damaged, and a damaged node would take itself out.
                let header = self.held.iter().any(|(offset, _)| *offset == 0);
                let late = self.synced.is_some_and(|synced| synced.elapsed() < LATE);
                is_log(&self.path) && late && !header
            }
            Some(Mutant::SyncErrorIgnored) => {
                self.current.get().sync_error && ignores_errors(&self.current, &self.path)
            }
            _ => false,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        for (offset, bytes) in std::mem::take(&mut self.held) {
            self.inner.write_at(offset, &bytes)?;
        }
        Ok(())
    }
}

impl DiskFile for LabFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        if self.held.is_empty() {
            return self.inner.read_at(offset, buf);
        }
        let left = usize::try_from(self.len()?.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = left.min(buf.len());
        let buf = &mut buf[..wanted];
        buf.fill(0);
        let mut done = 0;
        while done < wanted {
            match self.inner.read_at(offset + done as u64, &mut buf[done..])? {
                0 => break,
                more => done += more,
            }
        }
        for (start, bytes) in &self.held {
            for (place, byte) in bytes.iter().enumerate() {
                let at = (start + place as u64).checked_sub(offset);
                let at = at.and_then(|at| usize::try_from(at).ok());
                if let Some(slot) = at.and_then(|at| buf.get_mut(at)) {
                    *slot = *byte;
                }
            }
        }
        Ok(wanted)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        before(&self.current, "write", &self.path)?;
        if self.holds() {
            count(&self.current.held);
            self.held.push((offset, bytes.to_vec()));
            return Ok(());
        }
        self.flush()?;
        self.inner.write_at(offset, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        let ends = self.held.iter().map(|(offset, bytes)| offset + bytes.len() as u64);
        Ok(ends.fold(self.inner.len()?, u64::max))
    }

    fn sync_data(&mut self) -> io::Result<()> {
        before(&self.current, "sync", &self.path)?;
        if self.pretends() {
            return Ok(());
        }
        self.synced = Some(Instant::now());
        self.flush()?;
        self.inner.sync_data()
    }
}

impl Drop for LabFile {
    fn drop(&mut self) {
        // A file that is closed by a living process keeps what was written. Who did not sync does not
        // want to know whether that succeeds.
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use storage::disk::RealDisk;

    use super::super::Instructions;
    use super::*;

    fn lab() -> (tempfile::TempDir, LabDisk, Arc<Current>) {
        let current = Arc::new(Current::default());
        let disk = LabDisk::new(Arc::new(RealDisk), Arc::clone(&current));
        (tempfile::tempdir().unwrap(), disk, current)
    }

    #[test]
    fn what_is_held_back_is_read_and_reaches_the_file_with_a_sync() {
        let (dir, disk, current) = lab();
        let path = dir.path().join("f");
        let mut file = disk.open(&path, OpenMode::CreateNew).unwrap();
        file.write_at(0, b"0123456789").unwrap();
        current.set(Instructions { hold_unsynced: true, ..Instructions::default() });
        file.write_at(8, b"abcd").unwrap();
        file.write_at(2, b"xy").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"0123456789");
        let mut bytes = [0; 20];
        assert_eq!((file.len().unwrap(), file.read_at(0, &mut bytes).unwrap()), (12, 12));
        assert_eq!(&bytes[..12], b"01xy4567abcd");
        assert_eq!(file.read_at(9, &mut bytes[..2]).unwrap(), 2);
        assert_eq!(&bytes[..2], b"bc");
        file.sync_data().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"01xy4567abcd");
        assert_eq!(current.counts().held, 2);
        // Without a sync it is lost if the process is killed; only a close lets it be written.
        file.write_at(0, b"z").unwrap();
        assert_eq!(std::fs::read(&path).unwrap()[0], b'0');
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap()[0], b'z');
    }

    #[test]
    fn a_planted_bug_reports_syncs_that_are_not_done() {
        for (mutant, name, done) in [
            (Mutant::AckBeforeSync, "wal", false),
            (Mutant::AckBeforeSync, "exports", true),
            (Mutant::SyncErrorIgnored, "wal", false),
            (Mutant::DoubleApply, "wal", true),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join(name)).unwrap();
            let path = dir.path().join(name).join("f");
            let current = Arc::new(Current::new(Some(mutant)));
            let disk = LabDisk::new(Arc::new(RealDisk), Arc::clone(&current));
            let mut file = disk.open(&path, OpenMode::CreateNew).unwrap();
            file.write_at(0, b"header").unwrap();
            file.sync_data().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"header", "a new file begins well");
            let sync_error = mutant == Mutant::SyncErrorIgnored;
            current.set(Instructions { sync_error, ..Instructions::default() });
            file.write_at(6, b"acknowledged").unwrap();
            file.sync_data().unwrap();
            let there = std::fs::read(&path).unwrap();
            assert_eq!(there == b"headeracknowledged", done, "{mutant} {name}");
        }
    }

    #[test]
    fn faults_fail_what_they_are_about() {
        let (dir, disk, current) = lab();
        let path = dir.path().join("f");
        let mut file = disk.open(&path, OpenMode::CreateNew).unwrap();
        let mut outcome = |asked: Instructions| {
            current.set(asked);
            let codes = [file.write_at(0, b"x"), file.sync_data(), disk.sync_dir(dir.path())];
            codes.map(|done| done.err().and_then(|error| error.raw_os_error()))
        };
        let none = Instructions::default;
        assert_eq!(outcome(none()), [None; 3]);
        assert_eq!(outcome(Instructions { disk_full: true, ..none() }), [Some(FULL), None, None]);
        assert_eq!(
            outcome(Instructions { write_error: true, ..none() }),
            [Some(BROKEN), None, None]
        );
        let sync = Instructions { sync_error: true, ..none() };
        assert_eq!(outcome(sync), [None, Some(BROKEN), Some(BROKEN)]);
        // A crash at another place does nothing.
        let elsewhere = Instructions { crash_at: "write:elsewhere".into(), ..none() };
        assert_eq!(outcome(elsewhere), [None; 3]);
        assert_eq!(current.counts().failed, 4);
    }
}
