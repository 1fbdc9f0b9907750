//! One Raft group on one node.

mod changes;
mod observation;
mod snapshots;

pub use changes::conf_after;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proto::log::{self, EntryKind};
use proto::peer::{RaftKind, RaftMessage};
use proto::{LogIndex, NodeId, Term};
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{RawNode, Ready, StateRole};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::boot::GroupLog;
use crate::config::{ELECTION_TICKS, ELECTION_TIMEOUT_TICKS, GroupConfig, HEARTBEAT_TICKS};
use crate::drain;
use crate::durability::Durability;
use crate::effects::{GroupEffects, Outgoing, Persist, Proposed, ReadyNumber};
use crate::error::{GroupError, ProposeError, ReadRefused, Rejected};
use crate::gate::{self, View};
use crate::log::MemoryLog;
use crate::read::{ReadId, Reads};
use crate::status::Role;
use crate::wire;

/// One Raft group on one node: a synchronous core without clock, disk, network or chance of its
/// own. Inputs are method calls; what they lead to is collected by [`Group::poll`].
///
/// Invariants, asserted in release builds too:
/// - applied <= handed out <= committed and durable on this node;
/// - entries are handed out once, in order, without gaps, but for those that a snapshot replaces;
/// - changes of members are applied in order, each before anything after it;
/// - units of work become durable in the order they were handed out;
/// - no message leaves that promises something not yet durable;
/// - proposals and reads enter the library only while this node leads;
/// - a leader votes; one that no longer does has stepped down.
///
/// Two groups with equal configuration, log and inputs have equal effects, byte for byte.
pub struct Group {
    raw: RawNode<MemoryLog>,
    rng: ChaCha8Rng,
    /// The timeout in force. See [`Group::settle`].
    election_timeout: usize,
    durability: Durability,
    reads: Reads,
    /// Term and vote last handed out for persisting.
    vote_handed_out: (u64, u64),
    /// Last index handed out for applying.
    handed_out: LogIndex,
    /// Ticks since the start.
    ticks: u64,
    /// The tick at which each peer was last heard.
    heard: BTreeMap<NodeId, u64>,
    /// Changes of members that were handed out and are not applied yet.
    changes_waiting: VecDeque<LogIndex>,
    /// Where the members last changed, since the start.
    changed_at: LogIndex,
    /// The membership changes up to this one are carried out.
    applied_change: u64,
    /// A snapshot handed out as installed, and the unit of work with which it becomes durable.
    installing: Option<(ReadyNumber, LogIndex)>,
    /// Everything up to here came with a snapshot.
    installed: LogIndex,
    /// Leader: the tick at which each follower that was offered a snapshot was offered it.
    offered: BTreeMap<NodeId, u64>,
    /// Leader: at how many heartbeats in a row each learner had caught up.
    caught_up: BTreeMap<NodeId, u32>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Life and inputs.
impl Group {
    /// Starts the group from what is left of it on disk.
    ///
    /// # Errors
    /// [`GroupError`] if the log contradicts itself or has lost its tail; nothing was changed.
    pub fn new(config: GroupConfig, log: GroupLog) -> Result<Self, GroupError> {
        log.check(&config)?;
        let (applied, applied_change) = (log.applied, log.change);
        let hard_state = log.hard_state();
        let vote_handed_out = (hard_state.term, hard_state.vote);
        let library = |error: raft::Error| GroupError::Library { why: error.to_string() };
        let raw = RawNode::new(&config.library(applied), MemoryLog::new(log), &drain::logger())
            .map_err(library)?;
        let mut group = Self {
            raw,
            rng: ChaCha8Rng::from_seed(config.generator_seed()),
            election_timeout: ELECTION_TICKS,
            durability: Durability::default(),
            reads: Reads::new(&config),
            vote_handed_out,
            handed_out: applied,
            ticks: 0,
            heard: BTreeMap::new(),
            changes_waiting: VecDeque::new(),
            changed_at: LogIndex(0),
            applied_change,
            installing: None,
            installed: LogIndex(0),
            offered: BTreeMap::new(),
            caught_up: BTreeMap::new(),
        };
        group.drop_beginning();
        group.redraw_election_timeout();
        Ok(group)
    }

