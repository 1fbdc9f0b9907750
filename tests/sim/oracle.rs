//! Decides whether what clients saw can be explained.
//!
//! The oracle takes the committed log of the data group as the one order of all writes, executes
//! it on a model of its own (a map of all versions, no storage, no checkpoints), and holds every
//! answer against it:
//!
//! 1. an acknowledged write stands in the log, with the answer that the model gives, and took
//!    effect once;
//! 2. a write that certainly failed took no effect;
//! 3. every read shows exactly the model's state at the revision it claims;
//! 4. real time is respected: what was answered before an operation began is inside the revision
//!    that the operation shows (linearizable reads and all writes).
//!
//! Together these are strict serializability with the log as the witness; `jepsen` judges the same
//! history without knowing the log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kvstore::node::{Reply, Request};
use prost::Message;
use proto::v1::{self, Level};
use proto::{KeyspaceId, log};

use super::host::machine_options;
use super::network::Micros;
use super::operation::{Ending, Operation};

/// Client id and seq.
type WriteKey = (Bytes, u64);

/// What the oracle says.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Every way in which the history contradicts the log.
    pub violations: Vec<String>,
    /// Outcomes that the exactly-once table let go.
    pub evictions: u64,
}

/// The client id under which the planted bug of double execution repeats a write: to the node it is
/// another client, to the oracle the same.
pub fn disguise(client_id: &Bytes, attempt: u32) -> Bytes {
    let mut disguised = client_id.to_vec();
    if let Some(last) = disguised.last_mut() {
        *last = u8::try_from(attempt % 256).expect("below 256");
    }
    disguised.into()
}

/// The client id without disguise; ids of simulated clients end in 0.
fn undisguised(client_id: &Bytes) -> Bytes {
    disguise(client_id, 0)
}

/// One version of one key in the model.
#[derive(Clone, Debug, PartialEq)]
struct Version {
    value: Bytes,
    create_rev: u64,
    mod_rev: u64,
    version: u64,
}

/// The model's state and what each write came to.
#[derive(Debug, Default)]
struct Model {
    revision: u64,
    /// Per key: revision to version; `None` is a delete.
    keys: BTreeMap<Bytes, BTreeMap<u64, Option<Version>>>,
    /// First execution of each write id: revision after it, and whether the compares held.
    executed: BTreeMap<WriteKey, (u64, bool)>,
    table: Table,
}

/// The exactly-once table by its rules: per client the outcomes from `first_open` on, the oldest
/// evicted beyond a bound, and a floor below which nothing new is accepted.
#[derive(Debug, Default)]
struct Table {
    by_index: BTreeMap<u64, WriteKey>,
    by_name: BTreeMap<WriteKey, u64>,
    first_open: BTreeMap<Bytes, u64>,
    floor: u64,
    evictions: u64,
}

impl Table {
    /// Whether a write runs at `index`; if so it is noted.
    fn admits(&mut self, id: &v1::WriteId, index: u64) -> bool {
        let name = (id.client_id.clone(), id.seq);
        let known = self.first_open.get(&id.client_id).copied().unwrap_or_default();
        let first_open = known.max(id.first_open);
        if id.seq < first_open || self.by_name.contains_key(&name) || id.born < self.floor {
            return false;
        }
        let answered = (id.client_id.clone(), 0)..(id.client_id.clone(), first_open);
        let answered: Vec<u64> = self.by_name.range(answered).map(|(_, index)| *index).collect();
        for index in answered {
            self.remove(index);
        }
        self.by_index.insert(index, name.clone());
        self.by_name.insert(name, index);
        self.first_open.insert(id.client_id.clone(), first_open);
        while self.by_index.len() > machine_options().outcomes_max {
            let (&oldest, _) = self.by_index.first_key_value().expect("it is over its bound");
            self.remove(oldest);
            self.floor = oldest;
            self.evictions += 1;
        }
        true
    }

    fn remove(&mut self, index: u64) {
        let Some(name) = self.by_index.remove(&index) else { return };
        self.by_name.remove(&name);
        if !self.by_name.keys().any(|(client, _)| *client == name.0) {
            self.first_open.remove(&name.0);
        }
    }
}

