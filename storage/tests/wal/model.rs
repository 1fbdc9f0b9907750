//! What frames mean, written down a second time and as simply as possible.

use std::collections::BTreeMap;

use proto::log::frame::Body;
use proto::{GroupId, LogIndex, Term, log};
use storage::wal::RecoveredGroup;

/// The groups after some frames.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
}

impl Model {
    pub fn new(groups: &BTreeMap<GroupId, log::GroupState>) -> Self {
        let mut model = Self::default();
        for (group, state) in groups {
            let body = Some(Body::GroupState(state.clone()));
            model.apply(&log::Frame { group: group.get(), body });
        }
        model
    }

    pub fn apply(&mut self, frame: &log::Frame) {
        let group = self.groups.entry(GroupId(frame.group)).or_default();
        match frame.body.as_ref().unwrap() {
            Body::Entries(new) => {
                let first = new.entries[0].index;
                group.entries.retain(|entry| entry.index < first);
                group.entries.extend(new.entries.iter().cloned());
            }
            Body::HardState(hard_state) => group.hard_state = *hard_state,
            Body::CheckpointDone(done) => group.checkpoint = LogIndex(done.index),
            Body::GroupState(state) => {
                let covered = LogIndex(state.start_index) == group.start_index
                    || group.entries.iter().any(|entry| {
                        (entry.index, entry.term) == (state.start_index, state.start_term)
                    });
                group.entries.retain(|entry| covered && entry.index > state.start_index);
                group.hard_state = state.hard_state.unwrap_or_default();
                group.conf_state = state.conf_state.clone().unwrap_or_default();
                group.start_index = LogIndex(state.start_index);
                group.start_term = Term(state.start_term);
                group.checkpoint = LogIndex(state.checkpoint);
                group.state_dir.clone_from(&state.state_dir);
            }
        }
    }
}

/// Index and term of the last entry of a group.
pub fn last_of(group: &RecoveredGroup) -> (u64, u64) {
    match group.entries.last() {
        Some(entry) => (entry.index, entry.term),
        None => (group.start_index.get(), group.start_term.get()),
    }
}
