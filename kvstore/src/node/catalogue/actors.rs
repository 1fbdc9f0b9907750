//! Actors of the eventual keyspaces that end: which retire, and which are folded.

use std::collections::BTreeMap;
use std::sync::Arc;

use gossip::clock::{Fold, FoldNumber, Folds};
use gossip::{ActorId, Dot};
use proto::{Code, log};

use super::Verdict;

/// Actors in one command at most.
pub const ACTORS_AT_ONCE: usize = 256;
/// Actors that retire or are folded at most: a catalogue of them takes up to 2 MiB, and it has to fit into one record of an
/// export. After that actors are named in full again.
pub const ACTORS_MAX: usize = 65_536;

/// Actors that retire, and those that are folded.
///
/// A retirement is of one set of members: every change of members begins it anew, as who comes, or goes, may have more of
/// the actor.
///
/// Invariants: no actor both retires and is folded; folds are numbered from 1 on without gaps; both together are no more
/// than [`ACTORS_MAX`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Actors {
    /// The newest round in which retirements began.
    round: u64,
    /// Actors that retire, with the round in which that began.
    retiring: BTreeMap<ActorId, u64>,
    /// Shared, as the catalogue is copied for each look at it.
    folds: Arc<Folds>,
}

impl Actors {
    /// The newest round in which retirements began.
    #[must_use]
    pub const fn round(&self) -> u64 {
        self.round
    }

    /// Actors that retire, with the round in which that began.
    #[must_use]
    pub const fn retiring(&self) -> &BTreeMap<ActorId, u64> {
        &self.retiring
    }

    /// Actors that are folded.
    #[must_use]
    pub const fn folds(&self) -> &Arc<Folds> {
        &self.folds
    }

    /// How many more may begin to retire.
    #[must_use]
    pub fn room(&self) -> usize {
        ACTORS_MAX.saturating_sub(self.retiring.len() + self.folds.len())
    }

    /// Actors begin to retire. Those that do already, or are folded, are passed over, and so are those that there is no
    /// room for. Returns the round.
    pub(super) fn retire(&mut self, retire: &log::RetireActors) -> Verdict {
        if retire.actors.len() > ACTORS_AT_ONCE {
            return Err(Code::InvalidRequest);
        }
        let actors: Option<Vec<ActorId>> = retire.actors.iter().map(|bytes| actor(bytes)).collect();
        let mut new = actors.ok_or(Code::InvalidRequest)?;
        new.retain(|actor| {
            !self.retiring.contains_key(actor) && self.folds.of_actor(actor).is_none()
        });
        new.truncate(self.room());
        if !new.is_empty() {
            self.round += 1;
            self.retiring.extend(new.into_iter().map(|actor| (actor, self.round)));
        }
        Ok(self.round)
    }

    /// Actors are folded. Those whose retirement is not that of the round any more are passed over. Returns the number of
    /// the newest fold.
    pub(super) fn fold(&mut self, fold: &log::FoldActors) -> Verdict {
        if fold.actors.len() > ACTORS_AT_ONCE {
            return Err(Code::InvalidRequest);
        }
        let ends = fold.actors.iter().map(|end| Some((actor(&end.actor)?, end)));
        let ends: Option<Vec<_>> = ends.collect();
        for (actor, end) in ends.ok_or(Code::InvalidRequest)? {
            let is_open = self.retiring.get(&actor) == Some(&end.round);
            let is_sound = (1..=Dot::COUNTER_MAX).contains(&end.last);
            if is_open && is_sound {
                self.retiring.remove(&actor);
                self.add(actor, end.last);
            }
        }
        Ok(self.folds.len() as u64)
    }

    /// The members change: what they have said of actors that retire counts no more.
    pub(super) fn members_changed(&mut self) {
        self.retiring.clear();
    }

    fn add(&mut self, actor: ActorId, last: u64) {
        let number =
            u32::try_from(self.folds.len()).expect("there are no more than ACTORS_MAX") + 1;
        Arc::make_mut(&mut self.folds).learn(Fold { number: FoldNumber(number), actor, last });
    }

    /// All of it, for an export.
    pub(super) fn exported(&self) -> log::ActorsState {
        let end = |actor: &ActorId, round, last| log::ActorEnd {
            actor: actor.as_bytes().to_vec().into(),
            round,
            last,
        };
        log::ActorsState {
            round: self.round,
            retiring: self.retiring.iter().map(|(actor, round)| end(actor, *round, 0)).collect(),
            folded: self.folds.iter().map(|fold| end(&fold.actor, 0, fold.last)).collect(),
        }
    }

