//! The four session guarantees (models `read-your-writes`, `monotonic-reads`, `monotonic-writes`
//! and `writes-follow-reads`), after Terry and others, Session Guarantees for Weakly Consistent
//! Replicated Data, 1994.
//!
//! A session is a process; its operations are ordered by their calls, and real time between
//! processes does not count. How versions are ordered is said in `versions.rs`.
//!
//! - `read-your-writes`: a read is no older than what its session wrote before.
//! - `monotonic-reads`: nor older than what its session read before.
//! - `monotonic-writes`: if a session writes a and then b, whoever reads b, or a later version of
//!   its key, from then on reads a's key no older than a.
//! - `writes-follow-reads`: the same where the session *read* a and then wrote b.
//!
//! The first two walk through each session once, O(n log n). For the others each reader carries
//! along the newest version of each key that it must not fall behind; it walks once through all
//! that those sessions did whose writes it read: O(n log n + readers * n), a step of the second
//! part being a few nanoseconds. There is no bound to run into.

use std::collections::HashMap;

use super::stop::Stop;
use super::versions::{Key, Versions};
use super::{Checker, Verdict};
use crate::operation::Operation;

/// What a session is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// It reads what it wrote.
    ReadYourWrites,
    /// Its reads do not go back.
    MonotonicReads,
    /// Its writes are seen in its order.
    MonotonicWrites,
    /// Its writes are seen only with what it read before.
    WritesFollowReads,
}

impl Guarantee {
    /// The name of the model.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadYourWrites => "read-your-writes",
            Self::MonotonicReads => "monotonic-reads",
            Self::MonotonicWrites => "monotonic-writes",
            Self::WritesFollowReads => "writes-follow-reads",
        }
    }

    /// Whether it is about a session's writes (else its reads).
    const fn about_writes(self) -> bool {
        matches!(self, Self::ReadYourWrites | Self::MonotonicWrites)
    }
}

/// Checks one session guarantee.
#[derive(Clone, Copy, Debug)]
pub struct SessionChecker {
    /// Which one.
    pub guarantee: Guarantee,
}

impl Checker for SessionChecker {
    fn model(&self) -> &'static str {
        self.guarantee.as_str()
    }

    /// Unknown only where the versions of a key have no known order.
    fn check(&self, history: &[Operation]) -> Verdict {
        if let Some(unknown) = super::foreign(history, &super::REGISTER_FUNCTIONS) {
            return unknown;
        }
        let judged = Versions::new(history).and_then(|versions| {
            let sessions = Versions::sessions(history);
            let check = Check {
                history,
                versions: &versions,
                guarantee: self.guarantee,
                sessions: &sessions,
            };
            match self.guarantee {
                Guarantee::ReadYourWrites | Guarantee::MonotonicReads => check.own(),
                Guarantee::MonotonicWrites | Guarantee::WritesFollowReads => check.others(),
            }
        });
        Stop::verdict(judged, history)
    }
}

/// What a reader must not fall behind on one key.
#[derive(Clone, Copy)]
struct Floor {
    version: u64,
    /// The operation that wrote or read that version.
    first: usize,
    /// What its session wrote after it.
    then: usize,
    /// The read that saw this.
    seen: usize,
}

struct Check<'c, 'h> {
    history: &'h [Operation],
    versions: &'c Versions,
    guarantee: Guarantee,
    sessions: &'c [Vec<usize>],
}

impl Check<'_, '_> {
    /// An operation's version, if it is one that the guarantee starts from.
    fn source(&self, place: usize) -> Option<u64> {
        let writes = self.history[place].function.writes();
        self.versions.versions[place].filter(|_| writes == self.guarantee.about_writes())
    }

    /// The version that a read saw.
    fn seen(&self, place: usize) -> Option<u64> {
        self.versions.versions[place].filter(|_| !self.history[place].function.writes())
    }

    /// No read is older than what its own session did before.
    fn own(&self) -> Result<(), Stop> {
        for session in self.sessions {
            let mut floors: HashMap<Key, (u64, usize)> = HashMap::new();
            for &place in session {
                let key = self.versions.keys[place];
                if let (Some(seen), Some(&(floor, before))) = (self.seen(place), floors.get(&key))
                    && seen < floor
                {
                    return Err(self.fell_behind(place, before));
                }
                if let Some(version) = self.source(place) {
                    let floor = floors.entry(key).or_insert((version, place));
                    if version > floor.0 {
                        *floor = (version, place);
                    }
                }
            }
        }
        Ok(())
    }

