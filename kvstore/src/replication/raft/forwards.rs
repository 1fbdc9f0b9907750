//! Which forwarded writes have arrived before.
//!
//! A write that was refused is certainly not applied; so a second copy of the message that handed it
//! over must not be taken, however late it comes and whoever leads by then. The first copy is answered.

use std::collections::{BTreeMap, BTreeSet};

use proto::NodeId;

/// Forwards remembered of each node. An older one is taken to have come before: its origin hears
/// nothing, and reports an unknown outcome.
const FORWARDS_MAX: usize = 4_096;

/// The forwards of each node's present start.
#[derive(Debug, Default)]
pub struct Forwards {
    seen: BTreeMap<NodeId, (u64, BTreeSet<u64>)>,
}

impl Forwards {
    /// Notes a forward; false when it came before.
    pub fn is_new(&mut self, node: NodeId, boot: u64, id: u64) -> bool {
        let (known, ids) = self.seen.entry(node).or_default();
        if *known != boot {
            *known = boot;
            ids.clear();
        }
        let lost_track = ids.len() == FORWARDS_MAX && ids.first().is_some_and(|least| id < *least);
        if lost_track || !ids.insert(id) {
            return false;
        }
        if ids.len() > FORWARDS_MAX {
            ids.pop_first();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forward_is_taken_once_in_each_start_of_its_origin() {
        let (a, b) = (NodeId(1), NodeId(2));
        let mut forwards = Forwards::default();
        assert!(forwards.is_new(a, 7, 5));
        assert!(forwards.is_new(a, 7, 3), "they may overtake each other");
        assert!(!forwards.is_new(a, 7, 5));
        assert!(forwards.is_new(b, 7, 5));
        assert!(forwards.is_new(a, 8, 5));
        for id in 6..=6 + FORWARDS_MAX as u64 {
            assert!(forwards.is_new(a, 8, id));
        }
        assert!(!forwards.is_new(a, 8, 4), "too old to be known");
    }
}
