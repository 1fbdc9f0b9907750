//! A cluster of groups without clock, network or disk of its own: each step of time, each message
//! and each sync is an explicit call.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use consensus::{
    Group, GroupConfig, GroupEffects, GroupError, GroupLog, Outgoing, Persist, ProposeError,
    Proposed, ReadId, ReadRefused, ReadyNumber, Rejected, Role, SnapshotMeta,
};
use proto::log::{ConfChange, ConfState, Entry, EntryKind, HardState};
use proto::peer::{RaftKind, RaftMessage};
use proto::{GroupId, LogIndex, NodeId, Term};

use crate::history::{History, Proposal};
use crate::print;

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub from: u64,
    pub to: u64,
    pub message: RaftMessage,
}

/// A log that begins after its start.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub start: u64,
    pub start_term: u64,
    pub entries: Vec<Entry>,
}

impl Log {
    pub fn last(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    pub fn get(&self, index: u64) -> Option<&Entry> {
        let position = usize::try_from(index.checked_sub(self.start + 1)?).unwrap();
        self.entries.get(position)
    }

    fn write(&mut self, write: Write) {
        if let Some(meta) = write.installed {
            let (start, start_term) = (meta.index.get(), meta.term.get());
            *self = Self { start, start_term, entries: Vec::new() };
        }
        let entries = write.persist.entries;
        if let Some(first) = entries.first() {
            assert!(first.index <= self.last() + 1, "gap before {first:?}");
            assert!(first.index > self.start, "{first:?} is before the start");
            self.entries.truncate(usize::try_from(first.index - self.start).unwrap() - 1);
            self.entries.extend(entries);
        }
    }

    pub fn free(&mut self, index: u64) {
        let Some(last) = self.get(index).cloned() else { return };
        self.entries.drain(..usize::try_from(index - self.start).unwrap());
        (self.start, self.start_term) = (last.index, last.term);
    }
}

/// One append to the write-ahead log, as `GroupEffects` wants it.
#[derive(Clone, Debug)]
pub struct Write {
    pub installed: Option<SnapshotMeta>,
    pub persist: Persist,
}

/// What a node wrote: synced, and written but not synced.
#[derive(Debug, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub log: Log,
    /// The state that survives is at this index, or at any before it down to the log's start.
    pub state: u64,
    pub unsynced: VecDeque<Write>,
}

impl Disk {
    fn sync_one(&mut self, write: Write) {
        self.hard_state = write.persist.hard_state.unwrap_or(self.hard_state);
        if let Some(meta) = &write.installed {
            assert!(self.state < meta.index.get(), "the state goes back to {}", meta.index);
            self.state = meta.index.get();
        }
        self.log.write(write);
    }

    /// The log as the group sees it, synced or not.
    pub fn log(&self) -> Log {
        let mut log = self.log.clone();
        for write in &self.unsynced {
            log.write(write.clone());
        }
        log
    }
}

/// One node.
#[derive(Debug, Default)]
pub struct Member {
    /// `None` while the node is down.
    pub group: Option<Group>,
    pub disk: Disk,
    pub applied: u64,
    pub boot: u64,
    /// It joined, so it does not know the first members.
    pub joined: bool,
    seen: Option<(Role, Term)>,
}

/// The cluster.
#[derive(Debug)]
pub struct Cluster {
    pub members: BTreeMap<u64, Member>,
    /// Messages on their way, oldest first.
    pub network: Vec<Envelope>,
    /// Links that lose everything, by direction.
    pub cuts: BTreeSet<(u64, u64)>,
    pub history: History,
    /// Readable lines of what happened since they were last taken; `None` to save the work.
    pub lines: Option<Vec<String>>,
    /// Every effect in full, as text; `None` to save the work.
    pub trace: Option<Vec<String>>,
    /// The number of the last membership change that was proposed.
    pub changes: u64,
    seed: u64,
}

