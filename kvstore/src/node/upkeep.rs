//! What a node does by itself, tick by tick: publish its addresses, carry out changes of members and
//! keyspaces, propose compactions, write exports, keep its log in memory short.

use std::collections::BTreeSet;

use consensus::{GroupStatus, SnapshotMeta};
use proto::peer::peer_message::Body;
use proto::{Code, Failure, GroupId, KeyspaceId, LogIndex, NodeId, Revision, log, peer, v1};
use storage::export::{ExportFile, ExportHeader};
use storage::mvcc::HistoryClock;

use super::catalogue::{Member, OpenChange};
use super::config::EXPORT_LOG_BYTES_MAX;
use super::exports::Added;
use super::io::{Effect, ExportFailed, ExportSource, RequestId};
use super::keyspaces::{self, Held};
use super::membership::{self, Standing, Step};
use super::stores::KEPT;
use super::{Node, Reply, STORE_FAILED, Strain};
use crate::replication::raft::{RaftReplica, StateMachine};
use crate::replication::{EventualOptions, Origin, Replication, Submission};

/// Ticks between two looks at what the catalogue wants.
const DRIVE_TICKS: u64 = 4;
/// Ticks between two attempts to publish this node's addresses.
const PUBLISH_TICKS: u64 = 10;
/// Ticks between two looks at the history that keyspaces keep.
const COMPACT_TICKS: u64 = 20;
/// Ticks between two looks at keyspaces that have more history than one compaction drops.
const BEHIND_TICKS: u64 = 2;
/// Ticks in a second.
const SECOND_TICKS: u64 = 20;

impl Node {
    /// One tick of upkeep.
    pub(super) fn upkeep(&mut self) {
        let now = self.now.0;
        if now.is_multiple_of(PUBLISH_TICKS) {
            self.publish();
        }
        if now.is_multiple_of(DRIVE_TICKS) {
            self.drive_members();
            self.drive_keyspaces();
        }
        if now.is_multiple_of(BEHIND_TICKS) {
            self.compact_history(now.is_multiple_of(COMPACT_TICKS));
        }
        if self.read_only && now.is_multiple_of(SECOND_TICKS) {
            self.leave_to_others();
        }
        self.note_full_disks();
        self.measure_strain();
        self.tick_snapshots();
        self.tick_exports();
        self.tick_renewals();
        self.tick_secrets();
        self.tick_actors();
        let bounds = &self.config.bounds;
        self.meta.trim_log(bounds, self.exports.held(GroupId::META));
        self.data.trim_log(bounds, self.exports.held(GroupId::DATA));
    }

    /// Looks how far log and layers have grown, and lets the data group and the node's own log refuse writes
    /// accordingly.
    fn measure_strain(&mut self) {
        let (log_bytes, layer_bytes) = (self.exports.log_bytes(), self.layer_bytes());
        let ahead_bytes = self.ahead_bytes();
        let strain = Strain::of(log_bytes, layer_bytes, ahead_bytes, &self.config.bounds);
        let before = std::mem::replace(&mut self.strain, strain);
        let refuses = strain >= Strain::Refusing;
        if refuses != (before >= Strain::Refusing) {
            let what = if refuses { "writes are refused until" } else { "writes are taken again:" };
            tracing::warn!(log_bytes, layer_bytes, "{what} exports and checkpoints have kept up");
        }
        self.data.set_overloaded(refuses);
        self.eventual.own_mut().set_overloaded(refuses);
        self.eventual.set_closed(strain >= Strain::Closed);
    }

    /// The strain without what is ahead of checkpoints that run: that ends with them.
    pub(super) fn lasting_strain(&self) -> Strain {
        Strain::of(self.exports.log_bytes(), self.layer_bytes(), 0, &self.config.bounds)
    }

    /// Publishes this node's addresses in the catalogue, until they stand there.
    fn publish(&mut self) {
        let own = v1::Member {
            id: self.config.id.get(),
            name: self.config.name.clone(),
            client_address: self.config.client_address.clone(),
            peer_address: self.config.peer_address.clone(),
        };
        let known = self.meta.machine().members().with_id(self.config.id);
        if known.is_none_or(|known| known.member == own) {
            return;
        }
        let set = log::SetMember { member: Some(own) };
        self.submit_meta(log::command::Body::SetMember(set));
    }

    /// Hands a command of the node's own to group 0.
    pub(super) fn submit_meta(&mut self, body: log::command::Body) {
        let command = log::Command { body: Some(body) };
        self.meta.write(internal(command), &mut self.outbox);
    }

