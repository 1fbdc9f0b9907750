//! What must hold at every moment, watched while a seed runs.
//!
//! - *State machine safety*: no index of a group ever gets two different committed entries, on whatever
//!   node and in whatever life (Raft thesis, figure 3.2). The watch reads what each node appends to
//!   its log and what it says is committed, so it knows the whole committed log although nodes free
//!   theirs.
//! - Nodes that have applied the same index show the same state and count the same voters.
//! - A term has one leader, and none that was removed before.
//! - Within a life, what is committed and applied never falls.

use std::collections::{BTreeMap, BTreeSet};

use proto::log::frame::Body;
use proto::{GroupId, NodeId, log};

/// The log of one group as one node has written it.
#[derive(Debug, Default)]
struct Shadow {
    entries: BTreeMap<u64, log::Entry>,
    /// Up to here it was compared with what is committed.
    compared: u64,
}

/// Everything that is watched.
#[derive(Debug, Default)]
pub struct Watch {
    shadows: BTreeMap<(NodeId, GroupId), Shadow>,
    committed: BTreeMap<GroupId, BTreeMap<u64, log::Entry>>,
    digests: BTreeMap<u64, ([u8; 32], NodeId)>,
    voters: BTreeMap<u64, (Vec<NodeId>, NodeId)>,
    leaders: BTreeMap<u64, NodeId>,
    removed: BTreeSet<NodeId>,
    /// Committed and applied index by node and start.
    positions: BTreeMap<(NodeId, u64), (u64, u64)>,
}

impl Watch {
    /// A node appends these frames to its log.
    ///
    /// # Errors
    /// What is violated.
    pub fn appended(&mut self, node: NodeId, frames: &[log::Frame]) -> Result<(), String> {
        for frame in frames {
            let group = GroupId(frame.group);
            match &frame.body {
                Some(Body::Entries(entries)) => self.wrote(node, group, &entries.entries),
                Some(Body::Installed(installed)) => {
                    let shadow = self.shadows.entry((node, group)).or_default();
                    *shadow = Shadow { entries: BTreeMap::new(), compared: installed.index };
                }
                Some(Body::HardState(hard_state)) => {
                    self.commits(node, group, hard_state.commit)?
                }
                Some(
                    Body::GroupState(_)
                    | Body::CheckpointDone(_)
                    | Body::LogStart(_)
                    | Body::StateMoved(_),
                )
                | None => {}
            }
        }
        Ok(())
    }

    fn wrote(&mut self, node: NodeId, group: GroupId, entries: &[log::Entry]) {
        let Some(first) = entries.first() else { return };
        let shadow = self.shadows.entry((node, group)).or_default();
        drop(shadow.entries.split_off(&first.index));
        // What was committed before may have been lost by a crash, and come again.
        shadow.compared = shadow.compared.min(first.index.saturating_sub(1));
        shadow.entries.extend(entries.iter().map(|entry| (entry.index, entry.clone())));
    }

    fn commits(&mut self, node: NodeId, group: GroupId, commit: u64) -> Result<(), String> {
        let shadow = self.shadows.entry((node, group)).or_default();
        if commit <= shadow.compared {
            return Ok(());
        }
        let committed = self.committed.entry(group).or_default();
        for (index, entry) in shadow.entries.range(shadow.compared + 1..=commit) {
            let known = committed.entry(*index).or_insert_with(|| entry.clone());
            if known != entry {
                return Err(format!(
                    "{node} commits another entry at {index} of group {group} than was committed \
                     before: terms {} and {}",
                    entry.term, known.term
                ));
            }
        }
        shadow.compared = commit;
        Ok(())
    }

    /// The highest index of the data group at which this node has written what is committed: whatever
    /// repairs it must cover that.
    pub fn owed(&self, node: NodeId) -> u64 {
        let Some(committed) = self.committed.get(&GroupId::DATA) else { return 0 };
        let Some(shadow) = self.shadows.get(&(node, GroupId::DATA)) else { return 0 };
        let same = |(index, entry): &(&u64, &log::Entry)| committed.get(index) == Some(*entry);
        shadow.entries.iter().rev().find(same).map_or(0, |(index, _)| *index)
    }

    /// The log of a node is another one from here on.
    pub fn forget(&mut self, node: NodeId) {
        self.shadows.retain(|(of, _), _| *of != node);
    }

