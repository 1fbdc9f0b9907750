//! What the leader of group 0 does next so that the data group holds the linearizable keyspaces of the
//! catalogue. Eventual ones need nobody to follow: they are never unsettled.
//!
//! Every step is safe to repeat and to be late with: opening a keyspace again gives it the settings of
//! the newest generation, closing a closed one does nothing, and the catalogue takes a confirmation
//! only for the state that it confirms.

use proto::log::{CloseKeyspace, Command, OpenKeyspace, PutKeyspace, command::Body, put_keyspace};
use proto::v1::{self, keyspace::State};

use super::catalogue::Keyspaces;

/// Which group a command is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The data group.
    Data(Command),
    /// Group 0.
    Meta(Command),
}

/// What the data group has of a keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing, as far as this node knows; an order to open it may be on its way.
    Nothing,
    /// It is open, with the settings of this generation.
    Open(u64),
    /// It is closed for good.
    Closed,
}

/// The next step of each unsettled keyspace. `held` tells what the data group has of it.
#[must_use]
pub fn next_steps(keyspaces: &Keyspaces, held: impl Fn(u64) -> Held) -> Vec<Step> {
    keyspaces.unsettled().map(|keyspace| next_step(keyspace, held(keyspace.id))).collect()
}

fn next_step(keyspace: &v1::Keyspace, held: Held) -> Step {
    let settled = matches!(held, Held::Open(generation) if generation >= keyspace.generation);
    let open = || {
        let keyspace = Some(keyspace.clone());
        Step::Data(Command { body: Some(Body::OpenKeyspace(OpenKeyspace { keyspace })) })
    };
    let tell = |step: put_keyspace::Step| {
        let put = PutKeyspace { step: step.into(), keyspace: Some(keyspace.clone()) };
        Step::Meta(Command { body: Some(Body::PutKeyspace(put)) })
    };
    match keyspace.state() {
        State::Creating if settled => tell(put_keyspace::Step::Ready),
        State::Ready | State::Unspecified if settled => tell(put_keyspace::Step::Settled),
        State::Creating | State::Ready | State::Unspecified => open(),
        // Only what is closed for good is gone: an order to open it may come late.
        State::Removing if held == Held::Closed => tell(put_keyspace::Step::Gone),
        State::Removing => {
            let close = CloseKeyspace { id: keyspace.id };
            Step::Data(Command { body: Some(Body::CloseKeyspace(close)) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyspace(state: State, generation: u64) -> v1::Keyspace {
        v1::Keyspace { id: 7, state: state.into(), generation, ..v1::Keyspace::default() }
    }

    #[test]
    fn a_keyspace_is_driven_from_its_creation_to_its_end() {
        let held = Held::Open(0);
        let is_open =
            |step| matches!(step, Step::Data(Command { body: Some(Body::OpenKeyspace(_)) }));
        let told = |step| match step {
            Step::Meta(Command { body: Some(Body::PutKeyspace(put)) }) => put.step(),
            other => panic!("{other:?}"),
        };
        assert!(is_open(next_step(&keyspace(State::Creating, 0), Held::Nothing)));
        let ready = next_step(&keyspace(State::Creating, 0), held);
        assert_eq!(told(ready), put_keyspace::Step::Ready);
        assert!(is_open(next_step(&keyspace(State::Ready, 1), held)));
        let settled = next_step(&keyspace(State::Ready, 0), held);
        assert_eq!(told(settled), put_keyspace::Step::Settled);
        for held in [held, Held::Nothing] {
            let close = next_step(&keyspace(State::Removing, 0), held);
            assert!(matches!(close, Step::Data(Command { body: Some(Body::CloseKeyspace(_)) })));
        }
        let gone = next_step(&keyspace(State::Removing, 0), Held::Closed);
        assert_eq!(told(gone), put_keyspace::Step::Gone);
    }
}
