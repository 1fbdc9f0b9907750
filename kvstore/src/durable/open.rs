//! A start: log, exports and state directories brought together.
//!
//! 1. A log that was being replaced by a repair is put in its place.
//! 2. The log is opened. If it is damaged, nothing else happens: see [`Damage`].
//! 3. Group 0 begins with its newest export, the data group with the directory that the log names. A
//!    directory that does not open, does not verify, or is behind what the log begins with is built
//!    anew from the newest export and the log.
//! 4. The node's own log, group 2, begins with what is here, or with nothing (`open_own.rs`).
//! 5. What nobody needs is removed: other state directories, parts, exports that are not the newest.
//!
//! Nothing that fails to verify is ever a reason to delete anything but a cache or a part (NATS
//! #7556; B30).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use proto::{GroupId, LogIndex, log};
use storage::export::{self, ExportError, ExportFile};
use storage::mvcc::{Machine, Recall};
use storage::state::StateError;
use storage::wal::{self, Recovered, RecoveredGroup, SalvagedGroup, Wal, WalError};

use super::{BuildTask, DataFiles, Founding, Replayer};
use crate::node::{BuiltState, Catalogue, NodeStart};
use crate::replication::raft::command_of;

/// Why a start is impossible. Nothing was changed but caches.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log does not open, for a reason that no repair mends.
    #[error(transparent)]
    Log(#[from] WalError),
    /// A file or directory cannot be read or changed.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The state is ahead of the log: the log lost entries that were synced, perhaps votes too.
    #[error("{what} holds everything up to index {applied}, but the log ends at {last}")]
    LogBehind {
        /// What is ahead.
        what: String,
        /// What it holds.
        applied: LogIndex,
        /// Where the log ends.
        last: LogIndex,
    },
    /// Exports cannot be read or removed.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Not even an empty state directory can be used, or a newer version wrote it.
    #[error("state directory {name}: {source}")]
    State {
        /// Its name.
        name: String,
        /// The cause.
        source: StateError,
    },
    /// The log holds nothing of a group that every node has.
    #[error("the log holds nothing of group {0}")]
    GroupMissing(GroupId),
}

/// How a start went.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once a start")]
pub enum Opened {
    /// The node can be made.
    Ready(Ready),
    /// Something that was synced does not verify. The node must not take part before it has fetched
    /// what it lost.
    Damaged(Damage),
}

/// Everything a node is made of.
#[derive(Debug)]
pub struct Ready {
    /// The open log.
    pub wal: Wal,
    /// What it and the exports hold.
    pub start: NodeStart,
    /// Data epoch of the cluster.
    pub epoch: u64,
    /// The index that the log knew to be committed in the data group.
    pub commit: LogIndex,
}

/// What is left of a node whose log, or whose last resort besides it, does not verify.
#[derive(Clone, Debug)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is wrong.
    pub why: String,
    /// What has to be kept, by group; a group without it cannot be repaired. The node's own log is left out:
    /// nobody else has it.
    pub groups: BTreeMap<GroupId, DamagedGroup>,
}

/// What a damaged node still knows of a group.
#[derive(Clone, Debug)]
pub struct DamagedGroup {
    /// Term and vote; `None` when a vote may have been in what is damaged.
    pub hard_state: Option<log::HardState>,
    /// The highest index that it saw.
    pub highest: LogIndex,
    /// Name of the state directory.
    pub state_dir: String,
    /// Voters as last known.
    pub voters: usize,
}