    /// The committed entries of the data group up to `to`, all of them.
    ///
    /// # Errors
    /// The first index that no node ever said to be committed.
    pub fn log_up_to(&self, to: u64) -> Result<Vec<log::Entry>, String> {
        let empty = BTreeMap::new();
        let committed = self.committed.get(&GroupId::DATA).unwrap_or(&empty);
        let entry = |index| {
            let found = committed.get(&index).cloned();
            found.ok_or_else(|| format!("entry {index} was applied and never committed"))
        };
        (1..=to).map(entry).collect()
    }

    /// A node shows this state at this index.
    ///
    /// # Errors
    /// Another one shows another state.
    pub fn shows(&mut self, node: NodeId, applied: u64, digest: [u8; 32]) -> Result<(), String> {
        let (known, first) = *self.digests.entry(applied).or_insert((digest, node));
        if known == digest {
            return Ok(());
        }
        Err(format!("nodes {first} and {node} show different states at index {applied}"))
    }

    /// A node counts these voters at this index.
    ///
    /// # Errors
    /// Another one counts others.
    pub fn consists(
        &mut self,
        node: NodeId,
        applied: u64,
        voters: &[NodeId],
    ) -> Result<(), String> {
        // Who joins knows nobody before its first snapshot.
        if voters.is_empty() {
            return Ok(());
        }
        let known = self.voters.entry(applied).or_insert_with(|| (voters.to_vec(), node));
        if known.0 == voters {
            return Ok(());
        }
        let (others, first) = known;
        Err(format!("at index {applied} {first} counts voters {others:?}, and {node} {voters:?}"))
    }

    /// A node leads the data group. True when it is a new leader.
    ///
    /// # Errors
    /// It must not.
    pub fn leads(&mut self, node: NodeId, term: u64) -> Result<bool, String> {
        if let Some(older) = self.leaders.get(&term) {
            if *older == node {
                return Ok(false);
            }
            return Err(format!("{older} and {node} both lead in term {term}"));
        }
        if self.removed.contains(&node) {
            return Err(format!("{node} was removed, and leads in term {term}"));
        }
        self.leaders.insert(term, node);
        Ok(true)
    }

    /// The leader of the newest term.
    pub fn newest_leader(&self) -> Option<NodeId> {
        self.leaders.last_key_value().map(|(_, id)| *id)
    }

    /// A node was removed for good: the change was carried out.
    pub fn removed(&mut self, node: NodeId) {
        self.removed.insert(node);
    }

    /// Where a node stands in its present life.
    ///
    /// # Errors
    /// It has fallen back.
    pub fn stands(
        &mut self,
        node: NodeId,
        boot: u64,
        commit: u64,
        applied: u64,
    ) -> Result<(), String> {
        let before = self.positions.insert((node, boot), (commit, applied)).unwrap_or_default();
        if commit < before.0 || applied < before.1 {
            return Err(format!("{node} fell from {before:?} to {:?}", (commit, applied)));
        }
        if applied > commit {
            return Err(format!("{node} applied {applied} and knows {commit} to be committed"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(first: u64, terms: &[u64]) -> log::Frame {
        let entry = |(n, term): (usize, &u64)| log::Entry {
            index: first + n as u64,
            term: *term,
            ..log::Entry::default()
        };
        let entries = terms.iter().enumerate().map(entry).collect();
        frame(Body::Entries(log::Entries { entries }))
    }

    fn commit(commit: u64) -> log::Frame {
        frame(Body::HardState(log::HardState { term: 9, vote: 0, commit }))
    }

    fn frame(body: Body) -> log::Frame {
        log::Frame { group: GroupId::DATA.get(), body: Some(body) }
    }

    #[test]
    fn two_commits_of_one_index_are_seen() {
        let mut watch = Watch::default();
        let (a, b) = (NodeId(1), NodeId(2));
        watch.appended(a, &[entries(1, &[1, 1, 2]), commit(2)]).unwrap();
        watch.appended(b, &[entries(1, &[1, 1, 3]), commit(2)]).unwrap();
        watch.appended(b, &[commit(3)]).unwrap();
        let error = watch.appended(a, &[commit(3)]).unwrap_err();
        assert!(error.contains("at 3"), "{error}");
        assert_eq!(watch.log_up_to(3).unwrap().len(), 3);
        assert!(watch.log_up_to(4).is_err());
        assert_eq!(watch.owed(a), 2);
    }
}
