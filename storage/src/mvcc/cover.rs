//! What a finished checkpoint says about itself, and how it stands in the store.
//!
//! One *base record* names the log index that the store covers. Each keyspace has a record of its
//! own under that index, written before: any number of them fits, and the base record makes all of
//! them valid at once. Records under any other index mean nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use proto::{KeyspaceId, LogIndex, Revision, Term, log, v1};

use super::digest::ContentSum;
use super::{item, key};
use crate::state::{BatchItem, StateError, StateStore};

/// Version of the layout of the store.
const FORMAT: u32 = 3;

/// The base record. It is the one record that is overwritten.
#[derive(Clone, PartialEq, Message)]
struct BaseRecord {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(uint64, tag = "3")]
    term: u64,
    /// Floor of the exactly-once table.
    #[prost(uint64, tag = "4")]
    floor: u64,
    /// Number of keyspace records.
    #[prost(uint64, tag = "5")]
    keyspaces: u64,
    #[prost(message, optional, tag = "6")]
    conf: Option<log::ConfState>,
    /// The membership change that `conf` carries out.
    #[prost(uint64, tag = "7")]
    change: u64,
    /// Number of outcomes in the exactly-once table.
    #[prost(uint64, tag = "8")]
    outcomes: u64,
}

/// The record of one keyspace.
#[derive(Clone, PartialEq, Message)]
struct KeyspaceRecord {
    #[prost(message, optional, tag = "1")]
    state: Option<log::KeyspaceState>,
    /// Sum over the living versions.
    #[prost(bytes = "bytes", tag = "2")]
    sum: Bytes,
}

/// What a checkpoint covers.
#[derive(Clone, Debug)]
pub struct Cover {
    /// Log index up to which the store holds everything.
    pub index: LogIndex,
    /// Term of that entry.
    pub term: Term,
    /// Floor of the exactly-once table there.
    pub floor: LogIndex,
    /// Number of outcomes in that table.
    pub outcomes: u64,
    /// The last configuration of the group there, with the change it carries out.
    pub conf: Option<(log::ConfState, u64)>,
    /// Every keyspace, open and closed, ascending by id.
    pub keyspaces: Vec<Covered>,
}

/// A keyspace at the index of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Covered {
    /// Its record; always with a descriptor.
    pub state: log::KeyspaceState,
    /// Sum over its living versions.
    pub sum: ContentSum,
}

impl Covered {
    /// Id, name and settings.
    pub fn descriptor(&self) -> &v1::Keyspace {
        self.state.descriptor.as_ref().expect("the state of a keyspace has a descriptor")
    }

    /// Its id.
    pub fn id(&self) -> KeyspaceId {
        KeyspaceId(self.descriptor().id)
    }

    /// The item of its record in the checkpoint at `index`.
    pub fn item(&self, index: LogIndex) -> BatchItem {
        let record = KeyspaceRecord { state: Some(self.state.clone()), sum: self.sum.to_bytes() };
        item::seal(key::keyspace_record(index, self.id()), &[&record.encode_to_vec()])
    }

    fn read(index: LogIndex, state_key: &Bytes, content: Bytes) -> Option<Self> {
        let KeyspaceRecord { state, sum } = KeyspaceRecord::decode(content).ok()?;
        let state = state.filter(|state| state.descriptor.is_some())?;
        let covered = Self { state, sum: ContentSum::from_bytes(&sum)? };
        let right = key::keyspace_record(index, covered.id()) == *state_key;
        let ordered = covered.state.compacted <= covered.state.revision;
        (right && ordered).then_some(covered)
    }
}