    /// Lets every group that this node leads follow the catalogue, and notes when all have.
    fn drive_members(&mut self) {
        let members = self.meta.machine().members();
        let (wanted, change) = (members.wanted(), members.change_number());
        let open = members.open_change().is_some();
        let leads = self.meta.leads();
        if leads {
            self.promote_by_itself(&self.meta.status());
        }
        drive(&mut self.data, self.config.id, &wanted, change);
        // Who leaves learns from group 0 that it is to leave, so it leaves that last: it may lead the
        // data group. Where it leads group 0 it hands that over; what it knows of the data group, which
        // it may have left, says nothing any more.
        let own = self.config.id;
        let leaves = !wanted.voters.contains(&own) && !wanted.learners.contains(&own);
        // Who has left group 0 was drained before, and is heard no more.
        let is_drained =
            !membership::holds_leaving(&self.meta.conf_state(), &wanted) || self.is_drained();
        if leaves || is_drained && !membership::holds_leaving(&self.data.conf_state(), &wanted) {
            drive(&mut self.meta, self.config.id, &wanted, change);
        }
        let done = membership::carried_out(&self.meta.conf_state(), &wanted)
            && membership::carried_out(&self.data.conf_state(), &wanted);
        if open && done && leads && is_drained && self.is_change_followed() {
            self.submit_meta(log::command::Body::ChangeDone(log::ChangeDone { change }));
        }
        self.tell_members();
    }

    /// Whether nothing has to be waited for that only a member has who leaves. It hears of that from group 0, and so stays in
    /// it until then.
    fn is_drained(&self) -> bool {
        let catalogue = self.meta.machine();
        let leaving = catalogue.members().open_change().and_then(OpenChange::drains);
        let leaving = leaving.filter(|_| catalogue.keyspaces().any_eventual());
        leaving.is_none_or(|node| self.eventual.is_drained(node))
    }

    /// A member that was added as a voter becomes one once it has caught up.
    fn promote_by_itself(&mut self, status: &GroupStatus) {
        let members = self.meta.machine().members();
        if members.open_change().is_some() {
            return;
        }
        let ready = |member: &&Member| {
            let caught_up = member.id().is_some_and(|id| status.learners_caught_up.contains(&id));
            member.promote && !member.voter && caught_up
        };
        let Some(name) = members.iter().find(ready).map(|member| member.member.name.clone()) else {
            return;
        };
        let kind = log::change_member::Kind::Promote.into();
        let decided_after = members.change_number();
        let change =
            log::ChangeMember { kind, name, decided_after, ..log::ChangeMember::default() };
        self.submit_meta(log::command::Body::ChangeMember(change));
    }

    /// Tells the links who belongs to the cluster, when that has changed.
    fn tell_members(&mut self) {
        let members = self.meta.machine().members();
        if members.with_id(self.config.id).is_none() {
            // A node that has just joined knows nobody yet, and one that was removed is told by others.
            return;
        }
        let list: Vec<v1::Member> = members.reachable().map(|m| m.member.clone()).collect();
        let removed = members.removed().clone();
        let told = (list, removed);
        if self.told.as_ref() != Some(&told) {
            let (members, removed) = told.clone();
            self.effects.push(Effect::Members { members, removed });
            self.told = Some(told);
        }
    }

    /// A node that was added has started: its id belongs into the catalogue.
    pub(super) fn joining(&mut self, name: String, node: NodeId) {
        let unbound = |member: &Member| member.id().is_none();
        if self.meta.machine().members().named(&name).is_some_and(unbound) {
            let bind = log::BindMember { name, id: node.get() };
            self.submit_meta(log::command::Body::BindMember(bind));
        }
    }

    /// Lets the data group follow the keyspaces of the catalogue.
    fn drive_keyspaces(&mut self) {
        if !self.meta.leads() {
            return;
        }
        let machine = self.data.machine();
        let held = |id: u64| match machine.keyspace_info(KeyspaceId(id)) {
            Some(info) => Held::Open(info.descriptor.generation),
            None if machine.is_closed(KeyspaceId(id)) => Held::Closed,
            None => Held::Nothing,
        };
        for step in keyspaces::next_steps(self.meta.machine().keyspaces(), held) {
            match step {
                keyspaces::Step::Data(command) => {
                    self.data.write(internal(command), &mut self.outbox);
                }
                keyspaces::Step::Meta(command) => {
                    self.meta.write(internal(command), &mut self.outbox);
                }
            }
        }
    }

