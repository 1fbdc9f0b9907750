//! Keyspaces as the catalogue has them.

use std::collections::{BTreeMap, BTreeSet};

use proto::log::put_keyspace::Step;
use proto::v1::keyspace::{Kind, State};
use proto::{Code, KeyspaceId, limits, log, v1};

use super::Verdict;

/// Most keyspaces of a cluster.
pub const KEYSPACES_MAX: usize = 1_000;

/// All keyspaces by id.
///
/// Invariants: names are unique; an id is never used again; `unsettled` names keyspaces that exist
/// here and whose state or settings the data group may not have yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Keyspaces {
    pub(super) by_id: BTreeMap<KeyspaceId, v1::Keyspace>,
    pub(super) unsettled: BTreeSet<KeyspaceId>,
    pub(super) next: u64,
}

impl Default for Keyspaces {
    /// The keyspace that always exists.
    fn default() -> Self {
        let default = v1::Keyspace {
            id: KeyspaceId::DEFAULT.get(),
            name: storage::mvcc::DEFAULT_KEYSPACE.to_owned(),
            kind: Kind::Linearizable.into(),
            state: State::Ready.into(),
            settings: Some(v1::keyspace::Settings::default()),
            generation: 0,
        };
        Self::restored(vec![default], KeyspaceId::DEFAULT.get() + 1)
    }
}

impl Keyspaces {
    /// Keyspaces whose data group has them.
    pub(super) fn restored(keyspaces: Vec<v1::Keyspace>, next: u64) -> Self {
        let by_id: BTreeMap<_, _> =
            keyspaces.into_iter().map(|keyspace| (KeyspaceId(keyspace.id), keyspace)).collect();
        let above = by_id.keys().next_back().map_or(1, |id| id.get() + 1);
        Self { by_id, unsettled: BTreeSet::new(), next: next.max(above) }
    }

    /// All keyspaces, by id.
    pub fn iter(&self) -> impl Iterator<Item = &v1::Keyspace> {
        self.by_id.values()
    }

    /// The keyspace of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&v1::Keyspace> {
        self.by_id.values().find(|keyspace| keyspace.name == name)
    }

    /// Those that the data group may lack or have otherwise.
    pub fn unsettled(&self) -> impl Iterator<Item = &v1::Keyspace> {
        self.unsettled.iter().filter_map(|id| self.by_id.get(id))
    }

    /// Carries out one step. Returns the id of the keyspace.
    pub(super) fn put(&mut self, put: &log::PutKeyspace) -> Verdict {
        let keyspace = put.keyspace.as_ref().ok_or(Code::InvalidRequest)?;
        let id = KeyspaceId(keyspace.id);
        match Step::try_from(put.step).unwrap_or(Step::Unspecified) {
            Step::Create => self.create(keyspace),
            Step::Set => self.set(keyspace),
            Step::Remove => self.remove(&keyspace.name),
            Step::Ready => self.reached(id, State::Creating, |found| {
                found.state = State::Ready.into();
            }),
            // Only the settings that the data group confirmed: newer ones may have come since.
            Step::Settled => {
                let same = |found: &v1::Keyspace| found.generation == keyspace.generation;
                if self.by_id.get(&id).is_some_and(same) {
                    self.reached(id, State::Ready, |_| {})
                } else {
                    Ok(id.get())
                }
            }
            Step::Gone => {
                if self.by_id.get(&id).is_some_and(|k| k.state() == State::Removing) {
                    self.by_id.remove(&id);
                    self.unsettled.remove(&id);
                }
                Ok(id.get())
            }
            Step::Unspecified => Err(Code::InvalidRequest),
        }
    }

    fn create(&mut self, keyspace: &v1::Keyspace) -> Verdict {
        check_name(&keyspace.name)?;
        match keyspace.kind() {
            Kind::Linearizable => {}
            Kind::Eventual => return Err(Code::KindNotOffered),
            Kind::Unspecified => return Err(Code::InvalidRequest),
        }
        if self.named(&keyspace.name).is_some() {
            return Err(Code::KeyspaceExists);
        }
        if self.by_id.len() >= KEYSPACES_MAX {
            return Err(Code::InvalidRequest);
        }
        let id = KeyspaceId(self.next);
        self.next += 1;
        let created = v1::Keyspace {
            id: id.get(),
            state: State::Creating.into(),
            settings: Some(keyspace.settings.unwrap_or_default()),
            generation: 0,
            ..keyspace.clone()
        };
        self.by_id.insert(id, created);
        self.unsettled.insert(id);
        Ok(id.get())
    }

    /// Refused when the settings were worked out from others than those that are in force.
    fn set(&mut self, keyspace: &v1::Keyspace) -> Verdict {
        let found = self.found(&keyspace.name)?;
        let id = KeyspaceId(found.id);
        let seen = (keyspace.id, keyspace.generation);
        if keyspace.id != 0 && seen != (found.id, found.generation) {
            return Err(Code::KeyspaceChanged);
        }
        if found.state() != State::Ready {
            return Err(Code::KeyspaceNotReady);
        }
        found.settings = Some(keyspace.settings.unwrap_or_default());
        found.generation += 1;
        self.unsettled.insert(id);
        Ok(id.get())
    }

    fn remove(&mut self, name: &str) -> Verdict {
        let found = self.found(name)?;
        let id = KeyspaceId(found.id);
        if id == KeyspaceId::DEFAULT {
            return Err(Code::KeyspaceProtected);
        }
        found.state = State::Removing.into();
        self.unsettled.insert(id);
        Ok(id.get())
    }

    fn found(&mut self, name: &str) -> Result<&mut v1::Keyspace, Code> {
        let found = self.by_id.values_mut().find(|keyspace| keyspace.name == name);
        found.ok_or(Code::KeyspaceNotFound)
    }

    /// The data group has a keyspace as it is here.
    fn reached(
        &mut self,
        id: KeyspaceId,
        from: State,
        act: impl FnOnce(&mut v1::Keyspace),
    ) -> Verdict {
        if let Some(found) = self.by_id.get_mut(&id).filter(|found| found.state() == from) {
            act(found);
            self.unsettled.remove(&id);
        }
        Ok(id.get())
    }
}

