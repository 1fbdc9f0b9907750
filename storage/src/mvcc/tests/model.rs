//! The machine once more, as simple as possible: every revision in full, every outcome in a list.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proto::{Code, limits, log, v1};

use v1::compare::Target;
use v1::op::Op;
use v1::op_result::Result as OpResult;

type State = BTreeMap<Bytes, v1::Item>;

pub struct Model {
    spaces: BTreeMap<u64, Space>,
    closed: BTreeSet<u64>,
    outcomes_max: usize,
    answered: Vec<Answered>,
    floor: u64,
}

pub struct Space {
    pub name: String,
    settings: v1::keyspace::Settings,
    /// The state at each revision, from 1 on.
    states: Vec<State>,
    pub compacted: u64,
}

struct Answered {
    index: u64,
    client: Bytes,
    seq: u64,
    first_open: u64,
    outcome: log::WriteOutcome,
}

impl Space {
    fn new(name: &str) -> Self {
        let settings = v1::keyspace::Settings::default();
        Self { name: name.to_owned(), settings, states: vec![State::new()], compacted: 1 }
    }

    pub fn revision(&self) -> u64 {
        self.states.len() as u64
    }

    pub fn at(&self, revision: u64) -> &State {
        &self.states[revision as usize - 1]
    }

    /// Keys and bytes of the newest state.
    pub fn live(&self) -> (u64, u64) {
        let state = self.states.last().unwrap();
        let bytes = |item: &v1::Item| (item.key.len() + item.value.len()) as u64;
        (state.len() as u64, state.values().map(bytes).sum())
    }

    /// The history of a key, newest first: what each revision changed, and what it was at the
    /// compacted revision.
    pub fn history(&self, key: &Bytes) -> Vec<v1::KeyVersion> {
        let mut versions: Vec<v1::KeyVersion> = Vec::new();
        let base = self.at(self.compacted).get(key).cloned();
        versions.extend(base.map(|item| v1::KeyVersion { item: Some(item), deleted: false }));
        for revision in self.compacted + 1..=self.revision() {
            let (before, after) = (self.at(revision - 1).get(key), self.at(revision).get(key));
            if before == after {
                continue;
            }
            let gone = || v1::Item { key: key.clone(), mod_rev: revision, ..Default::default() };
            let item = Some(after.cloned().unwrap_or_else(gone));
            versions.push(v1::KeyVersion { item, deleted: after.is_none() });
        }
        versions.reverse();
        versions
    }
}

impl Model {
    pub fn new(outcomes_max: usize) -> Self {
        Self {
            spaces: BTreeMap::from([(1, Space::new("default"))]),
            closed: BTreeSet::new(),
            outcomes_max,
            answered: Vec::new(),
            floor: 0,
        }
    }

    pub fn spaces(&self) -> &BTreeMap<u64, Space> {
        &self.spaces
    }

    pub fn max_id(&self) -> u64 {
        let ids = self.spaces.keys().chain(&self.closed);
        ids.copied().max().unwrap()
    }

    pub fn floor(&self) -> u64 {
        self.floor
    }

    pub fn apply(&mut self, index: u64, command: &log::Command) -> log::WriteOutcome {
        use log::command::Body;
        match command.body.as_ref().unwrap() {
            Body::Write(write) => self.write(index, write),
            Body::OpenKeyspace(open) => self.open(open.keyspace.as_ref().unwrap()),
            Body::CloseKeyspace(close) => self.close(close.id),
            Body::Compact(compact) => self.compact(compact),
            Body::PutItems(put) => self.put_items(index, put),
            other => panic!("not a command of a data group: {other:?}"),
        }
    }

    fn open(&mut self, wanted: &v1::Keyspace) -> log::WriteOutcome {
        let same_name = self.spaces.iter().find(|(_, space)| space.name == wanted.name);
        let owner = same_name.map(|(id, _)| *id);
        if self.closed.contains(&wanted.id) {
            return self.refuse(wanted.id, Code::KeyspaceNotFound);
        }
        if owner.is_some_and(|owner| owner != wanted.id) {
            return self.refuse(wanted.id, Code::KeyspaceExists);
        }
        if owner.is_none() && self.spaces.contains_key(&wanted.id) {
            return self.refuse(wanted.id, Code::InvalidRequest);
        }
        let space = self.spaces.entry(wanted.id).or_insert_with(|| Space::new(&wanted.name));
        space.settings = wanted.settings.unwrap_or_default();
        done(space.revision())
    }

    fn close(&mut self, id: u64) -> log::WriteOutcome {
        if id == 1 {
            return self.refuse(id, Code::KeyspaceProtected);
        }
        self.spaces.remove(&id);
        self.closed.insert(id);
        done(0)
    }

    fn compact(&mut self, compact: &log::Compact) -> log::WriteOutcome {
        let Some(space) = self.spaces.get_mut(&compact.keyspace) else {
            return self.refuse(compact.keyspace, Code::KeyspaceNotFound);
        };
        if compact.revision > space.revision() {
            return self.refuse(compact.keyspace, Code::CompactionAhead);
        }
        space.compacted = space.compacted.max(compact.revision);
        done(space.revision())
    }

    /// A transaction without conditions on keyspace 1, after which nothing older can be read.
    fn put_items(&mut self, index: u64, put: &log::PutItems) -> log::WriteOutcome {
        let newest: BTreeMap<Bytes, Option<Bytes>> =
            put.items.iter().map(|item| (item.key.clone(), item.value.clone())).collect();
        let ops = newest.into_iter().map(|(key, value)| match value {
            Some(value) => super::build::put(key, value),
            None => super::build::delete(key),
        });
        let outcome = self.write(index, &super::build::write(ops));
        if outcome.refused == 0 {
            self.spaces.get_mut(&1).unwrap().compacted = outcome.revision;
        }
        log::WriteOutcome { results: Vec::new(), ..outcome }
    }