    /// Lets one [`TICK`](crate::config::TICK) pass.
    pub fn tick(&mut self) {
        self.ticks += 1;
        if self.may_campaign() || self.is_leader() {
            self.settle(|raw| raw.tick());
        }
        if self.is_leader() {
            if self.ticks.is_multiple_of(HEARTBEAT_TICKS as u64) {
                self.count_learners();
            }
            self.give_up_snapshots();
            self.finish_change();
        }
    }

    /// Takes a message that arrived over the link of `from`; that of a snapshot goes to
    /// [`Group::install`].
    ///
    /// # Errors
    /// [`Rejected`] if the message cannot be believed; it was dropped and nothing changed.
    pub fn step(&mut self, from: NodeId, message: RaftMessage) -> Result<(), Rejected> {
        let view = self.view(from);
        gate::check(&view, from, &message)?;
        let (kind, term) = (message.kind(), message.term);
        if kind == RaftKind::Append {
            let positions = gate::positions(&message);
            gate::check_committed(&view, &message, positions, |index| self.committed_term(index))?;
        }
        if kind == RaftKind::VoteResponse && view.role == Role::Candidate && !self.log_is_durable()
        {
            return Err(Rejected::VoteUnasked);
        }
        self.heard.insert(from, self.ticks);
        let message = wire::message_from_peer(message).expect("the gate lets known kinds through");
        if kind == RaftKind::TimeoutNow && !self.may_campaign() {
            return Ok(());
        }
        let library = |error: raft::Error| Rejected::Library { why: error.to_string() };
        self.settle(|raw| raw.step(message)).map_err(library)?;
        if kind == RaftKind::AppendResponse {
            self.settle_progress(from);
        }
        if kind == RaftKind::PreVote {
            self.refuse_audibly(from, term - 1);
        }
        Ok(())
    }

    /// Lets the refusal of a pre-vote be heard by a candidate whose term is later than this node's.
    ///
    /// The library names its own term and ignores what is of an earlier one. But a refusal also says
    /// what is committed, and that can be all that a candidate lacks: one that is to remain alone,
    /// and does not know that the change is finished, asks a leader that was removed by it, has a
    /// longer log and will never stand for election itself.
    fn refuse_audibly(&mut self, candidate: NodeId, its_term: u64) {
        for message in &mut self.raw.raft.msgs {
            let refusal = message.msg_type == MessageType::MsgRequestPreVoteResponse
                && message.reject
                && message.to == candidate.get();
            if refusal {
                message.term = message.term.max(its_term);
            }
        }
    }

    /// Stands for election at once, after a round that asks whether it could be won. Does nothing
    /// on a leader or a learner.
    pub fn campaign(&mut self) {
        if self.raw.raft.promotable() && self.may_campaign() {
            // The library has no reason to refuse that it could tell: it logs and stays.
            let _ = self.settle(RawNode::campaign);
        }
    }

    /// Proposes an entry, for anything but a change of members. It is durable nowhere yet; see [`Proposed`] for how to learn its fate.
    ///
    /// # Errors
    /// [`ProposeError`]; nothing was written.
    ///
    /// # Panics
    /// If `data` is empty: that is the mark of a new leader's own entry.
    pub fn propose(&mut self, data: Bytes) -> Result<Proposed, ProposeError> {
        assert!(!data.is_empty(), "a proposal is never empty");
        let proposed = self.next_proposal()?;
        // Not `RawNode::propose`, which would copy the data.
        let message = Message {
            msg_type: MessageType::MsgPropose,
            from: self.raw.raft.id,
            entries: vec![Entry { data, ..Default::default() }].into(),
            ..Default::default()
        };
        match self.settle(|raw| raw.raft.step(message)) {
            Ok(()) => {
                let last = self.last_index();
                assert!(last == proposed.index, "proposed {proposed:?}, log ends at {last}");
                Ok(proposed)
            }
            Err(raft::Error::ProposalDropped) => Err(ProposeError::LogFull),
            Err(error) => panic!("the library refused a proposal of the leader: {error}"),
        }
    }

