//! The bytes of what travels in a session.
//!
//! ```text
//! hello    format 1 | session | epoch | folds | retiring | leaves 1 B | clock | name | horizon | root 16 B | beats | beat*
//! beat     node 8 B | age | dots | dot*
//! part     format 1 | session | number | kind | what it says
//! kind     0 opening, 1 flagged opening, 2 records (a batch), 3 entry, 4 end, 5 void, 6 damaged
//! entry    actors | 16 B * | 0 | keyspace | key | whole | present | dot* | effective | bare | (dot | sibling)*
//! end      clock | horizon | highest stamp
//! horizon  exceptions | dot*        exceptions from: at the last dot of each fold that the clock names, else at 0
//! dot      name | counter - last counter of the actor in the clock, the sign in the lowest bit
//! name     1 + the actor's place among those of the clock; or 0 | 16 B
//! ```
//!
//! # Guarantees
//! - What is read has these bytes and no others: bytes in another form are refused. So two replicas with the same
//!   state say the same, and nobody can hide anything in a message.
//! - Bytes from outside never panic, and take memory in proportion to their length and the folds known here. Messages
//!   of more than [`MESSAGE_BYTES_MAX`] are refused unread.
//! - Clocks name only folds that the reader has said to know, so a member that lags behind the catalogue reads
//!   everything.
//!
//! Two equal replicas exchange a Hello each, and with five actors that takes 200 bytes at most: an actor's name is
//! written once, and what is said of it later is how far it is from what the clock says.

use std::collections::BTreeMap;

use proto::NodeId;

use super::{Beat, Hello, Part, PartBody};
use crate::actor::ActorId;
use crate::batch;
use crate::clock::{
    Clock, FoldNumber, Folds, FullNames, NameReader, NameWriter, put_clock, read_clock,
};
use crate::dot::Dot;
use crate::entry::{nowhere, put_sibling, read_sibling};
use crate::error::DecodeError;
use crate::hlc::Stamp;
use crate::horizon::Horizon;
use crate::record::{put_key, read_key};
use crate::replica::Staged;
use crate::table::{TRACKS_MAX, TableReader, TableWriter};
use crate::wire::{Reader, put_number};

/// Length of a message of a session at most.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;

const FORMAT: u8 = 1;

const OPENING: u8 = 0;
const FLAGGED_OPENING: u8 = 1;
const RECORDS: u8 = 2;
const ENTRY: u8 = 3;
const END: u8 = 4;
const VOID: u8 = 5;
const DAMAGED: u8 = 6;

/// Writes what is said beside a clock, in terms of the clock.
struct Beside<'a> {
    clock: &'a Clock,
    places: BTreeMap<ActorId, u64>,
}

impl<'a> Beside<'a> {
    fn new(clock: &'a Clock) -> Self {
        let places = clock.tracks().zip(1..).map(|((actor, _), place)| (*actor, place));
        Self { clock, places: places.collect() }
    }

    fn put_name(&self, out: &mut Vec<u8>, actor: &ActorId) {
        match self.places.get(actor) {
            Some(place) => put_number(out, *place),
            None => {
                out.push(0);
                FullNames.put(out, actor);
            }
        }
    }

    /// A counter of an actor, which may be 0.
    fn put_counter(&self, out: &mut Vec<u8>, actor: &ActorId, counter: u64) {
        self.put_name(out, actor);
        let last = self.clock.last(actor);
        // Counters are at most 2^62, so twice their difference fits.
        let (apart, is_below) = (counter.abs_diff(last), counter < last);
        put_number(out, apart << 1 | u64::from(is_below));
    }

    fn put_horizon(&self, out: &mut Vec<u8>, horizon: &Horizon, through: FoldNumber) {
        let usual = usual_horizon(self.clock, through);
        let mut counters = usual.clone();
        counters.extend(horizon.dots().map(|dot| (dot.actor, dot.counter)));
        for (actor, counter) in &mut counters {
            *counter = horizon.get(actor);
        }
        counters.retain(|actor, counter| usual.get(actor).copied().unwrap_or(0) != *counter);
        put_number(out, counters.len() as u64);
        for (actor, counter) in &counters {
            self.put_counter(out, actor, *counter);
        }
    }
}

/// The horizon that need not be said: all that the folds named in the clock have issued was dropped.
fn usual_horizon(clock: &Clock, through: FoldNumber) -> BTreeMap<ActorId, u64> {
    let named = clock.folds().take_while(|fold| fold.number <= through);
    named.map(|fold| (fold.actor, fold.last)).collect()
}

/// Reads what is said beside a clock.
struct BesideReader<'a> {
    clock: &'a Clock,
    actors: Vec<ActorId>,
}

impl<'a> BesideReader<'a> {
    fn new(clock: &'a Clock) -> Self {
        Self { clock, actors: clock.tracks().map(|(actor, _)| *actor).collect() }
    }

