//! Keyspaces as the catalogue has them.

use std::collections::{BTreeMap, BTreeSet};

use proto::log::put_keyspace::Step;
use proto::v1::keyspace::{Kind, Policy, State};
use proto::{Code, KeyspaceId, limits, log, v1};

use super::Verdict;

/// Most keyspaces of a cluster.
pub const KEYSPACES_MAX: usize = 1_000;

/// All keyspaces by id.
///
/// Invariants: names are unique over both kinds; an id is never used again; `unsettled` names linearizable
/// keyspaces that exist here and whose state or settings the data group may not have yet. Eventual ones are
/// known here only: they are ready when they are created and gone when they are removed.
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
            policy: Policy::Unspecified.into(),
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

    /// The id of the next keyspace: those below were given out.
    #[must_use]
    pub const fn next_id(&self) -> u64 {
        self.next
    }

    fn create(&mut self, keyspace: &v1::Keyspace) -> Verdict {
        check_name(&keyspace.name)?;
        let settings = keyspace.settings.unwrap_or_default();
        let policy = check_kind(keyspace)?;
        if self.named(&keyspace.name).is_some() {
            return Err(Code::KeyspaceExists);
        }
        if self.by_id.len() >= KEYSPACES_MAX {
            return Err(Code::InvalidRequest);
        }
        let id = KeyspaceId(self.next);
        self.next += 1;
        let followed = keyspace.kind() == Kind::Linearizable;
        let state = if followed { State::Creating } else { State::Ready };
        let created = v1::Keyspace {
            id: id.get(),
            name: keyspace.name.clone(),
            kind: keyspace.kind,
            state: state.into(),
            settings: Some(settings),
            generation: 0,
            policy: policy.into(),
        };
        self.by_id.insert(id, created);
        if followed {
            self.unsettled.insert(id);
        }
        Ok(id.get())
    }

    /// Refused when the settings were worked out from others than those that are in force, and when kind or
    /// policy would change.
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
        let other = |wanted: i32, is: i32| wanted != 0 && wanted != is;
        if other(keyspace.kind, found.kind) || other(keyspace.policy, found.policy) {
            return Err(Code::SettingNotOffered);
        }
        let wanted = keyspace.settings.unwrap_or_default();
        let followed = found.kind() == Kind::Linearizable;
        check_settings(found.kind(), &wanted)?;
        found.settings = Some(wanted);
        found.generation += 1;
        if followed {
            self.unsettled.insert(id);
        }
        Ok(id.get())
    }

    fn remove(&mut self, name: &str) -> Verdict {
        let found = self.found(name)?;
        let id = KeyspaceId(found.id);
        if id == KeyspaceId::DEFAULT {
            return Err(Code::KeyspaceProtected);
        }
        if found.kind() == Kind::Eventual {
            self.by_id.remove(&id);
            return Ok(id.get());
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

/// The policy of a keyspace that is to be created.
fn check_kind(keyspace: &v1::Keyspace) -> Result<Policy, Code> {
    check_settings(keyspace.kind(), &keyspace.settings.unwrap_or_default())?;
    let policy = Policy::try_from(keyspace.policy).map_err(|_| Code::InvalidRequest)?;
    match (keyspace.kind(), policy) {
        (Kind::Linearizable, Policy::Unspecified) => Ok(Policy::Unspecified),
        (Kind::Linearizable, Policy::Siblings | Policy::Lww) => Err(Code::SettingNotOffered),
        (Kind::Eventual, Policy::Unspecified) => Ok(Policy::Siblings),
        (Kind::Eventual, policy @ (Policy::Siblings | Policy::Lww)) => Ok(policy),
        (Kind::Unspecified, _) => Err(Code::InvalidRequest),
    }
}

/// An eventual keyspace has no history, and nobody counts all that its replicas take.
fn check_settings(kind: Kind, settings: &v1::keyspace::Settings) -> Result<(), Code> {
    let none = *settings == v1::keyspace::Settings::default();
    if kind == Kind::Eventual && !none { Err(Code::SettingNotOffered) } else { Ok(()) }
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
    use crate::node::catalogue::eventual::ById;
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

    fn eventual(name: &str, policy: Policy) -> v1::Keyspace {
        let (kind, policy) = (Kind::Eventual.into(), policy.into());
        v1::Keyspace { name: name.into(), kind, policy, ..v1::Keyspace::default() }
    }

    #[test]
    fn eventual_keyspaces_are_ready_at_once_and_gone_at_once() {
        let mut keyspaces = Keyspaces::default();
        let linearizable = create(&mut keyspaces);
        let id = put(&mut keyspaces, Step::Create, eventual("e", Policy::Unspecified)).unwrap();
        assert_eq!(id, linearizable.id + 1, "both kinds share the ids");
        let made = keyspaces.eventual("e").unwrap().clone();
        assert_eq!((made.state(), made.policy()), (State::Ready, Policy::Siblings));
        assert_eq!(keyspaces.unsettled().count(), 0, "no other group follows");
        assert_eq!(keyspaces.eventual("a"), None);
        for (name, kind) in [("e", Kind::Linearizable), ("a", Kind::Eventual)] {
            let again = v1::Keyspace { kind: kind.into(), ..eventual(name, Policy::Unspecified) };
            assert_eq!(put(&mut keyspaces, Step::Create, again), Err(Code::KeyspaceExists));
        }
        let lww = put(&mut keyspaces, Step::Create, eventual("w", Policy::Lww)).unwrap();
        assert_eq!(keyspaces.eventual("w").map(v1::Keyspace::policy), Some(Policy::Lww));

        let at = |keyspaces: &Keyspaces, id| keyspaces.eventual_by_id(KeyspaceId(id)).is_live();
        assert_eq!([linearizable.id, id, lww].map(|id| at(&keyspaces, id)), [false, true, true]);
        assert_eq!(put(&mut keyspaces, Step::Remove, made.clone()), Ok(id));
        assert_eq!((keyspaces.named("e"), keyspaces.unsettled().count()), (None, 0));
        assert_eq!(keyspaces.eventual_by_id(KeyspaceId(id)), ById::Removed);
        assert_eq!(keyspaces.eventual_by_id(KeyspaceId(lww + 1)), ById::Unknown);
        let next = put(&mut keyspaces, Step::Create, eventual("e", Policy::Lww)).unwrap();
        assert_eq!((next, at(&keyspaces, next)), (lww + 1, true));
        let restored = Keyspaces::restored(keyspaces.iter().cloned().collect(), keyspaces.next);
        assert_eq!(restored, keyspaces);
    }

    /// Those that are taken have tests of what they do (`kvstore/src/replication/gossip/tests.rs`).
    #[test]
    fn b56_each_pair_of_kind_and_policy_is_offered_or_refused() {
        use Kind::{Eventual, Linearizable};
        use Policy::{Lww, Siblings};
        for (kind, policy, made) in [
            (Linearizable, Policy::Unspecified, Ok(Policy::Unspecified)),
            (Linearizable, Siblings, Err(Code::SettingNotOffered)),
            (Linearizable, Lww, Err(Code::SettingNotOffered)),
            (Eventual, Policy::Unspecified, Ok(Siblings)),
            (Eventual, Siblings, Ok(Siblings)),
            (Eventual, Lww, Ok(Lww)),
            (Kind::Unspecified, Policy::Unspecified, Err(Code::InvalidRequest)),
            (Kind::Unspecified, Siblings, Err(Code::InvalidRequest)),
            (Kind::Unspecified, Lww, Err(Code::InvalidRequest)),
        ] {
            let mut keyspaces = Keyspaces::default();
            let wanted = v1::Keyspace { kind: kind.into(), ..eventual("e", policy) };
            let done = put(&mut keyspaces, Step::Create, wanted);
            let found = done.map(|_| keyspaces.named("e").unwrap().policy());
            assert_eq!(found, made, "{kind:?} {policy:?}");
        }
    }

    #[test]
    fn b56_an_eventual_keyspace_has_no_settings_and_never_changes() {
        let mut keyspaces = Keyspaces::default();
        let refused = Err(Code::SettingNotOffered);
        let settings = [
            Settings { history_revisions: 1, ..Settings::default() },
            Settings { history_seconds: 1, ..Settings::default() },
            Settings { keys_max: 1, ..Settings::default() },
            Settings { bytes_max: 1, ..Settings::default() },
        ];
        let with = |settings| Some(settings);
        for settings in settings {
            let wanted =
                v1::Keyspace { settings: with(settings), ..eventual("e", Policy::Siblings) };
            assert_eq!(put(&mut keyspaces, Step::Create, wanted), refused, "{settings:?}");
        }
        let policy = Policy::Lww.into();
        let kind = Kind::Linearizable.into();
        let wanted = v1::Keyspace { kind, ..eventual("l", Policy::Lww) };
        assert_eq!(put(&mut keyspaces, Step::Create, wanted), refused);
        let unknown = v1::Keyspace { policy: 9, ..eventual("e", Policy::Unspecified) };
        assert_eq!(put(&mut keyspaces, Step::Create, unknown), Err(Code::InvalidRequest));

        put(&mut keyspaces, Step::Create, eventual("e", Policy::Siblings)).unwrap();
        let made = keyspaces.eventual("e").unwrap().clone();
        for settings in settings {
            let wanted = v1::Keyspace { settings: with(settings), ..made.clone() };
            assert_eq!(put(&mut keyspaces, Step::Set, wanted), refused, "{settings:?}");
        }
        for wanted in
            [v1::Keyspace { policy, ..made.clone() }, v1::Keyspace { kind, ..made.clone() }]
        {
            assert_eq!(put(&mut keyspaces, Step::Set, wanted), refused);
        }
        assert_eq!(keyspaces.eventual("e"), Some(&made), "a refusal changes nothing");
    }
}
