//! The newest state that can be made of a node's files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::{Code, Failure, GroupId, LogIndex, Term, log};
use storage::disk::Disk;
use storage::export::{self, ExportFile, ExportHeader, ExportWriter};
use storage::mvcc::{ExportProgress, Machine, MachineOptions};
use storage::state::StateError;
use storage::wal::{RecoveredGroup, Wal, WalError, WalOptions};

use super::eventual::Eventual;
use crate::durable::{Damage, DataFiles, Founding, OpenError, Opened, Ready, Replayer, SledDirs};
use crate::offline::{OfflineError, seed_file};
use crate::server::ServerError;

/// What is looked at. Other files are none of a node's, or hold no data.
const COPIED: [&str; 4] = ["wal", "wal.new", "state", "exports"];

/// Where nothing of the log can be read.
const WITHOUT_EVENTUAL: &str = "nothing is kept of eventual keyspaces, if there were any: what this node had of them cannot be \
     read without its log\n";

/// A node's files, and where a copy of them can be worked on.
///
/// Where the log can be read, up to its end or its damage, what the node's own log holds of eventual keyspaces is kept as
/// well, as by a backup, also where a state or an export holds more of the data group than the log.
#[derive(Debug)]
pub struct Salvage {
    /// The disk they are on.
    pub disk: Arc<dyn Disk>,
    /// The node's directory, of which nothing is changed.
    pub data_dir: PathBuf,
    /// The directory of the copy. What is left of an earlier attempt is removed.
    pub scratch: PathBuf,
    /// How the log is kept.
    pub wal: WalOptions,
    /// What the node formed with.
    pub founding: Founding,
    /// The node's name.
    pub name: String,
}

/// The whole log was applied.
struct Whole {
    machine: Machine,
    conf: (log::ConfState, u64),
    epoch: u64,
    commit: LogIndex,
    eventual: Option<Eventual>,
}

/// The best there is without the log.
enum Resort {
    /// A state directory, as of this index.
    State { name: String, applied: LogIndex },
    /// An export.
    Export(Box<ExportFile>),
}

impl Resort {
    fn index(&self) -> LogIndex {
        match self {
            Self::State { applied, .. } => *applied,
            Self::Export(file) => file.header.index,
        }
    }
}

impl Salvage {
    /// Writes an export of the newest state that can be made, and says in one or more lines what
    /// that is.
    ///
    /// # Errors
    /// 9 when nothing verifies; what the disk reports.
    pub fn export(&self, to: &Path) -> Result<String, OfflineError> {
        let failed = || OfflineError::io("copy the node's files to", &self.scratch);
        remove_tree(&self.scratch).map_err(failed())?;
        for name in COPIED {
            copy_tree(&self.data_dir.join(name), &self.scratch.join(name)).map_err(failed())?;
        }
        let says = self.export_copy(to)?;
        remove_tree(&self.scratch).map_err(failed())?;
        Ok(says)
    }

    fn export_copy(&self, to: &Path) -> Result<String, OfflineError> {
        let files = self.files();
        let mut opened = self.open(&files);
        if matches!(opened, Err(OpenError::LogBehind { .. })) {
            self.remove_states(&files, |name| !is_of_data(name))?;
            opened = self.open(&files);
        }
        match opened {
            Ok(Opened::Ready(ready)) => {
                let whole = self.apply_all(&files, ready)?;
                let index = whole.machine.applied();
                let beyond = index.get().saturating_sub(whole.commit.get());
                let more = self.write(whole, to)?;
                Ok(format!(
                    "the log is whole: everything up to index {index} is kept; of that, the last \
                     {beyond} entries were not known to be confirmed by a majority\n{more}"
                ))
            }
            Ok(Opened::Damaged(damage)) => {
                let why = format!(
                    "{} does not verify at byte {}: {}",
                    damage.path.display(),
                    damage.offset,
                    damage.why
                );
                self.export_damaged(&files, Some(&damage), &why, to)
            }
            Err(error) => {
                let why = without_log(&error).ok_or_else(|| ServerError::from(error))?;
                self.export_damaged(&files, None, &why, to)
            }
        }
    }

