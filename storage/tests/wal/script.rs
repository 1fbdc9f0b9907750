//! Random runs of a log, equal for equal seeds up to the first error.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::log::frame::Body;
use proto::{GroupId, log};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use storage::disk::Disk;
use storage::wal::{RecoveredGroup, Wal, WalError};

use crate::model::{Model, last_of};
use crate::{dir, options};

/// What a run knows to be true of its log.
pub struct Run {
    /// Groups after each appended frame; the first element is before any.
    pub states: Vec<Model>,
    /// So many frames were acknowledged by a sync.
    pub synced: usize,
    /// `create` returned.
    pub created: bool,
    /// Segments started.
    pub segments: u64,
    /// Bytes of segments freed.
    pub freed: u64,
    /// The error that ended the run.
    pub error: Option<WalError>,
}

impl Run {
    /// What may come back: nothing that was acknowledged is missing, nothing was never appended,
    /// and the order is that of appending.
    pub fn allows(&self, groups: &BTreeMap<GroupId, RecoveredGroup>) -> bool {
        self.states[self.synced..].iter().any(|state| state.groups == *groups)
    }

    fn model(&self) -> &Model {
        self.states.last().unwrap()
    }
}

/// The groups of a new log.
pub fn initial() -> BTreeMap<GroupId, log::GroupState> {
    let conf_state = log::ConfState { voters: vec![1, 2, 3], ..Default::default() };
    let data = log::GroupState {
        conf_state: Some(conf_state.clone()),
        state_dir: "1-0".to_owned(),
        ..Default::default()
    };
    let meta = log::GroupState { conf_state: Some(conf_state), ..Default::default() };
    [(GroupId::META, meta), (GroupId::DATA, data)].into()
}

/// How a run ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With its last step.
    AsItIs,
    /// With more segments freed than are kept.
    ManyFreed,
}

/// Creates a log and works on it until the steps are done or something fails.
pub fn run(seed: u64, steps: usize, end: End, disk: Arc<dyn Disk>) -> Run {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut run = Run {
        states: vec![Model::new(&initial())],
        synced: 0,
        created: false,
        segments: 0,
        freed: 0,
        error: None,
    };
    match Wal::create(disk.clone(), &dir(), options(), initial()) {
        Ok(mut wal) => {
            run.created = true;
            for _ in 0..steps {
                if let Err(error) = step(&mut run, &mut wal, &disk, &mut rng) {
                    run.error = Some(error);
                    break;
                }
            }
            if run.error.is_none() && end == End::ManyFreed {
                run.error = grow_and_free(&mut run, &mut wal).err();
            }
            run.segments += wal.stats().segments;
        }
        Err(error) => run.error = Some(error),
    }
    run
}

fn step(
    run: &mut Run,
    wal: &mut Wal,
    disk: &Arc<dyn Disk>,
    rng: &mut ChaCha8Rng,
) -> Result<(), WalError> {
    match rng.random_range(0..60) {
        0..=26 => {
            for _ in 0..rng.random_range(1..4) {
                let frame = random_frame(run.model(), rng);
                append(run, wal, vec![frame]);
            }
        }
        27..=50 => {
            wal.sync()?;
            run.synced = run.states.len() - 1;
        }
        51..=53 => wal.seal()?,
        54..=56 => {
            wal.prepare_step()?;
        }
        57..=58 => {
            export(run, wal)?;
        }
        _ => {
            // The process dies and comes back; the power stays.
            let (again, recovered) = Wal::open(disk.clone(), &dir(), options())?;
            assert!(run.allows(&recovered.groups), "after a restart");
            run.segments += wal.stats().segments;
            *wal = again;
            // What was open is gone for good.
            let position = run.states[run.synced..]
                .iter()
                .position(|state| state.groups == recovered.groups)
                .expect("just checked");
            run.states.truncate(run.synced + position + 1);
            run.synced = run.states.len() - 1;
        }
    }
    Ok(())
}

/// Fills more segments than are kept once they are free, and frees them.
fn grow_and_free(run: &mut Run, wal: &mut Wal) -> Result<(), WalError> {
    let segments = wal.stats().segments;
    while wal.stats().segments < segments + 4 {
        let (last, term) = last_of(&run.model().groups[&GroupId::DATA]);
        let data = vec![last as u8; 9000].into();
        let entry = log::Entry { term, index: last + 1, data, ..Default::default() };
        let body = Some(Body::Entries(log::Entries { entries: vec![entry] }));
        append(run, wal, vec![log::Frame { group: GroupId::DATA.get(), body }]);
        wal.sync()?;
        run.synced = run.states.len() - 1;
    }
    export(run, wal)
}

