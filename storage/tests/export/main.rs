//! Exports on a simulated disk: what is written comes back, and nothing else ever does.

mod crash;
mod damage;
mod faults;
mod transfer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use proto::{ClusterId, GroupId, LogIndex, Term, log};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::Disk;
use storage::disk::{OpenMode, RealDisk, SimDisk};
use storage::export::{
    ExportError, ExportFile, ExportHeader, ExportReader, ExportWriter, RECORD_BYTES_MAX,
    exports_in, inspect, path_of, verify,
};

const GROUP: GroupId = GroupId(1);
/// Length of the header of a chunk.
const CHUNK_HEADER: usize = 20;
/// Length of the trailer.
const TRAILER: usize = 60;

fn dir() -> PathBuf {
    PathBuf::from("/node/exports")
}

fn path(index: u64) -> PathBuf {
    path_of(&dir(), GROUP, LogIndex(index))
}

fn header(index: u64) -> ExportHeader {
    ExportHeader {
        cluster: ClusterId([0xc1; 16]),
        epoch: 1,
        group: GROUP,
        index: LogIndex(index),
        term: Term(3),
        conf_state: log::ConfState { voters: vec![1, 2, 3], ..Default::default() },
        change: 4,
    }
}

fn version(rng: &mut impl Rng, value_bytes: usize) -> log::ExportRecord {
    let mut value = vec![0; value_bytes];
    rng.fill_bytes(&mut value);
    let version = log::VersionState {
        keyspace: 1,
        key: rng.random::<u64>().to_be_bytes().to_vec().into(),
        mod_rev: rng.random_range(2..1000),
        create_rev: 2,
        version: 1,
        index: 9,
        tombstone: false,
        value: value.into(),
    };
    log::ExportRecord { body: Some(log::export_record::Body::Version(version)) }
}

/// Records of all sizes, `bytes` of them altogether.
fn records(seed: u64, bytes: usize) -> Vec<log::ExportRecord> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut records, mut written) = (Vec::new(), 0);
    while written < bytes {
        let size = match rng.random_range(0..20) {
            0 => rng.random_range(0..bytes / 2),
            1..5 => rng.random_range(0..20_000),
            _ => rng.random_range(0..500),
        };
        let record = version(&mut rng, size);
        written += record.encoded_len();
        records.push(record);
    }
    records
}

fn write_to(
    disk: Arc<dyn Disk>,
    path: &Path,
    header: ExportHeader,
    records: &[log::ExportRecord],
) -> Result<ExportFile, ExportError> {
    let mut writer = ExportWriter::create(disk, path, header)?;
    for record in records {
        writer.push(record)?;
    }
    writer.finish()
}

/// Writes the export at `index` into its place.
fn write(
    disk: &SimDisk,
    index: u64,
    records: &[log::ExportRecord],
) -> Result<ExportFile, ExportError> {
    write_to(Arc::new(disk.clone()), &path(index), header(index), records)
}

/// All records that an export gives, and how it ended.
fn read(disk: &dyn Disk, path: &Path) -> (Vec<log::ExportRecord>, Result<(), ExportError>) {
    let mut records = Vec::new();
    let mut reader = match ExportReader::open(disk, path) {
        Ok(reader) => reader,
        Err(error) => return (records, Err(error)),
    };
    loop {
        match reader.next() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return (records, Ok(())),
            Err(error) => {
                let again = reader.next();
                assert!(again.is_err(), "nothing follows an error, got {again:?}");
                return (records, Err(error));
            }
        }
    }
}

/// A chunk, found by the documented layout.
#[derive(Clone, Debug)]
struct Chunk {
    offset: usize,
    /// Length with its header.
    bytes: usize,
    /// Number of its first record.
    first: usize,
    records: usize,
}

/// All chunks of a whole export.
fn chunks(bytes: &[u8]) -> Vec<Chunk> {
    let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let mut offset = half(12);
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut first = 0;
    while offset < bytes.len() - TRAILER {
        assert_eq!(&bytes[offset..offset + 4], b"kvec");
        let length = CHUNK_HEADER + half(offset + 16);
        let mut rest = &bytes[offset + CHUNK_HEADER..offset + length];
        let mut records = 0;
        while !rest.is_empty() {
            log::ExportRecord::decode_length_delimited(&mut rest).unwrap();
            records += 1;
        }
        chunks.push(Chunk { offset, bytes: length, first, records });
        offset += length;
        first += records;
    }
    assert_eq!(offset, bytes.len() - TRAILER);
    chunks
}