    /// Where the next proposal will stand.
    fn next_proposal(&self) -> Result<Proposed, ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NotLeader { leader: self.leader() });
        }
        if let Some(to) = self.raw.raft.lead_transferee {
            return Err(ProposeError::Transferring { to: NodeId(to) });
        }
        Ok(Proposed { term: self.term(), index: self.last_index().next() })
    }

    /// Asks for an index at which a read that begins now is linearizable. The answer comes in
    /// [`GroupEffects::reads`] or, when leadership is lost, in [`GroupEffects::reads_lost`]; one of
    /// both always comes as long as time passes. One question may stand for any number of reads
    /// that began before it.
    ///
    /// # Errors
    /// [`ReadRefused`]; no answer will come.
    pub fn read_index(&mut self) -> Result<ReadId, ReadRefused> {
        if !self.is_leader() {
            return Err(ReadRefused::NotLeader { leader: self.leader() });
        }
        if !self.raw.raft.commit_to_current_term() {
            return Err(ReadRefused::NotReady);
        }
        if self.reads.is_full() {
            return Err(ReadRefused::TooManyPending);
        }
        let (id, context) = self.reads.ask(self.term());
        self.settle(|raw| raw.read_index(context));
        Ok(id)
    }

    /// Hands leadership over to `to`, once it holds the whole log. Until then, or until an election
    /// timeout has passed, proposals are refused. Does nothing unless this node leads and `to` is
    /// another voter.
    pub fn transfer_leader(&mut self, to: NodeId) {
        if self.is_leader() {
            self.settle(|raw| raw.transfer_leader(to.get()));
        }
    }

    /// Tells that messages to `node` may have been lost: a leader stops sending ahead to it until
    /// it answers.
    pub fn report_unreachable(&mut self, node: NodeId) {
        self.settle(|raw| raw.report_unreachable(node.get()));
    }

    /// Tells that everything handed out for persisting up to `ready` is durable. Messages that
    /// waited for it, and what it commits, come with the next [`Group::poll`].
    ///
    /// # Panics
    /// If `ready` was not handed out, or is before one already reported.
    pub fn persisted(&mut self, ready: ReadyNumber) {
        self.durability.report(ready);
        let durable = self.durability.durable();
        self.settle(|raw| raw.on_persist_ready(durable.0));
        self.finish_install(durable);
    }

    /// Tells that everything up to `index` is applied. What was handed out before a snapshot was
    /// installed no longer counts: the state never goes back behind the snapshot.
    ///
    /// # Panics
    /// If the index was not handed out, is below what was applied before, or is not below that of a
    /// change of members that was handed out and not applied with [`Group::apply_conf_change`].
    pub fn applied(&mut self, index: LogIndex) {
        if index <= self.installed {
            return;
        }
        let before = LogIndex(self.raw.raft.raft_log.applied());
        assert!(index >= before, "applied {index} after {before}");
        assert!(index <= self.handed_out, "applied {index} of {}", self.handed_out);
        if let Some(change) = self.changes_waiting.front() {
            assert!(index < *change, "applied {index}, but not the change of members at {change}");
        }
        self.settle(|raw| raw.advance_apply_to(index.get()));
        self.drop_beginning();
    }
}

