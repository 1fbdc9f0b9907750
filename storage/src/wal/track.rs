//! What one group's frames come to, without the entries themselves.
//!
//! The same rules judge frames when they are appended, where a violation is a bug of the caller,
//! and when they are read back, where it is damage.

use std::collections::BTreeMap;

use proto::log::frame::Body;
use proto::{GroupId, log};

/// State and extent of one group's log.
///
/// Invariants, with `start` for `state.start_index`:
/// - `start <= last` and `state.hard_state.commit <= last`;
/// - entries up to the commit or the checkpoint are never replaced, except by a new state;
/// - the log holds entries for exactly `start < index <= last`;
/// - `terms` says which terms: ascending in `from` and `term`, empty when the log is empty, the
///   first `from` is `start + 1`.
#[derive(Clone, Debug)]
pub(super) struct GroupTrack {
    state: log::GroupState,
    terms: Vec<TermRun>,
    last: u64,
}

/// Entries from `from` up to the next run have this term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TermRun {
    from: u64,
    term: u64,
}

/// What a frame does to the entries before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogEdit {
    /// Nothing.
    Keep,
    /// Those at and above the index are gone; the frame's own follow.
    ReplaceFrom(u64),
    /// Those up to and including the index are gone.
    DropThrough(u64),
    /// All are gone.
    Clear,
}

/// Applies a frame to all groups.
///
/// # Errors
/// The rule that the frame breaks; the groups are then to be thrown away.
pub(super) fn apply_frame(
    groups: &mut BTreeMap<GroupId, GroupTrack>,
    frame: &log::Frame,
) -> Result<LogEdit, String> {
    let group = GroupId(frame.group);
    let result = match (&frame.body, groups.get_mut(&group)) {
        (None, _) => Err("the frame is empty".to_owned()),
        (Some(body), Some(track)) => track.apply(body),
        (Some(Body::GroupState(state)), None) => GroupTrack::new(state).map(|track| {
            groups.insert(group, track);
            LogEdit::Clear
        }),
        (Some(Body::Entries(_) | Body::HardState(_) | Body::CheckpointDone(_)), None) => {
            Err("the group has no state yet".to_owned())
        }
    };
    result.map_err(|why| format!("group {group}: {why}"))
}

impl GroupTrack {
    /// A group whose log is empty.
    pub(super) fn new(state: &log::GroupState) -> Result<Self, String> {
        let mut track =
            Self { state: log::GroupState::default(), terms: Vec::new(), last: state.start_index };
        track.apply_group_state(state)?;
        Ok(track)
    }

    /// The state, as it would stand at the head of a segment.
    pub(super) fn state(&self) -> &log::GroupState {
        &self.state
    }

    fn apply(&mut self, body: &Body) -> Result<LogEdit, String> {
        match body {
            Body::Entries(entries) => self.apply_entries(&entries.entries),
            Body::HardState(hard_state) => {
                self.check_hard_state(hard_state, self.last)?;
                self.state.hard_state = Some(*hard_state);
                Ok(LogEdit::Keep)
            }
            Body::GroupState(state) => self.apply_group_state(state),
            Body::CheckpointDone(done) => {
                if done.index > self.last {
                    return Err(format!("checkpoint {} after the end {}", done.index, self.last));
                }
                self.state.checkpoint = self.state.checkpoint.max(done.index);
                Ok(LogEdit::Keep)
            }
        }
    }

    fn apply_entries(&mut self, entries: &[log::Entry]) -> Result<LogEdit, String> {
        let Some(first) = entries.first() else {
            return Ok(LogEdit::Keep);
        };
        let from = first.index;
        if from <= self.state.start_index || from > self.last + 1 {
            return Err(format!(
                "entries from {from} do not follow a log of [{}, {}]",
                self.state.start_index + 1,
                self.last
            ));
        }
        let commit = self.commit();
        if from <= commit {
            return Err(format!("entries from {from} replace some committed up to {commit}"));
        }
        let checkpoint = self.state.checkpoint;
        if from <= checkpoint {
            return Err(format!("entries from {from} replace some applied up to {checkpoint}"));
        }
        let mut term = self.term_of(from - 1).expect("the index lies in the log");
        for (expected, entry) in (from..).zip(entries) {
            if entry.index != expected {
                return Err(format!("entry {} stands where {expected} belongs", entry.index));
            }
            if entry.term < term {
                return Err(format!("entry {expected} has term {} after {term}", entry.term));
            }
            term = entry.term;
        }
        self.terms.retain(|run| run.from < from);
        for entry in entries {
            if self.terms.last().is_none_or(|run| run.term != entry.term) {
                self.terms.push(TermRun { from: entry.index, term: entry.term });
            }
        }
        self.last = from + entries.len() as u64 - 1;
        Ok(LogEdit::ReplaceFrom(from))
    }

