//! How much history is kept: when a keyspace is due to be compacted, and to which revision.
//!
//! Compaction is an entry of the log. Whether one is proposed depends on the leader's settings and
//! clock; what it does depends on the entry alone.

use std::collections::{BTreeMap, VecDeque};

use proto::{KeyspaceId, Revision};

use super::keyspace::Keyspace;

/// Revisions of history that are kept where the settings of a keyspace say nothing.
pub const HISTORY_REVISIONS: u64 = 100_000;

/// Most revisions that one proposed compaction passes.
pub const COMPACTION_REVISIONS_MAX: u64 = 10_000;

/// Most versions that one proposed compaction kills, unless a single revision has replaced more:
/// each takes about 1 us of the apply, during which the node does nothing else.
pub const COMPACTION_VERSIONS_MAX: usize = 20_000;

/// History beyond the bound gathers until it is this fraction of what is kept.
const SLACK: u64 = 10;

/// When each keyspace was at which revision, as the leader has seen it.
///
/// Holds a handful of samples for each keyspace that keeps its history for a time. A leader starts
/// with an empty clock, so after a change of leaders history is kept longer, never shorter.
#[derive(Clone, Debug, Default)]
pub struct HistoryClock {
    samples: BTreeMap<KeyspaceId, VecDeque<Sample>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    at_s: u64,
    revision: Revision,
}

impl HistoryClock {
    /// A clock that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the keyspaces that `stays` does not want.
    pub fn retain(&mut self, mut stays: impl FnMut(KeyspaceId) -> bool) {
        self.samples.retain(|id, _| stays(*id));
    }

    /// Notes that a keyspace is at `revision` at the time `now_s`, and returns the revision it was
    /// at `seconds` ago, or a little earlier; `None` when it was not seen then.
    fn note(
        &mut self,
        keyspace: KeyspaceId,
        now_s: u64,
        revision: Revision,
        seconds: u64,
    ) -> Option<Revision> {
        let samples = self.samples.entry(keyspace).or_default();
        if samples.back().is_some_and(|last| last.at_s > now_s) {
            // The clock went back: what was noted says nothing about this time.
            samples.clear();
        }
        let spacing = (seconds / SLACK).max(1);
        if samples.back().is_none_or(|last| last.at_s + spacing <= now_s) {
            samples.push_back(Sample { at_s: now_s, revision });
        }
        let old_enough = |sample: &Sample| sample.at_s.saturating_add(seconds) <= now_s;
        while samples.get(1).is_some_and(old_enough) {
            samples.pop_front();
        }
        samples.front().copied().filter(old_enough).map(|sample| sample.revision)
    }
}

/// The revision to which a keyspace is due to be compacted, at the time `now_s` of any clock.
pub fn due(keyspace: &Keyspace, clock: &mut HistoryClock, now_s: u64) -> Option<Revision> {
    let settings = keyspace.settings();
    let (now, compacted) = (keyspace.revision, keyspace.compacted);
    let target = if settings.history_seconds > 0 {
        clock.note(keyspace.id(), now_s, now, settings.history_seconds)?
    } else {
        let kept = match settings.history_revisions {
            0 => HISTORY_REVISIONS,
            kept => kept,
        };
        let gathered = now.get() - compacted.get();
        if gathered < kept.saturating_add((kept / SLACK).max(1)) {
            return None;
        }
        Revision(now.get() - kept)
    };
    if target <= compacted {
        return None;
    }
    let mut target = target.min(Revision(compacted.get() + COMPACTION_REVISIONS_MAX));
    if let Some(bound) = keyspace.superseded.bound(COMPACTION_VERSIONS_MAX) {
        target = target.min(bound.max(compacted.next()));
    }
    Some(target)
}

#[cfg(test)]
mod tests {
    use super::super::superseded::Replacement;
    use super::*;
    use proto::v1;

    fn keyspace(settings: v1::keyspace::Settings, revision: u64, compacted: u64) -> Keyspace {
        let descriptor = v1::Keyspace { id: 3, settings: Some(settings), ..Default::default() };
        let mut keyspace = Keyspace::new(descriptor);
        (keyspace.revision, keyspace.compacted) = (Revision(revision), Revision(compacted));
        keyspace
    }

    #[test]
    fn a_tenth_more_than_what_is_kept_is_due() {
        let due = |history_revisions, revision, compacted| {
            let settings = v1::keyspace::Settings { history_revisions, ..Default::default() };
            let keyspace = keyspace(settings, revision, compacted);
            due(&keyspace, &mut HistoryClock::new(), 0).map(Revision::get)
        };
        let cases = [
            (0, 110_000, 1, None),
            (0, 110_001, 1, Some(10_001)),
            (0, 510_001, 1, Some(10_001)),
            (0, 510_001, 405_000, None),
            (100, 111, 1, Some(11)),
            (100, 110, 1, None),
            (1, 2, 1, None),
            (1, 3, 1, Some(2)),
            (u64::MAX, 1_000_000, 1, None),
        ];
        for (kept, revision, compacted, expected) in cases {
            assert_eq!(due(kept, revision, compacted), expected, "{kept} {revision} {compacted}");
        }
    }

    #[test]
    fn one_entry_kills_a_bounded_number_of_versions() {
        let settings = v1::keyspace::Settings { history_revisions: 10, ..Default::default() };
        let mut keyspace = keyspace(settings, 100, 1);
        for n in 0..=COMPACTION_VERSIONS_MAX as u64 {
            let revision = Revision(2 + n / 9_000);
            let key = n.to_be_bytes().into();
            let (tombstone, packed, old_value_bytes, old) = (false, false, 1, Revision(1));
            keyspace.superseded.push(Replacement {
                revision,
                tombstone,
                packed,
                old_value_bytes,
                old,
                key,
            });
        }
        let due = |keyspace: &Keyspace| due(keyspace, &mut HistoryClock::new(), 0);
        assert_eq!(due(&keyspace), Some(Revision(3)), "the third revision would be too much");
        keyspace.compacted = Revision(3);
        assert_eq!(due(&keyspace), Some(Revision(4)), "but one revision always passes");
    }

    #[test]
    fn history_is_kept_for_a_time() {
        let settings = v1::keyspace::Settings { history_seconds: 100, ..Default::default() };
        let mut keyspace = keyspace(settings, 1, 1);
        let mut clock = HistoryClock::new();
        let mut proposed = Vec::new();
        for now_s in 0..1_000 {
            keyspace.revision = Revision(1 + now_s * 2);
            if let Some(target) = due(&keyspace, &mut clock, 5_000 + now_s) {
                assert!(target <= Revision(1 + now_s.saturating_sub(100) * 2), "at {now_s}");
                assert!(target.get() + 2 * 2 * 100 / SLACK > 1 + (now_s - 100) * 2, "at {now_s}");
                keyspace.compacted = target;
                proposed.push(now_s);
            }
        }
        assert!((80..=100).contains(&proposed.len()), "a tenth at a time: {proposed:?}");
        assert!(clock.samples[&KeyspaceId(3)].len() <= 12);
        assert_eq!(due(&keyspace, &mut clock, 10), None, "a clock that went back proposes nothing");
        clock.retain(|_| false);
        assert!(clock.samples.is_empty());
    }
}
