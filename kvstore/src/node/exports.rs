//! Exports of this node: when one is due, which ones are kept, and who is offered them.
//!
//! A *round* writes an export of every group: first a checkpoint of each store, so that the exports of what
//! lies in them are as new as can be, then the files. Only once a file is durable does the log begin behind it, and
//! only then is it offered to followers. A round begins when the log has become long, when a follower or
//! a damaged node needs a newer export, or when somebody asks for one.

use std::collections::{BTreeMap, BTreeSet};

use proto::{GroupId, LogIndex, NodeId, peer};
use storage::export::ExportFile;

use super::io::{RequestId, Ticket, Ticks};
use super::transfer::CHUNK_BYTES;

/// Ticks for which an export stays that is no longer the newest, after a chunk of it was read last.
pub const KEEP_TICKS: u64 = 200;
/// Ticks after which a follower that asks for nothing is taken to have given up.
const FOLLOWER_PATIENCE: u64 = 200;
/// Ticks before the next round after one that failed.
const RETRY_TICKS: u64 = 100;

/// The append of an export that does not exist yet.
const NO_APPEND: Ticket = Ticket(u64::MAX);

/// A batch of the log takes whole sectors.
const SECTOR_BYTES: u64 = 512;
/// What a batch takes beside its frames, and a frame beside its message.
const BATCH_BYTES_MIN: u64 = 48;

/// What a round is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    /// Checkpoints of these groups run that the exports are to begin with.
    Checkpoint(BTreeSet<GroupId>),
    /// Exports of these groups are being written.
    Writing(BTreeSet<GroupId>),
}

/// An export that is no longer the newest.
#[derive(Debug)]
struct Older {
    file: ExportFile,
    /// When it was last of use.
    used: Ticks,
    /// The append that says of the newer one that the log begins with it; `None` once that is durable.
    /// Until then a start may need this one.
    until: Option<Ticket>,
    /// It is not what it was written as, and is offered to nobody.
    damaged: bool,
}

/// A damaged node that is to be offered an export at or above an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Repair {
    group: GroupId,
    node: NodeId,
    id: u64,
    at: LogIndex,
}

/// What becomes of an export that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is the newest one of its group.
    Newest,
    /// It is of no use: there is one that is as new, or newer.
    Older,
    /// It is of no use: a newer one was found damaged, and the log may begin behind that.
    Behind,
}

/// All exports of a node.
#[derive(Debug)]
pub struct Exports {
    newest: BTreeMap<GroupId, ExportFile>,
    older: Vec<Older>,
    /// Who was sent the last chunk of which export.
    sent: BTreeMap<(GroupId, NodeId), LogIndex>,
    stage: Stage,
    due: bool,
    retry_at: Ticks,
    /// Bytes of log since the newest round began.
    log_bytes: u64,
    /// Bytes of log when the running round began.
    log_bytes_before: u64,
    waiting: Vec<RequestId>,
    /// Requests that the running round answers.
    served: Vec<RequestId>,
    /// The same for those that want all of a round.
    waiting_whole: Vec<RequestId>,
    served_whole: Vec<RequestId>,
    repairs: Vec<Repair>,
    /// An export of the running round could not be written: the log is not freed behind it.
    spoiled: bool,
    /// The data group has switched to another state since its export began.
    orphaned: bool,
    /// Followers that were offered an export, with its index and when they were last heard about it.
    followers: BTreeMap<(GroupId, NodeId), (LogIndex, Ticks)>,
}

impl Exports {
    /// Those found at the start, and the length of the log behind them.
    #[must_use]
    pub fn new(found: Vec<ExportFile>, log_bytes: u64) -> Self {
        let newest = found.into_iter().map(|file| (file.header.group, file)).collect();
        Self {
            newest,
            older: Vec::new(),
            sent: BTreeMap::new(),
            stage: Stage::Idle,
            due: false,
            retry_at: Ticks(0),
            log_bytes,
            log_bytes_before: 0,
            waiting: Vec::new(),
            served: Vec::new(),
            waiting_whole: Vec::new(),
            served_whole: Vec::new(),
            repairs: Vec::new(),
            spoiled: false,
            orphaned: false,
            followers: BTreeMap::new(),
        }
    }

    /// The newest durable export of a group.
    #[must_use]
    pub fn newest(&self, group: GroupId) -> Option<&ExportFile> {
        self.newest.get(&group)
    }

    /// The export with this hash, if it is still kept; it is of use now.
    pub fn find(&mut self, group: GroupId, sha256: &[u8], now: Ticks) -> Option<ExportFile> {
        if let Some(file) = self.newest.get(&group).filter(|file| file.sha256 == sha256) {
            return Some(file.clone());
        }
        let found = self.older.iter_mut().find(|older| {
            !older.damaged && older.file.header.group == group && older.file.sha256 == sha256
        })?;
        found.used = now;
        Some(found.file.clone())
    }

