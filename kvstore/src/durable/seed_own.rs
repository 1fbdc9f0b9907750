//! The own log of a node that begins with the cut of a backup.
//!
//! Every node of a restored cluster begins with the items of one replica of the old one: its clock, horizon, entries
//! with all certificates, and write ids. So what was deleted is superseded on all of them, and nobody waits for
//! anybody. Left out is what was of that node alone ([`goes_along`]). The actors of the old cluster stay in the clock;
//! each start mints a new one.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use gossip::items::{Item, fold_of};
use proto::log::export_record::Body;
use proto::{GroupId, log};
use storage::backup::BackupFile;
use storage::disk::Disk;
use storage::export::{self, ExportError, ExportHeader, ExportReader, ExportWriter};

use super::seed_catalogue::SeedCatalogue;
use crate::replication::gossip::goes_along;

const GROUP: GroupId = GroupId::EVENTUAL;

/// What is left out of a cut.
#[derive(Default)]
struct LeftOut {
    keys: BTreeSet<Bytes>,
    /// Keys and values of them, in bytes.
    bytes: u64,
    /// Some item goes along.
    some_stay: bool,
}

/// Writes the export with which the own log begins, if the backup holds a cut, and answers the state of the group in
/// the log. `like` has what the exports of all groups have in common; the catalogue is told of the folds of the cut.
pub(super) fn plant(
    disk: &Arc<dyn Disk>,
    backup: &BackupFile,
    dir: &Path,
    like: &ExportHeader,
    catalogue: &mut SeedCatalogue,
) -> Result<Option<log::GroupState>, ExportError> {
    let Some(mut reader) = backup.reader(disk.as_ref(), GROUP)? else { return Ok(None) };
    let left_out = LeftOut::find(&mut reader, catalogue)?;
    let Some(mut reader) = backup.reader(disk.as_ref(), GROUP)? else { return Ok(None) };
    let (index, term) = (reader.header().index, reader.header().term);
    let conf_state = log::ConfState::default();
    let header = ExportHeader { group: GROUP, index, term, conf_state, ..like.clone() };
    let path = export::path_of(dir, GROUP, index);
    let mut writer = ExportWriter::create(Arc::clone(disk), &path, header)?;
    while let Some(record) = reader.next()? {
        if let Some(record) = left_out.without(record) {
            writer.push(&record)?;
        }
    }
    writer.finish()?;
    let (index, term) = (index.get(), term.get());
    Ok(Some(log::GroupState {
        hard_state: Some(log::HardState { term, vote: 0, commit: index }),
        start_index: index,
        start_term: term,
        state_dir: format!("{GROUP}-0"),
        last_index: index,
        last_term: term,
        ..log::GroupState::default()
    }))
}

impl LeftOut {
    fn find(reader: &mut ExportReader, catalogue: &mut SeedCatalogue) -> Result<Self, ExportError> {
        let mut found = Self::default();
        while let Some(record) = reader.next()? {
            let Some(Body::Version(version)) = record.body else { continue };
            if let Some(fold) = fold_of(&version.key, &version.value) {
                catalogue.take_fold(&fold);
            }
            if goes_along(&version.key) {
                found.some_stay = true;
            } else {
                found.bytes += (version.key.len() + version.value.len()) as u64;
                found.keys.insert(version.key);
            }
        }
        Ok(found)
    }

    /// What becomes of a record; `None` where it is left out.
    fn without(&self, record: log::ExportRecord) -> Option<log::ExportRecord> {
        let body = match record.body {
            Some(Body::Keyspace(mut state)) => {
                state.live_keys = state.live_keys.saturating_sub(self.keys.len() as u64);
                state.live_bytes = state.live_bytes.saturating_sub(self.bytes);
                if let Some(stands_in) = self.stand_in() {
                    state.live_keys += 1;
                    state.live_bytes += bytes_of(&stands_in);
                }
                Body::Keyspace(state)
            }
            Some(Body::Version(version)) if self.keys.contains(&version.key) => {
                let stands_in =
                    self.stand_in().filter(|_| Some(&version.key) == self.keys.first())?;
                let Item { key, value } = stands_in;
                Body::Version(log::VersionState {
                    key,
                    value: value.unwrap_or_default(),
                    ..version
                })
            }
            other => other?,
        };
        Some(log::ExportRecord { body: Some(body) })
    }

    /// Where nothing goes along, because nothing was ever written, an item that says so: a directory without any
    /// looks like one that has lost them.
    fn stand_in(&self) -> Option<Item> {
        (!self.some_stay && !self.keys.is_empty()).then(gossip::items::of_nothing)
    }
}

fn bytes_of(item: &Item) -> u64 {
    (item.key.len() + item.value.as_ref().map_or(0, Bytes::len)) as u64
}