    fn name(&self, reader: &mut Reader<'_>) -> Result<ActorId, DecodeError> {
        let place = reader.number()?;
        if place == 0 {
            return FullNames.read(reader);
        }
        let index = usize::try_from(place - 1).ok();
        let actor = index.and_then(|index| self.actors.get(index));
        actor.copied().ok_or(DecodeError::OutOfRange("place of an actor"))
    }

    fn counter(&self, reader: &mut Reader<'_>) -> Result<(ActorId, u64), DecodeError> {
        let actor = self.name(reader)?;
        let said = reader.number()?;
        let (apart, last) = (said >> 1, self.clock.last(&actor));
        let counter = if said & 1 == 0 { last.checked_add(apart) } else { last.checked_sub(apart) };
        let counter = counter.filter(|counter| *counter <= Dot::COUNTER_MAX);
        counter.map(|counter| (actor, counter)).ok_or(DecodeError::OutOfRange("counter"))
    }

    fn dot(&self, reader: &mut Reader<'_>) -> Result<Dot, DecodeError> {
        match self.counter(reader)? {
            (_, 0) => Err(DecodeError::OutOfRange("counter")),
            (actor, counter) => Ok(Dot::new(actor, counter)),
        }
    }

    fn horizon(&self, reader: &mut Reader<'_>) -> Result<Horizon, DecodeError> {
        let mut counters = usual_horizon(self.clock, FoldNumber::ALL);
        for _ in 0..reader.count(2)? {
            let (actor, counter) = self.counter(reader)?;
            counters.insert(actor, counter);
        }
        let mut horizon = Horizon::default();
        for (actor, counter) in counters.into_iter().filter(|(_, counter)| *counter > 0) {
            horizon.raise(Dot::new(actor, counter));
        }
        Ok(horizon)
    }
}

impl Hello {
    /// The bytes of this Hello, for a reader who knows the folds up to `through`: those that it said to know, or
    /// [`FoldNumber::NONE`] if it has said nothing yet.
    #[must_use]
    pub fn encode(&self, through: FoldNumber) -> Vec<u8> {
        let mut out = vec![FORMAT];
        put_number(&mut out, self.session);
        put_number(&mut out, self.epoch);
        put_number(&mut out, self.folds.0.into());
        put_number(&mut out, self.retiring);
        out.push(self.leaves.into());
        put_clock(&mut out, &self.clock, through, &mut FullNames);
        let beside = Beside::new(&self.clock);
        beside.put_name(&mut out, &self.actor);
        beside.put_horizon(&mut out, &self.horizon, through);
        out.extend_from_slice(&self.root.to_be_bytes());
        put_number(&mut out, self.beats.len() as u64);
        for beat in &self.beats {
            out.extend_from_slice(&beat.node.get().to_be_bytes());
            put_number(&mut out, beat.age_ms);
            put_number(&mut out, beat.last.len() as u64);
            for dot in &beat.last {
                beside.put_counter(&mut out, &dot.actor, dot.counter);
            }
        }
        out
    }

    /// The Hello of these bytes.
    ///
    /// # Errors
    /// [`DecodeError`] unless they are the bytes of a Hello whose folds are all in `folds`.
    pub fn decode(bytes: &[u8], folds: &Folds) -> Result<Self, DecodeError> {
        let mut reader = begin(bytes)?;
        let (session, epoch) = (reader.number()?, reader.number()?);
        let known = u32::try_from(reader.number()?).map_err(|_| DecodeError::OutOfRange("fold"))?;
        let retiring = reader.number()?;
        let leaves = match reader.byte()? {
            0 => false,
            1 => true,
            _ => return Err(DecodeError::OutOfRange("whether it leaves")),
        };
        let clock = read_clock(&mut reader, &mut FullNames, folds)?;
        let beside = BesideReader::new(&clock);
        let actor = beside.name(&mut reader)?;
        let horizon = beside.horizon(&mut reader)?;
        let root = u128::from_be_bytes(reader.array()?);
        let mut beats = Vec::new();
        for _ in 0..reader.count(10)? {
            let node = NodeId(u64::from_be_bytes(reader.array()?));
            let age_ms = reader.number()?;
            let mut last = Vec::new();
            for _ in 0..reader.count(2)? {
                last.push(beside.dot(&mut reader)?);
            }
            beats.push(Beat { node, last, age_ms });
        }
        reader.end()?;
        let folds = FoldNumber(known);
        let hello =
            Self { session, epoch, actor, clock, horizon, folds, retiring, leaves, root, beats };
        canonical(bytes, &hello.encode(FoldNumber::ALL), "a Hello")?;
        Ok(hello)
    }
}