impl Cluster {
    pub fn new(voters: u64, learners: u64, seed: u64) -> Self {
        let conf_state = ConfState {
            voters: (1..=voters).collect(),
            learners: (voters + 1..=voters + learners).collect(),
            ..Default::default()
        };
        let mut cluster = Self {
            members: BTreeMap::new(),
            network: Vec::new(),
            cuts: BTreeSet::new(),
            history: History::new(conf_state),
            lines: None,
            trace: None,
            changes: 0,
            seed,
        };
        for id in 1..=voters + learners {
            cluster.members.insert(id, Member::default());
            cluster.restart(id, 0).unwrap();
        }
        cluster
    }

    /// Starts a new node that knows no members.
    pub fn join(&mut self, id: u64) {
        let before = self.members.insert(id, Member { joined: true, ..Member::default() });
        assert!(before.is_none(), "n{id} exists");
        self.restart(id, 0).unwrap();
    }

    pub fn ids(&self) -> Vec<u64> {
        self.members.keys().copied().collect()
    }

    pub fn is_up(&self, id: u64) -> bool {
        self.members[&id].group.is_some()
    }

    pub fn group(&self, id: u64) -> &Group {
        self.members[&id].group.as_ref().expect("the node is up")
    }

    fn group_mut(&mut self, id: u64) -> &mut Group {
        self.member(id).group.as_mut().expect("the node is up")
    }

    fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).expect("the node exists")
    }

    pub fn leaders(&self) -> Vec<u64> {
        let leads = |id: &u64| self.is_up(*id) && self.group(*id).is_leader();
        self.ids().into_iter().filter(leads).collect()
    }

    // Inputs.

    pub fn tick(&mut self, id: u64) {
        self.group_mut(id).tick();
        self.collect(id);
    }

    pub fn campaign(&mut self, id: u64) {
        self.group_mut(id).campaign();
        self.collect(id);
    }

    pub fn propose(&mut self, id: u64, data: Bytes) -> Result<Proposed, ProposeError> {
        let proposed = self.group_mut(id).propose(data.clone());
        if let Ok(proposed) = proposed {
            let boot = self.members[&id].boot;
            self.history.proposed(proposed, Proposal { node: id, boot, data });
        }
        self.collect(id);
        proposed
    }

    /// Proposes a change of members. Its number is the next one, unless it has one.
    pub fn change(&mut self, id: u64, mut change: ConfChange) -> Result<Proposed, ProposeError> {
        if change.change == 0 {
            change.change = self.changes + 1;
        }
        let proposed = self.group_mut(id).propose_conf_change(&change);
        if proposed.is_ok() {
            self.changes = self.changes.max(change.change);
        }
        self.collect(id);
        proposed
    }

    pub fn leave(&mut self, id: u64) -> Result<Proposed, ProposeError> {
        let proposed = self.group_mut(id).leave_joint();
        self.collect(id);
        proposed
    }

    /// Frees the log in memory.
    pub fn compact(&mut self, id: u64, index: u64) {
        self.group_mut(id).compact_to(LogIndex(index));
    }

    /// Frees the log on disk, up to an index that the state on disk covers.
    pub fn free(&mut self, id: u64, index: u64) {
        let disk = &mut self.member(id).disk;
        assert!(index <= disk.state, "n{id} has its state at {}", disk.state);
        disk.log.free(index);
    }

    /// Names a snapshot of the state at an index.
    pub fn snapshot(&mut self, id: u64, index: Option<u64>) {
        let meta = index.map(|index| self.history.snapshot(index));
        self.group_mut(id).set_snapshot(meta);
    }

    pub fn snapshot_failed(&mut self, id: u64, to: u64) {
        self.group_mut(id).snapshot_failed(NodeId(to));
        self.collect(id);
    }

    pub fn read(&mut self, id: u64) -> Result<ReadId, ReadRefused> {
        let read = self.group_mut(id).read_index();
        if let Ok(read) = read {
            self.history.asked(id, read);
        }
        self.collect(id);
        read
    }

    pub fn transfer(&mut self, id: u64, to: u64) {
        self.group_mut(id).transfer_leader(NodeId(to));
        self.collect(id);
    }

    pub fn unreachable(&mut self, id: u64, peer: u64) {
        self.group_mut(id).report_unreachable(NodeId(peer));
        self.collect(id);
    }

    /// Syncs everything written so far.
    pub fn persist(&mut self, id: u64) {
        self.persist_first(id, usize::MAX);
    }

    /// Syncs the oldest writes, up to `count` of them.
    pub fn persist_first(&mut self, id: u64, count: usize) {
        let member = self.member(id);
        let mut last: Option<ReadyNumber> = None;
        for _ in 0..count {
            let Some(write) = member.disk.unsynced.pop_front() else { break };
            last = Some(write.persist.ready);
            member.disk.sync_one(write);
        }
        if let (Some(ready), Some(group)) = (last, member.group.as_mut()) {
            group.persisted(ready);
            self.collect(id);
        }
    }

    /// Delivers a message that was taken from the network.
    pub fn deliver(&mut self, envelope: Envelope) -> Result<(), Rejected> {
        let Envelope { from, to, message } = envelope;
        let lost = !self.is_up(to) || self.cuts.contains(&(from, to));
        self.note(|| {
            let suffix = if lost { " (lost)" } else { "" };
            format!("n{to} <- n{from} {}{suffix}", print::message(&message))
        });
        if lost {
            return Ok(());
        }
        let group = self.group_mut(to);
        let stepped = match message.kind() {
            // Its content is the history, which everyone has at once.
            RaftKind::Snapshot => group.install(NodeId(from), message).map(|_| ()),
            _ => group.step(NodeId(from), message),
        };
        if let Err(rejected) = &stepped {
            self.note(|| format!("n{to} refuses: {rejected}"));
        }
        self.collect(to);
        stepped
    }

    /// Stops a node. Of the writes that were not synced, the first `keep` survive, as does the
    /// state up to `applied`.
    pub fn crash(&mut self, id: u64, keep: usize) {
        let member = self.member(id);
        member.group = None;
        member.seen = None;
        for _ in 0..keep {
            if let Some(write) = member.disk.unsynced.pop_front() {
                member.disk.sync_one(write);
            }
        }
        member.disk.unsynced.clear();
        member.applied = member.disk.state;
        let durable_term = member.disk.hard_state.term;
        self.history.stopped(id, durable_term);
    }

    /// Makes the disk of a node that is down forget: everything, or the log after `keep` entries.
    pub fn wipe(&mut self, id: u64, keep: Option<usize>) {
        let member = self.member(id);
        assert!(member.group.is_none(), "n{id} is up");
        match keep {
            Some(entries) => member.disk.log.entries.truncate(entries),
            None => member.disk = Disk::default(),
        }
        member.applied = member.disk.state;
    }

    /// Starts a node from its disk, with its state at `applied`.
    pub fn restart(&mut self, id: u64, applied: u64) -> Result<(), GroupError> {
        let seed = self.seed;
        let (mut conf_state, change) = self.history.members_at(applied);
        let member = self.member(id);
        assert!(member.group.is_none(), "n{id} is up");
        assert!(applied <= member.disk.state, "n{id} never applied {applied}");
        // What was above is gone.
        member.disk.state = applied;
        member.boot += 1;
        let node = NodeId(id);
        let config = GroupConfig { group: GroupId::DATA, node, boot: member.boot, seed };
        if member.joined && applied == 0 {
            conf_state = ConfState::default();
        }
        let log = GroupLog {
            hard_state: member.disk.hard_state,
            conf_state,
            start_index: LogIndex(member.disk.log.start),
            start_term: Term(member.disk.log.start_term),
            entries: member.disk.log.entries.clone(),
            applied: LogIndex(applied),
            change,
        };
        member.group = Some(Group::new(config, log)?);
        member.applied = applied;
        self.collect(id);
        Ok(())
    }

    /// Syncs all disks and delivers all messages until nothing is left to do.
    pub fn settle(&mut self) {
        loop {
            for id in self.ids() {
                self.persist(id);
            }
            if self.network.is_empty() {
                return;
            }
            for envelope in std::mem::take(&mut self.network) {
                match self.deliver(envelope) {
                    // What removed nodes say.
                    Ok(()) | Err(Rejected::NotMember { .. }) => {}
                    Err(refused) => panic!("{refused}"),
                }
            }
        }
    }

    // Effects.

    /// Drains the effects of a node into disk, network and history.
    fn collect(&mut self, id: u64) {
        self.note_role(id);
        while let Some(effects) = self.group_mut(id).poll() {
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{id} {effects:?}"));
            }
            let GroupEffects { send, offers, installed, persist, committed, reads, reads_lost } =
                effects;
            for Outgoing { to, message } in send.into_iter().chain(offers) {
                self.history.promised(&self.members[&id].disk, id, &message);
                let (from, to) = (id, to.get());
                let lost = self.cuts.contains(&(from, to));
                self.note(|| {
                    let suffix = if lost { " (lost)" } else { "" };
                    format!("n{from} -> n{to} {}{suffix}", print::message(&message))
                });
                if !lost {
                    self.network.push(Envelope { from, to, message });
                }
            }
            if let Some(meta) = &installed {
                assert_eq!(*meta, self.history.snapshot(meta.index.get()), "n{id}");
                let synced = persist.as_ref().map(|p| p.must_sync && p.hard_state.is_some());
                assert_eq!(synced, Some(true), "n{id} installs what it does not sync");
                self.note(|| format!("n{id} installs {}@{}", meta.index, meta.term));
                self.history.installed += 1;
                let member = self.member(id);
                assert!(meta.index.get() > member.applied, "n{id} goes back to {}", meta.index);
                member.applied = meta.index.get();
            }
            if let Some(persist) = persist {
                self.note(|| format!("n{id} writes {}", print::persist(&persist)));
                self.member(id).disk.unsynced.push_back(Write { installed, persist });
            }
            self.apply(id, &committed);
            for (read, index) in reads {
                self.note(|| format!("n{id} read {read} answered at {index}"));
                self.history.answered(id, read, index);
            }
            for read in reads_lost {
                self.note(|| format!("n{id} read {read} lost"));
                self.history.lost(id, read);
            }
        }
        let Member { group: Some(group), disk, .. } = &self.members[&id] else {
            unreachable!("n{id} is up")
        };
        self.history.led(id, group, || disk.log());
    }

    fn apply(&mut self, id: u64, committed: &[Entry]) {
        for entry in committed {
            self.note(|| format!("n{id} applies {}", print::entry(entry)));
            let member = self.member(id);
            assert_eq!(entry.index, member.applied + 1, "n{id} applies out of order");
            assert!(
                member.disk.log.get(entry.index) == Some(entry),
                "n{id} applies {entry:?}, which is not durable there"
            );
            member.applied = entry.index;
            member.disk.state = member.disk.state.max(entry.index);
            self.history.committed(entry);
            if entry.kind() == EntryKind::ConfChange {
                let group = self.group_mut(id);
                let conf = group.apply_conf_change(entry).unwrap();
                let change = group.applied_change();
                self.note(|| format!("n{id} has members {}", print::members(&conf)));
                self.history.members_changed(entry.index, conf, change);
            }
        }
        if let Some(last) = committed.last() {
            self.group_mut(id).applied(LogIndex(last.index));
        }
    }

    fn note_role(&mut self, id: u64) {
        let group = self.group(id);
        let now = (group.status().role, group.term());
        if self.member(id).seen.replace(now) != Some(now) {
            self.note(|| format!("n{id} is {} in term {}", print::role(now.0), now.1));
        }
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(line());
        }
    }
}
