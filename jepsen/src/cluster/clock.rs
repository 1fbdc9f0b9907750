//! The wall clock of a node, which the lab can move.
//!
//! libfaketime is loaded into the node's process and asked for the time in place of the C library. It
//! adds what stands in a file, which is read anew at each question, so that a change takes effect at
//! once. Three things about it decide how it is used here:
//!
//! - Only the wall clock moves. On real machines, too, nobody sets the monotonic clock.
//! - The file has an offset and never a speed: a speed would count from the start of the process, stay
//!   when it is taken back, and bend timeouts as well. A clock that drifts has many small offsets.
//! - It leaves two small files of shared memory behind for each process, which the lab removes. They stay
//!   if the lab itself is killed.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::LabError;

/// The variable that names the library, in the place of the usual ones.
const LIBRARY_VARIABLE: &str = "KVLAB_FAKETIME";

/// Directories below which systems have libraries.
const LIBRARY_DIRS: [&str; 4] = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];

/// The library for programs with threads, below one of those or a directory in it.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// Where shared memory has names.
const SHARED_MEMORY: &str = "/dev/shm";

/// The library that moves clocks, as a file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockLibrary(PathBuf);

impl ClockLibrary {
    /// Finds it: where the environment says, else where systems have it.
    ///
    /// # Errors
    ///
    /// Why there is none, as a sentence.
    pub fn find() -> Result<Self, String> {
        let named = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty());
        Self::among(named.map(PathBuf::from), &LIBRARY_DIRS.map(PathBuf::from))
    }

    fn among(named: Option<PathBuf>, dirs: &[PathBuf]) -> Result<Self, String> {
        if let Some(path) = named {
            // The nodes are started from elsewhere.
            let whole = path.canonicalize().ok().filter(|path| path.is_file());
            let missing = || format!("{LIBRARY_VARIABLE} names {}, no file", path.display());
            return whole.map(Self).ok_or_else(missing);
        }
        let inner = dirs.iter().flat_map(|dir| {
            let entries = fs::read_dir(dir).into_iter().flatten().flatten();
            entries.map(|entry| entry.path())
        });
        let mut found: Vec<PathBuf> = dirs.iter().cloned().chain(inner).collect();
        found.retain_mut(|dir| {
            dir.push(LIBRARY);
            dir.is_file()
        });
        // A machine may have libraries for others, too; theirs have no effect here.
        let foreign = |path: &Path| !path.to_string_lossy().contains(ARCH);
        let first = found.into_iter().min_by_key(|path| (foreign(path), path.clone()));
        let missing = || {
            format!("libfaketime was not found; install it, or name its file in {LIBRARY_VARIABLE}")
        };
        first.map(Self).ok_or_else(missing)
    }
}

/// The clock of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeClock {
    library: PathBuf,
    file: PathBuf,
}

impl NodeClock {
    /// A clock that is right, and has its file in `dir`.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the file cannot be written.
    pub fn new(library: &ClockLibrary, dir: &Path) -> Result<Self, LabError> {
        let clock = Self { library: library.0.clone(), file: dir.join("clock") };
        clock.set(0)?;
        Ok(clock)
    }

    /// Lets the clock be so many microseconds ahead of the true time, or behind it.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if the file cannot be written; the clock is as it was then.
    pub fn set(&self, offset_us: i64) -> Result<(), LabError> {
        // The node never sees half a file.
        let new = self.file.with_extension("new");
        fs::write(&new, line(offset_us)).map_err(LabError::io(&new))?;
        fs::rename(&new, &self.file).map_err(LabError::io(&self.file))
    }

    /// Lets a process that is to be started have this clock.
    pub fn give_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        // Its name in older versions.
        command.env("DONT_FAKE_MONOTONIC", "1");
        // The times of files stay as they are.
        command.env("NO_FAKE_STAT", "1");
        // It would stand above the file.
        command.env_remove("FAKETIME");
    }

    /// Removes what the library left of a process that has ended.
    pub fn clear(&self, process: u32) {
        for file in left_by(process) {
            // It may have ended before it made them.
            let _ = fs::remove_file(file);
        }
    }
}

