//! Backups of two exports on a simulated disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::log::export_record::Body;
use proto::{ClusterId, GroupId, LogIndex, Term, log};

use super::*;
use crate::disk::{Disk, OpenMode, SimDisk};
use crate::export::{ExportError, ExportFile, ExportHeader, ExportWriter, FORMAT_VERSION};

const CLUSTER: ClusterId = ClusterId([3; 16]);

fn path() -> PathBuf {
    "/b/backup.exp".into()
}

/// An export of a group, with this many records.
fn export(disk: &SimDisk, group: GroupId, records: u64) -> ExportFile {
    let header = ExportHeader {
        cluster: CLUSTER,
        epoch: 4,
        group,
        index: LogIndex(9),
        term: Term(2),
        conf_state: log::ConfState::default(),
        change: 0,
    };
    let path = Path::new("/b").join(format!("{group}-{records}"));
    let mut writer = ExportWriter::create(Arc::new(disk.clone()), &path, header).unwrap();
    for index in 1..=records {
        let record = vec![index as u8; 40].into();
        let outcome = Body::Outcome(log::OutcomeState { index, record });
        writer.push(&log::ExportRecord { body: Some(outcome) }).unwrap();
    }
    writer.finish().unwrap()
}

fn content(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

fn put(disk: &SimDisk, bytes: &[u8]) {
    drop(disk.remove_file(&path()));
    let mut file = disk.open(&path(), OpenMode::CreateNew).unwrap();
    file.write_at(0, bytes).unwrap();
}

fn part(file: &ExportFile) -> log::BackupPart {
    let ExportFile { header, bytes, sha256, .. } = file;
    log::BackupPart { group: header.group.get(), bytes: *bytes, sha256: sha256.to_vec().into() }
}

/// The bytes of a backup that holds these exports, whatever its head says.
fn backup(disk: &SimDisk, named: &[&ExportFile], held: &[&ExportFile]) -> Vec<u8> {
    let head = log::BackupHead {
        cluster: CLUSTER.0.to_vec().into(),
        epoch: 4,
        node: "n1".into(),
        parts: named.iter().map(|file| part(file)).collect(),
        ..log::BackupHead::default()
    };
    let mut bytes = encode_head(&head);
    held.iter().for_each(|file| bytes.extend(content(disk, &file.path)));
    bytes
}

/// Reads all parts whole; the records of each.
fn read(disk: &SimDisk) -> Result<Vec<(GroupId, usize)>, ExportError> {
    let file = BackupFile::open(disk, &path())?;
    let mut found = Vec::new();
    for group in file.groups() {
        let mut reader = file.reader(disk, group)?.expect("a group that it names");
        let mut records = 0;
        while reader.next()?.is_some() {
            records += 1;
        }
        found.push((group, records));
    }
    Ok(found)
}

#[test]
fn parts_come_back_and_a_plain_export_is_a_backup_of_one() {
    let disk = SimDisk::new();
    let (data, own) = (export(&disk, GroupId::DATA, 5), export(&disk, GroupId::EVENTUAL, 7));
    put(&disk, &backup(&disk, &[&data, &own], &[&data, &own]));
    assert_eq!(read(&disk).unwrap(), [(GroupId::DATA, 5), (GroupId::EVENTUAL, 7)]);
    let file = BackupFile::open(&disk, &path()).unwrap();
    assert_eq!(file.head().unwrap().node, "n1");
    assert!(file.reader(&disk, GroupId::META).unwrap().is_none());

    put(&disk, &content(&disk, &data.path));
    assert_eq!(read(&disk).unwrap(), [(GroupId::DATA, 5)]);
    let file = BackupFile::open(&disk, &path()).unwrap();
    assert!(file.head().is_none() && file.reader(&disk, GroupId::EVENTUAL).unwrap().is_none());
}

#[test]
fn b30_every_flipped_byte_and_every_cut_of_a_backup_is_noticed() {
    let disk = SimDisk::new();
    let (data, own) = (export(&disk, GroupId::DATA, 2), export(&disk, GroupId::EVENTUAL, 3));
    let good = backup(&disk, &[&data, &own], &[&data, &own]);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        put(&disk, &bad);
        match read(&disk) {
            Err(ExportError::Damaged { offset, .. }) => assert!(offset <= at as u64, "byte {at}"),
            other => panic!("byte {at}: {other:?}"),
        }
    }
    for length in 0..good.len() {
        put(&disk, &good[..length]);
        assert!(matches!(read(&disk), Err(ExportError::Damaged { .. })), "{length} bytes");
    }
    put(&disk, &[&good[..], b"x"].concat());
    assert!(matches!(read(&disk), Err(ExportError::Damaged { .. })), "a byte more");
}

#[test]
fn b30_a_part_of_another_backup_is_noticed() {
    let disk = SimDisk::new();
    let (data, own) = (export(&disk, GroupId::DATA, 5), export(&disk, GroupId::EVENTUAL, 7));
    let other = export(&disk, GroupId::EVENTUAL, 6);
    put(&disk, &backup(&disk, &[&data, &own], &[&data, &other]));
    assert!(matches!(read(&disk), Err(ExportError::Damaged { .. })), "of another length");
    // The same length, and whole by itself.
    let mut named = own.clone();
    named.sha256[0] ^= 1;
    put(&disk, &backup(&disk, &[&data, &named], &[&data, &own]));
    assert!(matches!(read(&disk), Err(ExportError::Damaged { .. })), "of another hash");
    named = own.clone();
    named.header.group = GroupId(3);
    put(&disk, &backup(&disk, &[&data, &named], &[&data, &own]));
    assert!(matches!(read(&disk), Err(ExportError::Damaged { .. })), "of another group");
}

#[test]
fn a_newer_part_is_told_from_damage() {
    let disk = SimDisk::new();
    let data = export(&disk, GroupId::DATA, 1);
    let mut newer = content(&disk, &data.path);
    newer[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    let length = u32::from_le_bytes(newer[12..16].try_into().unwrap()) as usize;
    let crc = crc32c::crc32c(&newer[..length - 4]);
    newer[length - 4..length].copy_from_slice(&crc.to_le_bytes());
    let mut bytes = backup(&disk, &[&data], &[]);
    bytes.extend(newer);
    put(&disk, &bytes);
    assert!(matches!(read(&disk), Err(ExportError::Newer { .. })));
}
