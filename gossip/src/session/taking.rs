//! The receiver's side.

use std::collections::BTreeSet;

use super::{Part, PartBody};
use crate::actor::ActorId;
use crate::change::Change;
use crate::clock::Clock;
use crate::dot::Dot;
use crate::position::Position;
use crate::record::{EntryKey, Record};
use crate::replica::{Closing, NotApplied, Replica, Staged};
use crate::tree::Leaf;

/// Why a session ended without a close. What was applied stays; the session is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotClosed {
    /// Something of it was not applied.
    NotApplied(NotApplied),
    /// A part is missing, or came twice.
    PartLost,
    /// The replica started or minted since its Hello: its clock may be another one.
    Restarted,
    /// It was flagged, and the tree was not walked.
    NotWalked,
    /// The sender dropped something meanwhile.
    Void,
    /// The sender has found that it lost something.
    Damaged,
    /// This replica has lost something of a key that was told, or of one beside it: it is rebuilt before it drops
    /// anything.
    DamagedHere,
    /// A value came here by another way after its key was compared, and the sender may know it to be obsolete.
    Changed,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The clock covers the sender's position now.
    Closed,
    /// It does not.
    NotClosed(NotClosed),
}

/// What a part did.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// What to make durable, as one batch.
    pub changes: Vec<Change>,
    /// Writes of this replica that follow.
    pub collapses: Vec<Record>,
    /// Whether that was the end.
    pub ended: Option<Ended>,
    /// The position of the changes.
    pub after: Position,
}

/// A session that a replica takes part in as the receiver.
#[derive(Debug)]
pub struct Taking {
    session: u64,
    actor: Option<ActorId>,
    /// The clock of the Hello.
    clock: Clock,
    /// What came in this session, and what the sender said to have.
    came: BTreeSet<Dot>,
    /// The number of the next part, once the opening has come.
    expected: Option<u64>,
    is_flagged: bool,
    is_walked: bool,
    is_ended: bool,
    staged: Vec<Staged>,
    /// The first thing that went wrong.
    broken: Option<NotClosed>,
}

impl Taking {
    /// The session that begins with the Hello that the replica says now.
    #[must_use]
    pub fn begin(replica: &Replica, session: u64) -> Self {
        Self {
            session,
            actor: replica.state().actor(),
            clock: replica.state().clock().clone(),
            came: BTreeSet::new(),
            expected: None,
            is_flagged: false,
            is_walked: false,
            is_ended: false,
            staged: Vec::new(),
            broken: None,
        }
    }

    /// Whether the sender said that the tree has to be walked.
    #[must_use]
    pub const fn is_flagged(&self) -> bool {
        self.is_flagged
    }

    /// Takes note that the tree was walked: every key that differs was asked for. Should a value come later that
    /// would have made a difference, the session does not close.
    pub const fn walked(&mut self) {
        self.is_walked = true;
    }

    /// Takes a part. Parts of other sessions do nothing, nor do parts after the end.
    pub fn take(&mut self, replica: &mut Replica, part: Part) -> Taken {
        let mut taken = Taken { after: replica.position(), ..Taken::default() };
        if part.session != self.session || self.is_ended {
            return taken;
        }
        let is_next = match self.expected {
            None => matches!(part.body, PartBody::Opening { .. }),
            Some(expected) => part.number == expected,
        };
        if !is_next {
            self.broken.get_or_insert(NotClosed::PartLost);
        }
        self.expected = part.number.checked_add(1);
        match part.body {
            PartBody::Opening { is_flagged } => self.is_flagged = is_flagged,
            PartBody::Records(records) => self.apply(replica, &records, &mut taken),
            PartBody::Entry(staged) => {
                self.came.extend(staged.present.iter().copied());
                self.staged.push(staged);
            }
            PartBody::Damaged => taken.ended = Some(Ended::NotClosed(NotClosed::Damaged)),
            PartBody::Void => taken.ended = Some(Ended::NotClosed(NotClosed::Void)),
            PartBody::End { clock, horizon, highest } => {
                let staged = std::mem::take(&mut self.staged);
                let closing = Closing { clock, horizon, highest, staged };
                self.close(replica, &closing, &mut taken);
            }
        }
        self.is_ended = taken.ended.is_some();
        taken.after = replica.position();
        taken
    }

    /// Applies what can be applied, also when something before could not.
    fn apply(&mut self, replica: &mut Replica, records: &[Record], taken: &mut Taken) {
        for record in records {
            self.came.insert(record.dot);
            match replica.apply(record) {
                Ok(applied) => {
                    taken.changes.extend(applied.changes);
                    taken.collapses.extend(applied.collapse);
                }
                Err(cause) => {
                    self.broken.get_or_insert(NotClosed::NotApplied(cause));
                }
            }
        }
    }

    fn close(&mut self, replica: &mut Replica, closing: &Closing, taken: &mut Taken) {
        if replica.state().actor() != self.actor {
            self.broken.get_or_insert(NotClosed::Restarted);
        }
        if self.is_flagged && !self.is_walked {
            self.broken.get_or_insert(NotClosed::NotWalked);
        }
        let mut keys = closing.staged.iter().map(|staged| &staged.key);
        if let Some(key) = keys.find(|key| replica.verify(key) == Leaf::Damaged) {
            replica.damaged(key);
            self.broken.get_or_insert(NotClosed::DamagedHere);
        }
        if self.is_flagged
            && let Some(key) = self.lost_since(replica, closing)
        {
            replica.damaged(&key);
            self.broken.get_or_insert(NotClosed::DamagedHere);
        }
        if self.is_flagged && self.has_changed(replica, closing) {
            self.broken.get_or_insert(NotClosed::Changed);
        }
        if let Some(why) = self.broken {
            taken.ended = Some(Ended::NotClosed(why));
            return;
        }
        taken.ended = Some(match replica.close(closing) {
            Ok(closed) => {
                taken.changes.extend(closed.changes);
                taken.collapses.extend(closed.collapses);
                Ended::Closed
            }
            Err(cause) => Ended::NotClosed(NotClosed::NotApplied(cause)),
        });
    }

    /// A key of which the index names a write that is gone, which came here since the Hello: nobody can say whether it was
    /// a value that would have made a difference.
    fn lost_since(&self, replica: &Replica, closing: &Closing) -> Option<EntryKey> {
        let state = replica.state();
        let came = state.stored_beyond(&self.clock).into_iter();
        let lost = came.filter(|dot| closing.clock.contains(*dot)).find_map(|dot| {
            let key = state.key_of(dot)?;
            let entry = replica.entry(key);
            entry.is_none_or(|entry| !entry.siblings().contains_key(&dot)).then_some(key)
        });
        lost.cloned()
    }

    /// Whether a value is stored that the clock of the Hello lacked, that is known at the sender's position, and of
    /// whose key nothing was told: if the sender has dropped what superseded it, it would stay for ever. A
    /// certificate may stay.
    fn has_changed(&self, replica: &Replica, closing: &Closing) -> bool {
        let whole = closing.staged.iter().filter(|staged| staged.is_whole);
        let told: BTreeSet<&EntryKey> = whole.map(|staged| &staged.key).collect();
        replica.state().stored_beyond(&self.clock).into_iter().any(|dot| {
            let is_told_or_certificate = || {
                let key = replica.state().key_of(dot).expect("a stored dot has a key");
                let sibling = replica.entry(key).and_then(|entry| entry.siblings().get(&dot));
                told.contains(key) || sibling.is_some_and(|sibling| !sibling.is_live())
            };
            closing.clock.contains(dot) && !self.came.contains(&dot) && !is_told_or_certificate()
        })
    }
}
