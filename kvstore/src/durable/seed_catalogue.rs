//! The catalogue with which a restored cluster begins.

use std::collections::{BTreeMap, BTreeSet};

use gossip::clock::Fold;
use proto::log::export_record::Body;
use proto::v1::keyspace::{Kind, State};
use proto::{GroupId, NodeId, log, v1};
use storage::backup::BackupFile;
use storage::disk::Disk;
use storage::export::ExportError;

use crate::node::Catalogue;

/// The catalogue of a backup, and what its export of the data group says of keyspaces. A backup without a head has only
/// the latter.
///
/// The catalogue is taken over whole but for what was of the old cluster alone: its members, the change of these that
/// was being carried out, and its secrets. So the leader of group 0 goes on with keyspaces where the one before was.
///
/// The two exports are not of one moment. Mostly the catalogue is the newer one; the data group is where this
/// node was sent its state meanwhile. Ids rise, so an id that the catalogue had given out and does not know any more is that of
/// a keyspace that was removed, and an id that it had not given out yet is that of a newer one.
#[derive(Debug, Default)]
pub struct SeedCatalogue {
    state: log::CatalogueState,
    keyspaces: BTreeMap<u64, v1::Keyspace>,
    unsettled: BTreeSet<u64>,
    /// Keyspaces of the data group.
    held: BTreeSet<u64>,
    /// Ids from here on were given out after the catalogue was exported.
    newer: u64,
}

impl SeedCatalogue {
    /// What the catalogue of a backup says; nothing where it holds none.
    ///
    /// # Errors
    /// Those of the export.
    pub fn of(disk: &dyn Disk, backup: &BackupFile) -> Result<Self, ExportError> {
        let mut found = log::CatalogueState::default();
        if backup.head().is_some()
            && let Some(mut reader) = backup.reader(disk, GroupId::META)?
        {
            while let Some(record) = reader.next()? {
                if let Some(Body::Catalogue(catalogue)) = record.body {
                    found = catalogue;
                }
            }
        }
        Ok(Self::with(found))
    }

    fn with(mut state: log::CatalogueState) -> Self {
        let keyspaces = std::mem::take(&mut state.keyspaces);
        let keyspaces = keyspaces.into_iter().map(|keyspace| (keyspace.id, keyspace)).collect();
        let unsettled = state.unsettled.drain(..).collect();
        let newer = state.next_keyspace;
        Self { state, keyspaces, unsettled, held: BTreeSet::new(), newer }
    }

    /// The eventual keyspaces that are known so far, by id.
    pub fn eventual(&self) -> impl Iterator<Item = &v1::Keyspace> {
        self.keyspaces.values().filter(|keyspace| keyspace.kind() == Kind::Eventual)
    }

    /// Takes a keyspace of the data group; what the data group is to begin with instead, where it was removed since.
    pub(super) fn take(&mut self, state: &log::KeyspaceState) -> Option<log::KeyspaceState> {
        let found = state.descriptor.clone().unwrap_or_default();
        let id = found.id;
        self.state.next_keyspace = self.state.next_keyspace.max(id.saturating_add(1));
        if state.closed {
            self.keyspaces.remove(&id);
            return None;
        }
        if let Some(known) = self.keyspaces.get_mut(&id) {
            if known.state() == State::Creating {
                known.state = State::Ready.into();
            }
            if known.generation < found.generation {
                (known.settings, known.generation) = (found.settings, found.generation);
            } else if known.generation > found.generation {
                self.unsettled.insert(id);
            }
        } else if id < self.newer {
            let descriptor = Some(v1::Keyspace { id, ..v1::Keyspace::default() });
            return Some(log::KeyspaceState { descriptor, closed: true, ..Default::default() });
        } else {
            // Whichever had its name before is gone.
            self.keyspaces.retain(|_, other| other.name != found.name);
            let ready = v1::Keyspace { state: State::Ready.into(), ..found };
            self.keyspaces.insert(id, ready);
        }
        self.held.insert(id);
        None
    }

    /// Takes a fold that the cut of the eventual keyspaces knows; they come in the order of their numbers. A recovery may
    /// find no catalogue, or an older one, and each number is given once.
    pub(super) fn take_fold(&mut self, fold: &Fold) {
        let folded = &mut self.state.actors.get_or_insert_default().folded;
        if usize::try_from(fold.number.0).is_ok_and(|number| number == folded.len() + 1) {
            let actor = fold.actor.as_bytes().to_vec().into();
            folded.push(log::ActorEnd { actor, round: 0, last: fold.last });
        }
    }

