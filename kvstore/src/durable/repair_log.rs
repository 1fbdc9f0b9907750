//! A new log in place of a damaged one.

use std::collections::BTreeMap;

use proto::{GroupId, log};
use storage::export::ExportFile;
use storage::wal::{Wal, WalError};

use super::{Damage, DataFiles, next_state_dir};

impl DataFiles {
    /// Replaces the damaged log by one that begins with these exports, which cover everything that this
    /// node may ever have acknowledged. Terms and votes are kept. The damaged log stays beside it.
    ///
    /// The new log knows nothing of group 2, the node's own log: what was in it is as lost as with the disk,
    /// and the next start begins it with nothing.
    ///
    /// # Errors
    /// Those of the log; the damaged one is then still in its place.
    ///
    /// # Panics
    /// When a group's vote is unknown or its export is missing: that is checked before.
    pub fn replace_log(
        &self,
        damage: &Damage,
        exports: &BTreeMap<GroupId, ExportFile>,
    ) -> Result<(), WalError> {
        let mut states = BTreeMap::new();
        for (group, kept) in &damage.groups {
            let header = &exports.get(group).expect("every group was fetched").header;
            let known = kept.hard_state.expect("a node that may have voted is not repaired");
            let term = known.term.max(header.term.get());
            let vote = if term == known.term { known.vote } else { 0 };
            if header.index < kept.highest {
                // Entries that no leader committed, and none can any more.
                let (index, highest) = (header.index, kept.highest);
                tracing::warn!(%group, %index, %highest, "the log ended beyond what the leader holds");
            }
            let (index, last_term) = (header.index.get(), header.term.get());
            let state = log::GroupState {
                hard_state: Some(log::HardState { term, vote, commit: index }),
                conf_state: Some(header.conf_state.clone()),
                start_index: index,
                start_term: last_term,
                state_dir: next_state_dir(*group, &kept.state_dir),
                checkpoint: 0,
                last_index: index,
                last_term,
                change: header.change,
            };
            states.insert(*group, state);
        }
        drop(Wal::replace(self.disk.clone(), &self.dir, self.wal.clone(), states)?);
        Ok(())
    }
}

impl Damage {
    /// Why others may not repair it, if they may not: the node must know what it voted, and there must
    /// be others.
    #[must_use]
    pub fn refusal(&self) -> Option<&'static str> {
        let voted = self.groups.values().all(|group| group.hard_state.is_some());
        if self.groups.is_empty() || !voted {
            return Some(
                "a vote may have been lost with it, so the node must not come back as it is; remove it \
                 from the cluster and add it anew",
            );
        }
        let alone = self.groups.values().any(|group| group.voters < 2);
        alone.then_some("there is no other voter to fetch it from")
    }
}