impl DataFiles {
    /// Opens everything. `founding` is used where the log says nothing yet.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, founding: &Founding) -> Result<Opened, OpenError> {
        let disk = self.disk.as_ref();
        Wal::finish_replace(disk, &self.dir)?;
        let (mut wal, mut recovered) =
            match Wal::open(self.disk.clone(), &self.wal_dir(), self.wal.clone()) {
                Ok(opened) => opened,
                Err(WalError::Damaged { path, offset, why }) => {
                    return self.damaged_log(path, offset, why).map(Opened::Damaged);
                }
                Err(error) => return Err(error.into()),
            };
        let mut exports = self.usable_exports(&recovered)?;
        let found_own = recovered.groups.remove(&GroupId::EVENTUAL);
        let base = |group: GroupId| exports.get(&group);
        let data = group(&recovered, GroupId::DATA)?;
        let state = self.open_state(data);
        for (group, found) in &recovered.groups {
            let covered = base(*group).is_some_and(|file| file.header.index >= found.start_index);
            // The data group can do without an export: its state alone holds everything.
            let alone = *group == GroupId::DATA
                && state.as_ref().is_ok_and(|machine| machine.applied() >= least(found));
            if found.start_index > LogIndex(0) && !covered && !alone {
                return Ok(Opened::Damaged(self.damaged_base(*group, &recovered)));
            }
        }
        let Some(catalogue) = self.open_catalogue(founding, base(GroupId::META)) else {
            return Ok(Opened::Damaged(self.damaged_base(GroupId::META, &recovered)));
        };
        let machine = self.usable_machine(GroupId::DATA, state, data, base(GroupId::DATA))?;
        let Some(machine) = machine else {
            return Ok(Opened::Damaged(self.damaged_base(GroupId::DATA, &recovered)));
        };
        let own = self.open_own(found_own, base(GroupId::EVENTUAL))?;
        if own.begins {
            exports.remove(&GroupId::EVENTUAL);
        }
        self.tidy([&data.state_dir, &own.group.state_dir], &exports)?;
        wal.free()?;
        let epoch = exports.values().map(|file| file.header.epoch).max().unwrap_or(0);
        let commit = LogIndex(data.hard_state.commit);
        let exports = exports.into_values().collect();
        let secrets = self.secrets().read().map_err(io_error(Path::new("secrets")))?;
        let start = NodeStart { recovered, catalogue, machine, own, exports, secrets };
        Ok(Opened::Ready(Ready { wal, start, epoch, commit }))
    }

    /// The newest export of each group that belongs to this log.
    fn usable_exports(
        &self,
        recovered: &Recovered,
    ) -> Result<BTreeMap<GroupId, ExportFile>, OpenError> {
        let dir = self.exports_dir();
        let names = export::exports_in(self.disk.as_ref(), &dir)?;
        let mut newest: BTreeMap<GroupId, ExportFile> = BTreeMap::new();
        for (group, index, path) in names {
            let file = match export::inspect(self.disk.as_ref(), &path) {
                Ok(file) => file,
                Err(error @ ExportError::Io { .. }) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "an export is of no use");
                    continue;
                }
            };
            let ours = file.header.cluster == self.cluster
                && file.header.group == group
                && file.header.index == index;
            if !ours {
                tracing::warn!(path = %path.display(), "an export belongs to something else");
                continue;
            }
            // One that was received, but whose install the log does not know, is ahead of it.
            let found = recovered.groups.get(&group);
            if !found.is_some_and(|found| belongs(&file, found)) {
                continue;
            }
            if newest.get(&group).is_none_or(|newest| newest.header.index < index) {
                newest.insert(group, file);
            }
        }
        Ok(newest)
    }

    /// A group's state in the directory that the log names, at its last checkpoint. What the entries behind
    /// that write is looked up while the whole of it is read.
    pub(super) fn open_state(&self, found: &RecoveredGroup) -> Result<Machine, StateError> {
        let store = self.states.open(&found.state_dir)?;
        let mut recall = Recall::new();
        let behind = found.entries.iter().filter(|entry| {
            entry.index > found.checkpoint.get() && entry.kind() != log::EntryKind::ConfChange
        });
        for command in behind.filter_map(command_of) {
            recall.note(&command);
        }
        Machine::open_for(store, self.machine, recall)
    }

    /// Group 0 at its newest export; `None` when that is of no use.
    fn open_catalogue(
        &self,
        founding: &Founding,
        export: Option<&ExportFile>,
    ) -> Option<Catalogue> {
        let Some(file) = export else {
            let members = if founding.joined { &[][..] } else { &founding.members[..] };
            return Some(Catalogue::formed(members));
        };
        let built = BuildTask::begin(self, file.clone(), "").and_then(BuildTask::complete);
        match built.map(|built| built.state) {
            Ok(BuiltState::Catalogue(catalogue)) => Some(*catalogue),
            Ok(BuiltState::Machine(_)) => unreachable!("group 0 holds a catalogue"),
            Err(why) => {
                tracing::error!(why, "the last export of group 0 is of no use");
                None
            }
        }
    }

    /// A group's state as it was opened, or rebuilt if need be; `None` when that cannot be done from what is
    /// here.
    pub(super) fn usable_machine(
        &self,
        group: GroupId,
        opened: Result<Machine, StateError>,
        found: &RecoveredGroup,
        export: Option<&ExportFile>,
    ) -> Result<Option<Machine>, OpenError> {
        let name = &found.state_dir;
        let least = least(found);
        let failed = |source| OpenError::State { name: name.clone(), source };
        let why = match opened {
            Ok(machine) => {
                check_not_behind(name, machine.applied(), found)?;
                if machine.applied() >= least {
                    return Ok(Some(machine));
                }
                format!("it holds {}, and {least} is needed", machine.applied())
            }
            Err(source @ StateError::Newer { .. }) => return Err(failed(source)),
            Err(error) => error.to_string(),
        };
        // What is here may be better than nothing: it moves only when something can take its place.
        if found.start_index > LogIndex(0) {
            let useless = match export.map(|file| export::verify(self.disk.as_ref(), &file.path)) {
                Some(Ok(_)) => None,
                Some(Err(error)) => Some(error.to_string()),
                None => Some("there is none".to_owned()),
            };
            if let Some(export) = useless {
                tracing::error!(
                    name,
                    why,
                    export,
                    "the state is of no use, nor is the last export"
                );
                return Ok(None);
            }
        }
        tracing::warn!(name, why, "the state is rebuilt from the last export and the log");
        self.states.set_aside(name).map_err(io_error(Path::new(name)))?;
        let machine = match export {
            Some(file) => {
                let built =
                    BuildTask::begin(self, file.clone(), name).and_then(BuildTask::complete);
                match built.map(|built| built.state) {
                    Ok(BuiltState::Machine(machine)) => *machine,
                    Ok(BuiltState::Catalogue(_)) => unreachable!("a data group holds a machine"),
                    Err(why) => {
                        tracing::error!(why, "the last export is of no use");
                        self.states.remove(name).map_err(io_error(Path::new(name)))?;
                        if found.start_index > LogIndex(0) {
                            return Ok(None);
                        }
                        self.empty_machine(name)?
                    }
                }
            }
            None if found.start_index > LogIndex(0) => return Ok(None),
            None => self.empty_machine(name)?,
        };
        self.replay(group, machine, found).map(Some)
    }

    fn empty_machine(&self, name: &str) -> Result<Machine, OpenError> {
        let opened = self.states.open(name).and_then(|store| Machine::open(store, self.machine));
        opened.map_err(|source| OpenError::State { name: name.to_owned(), source })
    }

    /// Applies what lies between a rebuilt state and the entries that are kept in memory: all of it
    /// was in a finished checkpoint, so all of it is committed.
    fn replay(
        &self,
        group: GroupId,
        machine: Machine,
        found: &RecoveredGroup,
    ) -> Result<Machine, OpenError> {
        let (from, to) = (machine.applied(), found.checkpoint);
        if from >= to {
            return Ok(machine);
        }
        tracing::info!(%from, %to, "replaying the log into the rebuilt state");
        let mut replayer = Replayer::new(machine, found);
        let mut visit = |entry: log::Entry| replayer.entry(&entry);
        let dir = self.wal_dir();
        wal::replay(self.disk.as_ref(), &dir, &self.wal, group, from, to, &mut visit).map_err(
            |error| match error {
                wal::ReplayError::Wal(error) => OpenError::Log(error),
                error @ wal::ReplayError::Absent { .. } => OpenError::Io {
                    path: self.wal_dir(),
                    source: io::Error::other(error.to_string()),
                },
                wal::ReplayError::Visit(source) => {
                    OpenError::State { name: found.state_dir.clone(), source }
                }
            },
        )?;
        Ok(replayer.finish())
    }

    /// Removes what nobody needs any more. What is not understood stays.
    fn tidy(
        &self,
        state_dirs: [&str; 2],
        exports: &BTreeMap<GroupId, ExportFile>,
    ) -> Result<(), OpenError> {
        for name in self.states.list().map_err(io_error(Path::new("state")))? {
            if !state_dirs.contains(&&*name) {
                self.states.remove(&name).map_err(io_error(Path::new(&name)))?;
            }
        }
        let dir = self.exports_dir();
        for (group, file) in exports {
            export::prune(self.disk.as_ref(), &dir, *group, file.header.index)?;
        }
        export::sweep(self.disk.as_ref(), &dir)?;
        Ok(())
    }

    fn damaged_log(&self, path: PathBuf, offset: u64, why: String) -> Result<Damage, OpenError> {
        let salvaged = wal::salvage(self.disk.as_ref(), &self.wal_dir(), &self.wal)?;
        let keep = |group: &SalvagedGroup| DamagedGroup {
            hard_state: group.hard_state,
            highest: group.highest,
            state_dir: group.state_dir.clone(),
            voters: group.conf_state.voters.len(),
        };
        let groups = of_peers(salvaged.iter().map(|(id, group)| (*id, keep(group))));
        Ok(Damage { path, offset, why, groups })
    }

    /// The log is whole, but what it begins with is not here any more.
    fn damaged_base(&self, group: GroupId, recovered: &Recovered) -> Damage {
        let keep = |group: &RecoveredGroup| DamagedGroup {
            hard_state: Some(group.hard_state),
            highest: last_index(group),
            state_dir: group.state_dir.clone(),
            voters: group.conf_state.voters.len(),
        };
        Damage {
            path: self.exports_dir(),
            offset: 0,
            why: format!(
                "neither a state nor an export that group {group} can begin with verifies"
            ),
            groups: of_peers(recovered.groups.iter().map(|(id, group)| (*id, keep(group)))),
        }
    }
}

