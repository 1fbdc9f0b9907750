//! How far a node has fallen behind with its exports and checkpoints, and what it does about it.
//!
//! Only a durable export frees the log, and none is written while a checkpoint runs, nor a checkpoint
//! while an export of the data group is written. So under a load that outruns both, either the log grows
//! (exports are given up so that checkpoints get their turn) or the memory layer does. Nothing here
//! trusts the load to end: at each step the node takes less of it.

use super::config::NodeBounds;

/// What a node does about the length of its log and the size of its memory layer.
///
/// Invariant: the larger either of them, the higher the strain; only a finished export or checkpoint
/// lowers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strain {
    /// Nothing: an export that delays the next checkpoint for too long is given up.
    #[default]
    Eased,
    /// An export is due, and is finished however long it takes.
    Long,
    /// As leader, it refuses the writes of clients.
    Refusing,
    /// It takes no entries from a leader either: this node is slower than the one that leads, which
    /// would have refused the writes before.
    Closed,
}

impl Strain {
    /// The strain of a node with this much log behind its last export and this much in its layer, of
    /// which `ahead_bytes` were written since the checkpoint that runs began.
    #[must_use]
    pub fn of(log_bytes: u64, layer_bytes: usize, ahead_bytes: usize, bounds: &NodeBounds) -> Self {
        let beyond = |times: u64| {
            log_bytes > bounds.log_bytes.saturating_mul(times)
                || layer_bytes as u64 > (bounds.layer_bytes as u64).saturating_mul(times)
        };
        if beyond(3) {
            Self::Closed
        } else if beyond(2) || ahead_bytes > bounds.ahead_bytes {
            Self::Refusing
        } else if log_bytes > bounds.log_bytes {
            Self::Long
        } else {
            Self::Eased
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_and_layer_raise_it_each_by_itself() {
        let bounds =
            NodeBounds { log_bytes: 100, layer_bytes: 10, ahead_bytes: 5, ..NodeBounds::default() };
        for (log_bytes, layer_bytes, strain) in [
            (100, 10, Strain::Eased),
            (100, 20, Strain::Eased),
            (101, 10, Strain::Long),
            (200, 20, Strain::Long),
            (201, 0, Strain::Refusing),
            (0, 21, Strain::Refusing),
            (300, 30, Strain::Refusing),
            (301, 0, Strain::Closed),
            (0, 31, Strain::Closed),
        ] {
            assert_eq!(Strain::of(log_bytes, layer_bytes, 5, &bounds), strain, "{log_bytes}");
        }
        assert_eq!(Strain::of(0, 6, 6, &bounds), Strain::Refusing, "writes outrun the checkpoint");
        assert_eq!(Strain::of(301, 6, 6, &bounds), Strain::Closed);
        assert!(Strain::Eased < Strain::Long && Strain::Refusing < Strain::Closed);
    }
}
