//! Names of exports, and the files beside them.

use std::io;
use std::path::{Path, PathBuf};

use proto::{GroupId, LogIndex};

use super::error::ExportError;
use super::reader::inspect;
use crate::disk::Disk;

const SUFFIX: &str = ".exp";
const PART_SUFFIX: &str = ".part";
const UNFINISHED_SUFFIX: &str = ".exp.new";
const ASIDE_SUFFIX: &str = ".aside";

/// Path of an export: `<group>-<index>.exp`, the group in decimal, the index as 16 hex digits.
#[must_use]
pub fn path_of(dir: &Path, group: GroupId, index: LogIndex) -> PathBuf {
    dir.join(format!("{}{SUFFIX}", stem(group, index)))
}

/// Path of an export that is being written.
pub(super) fn unfinished_path_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// The exports in a directory, ascending by group and index; none when it is absent. Only names are
/// looked at.
///
/// # Errors
/// [`ExportError::Io`].
pub fn exports_in(
    disk: &dyn Disk,
    dir: &Path,
) -> Result<Vec<(GroupId, LogIndex, PathBuf)>, ExportError> {
    let names = disk.list(dir).map_err(ExportError::io("list", dir))?;
    let mut exports: Vec<_> = names
        .iter()
        .filter_map(|name| {
            let (group, index) = parse(name)?;
            Some((group, index, dir.join(name)))
        })
        .collect();
    exports.sort_unstable();
    Ok(exports)
}

/// Removes the exports of `group` that are older than the one at `keep`, and parts of such. Returns
/// how many files went.
///
/// Removes nothing unless the export at `keep` is there and passes [`inspect`]: a damaged export
/// never makes another one superfluous. The removal is durable on return.
///
/// # Errors
/// Those of [`inspect`]; [`ExportError::Io`], some may then have been removed.
pub fn prune(
    disk: &dyn Disk,
    dir: &Path,
    group: GroupId,
    keep: LogIndex,
) -> Result<usize, ExportError> {
    inspect(disk, &path_of(dir, group, keep))?;
    remove_all(disk, dir, |name| {
        let found = parse(name).or_else(|| parse_unfinished(name));
        found.is_some_and(|(of, index)| of == group && index < keep)
    })
}

/// Gives the exports of `group` another name, under which nobody takes them for exports any more: what they
/// hold belongs to a log that is lost. One with the same name goes. Returns how many there were; durable on
/// return.
///
/// # Errors
/// [`ExportError::Io`], some may then have another name.
pub fn set_aside(disk: &dyn Disk, dir: &Path, group: GroupId) -> Result<usize, ExportError> {
    let mut aside = 0;
    for (_, _, path) in exports_in(disk, dir)?.into_iter().filter(|(of, ..)| *of == group) {
        let mut name = path.as_os_str().to_owned();
        name.push(ASIDE_SUFFIX);
        disk.rename(&path, Path::new(&name)).map_err(ExportError::io("rename", &path))?;
        aside += 1;
    }
    if aside > 0 {
        disk.sync_dir(dir).map_err(ExportError::io("sync", dir))?;
    }
    Ok(aside)
}

/// Removes what crashes left of exports that were being written or received. For the start of a
/// node, before any of them is begun. Returns how many files went; durable on return.
///
/// # Errors
/// [`ExportError::Io`].
pub fn sweep(disk: &dyn Disk, dir: &Path) -> Result<usize, ExportError> {
    remove_all(disk, dir, |name| parse_unfinished(name).is_some())
}

fn remove_all(
    disk: &dyn Disk,
    dir: &Path,
    which: impl Fn(&str) -> bool,
) -> Result<usize, ExportError> {
    let names = disk.list(dir).map_err(ExportError::io("list", dir))?;
    let mut removed = 0;
    for name in names.iter().filter(|name| which(name)) {
        remove_if_present(disk, &dir.join(name))?;
        removed += 1;
    }
    if removed > 0 {
        disk.sync_dir(dir).map_err(ExportError::io("sync", dir))?;
    }
    Ok(removed)
}

pub(super) fn remove_if_present(disk: &dyn Disk, path: &Path) -> Result<(), ExportError> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(ExportError::io("remove", path)),
    }
}

fn stem(group: GroupId, index: LogIndex) -> String {
    format!("{group}-{:016x}", index.get())
}

/// Group and index in the name of an export; `None` unless it is exactly what we would write.
pub(super) fn parse(name: &str) -> Option<(GroupId, LogIndex)> {
    parse_stem(name.strip_suffix(SUFFIX)?)
}

fn parse_unfinished(name: &str) -> Option<(GroupId, LogIndex)> {
    parse_stem(name.strip_suffix(UNFINISHED_SUFFIX).or_else(|| name.strip_suffix(PART_SUFFIX))?)
}

fn parse_stem(text: &str) -> Option<(GroupId, LogIndex)> {
    let (group, index) = text.split_once('-')?;
    let group = GroupId(group.parse().ok()?);
    let index = LogIndex(u64::from_str_radix(index, 16).ok()?);
    (text == stem(group, index)).then_some((group, index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_are_exports() {
        let path = path_of(Path::new("/e"), GroupId(12), LogIndex(0x1f));
        assert_eq!(path, Path::new("/e/12-000000000000001f.exp"));
        let found = Some((GroupId(12), LogIndex(0x1f)));
        assert_eq!(parse("12-000000000000001f.exp"), found);
        assert_eq!(parse_unfinished("12-000000000000001f.exp.new"), found);
        assert_eq!(parse_unfinished("12-000000000000001f.part"), found);
        for other in [
            "12-000000000000001f.exp.new",
            "12-000000000000001f.part",
            "12-1f.exp",
            "012-000000000000001f.exp",
            "+12-000000000000001f.exp",
            "12-000000000000001F.exp",
            "12-000000000000001f.exp.damaged-1",
            "seed.exp",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(parse_unfinished("12-000000000000001f.exp"), None);
    }
}
