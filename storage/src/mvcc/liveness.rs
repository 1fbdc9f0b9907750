//! Which versions count, and which compaction has made worthless.

use proto::Revision;

/// Tells the living versions of one key from the dead, given newest first.
///
/// A version is *dead* when a newer version of its key has a revision at or below the compacted
/// revision, and a tombstone also when its own revision is. No revision that can be read shows a
/// dead version. When it is taken out of memory or of the store is nobody's business but this
/// replica's: what replicas compare, count or export is made of living versions alone.
#[derive(Clone, Copy, Debug)]
pub struct Liveness {
    compacted: Revision,
    /// A version at or below the compacted revision was seen: all that follow are dead.
    base_seen: bool,
}

impl Liveness {
    /// For the versions of one key in a keyspace that is compacted to `compacted`.
    pub fn new(compacted: Revision) -> Self {
        Self { compacted, base_seen: false }
    }

    /// Whether the next version lives.
    pub fn lives(&mut self, revision: Revision, tombstone: bool) -> bool {
        if revision > self.compacted {
            return true;
        }
        !std::mem::replace(&mut self.base_seen, true) && !tombstone
    }

    /// Whether a newer version than the next one has made it dead already.
    pub fn base_seen(&self) -> bool {
        self.base_seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_die_by_their_successor_and_tombstones_by_themselves() {
        let living = |compacted, versions: &[(u64, bool)]| -> Vec<u64> {
            let mut liveness = Liveness::new(Revision(compacted));
            let living = versions
                .iter()
                .filter(|(revision, tombstone)| liveness.lives(Revision(*revision), *tombstone));
            living.map(|(revision, _)| *revision).collect()
        };
        let versions = [(9, false), (7, true), (5, false), (3, false)];
        let cases: [(u64, &[u64]); 7] = [
            (2, &[9, 7, 5, 3]),
            (3, &[9, 7, 5, 3]),
            (4, &[9, 7, 5, 3]),
            (5, &[9, 7, 5]),
            (6, &[9, 7, 5]),
            (7, &[9]),
            (9, &[9]),
        ];
        for (compacted, expected) in cases {
            assert_eq!(living(compacted, &versions), expected, "compacted to {compacted}");
        }
        assert_eq!(living(7, &versions[1..]), Vec::<u64>::new());
    }
}