    /// The log up to its damage, or the best state or export, whichever is newer. Of eventual keyspaces in both cases what
    /// the log holds before its damage.
    fn export_damaged(
        &self,
        files: &DataFiles,
        damage: Option<&Damage>,
        why: &str,
        to: &Path,
    ) -> Result<String, OfflineError> {
        let (resort, epoch) = self.best_resort(files)?;
        self.remove_states(files, |name| !is_of_data(name))?;
        let prefix = match damage {
            Some(damage) => self.before_damage(files, damage)?,
            None => match self.open_behind(files)? {
                Ok(Opened::Ready(ready)) => Some(self.apply_all(files, ready)?),
                Ok(Opened::Damaged(_)) | Err(_) => None,
            },
        };
        let least = resort.as_ref().map_or(LogIndex(0), Resort::index);
        let (eventual, without) = match prefix {
            Some(whole) if whole.machine.applied() > least => {
                let index = whole.machine.applied();
                let more = self.write(whole, to)?;
                return Ok(format!(
                    "{why}\neverything before it, up to index {index}, is kept\n{more}"
                ));
            }
            Some(whole) => (whole.eventual, ""),
            None => (None, WITHOUT_EVENTUAL),
        };
        match resort {
            Some(Resort::Export(file)) => {
                let index = file.header.index;
                let more = self.place(&file, eventual, to)?;
                Ok(format!(
                    "{why}\nthe newest export that verifies holds index {index}\n{more}{without}"
                ))
            }
            Some(Resort::State { name, applied }) => {
                let machine = self.copy_state_again(files, &name)?;
                let conf = machine.conf().map(|(conf, change)| (conf.clone(), change));
                let conf = conf.unwrap_or_default();
                let whole = Whole { machine, conf, epoch, commit: applied, eventual };
                let more = self.write(whole, to)?;
                Ok(format!(
                    "{why}\nthe state that was written last holds index {applied}\n{more}{without}"
                ))
            }
            None => {
                let subject = format!("data_dir {}", self.data_dir.display());
                let why = format!("{why}; neither a state nor an export verifies");
                let failure = Failure::new(Code::DataDamaged, subject, why);
                Err(ServerError::Failure(failure).into())
            }
        }
    }

    /// Removes states from the copy. Those of other groups than that of the data say nothing about the data where a log that
    /// lacks its end is behind them.
    fn remove_states(
        &self,
        files: &DataFiles,
        which: impl Fn(&str) -> bool,
    ) -> Result<(), OfflineError> {
        let failed = || OfflineError::io("remove states from", &self.scratch);
        for name in files.states.list().map_err(failed())?.iter().filter(|name| which(name)) {
            files.states.remove(name).map_err(failed())?;
        }
        Ok(())
    }

    /// Opens a log that lacks its end. What is ahead of it is built anew from exports and what is left of it.
    fn open_behind(&self, files: &DataFiles) -> Result<Result<Opened, OpenError>, OfflineError> {
        let opened = self.open(files);
        if !matches!(opened, Err(OpenError::LogBehind { .. })) {
            return Ok(opened);
        }
        self.remove_states(files, |_| true)?;
        Ok(self.open(files))
    }

    fn files(&self) -> DataFiles {
        DataFiles {
            disk: Arc::clone(&self.disk),
            dir: self.scratch.clone(),
            cluster: self.wal.cluster,
            states: Arc::new(SledDirs::new(&self.scratch)),
            wal: self.wal.clone(),
            machine: MachineOptions::default(),
        }
    }

    fn open(&self, files: &DataFiles) -> Result<Opened, OpenError> {
        Wal::finish_replace(files.disk.as_ref(), &files.dir)?;
        let dir = files.wal_dir();
        let exists = Wal::exists(files.disk.as_ref(), &dir);
        if !exists.map_err(|source| OpenError::Io { path: dir, source })? {
            return Err(OpenError::GroupMissing(GroupId::DATA));
        }
        files.open(&self.founding)
    }

    /// Applies every entry that is there, committed or not.
    fn apply_all(&self, files: &DataFiles, ready: Ready) -> Result<Whole, OfflineError> {
        let Ready { start, epoch, commit, .. } = ready;
        let mut groups = start.recovered.groups;
        let meta = groups.remove(&GroupId::META).unwrap_or_else(RecoveredGroup::default);
        let own_dir = start.own.group.state_dir.clone();
        let eventual = Eventual::of(start.catalogue, &meta, start.own)
            .map_err(|source| self.state_error(&own_dir, source))?;
        let found = groups.remove(&GroupId::DATA).unwrap_or_else(RecoveredGroup::default);
        let state = |source| self.state_error(&found.state_dir, source);
        let mut next = start.machine.applied().get() + 1;
        let mut replayer = Replayer::new(start.machine, &found);
        for entry in &found.entries {
            if entry.index < next {
                continue;
            }
            assert_eq!(entry.index, next, "the log in {} has a gap", files.dir.display());
            replayer.entry(entry).map_err(state)?;
            next += 1;
        }
        replayer.checkpoint().map_err(state)?;
        let conf = (replayer.conf().0.clone(), replayer.conf().1);
        Ok(Whole { machine: replayer.finish(), conf, epoch, commit, eventual })
    }

