//! What one group's frames come to, without the entries themselves.
//!
//! The same rules judge frames when they are appended, where a violation is a bug of the caller,
//! and when they are read back, where it is damage.

use std::collections::BTreeMap;

use proto::log::frame::Body;
use proto::{GroupId, log};

use super::outline::{Content, Outline};

/// State and extent of one group's log.
///
/// Invariants, with `start` for `state.start_index` and `last` for `state.last_index`:
/// - `start <= last` and `state.hard_state.commit <= last`;
/// - entries up to the commit or the checkpoint are never replaced, except by a new state;
/// - the log holds entries for exactly `start < index <= last`;
/// - `terms` says which terms: ascending in `from` and `term`, empty when the log is empty; the
///   first `from` is `start + 1`, or the end of the hole;
/// - `start < hole <= last` if there is a hole.
#[derive(Clone, Debug)]
pub(super) struct GroupTrack {
    state: log::GroupState,
    terms: Vec<TermRun>,
    /// Entries up to this one were in segments that are gone.
    hole: Option<u64>,
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

/// Whether the first state of a group may speak of entries that cannot be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holes {
    /// At the head of a log whose older segments are gone.
    Allowed,
    /// Everywhere else.
    Refused,
}

/// Applies a frame to all groups.
///
/// # Errors
/// The rule that the frame breaks; the groups are then to be thrown away.
pub(super) fn apply_frame(
    groups: &mut BTreeMap<GroupId, GroupTrack>,
    frame: &log::Frame,
    holes: Holes,
) -> Result<LogEdit, String> {
    let group = GroupId(frame.group);
    match &frame.body {
        Some(Body::Entries(entries)) => {
            let places = entries.entries.iter().map(|entry| (entry.index, entry.term));
            apply_entries(groups, group, places)
        }
        other => apply_other(groups, group, other.as_ref(), holes),
    }
}

/// Applies a frame that was read back, as [`apply_frame`].
///
/// # Errors
/// As of [`apply_frame`].
pub(super) fn apply_outline(
    groups: &mut BTreeMap<GroupId, GroupTrack>,
    frame: &Outline,
    holes: Holes,
) -> Result<LogEdit, String> {
    match &frame.body {
        Content::Entries(entries) => {
            let places = entries.iter().map(|entry| (entry.index, entry.term));
            apply_entries(groups, frame.group, places)
        }
        Content::Other(body) => apply_other(groups, frame.group, body.as_ref(), holes),
    }
}

/// Applies entries, of which index and term are given.
fn apply_entries(
    groups: &mut BTreeMap<GroupId, GroupTrack>,
    group: GroupId,
    places: impl DoubleEndedIterator<Item = (u64, u64)> + Clone,
) -> Result<LogEdit, String> {
    let result = match groups.get_mut(&group) {
        Some(track) => track.apply_entries(places),
        None => Err("the group has no state yet".to_owned()),
    };
    result.map_err(|why| format!("group {group}: {why}"))
}

/// Applies a frame without entries.
fn apply_other(
    groups: &mut BTreeMap<GroupId, GroupTrack>,
    group: GroupId,
    body: Option<&Body>,
    holes: Holes,
) -> Result<LogEdit, String> {
    let result = match (body, groups.get_mut(&group)) {
        (None, _) => Err("the frame is empty".to_owned()),
        (Some(body), Some(track)) => track.apply(body),
        (Some(Body::GroupState(state)), None) => GroupTrack::new(state, holes).map(|track| {
            groups.insert(group, track);
            LogEdit::Clear
        }),
        (
            Some(
                Body::Entries(_)
                | Body::HardState(_)
                | Body::CheckpointDone(_)
                | Body::LogStart(_)
                | Body::Installed(_)
                | Body::StateMoved(_),
            ),
            None,
        ) => Err("the group has no state yet".to_owned()),
    };
    result.map_err(|why| format!("group {group}: {why}"))
}

