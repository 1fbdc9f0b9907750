//! The keyspaces of a data group: which are open, under which name, and which ids are spent.

use std::collections::{BTreeMap, BTreeSet};

use proto::limits::KEYSPACE_NAME_BYTES_MAX;
use proto::{Code, KeyspaceId, log, v1};
use v1::keyspace::{Kind, Policy, State};

use super::cover::{Cover, Covered};
use super::digest::ContentSum;
use super::keyspace::Keyspace;
use super::superseded::Superseded;
use crate::state::StateError;

/// Name of the keyspace that always exists, [`KeyspaceId::DEFAULT`].
pub const DEFAULT_KEYSPACE: &str = "default";

/// All keyspaces.
///
/// Invariants:
/// 1. [`KeyspaceId::DEFAULT`] is open.
/// 2. An id is open, closed or was never heard of; what is closed stays closed.
/// 3. Open keyspaces have different names.
#[derive(Debug)]
pub struct Directory {
    open: BTreeMap<KeyspaceId, Keyspace>,
    names: BTreeMap<String, KeyspaceId>,
    closed: BTreeSet<KeyspaceId>,
}

impl Directory {
    /// The directory before the first entry: `default` alone, empty.
    pub fn new() -> Self {
        let descriptor = v1::Keyspace {
            id: KeyspaceId::DEFAULT.get(),
            name: DEFAULT_KEYSPACE.to_owned(),
            kind: Kind::Linearizable.into(),
            state: State::Ready.into(),
            settings: None,
            generation: 0,
            policy: Policy::Unspecified.into(),
        };
        let mut new =
            Self { open: BTreeMap::new(), names: BTreeMap::new(), closed: BTreeSet::new() };
        new.insert(Keyspace::new(descriptor));
        new
    }

    /// The directory of a checkpoint; `superseded` says what its versions supersede.
    ///
    /// # Errors
    /// [`StateError::Damaged`] when the checkpoint breaks an invariant.
    pub fn restore(
        cover: &Cover,
        mut superseded: BTreeMap<KeyspaceId, Superseded>,
    ) -> Result<Self, StateError> {
        let mut directory =
            Self { open: BTreeMap::new(), names: BTreeMap::new(), closed: BTreeSet::new() };
        for covered in &cover.keyspaces {
            if covered.state.closed {
                directory.closed.insert(covered.id());
            } else {
                if directory.find(&covered.descriptor().name).is_some() {
                    let why = format!("two keyspaces have the name of {}", covered.id());
                    return Err(StateError::Damaged { why });
                }
                let superseded = superseded.remove(&covered.id()).unwrap_or_default();
                directory.insert(Keyspace::restore(covered, superseded));
            }
        }
        if directory.get(KeyspaceId::DEFAULT).is_none() {
            return Err(StateError::Damaged { why: "it has no default keyspace".into() });
        }
        Ok(directory)
    }

    fn insert(&mut self, keyspace: Keyspace) {
        let id = keyspace.id();
        let taken = self.names.insert(keyspace.descriptor.name.clone(), id);
        assert!(taken.is_none(), "a name belongs to one keyspace, {id} or {taken:?}");
        self.open.insert(id, keyspace);
    }

    /// Opens a keyspace, or gives an open one new settings, unless it has newer ones.
    ///
    /// # Errors
    /// Nothing changed:
    /// - [`Code::KeyspaceNotFound`]: the id was closed.
    /// - [`Code::KeyspaceExists`]: another keyspace has the name.
    /// - [`Code::KeyspaceNameInvalid`]: it is empty or too long.
    /// - [`Code::KindNotOffered`]: it is of kind eventual, which no data group of this kind holds.
    /// - [`Code::InvalidRequest`]: the id is none, or belongs to a keyspace of another name.
    pub fn open(&mut self, wanted: &v1::Keyspace) -> Result<&Keyspace, Code> {
        let id = usable(wanted.id)?;
        if self.closed.contains(&id) {
            return Err(Code::KeyspaceNotFound);
        }
        if wanted.kind() == Kind::Eventual {
            return Err(Code::KindNotOffered);
        }
        if self.names.get(&wanted.name).is_some_and(|owner| *owner != id) {
            return Err(Code::KeyspaceExists);
        }
        if let Some(keyspace) = self.open.get_mut(&id) {
            if keyspace.descriptor.name != wanted.name {
                return Err(Code::InvalidRequest);
            }
            // An order that comes late does not bring older settings back.
            if wanted.generation >= keyspace.descriptor.generation {
                keyspace.descriptor.settings = wanted.settings;
                keyspace.descriptor.generation = wanted.generation;
            }
        } else {
            if wanted.name.is_empty() || wanted.name.len() > KEYSPACE_NAME_BYTES_MAX {
                return Err(Code::KeyspaceNameInvalid);
            }
            let (kind, state) = (Kind::Linearizable.into(), State::Ready.into());
            self.insert(Keyspace::new(v1::Keyspace { kind, state, ..wanted.clone() }));
        }
        Ok(&self.open[&id])
    }

    /// Whether a keyspace was closed, or removed before it was opened.
    pub fn is_closed(&self, id: KeyspaceId) -> bool {
        self.closed.contains(&id)
    }

    /// Closes a keyspace for good and returns what it was; `None` when it was closed before, or
    /// never opened: then it never will be.
    ///
    /// # Errors
    /// [`Code::KeyspaceProtected`] for the keyspace that always exists; [`Code::InvalidRequest`]
    /// when the id is none.
    pub fn close(&mut self, id: u64) -> Result<Option<Keyspace>, Code> {
        let id = usable(id)?;
        if id == KeyspaceId::DEFAULT {
            return Err(Code::KeyspaceProtected);
        }
        self.closed.insert(id);
        let keyspace = self.open.remove(&id);
        if let Some(keyspace) = &keyspace {
            self.names.remove(&keyspace.descriptor.name);
        }
        Ok(keyspace)
    }