/// Effects.
impl Group {
    /// Takes the next unit of work; call until `None` after every input or batch of inputs.
    ///
    /// Only entries that are durable *on this node* are handed out for applying, even when a
    /// majority of others holds them already (etcd-io/etcd#14370 acknowledged earlier).
    pub fn poll(&mut self) -> Option<GroupEffects> {
        let has_ready = self.raw.has_ready();
        if !has_ready && !self.durability.has_released() && !self.reads.has_lost() {
            return None;
        }
        let mut effects = GroupEffects {
            send: self.durability.take_released(),
            reads_lost: self.reads.take_lost(),
            ..Default::default()
        };
        if has_ready {
            self.take_ready(&mut effects);
        }
        let is_offer = |outgoing: &Outgoing| outgoing.message.kind() == RaftKind::Snapshot;
        (effects.offers, effects.send) = effects.send.into_iter().partition(is_offer);
        Some(effects)
    }

    /// Drains one unit of work of the library. The order matters; nothing else touches the library
    /// in between.
    fn take_ready(&mut self, effects: &mut GroupEffects) {
        // 1. Collect.
        let mut ready = self.raw.ready();
        let number = ReadyNumber(ready.number());
        let hard_state = ready.hs().cloned().map(wire::hard_state_to_log);
        let new_vote = self.note_vote(hard_state.as_ref());
        self.durability.hand_out(number, ready.must_sync(), new_vote);

        // 2. Messages: those that promise something wait for this unit's sync.
        let mut messages = ready.take_messages();
        messages.extend(ready.take_persisted_messages());
        effects.send.extend(self.durability.send(outgoing(messages), promises));

        // 3. An installed snapshot, then the entries after it, into the log in memory *before* the
        //    library is told to go on, and out to be written together with the hard state.
        effects.installed = self.take_installed(&mut ready, number);
        let entries = ready.take_entries();
        effects.persist = persist(number, &entries, hard_state, ready.must_sync());
        self.raw.mut_store().append(entries);

        // 4. What is committed, and the reads that were confirmed.
        effects.committed = self.take_committed(&mut ready);
        let leading = self.is_leader().then(|| self.term());
        for state in ready.take_read_states() {
            if let Some(id) = self.reads.confirm(&state.request_ctx, leading) {
                effects.reads.push((id, LogIndex(state.index)));
            }
        }

        // 5. Go on without waiting for the disk. A unit that owes no sync, with none owed before
        //    it, is as good as persisted.
        self.raw.advance_append_async(ready);
        if self.durability.durable() == number {
            self.settle(|raw| raw.on_persist_ready(number.0));
        }
    }

    /// Whether this hard state has a new term or vote.
    fn note_vote(&mut self, hard_state: Option<&log::HardState>) -> bool {
        let vote = hard_state.map_or(self.vote_handed_out, |state| (state.term, state.vote));
        std::mem::replace(&mut self.vote_handed_out, vote) != vote
    }

    fn take_committed(&mut self, ready: &mut Ready) -> Vec<log::Entry> {
        let committed = ready.take_committed_entries();
        let persisted = self.raw.raft.raft_log.persisted;
        for entry in &committed {
            let index = LogIndex(entry.index);
            assert!(index == self.handed_out.next(), "{index} after {}", self.handed_out);
            assert!(entry.index <= persisted, "{index} is not durable here");
            self.handed_out = index;
        }
        let committed: Vec<_> = committed.into_iter().map(wire::entry_to_log).collect();
        let changes = committed.iter().filter(|entry| entry.kind() == EntryKind::ConfChange);
        self.changes_waiting.extend(changes.map(|entry| LogIndex(entry.index)));
        committed
    }

    /// Runs one call into the library and settles what it may have changed.
    ///
    /// The library draws a new election timeout from the thread's generator whenever it resets
    /// itself. That draw never counts: it is overwritten here, before the next tick could look at
    /// it, with one from the group's own generator. A new one is drawn when term or role changed,
    /// which is visible and therefore the same in every run, and never otherwise; a timeout that
    /// stays the same for ever would let two candidates split their votes for ever.
    fn settle<T>(&mut self, call: impl FnOnce(&mut RawNode<MemoryLog>) -> T) -> T {
        let before = (self.raw.raft.term, self.raw.raft.state);
        let result = call(&mut self.raw);
        if before != (self.raw.raft.term, self.raw.raft.state) {
            self.reads.give_up();
            self.offered.clear();
            self.caught_up.clear();
            self.redraw_election_timeout();
        }
        self.raw.raft.set_randomized_election_timeout(self.election_timeout);
        result
    }