    /// Notes which chunk a node asks for. True when it begins anew with an export that it was sent whole:
    /// perhaps that does not verify there.
    pub fn asks_again(&mut self, from: NodeId, file: &ExportFile, offset: u64) -> bool {
        let (group, index) = (file.header.group, file.header.index);
        let again = offset == 0 && self.sent.get(&(group, from)) == Some(&index);
        if again {
            self.sent.remove(&(group, from));
        } else if offset + CHUNK_BYTES >= file.bytes {
            self.sent.insert((group, from), index);
        }
        again
    }

    /// An export is not what it was written as. True when it was the newest of its group: then there is
    /// none until another one is written, which is wanted now. The file itself stays until then.
    pub fn damaged(&mut self, group: GroupId, index: LogIndex) -> bool {
        for older in &mut self.older {
            let header = &older.file.header;
            older.damaged |= (header.group, header.index) == (group, index);
        }
        if self.newest.get(&group).is_none_or(|file| file.header.index != index) {
            return false;
        }
        let file = self.newest.remove(&group).expect("it was just seen");
        self.older.push(Older { file, used: Ticks(0), until: Some(NO_APPEND), damaged: true });
        self.due = true;
        true
    }

    /// The log grows by frames of this many bytes. What is appended together counts as a batch of its
    /// own, although the log may write several as one.
    pub fn logged(&mut self, bytes: u64) {
        self.log_bytes += (bytes + BATCH_BYTES_MIN).next_multiple_of(SECTOR_BYTES);
    }

    /// Bytes of log behind the newest round.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    /// A new export is wanted.
    pub fn want(&mut self) {
        self.due = true;
    }

    /// A client wants one that begins from now on.
    pub fn want_for(&mut self, id: RequestId) {
        self.due = true;
        self.waiting.push(id);
    }

    /// A client wants the exports of all groups, of a round that begins from now on.
    pub fn want_whole_for(&mut self, id: RequestId) {
        self.due = true;
        self.waiting_whole.push(id);
    }

    /// A damaged node wants one at or above `at`. It asks again and again under the same name: what it
    /// was promised first stands. Requests under an earlier name are void.
    pub fn want_for_repair(&mut self, group: GroupId, node: NodeId, id: u64, at: LogIndex) {
        let waits = |repair: &Repair| (repair.group, repair.node, repair.id) == (group, node, id);
        if self.repairs.iter().any(waits) {
            return;
        }
        self.repairs.retain(|repair| (repair.group, repair.node) != (group, node));
        self.repairs.push(Repair { group, node, id, at });
        self.due |= self.newest.get(&group).is_none_or(|file| file.header.index < at);
    }

    /// Whether a round begins now, with a checkpoint; then [`Exports::checkpointing`] follows.
    #[must_use]
    pub fn begins(&self, now: Ticks) -> bool {
        self.stage == Stage::Idle && self.due && now >= self.retry_at
    }

