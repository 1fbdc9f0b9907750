//! Which peers have said that their disks are full.

use std::collections::{BTreeMap, BTreeSet};

use proto::NodeId;

use super::io::Ticks;

/// Ticks for which such a word counts. It is repeated once a second, and nothing takes it back.
const WORD_TICKS: u64 = 60;

/// The nodes that have said lately that their disks are full.
#[derive(Debug, Default)]
pub struct FullDisks(BTreeMap<NodeId, Ticks>);

impl FullDisks {
    /// A node says that its disk is full.
    pub fn heard(&mut self, node: NodeId, now: Ticks) {
        self.0.insert(node, now);
    }

    /// The nodes whose word still counts; the others are forgotten.
    pub fn nodes(&mut self, now: Ticks) -> BTreeSet<NodeId> {
        self.0.retain(|_, heard| now.0 < heard.0 + WORD_TICKS);
        self.0.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_for_a_while_after_it_was_said_last() {
        let mut disks = FullDisks::default();
        disks.heard(NodeId(2), Ticks(5));
        disks.heard(NodeId(3), Ticks(5));
        disks.heard(NodeId(3), Ticks(25));
        assert_eq!(disks.nodes(Ticks(4 + WORD_TICKS)), BTreeSet::from([NodeId(2), NodeId(3)]));
        assert_eq!(disks.nodes(Ticks(5 + WORD_TICKS)), BTreeSet::from([NodeId(3)]));
        assert_eq!(disks.nodes(Ticks(25 + WORD_TICKS)), BTreeSet::new());
    }
}