impl GroupTrack {
    /// A group whose log is empty, or a hole.
    pub(super) fn new(state: &log::GroupState, holes: Holes) -> Result<Self, String> {
        let (start, last) = (state.start_index, state.last_index);
        let empty = log::GroupState {
            start_index: start,
            start_term: state.start_term,
            last_index: start,
            last_term: state.start_term,
            ..log::GroupState::default()
        };
        let mut track = Self { state: empty, terms: Vec::new(), hole: None };
        if last > start && holes == Holes::Allowed {
            if state.last_term < state.start_term {
                let (at_end, at_start) = (state.last_term, state.start_term);
                return Err(format!("the log ends in term {at_end} and begins in {at_start}"));
            }
            (track.state.last_index, track.state.last_term) = (last, state.last_term);
            track.terms.push(TermRun { from: last, term: state.last_term });
            track.hole = Some(last);
        }
        track.apply_group_state(state)?;
        Ok(track)
    }

    /// The state, as it would stand at the head of a segment.
    pub(super) fn state(&self) -> &log::GroupState {
        &self.state
    }

    /// Entries `(from, to]` that the log should hold and that were in segments that are gone.
    pub(super) fn hole(&self) -> Option<(u64, u64)> {
        self.hole.map(|to| (self.state.start_index, to))
    }