    /// As leader, proposes to drop history that nobody wants to keep: of `all` keyspaces, or of those for
    /// which the last proposal was not enough and has been carried out.
    fn compact_history(&mut self, all: bool) {
        if !self.data.leads() || self.read_only {
            self.history = HistoryClock::default();
            self.behind.clear();
            return;
        }
        let seconds = self.now.0 / SECOND_TICKS;
        let machine = self.data.machine();
        let ids: Vec<KeyspaceId> = if all {
            let all: Vec<_> =
                machine.keyspaces().map(|info| KeyspaceId(info.descriptor.id)).collect();
            self.history.retain(|id| all.contains(&id));
            self.behind.retain(|id, _| all.contains(id));
            all
        } else {
            let carried_out =
                |proposed: &(&KeyspaceId, &Revision)| machine.compacted(*proposed.0) >= *proposed.1;
            self.behind.iter().filter(carried_out).map(|(id, _)| *id).collect()
        };
        for id in &ids {
            self.behind.remove(id);
        }
        let history = &mut self.history;
        let due = |id| Some((id, machine.compaction_due(id, history, seconds)?));
        let due: Vec<(KeyspaceId, Revision)> = ids.into_iter().filter_map(due).collect();
        self.behind.extend(due.iter().copied());
        for (keyspace, revision) in due {
            let compact = log::Compact { keyspace: keyspace.get(), revision: revision.get() };
            let command = log::Command { body: Some(log::command::Body::Compact(compact)) };
            self.data.write(internal(command), &mut self.outbox);
        }
    }

    /// Begins, offers and drops exports.
    fn tick_exports(&mut self) {
        let now = self.now;
        self.offer_exports();
        self.want_exports();
        if self.stores.any_failed() {
            let waiting = self.exports.take_waiting();
            self.refuse_exports(waiting, STORE_FAILED);
        }
        for (group, node) in self.exports.take_silent(now) {
            self.snapshot_failed(group, node);
        }
        // While the log takes nothing, what it last heard of an export is not durable perhaps.
        if !self.read_only {
            for file in self.exports.take_useless(now) {
                self.effects.push(Effect::RemoveExport(file.path));
            }
        }
        let may = self.stores.are_idle() && !self.stores.any_failed();
        if may && self.exports.begins(now) {
            self.begin_export_round();
        }
        let (layers, bounds) = (self.layer_bytes(), &self.config.bounds);
        // Where the log is too long, checkpoints wait and so, if need be, do writes.
        let delays = layers > bounds.layer_bytes && self.exports.log_bytes() <= bounds.log_bytes;
        for group in KEPT {
            if self.exports.is_writing(group) && delays {
                self.effects.push(Effect::AbortExport(group));
            }
        }
    }

    /// Lets the groups offer the newest exports whose index they have reached.
    fn offer_exports(&mut self) {
        for group in [GroupId::META, GroupId::DATA] {
            let Some(file) = self.exports.newest(group) else { continue };
            let ExportHeader { index, term, conf_state, change, .. } = file.header.clone();
            let meta = SnapshotMeta { index, term, conf_state, change };
            if group == GroupId::META && index <= self.meta.applied() {
                self.meta.set_snapshot(Some(meta));
            } else if group == GroupId::DATA && index <= self.data.applied() {
                self.data.set_snapshot(Some(meta));
            }
        }
    }

    fn want_exports(&mut self) {
        // What lives: the stores' files may be several times as long.
        let newest = KEPT.into_iter().filter_map(|group| self.exports.newest(group));
        let state_bytes: u64 = newest.map(|file| file.bytes).sum();
        // Nodes take their turns at different times.
        let share = 16 + self.config.id.get() % 8;
        let least = self.config.export_log_bytes / 16 * share;
        let limit = least.max(2 * state_bytes).min(EXPORT_LOG_BYTES_MAX.max(least));
        let limit = limit.min(self.config.bounds.log_bytes);
        let log_bytes = self.exports.log_bytes();
        // The round would begin with a checkpoint, and delay the start as that does.
        let starts_up = KEPT.into_iter().all(|group| self.starts_up(group));
        let waits = starts_up && log_bytes <= self.config.bounds.log_bytes;
        // A round that failed leaves damaged nodes waiting.
        if (log_bytes > limit && !waits) || self.exports.repairs_wait() {
            self.exports.want();
        }
        for (group, wanted) in [
            (GroupId::META, self.meta.snapshot_wanted()),
            (GroupId::DATA, self.data.snapshot_wanted()),
        ] {
            let Some(wanted) = wanted else { continue };
            let newest = self.exports.newest(group).map(|file| file.header.index);
            if newest.is_none_or(|newest| newest < wanted) {
                self.exports.want();
            }
        }
    }