    fn apply_group_state(&mut self, new: &log::GroupState) -> Result<LogEdit, String> {
        let (start, start_before) = (new.start_index, self.state.start_index);
        if start < start_before {
            return Err(format!("the log begins after {start_before} and cannot after {start}"));
        }
        let continues = self.term_of(start) == Some(new.start_term);
        let last = if continues { self.last } else { start };
        let hard_state = new.hard_state.unwrap_or_default();
        self.check_hard_state(&hard_state, last)?;

        if continues {
            let next_term = self.term_of(start + 1);
            self.terms.retain(|run| run.from > start + 1);
            if let Some(term) = next_term {
                self.terms.insert(0, TermRun { from: start + 1, term });
            }
        } else {
            self.terms.clear();
        }
        self.last = last;
        self.state = new.clone();
        self.state.hard_state = Some(hard_state);
        self.state.conf_state.get_or_insert_default();
        Ok(if continues { LogEdit::DropThrough(start) } else { LogEdit::Clear })
    }

    /// Term, vote and commit never go back (Raft, figure 2), and nothing is committed beyond the
    /// end of the log.
    fn check_hard_state(&self, new: &log::HardState, last: u64) -> Result<(), String> {
        let old = self.state.hard_state.unwrap_or_default();
        if new.term < old.term {
            return Err(format!("term {} after term {}", new.term, old.term));
        }
        if new.term == old.term && old.vote != 0 && new.vote != old.vote {
            return Err(format!("vote for {} and {} in term {}", old.vote, new.vote, new.term));
        }
        if new.commit < old.commit {
            return Err(format!("commit {} after {}", new.commit, old.commit));
        }
        if new.commit > last {
            return Err(format!("commit {} beyond the last entry {last}", new.commit));
        }
        Ok(())
    }

    fn commit(&self) -> u64 {
        self.state.hard_state.unwrap_or_default().commit
    }

    /// Term of the entry at an index; also known for the entry that the log begins after.
    fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.state.start_index {
            return Some(self.state.start_term);
        }
        if index < self.state.start_index || index > self.last {
            return None;
        }
        self.terms.iter().rev().find(|run| run.from <= index).map(|run| run.term)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(1);

    fn entries(terms: &[(u64, u64)]) -> Body {
        let entries = terms
            .iter()
            .map(|(index, term)| log::Entry { index: *index, term: *term, ..Default::default() })
            .collect();
        Body::Entries(log::Entries { entries })
    }

    fn hard_state(term: u64, vote: u64, commit: u64) -> Body {
        Body::HardState(log::HardState { term, vote, commit })
    }

    fn state(start: (u64, u64), term: u64, commit: u64) -> Body {
        Body::GroupState(log::GroupState {
            hard_state: Some(log::HardState { term, vote: 0, commit }),
            start_index: start.0,
            start_term: start.1,
            ..Default::default()
        })
    }

    /// Applies frames to a fresh group; the last edit or the first broken rule.
    fn run(bodies: &[Body]) -> Result<(LogEdit, GroupTrack), String> {
        let mut groups = BTreeMap::new();
        let mut edit = LogEdit::Keep;
        for body in [&[state((0, 0), 0, 0)], bodies].concat() {
            edit = apply_frame(&mut groups, &log::Frame { group: GROUP.0, body: Some(body) })?;
        }
        Ok((edit, groups.remove(&GROUP).unwrap()))
    }

    fn extent(bodies: &[Body]) -> (LogEdit, u64, u64) {
        let (edit, track) = run(bodies).unwrap();
        (edit, track.state.start_index, track.last)
    }

