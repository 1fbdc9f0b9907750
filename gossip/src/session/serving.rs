//! The sender's side.

use std::collections::{BTreeSet, VecDeque};

use super::parcel::Parcel;
use super::{Hello, MESSAGE_BYTES_MAX, Part, PartBody};
use crate::clock::{Clock, FoldNumber};
use crate::dot::Dot;
use crate::entry::Entry;
use crate::position::Leaving;
use crate::record::EntryKey;
use crate::replica::{Replica, Staged};
use crate::tree::Leaf;

/// Keys that a receiver has asked for and that wait for their turn, at most.
pub const ASKED_MAX: usize = 4_096;

/// A session that a replica serves. The caller asks for one part after the other and sends each.
#[derive(Debug)]
pub struct Serving {
    session: u64,
    number: u64,
    /// What the receiver had at its Hello.
    receiver: Clock,
    folds: FoldNumber,
    clock: Clock,
    is_flagged: bool,
    is_opened: bool,
    is_ended: bool,
    /// Something was told that is not a record of the position.
    has_staged: bool,
    /// What the receiver lacks of the position, and not sent yet.
    listed: VecDeque<(EntryKey, Dot)>,
    /// Keys that the receiver asked for, and not told yet.
    asked: VecDeque<EntryKey>,
    /// Keys that the receiver asked for, and that were told.
    told: BTreeSet<EntryKey>,
    /// Made and not handed out.
    ready: VecDeque<PartBody>,
    /// Something of this key is lost.
    damaged: Option<EntryKey>,
}

impl Serving {
    /// Fixes the position of a session for the replica that said this Hello. Only after a
    /// [`meet`](super::meet) that found nothing wrong. The parts are numbered from `first` on, which has to be another one
    /// each time: a Hello that comes twice is served twice, and the end of the one is not that of the other.
    #[must_use]
    pub fn begin(replica: &Replica, hello: &Hello, first: u32) -> Self {
        let state = replica.state();
        let dots = state.stored_beyond(&hello.clock);
        let key_of = |dot: Dot| {
            let key = state.key_of(dot).expect("a stored dot has a key");
            (key.clone(), dot)
        };
        let mut serving = Self {
            session: hello.session,
            number: first.into(),
            receiver: hello.clock.clone(),
            folds: hello.folds,
            clock: state.clock().clone(),
            is_flagged: state.horizon().flags(state.clock(), &hello.clock).is_some(),
            is_opened: false,
            is_ended: false,
            has_staged: false,
            listed: dots.into_iter().map(key_of).collect(),
            asked: VecDeque::new(),
            told: BTreeSet::new(),
            ready: VecDeque::new(),
            damaged: None,
        };
        if serving.is_flagged {
            serving.stage_pending(replica);
        }
        serving
    }

    /// Whether the receiver has to walk the tree, and this side ends with [`Serving::end`].
    #[must_use]
    pub const fn is_flagged(&self) -> bool {
        self.is_flagged
    }

    /// What the receiver had at its Hello. Contexts and certificates of these dots, and of those that were known
    /// here at the position, may be forgotten while the session runs; forgetting others may make it void.
    #[must_use]
    pub const fn receiver(&self) -> &Clock {
        &self.receiver
    }

    /// The key of which something was found to be lost, if that ended the session.
    #[must_use]
    pub const fn damaged(&self) -> Option<&EntryKey> {
        self.damaged.as_ref()
    }

    /// How many of the listed writes are left to be sent.
    #[must_use]
    pub fn left(&self) -> usize {
        self.listed.len()
    }

    /// Up to which fold the receiver knows all of them: what the bytes of a part may name.
    #[must_use]
    pub const fn folds(&self) -> FoldNumber {
        self.folds
    }

    /// The next part; `None` when the session has ended, or is flagged and all that was listed and asked for is sent.
    /// A part takes no more than `bytes_max` bytes where it can be split so far: one record, one value without a
    /// context, and what is said of a key beside its values each come whole.
    pub fn next(&mut self, replica: &Replica, bytes_max: usize) -> Option<Leaving<Part>> {
        if self.is_ended && self.ready.is_empty() {
            return None;
        }
        let bytes_max = bytes_max.min(MESSAGE_BYTES_MAX);
        if !self.is_opened {
            self.is_opened = true;
            let is_flagged = self.is_flagged;
            return Some(self.part(replica, PartBody::Opening { is_flagged }));
        }
        // What is asked for goes first, so that no more of it waits here than the receiver waits for.
        if self.ready.is_empty()
            && let Some(key) = self.asked.pop_front()
        {
            self.stage(replica, &key, bytes_max);
            self.told.insert(key);
        }
        if self.ready.is_empty() {
            self.read_listed(replica, bytes_max);
        }
        if let Some(body) = self.ready.pop_front() {
            return Some(self.part(replica, body));
        }
        if self.is_flagged { None } else { self.end(replica) }
    }

    /// Takes note that the receiver asks for a key on its walk: its whole entry is told, as it is when its turn comes.
    /// False, and nothing is noted, where [`ASKED_MAX`] keys wait: the receiver asks again once it has heard more.
    pub fn tell(&mut self, key: &EntryKey) -> bool {
        if self.asked.len() == ASKED_MAX {
            return false;
        }
        self.asked.push_back(key.clone());
        true
    }

