//! A file that appears under its name once it is whole and on disk.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::errors::CliError;
use crate::durability::sync_parent;

/// A file that is being written as `FILE.part`. Dropped before [`finish`](Self::finish), it leaves
/// nothing behind; a process that is killed leaves the part, which the next one replaces.
#[derive(Debug)]
pub(crate) struct PartFile {
    file: File,
    path: PathBuf,
    part: PathBuf,
    replace: bool,
    finished: bool,
}

impl PartFile {
    /// Begins a file that its owner alone may read. `replace`: one that exists is replaced at the end.
    ///
    /// # Errors
    /// [`CliError::InTheWay`] for a file that exists, or is being written by another process;
    /// [`CliError::Unwritten`].
    pub(crate) fn create(path: &Path, replace: bool) -> Result<Self, CliError> {
        refuse_existing(path, replace)?;
        let mut name = path.as_os_str().to_owned();
        name.push(OsString::from(".part"));
        let part = PathBuf::from(name);
        let unwritten = |source| CliError::Unwritten { path: part.clone(), source };
        let file = match create_new(&part) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let left_behind = File::open(&part).map_err(unwritten)?;
                refuse_locked(&left_behind, &part)?;
                fs::remove_file(&part).map_err(unwritten)?;
                create_new(&part).map_err(unwritten)?
            }
            created => created.map_err(unwritten)?,
        };
        refuse_locked(&file, &part)?;
        Ok(Self { file, path: path.to_owned(), part, replace, finished: false })
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// [`CliError::Unwritten`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        let Self { file, part, .. } = self;
        file.write_all(bytes).map_err(|source| CliError::Unwritten { path: part.clone(), source })
    }

    /// Gives the file its name. It is on disk then, name included.
    ///
    /// # Errors
    /// [`CliError::InTheWay`] for a file that came into being meanwhile; [`CliError::Unwritten`].
    pub(crate) fn finish(mut self) -> Result<(), CliError> {
        let unwritten = |path: &Path| {
            let path = path.to_owned();
            move |source| CliError::Unwritten { path, source }
        };
        self.file.sync_all().map_err(unwritten(&self.part))?;
        refuse_existing(&self.path, self.replace)?;
        fs::rename(&self.part, &self.path).map_err(unwritten(&self.path))?;
        self.finished = true;
        sync_parent(&self.path).map_err(unwritten(&self.path))
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.finished {
            // A part that stays is replaced by the next run.
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

fn refuse_existing(path: &Path, replace: bool) -> Result<(), CliError> {
    // A name that cannot be looked at is refused when the file is made.
    if !replace && fs::symlink_metadata(path).is_ok() {
        let why = "it is not overwritten without --force";
        return Err(CliError::InTheWay { path: path.to_owned(), why });
    }
    Ok(())
}

fn refuse_locked(file: &File, part: &Path) -> Result<(), CliError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let why = "another process is writing it";
            Err(CliError::InTheWay { path: part.to_owned(), why })
        }
        Err(TryLockError::Error(source)) => {
            Err(CliError::Unwritten { path: part.to_owned(), source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let mut file = PartFile::create(&path, false).unwrap();
        file.write(b"abc").unwrap();
        assert_eq!(names(dir.path()), ["backup.part"]);
        drop(file);
        assert!(names(dir.path()).is_empty());

        let mut file = PartFile::create(&path, false).unwrap();
        file.write(b"abc").unwrap();
        file.finish().unwrap();
        assert_eq!(names(dir.path()), ["backup"]);
        assert_eq!(fs::read(&path).unwrap(), b"abc");
    }

    #[test]
    fn nothing_is_overwritten_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let late = PartFile::create(&path, false).unwrap();
        fs::write(&path, b"old").unwrap();
        assert_eq!(late.finish().unwrap_err().exit(), 2);
        assert_eq!(PartFile::create(&path, false).unwrap_err().exit(), 2);
        assert_eq!(
            (names(dir.path()), fs::read(&path).unwrap()),
            (vec!["backup".into()], b"old".into())
        );
        let mut file = PartFile::create(&path, true).unwrap();
        file.write(b"new").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_part_that_was_left_behind_is_replaced_but_one_in_use_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        fs::write(dir.path().join("backup.part"), b"left behind, and longer").unwrap();
        let mut first = PartFile::create(&path, false).unwrap();
        let second = PartFile::create(&path, false).unwrap_err();
        assert!(matches!(second, CliError::InTheWay { .. }), "{second:?}");
        first.write(b"abc").unwrap();
        first.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc");
    }
}
