//! The oracle's model of a data group: what the committed log makes of an empty state.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message;
use proto::v1;
use proto::{KeyspaceId, log};

use super::host::machine_options;
use super::operation::KEYSPACE;
use super::oracle::undisguised;

/// Client id and seq.
pub type WriteKey = (Bytes, u64);

/// One version of one key in the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    value: Bytes,
    create_rev: u64,
    mod_rev: u64,
    version: u64,
}

/// One keyspace: all its versions, ever.
#[derive(Clone, Debug, Default)]
pub struct Keyspace {
    name: String,
    revision: u64,
    compacted: u64,
    keys_max: u64,
    /// Per key: revision to version; `None` is a delete.
    keys: BTreeMap<Bytes, BTreeMap<u64, Option<Version>>>,
}

/// The model's state and what each write came to.
#[derive(Debug, Default)]
pub struct Model {
    open: BTreeMap<u64, Keyspace>,
    /// Closed for good, with what they held.
    closed: BTreeMap<u64, Option<Keyspace>>,
    /// First execution of each write id: revision after it, and whether the compares held.
    pub executed: BTreeMap<WriteKey, (u64, bool)>,
    table: Table,
    /// What occurred.
    pub events: ModelEvents,
}

/// How often something occurred in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelEvents {
    /// Compactions that dropped something.
    pub compactions: u64,
    /// Keyspaces that were opened.
    pub opened: u64,
    /// Keyspaces that were closed.
    pub closed: u64,
    /// Writes refused for the limit of a keyspace.
    pub full: u64,
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

impl Keyspace {
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

    /// The version of a key that a read at this revision shows.
    pub fn at(&self, key: &Bytes, revision: u64) -> Option<&Version> {
        self.keys.get(key)?.range(..=revision).next_back()?.1.as_ref()
    }

    fn live_keys(&self, revision: u64) -> u64 {
        self.keys.keys().filter(|key| self.at(key, revision).is_some()).count() as u64
    }

    /// Takes back what was written at a revision.
    fn undo(&mut self, revision: u64) {
        for versions in self.keys.values_mut() {
            versions.remove(&revision);
        }
    }

    /// Whether an item is what a read at this revision shows.
    pub fn matches(&self, item: &v1::Item, revision: u64) -> bool {
        self.at(&item.key, revision).is_some_and(|version| {
            version.value == item.value
                && version.mod_rev == item.mod_rev
                && version.create_rev == item.create_rev
                && version.version == item.version
        })
    }

    /// The page that a range from `from` with `limit` shows at `revision`.
    pub fn page(&self, from: &Bytes, limit: usize, revision: u64) -> Vec<Bytes> {
        let live =
            self.keys.range(from.clone()..).filter(|(key, _)| self.at(key, revision).is_some());
        live.take(limit).map(|(key, _)| key.clone()).collect()
    }
}

impl Model {
    /// What these entries, from the first on, lead to.
    pub fn replay(entries: &[log::Entry]) -> Self {
        use log::command::Body;
        let mut model = Self::default();
        let default = Keyspace { name: KEYSPACE.to_owned(), revision: 1, ..Keyspace::default() };
        model.open.insert(KeyspaceId::DEFAULT.get(), default);
        let normal =
            |entry: &&log::Entry| entry.kind() == log::EntryKind::Normal && !entry.data.is_empty();
        for entry in entries.iter().filter(normal) {
            let command =
                log::Command::decode(entry.data.clone()).expect("committed entries decode");
            match command.body {
                Some(Body::Write(write)) => model.write(write, entry.index),
                Some(Body::OpenKeyspace(open)) => model.open(open.keyspace.unwrap_or_default()),
                Some(Body::CloseKeyspace(close)) => model.close(close.id),
                Some(Body::Compact(compact)) => model.compact(&compact),
                other => panic!("a data group's log holds {other:?}"),
            }
        }
        model
    }

    /// Outcomes that the exactly-once table let go.
    pub fn evictions(&self) -> u64 {
        self.table.evictions
    }

    /// The keyspace that has or had this name; the workload uses each name once.
    pub fn named(&self, name: &str) -> Option<&Keyspace> {
        let closed = self.closed.values().flatten();
        self.open.values().chain(closed).find(|keyspace| keyspace.name == name)
    }

    /// Names of the keyspaces that are open at the end.
    pub fn open_names(&self) -> BTreeSet<String> {
        self.open.values().map(|keyspace| keyspace.name.clone()).collect()
    }

    fn open(&mut self, wanted: v1::Keyspace) {
        if self.closed.contains_key(&wanted.id) {
            return;
        }
        let events = &mut self.events;
        let keyspace = self.open.entry(wanted.id).or_insert_with(|| {
            events.opened += 1;
            Keyspace { name: wanted.name.clone(), revision: 1, ..Keyspace::default() }
        });
        assert_eq!(keyspace.name, wanted.name, "an id belongs to one name");
        keyspace.keys_max = wanted.settings.unwrap_or_default().keys_max;
    }

    fn close(&mut self, id: u64) {
        let closed = self.open.remove(&id);
        self.events.closed += u64::from(closed.is_some());
        self.closed.entry(id).or_insert(closed);
    }

    fn compact(&mut self, compact: &log::Compact) {
        let Some(keyspace) = self.open.get_mut(&compact.keyspace) else { return };
        if compact.revision <= keyspace.revision && compact.revision > keyspace.compacted {
            keyspace.compacted = compact.revision;
            self.events.compactions += 1;
        }
    }

    fn write(&mut self, write: log::Write, index: u64) {
        let id = write.id.unwrap_or_default();
        let admitted = self.table.admits(&id, index);
        let key = (undisguised(&id.client_id), id.seq);
        if !admitted || self.executed.contains_key(&key) {
            // Must have no effect; if it has one, the reads show it.
            return;
        }
        let Some(keyspace) = self.open.get_mut(&write.keyspace) else { return };
        let held = write.compares.iter().all(|compare| keyspace.holds(compare));
        let ops = if held { write.then_ops } else { write.else_ops };
        let next = keyspace.revision + 1;
        let before = keyspace.live_keys(next);
        let mut wrote = false;
        for op in ops {
            wrote |= keyspace.execute(op, next);
        }
        let after = keyspace.live_keys(next);
        if keyspace.keys_max > 0 && after > before && after > keyspace.keys_max {
            keyspace.undo(next);
            self.events.full += 1;
            return;
        }
        if wrote {
            keyspace.revision = next;
        }
        self.executed.insert(key, (keyspace.revision, held));
    }
}
