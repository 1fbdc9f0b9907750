//! Versions in memory that no checkpoint covers yet, sorted by keyspace, key and revision.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::ops::Bound;

use bytes::Bytes;
use proto::{KeyspaceId, Revision};

use super::version::Version;

/// What one version costs besides its key and value, roughly.
const VERSION_OVERHEAD_BYTES: usize = 128;

/// Versions of keys, all of them newer than what lies below the layer.
#[derive(Debug, Default)]
pub struct Layer {
    keyspaces: BTreeMap<KeyspaceId, Keys>,
    bytes: usize,
}

/// The keys of one keyspace in a layer.
#[derive(Debug, Default)]
struct Keys {
    chains: BTreeMap<Bytes, Chain>,
    bytes: usize,
}

/// The versions of one key; never empty, revisions rise strictly.
///
/// The newest stands apart: most keys have one version in a layer, and it is the one that is read.
#[derive(Debug)]
pub struct Chain {
    newest: Version,
    /// Ascending.
    older: VecDeque<Version>,
    /// When the first of them was written, something of the key lay below the layer.
    below: bool,
}

impl Chain {
    /// The newest version that is not newer than `at`.
    pub fn at(&self, at: Revision) -> Option<&Version> {
        if self.newest.head.revision <= at {
            return Some(&self.newest);
        }
        let count = self.older.partition_point(|version| version.head.revision <= at);
        self.older.get(count.checked_sub(1)?)
    }

    /// All versions, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Version> {
        std::iter::once(&self.newest).chain(self.older.iter().rev())
    }

    /// The version with this position, counted from the oldest.
    pub fn nth(&self, position: usize) -> Option<&Version> {
        if position == self.older.len() { Some(&self.newest) } else { self.older.get(position) }
    }

    /// The versions from this position on that a newer one of the chain replaces, oldest first.
    pub fn replaced(&self, position: usize) -> impl Iterator<Item = &Version> {
        self.older.iter().skip(position)
    }

    fn push(&mut self, version: Version) {
        let (last, next) = (self.newest.head.revision, version.head.revision);
        assert!(last < next, "revision {next} of a key follows its revision {last}");
        self.older.push_back(std::mem::replace(&mut self.newest, version));
    }

    fn oldest(&self) -> &Version {
        self.older.front().unwrap_or(&self.newest)
    }
}

impl Layer {
    /// Adds the version of a key. `below`: something of the key, be it dead, lies below the layer.
    ///
    /// # Panics
    /// When the layer holds the same or a newer revision of the key.
    pub fn push(&mut self, keyspace: KeyspaceId, key: Bytes, version: Version, below: bool) {
        let keys = self.keyspaces.entry(keyspace).or_default();
        let bytes = cost(&key, &version);
        keys.bytes += bytes;
        self.bytes += bytes;
        match keys.chains.entry(key) {
            Entry::Occupied(chain) => chain.into_mut().push(version),
            Entry::Vacant(place) => {
                place.insert(Chain { newest: version, older: VecDeque::new(), below });
            }
        }
    }

    /// Frees the versions of a key below `revision`, which are dead, and the one at `revision` too
    /// if it is a tombstone; a tombstone with something below the layer stays, for it hides that.
    ///
    /// Returns whether a version at `revision` stays.
    pub fn bury(
        &mut self,
        keyspace: KeyspaceId,
        key: &[u8],
        revision: Revision,
        tombstone: bool,
    ) -> bool {
        let Some(keys) = self.keyspaces.get_mut(&keyspace) else { return false };
        let Some(chain) = keys.chains.get_mut(key) else { return false };
        let mut freed = 0;
        while chain.oldest().head.revision < revision {
            let Some(dead) = chain.older.pop_front() else { break };
            freed += cost(key, &dead);
        }
        let here = chain.oldest().head.revision == revision;
        let goes = here && tombstone && !chain.below;
        if goes {
            freed += cost(key, chain.oldest());
            if chain.older.pop_front().is_none() {
                keys.chains.remove(key);
            }
        }
        keys.bytes -= freed;
        self.bytes -= freed;
        here && !goes
    }