/// Names that need no quoting anywhere.
fn check_name(name: &str) -> Result<(), Code> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = (1..=limits::KEYSPACE_NAME_BYTES_MAX).contains(&name.len());
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if fits && begins && name.bytes().all(plain) { Ok(()) } else { Err(Code::KeyspaceNameInvalid) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::keyspace::Settings;

    fn put(keyspaces: &mut Keyspaces, step: Step, keyspace: v1::Keyspace) -> Verdict {
        keyspaces.put(&log::PutKeyspace { step: step.into(), keyspace: Some(keyspace) })
    }

    /// Creates keyspace `a` and lets it become ready.
    fn create(keyspaces: &mut Keyspaces) -> v1::Keyspace {
        let kind = Kind::Linearizable.into();
        let new = v1::Keyspace { name: "a".into(), kind, ..v1::Keyspace::default() };
        put(keyspaces, Step::Create, new).unwrap();
        let created = keyspaces.named("a").unwrap().clone();
        put(keyspaces, Step::Ready, created).unwrap();
        keyspaces.named("a").unwrap().clone()
    }

    /// These settings, worked out from those that were seen.
    fn set(keyspaces: &mut Keyspaces, seen: &v1::Keyspace, keys_max: u64) -> Verdict {
        let settings = Some(Settings { keys_max, ..Settings::default() });
        put(keyspaces, Step::Set, v1::Keyspace { settings, ..seen.clone() })
    }

    #[test]
    fn settings_that_were_worked_out_from_others_are_refused() {
        let mut keyspaces = Keyspaces::default();
        let first = create(&mut keyspaces);
        set(&mut keyspaces, &first, 5).unwrap();
        let before = keyspaces.clone();
        assert_eq!(set(&mut keyspaces, &first, 6), Err(Code::KeyspaceChanged));
        assert_eq!(keyspaces, before, "a refusal changes nothing");
        let second = keyspaces.named("a").unwrap().clone();
        set(&mut keyspaces, &second, 6).unwrap();
        // Whoever saw nothing wants these settings whatever they were.
        set(&mut keyspaces, &v1::Keyspace { id: 0, ..first.clone() }, 7).unwrap();
        assert_eq!(keyspaces.named("a").unwrap().settings.unwrap().keys_max, 7);
        // Another keyspace of the same name was never seen.
        put(&mut keyspaces, Step::Remove, first.clone()).unwrap();
        put(&mut keyspaces, Step::Gone, first.clone()).unwrap();
        create(&mut keyspaces);
        assert_eq!(set(&mut keyspaces, &first, 8), Err(Code::KeyspaceChanged));
        let absent = v1::Keyspace { name: "b".into(), ..first };
        assert_eq!(set(&mut keyspaces, &absent, 9), Err(Code::KeyspaceNotFound));
    }
}
