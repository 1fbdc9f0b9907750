//! What a batch writes once: actors, and the clocks that contexts share.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::actor::ActorId;
use crate::clock::{Clock, FoldNumber, Folds, NameReader, NameWriter, put_clock, read_clock};
use crate::dot::Dot;
use crate::error::DecodeError;
use crate::wire::{Reader, put_number};

/// Tracks that the clocks of one batch from elsewhere come to at most. A fold takes a byte on the wire and a track in
/// memory, so bytes alone do not bound memory. A replica's own log has no such limit: what it says has been in memory.
pub(crate) const TRACKS_MAX: usize = 1 << 20;

/// Actors by their index, in the order of first use.
#[derive(Default)]
pub(crate) struct ActorIndexes {
    indexes: BTreeMap<ActorId, u64>,
    ids: Vec<ActorId>,
}

impl NameWriter for ActorIndexes {
    fn put(&mut self, out: &mut Vec<u8>, actor: &ActorId) {
        let index = *self.indexes.entry(*actor).or_insert_with(|| {
            self.ids.push(*actor);
            self.ids.len() as u64 - 1
        });
        put_number(out, index);
    }
}

/// The tables of a batch while it is written.
pub(crate) struct TableWriter {
    /// The folds that the reader knows.
    through: FoldNumber,
    pub(crate) actors: ActorIndexes,
    /// Where a shared clock stands. By address: writes of one origin share the clock itself.
    known: BTreeMap<*const Clock, u64>,
    clocks: Vec<u8>,
    tracks: usize,
}

impl TableWriter {
    /// Empty tables for a reader who knows the folds up to `through`.
    pub(crate) fn new(through: FoldNumber) -> Self {
        Self {
            through,
            actors: ActorIndexes::default(),
            known: BTreeMap::new(),
            clocks: Vec::new(),
            tracks: 0,
        }
    }

    /// Appends a clock that nothing else shares.
    pub(crate) fn put_clock(&mut self, out: &mut Vec<u8>, clock: &Clock) {
        put_clock(out, clock, self.through, &mut self.actors);
    }

    /// Appends a dot.
    pub(crate) fn put_dot(&mut self, out: &mut Vec<u8>, dot: Dot) {
        self.actors.put(out, &dot.actor);
        put_number(out, dot.counter);
    }

    /// The index of a shared clock. The clock must live as long as the writer.
    pub(crate) fn shared(&mut self, clock: &Arc<Clock>) -> u64 {
        let index = self.known.len() as u64;
        *self.known.entry(Arc::as_ptr(clock)).or_insert_with(|| {
            put_clock(&mut self.clocks, clock, self.through, &mut self.actors);
            self.tracks += clock.tracks().count();
            index
        })
    }

    /// Tracks of all clocks together.
    pub(crate) const fn tracks(&self) -> usize {
        self.tracks
    }

    /// Bytes of the tables, about.
    pub(crate) const fn bytes(&self) -> usize {
        self.actors.ids.len() * ActorId::BYTES + self.clocks.len()
    }

    /// Appends the tables: actors, then clocks.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.actors.ids.len() as u64);
        for actor in &self.actors.ids {
            out.extend_from_slice(actor.as_bytes());
        }
        put_number(out, self.known.len() as u64);
        out.extend_from_slice(&self.clocks);
    }
}

/// The actors of a batch that is read.
pub(crate) struct ActorTable(Vec<ActorId>);

impl NameReader for ActorTable {
    const BYTES_MIN: usize = 1;

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<ActorId, DecodeError> {
        let index = usize::try_from(reader.number()?).ok();
        let actor = index.and_then(|index| self.0.get(index));
        actor.copied().ok_or(DecodeError::OutOfRange("index of an actor"))
    }
}

/// The tables of a batch that is read.
pub(crate) struct TableReader {
    pub(crate) actors: ActorTable,
    clocks: Vec<Arc<Clock>>,
}

impl TableReader {
    /// Reads both tables. Their clocks come to `tracks_max` tracks at most.
    pub(crate) fn read(
        reader: &mut Reader<'_>,
        folds: &Folds,
        tracks_max: usize,
    ) -> Result<Self, DecodeError> {
        let count = reader.count(ActorId::BYTES)?;
        let mut actors = Vec::with_capacity(count);
        for _ in 0..count {
            actors.push(ActorId::from_bytes(reader.array()?));
        }
        let mut actors = ActorTable(actors);
        let count = reader.count(2)?;
        let mut clocks = Vec::with_capacity(count);
        let mut tracks = 0;
        for index in 0..count {
            let clock = read_clock(reader, &mut actors, folds)?;
            tracks += clock.tracks().count();
            // A single clock is bounded by what is known here, however large that is.
            if index > 0 && tracks > tracks_max {
                return Err(DecodeError::OutOfRange("tracks of a batch"));
            }
            clocks.push(Arc::new(clock));
        }
        Ok(Self { actors, clocks })
    }

    /// Reads a dot.
    pub(crate) fn dot(&mut self, reader: &mut Reader<'_>) -> Result<Dot, DecodeError> {
        let actor = self.actors.read(reader)?;
        let counter = reader.number()?;
        if (1..=Dot::COUNTER_MAX).contains(&counter) {
            Ok(Dot::new(actor, counter))
        } else {
            Err(DecodeError::OutOfRange("counter"))
        }
    }

    /// Reads the rank of a write, which is written only where it is not the write's own dot.
    pub(crate) fn rank(&mut self, reader: &mut Reader<'_>, own: Dot) -> Result<Dot, DecodeError> {
        let rank = self.dot(reader)?;
        if rank == own { Err(DecodeError::NotCanonical("rank")) } else { Ok(rank) }
    }

    /// Reads the index of a shared clock.
    pub(crate) fn shared(&self, reader: &mut Reader<'_>) -> Result<Arc<Clock>, DecodeError> {
        let index = usize::try_from(reader.number()?).ok();
        let shared = index.and_then(|index| self.clocks.get(index)).cloned();
        shared.ok_or(DecodeError::OutOfRange("index of a context"))
    }
}