    fn redraw_election_timeout(&mut self) {
        self.election_timeout = self.rng.random_range(ELECTION_TIMEOUT_TICKS);
        self.raw.raft.set_randomized_election_timeout(self.election_timeout);
    }

    /// Whether an election would be sound. A node that alone decides wins at once, and the library
    /// insists that its whole log is durable then; others ask first, and the question waits for the
    /// disk. And while an installed snapshot is not durable, the library could not look for changes
    /// of members between what is applied and what is committed.
    fn may_campaign(&self) -> bool {
        let raft = &self.raw.raft;
        let alone = raft.prs().conf().voters().ids().iter().all(|id| id == raft.id);
        (!alone || self.log_is_durable()) && self.installing.is_none() && self.raw.snap().is_none()
    }

    fn log_is_durable(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        log.persisted == log.last_index()
    }

    /// The term of a committed entry, if the log still knows it.
    fn committed_term(&self, index: LogIndex) -> Option<Term> {
        let log = &self.raw.raft.raft_log;
        let known = self.raw.store().start()..=log.committed;
        let term = known.contains(&index.get()).then(|| log.term(index.get()).ok()).flatten();
        // The library says 0 for what is before a snapshot that it has just taken.
        term.filter(|term| *term > 0).map(Term)
    }

    fn view(&self, from: NodeId) -> View {
        let raft = &self.raw.raft;
        View {
            node: NodeId(raft.id),
            role: role(raft.state),
            term: self.term(),
            leader: self.leader(),
            last_index: self.last_index(),
            knows_members: raft.prs().iter().len() > 0,
            sender_matched: raft.prs().get(from.get()).map(|peer| LogIndex(peer.matched)),
        }
    }
}

fn role(state: StateRole) -> Role {
    match state {
        StateRole::Follower => Role::Follower,
        StateRole::PreCandidate => Role::PreCandidate,
        StateRole::Candidate => Role::Candidate,
        StateRole::Leader => Role::Leader,
    }
}

/// The messages in a stable order: the library visits members in the order of a hash map, which is
/// not the same on every machine. The order of messages to one member is kept.
fn outgoing(messages: Vec<Message>) -> Vec<Outgoing> {
    let outgoing = |message: Message| Outgoing {
        to: NodeId(message.to),
        message: wire::message_to_peer(message),
    };
    let mut messages: Vec<Outgoing> = messages.into_iter().map(outgoing).collect();
    messages.sort_by_key(|message| message.to);
    messages
}

/// Whether a message speaks for the sender's disk. Asking for votes does: the library counts its
/// own vote at once.
fn promises(outgoing: &Outgoing) -> bool {
    match outgoing.message.kind() {
        RaftKind::Append
        | RaftKind::Heartbeat
        | RaftKind::HeartbeatResponse
        | RaftKind::Snapshot
        | RaftKind::TimeoutNow => false,
        RaftKind::AppendResponse => !outgoing.message.reject,
        RaftKind::Vote
        | RaftKind::VoteResponse
        | RaftKind::PreVote
        | RaftKind::PreVoteResponse
        | RaftKind::Unspecified => true,
    }
}