    /// What an export says.
    pub(super) fn restored(state: &log::ActorsState) -> Self {
        let retiring = state.retiring.iter();
        let retiring = retiring.filter_map(|end| Some((actor(&end.actor)?, end.round)));
        let mut actors =
            Self { round: state.round, retiring: retiring.collect(), ..Self::default() };
        for end in &state.folded {
            let folded = actor(&end.actor).expect("an export was verified");
            actors.add(folded, end.last);
        }
        actors
    }
}

fn actor(bytes: &[u8]) -> Option<ActorId> {
    bytes.try_into().ok().map(ActorId::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ActorId {
        ActorId::from_bytes([number; 16])
    }

    fn bytes(number: u8) -> bytes::Bytes {
        vec![number; 16].into()
    }

    fn retire(actors: &mut Actors, numbers: &[u8]) -> Verdict {
        let numbers = numbers.iter().map(|number| bytes(*number)).collect();
        actors.retire(&log::RetireActors { actors: numbers, change: 0 })
    }

    fn fold(actors: &mut Actors, number: u8, round: u64, last: u64) -> Verdict {
        let end = log::ActorEnd { actor: bytes(number), round, last };
        actors.fold(&log::FoldActors { actors: vec![end] })
    }

    #[test]
    fn an_actor_is_folded_in_the_round_in_which_it_retires_and_once() {
        let mut actors = Actors::default();
        assert_eq!(fold(&mut actors, 1, 0, 5), Ok(0), "it does not retire");
        assert_eq!(retire(&mut actors, &[1, 2]), Ok(1));
        assert_eq!(retire(&mut actors, &[2]), Ok(1), "said again");
        assert_eq!(fold(&mut actors, 1, 2, 5), Ok(0), "of another round");
        assert_eq!(fold(&mut actors, 1, 1, 0), Ok(0), "of nothing");
        assert_eq!(fold(&mut actors, 1, 1, 5), Ok(1));
        assert_eq!(fold(&mut actors, 1, 1, 6), Ok(1), "said again");
        let of_one = Fold { number: FoldNumber(1), actor: id(1), last: 5 };
        assert_eq!(actors.folds().of_actor(&id(1)), Some(&of_one));
        assert_eq!(retire(&mut actors, &[1]), Ok(1), "it is folded");
        actors.members_changed();
        assert_eq!(fold(&mut actors, 2, 1, 9), Ok(1), "the members have changed since");
        assert_eq!(retire(&mut actors, &[2, 3]), Ok(2));
        assert_eq!(fold(&mut actors, 2, 2, 9), Ok(2));
        assert_eq!(actors.retiring().keys().collect::<Vec<_>>(), [&id(3)]);
        assert_eq!(Actors::restored(&actors.exported()), actors);
    }

    #[test]
    fn what_there_is_no_room_for_does_not_retire() {
        let numbered = |number: usize| {
            let mut bytes = vec![0; 16];
            bytes[..4].copy_from_slice(&u32::try_from(number).unwrap().to_be_bytes());
            bytes::Bytes::from(bytes)
        };
        let mut actors = Actors::default();
        let mut number = 0;
        while actors.room() > 0 {
            let more: Vec<_> = (number..number + ACTORS_AT_ONCE - 1).map(numbered).collect();
            number += more.len();
            let retire = log::RetireActors { actors: more, change: 0 };
            let round = actors.retire(&retire).unwrap();
            let end = |actor: &ActorId| log::ActorEnd {
                actor: actor.as_bytes().to_vec().into(),
                round,
                last: Dot::COUNTER_MAX,
            };
            let ends = actors.retiring().keys().map(end).collect();
            actors.fold(&log::FoldActors { actors: ends }).unwrap();
        }
        assert_eq!((actors.folds().len(), actors.retiring().len()), (ACTORS_MAX, 0));
        let round = actors.round();
        assert_eq!(retire(&mut actors, &[255]), Ok(round));
        assert!(actors.retiring().is_empty());
        let bytes = prost::Message::encoded_len(&actors.exported());
        assert!(bytes < 2 << 20, "{bytes} bytes");
    }

    #[test]
    fn what_is_no_actor_is_refused() {
        let mut actors = Actors::default();
        let short = log::RetireActors { actors: vec![vec![1; 15].into()], change: 0 };
        assert_eq!(actors.retire(&short), Err(Code::InvalidRequest));
        let many = log::RetireActors { actors: vec![bytes(1); ACTORS_AT_ONCE + 1], change: 0 };
        assert_eq!(actors.retire(&many), Err(Code::InvalidRequest));
        let end = log::ActorEnd { actor: vec![1; 17].into(), round: 1, last: 1 };
        let fold = log::FoldActors { actors: vec![end] };
        assert_eq!(actors.fold(&fold), Err(Code::InvalidRequest));
        assert_eq!(actors, Actors::default());
    }
}
