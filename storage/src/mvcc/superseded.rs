//! Which versions die when a keyspace is compacted.

use std::collections::VecDeque;

use proto::Revision;

/// Versions of a keyspace that a newer one has replaced, in the order of the newer revision.
///
/// A compaction finds what it kills by reading this list from its front, so it never searches the
/// store. It takes about 90 bytes and the key for each version that history keeps; the keys are
/// copies, for the originals share their memory with whole log entries.
#[derive(Debug, Default)]
pub struct Superseded(VecDeque<Replacement>);

/// A version that was put, and what came after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// Revision of the newer version: when this is compacted, the older one dies.
    pub revision: Revision,
    /// The newer version is a tombstone and dies at the same moment.
    pub tombstone: bool,
    /// The older version may lie in a pack, for it was replaced in the layer it was written in. If
    /// not, and if it lies in the store, it stands there alone.
    pub packed: bool,
    /// Length of the value of the older version.
    pub old_value_bytes: u32,
    /// Revision of the older version.
    pub old: Revision,
    /// Their key.
    pub key: Box<[u8]>,
}

impl Superseded {
    /// Builds the list from replacements in any order.
    pub fn from_unsorted(mut replacements: Vec<Replacement>) -> Self {
        replacements.sort_by_key(|replacement| replacement.revision);
        Self(replacements.into())
    }

    /// Adds the newest replacement.
    ///
    /// # Panics
    /// When it is older than the last one.
    pub fn push(&mut self, replacement: Replacement) {
        let last = self.0.back().map(|last| last.revision);
        assert!(last <= Some(replacement.revision), "revisions of a keyspace rise");
        self.0.push_back(replacement);
    }

    /// Takes the oldest replacement, if a compaction to `compacted` covers it.
    pub fn pop(&mut self, compacted: Revision) -> Option<Replacement> {
        self.0.front().filter(|first| first.revision <= compacted)?;
        self.0.pop_front()
    }

    /// The highest revision up to which compaction kills at most `count` replaced versions; `None`
    /// when there are no more than that.
    pub fn bound(&self, count: usize) -> Option<Revision> {
        self.0.get(count).map(|beyond| Revision(beyond.revision.get() - 1))
    }

    /// Frees the newest `count`.
    pub fn shed(&mut self, count: usize) {
        self.0.truncate(self.0.len().saturating_sub(count));
    }

    /// Number of replaced versions that are kept.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replacement(revision: u64) -> Replacement {
        let key = revision.to_be_bytes().into();
        let (revision, old) = (Revision(revision), Revision(revision - 1));
        let (tombstone, packed) = (false, false);
        Replacement { revision, tombstone, packed, old_value_bytes: 0, old, key }
    }

    #[test]
    fn a_compaction_takes_what_it_covers() {
        let all = [5, 3, 9, 5].map(replacement);
        let mut superseded = Superseded::from_unsorted(all.into());
        superseded.push(replacement(9));
        assert_eq!(superseded.bound(5), None);
        assert_eq!(superseded.bound(3), Some(Revision(8)));
        assert_eq!(superseded.bound(2), Some(Revision(4)), "a revision dies as a whole");
        let taken: Vec<u64> = std::iter::from_fn(|| superseded.pop(Revision(8)))
            .map(|replacement| replacement.revision.get())
            .collect();
        assert_eq!(taken, [3, 5, 5]);
        assert_eq!(superseded.len(), 2);
        superseded.shed(1);
        assert_eq!(superseded.len(), 1);
        superseded.shed(3);
        assert_eq!(superseded.len(), 0);
    }

    #[test]
    #[should_panic(expected = "revisions of a keyspace rise")]
    fn replacements_arrive_in_order() {
        let mut superseded = Superseded::from_unsorted(vec![replacement(5)]);
        superseded.push(replacement(4));
    }
}
