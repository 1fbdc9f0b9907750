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
use gossip::items::fold_of;
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
            let bytes = (version.key.len() + version.value.len()) as u64;
            if goes_along(&version.key, version.value).is_none() {
                found.bytes += bytes;
                found.keys.insert(version.key);
            }
        }
        Ok(found)
    }

    /// What becomes of a record; `None` where it is left out.
    fn without(&self, record: log::ExportRecord) -> Option<log::ExportRecord> {
        let body = match record.body? {
            Body::Keyspace(mut state) => {
                state.live_keys = state.live_keys.saturating_sub(self.keys.len() as u64);
                state.live_bytes = state.live_bytes.saturating_sub(self.bytes);
                Body::Keyspace(state)
            }
            Body::Version(version) => {
                // What stands in for a value is as long.
                let value = goes_along(&version.key, version.value)?;
                Body::Version(log::VersionState { value, ..version })
            }
            other => other,
        };
        Some(log::ExportRecord { body: Some(body) })
    }
}