    /// An open keyspace.
    pub fn get(&self, id: KeyspaceId) -> Option<&Keyspace> {
        self.open.get(&id)
    }

    /// An open keyspace, to change it.
    pub fn get_mut(&mut self, id: KeyspaceId) -> Option<&mut Keyspace> {
        self.open.get_mut(&id)
    }

    /// The open keyspace of this name.
    pub fn find(&self, name: &str) -> Option<KeyspaceId> {
        self.names.get(name).copied()
    }

    /// The open keyspaces, ascending by id.
    pub fn iter(&self) -> impl Iterator<Item = &Keyspace> {
        self.open.values()
    }

    /// The highest id that is open or closed.
    pub fn max_id(&self) -> KeyspaceId {
        let open = self.open.last_key_value().map(|(id, _)| *id);
        open.max(self.closed.last().copied()).expect("the default keyspace is open")
    }

    /// The records of all keyspaces, ascending by id.
    pub fn covered(&self) -> Vec<Covered> {
        let open = self.open.values().map(|k| Covered { state: k.state(), sum: k.sum });
        let mut all: Vec<Covered> = open.chain(self.closed.iter().map(|id| closed(*id))).collect();
        all.sort_by_key(Covered::id);
        all
    }

    /// Notes that the layer with all versions up to now was frozen.
    pub fn settle(&mut self) {
        for keyspace in self.open.values_mut() {
            keyspace.settled = keyspace.revision;
        }
    }
}

/// An id that a keyspace can have: 0 is for the machine's own records, the last one is the end of
/// every range.
pub fn usable(id: u64) -> Result<KeyspaceId, Code> {
    if id == 0 || id == u64::MAX {
        return Err(Code::InvalidRequest);
    }
    Ok(KeyspaceId(id))
}

fn closed(id: KeyspaceId) -> Covered {
    let descriptor = Some(v1::Keyspace { id: id.get(), ..Default::default() });
    let state = log::KeyspaceState { descriptor, closed: true, ..Default::default() };
    Covered { state, sum: ContentSum::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(id: u64, name: &str) -> v1::Keyspace {
        v1::Keyspace { id, name: name.to_owned(), ..Default::default() }
    }

    #[test]
    fn ids_and_names_belong_to_one_keyspace() {
        let mut directory = Directory::new();
        let mut open = |id, name: &str| directory.open(&wanted(id, name)).map(Keyspace::id);
        assert_eq!(open(3, "a"), Ok(KeyspaceId(3)));
        assert_eq!(open(3, "a"), Ok(KeyspaceId(3)), "opening again is no error");
        assert_eq!(open(4, "a"), Err(Code::KeyspaceExists));
        assert_eq!(open(4, DEFAULT_KEYSPACE), Err(Code::KeyspaceExists));
        assert_eq!(open(3, "b"), Err(Code::InvalidRequest), "a name is for life");
        assert_eq!(open(4, ""), Err(Code::KeyspaceNameInvalid));
        assert_eq!(open(4, &"n".repeat(129)), Err(Code::KeyspaceNameInvalid));
        for none in [0, u64::MAX] {
            assert_eq!(open(none, "c"), Err(Code::InvalidRequest));
        }
        assert_eq!(open(2, "b"), Ok(KeyspaceId(2)), "in any order");
        let eventual = v1::Keyspace { kind: Kind::Eventual.into(), ..wanted(5, "e") };
        assert_eq!(directory.open(&eventual).map(Keyspace::id), Err(Code::KindNotOffered));
        assert_eq!((directory.find("b"), directory.find("e")), (Some(KeyspaceId(2)), None));
    }

    #[test]
    fn newer_settings_stay() {
        let mut directory = Directory::new();
        let with = |generation, keys_max| v1::Keyspace {
            generation,
            settings: Some(v1::keyspace::Settings { keys_max, ..Default::default() }),
            ..wanted(3, "a")
        };
        for (generation, keys_max, expected) in [(0, 5, 5), (2, 7, 7), (1, 6, 7), (2, 8, 8)] {
            let keyspace = directory.open(&with(generation, keys_max)).unwrap();
            assert_eq!(keyspace.settings().keys_max, expected);
        }
    }

    #[test]
    fn what_is_closed_stays_closed() {
        let mut directory = Directory::new();
        directory.open(&wanted(7, "a")).unwrap();
        assert_eq!(directory.close(1).map(|_| ()), Err(Code::KeyspaceProtected));
        assert_eq!(directory.close(0).map(|_| ()), Err(Code::InvalidRequest));
        assert!(directory.close(7).unwrap().is_some());
        assert!(directory.close(7).unwrap().is_none());
        assert!(directory.close(9).unwrap().is_none(), "removed before it was opened");
        for id in [7, 9] {
            let opened = directory.open(&wanted(id, "b")).map(Keyspace::id);
            assert_eq!(opened, Err(Code::KeyspaceNotFound));
        }
        assert_eq!(directory.max_id(), KeyspaceId(9), "ids are never used again");
        assert!(directory.open(&wanted(8, "a")).is_ok(), "names are");
        let ids: Vec<u64> = directory.covered().iter().map(|c| c.id().get()).collect();
        assert_eq!(ids, [1, 7, 8, 9]);
    }
}
