//! What a start gives back, and what is read again.

use std::convert::Infallible;
use std::sync::Arc;

use prost::Message;
use proto::log::frame::Body;
use proto::{GroupId, LogIndex, Term, log};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::disk::SimDisk;
use storage::wal::{RecoveredGroup, ReplayError, Wal, WalOptions, replay};

use crate::script::{End, run};
use crate::{GROUP, create, dir, entries_frame, open, options, start_at};

fn replayed(
    disk: &SimDisk,
    group: GroupId,
    from: u64,
    to: u64,
) -> Result<Vec<log::Entry>, ReplayError<Infallible>> {
    let mut entries = Vec::new();
    let mut visit = |entry| {
        entries.push(entry);
        Ok(())
    };
    let (from, to) = (LogIndex(from), LogIndex(to));
    replay(disk, &dir(), &options(), group, from, to, &mut visit)?;
    Ok(entries)
}

/// A log of several segments with a checkpoint near its end.
fn checkpointed() -> SimDisk {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    for index in 1..=200 {
        wal.append(&[entries_frame(index, 1, 50 * (index as usize % 40))]);
        if index % 60 == 0 {
            let (term, vote, commit) = (1, 1, index - 5);
            let hard_state = Body::HardState(log::HardState { term, vote, commit });
            let done = Body::CheckpointDone(log::CheckpointDone { index: commit, term });
            for body in [hard_state, done] {
                wal.append(&[log::Frame { group: GROUP.get(), body: Some(body) }]);
            }
        }
        wal.sync().unwrap();
    }
    disk
}

/// What should come back of a group of which `all` comes back when everything is kept; and how
/// many entries should not.
fn expected(all: &RecoveredGroup, keep_bytes: u64) -> (RecoveredGroup, usize) {
    let mut bytes = 0;
    let covered = all.entries.iter().filter(|entry| entry.index <= all.checkpoint.get());
    let kept = covered.rev().take_while(|entry| {
        bytes += entry.encoded_len() as u64;
        bytes <= keep_bytes
    });
    let first = kept.last().map_or(all.checkpoint.get() + 1, |entry| entry.index);
    let (before, after): (Vec<_>, Vec<_>) =
        all.entries.iter().cloned().partition(|entry| entry.index < first);
    let mut group = RecoveredGroup { entries: after, ..all.clone() };
    if let Some(last) = before.last() {
        (group.first_kept, group.kept_term) = (LogIndex(last.index + 1), Term(last.term));
    }
    (group, before.len())
}

#[test]
fn of_what_a_checkpoint_covers_only_the_last_bytes_come_back() {
    let mut dropped = 0;
    let runs = (0..12).map(|seed| {
        let disk = SimDisk::new();
        assert!(run(seed, 200, End::AsItIs, Arc::new(disk.clone())).error.is_none());
        disk
    });
    for disk in runs.chain([checkpointed()]) {
        let (_, whole) = open(&disk).unwrap();
        for keep_bytes in [0, 100, 3000, 20_000] {
            let options = WalOptions { keep_bytes, ..options() };
            let shared = Arc::new(disk.clone());
            let (_, recovered) = Wal::open(shared, &dir(), options).unwrap();
            assert_eq!(recovered.tail, whole.tail);
            for (id, all) in &whole.groups {
                let (group, missing) = expected(all, keep_bytes);
                assert_eq!(recovered.groups[id], group, "{keep_bytes} bytes");
                dropped += missing;
            }
        }
    }
    assert!(dropped > 500, "{dropped}");
}

#[test]
fn what_was_dropped_can_be_read_again() {
    let disk = checkpointed();
    let (_, whole) = open(&disk).unwrap();
    let options = WalOptions { keep_bytes: 3000, ..options() };
    let (_, recovered) = Wal::open(Arc::new(disk.clone()), &dir(), options).unwrap();
    let group = &recovered.groups[&GROUP];
    let (first, last) = (group.first_kept.get(), group.entries.last().unwrap().index);
    assert!(first > 100 && first < 175, "{first}");
    let before = replayed(&disk, GROUP, 0, first - 1).unwrap();
    assert_eq!(last, 200);
    assert_eq!([before, group.entries.clone()].concat(), whole.groups[&GROUP].entries);
}

#[test]
fn replay_gives_the_final_entries_and_only_those() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut seen = 0;
    for seed in 100..150 {
        let disk = SimDisk::new();
        assert!(run(seed, 150, End::AsItIs, Arc::new(disk.clone())).error.is_none());
        let (_, whole) = open(&disk).unwrap();
        for (id, group) in &whole.groups {
            let start = group.start_index.get();
            let last = start + group.entries.len() as u64;
            assert_eq!(replayed(&disk, *id, start, last).unwrap(), group.entries, "seed {seed}");
            for _ in 0..4 {
                let from = rng.random_range(start..=last);
                let to = rng.random_range(from..=last);
                let range = (from - start) as usize..(to - start) as usize;
                assert_eq!(replayed(&disk, *id, from, to).unwrap(), group.entries[range]);
            }
            seen += group.entries.len();
        }
    }
    assert!(seen > 500, "{seen}");
}

#[test]
fn replay_says_what_the_log_does_not_hold() {
    let disk = SimDisk::new();
    let mut wal = create(&disk);
    wal.append(&[entries_frame(1, 9, 10)]);
    start_at(&mut wal, 3);
    wal.sync().unwrap();
    assert_eq!(replayed(&disk, GROUP, 3, 9).unwrap().len(), 6);
    assert!(replayed(&disk, GROUP, 9, 9).unwrap().is_empty());
    for (group, from, to) in [(GROUP, 2, 9), (GROUP, 3, 10), (GroupId(9), 0, 1)] {
        let absent = replayed(&disk, group, from, to).unwrap_err();
        assert!(matches!(absent, ReplayError::Absent { .. }), "{absent}");
    }
    let mut visited = 0;
    let mut visit = |entry: log::Entry| {
        visited += 1;
        if entry.index == 5 { Err("enough") } else { Ok(()) }
    };
    let (from, to) = (LogIndex(3), LogIndex(9));
    let ended = replay(&disk, &dir(), &options(), GROUP, from, to, &mut visit);
    assert!(matches!(ended, Err(ReplayError::Visit("enough"))));
    assert_eq!(visited, 2);
}