/// Everything is in an export now; the log may begin behind it.
fn export(run: &mut Run, wal: &mut Wal) -> Result<(), WalError> {
    let frames = run.model().clone().groups.into_iter().flat_map(export_frames).collect();
    append(run, wal, frames);
    wal.sync()?;
    run.synced = run.states.len() - 1;
    run.freed += wal.free()?;
    Ok(())
}

/// Appends frames, and their effect to the model.
fn append(run: &mut Run, wal: &mut Wal, frames: Vec<log::Frame>) {
    wal.append(&frames);
    for frame in frames {
        let mut state = run.model().clone();
        state.apply(&frame);
        run.states.push(state);
    }
}

/// Commits all entries of a group and moves the beginning of its log there.
fn export_frames((group, state): (GroupId, RecoveredGroup)) -> [log::Frame; 2] {
    let end = last_of(&state);
    let hard_state = log::HardState { commit: end.0, ..state.hard_state };
    [Body::HardState(hard_state), random_state(&state, end, end, hard_state)]
        .map(|body| log::Frame { group: group.get(), body: Some(body) })
}

/// One frame that may follow.
pub fn random_frame(model: &Model, rng: &mut ChaCha8Rng) -> log::Frame {
    let group = GroupId(rng.random_range(0..3));
    let body = match model.groups.get(&group) {
        None => Body::GroupState(log::GroupState::default()),
        Some(state) => random_body(state, rng),
    };
    log::Frame { group: group.get(), body: Some(body) }
}

fn random_body(group: &RecoveredGroup, rng: &mut ChaCha8Rng) -> Body {
    let (last, last_term) = last_of(group);
    let hard_state = group.hard_state;
    match rng.random_range(0..13) {
        0..=5 => random_entries(group, rng),
        6..=8 => {
            let grows = rng.random_bool(0.3);
            Body::HardState(log::HardState {
                term: hard_state.term + u64::from(grows),
                vote: if grows { rng.random_range(1..4) } else { hard_state.vote },
                commit: rng.random_range(hard_state.commit..=last),
            })
        }
        9 => Body::CheckpointDone(log::CheckpointDone {
            index: rng.random_range(group.checkpoint.get()..=hard_state.commit),
            term: last_term,
        }),
        10 => {
            // Everything up to a committed entry is in a snapshot now.
            let start = rng.random_range(group.start_index.get()..=hard_state.commit);
            let kept = group.entries.iter().find(|entry| entry.index == start);
            let start_term = kept.map_or(group.start_term.get(), |entry| entry.term);
            if rng.random_bool(0.5) {
                return Body::LogStart(log::LogStart {
                    index: start,
                    term: start_term,
                    conf_state: Some(group.conf_state.clone()),
                    change: group.change + 1,
                });
            }
            random_state(group, (start, start_term), (last, last_term), hard_state)
        }
        11 => {
            // The state was copied into another directory.
            let state_dir = format!("1-r{}", rng.random_range(0..1_000));
            Body::StateMoved(log::StateMoved { state_dir })
        }
        _ => {
            // A snapshot from the leader replaces the log.
            let start = last + rng.random_range(1..10);
            if rng.random_bool(0.5) {
                return Body::Installed(log::Installed {
                    index: start,
                    term: last_term + 1,
                    conf_state: Some(group.conf_state.clone()),
                    change: group.change + 1,
                    state_dir: format!("1-{start}"),
                });
            }
            let hard_state = log::HardState { commit: start, ..hard_state };
            random_state(group, (start, last_term + 1), (start, last_term + 1), hard_state)
        }
    }
}

fn random_entries(group: &RecoveredGroup, rng: &mut ChaCha8Rng) -> Body {
    let (last, last_term) = last_of(group);
    let replaces = last > group.hard_state.commit && rng.random_bool(0.2);
    let (first, mut term) = if replaces {
        (rng.random_range(group.hard_state.commit + 1..=last), last_term + 1)
    } else {
        (last + 1, last_term)
    };
    let mut entries = Vec::new();
    for index in first..first + rng.random_range(1..5) {
        term += u64::from(rng.random_bool(0.1));
        let bytes = if rng.random_bool(0.1) { 3000 } else { 300 };
        let mut data = vec![0; rng.random_range(0..bytes)];
        rng.fill(&mut data[..]);
        entries.push(log::Entry { term, index, data: data.into(), ..Default::default() });
    }
    Body::Entries(log::Entries { entries })
}

fn random_state(
    group: &RecoveredGroup,
    start: (u64, u64),
    last: (u64, u64),
    hard_state: log::HardState,
) -> Body {
    Body::GroupState(log::GroupState {
        hard_state: Some(hard_state),
        conf_state: Some(group.conf_state.clone()),
        start_index: start.0,
        start_term: start.1,
        state_dir: format!("1-{}", start.0),
        checkpoint: start.0.max(group.checkpoint.get()),
        last_index: last.0,
        last_term: last.1,
        change: group.change + 1,
    })
}