    /// Whether no round runs, and none is due.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Idle && !self.due
    }

    /// A round has begun, with checkpoints of these groups.
    pub fn checkpointing(&mut self, groups: BTreeSet<GroupId>) {
        assert!(self.stage == Stage::Idle, "one round at a time");
        self.stage = Stage::Checkpoint(groups);
        self.due = false;
        self.spoiled = false;
        self.log_bytes_before = self.log_bytes;
        self.served.append(&mut self.waiting);
        self.served_whole.append(&mut self.waiting_whole);
    }

    /// Whether the round waits for its checkpoints.
    #[must_use]
    pub fn waits_for_checkpoint(&self) -> bool {
        matches!(self.stage, Stage::Checkpoint(_))
    }

    /// A checkpoint of this group is finished. True when the round waited for it, and for no other.
    pub fn checkpointed(&mut self, group: GroupId) -> bool {
        let Stage::Checkpoint(groups) = &mut self.stage else { return false };
        groups.remove(&group) && groups.is_empty()
    }

    /// Exports of these groups are being written.
    pub fn writing(&mut self, groups: BTreeSet<GroupId>) {
        let ready = matches!(&self.stage, Stage::Checkpoint(groups) if groups.is_empty());
        assert!(ready, "exports begin after their checkpoints");
        self.stage = Stage::Writing(groups);
    }

    /// Whether an export of this group is being written.
    #[must_use]
    pub fn is_writing(&self, group: GroupId) -> bool {
        matches!(&self.stage, Stage::Writing(groups) if groups.contains(&group))
    }

    /// The state that the data group's export is made of is no longer the group's.
    pub fn orphan(&mut self) {
        self.orphaned = true;
    }

    /// Whether the export of the data group that has just ended was of another state than the group has
    /// now.
    pub fn take_orphaned(&mut self) -> bool {
        std::mem::take(&mut self.orphaned)
    }

    /// Whether a damaged node still waits for an export.
    #[must_use]
    pub fn repairs_wait(&self) -> bool {
        !self.repairs.is_empty()
    }

    /// An export of this node's own is durable, written or received; that the log begins with it is part of
    /// the append `ticket`, if it is the newest.
    pub fn add(&mut self, file: ExportFile, now: Ticks, ticket: Ticket) -> Added {
        let group = file.header.group;
        if self.newest.get(&group).is_some_and(|newest| newest.header.index >= file.header.index) {
            return Added::Older;
        }
        // The log may begin behind the newest, also where that was found damaged.
        let begins_behind = |older: &Older| {
            let header = &older.file.header;
            older.until == Some(NO_APPEND)
                && header.group == group
                && header.index > file.header.index
        };
        if self.older.iter().any(begins_behind) {
            return Added::Behind;
        }
        // A damaged file of the same index has just been replaced.
        self.older.retain(|older| older.file.path != file.path);
        for older in self.older.iter_mut().filter(|older| older.file.header.group == group) {
            if older.until == Some(NO_APPEND) {
                older.until = Some(ticket);
            }
        }
        if let Some(file) = self.newest.insert(group, file) {
            self.older.push(Older { file, used: now, until: Some(ticket), damaged: false });
        }
        Added::Newest
    }

    /// The log is durable up to and including this append.
    pub fn durable(&mut self, ticket: Ticket, now: Ticks) {
        for older in &mut self.older {
            if older.until.take_if(|until| *until <= ticket).is_some() {
                older.used = now;
            }
        }
    }

    /// The export of a group is written, or will not be. Returns who waited for one of the data group, once that
    /// has ended or the round is over.
    pub fn ended(&mut self, group: GroupId, well: bool, now: Ticks) -> Vec<RequestId> {
        let Stage::Writing(groups) = &mut self.stage else { return Vec::new() };
        groups.remove(&group);
        if !well {
            self.spoiled = true;
            self.retry_at = Ticks(now.0 + RETRY_TICKS);
        }
        let over = groups.is_empty();
        if over {
            self.stage = Stage::Idle;
            if !self.spoiled {
                self.log_bytes = self.log_bytes.saturating_sub(self.log_bytes_before);
            }
        }
        if over || group == GroupId::DATA { std::mem::take(&mut self.served) } else { Vec::new() }
    }

    /// Once a round is over, who wanted all of it, and whether all of it was written.
    pub fn take_whole(&mut self) -> Option<(Vec<RequestId>, bool)> {
        let over = self.stage == Stage::Idle && !self.served_whole.is_empty();
        over.then(|| (std::mem::take(&mut self.served_whole), !self.spoiled))
    }

    /// The round cannot go on: a checkpoint failed. Returns who waited.
    pub fn failed(&mut self, now: Ticks) -> Vec<RequestId> {
        self.stage = Stage::Idle;
        self.retry_at = Ticks(now.0 + RETRY_TICKS);
        let mut served = std::mem::take(&mut self.served);
        served.append(&mut self.served_whole);
        served
    }

    /// Takes everybody who waits for a round that has not begun.
    pub fn take_waiting(&mut self) -> Vec<RequestId> {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.append(&mut self.waiting_whole);
        waiting
    }

    /// The client no longer waits.
    pub fn forget(&mut self, id: RequestId) {
        for list in
            [&mut self.waiting, &mut self.served, &mut self.waiting_whole, &mut self.served_whole]
        {
            list.retain(|waiting| *waiting != id);
        }
    }

    /// Takes the repair requests that the newest export of their group answers.
    pub fn take_repairs(&mut self) -> Vec<(NodeId, peer::SnapshotOffer, GroupId)> {
        let (ready, open): (Vec<Repair>, Vec<Repair>) =
            std::mem::take(&mut self.repairs).into_iter().partition(|repair| {
                let newest = self.newest.get(&repair.group);
                newest.is_some_and(|file| file.header.index >= repair.at)
            });
        self.repairs = open;
        let answer = |repair: Repair| {
            let file = &self.newest[&repair.group];
            let offer = peer::SnapshotOffer { repair: repair.id, ..offer(file) };
            (repair.node, offer, repair.group)
        };
        ready.into_iter().map(answer).collect()
    }

    /// What goes with the message of a leader that offers a follower the newest export; `None` when
    /// that is another one by now.
    pub fn offer(
        &mut self,
        group: GroupId,
        to: NodeId,
        message: peer::RaftMessage,
        now: Ticks,
    ) -> Option<peer::SnapshotOffer> {
        let index = message.snapshot.as_ref().map(|snapshot| LogIndex(snapshot.index))?;
        let file = self.newest.get(&group).filter(|file| file.header.index == index)?;
        let offer = peer::SnapshotOffer { raft: Some(message), ..offer(file) };
        self.followers.insert((group, to), (index, now));
        Some(offer)
    }

    /// A follower asks for a chunk.
    pub fn heard(&mut self, group: GroupId, from: NodeId, now: Ticks) {
        if let Some((_, heard)) = self.followers.get_mut(&(group, from)) {
            *heard = now;
        }
    }

    /// The lowest index that a follower is fetching: what comes after it has to stay.
    #[must_use]
    pub fn held(&self, group: GroupId) -> Option<LogIndex> {
        let of_group = self.followers.iter().filter(|((of, _), _)| *of == group);
        of_group.map(|(_, (index, _))| *index).min()
    }

    /// Takes the followers that have said nothing for long.
    pub fn take_silent(&mut self, now: Ticks) -> Vec<(GroupId, NodeId)> {
        let silent = |heard: Ticks| now.0.saturating_sub(heard.0) >= FOLLOWER_PATIENCE;
        let all = self.followers.iter().filter(|(_, (_, heard))| silent(*heard));
        let taken: Vec<(GroupId, NodeId)> = all.map(|(key, _)| *key).collect();
        for key in &taken {
            self.followers.remove(key);
        }
        taken
    }

    /// Takes the older exports that nobody has read from for long.
    pub fn take_useless(&mut self, now: Ticks) -> Vec<ExportFile> {
        let is_useless = |older: &mut Older| {
            older.until.is_none() && now.0.saturating_sub(older.used.0) >= KEEP_TICKS
        };
        self.older.extract_if(.., is_useless).map(|older| older.file).collect()
    }
}

