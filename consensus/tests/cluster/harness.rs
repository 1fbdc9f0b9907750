//! A cluster of groups without clock, network or disk of its own: each step of time, each message
//! and each sync is an explicit call.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use consensus::{
    Group, GroupConfig, GroupEffects, GroupError, GroupLog, Outgoing, Persist, ProposeError,
    Proposed, ReadId, ReadRefused, ReadyNumber, Rejected, Role,
};
use proto::log::{ConfState, Entry, HardState};
use proto::peer::RaftMessage;
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

/// What a node wrote: synced, and written but not synced.
#[derive(Debug, Default)]
pub struct Disk {
    pub hard_state: HardState,
    pub entries: Vec<Entry>,
    pub unsynced: VecDeque<Persist>,
}

impl Disk {
    fn sync_one(&mut self, persist: Persist) {
        write(&mut self.entries, persist.entries);
        self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
    }

    /// The log as the group sees it, synced or not.
    pub fn log(&self) -> Vec<Entry> {
        let mut entries = self.entries.clone();
        for persist in &self.unsynced {
            write(&mut entries, persist.entries.clone());
        }
        entries
    }
}

fn write(log: &mut Vec<Entry>, entries: Vec<Entry>) {
    if let Some(first) = entries.first() {
        assert!(first.index <= log.len() as u64 + 1, "gap before {first:?}");
        log.truncate(usize::try_from(first.index).unwrap() - 1);
        log.extend(entries);
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
    conf_state: ConfState,
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
            history: History::default(),
            lines: None,
            trace: None,
            conf_state,
            seed,
        };
        for id in 1..=voters + learners {
            cluster.members.insert(id, Member::default());
            cluster.restart(id, 0).unwrap();
        }
        cluster
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
            let Some(persist) = member.disk.unsynced.pop_front() else { break };
            last = Some(persist.ready);
            member.disk.sync_one(persist);
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
        let stepped = self.group_mut(to).step(NodeId(from), message);
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
            if let Some(persist) = member.disk.unsynced.pop_front() {
                member.disk.sync_one(persist);
            }
        }
        member.disk.unsynced.clear();
        self.history.stopped(id);
    }

    /// Makes the disk of a node that is down forget: everything, or the log after `keep` entries.
    pub fn wipe(&mut self, id: u64, keep: Option<usize>) {
        let member = self.member(id);
        assert!(member.group.is_none(), "n{id} is up");
        match keep {
            Some(entries) => member.disk.entries.truncate(entries),
            None => member.disk = Disk::default(),
        }
    }

    /// Starts a node from its disk, with its state at `applied`.
    pub fn restart(&mut self, id: u64, applied: u64) -> Result<(), GroupError> {
        let (seed, conf_state) = (self.seed, self.conf_state.clone());
        let member = self.member(id);
        assert!(member.group.is_none(), "n{id} is up");
        assert!(applied <= member.applied, "n{id} never applied {applied}");
        member.boot += 1;
        let node = NodeId(id);
        let config = GroupConfig { group: GroupId::DATA, node, boot: member.boot, seed };
        let log = GroupLog {
            hard_state: member.disk.hard_state,
            conf_state,
            entries: member.disk.entries.clone(),
            applied: LogIndex(applied),
            ..Default::default()
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
                self.deliver(envelope).unwrap();
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
            let GroupEffects { send, persist, committed, reads, reads_lost } = effects;
            for Outgoing { to, message } in send {
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
            if let Some(persist) = persist {
                self.note(|| format!("n{id} writes {}", print::persist(&persist)));
                self.member(id).disk.unsynced.push_back(persist);
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
                member.disk.entries.get(usize::try_from(member.applied).unwrap()) == Some(entry),
                "n{id} applies {entry:?}, which is not durable there"
            );
            member.applied = entry.index;
            self.history.committed(entry);
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
