//! Which write of the model is which of the core.

use bytes::Bytes;
use proto::KeyspaceId;

use crate::actor::ActorId;
use crate::batch;
use crate::clock::{Clock, FoldNumber, Folds};
use crate::dot::Dot;
use crate::error::DecodeError;
use crate::hlc::Stamp;
use crate::horizon::Horizon;
use crate::model::Setting;
use crate::model::dots::{self, Dots};
use crate::model::truth::{ACTORS_MAX, Truth};
use crate::record::{EntryKey, Record};

/// The keyspace that keeps siblings.
pub(super) const PLAIN: KeyspaceId = KeyspaceId(1);
/// The one where the last writer wins.
pub(super) const LWW: KeyspaceId = KeyspaceId(2);

/// No write.
const NONE: u8 = u8::MAX;

/// The writes of one schedule: their names here, and their bytes on the way.
#[derive(Debug)]
pub(super) struct Names {
    keys: Vec<EntryKey>,
    dots: Vec<Dot>,
    /// Which write first put what each puts: another one for what was written anew.
    origins: Vec<dots::Dot>,
    records: Vec<Vec<u8>>,
    /// What each adds to the root of a tree.
    pub(super) items: Vec<u128>,
    /// The model's dot of each actor and counter.
    by_name: Vec<[u8; dots::DOTS_MAX + 1]>,
}

impl Names {
    /// The names of a schedule that begins.
    pub(super) fn new(setting: &Setting) -> Self {
        let key = |key: usize| {
            let keyspace = if setting.lww >> key & 1 == 1 { LWW } else { PLAIN };
            EntryKey::new(keyspace, vec![key as u8])
        };
        Self {
            keys: (0..setting.keys).map(key).collect(),
            dots: Vec::new(),
            origins: Vec::new(),
            records: Vec::new(),
            items: Vec::new(),
            by_name: vec![[NONE; dots::DOTS_MAX + 1]; ACTORS_MAX],
        }
    }

    /// An actor of the model. Its order among others is the same.
    pub(super) const fn actor(number: u8) -> ActorId {
        ActorId::from_bytes([number; ActorId::BYTES])
    }

    /// All keys.
    pub(super) fn keys(&self) -> &[EntryKey] {
        &self.keys
    }

    /// The key of a write.
    pub(super) fn key_of(&self, truth: &Truth, dot: dots::Dot) -> &EntryKey {
        &self.keys[usize::from(truth.write(dot).key)]
    }

    /// The name of a write that was made.
    pub(super) fn dot(&self, dot: dots::Dot) -> Dot {
        self.dots[usize::from(dot)]
    }

    /// Takes note of the name of the next write.
    pub(super) fn add(&mut self, truth: &Truth, dot: dots::Dot, anew: Option<dots::Dot>) -> Dot {
        assert_eq!(usize::from(dot), self.dots.len(), "writes are made one after the other");
        let write = truth.write(dot);
        let name = Dot::new(Self::actor(write.actor), write.counter.into());
        self.dots.push(name);
        self.origins.push(anew.map_or(dot, |of| self.origins[usize::from(of)]));
        self.by_name[usize::from(write.actor)][usize::from(write.counter)] = dot;
        name
    }

    /// Keeps the bytes in which the newest write travels.
    pub(super) fn publish(&mut self, record: &Record) {
        let (bytes, count) =
            batch::encode(std::slice::from_ref(record), usize::MAX, FoldNumber::NONE);
        assert_eq!((count, self.records.len() + 1), (1, self.dots.len()), "one write at a time");
        self.records.push(bytes);
    }

    /// The record of a write, from its bytes.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub(super) fn record(&self, dot: dots::Dot, folds: &Folds) -> Result<Record, DecodeError> {
        let mut records = batch::decode(&self.records[usize::from(dot)], folds)?;
        Ok(records.pop().expect("a batch of one record has one"))
    }

    /// What was put by a write: its number, or that of the write that it was made of anew.
    pub(super) fn value(&self, dot: dots::Dot) -> Bytes {
        Bytes::copy_from_slice(&[self.origins[usize::from(dot)]])
    }

    /// The model's stamps and times as stamps.
    pub(super) fn stamp(number: impl Into<u64>) -> Stamp {
        Stamp(number.into())
    }

    /// The write of a name; `None` if there is none.
    pub(super) fn find(&self, dot: Dot) -> Option<dots::Dot> {
        let row = self.by_name.get(usize::from(dot.actor.as_bytes()[0]))?;
        let found = *row.get(usize::try_from(dot.counter).ok()?)?;
        (found != NONE).then_some(found)
    }

    /// The writes of a clock.
    ///
    /// # Errors
    /// A name that no write has.
    pub(super) fn set(&self, clock: &Clock) -> Result<Dots, Dot> {
        let mut set = Dots::NONE;
        for (actor, track) in clock.tracks() {
            for span in track.spans() {
                for counter in span.first..=span.last {
                    let dot = Dot::new(*actor, counter);
                    set |= Dots::one(self.find(dot).ok_or(dot)?);
                }
            }
        }
        Ok(set)
    }

    /// The writes that a horizon reaches.
    pub(super) fn reached(&self, horizon: &Horizon) -> Dots {
        let mut set = Dots::NONE;
        for last in horizon.dots() {
            for counter in 1..=last.counter {
                if let Some(dot) = self.find(Dot::new(last.actor, counter)) {
                    set |= Dots::one(dot);
                }
            }
        }
        set
    }
}
