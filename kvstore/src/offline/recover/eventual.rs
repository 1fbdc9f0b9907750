//! What a node's files hold of eventual keyspaces: its replica, as far as its own log can be read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gossip::items::{ItemsDamaged, is_item, is_sums, restore};
use proto::log::export_record::Body;
use proto::v1::keyspace::Kind;
use proto::{GroupId, log};
use storage::backup::encode_head;
use storage::disk::{Disk, OpenMode};
use storage::export::{ExportFile, ExportHeader, ExportWriter};
use storage::mvcc::CheckpointProgress;
use storage::state::StateError;
use storage::wal::RecoveredGroup;

use super::salvage::export_machine;
use crate::node::{Catalogue, Ticket};
use crate::offline::OfflineError;
use crate::offline::seed_file::append;
use crate::replication::Outbox;
use crate::replication::own_log::{OwnLog, OwnStart};
use crate::replication::raft::{StateMachine, command_of};

/// The catalogue and the replica of a node. Only where there is an eventual keyspace.
#[derive(Debug)]
pub(super) struct Eventual {
    catalogue: Catalogue,
    own: OwnLog,
    /// The store has lost something of it.
    is_incomplete: bool,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Written {
    /// In a line.
    pub(super) says: String,
    /// There is a backup; what contradicts itself is left out.
    pub(super) is_backup: bool,
}

impl Eventual {
    /// Applies every entry of group 0 and of the own log; `None` where there is no eventual keyspace.
    pub(super) fn of(
        mut catalogue: Catalogue,
        meta: &RecoveredGroup,
        own: OwnStart,
    ) -> Result<Option<Self>, StateError> {
        for entry in &meta.entries {
            if entry.index <= catalogue.applied().get() {
                continue;
            }
            let (index, term) = (entry.index.into(), entry.term.into());
            if entry.kind() == log::EntryKind::ConfChange {
                // The members of the new cluster are others.
                catalogue.apply_conf(index, term, &log::ConfState::default(), 0);
            } else {
                catalogue.apply(index, term, command_of(entry).as_ref())?;
            }
        }
        if !catalogue.keyspaces().iter().any(|keyspace| keyspace.kind() == Kind::Eventual) {
            return Ok(None);
        }
        let mut own = OwnLog::new(own, usize::MAX, &mut Outbox::new(Ticket(1)));
        // What was read from the log is durable.
        own.durable(Ticket(0))?;
        let mut eventual = Self { catalogue, own, is_incomplete: false };
        eventual.checkpoint()?;
        Ok(Some(eventual))
    }

    /// Writes what is applied to the store.
    fn checkpoint(&mut self) -> Result<(), StateError> {
        let machine = self.own.machine_mut();
        if let Some(mut job) = machine.begin_checkpoint() {
            let store = machine.store();
            while job.step(&*store)? == CheckpointProgress::Continue {}
            machine.finish_checkpoint(job.index());
        }
        Ok(())
    }

    /// Why no replica can begin with these items, if so. What the store has lost is lost: then the sums of all are left out.
    fn contradiction(&mut self) -> Result<Option<String>, StateError> {
        let mut items = Vec::new();
        let mut sums = Vec::new();
        for item in self.own.items() {
            let log::Item { key, value } = item?;
            if is_sums(&key) {
                sums.push(log::Item { key: key.clone(), value: None });
            }
            if is_item(&key) {
                items.push((key, value.unwrap_or_default()));
            }
        }
        match restore(items) {
            Err(ItemsDamaged::Sum) => {
                self.is_incomplete = true;
                let mut out = Outbox::new(Ticket(1));
                self.own.append(sums, &mut out);
                self.own.durable(Ticket(1))?;
                self.checkpoint()?;
                Ok(None)
            }
            Err(damaged) => Ok(Some(damaged.to_string())),
            Ok(_) => Ok(None),
        }
    }

    /// Writes the backup that these and the export of the data group at `data` are to `to`, durably.
    pub(super) fn write(
        mut self,
        disk: &Arc<dyn Disk>,
        name: &str,
        data: &ExportFile,
        to: &Path,
    ) -> Result<Written, OfflineError> {
        let failed = |error: StateError| {
            let source = io::Error::other(error.to_string());
            OfflineError::from(crate::server::ServerError::System {
                what: "read what is held of eventual keyspaces",
                source,
            })
        };
        if let Some(why) = self.contradiction().map_err(failed)? {
            let says = format!("eventual keyspaces are left out: {why}\n");
            return Ok(Written { says, is_backup: false });
        }
        let like = &data.header;
        let conf_state = log::ConfState::default();
        let catalogue = &self.catalogue;
        let header = ExportHeader {
            group: GroupId::META,
            index: StateMachine::applied(catalogue),
            term: catalogue.applied_term(),
            ..like.clone()
        };
        let path = beside(&data.path, GroupId::META);
        let refused = |error| OfflineError::export(&path, &error);
        let mut writer = ExportWriter::create(Arc::clone(disk), &path, header).map_err(refused)?;
        let body = Some(Body::Catalogue(catalogue.export()));
        writer.push(&log::ExportRecord { body }).map_err(refused)?;
        let mut files = vec![writer.finish().map_err(refused)?, data.clone()];
        let header =
            ExportHeader { group: GroupId::EVENTUAL, conf_state, change: 0, ..like.clone() };
        let path = beside(&data.path, GroupId::EVENTUAL);
        let own = match self.own.items().next() {
            Some(_) => export_machine(disk, self.own.machine_mut(), header, &path)?,
            None => None,
        };
        let but = match self.is_incomplete {
            true => ", but for something that its store has lost",
            false => "",
        };
        let holds = match &own {
            Some(file) => format!("as this node had them at entry {}{but}", file.header.index),
            None => "with nothing in them: what this node had of them is lost".to_owned(),
        };
        files.extend(own);
        let members = self.catalogue.members().iter().map(|member| member.member.name.clone());
        let head = log::BackupHead {
            cluster: like.cluster.0.to_vec().into(),
            epoch: like.epoch,
            node: name.to_owned(),
            parts: files.iter().map(part).collect(),
            covered: vec![name.to_owned()],
            missing: members.filter(|member| member != name).collect(),
        };
        join(disk.as_ref(), &encode_head(&head), &files, to)
            .map_err(OfflineError::io("write", to))?;
        Ok(Written { says: format!("eventual keyspaces are kept {holds}\n"), is_backup: true })
    }
}

fn part(file: &ExportFile) -> log::BackupPart {
    let group = file.header.group.get();
    log::BackupPart { group, bytes: file.bytes, sha256: file.sha256.to_vec().into() }
}

/// A path in the same directory.
fn beside(path: &Path, group: GroupId) -> PathBuf {
    path.with_file_name(format!("recovered-{group}"))
}

/// Puts a head and files one behind the other; durable on return.
fn join(disk: &dyn Disk, head: &[u8], files: &[ExportFile], to: &Path) -> io::Result<()> {
    match disk.remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut target = disk.open(to, OpenMode::CreateNew)?;
    target.write_at(0, head)?;
    let mut end = head.len() as u64;
    for file in files {
        end = append(disk, &file.path, &mut *target, end)?;
    }
    target.sync_data()?;
    disk.sync_dir(to.parent().unwrap_or(Path::new(".")))
}