#[test]
fn what_is_written_comes_back() {
    for (index, count) in [(1, 0), (2, 1), (3, 100_000), (4, 3_000_000)] {
        let disk = SimDisk::new();
        let records = if count == 0 { Vec::new() } else { records(index, count) };
        let file = write(&disk, index, &records).unwrap();
        assert_eq!((file.path.as_path(), &file.header), (path(index).as_path(), &header(index)));
        assert_eq!(file.records, records.len() as u64);
        assert_eq!(disk.content(&path(index)).unwrap().len() as u64, file.bytes);
        let (found, end) = read(&disk, &path(index));
        end.unwrap();
        assert!(found == records);
        assert_eq!(verify(&disk, &path(index)).unwrap(), file);
        assert_eq!(inspect(&disk, &path(index)).unwrap(), file);
        assert_eq!(disk.list(&dir()).unwrap().len(), 1, "nothing is left beside it");
        assert_eq!(exports_in(&disk, &dir()).unwrap(), [(GROUP, LogIndex(index), path(index))]);
    }
}

#[test]
fn the_same_on_a_real_disk() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("exports");
    let records = records(1, 1_000_000);
    let path = path_of(&dir, GROUP, LogIndex(1));
    let file = write_to(Arc::new(RealDisk), &path, header(1), &records).unwrap();
    assert_eq!(verify(&RealDisk, &path).unwrap(), file);
    assert!(read(&RealDisk, &path).0 == records);
    let simulated = SimDisk::new();
    write(&simulated, 1, &records).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), simulated.content(&self::path(1)).unwrap());
}

#[test]
fn chunks_are_bounded_and_a_large_record_is_one_of_its_own() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let sizes = [100, 100_000, 100_000, 100_000, 262_144, 10, RECORD_BYTES_MAX - 100, 10];
    let mut records: Vec<_> = sizes.map(|size| version(&mut rng, size)).into();
    let room = RECORD_BYTES_MAX - records[6].encoded_len();
    let Some(log::export_record::Body::Version(largest)) = &mut records[6].body else {
        panic!("a version")
    };
    largest.value = vec![1; largest.value.len() + room].into();
    assert_eq!(records[6].encoded_len(), RECORD_BYTES_MAX);
    let disk = SimDisk::new();
    write(&disk, 1, &records).unwrap();
    let chunks = chunks(&disk.content(&path(1)).unwrap());
    let counts: Vec<usize> = chunks.iter().map(|chunk| chunk.records).collect();
    assert_eq!(counts, [3, 1, 1, 1, 1, 1]);
    assert!(read(&disk, &path(1)).0 == records);

    let too_large = version(&mut rng, RECORD_BYTES_MAX);
    let mut writer = ExportWriter::create(Arc::new(disk.clone()), &path(2), header(2)).unwrap();
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        writer.push(&too_large).unwrap();
    }));
    assert!(refused.is_err());
}

#[test]
fn a_long_export_is_synced_on_the_way() {
    let disk = SimDisk::new();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let records: Vec<_> = (0..40).map(|_| version(&mut rng, 1_000_000)).collect();
    write(&disk, 1, &records).unwrap();
    assert!(disk.counters().syncs >= 4, "{:?}", disk.counters());
}

#[test]
fn a_discarded_or_dropped_export_is_none() {
    let disk = SimDisk::new();
    for discard in [true, false] {
        let mut writer = ExportWriter::create(Arc::new(disk.clone()), &path(1), header(1)).unwrap();
        records(1, 600_000).iter().for_each(|record| writer.push(record).unwrap());
        assert!(exports_in(&disk, &dir()).unwrap().is_empty());
        if discard {
            writer.discard().unwrap();
            assert!(disk.list(&dir()).unwrap().is_empty());
        } else {
            drop(writer);
            assert!(exports_in(&disk, &dir()).unwrap().is_empty());
            assert_eq!(storage::export::sweep(&disk, &dir()).unwrap(), 1);
            assert!(disk.list(&dir()).unwrap().is_empty());
        }
    }
    // What is left of one does not stand in the way of the next.
    drop(ExportWriter::create(Arc::new(disk.clone()), &path(1), header(1)).unwrap());
    write(&disk, 1, &records(1, 1000)).unwrap();
    let absent = disk.open(&path(2), OpenMode::Read).unwrap_err();
    assert_eq!(absent.kind(), std::io::ErrorKind::NotFound);
    assert!(matches!(inspect(&disk, &path(2)), Err(ExportError::Io { .. })));
}
