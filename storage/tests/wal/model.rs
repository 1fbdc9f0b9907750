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
                let empty = state.last_index == state.start_index;
                group.entries.retain(|entry| !empty && entry.index > state.start_index);
                group.hard_state = state.hard_state.unwrap_or_default();
                group.conf_state = state.conf_state.clone().unwrap_or_default();
                group.change = state.change;
                group.start_index = LogIndex(state.start_index);
                group.start_term = Term(state.start_term);
                group.checkpoint = LogIndex(state.checkpoint);
                group.state_dir.clone_from(&state.state_dir);
            }
            Body::LogStart(start) => {
                group.entries.retain(|entry| entry.index > start.index);
                group.conf_state = start.conf_state.clone().unwrap_or_default();
                group.change = start.change;
                group.start_index = LogIndex(start.index);
                group.start_term = Term(start.term);
            }
            Body::Installed(installed) => {
                group.entries.clear();
                group.hard_state.commit = group.hard_state.commit.max(installed.index);
                group.conf_state = installed.conf_state.clone().unwrap_or_default();
                group.change = installed.change;
                group.start_index = LogIndex(installed.index);
                group.start_term = Term(installed.term);
                group.checkpoint = LogIndex(installed.index);
                group.state_dir.clone_from(&installed.state_dir);
            }
            Body::StateMoved(moved) => group.state_dir.clone_from(&moved.state_dir),
        }
        // Everything is kept.
        group.first_kept = LogIndex(group.start_index.get() + 1);
        group.kept_term = group.start_term;
    }
}

/// Index and term of the last entry of a group.
pub fn last_of(group: &RecoveredGroup) -> (u64, u64) {
    match group.entries.last() {
        Some(entry) => (entry.index, entry.term),
        None => (group.start_index.get(), group.start_term.get()),
    }
}