    #[test]
    fn entries_replace_at_and_above_their_first() {
        let log = entries(&[(1, 1), (2, 1), (3, 2)]);
        assert_eq!(extent(&[log.clone(), entries(&[(2, 3)])]), (LogEdit::ReplaceFrom(2), 0, 2));
        assert_eq!(extent(&[log, entries(&[(4, 2)])]), (LogEdit::ReplaceFrom(4), 0, 4));
        let (_, track) = run(&[entries(&[(1, 1), (2, 1), (3, 2)]), entries(&[(2, 3)])]).unwrap();
        assert_eq!(track.terms, [TermRun { from: 1, term: 1 }, TermRun { from: 2, term: 3 }]);
    }

    #[test]
    fn a_state_drops_what_it_covers_or_everything() {
        let log = [entries(&[(1, 1), (2, 1), (3, 2), (4, 2)]), hard_state(2, 0, 2)];
        let with = |body: Body| [&log[..], &[body]].concat();
        // The log was cut behind a snapshot of itself.
        assert_eq!(extent(&with(state((2, 1), 2, 2))), (LogEdit::DropThrough(2), 2, 4));
        assert_eq!(extent(&with(state((4, 2), 2, 4))), (LogEdit::DropThrough(4), 4, 4));
        // A snapshot of another history, or one beyond the end, was installed.
        assert_eq!(extent(&with(state((3, 5), 5, 3))), (LogEdit::Clear, 3, 3));
        assert_eq!(extent(&with(state((9, 5), 5, 9))), (LogEdit::Clear, 9, 9));
        // What remains keeps its terms, and goes on.
        let more = [with(state((3, 2), 2, 3)), vec![entries(&[(5, 2)])]].concat();
        let (_, track) = run(&more).unwrap();
        assert_eq!(
            (track.term_of(3), track.term_of(4), track.term_of(6)),
            (Some(2), Some(2), None)
        );
        assert_eq!(track.terms, [TermRun { from: 4, term: 2 }]);
    }

    #[test]
    fn checkpoints_only_rise() {
        let done = |index| Body::CheckpointDone(log::CheckpointDone { index, term: 1 });
        let log = entries(&[(1, 1), (2, 1)]);
        let (_, track) = run(&[log, done(2), done(1)]).unwrap();
        assert_eq!(track.state().checkpoint, 2);
    }

    #[test]
    fn broken_rules_are_named() {
        let log = entries(&[(1, 1), (2, 2)]);
        let done = |index| Body::CheckpointDone(log::CheckpointDone { index, term: 1 });
        let cases: [(&[Body], &str); 13] = [
            (&[entries(&[(2, 1)])], "do not follow"),
            (&[entries(&[(0, 0)])], "do not follow"),
            (&[entries(&[(1, 1), (3, 1)])], "stands where 2"),
            (&[entries(&[(1, 2), (2, 1)])], "term 1 after 2"),
            (&[log.clone(), entries(&[(3, 1)])], "term 1 after 2"),
            (&[log.clone(), hard_state(2, 0, 2), entries(&[(2, 3)])], "committed up to 2"),
            (&[hard_state(1, 0, 1)], "beyond the last entry 0"),
            (&[hard_state(2, 0, 0), hard_state(1, 0, 0)], "term 1 after term 2"),
            (&[hard_state(2, 7, 0), hard_state(2, 8, 0)], "vote for 7 and 8"),
            (&[log, hard_state(2, 0, 2), hard_state(2, 0, 1)], "commit 1 after 2"),
            (&[state((5, 1), 1, 5), state((4, 1), 1, 5)], "cannot after 4"),
            (&[done(1)], "checkpoint 1"),
            (&[entries(&[(1, 1)]), done(1), entries(&[(1, 2)])], "applied up to 1"),
        ];
        for (bodies, expected) in cases {
            let why = run(bodies).unwrap_err();
            assert!(why.contains(expected), "{bodies:?}: {why}");
        }
        let stray = log::Frame { group: 8, body: Some(hard_state(1, 0, 0)) };
        assert!(apply_frame(&mut BTreeMap::new(), &stray).unwrap_err().contains("no state"));
        let empty = log::Frame { group: 8, body: None };
        assert!(apply_frame(&mut BTreeMap::new(), &empty).unwrap_err().contains("empty"));
    }
}
