//! The machine once more, as simple as possible: every revision in full, every outcome in a list.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::{Code, KeyspaceId, limits, log, v1};

use v1::compare::Target;
use v1::op::Op;
use v1::op_result::Result as OpResult;

type State = BTreeMap<Bytes, v1::Item>;

pub struct Model {
    /// The state at each revision, from 1 on.
    states: Vec<State>,
    outcomes_max: usize,
    answered: Vec<Answered>,
    floor: u64,
}

struct Answered {
    index: u64,
    client: Bytes,
    seq: u64,
    first_open: u64,
    outcome: log::WriteOutcome,
}

impl Model {
    pub fn new(outcomes_max: usize) -> Self {
        Self { states: vec![State::new()], outcomes_max, answered: Vec::new(), floor: 0 }
    }

    pub fn revision(&self) -> u64 {
        self.states.len() as u64
    }

    pub fn at(&self, revision: u64) -> &State {
        &self.states[revision as usize - 1]
    }

    pub fn floor(&self) -> u64 {
        self.floor
    }

    pub fn apply(&mut self, index: u64, write: &log::Write) -> log::WriteOutcome {
        let Some(id) = &write.id else { return self.execute(write) };
        let known = self.answered.iter().rev().find(|answered| answered.client == id.client_id);
        let first_open = known.map_or(0, |known| known.first_open).max(id.first_open);
        if id.seq < first_open {
            return self.refuse(write, Code::WriteAnswered);
        }
        let same = |a: &&Answered| a.client == id.client_id && a.seq == id.seq;
        if let Some(answered) = self.answered.iter().find(same) {
            return log::WriteOutcome { replayed: true, ..strip(answered.outcome.clone()) };
        }
        if id.born < self.floor {
            return self.refuse(write, Code::OutcomeForgotten);
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

    fn refuse(&self, write: &log::Write, code: Code) -> log::WriteOutcome {
        let known = write.keyspace == KeyspaceId::DEFAULT.get();
        let revision = if known { self.revision() } else { 0 };
        log::WriteOutcome { revision, refused: code.number(), ..Default::default() }
    }

    fn execute(&mut self, write: &log::Write) -> log::WriteOutcome {
        if write.keyspace != KeyspaceId::DEFAULT.get() {
            return self.refuse(write, Code::KeyspaceNotFound);
        }
        if let Err(failure) = limits::check_txn(&write.compares, &write.then_ops, &write.else_ops) {
            return self.refuse(write, failure.code);
        }
        let before = self.states.last().unwrap();
        let succeeded = write.compares.iter().all(|compare| holds(before, compare));
        let ops = if succeeded { &write.then_ops } else { &write.else_ops };
        let mut after = before.clone();
        let next = self.revision() + 1;
        let results: Vec<v1::OpResult> =
            ops.iter().map(|op| v1::OpResult { result: Some(run(&mut after, next, op)) }).collect();
        if after != *before {
            self.states.push(after);
        }
        let revision = self.revision();
        log::WriteOutcome { revision, succeeded, results, replayed: false, refused: 0 }
    }
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