impl Model {
    fn replay(entries: &[log::Entry]) -> Self {
        let mut model = Self { revision: 1, ..Self::default() };
        for entry in entries.iter().filter(|entry| !entry.data.is_empty()) {
            let command =
                log::Command::decode(entry.data.clone()).expect("committed entries decode");
            if let Some(log::command::Body::Write(write)) = command.body {
                model.write(write, entry.index);
            }
        }
        model
    }

    fn write(&mut self, write: log::Write, index: u64) {
        assert_eq!(write.keyspace, KeyspaceId::DEFAULT.get(), "one keyspace is used");
        let id = write.id.unwrap_or_default();
        let admitted = self.table.admits(&id, index);
        let key = (undisguised(&id.client_id), id.seq);
        if !admitted || self.executed.contains_key(&key) {
            // Must have no effect; if it has one, the reads show it.
            return;
        }
        let held = write.compares.iter().all(|compare| self.holds(compare));
        let ops = if held { write.then_ops } else { write.else_ops };
        let next = self.revision + 1;
        let mut wrote = false;
        for op in ops {
            wrote |= self.execute(op, next);
        }
        if wrote {
            self.revision = next;
        }
        self.executed.insert(key, (self.revision, held));
    }

    fn holds(&self, compare: &v1::Compare) -> bool {
        let now = self.at(&compare.key, self.revision);
        match &compare.target {
            Some(v1::compare::Target::ModRev(rev)) => now.map_or(0, |v| v.mod_rev) == *rev,
            other => panic!("the workload does not use {other:?}"),
        }
    }

    fn execute(&mut self, op: v1::Op, revision: u64) -> bool {
        match op.op.expect("operations are not empty") {
            v1::op::Op::Put(put) => {
                let (create_rev, version) = match self.at(&put.key, revision) {
                    Some(now) => (now.create_rev, now.version + 1),
                    None => (revision, 1),
                };
                let new = Version { value: put.value, create_rev, mod_rev: revision, version };
                self.keys.entry(put.key).or_default().insert(revision, Some(new));
                true
            }
            v1::op::Op::Delete(delete) => {
                let hit: Vec<Bytes> = if delete.range_end.is_empty() {
                    vec![delete.key]
                } else {
                    self.keys.range(delete.key..delete.range_end).map(|(k, _)| k.clone()).collect()
                };
                let mut wrote = false;
                for key in hit {
                    if self.at(&key, revision).is_some() {
                        self.keys.entry(key).or_default().insert(revision, None);
                        wrote = true;
                    }
                }
                wrote
            }
            v1::op::Op::Get(_) => false,
        }
    }

    fn at(&self, key: &Bytes, revision: u64) -> Option<&Version> {
        self.keys.get(key)?.range(..=revision).next_back()?.1.as_ref()
    }

    fn matches(&self, item: &v1::Item, revision: u64) -> bool {
        self.at(&item.key, revision).is_some_and(|version| {
            version.value == item.value
                && version.mod_rev == item.mod_rev
                && version.create_rev == item.create_rev
                && version.version == item.version
        })
    }

    /// The page that a range from `from` with `limit` shows at `revision`.
    fn page(&self, from: &Bytes, limit: usize, revision: u64) -> Vec<Bytes> {
        let live =
            self.keys.range(from.clone()..).filter(|(key, _)| self.at(key, revision).is_some());
        live.take(limit).map(|(key, _)| key.clone()).collect()
    }
}

/// Holds `history` against the committed `entries`.
pub fn judge(history: &[Operation], entries: &[log::Entry]) -> Judgement {
    let model = Model::replay(entries);
    let mut violations = Vec::new();
    for (number, operation) in history.iter().enumerate() {
        if let Err(why) = explain(&model, operation) {
            violations.push(format!("operation {number}: {why}: {operation:?}"));
        }
    }
    violations.extend(real_time(history));
    Judgement { violations, evictions: model.table.evictions }
}