    /// Term of the entry at an index; also known for the entry that the log begins after. `None`
    /// outside of the log and in a hole.
    pub(super) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.state.start_index {
            return Some(self.state.start_term);
        }
        if index < self.state.start_index || index > self.state.last_index {
            return None;
        }
        self.terms.iter().rev().find(|run| run.from <= index).map(|run| run.term)
    }

    fn apply(&mut self, body: &Body) -> Result<LogEdit, String> {
        match body {
            Body::Entries(_) => unreachable!("entries are applied by their places"),
            Body::HardState(hard_state) => {
                self.check_hard_state(hard_state, self.state.last_index)?;
                self.state.hard_state = Some(*hard_state);
                Ok(LogEdit::Keep)
            }
            Body::GroupState(state) => self.apply_group_state(state),
            Body::CheckpointDone(done) => {
                let last = self.state.last_index;
                if done.index > last {
                    return Err(format!("checkpoint {} after the end {last}", done.index));
                }
                self.state.checkpoint = self.state.checkpoint.max(done.index);
                Ok(LogEdit::Keep)
            }
            Body::LogStart(start) => self.apply_log_start(start),
            Body::Installed(installed) => self.apply_installed(installed),
            Body::StateMoved(moved) => {
                self.state.state_dir.clone_from(&moved.state_dir);
                Ok(LogEdit::Keep)
            }
        }
    }

    /// An export covers the beginning of the log. One that is older than the beginning says nothing.
    fn apply_log_start(&mut self, start: &log::LogStart) -> Result<LogEdit, String> {
        if start.index < self.state.start_index {
            return Ok(LogEdit::Keep);
        }
        let last = self.state.last_index;
        if start.index > last {
            return Err(format!("an export at {} after the end {last}", start.index));
        }
        self.apply_group_state(&log::GroupState {
            start_index: start.index,
            start_term: start.term,
            conf_state: start.conf_state.clone(),
            change: start.change,
            ..self.state.clone()
        })
    }

    /// A snapshot takes the place of the whole log; its state is complete.
    fn apply_installed(&mut self, installed: &log::Installed) -> Result<LogEdit, String> {
        let (index, term) = (installed.index, installed.term);
        let known = self.state.hard_state.unwrap_or_default();
        self.apply_group_state(&log::GroupState {
            hard_state: Some(log::HardState { commit: known.commit.max(index), ..known }),
            conf_state: installed.conf_state.clone(),
            start_index: index,
            start_term: term,
            state_dir: installed.state_dir.clone(),
            checkpoint: index,
            last_index: index,
            last_term: term,
            change: installed.change,
        })
    }

    /// Takes entries, of which index and term are given.
    fn apply_entries(
        &mut self,
        places: impl DoubleEndedIterator<Item = (u64, u64)> + Clone,
    ) -> Result<LogEdit, String> {
        let (Some((from, _)), Some(newest)) = (places.clone().next(), places.clone().next_back())
        else {
            return Ok(LogEdit::Keep);
        };
        let (start, last) = (self.state.start_index, self.state.last_index);
        if from <= start || from - 1 > last {
            return Err(format!("entries from {from} do not follow a log of ({start}, {last}]"));
        }
        let commit = self.commit();
        if from <= commit {
            return Err(format!("entries from {from} replace some committed up to {commit}"));
        }
        let checkpoint = self.state.checkpoint;
        if from <= checkpoint {
            return Err(format!("entries from {from} replace some applied up to {checkpoint}"));
        }
        // Terms never fall along a log, so in a hole none is below that of the start.
        let mut term = self.term_of(from - 1).unwrap_or(self.state.start_term);
        for (expected, (index, of_entry)) in (from..).zip(places.clone()) {
            if index != expected {
                return Err(format!("entry {index} stands where {expected} belongs"));
            }
            if of_entry < term {
                return Err(format!("entry {expected} has term {of_entry} after {term}"));
            }
            term = of_entry;
        }
        self.terms.retain(|run| run.from < from);
        for (from, term) in places {
            if self.terms.last().is_none_or(|run| run.term != term) {
                self.terms.push(TermRun { from, term });
            }
        }
        self.hole = self.hole.map(|to| to.min(from - 1)).filter(|to| *to > start);
        (self.state.last_index, self.state.last_term) = newest;
        Ok(LogEdit::ReplaceFrom(from))
    }

    fn apply_group_state(&mut self, new: &log::GroupState) -> Result<LogEdit, String> {
        let (start, start_before) = (new.start_index, self.state.start_index);
        if start < start_before {
            return Err(format!("the log begins after {start_before} and cannot after {start}"));
        }
        let hard_state = new.hard_state.unwrap_or_default();
        self.check_hard_state(&hard_state, new.last_index)?;
        let edit = if new.last_index == start {
            if new.last_term != new.start_term {
                let (at_end, at_start) = (new.last_term, new.start_term);
                return Err(format!("an empty log begins in term {at_start}, ends in {at_end}"));
            }
            self.terms.clear();
            self.hole = None;
            LogEdit::Clear
        } else {
            self.move_start(new)?;
            LogEdit::DropThrough(start)
        };
        self.state = new.clone();
        self.state.hard_state = Some(hard_state);
        self.state.conf_state.get_or_insert_default();
        Ok(edit)
    }

    /// Takes a state after which entries of this log remain.
    fn move_start(&mut self, new: &log::GroupState) -> Result<(), String> {
        let held = (self.state.last_index, self.state.last_term);
        if (new.last_index, new.last_term) != held || new.start_index > held.0 {
            return Err(format!(
                "a state of ({}, {}] in term {}, of a log that ends at {} in term {}",
                new.start_index, new.last_index, new.last_term, held.0, held.1
            ));
        }
        let (start, claimed) = (new.start_index, new.start_term);
        if self.term_of(start).is_some_and(|term| term != claimed) {
            return Err(format!("entry {start} is not of term {claimed}, after which to begin"));
        }
        let next_term = self.term_of(start + 1);
        self.terms.retain(|run| run.from > start + 1);
        if let Some(term) = next_term {
            self.terms.insert(0, TermRun { from: start + 1, term });
        }
        self.hole = self.hole.filter(|to| *to > start);
        Ok(())
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

    /// A state of a log that ends at `last`.
    fn state(start: (u64, u64), last: (u64, u64), term: u64, commit: u64) -> log::GroupState {
        log::GroupState {
            hard_state: Some(log::HardState { term, vote: 0, commit }),
            start_index: start.0,
            start_term: start.1,
            last_index: last.0,
            last_term: last.1,
            ..Default::default()
        }
    }

    fn keeps(start: (u64, u64), last: (u64, u64), term: u64, commit: u64) -> Body {
        Body::GroupState(state(start, last, term, commit))
    }

    fn install(start: (u64, u64), term: u64, commit: u64) -> Body {
        keeps(start, start, term, commit)
    }

    /// Applies frames to a group; the last edit or the first broken rule.
    fn run_from(
        first: log::GroupState,
        holes: Holes,
        bodies: &[Body],
    ) -> Result<(LogEdit, GroupTrack), String> {
        let mut groups = BTreeMap::new();
        let mut edit = LogEdit::Keep;
        for body in [&[Body::GroupState(first)], bodies].concat() {
            let frame = log::Frame { group: GROUP.0, body: Some(body) };
            edit = apply_frame(&mut groups, &frame, holes)?;
        }
        Ok((edit, groups.remove(&GROUP).unwrap()))
    }

    fn run(bodies: &[Body]) -> Result<(LogEdit, GroupTrack), String> {
        run_from(state((0, 0), (0, 0), 0, 0), Holes::Refused, bodies)
    }

    fn extent(bodies: &[Body]) -> (LogEdit, u64, u64) {
        let (edit, track) = run(bodies).unwrap();
        (edit, track.state.start_index, track.state.last_index)
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
        let cut = with(keeps((2, 1), (4, 2), 2, 2));
        assert_eq!(extent(&cut), (LogEdit::DropThrough(2), 2, 4));
        assert_eq!(extent(&with(install((4, 2), 2, 4))), (LogEdit::Clear, 4, 4));
        // A snapshot of another history, or one beyond the end, was installed.
        assert_eq!(extent(&with(install((3, 5), 5, 3))), (LogEdit::Clear, 3, 3));
        assert_eq!(extent(&with(install((9, 5), 5, 9))), (LogEdit::Clear, 9, 9));
        // What remains keeps its terms, and goes on.
        let more = [with(keeps((3, 2), (4, 2), 2, 3)), vec![entries(&[(5, 2)])]].concat();
        let (_, track) = run(&more).unwrap();
        assert_eq!(
            (track.term_of(3), track.term_of(4), track.term_of(6)),
            (Some(2), Some(2), None)
        );
        assert_eq!(track.terms, [TermRun { from: 4, term: 2 }]);
        assert_eq!((track.state().last_index, track.state().last_term), (5, 2));
    }

    /// A log whose head says that entries 4 to 9 were in older segments.
    fn holed(bodies: &[Body]) -> Result<(LogEdit, GroupTrack), String> {
        run_from(state((3, 2), (9, 5), 5, 4), Holes::Allowed, bodies)
    }

    #[test]
    fn a_hole_is_covered_by_a_later_beginning_or_by_replacement() {
        let hole = |bodies: &[Body]| holed(bodies).unwrap().1.hole();
        assert_eq!(hole(&[]), Some((3, 9)));
        assert_eq!(hole(&[entries(&[(10, 5), (11, 6)])]), Some((3, 9)));
        assert_eq!(hole(&[keeps((6, 3), (9, 5), 5, 6)]), Some((6, 9)));
        assert_eq!(hole(&[entries(&[(8, 6), (9, 6)])]), Some((3, 7)));
        // Covered: by a state at or above its end, by an empty log, by entries from its start on.
        assert_eq!(hole(&[entries(&[(10, 6)]), keeps((9, 5), (10, 6), 6, 9)]), None);
        assert_eq!(hole(&[install((9, 5), 5, 9)]), None);
        assert_eq!(hole(&[install((20, 7), 7, 20)]), None);
        assert_eq!(hole(&[entries(&[(8, 6)]), keeps((7, 4), (8, 6), 6, 7)]), None);
        let uncommitted = state((3, 2), (9, 5), 5, 3);
        let (_, track) =
            run_from(uncommitted.clone(), Holes::Allowed, &[entries(&[(4, 6)])]).unwrap();
        assert_eq!((track.hole(), track.term_of(4)), (None, Some(6)));
        // Only the head of a log may have one.
        assert!(run_from(uncommitted, Holes::Refused, &[]).is_err());
    }

    #[test]
    fn terms_in_a_hole_are_unknown_and_its_end_is_known() {
        let (_, track) = holed(&[]).unwrap();
        let terms: Vec<_> = [2, 3, 4, 8, 9, 10].map(|index| track.term_of(index)).into();
        assert_eq!(terms, [None, Some(2), None, None, Some(5), None]);
        assert!(holed(&[entries(&[(10, 4)])]).unwrap_err().contains("term 4 after 5"));
        assert!(holed(&[entries(&[(7, 1)])]).unwrap_err().contains("term 1 after 2"));
        assert!(holed(&[entries(&[(4, 6)])]).unwrap_err().contains("committed up to 4"));
        let other = keeps((9, 4), (9, 5), 5, 9);
        assert!(holed(&[other]).unwrap_err().contains("empty log"));
    }

    #[test]
    fn the_last_index_there_is_breaks_nothing() {
        let full = state((u64::MAX, 1), (u64::MAX, 1), 1, u64::MAX);
        for index in [0, 1, u64::MAX] {
            let why = run_from(full.clone(), Holes::Refused, &[entries(&[(index, 1)])]);
            assert!(why.unwrap_err().contains("do not follow"), "{index}");
        }
    }

    #[test]
    fn checkpoints_only_rise() {
        let done = |index| Body::CheckpointDone(log::CheckpointDone { index, term: 1 });
        let log = entries(&[(1, 1), (2, 1)]);
        let (_, track) = run(&[log, done(2), done(1)]).unwrap();
        assert_eq!(track.state().checkpoint, 2);
    }

    #[test]
    fn a_state_that_moved_changes_its_directory_and_nothing_else() {
        let log = [entries(&[(1, 1), (2, 1), (3, 2)]), hard_state(2, 0, 2)];
        let moved = Body::StateMoved(log::StateMoved { state_dir: "1-4".to_owned() });
        let (_, before) = run(&log).unwrap();
        let (edit, after) = run(&[log.to_vec(), vec![moved.clone()]].concat()).unwrap();
        assert_eq!(edit, LogEdit::Keep);
        let expected = log::GroupState { state_dir: "1-4".to_owned(), ..before.state.clone() };
        assert_eq!((after.state, after.terms), (expected, before.terms));
        let stray = log::Frame { group: 8, body: Some(moved) };
        let refused = apply_frame(&mut BTreeMap::new(), &stray, Holes::Refused);
        assert!(refused.unwrap_err().contains("no state"));
    }

    #[test]
    fn broken_rules_are_named() {
        let log = entries(&[(1, 1), (2, 2)]);
        let done = |index| Body::CheckpointDone(log::CheckpointDone { index, term: 1 });
        let cases: [(&[Body], &str); 17] = [
            (&[entries(&[(2, 1)])], "do not follow"),
            (&[entries(&[(0, 0)])], "do not follow"),
            (&[entries(&[(1, 1), (3, 1)])], "stands where 2"),
            (&[entries(&[(1, 2), (2, 1)])], "term 1 after 2"),
            (&[log.clone(), entries(&[(3, 1)])], "term 1 after 2"),
            (&[log.clone(), hard_state(2, 0, 2), entries(&[(2, 3)])], "committed up to 2"),
            (&[hard_state(1, 0, 1)], "beyond the last entry 0"),
            (&[hard_state(2, 0, 0), hard_state(1, 0, 0)], "term 1 after term 2"),
            (&[hard_state(2, 7, 0), hard_state(2, 8, 0)], "vote for 7 and 8"),
            (&[log.clone(), hard_state(2, 0, 2), hard_state(2, 0, 1)], "commit 1 after 2"),
            (&[install((5, 1), 1, 5), install((4, 1), 1, 5)], "cannot after 4"),
            (&[keeps((0, 0), (1, 1), 1, 0)], "a log that ends at 0"),
            (&[log.clone(), keeps((1, 1), (3, 2), 2, 1)], "a log that ends at 2 in term 2"),
            (&[log.clone(), keeps((1, 2), (2, 2), 2, 1)], "entry 1 is not of term 2"),
            (&[keeps((1, 1), (1, 2), 2, 1)], "begins in term 1, ends in 2"),
            (&[done(1)], "checkpoint 1"),
            (&[entries(&[(1, 1)]), done(1), entries(&[(1, 2)])], "applied up to 1"),
        ];
        for (bodies, expected) in cases {
            let why = run(bodies).unwrap_err();
            assert!(why.contains(expected), "{bodies:?}: {why}");
        }
        let stray = log::Frame { group: 8, body: Some(hard_state(1, 0, 0)) };
        assert!(
            apply_frame(&mut BTreeMap::new(), &stray, Holes::Refused)
                .unwrap_err()
                .contains("no state")
        );
        let empty = log::Frame { group: 8, body: None };
        assert!(
            apply_frame(&mut BTreeMap::new(), &empty, Holes::Refused)
                .unwrap_err()
                .contains("empty")
        );
    }
}
