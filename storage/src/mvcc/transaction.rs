//! One write transaction: compares, then one of two branches.
//!
//! All compares are evaluated on the state before the transaction. When all hold the `then`
//! branch runs, otherwise the `else` branch. The operations of a branch run in order: a get sees
//! the state before the transaction plus what earlier operations of its branch wrote, with the
//! revision that the transaction is about to have. A branch writes each key at most once, so a
//! revision never holds two versions of a key.
//!
//! An absent key compares as revision, creation revision and version 0, and as unequal to every
//! value.
//!
//! A transaction is evaluated before anything is written, so a refusal has no effect. It is
//! refused when it breaks a limit of a request (checked again here, for the log is what binds),
//! when one of its deletes meets more than [`RANGE_DELETE_KEYS_MAX`] keys, when its deletes pass over
//! more than [`TOMBSTONES_MAX`] keys that are deleted already, and when the items it would return
//! exceed [`RESULT_BYTES_MAX`].

use bytes::Bytes;
use proto::limits::{self, RANGE_DELETE_KEYS_MAX};
use proto::{Code, KeyspaceId, LogIndex, Revision, log, v1};

use v1::compare::Target;
use v1::op::Op;
use v1::op_result::Result as OpResult;

use super::keyspace::Growth;
use super::version::{Head, Version};
use super::view::{Found, Layers};
use crate::state::StateError;

/// Most bytes of items that one transaction returns.
const RESULT_BYTES_MAX: usize = limits::REQUEST_BYTES_MAX;
/// Most keys, deleted before and not compacted since, that the range deletes of one transaction pass
/// over: each takes about 1 us, during which the node does nothing else.
///
/// Only tombstones that some revision still shows count: a replica may hold others or not, depending
/// on when its checkpoints ran.
pub const TOMBSTONES_MAX: usize = 100_000;
/// What an item costs in a result besides its key and value.
const ITEM_OVERHEAD_BYTES: usize = 64;

/// What a transaction came to.
#[derive(Debug)]
pub struct Done {
    /// The compares held.
    pub succeeded: bool,
    /// One result per operation of the branch that ran.
    pub results: Vec<v1::OpResult>,
    /// The versions to write, each key once. All carry the next revision of the keyspace.
    pub writes: Vec<Written>,
}

/// A version to write.
#[derive(Clone, Debug)]
pub struct Written {
    /// The key.
    pub key: Bytes,
    /// Its new version.
    pub version: Version,
    /// The version that was the newest until now, unless that was a tombstone or none.
    pub replaces: Option<Head>,
    /// Some version of the key, a tombstone perhaps, was found.
    pub known: bool,
}

impl Done {
    /// What the writes add to the counters of the keyspace.
    pub fn growth(&self) -> Growth {
        let mut growth = Growth::default();
        for Written { key, version, replaces, .. } in &self.writes {
            let size = |head: &Head| i64::from(head.value_bytes) + key.len() as i64;
            if !version.head.tombstone {
                growth.keys += 1;
                growth.bytes += size(&version.head);
            }
            if let Some(old) = replaces {
                growth.keys -= 1;
                growth.bytes -= size(old);
            }
        }
        growth
    }
}

/// Why a transaction came to nothing.
#[derive(Debug)]
pub enum Stop {
    /// The same on every replica: an answer to the client.
    Refused(Code),
    /// On this replica alone.
    State(StateError),
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

/// Evaluates `write`, the log entry at `index`, on a keyspace whose revision is `now` and whose history
/// begins at `compacted`.
///
/// # Errors
/// [`Stop`]; nothing was changed.
pub fn evaluate(
    layers: &Layers,
    (compacted, now): (Revision, Revision),
    index: LogIndex,
    write: &log::Write,
) -> Result<Done, Stop> {
    limits::check_txn(&write.compares, &write.then_ops, &write.else_ops)
        .map_err(|failure| Stop::Refused(failure.code))?;
    let state = State { layers, keyspace: KeyspaceId(write.keyspace), now };
    let mut succeeded = true;
    for compare in &write.compares {
        succeeded = succeeded && state.holds(compare)?;
    }
    let ops = if succeeded { &write.then_ops } else { &write.else_ops };
    let mut branch = Branch {
        state,
        next: now.next(),
        index,
        compacted,
        tombstones: 0,
        writes: Vec::with_capacity(ops.len()),
        starts: Vec::with_capacity(ops.len()),
        returned: 0,
    };
    let mut results = Vec::with_capacity(ops.len());
    for (position, op) in ops.iter().enumerate() {
        branch.starts.push(branch.writes.len());
        let result = branch.run(&ops[..position], op)?;
        results.push(v1::OpResult { result: Some(result) });
    }
    Ok(Done { succeeded, results, writes: branch.writes })
}

/// The state before the transaction.
#[derive(Clone, Copy)]
struct State<'a> {
    layers: &'a Layers,
    keyspace: KeyspaceId,
    now: Revision,
}