fn persist(
    ready: ReadyNumber,
    entries: &[Entry],
    hard_state: Option<log::HardState>,
    must_sync: bool,
) -> Option<Persist> {
    if entries.is_empty() && hard_state.is_none() {
        assert!(!must_sync, "ready {ready} has nothing to sync");
        return None;
    }
    let entries = entries.iter().cloned().map(wire::entry_to_log).collect();
    Some(Persist { ready, entries, hard_state, must_sync })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::READS_PENDING_MAX;
    use proto::GroupId;
    use proto::log::ConfState;
    use std::collections::BTreeSet;

    fn group(voters: &[u64]) -> Group {
        let config = GroupConfig { group: GroupId::DATA, node: NodeId(1), boot: 1, seed: 1 };
        let conf_state = ConfState { voters: voters.to_vec(), ..Default::default() };
        Group::new(config, GroupLog { conf_state, ..Default::default() }).unwrap()
    }

    #[test]
    fn a_group_may_move_to_another_thread() {
        fn check<T: Send>() {}
        check::<Group>();
    }

    /// The library draws its own timeout at each reset; ours is in force after every call, within
    /// the bounds, and not always the same (a pinned one splits votes for ever).
    #[test]
    fn the_election_timeout_in_force_is_always_ours() {
        let mut group = group(&[1, 2, 3]);
        let mut seen = BTreeSet::new();
        for term in 1..200 {
            let message = RaftMessage {
                kind: RaftKind::Heartbeat as i32,
                from: 2,
                to: 1,
                term,
                ..Default::default()
            };
            group.step(NodeId(2), message).unwrap();
            while group.poll().is_some() {}
            let in_force = group.raw.raft.randomized_election_timeout();
            assert_eq!(in_force, group.election_timeout);
            seen.insert(in_force);
        }
        assert_eq!((seen.first(), seen.last()), (Some(&20), Some(&39)));
        assert_eq!(seen.len(), 20);
    }

    /// What the library hands over unsorted leaves sorted by addressee, in order for each.
    #[test]
    fn messages_leave_in_a_stable_order() {
        let message = |to, index| Message {
            msg_type: MessageType::MsgAppend,
            to,
            index,
            ..Default::default()
        };
        let sorted = outgoing(vec![message(3, 1), message(2, 9), message(3, 0), message(2, 1)]);
        let order: Vec<(u64, u64)> =
            sorted.iter().map(|message| (message.to.get(), message.message.index)).collect();
        assert_eq!(order, [(2, 9), (2, 1), (3, 1), (3, 0)]);
    }

    #[test]
    fn reads_are_refused_above_their_number() {
        let mut group = group(&[1, 2, 3]);
        assert_eq!(group.read_index(), Err(ReadRefused::NotLeader { leader: None }));
        lead(&mut group);
        assert_eq!(group.read_index(), Err(ReadRefused::NotReady));
        answer(&mut group, RaftKind::AppendResponse, 1);
        for _ in 0..READS_PENDING_MAX {
            group.read_index().unwrap();
        }
        assert_eq!(group.read_index(), Err(ReadRefused::TooManyPending));
    }

    #[test]
    #[should_panic(expected = "a proposal is never empty")]
    fn an_empty_proposal_is_a_panic() {
        let mut group = group(&[1, 2, 3]);
        lead(&mut group);
        let _ = group.propose(Bytes::new());
    }

    #[test]
    #[should_panic(expected = "applied 2 of 1")]
    fn applying_what_was_not_handed_out_is_a_panic() {
        let mut group = group(&[1]);
        group.campaign();
        drain(&mut group);
        group.applied(LogIndex(2));
    }

    fn lead(group: &mut Group) {
        group.campaign();
        answer(group, RaftKind::PreVoteResponse, 0);
        answer(group, RaftKind::VoteResponse, 0);
        assert!(group.is_leader());
    }

    /// Node 2 answers in term 1.
    fn answer(group: &mut Group, kind: RaftKind, index: u64) {
        let (kind, from, to) = (kind as i32, 2, 1);
        let message = RaftMessage { kind, from, to, term: 1, index, ..Default::default() };
        drain(group);
        group.step(NodeId(2), message).unwrap();
        drain(group);
    }

    fn drain(group: &mut Group) {
        while let Some(effects) = group.poll() {
            if let Some(persist) = effects.persist {
                group.persisted(persist.ready);
            }
        }
    }
}
