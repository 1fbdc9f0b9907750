//! Carrying out what the group decided.

use consensus::{GroupEffects, SnapshotMeta};
use prost::Message;
use proto::peer::peer_message::Body;
use proto::{Applied, Code, Failure, LogIndex, Term, log};

use super::proposals::Fate;
use super::reads::Round;
use super::writes::leadership_lost;
use super::{RaftReplica, StateMachine};
use crate::replication::{Outbox, Retired};

impl<S: StateMachine> RaftReplica<S> {
    /// Carries out one batch of effects of the group, in this order: send what may leave, append
    /// what must be durable, apply what is committed, note which reads are confirmed.
    pub(super) fn carry_out(&mut self, effects: GroupEffects, out: &mut Outbox) {
        if let Some(snapshot) = effects.installed {
            self.switch(snapshot, out);
        }
        for outgoing in effects.offers {
            out.offers.push((self.id, outgoing.to, outgoing.message));
        }
        for outgoing in effects.send {
            out.send(outgoing.to, self.id, Body::Raft(outgoing.message));
        }
        if let Some(persist) = effects.persist {
            if !persist.entries.is_empty() {
                let entries = log::Entries { entries: persist.entries };
                out.append(self.id, log::frame::Body::Entries(entries));
            }
            if let Some(hard_state) = persist.hard_state {
                out.append(self.id, log::frame::Body::HardState(hard_state));
            }
            if persist.must_sync {
                out.sync = true;
                self.unsynced.push_back((out.ticket, persist.ready));
            }
        }
        for entry in effects.committed {
            if let Err(error) = self.apply(&entry, out) {
                out.fail(self.id, format!("group {}: {error}", self.id));
                return;
            }
        }
        for (id, index) in effects.reads {
            let readers = self.reads.finish(Round::Led(id), None);
            self.round_confirmed(readers, index, out);
        }
        for id in effects.reads_lost {
            self.reads.give_up(Round::Led(id));
        }
    }

    fn apply(
        &mut self,
        entry: &log::Entry,
        out: &mut Outbox,
    ) -> Result<(), storage::state::StateError> {
        let (index, term) = (LogIndex(entry.index), Term(entry.term));
        let outcome = if entry.kind() == log::EntryKind::ConfChange {
            let conf = self.group.apply_conf_change(entry);
            let conf = conf.expect("entries are applied in the order in which they come");
            self.machine.apply_conf(index, term, &conf, self.group.applied_change());
            None
        } else {
            let command = command_of(entry);
            self.machine.apply(index, term, command.as_ref())?
        };
        self.group.applied(index);
        for fate in self.proposals.applied(index, term) {
            match fate {
                Fate::Applied(origin) => {
                    let outcome = outcome.clone().unwrap_or_default();
                    let acknowledged_by = self.group.acknowledged_by(index);
                    self.answer_write(origin, Ok((outcome, acknowledged_by)), out);
                }
                Fate::Replaced(origin) => {
                    self.answer_write(origin, Err(leadership_lost()), out);
                }
            }
        }
        Ok(())
    }

    /// The group has switched to a snapshot: so does the state, and with this append the disk. What
    /// was proposed here and lies under the snapshot may be in it or not.
    fn switch(&mut self, snapshot: SnapshotMeta, out: &mut Outbox) {
        let (machine, dir) = self.staged.take().expect("a snapshot is built before it is stepped");
        assert!(
            machine.applied() == snapshot.index,
            "group {} switches to {}, but the state built is at {}",
            self.id,
            snapshot.index,
            machine.applied()
        );
        assert!(snapshot.index > self.machine.applied(), "a state never goes back (B38)");
        let installed = log::Installed {
            index: snapshot.index.get(),
            term: snapshot.term.get(),
            conf_state: Some(snapshot.conf_state),
            change: snapshot.change,
            state_dir: dir.clone(),
        };
        out.append(self.id, log::frame::Body::Installed(installed));
        out.sync = true;
        let dir = std::mem::replace(&mut self.state_dir, dir);
        let state = Box::new(std::mem::replace(&mut self.machine, machine));
        out.retired.push(Retired { group: self.id, dir, state });
        for origin in self.proposals.covered(snapshot.index) {
            let why = "a snapshot took the place of the entry before its outcome was known here";
            let failure = Failure::new(Code::WriteTimedOut, "", why).applied(Applied::Unknown);
            self.answer_write(origin, Err(failure), out);
        }
    }
}

/// The command of a normal entry; `None` for the entry of a new leader, which has none, and for one
/// that this version cannot read. All replicas of a version agree on what they can read, and a
/// command that a newer leader proposes must not stop the older ones: it has no effect here.
pub(crate) fn command_of(entry: &log::Entry) -> Option<log::Command> {
    if entry.data.is_empty() {
        return None;
    }
    let command = log::Command::decode(entry.data.clone());
    if let Err(error) = &command {
        tracing::error!(index = entry.index, %error, "an entry cannot be read; it has no effect");
    }
    command.ok()
}
