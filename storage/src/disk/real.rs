//! The file system of the machine.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use super::{Disk, DiskFile, OpenMode, parent_of};

/// Who may read what is created here: its owner alone, as with private keys.
pub const FILE_MODE: u32 = 0o600;
/// The same for directories.
pub const DIR_MODE: u32 = 0o700;

/// The file system of the machine. Only the owner can read what it creates.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        match mode {
            OpenMode::Read => options.read(true),
            OpenMode::ReadWrite => options.read(true).write(true),
            OpenMode::CreateNew => options.read(true).write(true).create_new(true).mode(FILE_MODE),
        };
        Ok(Box::new(RealFile(options.open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = parent_of(dir);
        if parent != dir {
            self.create_dir_all(parent)?;
        }
        match DirBuilder::new().mode(DIR_MODE).create(dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            Err(error) => return Err(error),
        }
        self.sync_dir(parent)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_created_read_renamed_and_removed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        let disk = RealDisk;
        assert!(disk.list(&dir).unwrap().is_empty());
        disk.create_dir_all(&dir).unwrap();
        disk.create_dir_all(&dir).unwrap();

        let mut file = disk.open(&dir.join("x"), OpenMode::CreateNew).unwrap();
        assert!(file.is_empty().unwrap());
        file.write_at(4, b"tail").unwrap();
        file.write_at(0, b"head").unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.len().unwrap(), 8);
        let mut buf = [0; 16];
        assert_eq!(file.read_at(2, &mut buf).unwrap(), 6);
        assert_eq!(&buf[..6], b"adtail");

        let again = disk.open(&dir.join("x"), OpenMode::CreateNew).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        disk.rename(&dir.join("x"), &dir.join("y")).unwrap();
        disk.sync_dir(&dir).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), ["y"]);
        let absent = disk.open(&dir.join("x"), OpenMode::Read).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
        disk.remove_file(&dir.join("y")).unwrap();
        assert!(disk.list(&dir).unwrap().is_empty());
    }

    #[test]
    fn directories_are_renamed_whole() {
        let temp = tempfile::tempdir().unwrap();
        let disk = RealDisk;
        let (old, new) = (temp.path().join("old"), temp.path().join("new"));
        disk.create_dir_all(&old.join("below")).unwrap();
        disk.create_dir_all(&new).unwrap();
        drop(disk.open(&old.join("below/x"), OpenMode::CreateNew).unwrap());
        disk.rename(&old, &new).unwrap();
        assert_eq!(disk.list(temp.path()).unwrap(), ["new"]);
        assert_eq!(disk.list(&new.join("below")).unwrap(), ["x"]);
        disk.create_dir_all(&old).unwrap();
        let full = disk.rename(&old, &new).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::DirectoryNotEmpty);
        disk.rename(&new.join("below/x"), &old.join("y")).unwrap();
        assert_eq!(disk.list(&old).unwrap(), ["y"]);
    }
}