    /// The catalogue of a cluster of these members.
    pub(super) fn finish(mut self, members: &[(NodeId, String)]) -> log::CatalogueState {
        for (id, keyspace) in &mut self.keyspaces {
            let is_followed = keyspace.kind() != Kind::Eventual;
            if is_followed && !self.held.contains(id) {
                if keyspace.state() == State::Ready {
                    // It came after the export of the data group, and is empty.
                    keyspace.state = State::Creating.into();
                }
                self.unsettled.insert(*id);
            }
        }
        self.unsettled.retain(|id| self.keyspaces.contains_key(id));
        self.state.keyspaces = self.keyspaces.into_values().collect();
        self.state.unsettled = self.unsettled.into_iter().collect();
        // What the old members said of actors that retire counts no more.
        let actors = self.state.actors.take();
        let actors = actors.map(|actors| log::ActorsState { retiring: Vec::new(), ..actors });
        log::CatalogueState {
            members: Catalogue::formed(members).export().members,
            change: 0,
            open: None,
            leaving: None,
            removed: Vec::new(),
            secrets: Vec::new(),
            actors,
            ..self.state
        }
    }
}

#[cfg(test)]
mod tests {
    use gossip::ActorId;
    use gossip::clock::FoldNumber;

    use super::*;

    fn keyspace(id: u64, name: &str, kind: Kind) -> v1::Keyspace {
        let (kind, state) = (kind.into(), State::Ready.into());
        v1::Keyspace { id, name: name.into(), kind, state, ..v1::Keyspace::default() }
    }

    fn linearizable(id: u64, name: &str) -> v1::Keyspace {
        keyspace(id, name, Kind::Linearizable)
    }

    fn held(descriptor: v1::Keyspace) -> log::KeyspaceState {
        let state = State::Creating.into();
        let descriptor = Some(v1::Keyspace { state, ..descriptor });
        log::KeyspaceState { descriptor, revision: 3, ..log::KeyspaceState::default() }
    }

    fn closed(id: u64) -> log::KeyspaceState {
        let descriptor = Some(v1::Keyspace { id, ..v1::Keyspace::default() });
        log::KeyspaceState { descriptor, closed: true, ..log::KeyspaceState::default() }
    }

    fn end(number: u8) -> log::ActorEnd {
        log::ActorEnd { actor: vec![number; 16].into(), round: 1, last: 2 }
    }

    fn seed(keyspaces: &[v1::Keyspace], next_keyspace: u64) -> SeedCatalogue {
        let keyspaces = keyspaces.to_vec();
        SeedCatalogue::with(log::CatalogueState { keyspaces, next_keyspace, ..Default::default() })
    }

    /// Ids, names and states of keyspaces, and what the data group is to follow with.
    fn finished(seed: SeedCatalogue) -> (Vec<(u64, String, State)>, Vec<u64>, u64) {
        let state = seed.finish(&[(NodeId(7), "n1".into())]);
        let shown = |k: &v1::Keyspace| (k.id, k.name.clone(), k.state());
        (state.keyspaces.iter().map(shown).collect(), state.unsettled, state.next_keyspace)
    }

    fn shown(id: u64, name: &str, state: State) -> (u64, String, State) {
        (id, name.into(), state)
    }

    #[test]
    fn an_export_of_the_data_group_alone_names_all_keyspaces() {
        let mut names = seed(&[], 0);
        for state in [held(linearizable(1, "default")), closed(2), held(linearizable(4, "a"))] {
            assert_eq!(names.take(&state), None);
        }
        let all = vec![shown(1, "default", State::Ready), shown(4, "a", State::Ready)];
        assert_eq!(finished(names), (all, vec![], 5));
    }

    #[test]
    fn what_was_removed_since_the_data_was_exported_stays_removed() {
        let eventual = [keyspace(4, "newer", Kind::Eventual), keyspace(6, "alone", Kind::Eventual)];
        let removing =
            v1::Keyspace { state: State::Removing.into(), ..linearizable(3, "removing") };
        let known = [&eventual[..], &[linearizable(1, "default"), removing]].concat();
        let mut names = seed(&known, 8);
        assert_eq!(names.take(&held(linearizable(1, "default"))), None);
        assert_eq!(names.take(&held(linearizable(2, "newer"))), Some(closed(2)));
        assert_eq!(names.take(&held(linearizable(3, "removing"))), None);
        let (all, unsettled, next) = finished(names);
        let expected = [
            shown(1, "default", State::Ready),
            shown(3, "removing", State::Removing),
            shown(4, "newer", State::Ready),
            shown(6, "alone", State::Ready),
        ];
        assert_eq!((all, next), (expected.to_vec(), 8), "no id is given out again");
        assert!(
            unsettled.is_empty(),
            "whether it is settled is as the catalogue says: {unsettled:?}"
        );
    }