impl<'a> State<'a> {
    /// The newest version of a key, unless it is a tombstone.
    fn live(&self, key: &[u8]) -> Result<Option<Found<'a>>, StateError> {
        let found = self.newest(key)?;
        Ok(found.filter(|found| !found.head().tombstone))
    }

    /// The newest version of a key.
    fn newest(&self, key: &[u8]) -> Result<Option<Found<'a>>, StateError> {
        self.layers.version_at(self.keyspace, key, self.now)
    }

    fn holds(&self, compare: &v1::Compare) -> Result<bool, StateError> {
        let live = self.live(&compare.key)?;
        let head = live.as_ref().map(Found::head);
        Ok(match &compare.target {
            Some(Target::ModRev(revision)) => head.map_or(0, |h| h.revision.get()) == *revision,
            Some(Target::CreateRev(revision)) => {
                head.map_or(0, |h| h.create_rev.get()) == *revision
            }
            Some(Target::Version(version)) => head.map_or(0, |h| h.version) == *version,
            Some(Target::Absent(absent)) => head.is_none() == *absent,
            Some(Target::Value(value)) => match &live {
                Some(found) if found.head().value_bytes as usize == value.len() => {
                    self.layers.value(found)? == *value
                }
                Some(_) | None => false,
            },
            None => unreachable!("the limits demand a target"),
        })
    }
}

/// The branch that runs, and what it has written so far.
struct Branch<'a> {
    state: State<'a>,
    /// Revision of the transaction, if it writes anything.
    next: Revision,
    index: LogIndex,
    /// Where the history of the keyspace begins.
    compacted: Revision,
    /// Tombstones that range deletes have passed over.
    tombstones: usize,
    writes: Vec<Written>,
    /// Where in `writes` each operation began.
    starts: Vec<usize>,
    returned: usize,
}

impl Branch<'_> {
    fn run(&mut self, earlier: &[v1::Op], op: &v1::Op) -> Result<OpResult, Stop> {
        Ok(match &op.op {
            Some(Op::Put(put)) => OpResult::Put(v1::PutResult { prev: self.put(put)? }),
            Some(Op::Delete(delete)) => OpResult::Delete(self.delete(delete)?),
            Some(Op::Get(get)) => {
                OpResult::Get(v1::GetResult { item: self.get(earlier, &get.key)? })
            }
            None => unreachable!("the limits demand an operation"),
        })
    }

    fn put(&mut self, put: &v1::PutOp) -> Result<Option<v1::Item>, Stop> {
        let newest = self.state.newest(&put.key)?;
        let known = newest.is_some();
        let live = newest.filter(|found| !found.head().tombstone);
        let prev = match &live {
            Some(found) if put.prev => Some(self.take(put.key.clone(), found)?),
            Some(_) | None => None,
        };
        let replaces = live.as_ref().map(|found| *found.head());
        let head = Head::put(replaces.as_ref(), self.next, self.index, &put.value);
        let version = Version { head, value: put.value.clone() };
        self.writes.push(Written { key: put.key.clone(), version, replaces, known });
        Ok(prev)
    }

    fn delete(&mut self, delete: &v1::DeleteOp) -> Result<v1::DeleteResult, Stop> {
        let mut result = v1::DeleteResult::default();
        if delete.range_end.is_empty() {
            if let Some(found) = self.state.live(&delete.key)? {
                self.bury(&mut result, delete.prev, delete.key.clone(), &found)?;
            }
            return Ok(result);
        }
        let State { layers, keyspace, now } = self.state;
        for entry in layers.keys(keyspace, &delete.key, &delete.range_end, now) {
            let (key, found) = entry?;
            let Some(found) = found else { continue };
            if found.head().tombstone {
                self.tombstones += usize::from(found.head().revision > self.compacted);
                if self.tombstones > TOMBSTONES_MAX {
                    return Err(Stop::Refused(Code::RangeDeleteTooLarge));
                }
                continue;
            }
            if result.deleted == RANGE_DELETE_KEYS_MAX as u64 {
                return Err(Stop::Refused(Code::RangeDeleteTooLarge));
            }
            self.bury(&mut result, delete.prev, key, &found)?;
        }
        Ok(result)
    }

    fn bury(
        &mut self,
        result: &mut v1::DeleteResult,
        prev: bool,
        key: Bytes,
        found: &Found<'_>,
    ) -> Result<(), Stop> {
        if prev {
            result.prev.push(self.take(key.clone(), found)?);
        }
        result.deleted += 1;
        let head = Head::delete(self.next, self.index);
        let version = Version { head, value: Bytes::new() };
        self.writes.push(Written { key, version, replaces: Some(*found.head()), known: true });
        Ok(())
    }

    fn get(&mut self, earlier: &[v1::Op], key: &Bytes) -> Result<Option<v1::Item>, Stop> {
        for (position, op) in earlier.iter().enumerate() {
            match &op.op {
                Some(Op::Put(put)) if put.key == *key => {
                    let Written { key, version, .. } = self.writes[self.starts[position]].clone();
                    return self.take(key, &Found::Layer(&version)).map(Some);
                }
                Some(Op::Delete(delete)) if covers(delete, key) => return Ok(None),
                Some(Op::Put(_) | Op::Delete(_) | Op::Get(_)) | None => {}
            }
        }
        match self.state.live(key)? {
            Some(found) => self.take(key.clone(), &found).map(Some),
            None => Ok(None),
        }
    }

    /// The item to return for a version, if the result has room for it.
    fn take(&mut self, key: Bytes, found: &Found<'_>) -> Result<v1::Item, Stop> {
        let head = found.head();
        self.returned += key.len() + head.value_bytes as usize + ITEM_OVERHEAD_BYTES;
        if self.returned > RESULT_BYTES_MAX {
            return Err(Stop::Refused(Code::RequestTooLarge));
        }
        Ok(head.item(key, self.state.layers.value(found)?))
    }
}

fn covers(delete: &v1::DeleteOp, key: &Bytes) -> bool {
    if delete.range_end.is_empty() {
        return delete.key == *key;
    }
    delete.key <= *key && *key < delete.range_end
}
