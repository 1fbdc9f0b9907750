//! Walking over keys in order, through layers and store at once.

use std::iter::Peekable;

use bytes::Bytes;
use proto::{KeyspaceId, Revision};

use super::key::{self, KeyPrefix, VersionKey};
use super::layer::{Chain, Layer};
use super::version::{StoredVersion, Version, damaged};
use super::view::{Found, Horizon, Layers};
use crate::state::{Scan, StateError, StateStore};

/// Records that a walk passes over one by one before it seeks instead: a seek costs about as much
/// as this many steps.
const SKIPPED_RECORDS_MAX: usize = 16;

/// Iterator over keys, each with its newest version that is not newer than some revision.
///
/// Ends after the first error.
pub struct Keys<'a> {
    active: Peekable<LayerKeys<'a>>,
    frozen: Peekable<LayerKeys<'a>>,
    stored: Peekable<StoredKeys<'a>>,
}

type LayerKeys<'a> = Box<dyn Iterator<Item = (&'a Bytes, &'a Version)> + 'a>;

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
            let read = move |(key, chain): (&'a Bytes, &'a Chain)| Some((key, chain.at(at)?));
            Box::new(layer.range(keyspace, from, to).filter_map(read))
        };
        Self {
            active: in_layer(Some(&layers.active)).peekable(),
            frozen: in_layer(layers.frozen.as_deref()).peekable(),
            stored: StoredKeys(StoredVersions::range(layers, keyspace, from, to, at)).peekable(),
        }
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = Result<(Bytes, Found<'a>), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(Err(_)) = self.stored.peek() {
            let failed = self.stored.next();
            return failed.map(|item| item.map(|(key, stored)| (key, Found::Stored(stored))));
        }
        let stored = self.stored.peek().and_then(|item| item.as_ref().ok()).map(|(key, _)| key);
        let active = self.active.peek().map(|(key, _)| *key);
        let frozen = self.frozen.peek().map(|(key, _)| *key);
        let smallest = [active, frozen, stored].into_iter().flatten().min()?.clone();
        // The topmost source that has the key wins; the others step over it.
        let from_stored =
            self.stored.next_if(|item| matches!(item, Ok((key, _)) if *key == smallest));
        let from_frozen = self.frozen.next_if(|(key, _)| **key == smallest);
        let from_active = self.active.next_if(|(key, _)| **key == smallest);
        if let Some((_, version)) = from_active.or(from_frozen) {
            return Some(Ok((smallest, Found::Layer(version))));
        }
        from_stored.map(|item| item.map(|(key, stored)| (key, Found::Stored(stored))))
    }
}

/// Iterator over the newest stored version of each key, with the key decoded.
struct StoredKeys<'a>(StoredVersions<'a>);

impl Iterator for StoredKeys<'_> {
    type Item = Result<(Bytes, StoredVersion), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let stored = self.0.next()?;
        Some(stored.and_then(|stored| match stored.prefix.user_key() {
            Some(key) => Ok((key, stored)),
            None => Err(damaged(&stored.prefix, stored.head.revision, "has no valid key")),
        }))
    }
}

/// Iterator over versions in the store that are visible and not newer than some revision, by key,
/// newest first; of each key all of them or only the newest.
///
/// Ends after the first error.
pub struct StoredVersions<'a> {
    store: &'a dyn StateStore,
    horizon: &'a Horizon,
    /// `None` at the end.
    scan: Option<Scan<'a>>,
    to: Bytes,
    at: Revision,
    only_newest: bool,
    /// Key of the version returned last.
    last: Option<KeyPrefix>,
}

impl<'a> StoredVersions<'a> {
    /// The newest version of each key in `[from, to)`.
    fn range(
        layers: &'a Layers,
        keyspace: KeyspaceId,
        from: &[u8],
        to: &[u8],
        at: Revision,
    ) -> Self {
        let (from, to) = key::bounds(keyspace, from, to);
        let horizon = layers.horizon.of(keyspace);
        Self {
            store: &*layers.store,
            horizon: &layers.horizon,
            scan: horizon.map(|_| layers.store.scan(&from, &to)),
            to,
            at: horizon.map_or(at, |horizon| horizon.min(at)),
            only_newest: true,
            last: None,
        }
    }

    /// Every version of the keyspace.
    pub fn all(layers: &'a Layers, keyspace: KeyspaceId) -> Self {
        let range = Self::range(layers, keyspace, &[], &[], Revision(u64::MAX));
        Self { only_newest: false, ..range }
    }

    fn seek(&mut self, from: &[u8]) {
        self.scan = Some(self.store.scan(from, &self.to));
    }

    fn next_version(&mut self) -> Result<Option<StoredVersion>, StateError> {
        let mut skipped = 0;
        while let Some((state_key, record)) =
            self.scan.as_mut().and_then(Iterator::next).transpose()?
        {
            let Some(found) = VersionKey::parse(&state_key) else {
                return Err(StateError::Damaged { why: "a key in a keyspace is too short".into() });
            };
            let known = self.last.as_ref() == Some(&found.prefix);
            let too_new = found.revision > self.at;
            let wanted = !too_new && (!known || !self.only_newest);
            if wanted && found.chunk == 0 {
                let stored = StoredVersion::decode(found.prefix, found.revision, record)?;
                self.horizon.check(&stored.prefix, &stored.head)?;
                self.last = Some(stored.prefix.clone());
                return Ok(Some(stored));
            }
            if !too_new && !known {
                return Err(damaged(&found.prefix, found.revision, "has lost its header"));
            }
            skipped += 1;
            if skipped > SKIPPED_RECORDS_MAX {
                skipped = 0;
                if too_new {
                    self.seek(&found.prefix.version(self.at, 0));
                } else if self.only_newest {
                    self.seek(&found.prefix.end());
                } else {
                    self.seek(&found.prefix.version(found.revision, u16::MAX));
                }
            }
        }
        Ok(None)
    }
}

impl Iterator for StoredVersions<'_> {
    type Item = Result<StoredVersion, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_version().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.scan = None;
        }
        next
    }
}
