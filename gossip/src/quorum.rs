//! Reads that ask several replicas: what their answers come to, and what each of them lacks.
//!
//! ```text
//! answer    of one replica: what it stores live of the key, and eff(k)
//! join      a value stays unless one of the answers has its dot in eff(k) and not the value
//! token     all of eff(k) together
//! repair    to each that lacks a value or a delete of the join: its record, if one answer has its context
//! ```
//!
//! # Guarantees
//! - The join is what a replica would store live that had closed a session with each of those that answered.
//! - The answer only is joined. What the coordinator stores does not change, and neither does its clock.
//! - The token of the answer is a legal context: eff(k) of each covers what it covers, so the union does.
//! - A value that nobody has with its context is left to sessions: without it, it would have no meaning.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Clock;
use crate::dot::Dot;
use crate::entry::Sibling;
use crate::hlc::Stamp;
use crate::record::{EntryKey, Record};
use crate::token::Token;

/// What one replica says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its values, also those past their deadline.
    pub live: BTreeMap<Dot, Sibling>,
    /// Its certificates that do not sleep.
    pub certificates: BTreeMap<Dot, Sibling>,
    /// eff(k): what it stores or knows to be obsolete, and at least the highest stamp of that.
    pub seen: Token,
}

/// What several answers come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The values, with a context where one of the answers has it.
    pub live: BTreeMap<Dot, Sibling>,
    /// All certificates, likewise. What they superseded is not among the values.
    pub certificates: BTreeMap<Dot, Sibling>,
    /// The token of the read.
    pub seen: Token,
}

impl Answer {
    /// Whether the replica knows the dot to be obsolete.
    fn refuses(&self, dot: Dot) -> bool {
        self.seen.context.contains(dot) && !self.live.contains_key(&dot)
    }
}

/// Joins answers, for the reader only. Of no answers nothing is known.
#[must_use]
pub fn join(answers: &[Answer]) -> Joined {
    let mut live: BTreeMap<Dot, Sibling> = BTreeMap::new();
    let mut certificates: BTreeMap<Dot, Sibling> = BTreeMap::new();
    let mut context = Clock::default();
    let mut stamp = Stamp::ZERO;
    for answer in answers {
        context.join(&answer.seen.context);
        stamp = stamp.max(answer.seen.stamp);
        for (dot, sibling) in &answer.live {
            if answers.iter().any(|other| other.refuses(*dot)) {
                continue;
            }
            take(&mut live, *dot, sibling);
        }
        for (dot, certificate) in &answer.certificates {
            take(&mut certificates, *dot, certificate);
        }
    }
    Joined { live, certificates, seen: Token { context: Arc::new(context), stamp } }
}

fn take(into: &mut BTreeMap<Dot, Sibling>, dot: Dot, sibling: &Sibling) {
    let known = into.entry(dot).or_insert_with(|| sibling.clone());
    if known.context.is_none() {
        known.context.clone_from(&sibling.context);
    }
}

impl Joined {
    /// The records that who gave this answer lacks and can be sent, in the order of their dots. Each may be applied
    /// at any time.
    #[must_use]
    pub fn lacking(&self, key: &EntryKey, answer: &Answer) -> Vec<Record> {
        let lacks = |dot: &Dot| !answer.seen.context.contains(*dot);
        let values = self.live.iter().filter(|(dot, _)| lacks(dot));
        values.filter_map(|(dot, sibling)| sibling.record(key, *dot)).collect()
    }

    /// The certificates that who gave this answer does not know of and that can be sent, likewise.
    #[must_use]
    pub fn unknown_deletes(&self, key: &EntryKey, answer: &Answer) -> Vec<Record> {
        let is_unknown = |dot: &Dot| !answer.seen.context.contains(*dot);
        let unknown = self.certificates.iter().filter(|(dot, _)| is_unknown(dot));
        unknown.filter_map(|(dot, certificate)| certificate.record(key, *dot)).collect()
    }

    /// What an `lww` keyspace shows: the value with the highest place, if it is not past its deadline, and if no
    /// delete has that place or a higher one. A replica that holds both ends the value (`Entry::collapse`); here one
    /// may have the value and the other the delete.
    #[must_use]
    pub fn winner(&self, now: Stamp) -> Option<(Dot, &Sibling)> {
        let highest = self.live.iter().max_by_key(|(dot, sibling)| (sibling.place(), **dot));
        let ended = self.certificates.values().map(Sibling::place).max();
        let (dot, sibling) = highest?;
        let wins = ended.is_none_or(|ended| sibling.place() > ended) && sibling.is_shown(now);
        wins.then_some((*dot, sibling))
    }
}