fn group(recovered: &Recovered, id: GroupId) -> Result<&RecoveredGroup, OpenError> {
    recovered.groups.get(&id).ok_or(OpenError::GroupMissing(id))
}

/// What a state has to hold at least: the log does not say it any more, or said it was there.
fn least(group: &RecoveredGroup) -> LogIndex {
    group.start_index.max(group.checkpoint)
}

/// The groups that peers can repair: the node's own log is on no other node.
fn of_peers(
    groups: impl Iterator<Item = (GroupId, DamagedGroup)>,
) -> BTreeMap<GroupId, DamagedGroup> {
    groups.filter(|(group, _)| *group != GroupId::EVENTUAL).collect()
}

/// Index of the last entry of a group's log, or of the one that it begins behind.
pub(super) fn last_index(group: &RecoveredGroup) -> LogIndex {
    group.entries.last().map_or_else(
        || LogIndex(group.first_kept.get().saturating_sub(1)),
        |entry| LogIndex(entry.index),
    )
}

/// Whether an export holds what this log committed. One that was received, but whose install the log
/// does not know, may be ahead of the log, or stand where the log has entries that nobody committed.
fn belongs(file: &ExportFile, found: &RecoveredGroup) -> bool {
    let index = file.header.index;
    let committed = found.start_index.max(found.checkpoint).max(LogIndex(found.hard_state.commit));
    let same =
        |entry: &log::Entry| entry.index == index.get() && entry.term == file.header.term.get();
    index <= committed || found.entries.iter().any(same)
}

/// Whatever was made of the log is never ahead of it.
fn check_not_behind(
    what: &str,
    applied: LogIndex,
    found: &RecoveredGroup,
) -> Result<(), OpenError> {
    let last = last_index(found);
    if applied > last {
        return Err(OpenError::LogBehind { what: what.to_owned(), applied, last });
    }
    Ok(())
}

/// The error for a file or directory.
pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { path, source }
}
