//! Damage to whole exports: always noticed before a record of the damaged chunk is returned.

use std::path::Path;
use std::sync::Arc;

use proto::{ClusterId, GroupId, LogIndex, Term, log};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::Disk;
use storage::disk::{OpenMode, SimDisk};
use storage::export::{
    ExportError, ExportHeader, exports_in, inspect, path_of, prune, sweep, verify,
};

use crate::{
    CHUNK_HEADER, Chunk, GROUP, TRAILER, chunks, dir, header, path, read, records, write, write_to,
};

/// A whole export, with where its chunks are.
struct Whole {
    disk: SimDisk,
    records: Vec<log::ExportRecord>,
    bytes: Vec<u8>,
    chunks: Vec<Chunk>,
}

impl Whole {
    fn new(seed: u64, size: usize) -> Self {
        let disk = SimDisk::new();
        let records = records(seed, size);
        write(&disk, 1, &records).unwrap();
        let bytes = disk.content(&path(1)).unwrap();
        let chunks = chunks(&bytes);
        assert!(chunks.len() >= 4, "{}", chunks.len());
        Self { disk, records, bytes, chunks }
    }

    /// How many records may be returned when the first damaged byte is at `offset`.
    fn good_before(&self, offset: usize) -> usize {
        let damaged = self.chunks.iter().find(|chunk| offset < chunk.offset + chunk.bytes);
        damaged.map_or(self.records.len(), |chunk| chunk.first)
    }

    /// Reads the export with this content instead; the first changed byte is at `offset`.
    fn assert_noticed(&self, content: Vec<u8>, offset: usize, what: &str) {
        assert!(content != self.bytes, "{what}: nothing was changed");
        let broken = self.disk.fork();
        broken.replace(&path(1), content.clone()).unwrap();
        self.assert_disk_noticed(&broken, offset, what);
        assert!(broken.content(&path(1)).unwrap() == content, "{what}: the file was changed");
    }

    fn assert_disk_noticed(&self, broken: &SimDisk, offset: usize, what: &str) {
        let (found, end) = read(broken, &path(1));
        let error = end.expect_err(what);
        assert!(matches!(error, ExportError::Damaged { .. }), "{what}: {error}");
        assert!(found.len() <= self.good_before(offset), "{what}: a damaged record came out");
        assert!(found == self.records[..found.len()], "{what}: a record has changed");
        assert!(verify(broken, &path(1)).is_err(), "{what}");
    }
}

