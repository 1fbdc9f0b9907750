//! The sender's side.

use std::collections::VecDeque;

use super::{Hello, Part, PartBody};
use crate::clock::Clock;
use crate::dot::Dot;
use crate::entry::Entry;
use crate::record::{Body, EntryKey, Record};
use crate::replica::{Replica, Staged};

/// Bytes that a record takes beyond its key and value, about.
const RECORD_BYTES: usize = 48;

/// A session that a replica serves. The caller asks for one part after the other and sends each.
#[derive(Debug)]
pub struct Serving {
    session: u64,
    number: u64,
    /// What the receiver had at its Hello.
    receiver: Clock,
    clock: Clock,
    is_flagged: bool,
    is_opened: bool,
    is_ended: bool,
    /// Something was told that is not a record of the position.
    has_staged: bool,
    /// What the receiver lacks of the position, and not sent yet.
    listed: VecDeque<(EntryKey, Dot)>,
    /// Made and not handed out.
    ready: VecDeque<PartBody>,
}

impl Serving {
    /// Fixes the position of a session for the replica that said this Hello. Only after a
    /// [`meet`](super::meet) that found nothing wrong.
    #[must_use]
    pub fn begin(replica: &Replica, hello: &Hello) -> Self {
        let state = replica.state();
        let dots = state.stored_beyond(&hello.clock);
        let key_of = |dot: Dot| {
            let key = state.key_of(dot).expect("a stored dot has a key");
            (key.clone(), dot)
        };
        let mut serving = Self {
            session: hello.session,
            number: 0,
            receiver: hello.clock.clone(),
            clock: state.clock().clone(),
            is_flagged: state.horizon().flags(state.clock(), &hello.clock).is_some(),
            is_opened: false,
            is_ended: false,
            has_staged: false,
            listed: dots.into_iter().map(key_of).collect(),
            ready: VecDeque::new(),
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

    /// The next part, with about `bytes_max` bytes of records; `None` when the session has ended, or is
    /// flagged and all that was listed and asked for is sent.
    pub fn next(&mut self, replica: &Replica, bytes_max: usize) -> Option<Part> {
        if !self.is_opened {
            self.is_opened = true;
            return Some(self.part(PartBody::Opening { is_flagged: self.is_flagged }));
        }
        if self.ready.is_empty() {
            self.read_listed(replica, bytes_max);
        }
        if let Some(body) = self.ready.pop_front() {
            return Some(self.part(body));
        }
        if self.is_flagged { None } else { self.end(replica) }
    }

    /// The whole present entry of a key that the receiver asks for on its walk.
    pub fn tell(&mut self, replica: &Replica, key: &EntryKey) {
        self.stage(replica, key);
    }

    /// The last part, once all others were handed out and, if flagged, the receiver has walked. `None` if
    /// that is not so, or the last part was handed out.
    ///
    /// Whole entries are of later moments than the position. So the receiver gets the horizon of now; and if this
    /// side has learned of a write since, and dropped it or its context again, an entry may lack a value for
    /// a reason that the receiver will not hear: then the session is void.
    pub fn end(&mut self, replica: &Replica) -> Option<Part> {
        let is_left = !self.is_opened || !self.listed.is_empty() || !self.ready.is_empty();
        if self.is_ended || is_left {
            return None;
        }
        self.is_ended = true;
        let state = replica.state();
        let learned = state.clock().minus(&self.clock);
        let forgotten = state.horizon().flags(&learned, &self.receiver);
        let body = if self.has_staged && forgotten.is_some() {
            PartBody::Void
        } else {
            PartBody::End { clock: self.clock.clone(), horizon: state.horizon().clone() }
        };
        Some(self.part(body))
    }

    fn part(&mut self, body: PartBody) -> Part {
        let number = self.number;
        self.number += 1;
        Part { session: self.session, number, body }
    }

    fn read_listed(&mut self, replica: &Replica, bytes_max: usize) {
        let mut records = Vec::new();
        let mut bytes = 0;
        while let Some((key, dot)) = self.listed.pop_front() {
            let sibling = replica.entry(&key).and_then(|entry| entry.siblings().get(&dot));
            let Some(record) = sibling.and_then(|sibling| sibling.record(&key, dot)) else {
                self.stage(replica, &key);
                break;
            };
            bytes += size(&record);
            records.push(record);
            if bytes >= bytes_max {
                break;
            }
        }
        if !records.is_empty() {
            self.ready.push_front(PartBody::Records(records));
        }
    }

    /// The whole present entry: what has a context as records, then all of it.
    fn stage(&mut self, replica: &Replica, key: &EntryKey) {
        self.has_staged = true;
        let siblings = replica.entry(key).map(Entry::siblings);
        let mut records = Vec::new();
        let mut bare = Vec::new();
        for (dot, sibling) in siblings.into_iter().flatten() {
            match sibling.record(key, *dot) {
                Some(record) => records.push(record),
                None => bare.push((*dot, sibling.clone())),
            }
        }
        if !records.is_empty() {
            self.ready.push_back(PartBody::Records(records));
        }
        self.ready.push_back(PartBody::Entry(Staged {
            key: key.clone(),
            is_whole: true,
            present: siblings.into_iter().flatten().map(|(dot, _)| *dot).collect(),
            effective: replica.state().effective(key),
            bare,
        }));
    }

    /// What is pending of each key, differing or not: keys that are empty on both sides differ in
    /// nothing else.
    fn stage_pending(&mut self, replica: &Replica) {
        for key in replica.state().pending_keys() {
            let entry = replica.entry(key).expect("a pending key has an entry");
            self.has_staged = true;
            self.ready.push_back(PartBody::Entry(Staged {
                key: key.clone(),
                is_whole: false,
                present: entry.siblings().keys().copied().collect(),
                effective: entry.pending().clone(),
                bare: Vec::new(),
            }));
        }
    }
}

/// About how many bytes a record takes on its way.
fn size(record: &Record) -> usize {
    let value = match &record.body {
        Body::Value(value) => value.len(),
        Body::Certificate => 0,
    };
    RECORD_BYTES + record.key.key.len() + value
}