impl Part {
    /// The bytes of this part, for a receiver who knows the folds up to `through`:
    /// [`Serving::folds`](super::Serving::folds).
    ///
    /// # Panics
    /// When it has more records than a batch can have, which no part of a [`Serving`](super::Serving) has.
    #[must_use]
    pub fn encode(&self, through: FoldNumber) -> Vec<u8> {
        let mut out = vec![FORMAT];
        put_number(&mut out, self.session);
        put_number(&mut out, self.number);
        match &self.body {
            PartBody::Opening { is_flagged: false } => out.push(OPENING),
            PartBody::Opening { is_flagged: true } => out.push(FLAGGED_OPENING),
            PartBody::Records(records) => {
                out.push(RECORDS);
                let (bytes, count) = batch::encode(records, usize::MAX, through);
                assert_eq!(count, records.len(), "a part has no more records than a batch");
                out.extend_from_slice(&bytes);
            }
            PartBody::Entry(staged) => {
                out.push(ENTRY);
                put_entry(&mut out, staged, through);
            }
            PartBody::End { clock, horizon, highest } => {
                out.push(END);
                put_clock(&mut out, clock, through, &mut FullNames);
                Beside::new(clock).put_horizon(&mut out, horizon, through);
                put_number(&mut out, highest.0);
            }
            PartBody::Void => out.push(VOID),
            PartBody::Damaged => out.push(DAMAGED),
        }
        out
    }

    /// The part of these bytes. A part that is refused counts as lost: the session does not close.
    ///
    /// # Errors
    /// [`DecodeError`] unless they are the bytes of a part whose folds are all in `folds`.
    pub fn decode(bytes: &[u8], folds: &Folds) -> Result<Self, DecodeError> {
        let mut reader = begin(bytes)?;
        let (session, number) = (reader.number()?, reader.number()?);
        let body = match reader.byte()? {
            OPENING => PartBody::Opening { is_flagged: false },
            FLAGGED_OPENING => PartBody::Opening { is_flagged: true },
            RECORDS => PartBody::Records(batch::decode(reader.rest(), folds)?),
            ENTRY => PartBody::Entry(read_entry(&mut reader, folds)?),
            END => {
                let clock = read_clock(&mut reader, &mut FullNames, folds)?;
                let horizon = BesideReader::new(&clock).horizon(&mut reader)?;
                PartBody::End { clock, horizon, highest: Stamp(reader.number()?) }
            }
            VOID => PartBody::Void,
            DAMAGED => PartBody::Damaged,
            _ => return Err(DecodeError::OutOfRange("kind of a part")),
        };
        reader.end()?;
        let part = Self { session, number, body };
        canonical(bytes, &part.encode(FoldNumber::ALL), "a part of a session")?;
        Ok(part)
    }
}

fn put_entry(out: &mut Vec<u8>, staged: &Staged, through: FoldNumber) {
    let mut table = TableWriter::new(through);
    let mut body = Vec::new();
    put_key(&mut body, &staged.key);
    body.push(u8::from(staged.is_whole));
    put_number(&mut body, staged.present.len() as u64);
    for dot in &staged.present {
        table.put_dot(&mut body, *dot);
    }
    table.put_clock(&mut body, &staged.effective);
    put_number(&mut body, staged.bare.len() as u64);
    for (dot, sibling) in &staged.bare {
        put_sibling(&mut body, &mut table, *dot, sibling, false);
    }
    table.put(out);
    out.extend_from_slice(&body);
}

fn read_entry(reader: &mut Reader<'_>, folds: &Folds) -> Result<Staged, DecodeError> {
    let mut table = TableReader::read(reader, folds, TRACKS_MAX)?;
    let key = read_key(reader)?;
    let is_whole = match reader.byte()? {
        0 => false,
        1 => true,
        _ => return Err(DecodeError::OutOfRange("flags")),
    };
    let count = reader.count(2)?;
    let present = (0..count).map(|_| table.dot(reader)).collect::<Result<_, _>>()?;
    let effective = read_clock(reader, &mut table.actors, folds)?;
    let mut bare = Vec::new();
    for _ in 0..reader.count(4)? {
        let (dot, sibling) = read_sibling(reader, &mut table, nowhere)?;
        if sibling.context.is_some() {
            return Err(DecodeError::OutOfRange("a context of what has none"));
        }
        bare.push((dot, sibling));
    }
    Ok(Staged { key, is_whole, present, effective, bare })
}

fn begin(bytes: &[u8]) -> Result<Reader<'_>, DecodeError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(DecodeError::OutOfRange("length of a message"));
    }
    let mut reader = Reader::new(bytes);
    reader.format(FORMAT)?;
    Ok(reader)
}

/// Written again, what was read has to be what came. That costs as much as to write it, and nothing that could be said
/// in two ways has to be thought of one by one.
fn canonical(came: &[u8], again: &[u8], what: &'static str) -> Result<(), DecodeError> {
    if came == again { Ok(()) } else { Err(DecodeError::NotCanonical(what)) }
}

#[cfg(test)]
mod tests;