/// An offer of this file to anybody.
fn offer(file: &ExportFile) -> peer::SnapshotOffer {
    peer::SnapshotOffer {
        index: file.header.index.get(),
        term: file.header.term.get(),
        conf_state: Some(file.header.conf_state.clone()),
        change: file.header.change,
        bytes: file.bytes,
        sha256: file.sha256.to_vec().into(),
        raft: None,
        repair: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::log;

    fn file(bytes: u64) -> ExportFile {
        file_at(9, bytes)
    }

    fn file_at(index: u64, bytes: u64) -> ExportFile {
        let header = storage::export::ExportHeader {
            cluster: proto::ClusterId([1; 16]),
            epoch: 0,
            group: GroupId::DATA,
            index: LogIndex(index),
            term: proto::Term(1),
            conf_state: log::ConfState::default(),
            change: 0,
        };
        ExportFile {
            path: format!("{index}.exp").into(),
            header,
            bytes,
            records: 1,
            sha256: [3; 32],
        }
    }

    #[test]
    fn where_the_newest_is_damaged_an_older_one_does_not_take_its_place() {
        let mut exports = Exports::new(vec![file_at(9, 1)], 0);
        assert!(exports.damaged(GroupId::DATA, LogIndex(9)));
        let behind = exports.add(file_at(8, 1), Ticks(1), Ticket(1));
        assert_eq!(behind, Added::Behind, "the log may begin at 10");
        assert!(exports.newest(GroupId::DATA).is_none());
        let mut add = |index, ticket| exports.add(file_at(index, 1), Ticks(1), Ticket(ticket));
        assert_eq!(add(9, 2), Added::Newest, "the same one, written anew");
        assert_eq!(add(9, 3), Added::Older);
        assert_eq!(add(10, 4), Added::Newest);
    }

    #[test]
    fn who_was_sent_an_export_whole_and_begins_anew_is_noticed_once() {
        let mut exports = Exports::new(Vec::new(), 0);
        let (follower, other) = (NodeId(2), NodeId(3));
        let file = file(2 * CHUNK_BYTES + 1);
        let mut asks = |node, chunk| exports.asks_again(node, &file, chunk * CHUNK_BYTES);
        let whole: Vec<bool> = [0, 0, 1, 2, 1].map(|chunk| asks(follower, chunk)).into();
        assert!(!whole.contains(&true), "{whole:?}");
        assert!(!asks(other, 0), "another node has only begun");
        assert!(asks(follower, 0));
        assert!(!asks(follower, 0));
    }
}