    fn begin_export_round(&mut self) {
        let mut groups = BTreeSet::new();
        for group in KEPT {
            // A checkpoint of what is applied now; where the last one covers it already, there is none.
            let machine = self.machine_of(group);
            if machine.applied() == machine.checkpointed() {
                continue;
            }
            let Some(effect) = self.checkpoint_now(group) else { return };
            self.effects.push(effect);
            groups.insert(group);
        }
        let covered = groups.is_empty();
        self.exports.checkpointing(groups);
        if covered {
            self.write_exports();
        }
    }

    /// Begins the exports of a round whose checkpoints are finished.
    pub(super) fn write_exports(&mut self) {
        let mut groups = BTreeSet::new();
        let catalogue = self.meta.machine();
        let index = catalogue.applied();
        let newer = |file: &ExportFile| file.header.index < index;
        if index > LogIndex(0) && self.exports.newest(GroupId::META).is_none_or(newer) {
            let conf = (self.meta.conf_state(), self.meta.applied_change());
            let source = ExportSource::Catalogue(catalogue.export());
            let term = catalogue.applied_term();
            let header = self.header(GroupId::META, index, term, conf);
            self.effects.push(Effect::Export { header, source });
            groups.insert(GroupId::META);
        }
        for group in KEPT {
            if let Some(effect) = self.export_store(group) {
                self.effects.push(effect);
                groups.insert(group);
            }
        }
        if !groups.is_empty() {
            return self.exports.writing(groups);
        }
        let well = self.exports.newest(GroupId::DATA).is_some();
        self.exports.writing(groups);
        let waiting = self.exports.ended(GroupId::DATA, well, self.now);
        self.answer_exports(waiting, "nothing has been written yet");
        self.answer_backups();
    }

    /// Begins the export of what a store holds; `None` where there is nothing newer to say: the one that is
    /// there serves everybody.
    fn export_store(&mut self, group: GroupId) -> Option<Effect> {
        let store = self.machine_of(group).store();
        let covered = self.machine_of(group).checkpointed();
        if self.exports.newest(group).is_some_and(|file| file.header.index >= covered) {
            return None;
        }
        let job = self.machine_of_mut(group).begin_export()?;
        let conf = match job.conf() {
            Some((conf, change)) => (conf.clone(), change),
            None if group == GroupId::DATA => self.first_conf.clone(),
            None => Default::default(),
        };
        let header = self.header(group, job.index(), job.term(), conf);
        Some(Effect::Export { header, source: ExportSource::Machine { job, store } })
    }

    fn header(
        &self,
        group: GroupId,
        index: LogIndex,
        term: proto::Term,
        (conf_state, change): (log::ConfState, u64),
    ) -> ExportHeader {
        ExportHeader {
            cluster: self.config.cluster,
            epoch: self.config.epoch,
            group,
            index,
            term,
            conf_state,
            change,
        }
    }

    /// An export of a round is durable, or could not be written.
    pub(super) fn exported(&mut self, group: GroupId, result: Result<ExportFile, ExportFailed>) {
        let orphaned = group == GroupId::DATA && self.exports.take_orphaned();
        let of_own_store = KEPT.contains(&group) && !orphaned;
        if of_own_store {
            self.machine_of_mut(group).end_export();
        }
        let unwritten = Some("the node could not write it; its log says why");
        let refused = match result {
            Ok(file) => match self.own_export(file) {
                Added::Newest | Added::Older => None,
                Added::Behind => Some(
                    "a newer one was found damaged meanwhile, and the node's log may begin behind that; \
                     another one is written",
                ),
            },
            Err(ExportFailed::File(why)) => {
                tracing::warn!(%group, why, "no export was written");
                unwritten
            }
            Err(failed @ ExportFailed::Store(_)) => {
                tracing::error!(%group, %failed, "no export was written");
                // It was only read. The next start reads all of it, and decides.
                if of_own_store {
                    self.stores.of_mut(group).failed = true;
                }
                unwritten
            }
        };
        let waiting = self.exports.ended(group, refused.is_none(), self.now);
        match refused {
            // Who waits wants the one of the data group.
            Some(why) if group == GroupId::DATA => self.refuse_exports(waiting, why),
            Some(_) | None => {
                self.answer_exports(waiting, "the node has none that is good; its log says why")
            }
        }
        self.answer_backups();
    }

    /// Gives the newest export of the data group to those who waited; `why` there is none, if so.
    fn answer_exports(&mut self, waiting: Vec<RequestId>, why: &str) {
        let Some(file) = self.exports.newest(GroupId::DATA).cloned() else {
            return self.refuse_exports(waiting, why);
        };
        for id in waiting {
            self.finish(id, Ok(Reply::Export(file.clone())));
        }
    }