    /// Takes everything of a keyspace out.
    pub fn take(&mut self, keyspace: KeyspaceId) -> Self {
        let Some(keys) = self.keyspaces.remove(&keyspace) else { return Self::default() };
        let bytes = keys.bytes;
        self.bytes -= bytes;
        Self { keyspaces: BTreeMap::from([(keyspace, keys)]), bytes }
    }

    /// Frees some of its keys with all their versions, in order; true when none is left.
    ///
    /// Freeing a whole layer at once takes some 2 us per version.
    pub fn shed(&mut self, keys: usize) -> bool {
        for _ in 0..keys {
            let Some(mut keyspace) = self.keyspaces.first_entry() else { break };
            if keyspace.get_mut().chains.pop_first().is_none() {
                keyspace.remove();
            }
        }
        self.keyspaces.is_empty()
    }

    /// Memory it takes, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The versions of `key`, with the key as it is stored.
    pub fn chain(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<(&Bytes, &Chain)> {
        self.keyspaces.get(&keyspace)?.chains.get_key_value(key)
    }

    /// The keys in `[from, to)` in order; empty `to` means to the end of the keyspace.
    ///
    /// # Panics
    /// When `from` lies behind a `to` that is not empty.
    pub fn range<'a>(
        &'a self,
        keyspace: KeyspaceId,
        from: &[u8],
        to: &[u8],
    ) -> impl Iterator<Item = (&'a Bytes, &'a Chain)> + use<'a> {
        let to = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
        let keys = self.keyspaces.get(&keyspace);
        let range = |keys: &'a Keys| keys.chains.range::<[u8], _>((Bound::Included(from), to));
        keys.map(range).into_iter().flatten()
    }

    /// The first key behind `after`, over all keyspaces; the very first without `after`.
    pub fn key_after(&self, after: Option<&(KeyspaceId, Bytes)>) -> Option<(KeyspaceId, Bytes)> {
        let (keyspaces, mut from) = match after {
            None => (self.keyspaces.range(..), None),
            Some((keyspace, key)) => (self.keyspaces.range(*keyspace..), Some((keyspace, key))),
        };
        for (id, keys) in keyspaces {
            let start = match from.take_if(|(keyspace, _)| *keyspace == id) {
                Some((_, key)) => Bound::Excluded(&key[..]),
                None => Bound::Unbounded,
            };
            if let Some((key, _)) = keys.chains.range::<[u8], _>((start, Bound::Unbounded)).next() {
                return Some((*id, key.clone()));
            }
        }
        None
    }
}

