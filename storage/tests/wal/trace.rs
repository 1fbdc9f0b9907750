//! A disk that writes down what is done to it, to give crash points names.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use storage::disk::{Disk, DiskFile, OpenMode, SimDisk};

/// A simulated disk that records each operation that changes something: what, and to which kind of
/// file, in the order in which [`SimDisk`] counts them.
#[derive(Clone, Debug, Default)]
pub struct Traced {
    disk: SimDisk,
    names: Arc<Mutex<Vec<String>>>,
}

#[derive(Debug)]
struct TracedFile {
    file: Box<dyn DiskFile>,
    kind: String,
    names: Arc<Mutex<Vec<String>>>,
}

impl Traced {
    /// What was done so far.
    pub fn names(&self) -> Vec<String> {
        self.names.lock().unwrap().clone()
    }

    fn record(&self, name: String) {
        self.names.lock().unwrap().push(name);
    }
}

/// What a path is: `seg`, `new` or `old` for files of a log, else its own name.
fn kind_of(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    match path.extension() {
        Some(kind) if name.starts_with("wal-") => kind.to_str().unwrap().to_owned(),
        Some(_) | None => name.to_owned(),
    }
}

impl Disk for Traced {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        if mode == OpenMode::CreateNew {
            self.record(format!("create {}", kind_of(path)));
        }
        let (file, names) = (self.disk.open(path, mode)?, self.names.clone());
        Ok(Box::new(TracedFile { file, kind: kind_of(path), names }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.record(format!("create directory {}", kind_of(dir)));
        self.disk.create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.record(format!("rename {} to {}", kind_of(from), kind_of(to)));
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.record(format!("remove {}", kind_of(path)));
        self.disk.remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.record(format!("sync directory {}", kind_of(dir)));
        self.disk.sync_dir(dir)
    }
}

impl DiskFile for TracedFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buf)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.names.lock().unwrap().push(format!("write {}", self.kind));
        self.file.write_at(offset, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.names.lock().unwrap().push(format!("sync {}", self.kind));
        self.file.sync_data()
    }
}