    fn write(&mut self, index: u64, write: &log::Write) -> log::WriteOutcome {
        let Some(id) = &write.id else { return self.execute(write) };
        let known = self.answered.iter().rev().find(|answered| answered.client == id.client_id);
        let first_open = known.map_or(0, |known| known.first_open).max(id.first_open);
        if id.seq < first_open {
            return self.refuse(write.keyspace, Code::WriteAnswered);
        }
        let same = |a: &&Answered| a.client == id.client_id && a.seq == id.seq;
        if let Some(answered) = self.answered.iter().find(same) {
            return log::WriteOutcome { replayed: true, ..strip(answered.outcome.clone()) };
        }
        if id.born < self.floor {
            return self.refuse(write.keyspace, Code::OutcomeForgotten);
        }
        let outcome = self.execute(write);
        self.answered.retain(|a| a.client != id.client_id || a.seq >= first_open);
        let (client, seq) = (id.client_id.clone(), id.seq);
        self.answered.push(Answered { index, client, seq, first_open, outcome: outcome.clone() });
        while self.answered.len() > self.outcomes_max {
            self.floor = self.answered.remove(0).index;
        }
        outcome
    }

    fn refuse(&self, keyspace: u64, code: Code) -> log::WriteOutcome {
        let revision = self.spaces.get(&keyspace).map_or(0, Space::revision);
        log::WriteOutcome { revision, refused: code.number(), ..Default::default() }
    }

    fn execute(&mut self, write: &log::Write) -> log::WriteOutcome {
        let Some(space) = self.spaces.get(&write.keyspace) else {
            return self.refuse(write.keyspace, Code::KeyspaceNotFound);
        };
        if let Err(failure) = limits::check_txn(&write.compares, &write.then_ops, &write.else_ops) {
            return self.refuse(write.keyspace, failure.code);
        }
        let before = space.states.last().unwrap();
        let succeeded = write.compares.iter().all(|compare| holds(before, compare));
        let ops = if succeeded { &write.then_ops } else { &write.else_ops };
        let mut after = before.clone();
        let next = space.revision() + 1;
        let results: Vec<v1::OpResult> =
            ops.iter().map(|op| v1::OpResult { result: Some(run(&mut after, next, op)) }).collect();
        let changed = after != *before;
        let mut states = space.states.clone();
        states.extend(changed.then_some(after));
        let after = Space { states, name: String::new(), ..*space };
        let (was, is, settings) = (space.live(), after.live(), &space.settings);
        let full = |was, is, max| is > was && max > 0 && is > max;
        if full(was.0, is.0, settings.keys_max) || full(was.1, is.1, settings.bytes_max) {
            return self.refuse(write.keyspace, Code::KeyspaceFull);
        }
        let revision = after.revision();
        self.spaces.get_mut(&write.keyspace).unwrap().states = after.states;
        log::WriteOutcome { revision, succeeded, results, replayed: false, refused: 0 }
    }
}

fn done(revision: u64) -> log::WriteOutcome {
    log::WriteOutcome { revision, succeeded: true, ..Default::default() }
}

fn holds(state: &State, compare: &v1::Compare) -> bool {
    let absent = v1::Item::default();
    let item = state.get(&compare.key);
    let numbers = item.unwrap_or(&absent);
    match compare.target.as_ref().unwrap() {
        Target::ModRev(n) => numbers.mod_rev == *n,
        Target::CreateRev(n) => numbers.create_rev == *n,
        Target::Version(n) => numbers.version == *n,
        Target::Value(value) => item.is_some_and(|item| item.value == *value),
        Target::Absent(absent) => item.is_none() == *absent,
    }
}

fn run(state: &mut State, next: u64, op: &v1::Op) -> OpResult {
    match op.op.as_ref().unwrap() {
        Op::Put(put) => {
            let old = state.get(&put.key).cloned();
            let item = v1::Item {
                key: put.key.clone(),
                value: put.value.clone(),
                value_size: put.value.len() as u64,
                create_rev: old.as_ref().map_or(next, |old| old.create_rev),
                mod_rev: next,
                version: old.as_ref().map_or(0, |old| old.version) + 1,
                lease: 0,
            };
            state.insert(put.key.clone(), item);
            OpResult::Put(v1::PutResult { prev: old.filter(|_| put.prev) })
        }
        Op::Delete(delete) => {
            let inside = |key: &Bytes| match delete.range_end.is_empty() {
                true => *key == delete.key,
                false => delete.key <= *key && *key < delete.range_end,
            };
            let gone: Vec<v1::Item> =
                state.values().filter(|item| inside(&item.key)).cloned().collect();
            state.retain(|key, _| !inside(key));
            let deleted = gone.len() as u64;
            let prev = if delete.prev { gone } else { Vec::new() };
            OpResult::Delete(v1::DeleteResult { deleted, prev })
        }
        Op::Get(get) => OpResult::Get(v1::GetResult { item: state.get(&get.key).cloned() }),
    }
}

/// An outcome as a retry gets it.
fn strip(mut outcome: log::WriteOutcome) -> log::WriteOutcome {
    for result in &mut outcome.results {
        match result.result.as_mut().unwrap() {
            OpResult::Put(put) => put.prev = None,
            OpResult::Delete(delete) => delete.prev.clear(),
            OpResult::Get(get) => get.item = None,
        }
    }
    outcome
}
