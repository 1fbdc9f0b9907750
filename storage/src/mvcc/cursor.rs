//! Walking over keys in order, through layers and store at once.

use std::iter::Peekable;

use bytes::Bytes;
use proto::{KeyspaceId, Revision};

use super::held::Held;
use super::item;
use super::key::{self, VersionKey};
use super::layer::{Chain, Layer};
use super::version::{StoredVersion, Version, damaged};
use super::view::{Found, Horizon, Layers};
use crate::state::{Scan, StateError, StateStore};

/// Records that a walk passes over one by one before it seeks instead: a seek costs about as much
/// as this many steps.
const SKIPPED_RECORDS_MAX: usize = 16;

/// Iterator over keys, each with its newest version that is not newer than some revision; `None`
/// for a key that has no such version, so that each step is short.
///
/// Ends after the first error.
pub struct Keys<'a> {
    active: Peekable<LayerKeys<'a>>,
    frozen: Peekable<LayerKeys<'a>>,
    stored: StoredKeys<'a>,
    /// What `stored` gave last, if it was not used yet.
    peeked: Option<Result<(Bytes, Option<Record>), StateError>>,
    returned: usize,
}

type LayerKeys<'a> = Box<dyn Iterator<Item = (&'a Bytes, Option<&'a Version>)> + 'a>;

impl<'a> Keys<'a> {
    /// The keys in `[from, to)` of `layers` at revision `at`; none when `to` is not behind `from`.
    pub fn new(
        layers: &'a Layers,
        keyspace: KeyspaceId,
        from: &[u8],
        to: &[u8],
        at: Revision,
    ) -> Self {
        let in_layer = |layer: Option<&'a Layer>| -> LayerKeys<'a> {
            let Some(layer) = layer.filter(|_| to.is_empty() || from < to) else {
                return Box::new(std::iter::empty());
            };
            let read = move |(key, chain): (&'a Bytes, &'a Chain)| (key, chain.at(at));
            Box::new(layer.range(keyspace, from, to).map(read))
        };
        Self {
            active: in_layer(Some(&layers.active)).peekable(),
            frozen: in_layer(layers.frozen.as_deref()).peekable(),
            stored: StoredKeys(Walk::new(layers, keyspace, from, to, at)),
            peeked: None,
            returned: 0,
        }
    }

    /// How much was looked at: keys that were returned, and records of the store.
    pub fn looked(&self) -> usize {
        self.returned + self.stored.0.looked
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = Result<(Bytes, Option<Found<'a>>), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.peeked.is_none() {
            self.peeked = self.stored.next();
        }
        let stored = match &self.peeked {
            Some(Err(_)) => return self.peeked.take()?.err().map(Err),
            Some(Ok((key, _))) => Some(key),
            None => None,
        };
        let active = self.active.peek().map(|(key, _)| *key);
        let frozen = self.frozen.peek().map(|(key, _)| *key);
        let smallest = [active, frozen, stored].into_iter().flatten().min()?.clone();
        self.returned += 1;
        // The topmost source that has a version wins; the others step over the key.
        let from_active = self.active.next_if(|(key, _)| **key == smallest);
        let from_frozen = self.frozen.next_if(|(key, _)| **key == smallest);
        let in_layers = [from_active, from_frozen].into_iter().flatten();
        let newest = in_layers.filter_map(|(_, version)| version).next();
        let from_stored = self.peeked.take_if(|item| matches!(item, Ok((k, _)) if *k == smallest));
        if let Some(version) = newest {
            // What the store holds of the key may be dead, and half deleted by now: it is not read.
            return Some(Ok((smallest, Some(Found::Layer(version)))));
        }
        let record = from_stored.and_then(Result::ok).and_then(|(_, record)| record);
        let stored = record.map(|record| self.stored.read(record)).transpose();
        Some(stored.map(|version| (smallest, version.flatten().map(Found::Stored))))
    }
}

/// Records of a keyspace in the store, one after the other.
struct Walk<'a> {
    store: &'a dyn StateStore,
    horizon: &'a Horizon,
    /// `None` at the end.
    scan: Option<Scan<'a>>,
    /// A record that was read and belongs to what comes next.
    pending: Option<Record>,
    to: Bytes,
    at: Revision,
    looked: usize,
}

struct Record {
    key: Bytes,
    found: VersionKey,
    stored: Bytes,
}

impl<'a> Walk<'a> {
    fn new(layers: &'a Layers, keyspace: KeyspaceId, from: &[u8], to: &[u8], at: Revision) -> Self {
        let (from, to) = key::bounds(keyspace, from, to);
        let horizon = layers.horizon.of(keyspace);
        Self {
            store: &*layers.store,
            horizon: &layers.horizon,
            scan: horizon.map(|_| layers.store.scan(&from, &to)),
            pending: None,
            to,
            at: horizon.map_or(at, |horizon| horizon.min(at)),
            looked: 0,
        }
    }