#[cfg(test)]
mod tests {
    use proto::KeyspaceId;

    use super::*;
    use crate::actor::ActorId;
    use crate::clock::FoldNumber;
    use crate::group::{ReadRange, ReadValues, Told};
    use crate::record::Body;
    use crate::replica::{Basis, Policy, Replica, Standing, Write};
    use crate::state::State;
    use crate::tree::TreeKey;

    fn replica(number: u8) -> Replica {
        let actor = ActorId::from_bytes([number; 16]);
        let (mut replica, _) = Replica::start(State::default(), actor, TreeKey::new(&[1; 32]));
        replica.set_time(1_000);
        replica.set_keyspace(KeyspaceId(1), Standing::Open(Policy::Siblings));
        replica
    }

    fn key() -> EntryKey {
        EntryKey::new(KeyspaceId(1), "k")
    }

    fn put(replica: &mut Replica, body: Body, basis: Basis, stamp: u64) -> Record {
        let write = Write { key: key(), body, deadline: None, basis };
        replica.write_at(&write, Stamp(stamp)).expect("it is taken").record
    }

    fn said(replica: &Replica) -> Answer {
        let told =
            Told::of(replica, &ReadRange::of_key(&key(), ReadValues::All), Some(FoldNumber::NONE));
        told.expect("nothing is damaged").answer(&key().key).expect("of that key")
    }

    fn value() -> Body {
        Body::Value("v".into())
    }

    #[test]
    fn a_value_stays_if_who_lacks_it_knows_nothing_of_it() {
        let (mut a, mut b) = (replica(1), replica(2));
        let old = put(&mut a, value(), Basis::Held, 1);
        b.apply(&old).expect("it is applied");
        put(&mut b, Body::Certificate, Basis::Held, 2);
        let new = put(&mut a, value(), Basis::Nothing, 3);
        let answers = [said(&a), said(&b)];
        let joined = join(&answers);
        assert_eq!(joined.live.keys().copied().collect::<Vec<_>>(), [new.dot]);
        assert_eq!(joined.seen.context.tracks().count(), 2, "all that both knew");
        assert!(joined.seen.stamp >= Stamp(3));
        assert_eq!(joined.lacking(&key(), &answers[0]), [], "the first has it");
        assert_eq!(joined.lacking(&key(), &answers[1]), [new]);
    }

    #[test]
    fn a_value_without_its_context_is_not_sent() {
        let (mut a, b) = (replica(1), replica(2));
        let record = put(&mut a, value(), Basis::Held, 1);
        let before = join(&[said(&a), said(&b)]);
        assert_eq!(before.lacking(&key(), &said(&b)), std::slice::from_ref(&record));
        a.forget_context(&key(), record.dot);
        let after = join(&[said(&a), said(&b)]);
        assert_eq!(after.live.len(), 1, "it is an answer all the same");
        assert_eq!(after.lacking(&key(), &said(&b)), []);
    }

    #[test]
    fn a_delete_that_one_knows_of_is_told_and_ends_what_is_older() {
        let (mut a, mut b) = (replica(1), replica(2));
        let value_of_a = put(&mut a, value(), Basis::Held, 5);
        let delete = put(&mut b, Body::Certificate, Basis::Held, 9);
        let answers = [said(&a), said(&b)];
        let joined = join(&answers);
        assert_eq!(joined.live.len(), 1, "neither knew of the other: the value stays a sibling");
        assert_eq!(joined.winner(Stamp(10)), None, "the last writer deleted");
        assert_eq!(joined.unknown_deletes(&key(), &answers[0]), [delete]);
        assert_eq!(joined.unknown_deletes(&key(), &answers[1]), []);
        let later = put(&mut a, value(), Basis::Held, 11);
        let joined = join(&[said(&a), answers[1].clone()]);
        assert_eq!(joined.winner(Stamp(12)).map(|(dot, _)| dot), Some(later.dot));
        assert_ne!(later.dot, value_of_a.dot);
    }

    #[test]
    fn nobody_answers() {
        let nothing = join(&[]);
        assert!(nothing.live.is_empty() && nothing.seen.context.is_empty());
    }
}
