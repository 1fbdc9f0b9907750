//! `kvstore snapshot verify`: reads a backup or an export whole and says what it is.

use std::fmt::Write;
use std::path::Path;

use proto::log::export_record::Body;
use proto::{GroupId, Hex};
use storage::backup::BackupFile;
use storage::disk::Disk;
use storage::export::ExportFile;

use super::OfflineError;
use super::cut::Cut;
use crate::identity::file_sha256;

/// A linearizable keyspace in an export.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Keyspace {
    name: String,
    revision: u64,
}

/// A backup or an export that verifies.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// The file. Of a backup, what it says of itself is that of the export of the data group; length and number of
    /// records are of all.
    pub file: ExportFile,
    /// Of the whole file, as `sha256sum` prints it.
    pub sha256: [u8; 32],
    keyspaces: Vec<Keyspace>,
    /// Of the eventual keyspaces, if the backup holds any.
    cut: Option<Cut>,
}

/// Reads a backup or an export whole.
///
/// # Errors
/// What is wrong with it; 3 when there is none.
pub fn verify(disk: &dyn Disk, path: &Path) -> Result<Verified, OfflineError> {
    let failed = |error| OfflineError::export(path, &error);
    let backup = BackupFile::open(disk, path).map_err(failed)?;
    let (mut keyspaces, mut found) = (Vec::new(), None::<ExportFile>);
    let (mut bytes, mut records) = (0, 0);
    for group in backup.groups() {
        let Some(mut reader) = backup.reader(disk, group).map_err(failed)? else { continue };
        while let Some(record) = reader.next().map_err(failed)? {
            // The items of a node's own log lie in a keyspace that is none.
            if let Some(Body::Keyspace(state)) = record.body
                && !(state.closed || group == GroupId::EVENTUAL)
            {
                let name = state.descriptor.unwrap_or_default().name;
                keyspaces.push(Keyspace { name, revision: state.revision });
            }
        }
        let part = reader.describe();
        (bytes, records) = (bytes + part.bytes, records + part.records);
        if found.is_none() || group == GroupId::DATA {
            found = Some(part);
        }
    }
    let cut = Cut::read(disk, path, &backup)?;
    let sha256 = file_sha256(disk, path).map_err(OfflineError::io("read", path))?;
    let found = found.expect("a backup has a part at least");
    let bytes = bytes + backup.head_bytes();
    Ok(Verified { file: ExportFile { bytes, records, ..found }, sha256, keyspaces, cut })
}

impl Verified {
    /// The answer of the command.
    #[must_use]
    pub fn report(&self, json: bool) -> String {
        if json { self.json() } else { self.text() }
    }

    fn text(&self) -> String {
        let ExportFile { path, header, bytes, records, .. } = &self.file;
        let names: Vec<String> =
            self.keyspaces.iter().map(|k| format!("{} at {}", k.name, k.revision)).collect();
        let mut text = format!("ok: {}\n", path.display());
        let mut lines = vec![
            ("cluster", header.cluster.to_string()),
            ("epoch", header.epoch.to_string()),
            ("group", header.group.to_string()),
            ("index", header.index.to_string()),
            ("keyspaces", format!("{}: {}", names.len(), names.join(", "))),
        ];
        lines.extend(self.cut.iter().flat_map(Cut::lines));
        lines.extend([
            ("records", records.to_string()),
            ("bytes", bytes.to_string()),
            ("sha256", Hex(&self.sha256).to_string()),
        ]);
        for (label, value) in lines {
            writeln!(text, "  {label:<10} {value}").expect("writing to a string cannot fail");
        }
        text
    }

    fn json(&self) -> String {
        let ExportFile { path, header, bytes, records, .. } = &self.file;
        let keyspaces: Vec<_> = self
            .keyspaces
            .iter()
            .map(|k| serde_json::json!({ "name": k.name, "rev": k.revision }))
            .collect();
        let mut fields = serde_json::json!({
            "schema": 1,
            "file": path.display().to_string(),
            "cluster_id": header.cluster.to_string(),
            "epoch": header.epoch,
            "group": header.group.get(),
            "index": header.index.get(),
            "term": header.term.get(),
            "keyspaces": keyspaces,
            "records": records,
            "bytes": bytes,
            "sha256": Hex(&self.sha256).to_string(),
        });
        if let Some(cut) = &self.cut {
            fields["eventual"] = cut.json();
        }
        format!("{fields}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offline::seed_file::testing;
    use storage::disk::RealDisk;

    #[test]
    fn an_export_is_described_as_text_and_as_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = testing::export(dir.path(), "backup.exp");
        let verified = verify(&RealDisk, &path).unwrap();
        let text = verified.report(false);
        for part in [
            "ok: ",
            "cluster    0303",
            "epoch      4",
            "group      1",
            "index      9",
            "keyspaces  1: default at 7",
            "records    1\n",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        let json: serde_json::Value = serde_json::from_str(&verified.report(true)).unwrap();
        assert_eq!(json["keyspaces"][0]["name"], "default");
        assert_eq!(json["bytes"], std::fs::metadata(&path).unwrap().len());
        assert_eq!(json["sha256"].as_str().unwrap().len(), 64);
    }

    #[test]
    fn any_flipped_byte_is_damage_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = testing::export(dir.path(), "backup.exp");
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            let error = verify(&RealDisk, &path).unwrap_err();
            assert_eq!(error.exit(), 9, "byte {at}: {error}");
            // The version is the one thing that is not damage but another format.
            if let OfflineError::Damaged { offset, .. } = &error {
                assert!(*offset <= at as u64, "byte {at} at {offset}");
                assert!(error.describe().contains(&format!("at byte {offset}")), "{error}");
                assert!(error.to_json().contains("\"offset\""), "{}", error.to_json());
            }
        }
        let absent = verify(&RealDisk, &dir.path().join("absent")).unwrap_err();
        assert_eq!(absent.exit(), 3);
    }
}