    #[test]
    fn what_the_data_group_lacks_yet_it_follows_with() {
        let set = v1::Keyspace { generation: 2, ..linearizable(2, "set") };
        let known = [linearizable(1, "default"), set.clone(), linearizable(5, "late")];
        let mut names = seed(&known, 6);
        names.take(&held(linearizable(1, "default")));
        names.take(&held(v1::Keyspace { generation: 1, ..set }));
        let (all, unsettled, _) = finished(names);
        assert_eq!(all[2], shown(5, "late", State::Creating));
        assert_eq!(unsettled, [2, 5]);
    }

    #[test]
    fn a_newer_state_of_the_data_group_counts() {
        let known = [
            linearizable(1, "default"),
            linearizable(2, "removed"),
            keyspace(3, "other", Kind::Eventual),
            linearizable(4, "set"),
        ];
        let mut state = seed(&known, 5);
        state.unsettled.insert(2);
        let set = v1::Keyspace { generation: 9, ..linearizable(4, "set") };
        for held in [held(linearizable(1, "default")), closed(2), held(set), closed(6)] {
            assert_eq!(state.take(&held), None);
        }
        assert_eq!(state.take(&held(linearizable(7, "other"))), None);
        let state = state.finish(&[(NodeId(7), "n1".into())]);
        let ids: Vec<u64> = state.keyspaces.iter().map(|keyspace| keyspace.id).collect();
        assert_eq!((ids, state.keyspaces[1].generation), (vec![1, 4, 7], 9));
        assert_eq!((state.unsettled, state.next_keyspace), (vec![], 8));
    }

    #[test]
    fn all_is_taken_over_but_what_was_of_the_old_members() {
        let member = |id: u64, name: &str| {
            let member = v1::Member { id, name: name.into(), ..v1::Member::default() };
            log::MemberState { member: Some(member), voter: true, promote: false }
        };
        let old = log::CatalogueState {
            members: vec![member(1, "n1"), member(2, "n2")],
            keyspaces: vec![linearizable(1, "default")],
            next_keyspace: 9,
            change: 5,
            open: Some(log::ChangeMember::default()),
            leaving: Some(member(3, "n3")),
            removed: vec![4],
            unsettled: vec![1],
            secrets: vec![log::SecretRecord { number: 1, ..log::SecretRecord::default() }],
            actors: Some(log::ActorsState {
                round: 3,
                retiring: vec![end(7)],
                folded: vec![end(8)],
            }),
        };
        let mut begun = SeedCatalogue::with(old.clone());
        begun.take(&held(linearizable(1, "default")));
        let new = [(NodeId(11), "a".to_owned()), (NodeId(12), "b".to_owned())];
        let expected = log::CatalogueState {
            members: vec![member(11, "a"), member(12, "b")],
            change: 0,
            open: None,
            leaving: None,
            removed: vec![],
            secrets: vec![],
            actors: Some(log::ActorsState { round: 3, retiring: vec![], folded: vec![end(8)] }),
            ..old
        };
        assert_eq!(begun.finish(&new), expected);
    }

    #[test]
    fn numbers_of_folds_that_the_cut_knows_are_not_given_again() {
        let folded = vec![end(1)];
        let actors = Some(log::ActorsState { round: 1, retiring: vec![], folded });
        for (actors, first) in [(None, 1), (actors, 2)] {
            let mut seed =
                SeedCatalogue::with(log::CatalogueState { actors, ..Default::default() });
            for number in 1..=3_u8 {
                let actor = ActorId::from_bytes([number; 16]);
                let number = FoldNumber(number.into());
                seed.take_fold(&Fold { number, actor, last: 5 });
            }
            let folded = seed.finish(&[(NodeId(7), "n1".into())]).actors.unwrap().folded;
            let lasts: Vec<u64> = folded.iter().map(|end| end.last).collect();
            assert_eq!(lasts[first - 1..], vec![5; 4 - first], "from {first} on");
            let expected = (1..=3).map(|number| end(number).actor);
            assert!(folded.iter().map(|end| end.actor.clone()).eq(expected));
        }
    }
}