    /// The last part, once all others were handed out and, if flagged, the receiver has walked. `None` if
    /// that is not so, or the last part was handed out.
    ///
    /// Whole entries are of later moments than the position. So the receiver gets the horizon of now; and if this
    /// side has learned of a write since, and dropped it or its context again, an entry may lack a value for
    /// a reason that the receiver will not hear: then the session is void.
    pub fn end(&mut self, replica: &Replica) -> Option<Leaving<Part>> {
        let is_sent = self.listed.is_empty() && self.asked.is_empty() && self.ready.is_empty();
        if self.is_ended || !self.is_opened || !is_sent {
            return None;
        }
        self.is_ended = true;
        let state = replica.state();
        let learned = state.clock().minus(&self.clock);
        let forgotten = state.horizon().flags(&learned, &self.receiver);
        let body = if self.has_staged && forgotten.is_some() {
            PartBody::Void
        } else {
            PartBody::End {
                clock: self.clock.clone(),
                horizon: state.horizon().clone(),
                highest: state.highest(),
            }
        };
        Some(self.part(replica, body))
    }

    fn part(&mut self, replica: &Replica, body: PartBody) -> Leaving<Part> {
        let number = self.number;
        self.number += 1;
        let part = Part { session: self.session, number, body };
        Leaving { after: replica.position(), what: part }
    }

    fn read_listed(&mut self, replica: &Replica, bytes_max: usize) {
        let mut parcel = Parcel::new(bytes_max, self.folds);
        while let Some((key, dot)) = self.listed.front() {
            let sibling = replica.entry(key).and_then(|entry| entry.siblings().get(dot));
            if sibling.is_none() && replica.state().key_of(*dot).is_some() {
                // What goes before it leaves first: a record with its context means the same from anywhere.
                if parcel.is_empty() {
                    let key = key.clone();
                    self.end_damaged(key);
                }
                break;
            }
            let Some(record) = sibling.and_then(|sibling| sibling.record(key, *dot)) else {
                if self.told.contains(key) {
                    self.listed.pop_front();
                    continue;
                }
                // What goes before it leaves first; its key is told as it is when its turn comes.
                if parcel.is_empty() {
                    let key = key.clone();
                    self.listed.pop_front();
                    self.stage(replica, &key, bytes_max);
                }
                break;
            };
            if !parcel.holds(&record) {
                break;
            }
            parcel.put(record);
            self.listed.pop_front();
        }
        if self.is_ended {
            return;
        }
        if !parcel.is_empty() {
            self.ready.push_front(PartBody::Records(parcel.into_records()));
        }
    }

    /// The whole present entry: what has a context as records, then all of it, then one by one the values that have
    /// no context.
    fn stage(&mut self, replica: &Replica, key: &EntryKey, bytes_max: usize) {
        if replica.verify(key) == Leaf::Damaged {
            self.end_damaged(key.clone());
            return;
        }
        self.has_staged = true;
        let siblings = replica.entry(key).map(Entry::siblings);
        let mut parcel = Parcel::new(bytes_max, self.folds);
        let mut bare = Vec::new();
        for (dot, sibling) in siblings.into_iter().flatten() {
            let Some(record) = sibling.record(key, *dot) else {
                bare.push(Staged {
                    key: key.clone(),
                    is_whole: false,
                    present: [*dot].into(),
                    effective: [*dot].into_iter().collect(),
                    bare: vec![(*dot, sibling.clone())],
                });
                continue;
            };
            if !parcel.holds(&record) {
                let full = std::mem::replace(&mut parcel, Parcel::new(bytes_max, self.folds));
                self.ready.push_back(PartBody::Records(full.into_records()));
            }
            parcel.put(record);
        }
        if !parcel.is_empty() {
            self.ready.push_back(PartBody::Records(parcel.into_records()));
        }
        self.ready.push_back(PartBody::Entry(Staged {
            key: key.clone(),
            is_whole: true,
            present: siblings.into_iter().flatten().map(|(dot, _)| *dot).collect(),
            effective: replica.state().effective(key),
            bare: Vec::new(),
        }));
        self.ready.extend(bare.into_iter().map(PartBody::Entry));
    }

    /// Nothing is sent any more but that something was lost here.
    fn end_damaged(&mut self, key: EntryKey) {
        self.is_ended = true;
        self.damaged = Some(key);
        self.listed.clear();
        self.asked.clear();
        self.ready = [PartBody::Damaged].into();
    }

    /// What is pending of each key, differing or not: keys that are empty on both sides differ in
    /// nothing else.
    fn stage_pending(&mut self, replica: &Replica) {
        for key in replica.state().pending_keys() {
            let is_sound = replica.state().is_pending_sound(key);
            let Some(entry) = replica.entry(key).filter(|_| is_sound) else {
                return self.end_damaged(key.clone());
            };
            let pending = entry.pending().minus(replica.state().clock());
            if pending.is_empty() {
                continue;
            }
            self.has_staged = true;
            self.ready.push_back(PartBody::Entry(Staged {
                key: key.clone(),
                is_whole: false,
                present: entry.siblings().keys().copied().collect(),
                effective: pending,
                bare: Vec::new(),
            }));
        }
    }
}
