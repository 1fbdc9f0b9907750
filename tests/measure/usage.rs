//! Memory and disk that a node takes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jepsen::cluster::Cluster;

use super::Failed;

/// Bytes of a mebibyte.
pub const MIB: u64 = 1024 * 1024;
/// Unit in which a file's allocated length is counted.
const BLOCK_BYTES: u64 = 512;
/// Fields between the name of a process and its time in user mode, which that in the kernel follows.
const USER_TIME_FIELD: usize = 11;
/// Unit in which Linux shows these times, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resident memory of a process, as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes now.
    pub now: u64,
    /// Most bytes since its start.
    pub peak: u64,
}

impl Memory {
    /// That of a process on this machine.
    ///
    /// # Errors
    /// The process is gone, or the kernel does not tell.
    pub fn of_process(id: u32) -> Result<Self, Failed> {
        Self::read(Path::new(&format!("/proc/{id}/status")))
    }

    /// That of this program.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn of_self() -> Result<Self, Failed> {
        Self::read(Path::new("/proc/self/status"))
    }

    /// That of a node.
    ///
    /// # Errors
    /// It does not run.
    pub fn of_node(cluster: &Cluster, node: usize) -> Result<Self, Failed> {
        let id = cluster.process_id(node).ok_or("the node does not run")?;
        Self::of_process(id)
    }

    fn read(path: &Path) -> Result<Self, Failed> {
        let text = fs::read_to_string(path)?;
        let field = |name: &str| -> Result<u64, Failed> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes = line.and_then(|rest| rest.trim().strip_suffix("kB"));
            let kibibytes = kibibytes.ok_or_else(|| format!("no {name} in {}", path.display()))?;
            Ok(kibibytes.trim().parse::<u64>()? * 1024)
        };
        Ok(Self { now: field("VmRSS:")?, peak: field("VmHWM:")? })
    }
}

/// Processor time that a node has used since its start, in seconds. On a machine that does other
/// things as well it says more than the clock.
///
/// # Errors
/// The node does not run, or the kernel does not tell.
pub fn processor_seconds(cluster: &Cluster, node: usize) -> Result<f64, Failed> {
    let id = cluster.process_id(node).ok_or("the node does not run")?;
    let text = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name of the program, in brackets, may hold anything; what follows are numbers.
    let numbers = text.rsplit_once(')').ok_or("no name in the process's figures")?.1;
    let fields = numbers.split_whitespace().skip(USER_TIME_FIELD).take(2);
    let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<u64>() as f64 / TICKS_PER_SECOND)
}

/// Bytes that a data directory takes on the disk, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// `wal/`.
    pub log: u64,
    /// `state/`.
    pub state: u64,
    /// `exports/`.
    pub exports: u64,
    /// All the rest.
    pub other: u64,
}

impl Usage {
    /// What the data of a node takes, whether it runs or not. Files that go away meanwhile count as
    /// nothing.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn of_node(cluster: &Cluster, node: usize) -> Result<Self, Failed> {
        let mut usage = Self::default();
        for entry in fs::read_dir(cluster.data_dir(node))? {
            let entry = entry?;
            let bytes = allocated(&entry.path())?;
            match entry.file_name().to_str() {
                Some("wal") => usage.log += bytes,
                Some("state") => usage.state += bytes,
                Some("exports") => usage.exports += bytes,
                _ => usage.other += bytes,
            }
        }
        Ok(usage)
    }

    /// All together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.log + self.state + self.exports + self.other
    }
}

/// Bytes allocated to a file, or to all files below a directory.
fn allocated(path: &Path) -> io::Result<u64> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if gone(&error) => return Ok(0),
        other => other?,
    };
    if !metadata.is_dir() {
        return Ok(metadata.blocks() * BLOCK_BYTES);
    }
    let entries = match fs::read_dir(path) {
        Err(error) if gone(&error) => return Ok(0),
        other => other?,
    };
    let mut sum = 0;
    for entry in entries {
        sum += allocated(&entry?.path())?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_directory_takes_is_counted_down_to_its_leaves() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/file"), vec![7; 100_000]).unwrap();
        let whole = allocated(dir.path()).unwrap();
        assert!((100_000..200_000).contains(&whole), "{whole}");
        assert_eq!(allocated(&dir.path().join("absent")).unwrap(), 0);
    }

    #[test]
    fn a_process_has_memory_and_a_peak_above_it() {
        let memory = Memory::of_self().unwrap();
        assert!(memory.now > MIB / 2 && memory.peak >= memory.now / 2, "{memory:?}");
        assert!(Memory::of_process(u32::MAX).is_err());
    }
}