    /// An export is durable here: if it is the newest, the log begins behind it, and followers may have it.
    pub(super) fn own_export(&mut self, file: ExportFile) -> Added {
        let (group, path) = (file.header.group, file.path.clone());
        self.learn_epoch(&file);
        let ExportHeader { index, term, conf_state, change, .. } = file.header.clone();
        let added = self.exports.add(file, self.now, self.outbox.ticket);
        if added == Added::Behind {
            tracing::warn!(
                %group,
                %index,
                "an export is of no use: the log may begin behind it; another one is written"
            );
        }
        if added != Added::Newest {
            // One that was received may have taken the place of this node's own at the same index.
            let newest = self.exports.newest(group).map(|newest| &newest.path);
            if newest != Some(&path) {
                self.effects.push(Effect::RemoveExport(path));
            }
            return added;
        }
        let start = log::LogStart {
            index: index.get(),
            term: term.get(),
            conf_state: Some(conf_state),
            change,
        };
        self.outbox.append(group, log::frame::Body::LogStart(start));
        self.outbox.sync = true;
        self.answer_repairs();
        added
    }

    /// Offers the newest exports to the damaged nodes for which they are new enough.
    pub(super) fn answer_repairs(&mut self) {
        for (node, offer, group) in self.exports.take_repairs() {
            self.outbox.send(node, group, Body::SnapshotOffer(offer));
        }
    }

    /// A node that joined learns the data epoch of its cluster from what it receives.
    pub(super) fn learn_epoch(&mut self, file: &ExportFile) {
        self.config.epoch = self.config.epoch.max(file.header.epoch);
        self.eventual.set_epoch(self.config.epoch);
    }

    pub(super) fn refuse_exports(&mut self, waiting: Vec<RequestId>, why: &str) {
        for id in waiting {
            self.backups.forget(id);
            let failure = Failure::new(Code::ExportFailed, "snapshot", why);
            self.finish(id, Err(failure));
        }
    }

    /// The disk is full, or has room again.
    pub(super) fn log_full(&mut self, full: bool) {
        self.read_only = full;
        self.meta.set_read_only(full);
        self.data.set_read_only(full);
        self.eventual.own_mut().set_read_only(full);
        if full {
            self.leave_to_others();
        }
    }

    /// Tells the groups whose disks are full.
    pub(super) fn note_full_disks(&mut self) {
        let full = self.full_disks.nodes(self.now);
        self.meta.set_full(&full);
        self.data.set_full(&full);
    }

    /// With a full disk: tells everybody, so that nobody hands leadership over to this node, and hands
    /// over what it leads to a node that has room. Where none has it goes on, for reads.
    fn leave_to_others(&mut self) {
        let members = self.meta.machine().members();
        let others = members.iter().filter_map(Member::id).filter(|id| *id != self.config.id);
        for node in others {
            let body = Body::DiskFull(peer::DiskFull::default());
            self.outbox.send(node, GroupId::META, body);
        }
        self.hand_over(true);
    }

    /// An export of this node's own is damaged on disk: nobody is offered it any more, and another one is
    /// written.
    pub(super) fn export_damaged(&mut self, group: GroupId, index: LogIndex) {
        tracing::error!(%group, %index, "an export is damaged; another one is written");
        if self.exports.damaged(group, index) {
            match group {
                GroupId::META => self.meta.set_snapshot(None),
                GroupId::DATA => self.data.set_snapshot(None),
                // It is for this node alone.
                _ => {}
            }
        }
    }
}

/// Takes the next step of a membership change in one group.
fn drive<S: StateMachine>(
    replica: &mut RaftReplica<S>,
    node: NodeId,
    wanted: &super::catalogue::Wanted,
    change: u64,
) {
    if change <= replica.applied_change() || !replica.leads() {
        return;
    }
    let (status, conf) = (replica.status(), replica.conf_state());
    let applied_change = replica.applied_change();
    let standing = Standing { node, status: &status, conf: &conf, applied_change };
    match membership::next_step(standing, wanted, change) {
        Some(Step::Propose(change)) => {
            if let Err(refused) = replica.propose_conf(&change) {
                tracing::debug!(%refused, "a change of members has to wait");
            }
        }
        Some(Step::HandOver(to)) => replica.move_leader(to),
        None => {}
    }
}

/// A command of the node's own, which nobody waits for.
fn internal(command: log::Command) -> Submission {
    let options = EventualOptions::default();
    Submission { origin: Origin::Internal, command, options }
}
