//! Names of files and directories: as they are, and as a power loss may leave them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// A change of names that no sync of the directory has made durable.
///
/// Paths are always the present ones: renaming a directory rewrites the changes below it.
#[derive(Clone)]
enum EntryChange {
    Link { path: PathBuf, file: u64 },
    Rename { from: PathBuf, to: PathBuf, file: u64 },
    Unlink { path: PathBuf, file: u64 },
    RenameDir { from: PathBuf, to: PathBuf },
}

/// A change and whether the system still knows that it has to make it durable; a failed sync of
/// the directory forgets that.
#[derive(Clone)]
struct Pending {
    change: EntryChange,
    dirty: bool,
}

impl EntryChange {
    /// The name that the change decides about.
    fn subject(&self) -> &Path {
        match self {
            Self::Link { path, .. }
            | Self::Rename { to: path, .. }
            | Self::Unlink { path, .. }
            | Self::RenameDir { to: path, .. } => path,
        }
    }

    fn dir(&self) -> Option<&Path> {
        self.subject().parent()
    }

    /// The change with every path put through `map`.
    fn mapped(&self, map: impl Fn(&Path) -> PathBuf) -> Self {
        match self {
            Self::Link { path, file } => Self::Link { path: map(path), file: *file },
            Self::Rename { from, to, file } => {
                Self::Rename { from: map(from), to: map(to), file: *file }
            }
            Self::Unlink { path, file } => Self::Unlink { path: map(path), file: *file },
            Self::RenameDir { from, to } => Self::RenameDir { from: map(from), to: map(to) },
        }
    }

    /// Applies the change alone; changes before it may have been lost.
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Link { path, file } => {
                names.insert(path.clone(), *file);
            }
            Self::Rename { from, to, file } => {
                if names.get(from) == Some(file) {
                    names.remove(from);
                }
                names.insert(to.clone(), *file);
            }
            Self::Unlink { path, file } => {
                if names.get(path) == Some(file) {
                    names.remove(path);
                }
            }
            Self::RenameDir { from, to } => {
                let old = std::mem::take(names);
                names.extend(old.into_iter().map(|(path, file)| (moved(&path, from, to), file)));
            }
        }
    }
}

/// `path` after the directory `from` became `to`.
fn moved(path: &Path, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    }
}

/// `path` as it would be without these renames of directories, oldest first.
fn unmoved(path: &Path, renames: &[(PathBuf, PathBuf)]) -> PathBuf {
    renames.iter().rev().fold(path.to_owned(), |path, (from, to)| moved(&path, to, from))
}

/// The names on a disk.
///
/// Making a directory is durable at once. Everything else is durable with the sync of the directory
/// that holds the new name, a rename of a file from one directory to another included.
#[derive(Clone, Default)]
pub(super) struct Names {
    current: BTreeMap<PathBuf, u64>,
    durable: BTreeMap<PathBuf, u64>,
    changes: Vec<Pending>,
    dirs: BTreeSet<PathBuf>,
}