    fn fell_behind(&self, read: usize, before: usize) -> Stop {
        let operation = &self.history[read];
        let did = if self.guarantee.about_writes() { "wrote" } else { "read" };
        let why = format!(
            "{operation} is older than what its own process {did} before: {}",
            self.history[before]
        );
        Stop::broken(&operation.key, why, self.with_writes(&[read, before]))
    }

    /// No read is older than what must be seen with something that was read before.
    fn others(&self) -> Result<(), Stop> {
        let writes = self.writes();
        let mut floors = Floors::default();
        for session in self.sessions {
            floors.clear();
            for &place in session {
                let Some(seen) = self.seen(place) else { continue };
                let key = self.versions.keys[place];
                if let Some(floor) = floors.of(key)
                    && seen < floor.version
                {
                    return Err(self.came_without(place, floor));
                }
                let Some(writes) = writes.get(&key) else { continue };
                let from = *floors.read.get(&key).unwrap_or(&0);
                let upto = writes.partition_point(|write| write.version <= seen).max(from);
                floors.read.insert(key, upto);
                for write in &writes[from..upto] {
                    self.learn(write, place, &mut floors);
                }
            }
        }
        Ok(())
    }

    /// The writes of each key, ordered by version.
    fn writes(&self) -> HashMap<Key, Vec<Write>> {
        let mut writes: HashMap<Key, Vec<Write>> = HashMap::new();
        for (session, places) in self.sessions.iter().enumerate() {
            for (position, &place) in places.iter().enumerate() {
                let version = self.versions.versions[place];
                let writes_it = self.versions.write_of(place) == Some(place);
                if let Some(version) = version.filter(|_| writes_it) {
                    let key = self.versions.keys[place];
                    writes.entry(key).or_default().push(Write { version, session, position });
                }
            }
        }
        for writes in writes.values_mut() {
            writes.sort_by_key(|write| (write.version, write.session, write.position));
        }
        writes
    }

    /// A reader saw a write in the read `seen`: from now on it must see all before it.
    fn learn(&self, write: &Write, seen: usize, floors: &mut Floors) {
        let known = floors.sessions.entry(write.session).or_insert(0);
        let before = self.sessions[write.session].get(*known..write.position).unwrap_or(&[]);
        *known = (*known).max(write.position);
        for &first in before {
            if let Some(version) = self.source(first) {
                let then = self.sessions[write.session][write.position];
                floors.raise(self.versions.keys[first], Floor { version, first, then, seen });
            }
        }
    }

    fn came_without(&self, read: usize, floor: &Floor) -> Stop {
        let Floor { first, then, seen, .. } = *floor;
        let operation = &self.history[read];
        let did = if self.guarantee.about_writes() { "written" } else { "read" };
        let why = format!(
            "{operation} is older than {}, which was {did} by the process that then wrote {}, and \
             the reader had seen that before in {}",
            self.history[first], self.history[then], self.history[seen]
        );
        Stop::broken(&operation.key, why, self.with_writes(&[read, first, then, seen]))
    }

    /// Some operations, and the writes of what they saw.
    fn with_writes(&self, places: &[usize]) -> Vec<usize> {
        let writes = places.iter().filter_map(|&place| self.versions.write_of(place));
        places.iter().copied().chain(writes).collect()
    }
}

/// A write of a key.
#[derive(Clone, Copy)]
struct Write {
    version: u64,
    session: usize,
    /// Its place within its session.
    position: usize,
}

/// What one reader must not fall behind.
#[derive(Default)]
struct Floors {
    floors: Vec<Option<Floor>>,
    raised: Vec<Key>,
    /// How many writes of each key were taken in.
    read: HashMap<Key, usize>,
    /// How many operations of each session were taken in.
    sessions: HashMap<usize, usize>,
}

impl Floors {
    fn clear(&mut self) {
        for key in self.raised.drain(..) {
            self.floors[key as usize] = None;
        }
        self.read.clear();
        self.sessions.clear();
    }

    fn of(&self, key: Key) -> Option<&Floor> {
        self.floors.get(key as usize)?.as_ref()
    }

    fn raise(&mut self, key: Key, floor: Floor) {
        if self.floors.len() <= key as usize {
            self.floors.resize(key as usize + 1, None);
        }
        let present = &mut self.floors[key as usize];
        match present {
            Some(present) if present.version >= floor.version => {}
            Some(present) => *present = floor,
            None => {
                self.raised.push(key);
                *present = Some(floor);
            }
        }
    }
}