fn explain(model: &Model, operation: &Operation) -> Result<(), String> {
    let Some(ending) = &operation.ending else { return Ok(()) };
    match (&operation.request, ending) {
        (Request::Write { .. }, Ending::Ok(Reply::Write { outcome, .. })) => {
            let expected = executed(model, operation)
                .ok_or_else(|| "acknowledged, but not in the log".to_owned())?;
            let got = (outcome.revision, outcome.succeeded);
            if got == expected {
                Ok(())
            } else {
                Err(format!("answered {got:?}, the log says {expected:?}"))
            }
        }
        (Request::Write { .. }, Ending::Fail) => match executed(model, operation) {
            Some(at) => Err(format!("reported as not applied, but executed at {at:?}")),
            None => Ok(()),
        },
        (Request::Get(get), Ending::Ok(Reply::Get(reply))) => {
            let revision = reply.proof.as_ref().map_or(0, |proof| proof.revision);
            match &reply.item {
                Some(item) if item.key == get.key && model.matches(item, revision) => Ok(()),
                None if model.at(&get.key, revision).is_none() => Ok(()),
                _ => Err(format!("the log shows {:?}", model.at(&get.key, revision))),
            }
        }
        (Request::Range(range), Ending::Ok(Reply::Range(reply))) => {
            let revision = reply.proof.as_ref().map_or(0, |proof| proof.revision);
            let limit = if range.limit == 0 { usize::MAX } else { range.limit as usize };
            let keys: Vec<Bytes> = reply.items.iter().map(|item| item.key.clone()).collect();
            let expected = model.page(&range.from, limit, revision);
            if keys != expected {
                return Err(format!("the log shows the keys {expected:?}"));
            }
            match reply.items.iter().find(|item| !model.matches(item, revision)) {
                Some(item) => Err(format!("the log shows {:?}", model.at(&item.key, revision))),
                None => Ok(()),
            }
        }
        (Request::Get(_) | Request::Range(_), Ending::Fail | Ending::Unknown)
        | (Request::Write { .. }, Ending::Unknown) => Ok(()),
        (_, Ending::Ok(reply)) => Err(format!("answered with {reply:?}")),
    }
}

fn executed(model: &Model, operation: &Operation) -> Option<(u64, bool)> {
    let id = operation.write_id()?;
    model.executed.get(&(id.client_id.clone(), id.seq)).copied()
}

/// What was answered before an operation began is inside the revision that the operation shows.
fn real_time(history: &[Operation]) -> Vec<String> {
    // (time, is an invocation, revision, number): at equal times invocations come first.
    let mut returns: BTreeSet<(Micros, usize, u64)> = BTreeSet::new();
    let mut begins: BTreeSet<(Micros, usize, u64)> = BTreeSet::new();
    for (number, operation) in history.iter().enumerate() {
        let Some(Ending::Ok(reply)) = &operation.ending else { continue };
        let Some(returned) = operation.returned else { continue };
        let Some(revision) = shown(operation, reply) else { continue };
        returns.insert((returned, number, revision));
        begins.insert((operation.invoked, number, revision));
    }
    let mut violations = Vec::new();
    let mut returns = returns.into_iter().peekable();
    let mut newest = (0, 0);
    for (invoked, number, revision) in begins {
        while let Some((_, before, shown)) = returns.next_if(|(at, ..)| *at < invoked) {
            newest = newest.max((shown, before));
        }
        if revision < newest.0 {
            violations.push(format!(
                "operation {number} shows revision {revision}, although operation {} had shown \
                 {} before it began: {:?}",
                newest.1, newest.0, history[number]
            ));
        }
    }
    violations
}

/// The revision that an answer claims to include everything up to; `None` for a weaker level, and
/// for a write answered from the exactly-once table, which shows an earlier moment.
fn shown(operation: &Operation, reply: &Reply) -> Option<u64> {
    let proof = match reply {
        Reply::Get(get) => get.proof.as_ref(),
        Reply::Range(range) => range.proof.as_ref(),
        Reply::Write { outcome, .. } => {
            return (operation.attempts == 1 || !outcome.replayed).then_some(outcome.revision);
        }
    }?;
    let asked = match &operation.request {
        Request::Get(get) => get.level(),
        Request::Range(range) => range.level(),
        Request::Write { .. } => return None,
    };
    (asked == Level::Linearizable).then_some(proof.revision)
}