impl Cover {
    /// Reads what the store covers; `None` when it never finished a checkpoint.
    ///
    /// # Errors
    /// Those of the store; [`StateError::Damaged`], also for a format that is too old;
    /// [`StateError::Newer`].
    pub fn load(store: &dyn StateStore) -> Result<Option<Self>, StateError> {
        let Some(content) = item::get(store, &key::checkpoint())? else { return Ok(None) };
        let base = BaseRecord::decode(content)
            .map_err(|error| StateError::Damaged { why: format!("checkpoint record: {error}") })?;
        if base.format > FORMAT {
            return Err(StateError::Newer { found: base.format, known: FORMAT });
        }
        if base.format < FORMAT {
            let why = format!("its format {} is too old; {FORMAT} is read", base.format);
            return Err(StateError::Damaged { why });
        }
        let index = LogIndex(base.index);
        let (from, to) = key::keyspace_record_bounds(index);
        let mut keyspaces = Vec::new();
        for record in item::scan(store, &from, &to) {
            let (state_key, content) = record?;
            keyspaces.push(Covered::read(index, &state_key, content).ok_or_else(|| {
                let why = format!("no keyspace record under \"{}\"", state_key.escape_ascii());
                StateError::Damaged { why }
            })?);
        }
        if keyspaces.len() as u64 != base.keyspaces {
            let (found, named) = (keyspaces.len(), base.keyspaces);
            let why = format!("checkpoint {index} names {named} keyspaces and has {found}");
            return Err(StateError::Damaged { why });
        }
        let conf = base.conf.map(|conf| (conf, base.change));
        let (term, floor) = (Term(base.term), LogIndex(base.floor));
        Ok(Some(Self { index, term, floor, outcomes: base.outcomes, conf, keyspaces }))
    }

    /// The item of the base record.
    pub fn item(&self) -> BatchItem {
        let (conf, change) = self.conf.clone().map_or((None, 0), |(conf, n)| (Some(conf), n));
        let base = BaseRecord {
            format: FORMAT,
            index: self.index.get(),
            term: self.term.get(),
            floor: self.floor.get(),
            keyspaces: self.keyspaces.len() as u64,
            conf,
            change,
            outcomes: self.outcomes,
        };
        item::seal(key::checkpoint(), &[&base.encode_to_vec()])
    }

    /// Compares the number of outcomes that were found.
    ///
    /// # Errors
    /// [`StateError::Damaged`].
    pub fn check_outcomes(&self, found: u64) -> Result<(), StateError> {
        if found == self.outcomes {
            return Ok(());
        }
        let Self { index, outcomes, .. } = self;
        let why = format!("checkpoint {index} names {outcomes} outcomes and has {found}");
        Err(StateError::Damaged { why })
    }

    /// The open keyspaces, ascending by id.
    pub fn open(&self) -> impl Iterator<Item = &Covered> {
        self.keyspaces.iter().filter(|covered| !covered.state.closed)
    }

    /// The revision of each open keyspace.
    pub fn revisions(&self) -> BTreeMap<KeyspaceId, Revision> {
        self.open().map(|covered| (covered.id(), Revision(covered.state.revision))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::MemoryStore;

    #[test]
    fn other_formats_are_refused() {
        let store = MemoryStore::new();
        let write = |format| {
            let base = BaseRecord { format, index: 5, ..Default::default() };
            let item = item::seal(key::checkpoint(), &[&base.encode_to_vec()]);
            store.write(&[item]).unwrap();
            Cover::load(&store)
        };
        assert!(matches!(write(2), Err(StateError::Damaged { .. })), "older");
        assert!(matches!(write(FORMAT), Ok(Some(_))));
        let newer = write(FORMAT + 1);
        assert!(matches!(newer, Err(StateError::Newer { found: 4, known: 3 })));
    }

    #[test]
    fn hundreds_of_keyspaces_stand_in_records_of_their_own() {
        let store = MemoryStore::new();
        let keyspaces: Vec<Covered> = (1..=700)
            .map(|id| {
                let name = format!("{id:0>120}");
                let descriptor = Some(v1::Keyspace { id, name, ..Default::default() });
                let state = log::KeyspaceState { descriptor, revision: id, ..Default::default() };
                Covered { state, sum: ContentSum::default() }
            })
            .collect();
        let conf = Some((log::ConfState { voters: vec![1, 2, 3], ..Default::default() }, 4));
        let (index, term, floor) = (LogIndex(9), Term(2), LogIndex(3));
        let cover = Cover { index, term, floor, outcomes: 0, conf, keyspaces };
        for covered in &cover.keyspaces {
            store.write(&[covered.item(index)]).unwrap();
        }
        store.write(&[cover.keyspaces[0].item(LogIndex(8))]).unwrap();
        store.write(&[cover.keyspaces[0].item(LogIndex(10))]).unwrap();
        store.write(&[cover.item()]).unwrap();
        let read = Cover::load(&store).unwrap().unwrap();
        assert_eq!(read.keyspaces, cover.keyspaces);
        assert_eq!((read.term, read.floor, read.conf), (cover.term, cover.floor, cover.conf));
        store.write(&[(key::keyspace_record(index, KeyspaceId(77)), None)]).unwrap();
        assert!(matches!(Cover::load(&store), Err(StateError::Damaged { .. })));
    }
}
