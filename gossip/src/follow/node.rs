//! One replica, with its log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::names::{LWW, PLAIN};
use crate::actor::ActorId;
use crate::change::{self, Change};
use crate::dot::Dot;
use crate::entry::Sibling;
use crate::items::Restored;
use crate::position::{Leaving, Position};
use crate::record::{EntryKey, Record};
use crate::replica::{Kept, Policy, Replica, Standing};
use crate::state::State;
use crate::tree::TreeKey;

/// One batch of a log.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    bytes: Arc<[u8]>,
    /// What waited beside the replica then.
    kept: Arc<Kept>,
}

/// A log, one entry a batch.
pub(super) type Log = Vec<Batch>;

/// A replica and the bytes that rebuild it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) replica: Replica,
    /// What the bytes of the log make, entry by entry.
    mirror: State,
    log: Log,
    /// The position of the replica after each entry; before its start, none.
    positions: Vec<Position>,
    /// What has to be durable for what left.
    told: Position,
    /// What was changed since the last entry.
    batch: Vec<Change>,
    /// Collapses that the replica made in this batch and the model has not made yet.
    pub(super) due: VecDeque<Record>,
    /// The disk is about to lose something.
    pub(super) is_losing: bool,
    /// What the disk lost, and the replica does not know.
    pub(super) lost: BTreeMap<(EntryKey, Dot), Sibling>,
    /// Among it what was pending.
    pub(super) has_lost_pending: bool,
    /// It lost its clock.
    pub(super) has_lost_clock: bool,
}

impl Node {
    /// A replica that begins on a log, with a new actor.
    ///
    /// # Errors
    /// A sentence about bytes that cannot be read.
    pub(super) fn start(log: Log, actor: ActorId, hash: TreeKey) -> Result<Self, String> {
        let mut mirror = State::default();
        for entry in &log {
            replay(&mut mirror, &entry.bytes)?;
        }
        let kept = log.last().map(|batch| (*batch.kept).clone()).unwrap_or_default();
        let restored = Restored { state: mirror.clone(), kept, items: 0 };
        let (mut replica, batch) = Replica::restored(restored, actor, hash);
        // No stamp of a schedule is far ahead of this.
        replica.set_time(1);
        replica.set_keyspace(PLAIN, Standing::Open(Policy::Siblings));
        replica.set_keyspace(LWW, Standing::Open(Policy::Lww));
        let positions = vec![Position::default(); log.len()];
        let (told, due) = (Position::default(), VecDeque::new());
        Ok(Self {
            replica,
            mirror,
            log,
            positions,
            told,
            batch,
            due,
            is_losing: false,
            lost: BTreeMap::new(),
            has_lost_pending: false,
            has_lost_clock: false,
        })
    }

    /// The log, as far as it is written.
    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// Lets something out, which tells of the replica.
    pub(super) fn let_out<T>(&mut self, leaving: Leaving<T>) -> T {
        self.told = self.told.max(leaving.after);
        leaving.what
    }

    /// Whether so many last entries may be lost: nothing that left tells of them.
    pub(super) fn may_lose(&self, entries: usize) -> bool {
        let kept = self.positions.len() - entries;
        kept.checked_sub(1).is_some_and(|last| self.positions[last] >= self.told)
    }

    /// Whether the disk lost something that the replica does not know of.
    pub(super) fn is_damaged(&self) -> bool {
        !self.lost.is_empty() || self.has_lost_pending
    }

    /// The disk loses a write.
    pub(super) fn lose(&mut self, key: &EntryKey, dot: Dot) {
        let sibling = self.replica.lose(key, dot);
        self.lost.insert((key.clone(), dot), sibling);
    }

    /// The disk loses what was pending for a key.
    pub(super) fn lose_pending(&mut self, key: &EntryKey) {
        self.replica.lose_pending(key);
        self.has_lost_pending = true;
    }

    /// What was lost counts no longer, because it was superseded since.
    pub(super) fn find_superseded(&mut self, key: &EntryKey, dot: Dot) {
        let sibling = self.lost.remove(&(key.clone(), dot)).expect("it was lost");
        let changes = self.replica.find_superseded(key, dot, sibling);
        self.changed(changes);
    }

    /// Takes note of changes that belong to the present batch.
    pub(super) fn changed(&mut self, changes: Vec<Change>) {
        self.batch.extend(changes);
    }

    /// Writes the present batch.
    ///
    /// # Errors
    /// A sentence about what the bytes do not rebuild.
    pub(super) fn write_entry(&mut self) -> Result<(), String> {
        let bytes = change::encode(&std::mem::take(&mut self.batch));
        replay(&mut self.mirror, &bytes)?;
        let kept = Arc::new(self.replica.kept().clone());
        self.log.push(Batch { bytes: bytes.into(), kept });
        self.positions.push(self.replica.position());
        if self.is_damaged() || self.mirror == *self.replica.state() {
            Ok(())
        } else {
            Err(format!("the log makes {:?}, not {:?}", self.mirror, self.replica.state()))
        }
    }
}

fn replay(state: &mut State, bytes: &[u8]) -> Result<(), String> {
    let changes = change::decode(bytes, state.folds());
    for change in &changes.map_err(|error| format!("an entry of the log: {error}"))? {
        state.replay(change);
    }
    Ok(())
}