#[test]
fn b30_a_cut_export_is_noticed_wherever_it_is_cut() {
    let whole = Whole::new(1, 1_500_000);
    let mut cuts = vec![0, 1, 16, whole.bytes.len() - 1, whole.bytes.len() - TRAILER];
    for chunk in &whole.chunks {
        cuts.extend([chunk.offset, chunk.offset + 1, chunk.offset + CHUNK_HEADER]);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    cuts.extend((0..500).map(|_| rng.random_range(0..whole.bytes.len())));
    for cut in cuts {
        let broken = whole.disk.fork();
        broken.truncate(&path(1), cut as u64).unwrap();
        whole.assert_disk_noticed(&broken, cut, &format!("cut at {cut}"));
        // With the trailer put back, so that it opens.
        let end = &whole.bytes[whole.bytes.len() - TRAILER..];
        let glued = [&whole.bytes[..cut], end].concat();
        if glued != whole.bytes {
            whole.assert_noticed(glued, cut, &format!("cut at {cut}, with a trailer"));
        }
    }
}

#[test]
fn b30_a_thousand_flipped_bits_are_noticed() {
    let whole = Whole::new(2, 900_000);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let head = whole.chunks[0].offset;
    let borders = whole.chunks.iter().flat_map(|c| c.offset..c.offset + CHUNK_HEADER);
    let random = (0..1_000).map(|_| rng.random_range(0..whole.bytes.len()));
    let places: Vec<usize> =
        (0..head).chain(borders).chain(whole.bytes.len() - TRAILER..whole.bytes.len()).collect();
    for at in random.collect::<Vec<_>>().into_iter().chain(places) {
        let broken = whole.disk.fork();
        broken.flip_bit(&path(1), at as u64, rng.random_range(0..8)).unwrap();
        whole.assert_disk_noticed(&broken, at, &format!("byte {at}"));
    }
}

#[test]
fn b30_chunks_in_another_order_twice_or_missing_are_noticed() {
    let whole = Whole::new(3, 1_500_000);
    let part = |chunk: &Chunk| &whole.bytes[chunk.offset..chunk.offset + chunk.bytes];
    let head = &whole.bytes[..whole.chunks[0].offset];
    let end = &whole.bytes[whole.bytes.len() - TRAILER..];
    let build = |order: &[usize]| {
        let parts: Vec<&[u8]> = order.iter().map(|n| part(&whole.chunks[*n])).collect();
        [head, &parts.concat(), end].concat()
    };
    let count = whole.chunks.len();
    let all: Vec<usize> = (0..count).collect();
    for first in 0..count {
        for second in first + 1..count {
            let mut order = all.clone();
            order.swap(first, second);
            let what = format!("chunks {first} and {second} swapped");
            whole.assert_noticed(build(&order), whole.chunks[first].offset, &what);
        }
        let mut missing = all.clone();
        missing.remove(first);
        let what = format!("chunk {first} missing");
        whole.assert_noticed(build(&missing), whole.chunks[first].offset, &what);
        let mut twice = all.clone();
        twice.insert(first, first);
        let at = whole.chunks[first].offset + whole.chunks[first].bytes;
        whole.assert_noticed(build(&twice), at, &format!("chunk {first} twice"));
    }
}

/// Exports that differ from the one at index 1 in one field of the header, with the same records.
fn relatives() -> Vec<ExportHeader> {
    vec![
        ExportHeader { cluster: ClusterId([0xc2; 16]), ..header(1) },
        ExportHeader { epoch: 2, ..header(1) },
        ExportHeader { group: GroupId(0), ..header(1) },
        ExportHeader { index: LogIndex(2), ..header(1) },
        ExportHeader { term: Term(4), ..header(1) },
        ExportHeader { change: 5, ..header(1) },
        ExportHeader {
            conf_state: log::ConfState { voters: vec![1, 2, 4], ..Default::default() },
            ..header(1)
        },
    ]
}

#[test]
fn b30_a_chunk_of_another_export_never_verifies() {
    let whole = Whole::new(4, 1_200_000);
    for relative in relatives() {
        let disk = SimDisk::new();
        let other = dir().join("other");
        write_to(Arc::new(disk.clone()), &other, relative.clone(), &whole.records).unwrap();
        let theirs = disk.content(&other).unwrap();
        assert_eq!(theirs.len(), whole.bytes.len(), "the layout is the same");
        for chunk in &whole.chunks {
            let mut spliced = whole.bytes.clone();
            let range = chunk.offset..chunk.offset + chunk.bytes;
            spliced[range.clone()].copy_from_slice(&theirs[range]);
            whole.assert_noticed(spliced, chunk.offset, &format!("a chunk of {relative:?}"));
        }
        let end = whole.bytes.len() - TRAILER;
        let spliced = [&whole.bytes[..end], &theirs[end..]].concat();
        whole.assert_noticed(spliced, end, &format!("the trailer of {relative:?}"));
        let start = whole.chunks[0].offset;
        let spliced = [&theirs[..start], &whole.bytes[start..]].concat();
        whole.assert_noticed(spliced, 0, &format!("the header of {relative:?}"));
    }
}

#[test]
fn b30_appended_and_misplaced_bytes_are_noticed() {
    let whole = Whole::new(5, 1_200_000);
    let len = whole.bytes.len();
    let end = &whole.bytes[len - TRAILER..];
    let first = &whole.chunks[0];
    let chunk = &whole.bytes[first.offset..first.offset + first.bytes];
    for (tail, what) in [
        (vec![0], "a zero"),
        (vec![0; 4096], "a page of zeros"),
        (end.to_vec(), "another trailer"),
        ([chunk, end].concat(), "a chunk and a trailer"),
        (whole.bytes.clone(), "the same file again"),
    ] {
        whole.assert_noticed([&whole.bytes, &tail[..]].concat(), len - TRAILER, what);
    }
    for block in [512, 4096] {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        for _ in 0..100 {
            let blocks = (len / block) as u64;
            let (a, b) = (rng.random_range(0..blocks), rng.random_range(0..blocks));
            if a != b {
                let broken = whole.disk.fork();
                broken.swap_blocks(&path(1), a, b, block as u64).unwrap();
                let at = a.min(b) as usize * block;
                whole.assert_disk_noticed(&broken, at, &format!("blocks {a} and {b} swapped"));
            }
        }
    }
}

#[test]
fn b30_another_export_under_this_name_is_noticed() {
    let disk = SimDisk::new();
    write(&disk, 1, &records(1, 10_000)).unwrap();
    write(&disk, 2, &records(2, 10_000)).unwrap();
    let older = disk.content(&path(1)).unwrap();
    disk.replace(&path(2), older.clone()).unwrap();
    for found in [verify(&disk, &path(2)), inspect(&disk, &path(2))] {
        assert!(matches!(found, Err(ExportError::Damaged { offset: 0, .. })), "{found:?}");
    }
    // Under a name that says nothing it is what it is.
    disk.rename(&path(2), &dir().join("seed.exp")).unwrap();
    assert_eq!(verify(&disk, &dir().join("seed.exp")).unwrap().header, header(1));
}

#[test]
fn b30_a_damaged_export_is_no_reason_to_remove_anything() {
    for damage in 0..4 {
        let disk = SimDisk::new();
        for index in 1..=3 {
            write(&disk, index, &records(index, 10_000)).unwrap();
        }
        let len = disk.content(&path(3)).unwrap().len() as u64;
        match damage {
            0 => disk.truncate(&path(3), len - 1).unwrap(),
            1 => disk.flip_bit(&path(3), len - 20, 3).unwrap(),
            2 => disk.flip_bit(&path(3), 33, 3).unwrap(),
            _ => disk.truncate(&path(3), 0).unwrap(),
        }
        let before = disk.list(&dir()).unwrap();
        let refused = prune(&disk, &dir(), GROUP, LogIndex(3));
        assert!(matches!(refused, Err(ExportError::Damaged { .. })), "{refused:?}");
        assert!(matches!(prune(&disk, &dir(), GROUP, LogIndex(4)), Err(ExportError::Io { .. })));
        assert_eq!(sweep(&disk, &dir()).unwrap(), 0);
        assert_eq!(disk.list(&dir()).unwrap(), before);

        // The older ones serve.
        assert_eq!(prune(&disk, &dir(), GROUP, LogIndex(2)).unwrap(), 1);
        verify(&disk, &path(2)).unwrap();
    }
}

#[test]
fn prune_leaves_other_groups_newer_exports_and_foreign_files() {
    let disk = SimDisk::new();
    let other = path_of(&dir(), GroupId(0), LogIndex(1));
    write_to(
        Arc::new(disk.clone()),
        &other,
        ExportHeader { group: GroupId(0), ..header(1) },
        &records(1, 100),
    )
    .unwrap();
    for index in 1..=5 {
        write(&disk, index, &records(index, 100)).unwrap();
    }
    for name in ["notes.txt", "1-0000000000000002.exp.new", "1-0000000000000009.exp.new"] {
        drop(disk.open(&dir().join(name), OpenMode::CreateNew).unwrap());
    }
    assert_eq!(prune(&disk, &dir(), GROUP, LogIndex(4)).unwrap(), 4);
    disk.crash(&mut ChaCha8Rng::seed_from_u64(1));
    let expected: Vec<&Path> = vec![&other];
    let left = exports_in(&disk, &dir()).unwrap();
    assert_eq!(left[0].2, expected[0]);
    let ours: Vec<LogIndex> = left[1..].iter().map(|(_, index, _)| *index).collect();
    assert_eq!(ours, [LogIndex(4), LogIndex(5)]);
}

#[test]
fn a_newer_format_is_told_from_damage() {
    let disk = SimDisk::new();
    write(&disk, 1, &records(1, 100)).unwrap();
    let mut bytes = disk.content(&path(1)).unwrap();
    let length = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    bytes[8..12].copy_from_slice(&2_u32.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..length - 4]);
    bytes[length - 4..length].copy_from_slice(&crc.to_le_bytes());
    disk.replace(&path(1), bytes).unwrap();
    let newer = verify(&disk, &path(1)).unwrap_err();
    assert!(matches!(newer, ExportError::Newer { found: 2, known: 1, .. }), "{newer}");
}

#[test]
fn an_unreadable_sector_is_an_error_of_the_disk() {
    let whole = Whole::new(6, 1_200_000);
    for (number, chunk) in whole.chunks.iter().enumerate() {
        let broken = whole.disk.fork();
        broken.break_sector(&path(1), (chunk.offset + chunk.bytes / 2) as u64).unwrap();
        let (found, end) = read(&broken, &path(1));
        assert!(matches!(end, Err(ExportError::Io { action: "read", .. })), "{end:?}");
        assert!(found == whole.records[..chunk.first], "chunk {number}");
    }
}