fn cost(key: &[u8], version: &Version) -> usize {
    key.len() + version.value.len() + VERSION_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::super::version::Head;
    use super::*;
    use proto::LogIndex;

    fn version(revision: u64) -> Version {
        let head = Head::put(None, Revision(revision), LogIndex(revision), b"v");
        Version { head, value: Bytes::from_static(b"v") }
    }

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn layer() -> Layer {
        let mut layer = Layer::default();
        for (keyspace, name, revision) in
            [(1, "b", 2), (1, "a", 3), (1, "b", 5), (3, "a", 2), (1, "b", 9)]
        {
            layer.push(KeyspaceId(keyspace), key(name), version(revision), false);
        }
        layer
    }

    #[test]
    fn a_chain_is_read_at_any_revision() {
        let layer = layer();
        let (_, chain) = layer.chain(KeyspaceId(1), b"b").unwrap();
        let found = |at| chain.at(Revision(at)).map(|version| version.head.revision.get());
        let cases =
            [(1, None), (2, Some(2)), (4, Some(2)), (5, Some(5)), (8, Some(5)), (9, Some(9))];
        for (at, expected) in cases {
            assert_eq!(found(at), expected, "at {at}");
        }
        let all: Vec<u64> = chain.newest_first().map(|v| v.head.revision.get()).collect();
        assert_eq!(all, [9, 5, 2]);
        let by_position: Vec<u64> =
            (0..).map_while(|n| chain.nth(n)).map(|v| v.head.revision.get()).collect();
        assert_eq!(by_position, [2, 5, 9]);
        let replaced: Vec<u64> = chain.replaced(1).map(|v| v.head.revision.get()).collect();
        assert_eq!(replaced, [5], "the newest stands apart");
    }

    #[test]
    fn keys_are_walked_in_order_across_keyspaces() {
        let layer = layer();
        let mut walked = Vec::new();
        let mut last = None;
        while let Some(next) = layer.key_after(last.as_ref()) {
            walked.push(next.clone());
            last = Some(next);
        }
        let expected =
            [(KeyspaceId(1), key("a")), (KeyspaceId(1), key("b")), (KeyspaceId(3), key("a"))];
        assert_eq!(walked, expected);
        let after_absent = layer.key_after(Some(&(KeyspaceId(2), key("z"))));
        assert_eq!(after_absent, Some((KeyspaceId(3), key("a"))));
    }

    #[test]
    fn ranges_stay_in_their_keyspace() {
        let layer = layer();
        let keys = |keyspace, from: &str, to: &str| -> Vec<Bytes> {
            let range = layer.range(KeyspaceId(keyspace), from.as_bytes(), to.as_bytes());
            range.map(|(key, _)| key.clone()).collect()
        };
        assert_eq!(keys(1, "", ""), [key("a"), key("b")]);
        assert_eq!(keys(1, "", "b"), [key("a")]);
        assert_eq!(keys(1, "a\0", ""), [key("b")]);
        assert_eq!(keys(2, "", ""), Vec::<Bytes>::new());
    }

    #[test]
    fn a_layer_is_shed_bit_by_bit() {
        let mut layer = layer();
        let mut left = Vec::new();
        for _ in 0..4 {
            left.push(layer.key_after(None));
            layer.shed(2);
        }
        assert_eq!(left[0], Some((KeyspaceId(1), key("a"))));
        assert_eq!(left[1], Some((KeyspaceId(3), key("a"))), "both keys of keyspace 1 are gone");
        assert_eq!(left[3], None);
        assert!(layer.shed(1));
    }

    fn tombstone(revision: u64) -> Version {
        let head = Head::delete(Revision(revision), LogIndex(revision));
        Version { head, value: Bytes::new() }
    }

    fn revisions(layer: &Layer) -> Vec<u64> {
        let chain = layer.chain(KeyspaceId(1), b"k");
        let versions = chain.into_iter().flat_map(|(_, chain)| chain.newest_first());
        versions.map(|version| version.head.revision.get()).collect()
    }

    #[test]
    fn the_dead_are_buried_and_tombstones_with_them_unless_they_hide_something() {
        for below in [false, true] {
            let mut layer = Layer::default();
            layer.push(KeyspaceId(1), key("k"), version(2), below);
            layer.push(KeyspaceId(1), key("k"), version(3), true);
            layer.push(KeyspaceId(1), key("k"), tombstone(5), true);
            let full = layer.bytes();
            assert!(layer.bury(KeyspaceId(1), b"k", Revision(3), false));
            assert_eq!(revisions(&layer), [5, 3]);
            assert!(layer.bytes() < full);
            assert_eq!(layer.bury(KeyspaceId(1), b"k", Revision(5), true), below);
            let kept: &[u64] = if below { &[5] } else { &[] };
            assert_eq!(revisions(&layer), kept);
            assert_eq!(layer.bytes() == 0, !below);
            layer.push(KeyspaceId(1), key("k"), version(7), below);
            layer.push(KeyspaceId(1), key("k"), version(8), below);
            assert!(layer.bury(KeyspaceId(1), b"k", Revision(8), false));
            assert_eq!(revisions(&layer), [8], "a tombstone that hides nothing more is gone");
            assert!(!layer.bury(KeyspaceId(1), b"other", Revision(8), true));
        }
    }

    #[test]
    fn a_keyspace_is_taken_out_whole() {
        let mut layer = layer();
        let all = layer.bytes();
        let taken = layer.take(KeyspaceId(1));
        assert_eq!(taken.bytes() + layer.bytes(), all);
        assert!(taken.chain(KeyspaceId(1), b"b").is_some());
        assert_eq!(layer.key_after(None), Some((KeyspaceId(3), key("a"))));
        assert_eq!(layer.take(KeyspaceId(2)).bytes(), 0);
    }

    #[test]
    #[should_panic(expected = "revision 9 of a key follows its revision 9")]
    fn a_revision_holds_one_version_of_a_key() {
        layer().push(KeyspaceId(1), key("b"), version(9), false);
    }
}