    /// Exports what is there; a backup of all groups where there are eventual keyspaces. Says in a line what is kept of these.
    fn write(&self, whole: Whole, to: &Path) -> Result<String, OfflineError> {
        let Whole { mut machine, conf, epoch, eventual, .. } = whole;
        let header = ExportHeader {
            cluster: self.wal.cluster,
            epoch,
            group: GroupId::DATA,
            index: LogIndex(0),
            term: Term(0),
            conf_state: conf.0,
            change: conf.1,
        };
        let Some(file) = export_machine(&self.disk, &mut machine, header, to)? else {
            let subject = format!("data_dir {}", self.data_dir.display());
            let why = "its log and its state are whole, and hold nothing".to_owned();
            return Err(ServerError::Failure(Failure::new(Code::DataLost, subject, why)).into());
        };
        match eventual {
            Some(eventual) => self.place(&file, Some(eventual), to),
            None => Ok(String::new()),
        }
    }

    /// Puts a copy of an export of the data group to `to`, with what there is of eventual keyspaces. Says in a line what
    /// is kept of these.
    fn place(
        &self,
        file: &ExportFile,
        eventual: Option<Eventual>,
        to: &Path,
    ) -> Result<String, OfflineError> {
        let dir = to.parent().expect("an export lies in a directory");
        let copy = || OfflineError::io("copy an export to", dir);
        // The parts lie in the copy, which is removed.
        let aside = seed_file::copy(&*self.disk, &file.path, &self.scratch).map_err(copy())?;
        let mut says = String::new();
        if let Some(eventual) = eventual {
            let data = ExportFile { path: aside.clone(), ..file.clone() };
            let written = eventual.write(&self.disk, &self.name, &data, to)?;
            if written.is_backup {
                return Ok(written.says);
            }
            says = written.says;
        }
        self.disk.rename(&aside, to).map_err(copy())?;
        self.disk.sync_dir(dir).map_err(copy())?;
        Ok(says)
    }

    /// The newest of the state directories and exports that verify, and the data epoch by any export.
    fn best_resort(&self, files: &DataFiles) -> Result<(Option<Resort>, u64), OfflineError> {
        let failed = || OfflineError::io("look into", &self.scratch);
        let mut best: Option<Resort> = None;
        let mut consider = |found: Resort| {
            let better = best.as_ref().is_none_or(|best| best.index() < found.index());
            if better && found.index() > LogIndex(0) {
                best = Some(found);
            }
        };
        for name in files.states.list().map_err(failed())?.into_iter().filter(|n| is_of_data(n)) {
            let opened = files.states.open(&name).and_then(|s| Machine::open(s, files.machine));
            if let Ok(machine) = opened {
                consider(Resort::State { name, applied: machine.applied() });
            }
        }
        let mut epoch = 0;
        for file in self.exports(files)? {
            epoch = epoch.max(file.header.epoch);
            consider(Resort::Export(Box::new(file)));
        }
        Ok((best, epoch))
    }

    /// Exports of the data group that verify.
    fn exports(&self, files: &DataFiles) -> Result<Vec<ExportFile>, OfflineError> {
        let dir = files.exports_dir();
        let disk = self.disk.as_ref();
        let found = export::exports_in(disk, &dir).map_err(|e| OfflineError::export(&dir, &e))?;
        let verified = found
            .into_iter()
            .filter(|(group, ..)| *group == GroupId::DATA)
            .filter_map(|(_, _, path)| export::verify(disk, &path).ok())
            .filter(|file| file.header.cluster == self.wal.cluster);
        Ok(verified.collect())
    }