    fn next(&mut self) -> Result<Option<Record>, StateError> {
        if let Some(pending) = self.pending.take() {
            return Ok(Some(pending));
        }
        let Some((key, stored)) = self.scan.as_mut().and_then(Iterator::next).transpose()? else {
            return Ok(None);
        };
        self.looked += 1;
        let found = VersionKey::parse(&key).ok_or_else(|| StateError::Damaged {
            why: "a key in a keyspace is too short".into(),
        })?;
        Ok(Some(Record { key, found, stored }))
    }

    fn seek(&mut self, from: &[u8]) {
        self.scan = Some(self.store.scan(from, &self.to));
    }

    /// Passes over records until `wanted`, seeking to `target` when there are many.
    fn skip_until(
        &mut self,
        target: &Bytes,
        wanted: impl Fn(&VersionKey) -> bool,
    ) -> Result<(), StateError> {
        for _ in 0..=SKIPPED_RECORDS_MAX {
            let Some(record) = self.next()? else { return Ok(()) };
            if wanted(&record.found) {
                self.pending = Some(record);
                return Ok(());
            }
        }
        self.seek(target);
        Ok(())
    }

    /// The versions whose headers are in `record`.
    fn decode(&self, record: Record) -> Result<Held, StateError> {
        let VersionKey { prefix, revision, chunk } = record.found;
        if chunk != 0 {
            return Err(damaged(&prefix, revision, "has lost its header"));
        }
        let held = Held::decode(prefix, revision, item::open(&record.key, record.stored)?)?;
        self.horizon.check(&held)?;
        Ok(held)
    }

    /// Ends the walk after an error or at its end.
    fn fused<T>(&mut self, next: Result<Option<T>, StateError>) -> Option<Result<T, StateError>> {
        let next = next.transpose();
        if !matches!(next, Some(Ok(_))) {
            self.scan = None;
        }
        next
    }
}

/// Iterator over the keys in the store, each with the first record of what is visible of it and not
/// newer than some revision; [`StoredKeys::read`] finds the newest version in that.
struct StoredKeys<'a>(Walk<'a>);

impl StoredKeys<'_> {
    /// The version in a record; ends the walk after an error.
    fn read(&mut self, record: Record) -> Result<Option<StoredVersion>, StateError> {
        let read = self.0.decode(record);
        if read.is_err() {
            (self.0.scan, self.0.pending) = (None, None);
        }
        Ok(read?.at(self.0.at))
    }

    fn next_key(&mut self) -> Result<Option<(Bytes, Option<Record>)>, StateError> {
        let walk = &mut self.0;
        let Some(first) = walk.next()? else { return Ok(None) };
        let (prefix, revision, at) = (first.found.prefix.clone(), first.found.revision, walk.at);
        let key =
            prefix.user_key().ok_or_else(|| damaged(&prefix, revision, "has no valid key"))?;
        walk.pending = Some(first);
        walk.skip_until(&prefix.version(at, 0), |found| {
            found.prefix != prefix || found.revision <= at
        })?;
        let record = walk.next()?;
        if !record.as_ref().is_some_and(|record| record.found.prefix == prefix) {
            walk.pending = record;
            return Ok(Some((key, None)));
        }
        walk.skip_until(&prefix.end(), |found| found.prefix != prefix)?;
        Ok(Some((key, record)))
    }
}

impl Iterator for StoredKeys<'_> {
    type Item = Result<(Bytes, Option<Record>), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_key();
        self.0.fused(next)
    }
}

/// Iterator over every version in the store that is visible, the dead included, by key, newest
/// first.
///
/// Ends after the first error.
pub struct StoredVersions<'a> {
    walk: Walk<'a>,
    /// The versions that are left of the item that was read last.
    held: Box<dyn Iterator<Item = StoredVersion>>,
}

impl<'a> StoredVersions<'a> {
    /// Every version of the keyspace.
    pub fn all(layers: &'a Layers, keyspace: KeyspaceId) -> Self {
        let walk = Walk::new(layers, keyspace, &[], &[], Revision(u64::MAX));
        Self { walk, held: Box::new(std::iter::empty()) }
    }

    fn next_version(&mut self) -> Result<Option<StoredVersion>, StateError> {
        loop {
            if let Some(version) = self.held.next() {
                return Ok(Some(version));
            }
            let Some(record) = self.walk.next()? else { return Ok(None) };
            let visible = record.found.revision <= self.walk.at;
            if visible && record.found.chunk == 0 {
                self.held = Box::new(self.walk.decode(record)?.versions());
            }
        }
    }
}

impl Iterator for StoredVersions<'_> {
    type Item = Result<StoredVersion, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_version();
        self.walk.fused(next)
    }
}