/// What the library leaves of a process.
fn left_by(process: u32) -> [PathBuf; 2] {
    [format!("faketime_shm_{process}"), format!("sem.faketime_sem_{process}")]
        .map(|name| Path::new(SHARED_MEMORY).join(name))
}

/// The line of the file: seconds with a sign.
fn line(offset_us: i64) -> String {
    let sign = if offset_us < 0 { '-' } else { '+' };
    let us = offset_us.unsigned_abs();
    format!("{sign}{}.{:06}\n", us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::Stdio;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_line_has_a_sign_and_all_digits() {
        for (offset_us, text) in [
            (0, "+0.000000\n"),
            (1, "+0.000001\n"),
            (-50_000, "-0.050000\n"),
            (3_600_000_000, "+3600.000000\n"),
            (-1_800_500_000, "-1800.500000\n"),
        ] {
            assert_eq!(line(offset_us), text);
        }
    }

    #[test]
    fn the_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let clock = NodeClock::new(&ClockLibrary("/a/library".into()), dir.path()).unwrap();
        let text = || fs::read_to_string(dir.path().join("clock")).unwrap();
        assert_eq!(text(), "+0.000000\n");
        clock.set(-1_500_000).unwrap();
        assert_eq!(text(), "-1.500000\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// With `cat` in the place of a node, which waits for its input to end.
    #[test]
    fn a_process_with_a_clock_of_its_own_leaves_nothing_behind() {
        // Where there is none, there is nothing to be seen.
        let Ok(library) = ClockLibrary::find() else { return };
        let dir = tempfile::tempdir().unwrap();
        let clock = NodeClock::new(&library, dir.path()).unwrap();
        let mut command = Command::new("cat");
        clock.give_to(&mut command);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // It runs once it has answered.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let left = left_by(child.id());
        assert!(left.iter().all(|file| file.exists()), "{left:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(left.iter().all(|file| file.exists()), "the library cleans up by itself: {left:?}");
        clock.clear(child.id());
        assert!(!left.iter().any(|file| file.exists()), "{left:?}");
    }

    /// What the lab relies on in the library: `date` sees the clock, and a clock that is put right again
    /// is right.
    #[test]
    fn a_process_sees_the_clock_that_it_was_given() {
        let Ok(library) = ClockLibrary::find() else { return };
        let dir = tempfile::tempdir().unwrap();
        let clock = NodeClock::new(&library, dir.path()).unwrap();
        for offset_s in [3_600, -1_800, 0] {
            clock.set(offset_s * 1_000_000).unwrap();
            let mut command = Command::new("date");
            clock.give_to(command.arg("+%s"));
            let before = seconds(SystemTime::now());
            let child = command.stdout(Stdio::piped()).spawn().unwrap();
            let process = child.id();
            let output = child.wait_with_output().unwrap();
            let after = seconds(SystemTime::now());
            clock.clear(process);
            let said: i64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
            assert!((before..=after).contains(&(said - offset_s)), "{said} by {offset_s}");
        }
    }

    fn seconds(time: SystemTime) -> i64 {
        i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap()
    }

    #[test]
    fn the_library_is_where_it_was_named_or_where_systems_have_it() {
        let home = tempfile::tempdir().unwrap();
        let dirs = [home.path().join("absent"), home.path().join("lib")];
        let why = ClockLibrary::among(None, &dirs).unwrap_err();
        assert!(why.contains("KVLAB_FAKETIME"), "{why}");
        // That of this machine before that of another one.
        for dir in ["a-foreign-one".to_owned(), format!("{ARCH}-linux-gnu")] {
            let file = dirs[1].join(dir).join(LIBRARY);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            assert_eq!(ClockLibrary::among(None, &dirs), Ok(ClockLibrary(file)));
        }
        // What is named counts alone, also if it is not there.
        let named = home.path().join("other.so");
        let why = ClockLibrary::among(Some(named.clone()), &dirs).unwrap_err();
        assert!(why.contains("other.so"), "{why}");
        fs::write(&named, "").unwrap();
        let named = named.canonicalize().unwrap();
        assert_eq!(ClockLibrary::among(Some(named.clone()), &dirs), Ok(ClockLibrary(named)));
    }
}