    /// Cuts the copy of the log where it is damaged, and applies what is left. `None` when even that
    /// cannot be opened, or is behind the state.
    fn before_damage(
        &self,
        files: &DataFiles,
        damage: &Damage,
    ) -> Result<Option<Whole>, OfflineError> {
        let failed = || OfflineError::io("cut the copy of the log in", &files.dir);
        if !damage.path.starts_with(files.wal_dir()) {
            return Ok(None);
        }
        let (mut at, mut result) = ((damage.path.clone(), damage.offset), None);
        // Each round leaves less of the log.
        while cut_log(&at.0, at.1).map_err(failed())? {
            match self.open_behind(files)? {
                Ok(Opened::Ready(ready)) => {
                    result = Some(self.apply_all(files, ready)?);
                    break;
                }
                Ok(Opened::Damaged(more)) if more.path.starts_with(files.wal_dir()) => {
                    // Where a cut did not help, the whole segment goes.
                    let offset = if more.path == at.0 { 0 } else { more.offset };
                    at = (more.path, offset);
                }
                Ok(Opened::Damaged(_)) | Err(_) => break,
            }
        }
        Ok(result)
    }

    /// Opens a state anew: what was tried with the log may have removed it from the copy.
    fn copy_state_again(&self, files: &DataFiles, name: &str) -> Result<Machine, OfflineError> {
        let failed = || OfflineError::io("copy the state to", &self.scratch);
        let from = self.data_dir.join("state").join(name);
        files.states.remove(name).map_err(failed())?;
        copy_tree(&from, &self.scratch.join("state").join(name)).map_err(failed())?;
        let opened = files.states.open(name).and_then(|s| Machine::open(s, files.machine));
        opened.map_err(|source| self.state_error(name, source))
    }

    fn state_error(&self, name: &str, source: StateError) -> OfflineError {
        ServerError::from(OpenError::State { name: name.to_owned(), source }).into()
    }
}

/// Exports what a machine holds in its store, as of where that is; `None` where it holds nothing.
pub(super) fn export_machine(
    disk: &Arc<dyn Disk>,
    machine: &mut Machine,
    header: ExportHeader,
    to: &Path,
) -> Result<Option<ExportFile>, OfflineError> {
    let Some(mut job) = machine.begin_export() else { return Ok(None) };
    let header = ExportHeader { index: job.index(), term: job.term(), ..header };
    let failed = |error| OfflineError::export(to, &error);
    let mut writer = ExportWriter::create(Arc::clone(disk), to, header).map_err(failed)?;
    let store = machine.store();
    loop {
        let step = job.step(&*store, &mut |record| writer.push(record));
        let progress = step.map_err(|error| {
            let source = io::Error::other(error.to_string());
            OfflineError::from(ServerError::System { what: "write an export", source })
        })?;
        match progress {
            ExportProgress::Continue => {}
            ExportProgress::Done => break,
        }
    }
    let file = writer.finish().map_err(failed)?;
    machine.end_export();
    Ok(Some(file))
}

/// Whether a state directory of this name is one of the data group.
fn is_of_data(name: &str) -> bool {
    name.starts_with(&format!("{}-", GroupId::DATA))
}

/// Whether a node that does not open can still have a state or an export that is of use, and why it
/// does not open.
fn without_log(error: &OpenError) -> Option<String> {
    match error {
        OpenError::LogBehind { .. } | OpenError::Log(WalError::Damaged { .. }) => {
            Some(error.to_string())
        }
        OpenError::GroupMissing(_) => Some("there is no log".to_owned()),
        OpenError::Log(_)
        | OpenError::Io { .. }
        | OpenError::Export(_)
        | OpenError::State { .. } => None,
    }
}

/// Makes a log end at this byte of this segment: zeros follow, as in one that is not full, and no later
/// segment. At its header, the segment goes as well. False when there is nothing to cut.
fn cut_log(segment: &Path, offset: u64) -> io::Result<bool> {
    let dir = segment.parent().expect("a segment lies in a directory");
    let mut names: Vec<PathBuf> = fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    names.retain(|path| path.as_path() >= segment);
    let (mut cut, whole) = (false, offset == 0);
    for path in names.iter().filter(|path| whole || path.as_path() > segment) {
        fs::remove_file(path)?;
        cut = true;
    }
    if !whole && segment.exists() {
        let file = fs::OpenOptions::new().write(true).open(segment)?;
        let bytes = file.metadata()?.len();
        file.set_len(offset)?;
        file.set_len(bytes.max(offset))?;
        cut = true;
    }
    Ok(cut)
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    fs::create_dir_all(to)?;
    for entry in entries {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