impl Names {
    /// Paths of all files.
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.current.keys()
    }

    /// Numbers of all files that have a name.
    pub(super) fn files(&self) -> impl Iterator<Item = u64> {
        self.current.values().copied()
    }

    pub(super) fn file_of(&self, path: &Path) -> io::Result<u64> {
        self.current.get(path).copied().ok_or_else(|| absent("file", path))
    }

    /// Whether a file of this name can be made.
    pub(super) fn check_free(&self, path: &Path) -> io::Result<()> {
        if self.current.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.check_dir_of(path)
    }

    fn check_dir_of(&self, path: &Path) -> io::Result<()> {
        if path.parent().is_some_and(|dir| self.dirs.contains(dir)) {
            Ok(())
        } else {
            Err(absent("directory for", path))
        }
    }

    pub(super) fn link(&mut self, path: &Path, file: u64) {
        self.change(EntryChange::Link { path: path.to_owned(), file });
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let file = self.file_of(path)?;
        self.change(EntryChange::Unlink { path: path.to_owned(), file });
        Ok(())
    }

    pub(super) fn create_dir_all(&mut self, dir: &Path) {
        self.dirs.extend(dir.ancestors().map(Path::to_owned));
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.check_dir_of(to)?;
        if self.dirs.contains(from) {
            return self.rename_dir(from, to);
        }
        let file = self.file_of(from)?;
        if self.dirs.contains(to) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.change(EntryChange::Rename { from: from.to_owned(), to: to.to_owned(), file });
        Ok(())
    }

    fn rename_dir(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.list(to).is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        if self.current.contains_key(to) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        for pending in &mut self.changes {
            match pending.change {
                EntryChange::RenameDir { .. } => {}
                EntryChange::Link { .. }
                | EntryChange::Rename { .. }
                | EntryChange::Unlink { .. } => {
                    pending.change = pending.change.mapped(|path| moved(path, from, to));
                }
            }
        }
        self.dirs = self.dirs.iter().map(|dir| moved(dir, from, to)).collect();
        self.change(EntryChange::RenameDir { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn change(&mut self, change: EntryChange) {
        change.apply(&mut self.current);
        self.changes.push(Pending { change, dirty: true });
    }

    /// Makes changes of names durable. A forgotten one stays undecided until a later change of the
    /// same name becomes durable.
    pub(super) fn sync_dir(&mut self, dir: &Path) {
        let mut decided: BTreeSet<PathBuf> = BTreeSet::new();
        let mut rest = Vec::new();
        for pending in std::mem::take(&mut self.changes).into_iter().rev() {
            let subject = pending.change.subject();
            let synced = pending.dirty && pending.change.dir() == Some(dir);
            let open = synced || !decided.contains(subject);
            if synced {
                decided.insert(subject.to_owned());
            }
            if open {
                rest.push((synced, pending));
            }
        }
        rest.reverse();
        let unsynced = rest.iter().filter(|(synced, _)| !synced).map(|(_, pending)| pending);
        let renames = renames_in(unsynced);
        for (synced, pending) in rest {
            if synced {
                pending.change.mapped(|path| unmoved(path, &renames)).apply(&mut self.durable);
            } else {
                self.changes.push(pending);
            }
        }
    }

    /// A sync of a directory that failed: its changes can still be seen, and no later sync makes
    /// them durable.
    pub(super) fn forget(&mut self, dir: &Path) {
        let changes = self.changes.iter_mut().filter(|pending| pending.change.dir() == Some(dir));
        changes.for_each(|pending| pending.dirty = false);
    }

    /// How many changes a power loss decides about.
    pub(super) fn undecided(&self) -> usize {
        self.changes.len()
    }

    /// The names after a power loss that keeps the changes whose number `survives`.
    pub(super) fn lose_power(&mut self, survives: impl Fn(usize) -> bool) {
        let changes = std::mem::take(&mut self.changes);
        let (kept, lost): (Vec<_>, Vec<_>) =
            changes.into_iter().enumerate().partition(|(number, _)| survives(*number));
        let lost = renames_in(lost.iter().map(|(_, pending)| pending));
        // Renamed directories first: the paths of all other changes are those after the renames.
        let (renames, others): (Vec<_>, Vec<_>) = kept
            .into_iter()
            .map(|(_, pending)| pending.change.mapped(|path| unmoved(path, &lost)))
            .partition(|change| matches!(change, EntryChange::RenameDir { .. }));
        let mut names = std::mem::take(&mut self.durable);
        renames.iter().chain(&others).for_each(|change| change.apply(&mut names));
        self.dirs = self.dirs.iter().map(|dir| unmoved(dir, &lost)).collect();
        let dirs = names.keys().filter_map(|path| path.parent()).flat_map(Path::ancestors);
        self.dirs.extend(dirs.map(Path::to_owned));
        self.durable = names.clone();
        self.current = names;
    }

    /// Names directly below a directory.
    pub(super) fn list(&self, dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = self
            .current
            .keys()
            .chain(&self.dirs)
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort_unstable();
        names
    }
}

fn renames_in<'a>(changes: impl Iterator<Item = &'a Pending>) -> Vec<(PathBuf, PathBuf)> {
    changes
        .filter_map(|pending| match &pending.change {
            EntryChange::RenameDir { from, to } => Some((from.clone(), to.clone())),
            EntryChange::Link { .. } | EntryChange::Rename { .. } | EntryChange::Unlink { .. } => {
                None
            }
        })
        .collect()
}

fn absent(what: &str, path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no {what} {}", path.display()))
}
