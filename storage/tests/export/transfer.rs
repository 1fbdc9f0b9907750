//! Receiving an export: pieces in any order, senders that lie.

use std::sync::Arc;

use proto::LogIndex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::Disk;
use storage::disk::SimDisk;
use storage::export::{
    ChunkReader, ExportError, ExportFile, PartFile, TRANSFER_CHUNK_BYTES, exports_in, path_of,
    prune, verify,
};

use crate::{GROUP, dir, path, records, write};

fn offered(size: usize) -> (SimDisk, ExportFile) {
    let source = SimDisk::new();
    let file = write(&source, 20, &records(20, size)).unwrap();
    (source, file)
}

fn begin(disk: &SimDisk, offered: &ExportFile) -> PartFile {
    PartFile::create(Arc::new(disk.clone()), &path(20), offered.bytes, offered.sha256).unwrap()
}

#[test]
fn pieces_are_those_of_the_file_and_end_with_it() {
    let (source, file) = offered(900_000);
    let reader = ChunkReader::open(&source, &file.path).unwrap();
    let whole = source.content(&file.path).unwrap();
    assert_eq!(reader.bytes(), file.bytes);
    for offset in [0, 1, 5000, file.bytes - 1, file.bytes - 300_000] {
        let piece = reader.read(offset).unwrap();
        let end = whole.len().min(offset as usize + TRANSFER_CHUNK_BYTES);
        assert!(piece == whole[offset as usize..end]);
    }
    assert!(reader.read(file.bytes).unwrap().is_empty());
    assert!(reader.read(u64::MAX).unwrap().is_empty());

    // Pruned while it is being served: whoever reads it reads on.
    write(&source, 30, &records(30, 100)).unwrap();
    prune(&source, &dir(), GROUP, LogIndex(30)).unwrap();
    assert!(source.content(&file.path).is_err());
    assert!(reader.read(5000).unwrap() == whole[5000..5000 + TRANSFER_CHUNK_BYTES]);
}

#[test]
fn pieces_may_come_twice_and_out_of_order() {
    let (source, file) = offered(900_000);
    let reader = ChunkReader::open(&source, &file.path).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut ignored = 0;
    for _ in 0..20 {
        let disk = SimDisk::new();
        let mut part = begin(&disk, &file);
        while !part.is_complete() {
            let before = part.received();
            let offset = match rng.random_range(0..4) {
                0 => rng.random_range(0..=before),
                1 => rng.random_range(0..file.bytes),
                _ => before,
            };
            let mut piece = reader.read(offset).unwrap();
            piece.truncate(rng.random_range(1..=TRANSFER_CHUNK_BYTES));
            let end = offset + piece.len() as u64;
            let received = part.write_at(offset, &piece).unwrap();
            assert_eq!(received, if offset <= before { before.max(end) } else { before });
            ignored += u32::from(received == before);
            assert!(exports_in(&disk, &dir()).unwrap().is_empty());
        }
        assert_eq!(part.finish().unwrap(), file);
        assert_eq!(verify(&disk, &path(20)).unwrap(), file);
        assert_eq!(disk.list(&dir()).unwrap().len(), 1);
    }
    assert!(ignored > 20, "{ignored}");
}

#[test]
fn a_transfer_that_is_not_what_was_offered_never_becomes_an_export() {
    let (source, file) = offered(400_000);
    let whole = source.content(&file.path).unwrap();
    let other = SimDisk::new();
    write(&other, 20, &records(21, 400_000)).unwrap();
    let another = other.content(&path(20)).unwrap();
    let mut flipped = whole.clone();
    flipped[200_000] ^= 1;
    let mut zeroed = whole.clone();
    zeroed[100_000..104_096].fill(0);
    for (content, what) in [(flipped, "a bit"), (zeroed, "a page"), (another, "another export")] {
        let disk = SimDisk::new();
        let bytes = content.len() as u64;
        let mut part =
            PartFile::create(Arc::new(disk.clone()), &path(20), bytes, file.sha256).unwrap();
        part.write_at(0, &content).unwrap();
        let error = part.finish().unwrap_err();
        assert!(matches!(error, ExportError::Damaged { .. }), "{what}: {error}");
        assert!(exports_in(&disk, &dir()).unwrap().is_empty(), "{what}");
        part.discard().unwrap();
        assert!(disk.list(&dir()).unwrap().is_empty(), "{what}");
    }
}

#[test]
fn a_transfer_is_refused_beyond_its_length_and_before_its_end() {
    let (source, file) = offered(100_000);
    let whole = source.content(&file.path).unwrap();
    let disk = SimDisk::new();
    let mut part = begin(&disk, &file);
    for (offset, bytes) in [(file.bytes, 1), (0, whole.len() + 1), (u64::MAX, 2)] {
        let error = part.write_at(offset, &vec![0; bytes]).unwrap_err();
        assert!(matches!(error, ExportError::Damaged { .. }), "{error}");
        assert_eq!(part.received(), 0);
    }
    part.write_at(0, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(part.finish(), Err(ExportError::Damaged { .. })));
    part.write_at(part.received(), &whole[whole.len() - 1..]).unwrap();
    part.finish().unwrap();
}

#[test]
fn a_transfer_of_another_group_or_index_is_refused() {
    let (source, file) = offered(10_000);
    let disk = SimDisk::new();
    let wrong = path_of(&dir(), GROUP, LogIndex(21));
    let mut part =
        PartFile::create(Arc::new(disk.clone()), &wrong, file.bytes, file.sha256).unwrap();
    part.write_at(0, &source.content(&file.path).unwrap()).unwrap();
    assert!(matches!(part.finish(), Err(ExportError::Damaged { .. })));
    assert!(exports_in(&disk, &dir()).unwrap().is_empty());
}
