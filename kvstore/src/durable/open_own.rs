//! A start: the node's own log, group 2.
//!
//! What it remembers is on no other node in this form, so nothing of it is repaired from peers: it is here, or
//! it is lost. It begins with nothing in it
//!
//! - where the log knows nothing of it: the node has just formed or joined a cluster, a version before
//!   had no such group, or the log was damaged and another one took its place (`repair_log.rs`);
//! - where neither its state nor the export that its log begins behind verifies. Its indexes go on then, for
//!   in one log they never go back.
//!
//! What is left of an earlier one must never be taken for part of it, and may be of use to somebody who looks
//! for what was lost: exports keep their bytes under another name, and so does one state directory.

use std::path::Path;

use proto::v1::{self, keyspace::Kind, keyspace::State};
use proto::{GroupId, KeyspaceId, LogIndex, Revision, Term, log};
use storage::export::{self, ExportFile};
use storage::mvcc::{DEFAULT_KEYSPACE, ImportJob, Machine};
use storage::state::StateError;
use storage::wal::RecoveredGroup;

use super::open::{OpenError, io_error, last_index};
use super::{DataFiles, next_state_dir};
use crate::replication::own_log::OwnStart;

const GROUP: GroupId = GroupId::EVENTUAL;
/// Term of the entry before the first one, where the group begins anew.
const TERM: Term = Term(1);

impl DataFiles {
    /// The node's own log with its state; `found` is what the log knows of it. To be called once everything
    /// else is known to be whole: it may set aside what is left of an earlier one.
    pub(super) fn open_own(
        &self,
        found: Option<RecoveredGroup>,
        export: Option<&ExportFile>,
    ) -> Result<OwnStart, OpenError> {
        let Some(group) = found else {
            return self.begin_own(LogIndex(0), format!("{GROUP}-0"));
        };
        let state = self.open_state(&group);
        // The one that the log begins behind may be damaged. An older one lacks what the log has no longer.
        let export = export.filter(|file| file.header.index >= group.start_index);
        if let Some(machine) = self.usable_machine(GROUP, state, &group, export)? {
            return Ok(OwnStart { machine, group, begins: false });
        }
        tracing::error!(
            "what this node remembered of eventual keyspaces is lost, as with its disk: it begins anew"
        );
        self.begin_own(last_index(&group), next_state_dir(GROUP, &group.state_dir))
    }

    /// One that begins behind `index`, with nothing in it.
    fn begin_own(&self, index: LogIndex, name: String) -> Result<OwnStart, OpenError> {
        self.clear_states(&format!("{GROUP}-"))?;
        let aside = export::set_aside(self.disk.as_ref(), &self.exports_dir(), GROUP)?;
        if aside > 0 {
            tracing::warn!(aside, "exports of an earlier log of this node are kept, and not used");
        }
        let failed = |source| OpenError::State { name: name.clone(), source };
        let machine = self.machine_without_items(index, &name).map_err(failed)?;
        let group = RecoveredGroup {
            start_index: index,
            start_term: machine.applied_term(),
            first_kept: index.next(),
            kept_term: machine.applied_term(),
            checkpoint: index,
            state_dir: name,
            ..RecoveredGroup::default()
        };
        Ok(OwnStart { machine, group, begins: true })
    }

    /// Sets the state directories aside whose names begin so; one that holds nothing goes.
    fn clear_states(&self, prefix: &str) -> Result<(), OpenError> {
        for left in self.states.list().map_err(io_error(Path::new("state")))? {
            if !left.starts_with(prefix) {
                continue;
            }
            let opened = self.states.open(&left).and_then(|s| Machine::open(s, self.machine));
            let holds_nothing = opened.is_ok_and(|machine| machine.applied() == LogIndex(0));
            let cleared = match holds_nothing {
                true => self.states.remove(&left),
                false => self.states.set_aside(&left),
            };
            cleared.map_err(io_error(Path::new(&left)))?;
        }
        Ok(())
    }

    /// A state at `index` in a new store.
    fn machine_without_items(&self, index: LogIndex, name: &str) -> Result<Machine, StateError> {
        let store = self.states.open(name)?;
        if index > LogIndex(0) {
            let mut import = ImportJob::new(index, TERM, log::ConfState::default(), 0);
            let made = nothing().into_iter().try_for_each(|record| import.push(&*store, record));
            made.and_then(|()| import.finish(&*store))
                .map_err(|error| StateError::Damaged { why: error.to_string() })?;
        }
        Machine::open(store, self.machine)
    }
}

/// The export of a state without items.
fn nothing() -> [log::ExportRecord; 2] {
    use log::export_record::Body;
    let descriptor = v1::Keyspace {
        id: KeyspaceId::DEFAULT.get(),
        name: DEFAULT_KEYSPACE.to_owned(),
        kind: Kind::Linearizable.into(),
        state: State::Ready.into(),
        ..v1::Keyspace::default()
    };
    let keyspace = log::KeyspaceState {
        descriptor: Some(descriptor),
        revision: Revision::EMPTY.get(),
        compacted: Revision::EMPTY.get(),
        ..log::KeyspaceState::default()
    };
    let bodies = [Body::Keyspace(keyspace), Body::Outcome(log::OutcomeState::default())];
    bodies.map(|body| log::ExportRecord { body: Some(body) })
}
