//! What a backup holds of eventual keyspaces.

use std::collections::BTreeMap;
use std::path::Path;

use gossip::items::{is_item, restore};
use proto::log::export_record::Body;
use proto::{GroupId, KeyspaceId, LogIndex, log};
use storage::backup::BackupFile;
use storage::disk::Disk;
use storage::export::ExportError;

use super::OfflineError;
use crate::durable::SeedCatalogue;

/// The cut of one replica in a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Where in the own log of the node it is.
    pub(super) index: LogIndex,
    /// Name of the node.
    pub(super) node: String,
    pub(super) covered: Vec<String>,
    pub(super) missing: Vec<String>,
    pub(super) keyspaces: Vec<CutKeyspace>,
}

/// One eventual keyspace in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CutKeyspace {
    pub(super) name: String,
    /// Keys with a value.
    pub(super) keys: u64,
    /// Values, siblings counted each.
    pub(super) values: u64,
    /// Deletes that are remembered.
    pub(super) deletes: u64,
}

impl Cut {
    /// Reads the cut whole, as a node does that begins with it; `None` where the backup has no head. It takes as much
    /// memory as there.
    pub(super) fn read(
        disk: &dyn Disk,
        path: &Path,
        backup: &BackupFile,
    ) -> Result<Option<Self>, OfflineError> {
        let failed = |error: ExportError| OfflineError::export(path, &error);
        let Some(head) = backup.head() else { return Ok(None) };
        let names = SeedCatalogue::of(disk, backup).map_err(failed)?;
        let reader = backup.reader(disk, GroupId::EVENTUAL).map_err(failed)?;
        let Some(mut reader) = reader else { return Ok(None) };
        let mut items = Vec::new();
        while let Some(record) = reader.next().map_err(failed)? {
            match record.body {
                Some(Body::Version(version)) if !version.tombstone && is_item(&version.key) => {
                    items.push((version.key, version.value));
                }
                _ => {}
            }
        }
        let restored = restore(items).map_err(|damaged| {
            let why = format!("the cut of the eventual keyspaces makes no replica: {damaged}");
            OfflineError::export(path, &ExportError::Damaged { path: path.into(), offset: 0, why })
        })?;
        let mut counts: BTreeMap<KeyspaceId, CutKeyspace> = names
            .eventual()
            .map(|k| (KeyspaceId(k.id), CutKeyspace { name: k.name.clone(), ..Default::default() }))
            .collect();
        for (key, entry) in restored.state.entries() {
            // What is left of one that was removed is not restored.
            let Some(counted) = counts.get_mut(&key.keyspace) else { continue };
            let values = entry.live().count() as u64;
            counted.keys += u64::from(values > 0);
            counted.values += values;
            counted.deletes += (entry.siblings().len() + entry.dormant().len()) as u64 - values;
        }
        let log::BackupHead { node, covered, missing, .. } = head.clone();
        let (index, keyspaces) = (reader.header().index, counts.into_values().collect());
        Ok(Some(Self { index, node, covered, missing, keyspaces }))
    }

    /// Lines of the report, by label.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let held = |k: &CutKeyspace| {
            let CutKeyspace { name, keys, values, deletes } = k;
            format!("{name} with {keys} keys, {values} values, {deletes} deletes")
        };
        let names: Vec<String> = self.keyspaces.iter().map(held).collect();
        let mut lines = vec![
            ("eventual", format!("{}: {}", names.len(), names.join("; "))),
            ("cut", format!("of {} at {}", self.node, self.index)),
            ("covered", self.covered.join(", ")),
        ];
        if !self.missing.is_empty() {
            lines.push(("missing", self.missing.join(", ")));
        }
        lines
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let keyspace = |k: &CutKeyspace| {
            serde_json::json!({
                "name": k.name, "keys": k.keys, "values": k.values, "deletes": k.deletes,
            })
        };
        serde_json::json!({
            "node": self.node,
            "index": self.index.get(),
            "covered": self.covered,
            "missing": self.missing,
            "keyspaces": self.keyspaces.iter().map(keyspace).collect::<Vec<_>>(),
        })
    }
}
