//! Planted bugs. Each must be found, or the simulation sees nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kvstore::durable::{Damage, DataFiles};
use kvstore::node::ExportSource;
use proto::log::export_record::Body as Record;
use proto::log::frame::Body as FrameBody;
use proto::peer::peer_message::Body;
use proto::{NodeId, log, peer};
use storage::disk::SimDisk;
use storage::export::{self, ExportFile, ExportHeader, ExportReader, ExportWriter};
use storage::state::{BATCH_ITEMS_MAX, BatchItem, StateStore};

use super::unsynced::UnsyncedDisk;

/// A bug that the simulated world plants around the shipped node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// An append is reported durable before it is synced (etcd#14370, NATS#7564; B03, B27).
    AckBeforeSync,
    /// The vote does not reach the disk: a node that restarts votes again in the same term.
    VoteForgotten,
    /// A checkpoint's position becomes durable before its records (etcd#13766; B01).
    AppliedIndexApart,
    /// Linearizable reads are answered from the local state (etcd 0.4, Consul).
    ReadWithoutQuorum,
    /// A repeated write is executed again (etcd#18424; B22).
    DoubleApply,
    /// The log begins behind an export that is not written yet.
    FreedBeforeExport,
    /// A snapshot is installed in memory, and the log does not say so.
    InstallNotLogged,
    /// An export claims one entry more than it holds.
    SnapshotAboveContent,
    /// The exactly-once table is missing from exports.
    OutcomesMissing,
    /// A damaged log is cut like one whose last write was interrupted (NATS#7549; B29, B51).
    DamageTakenForTear,
    /// Any node, leader or not, gives a damaged one its newest export.
    RepairUnconfirmed,
    /// A wiped machine comes back as the member it was (tikv#7353; B20, B44).
    WipedKeepsIdentity,
    /// What does not fit on the disk is reported durable.
    AckWhenFull,
    /// A leader confirms reads at an index that is too low.
    ReadIndexTooLow,
    /// A repair keeps the term and forgets the vote (B28).
    RepairForgetsVote,
    /// Whoever begins with an export has compacted more history than the others.
    CompactedApart,
    /// Whoever begins with an export counts a removed node as a voter (etcd, 2025-12-17; B20).
    RemovedStillCounted,
    /// Whoever begins with an export gives a new keyspace the id of a removed one (B32).
    KeyspaceIdReused,
    /// A node that believes to lead answers linearizable reads without asking anybody (etcd-io/raft#397,
    /// tikv#964; B13, B46).
    UnconfirmedLeader,
    /// A repeated write is admitted although its outcome was evicted (iggy#3934; B65).
    FenceSkipped,
    /// Three of four syncs of the log are reported and not done: a loss of power takes the tail (B27).
    SyncSkipped,
    /// An answer to an old question for a read index counts for the newest one (etcd#20418; B13).
    QuestionReused,
    /// Whoever begins with an export has lost the version that holds at the compacted revision (B09).
    CompactionTooDeep,
    /// A node switches to a snapshot that is not synced yet (B19, B26).
    SnapshotUnsynced,
    /// Of a joint configuration an export keeps the half that comes in alone (openraft 6c0ccaf3; B35).
    JointHalfForgotten,
    /// A follower acknowledges entries now and then that it does not have (B28).
    AcksUnwritten,
    /// A renewed store lacks the last items of the old one.
    RenewalFallsShort,
}

impl Mutant {
    /// Every planted bug.
    pub const ALL: [Self; 27] = [
        Self::AckBeforeSync,
        Self::VoteForgotten,
        Self::AppliedIndexApart,
        Self::ReadWithoutQuorum,
        Self::DoubleApply,
        Self::FreedBeforeExport,
        Self::InstallNotLogged,
        Self::SnapshotAboveContent,
        Self::OutcomesMissing,
        Self::DamageTakenForTear,
        Self::RepairUnconfirmed,
        Self::WipedKeepsIdentity,
        Self::AckWhenFull,
        Self::ReadIndexTooLow,
        Self::RepairForgetsVote,
        Self::CompactedApart,
        Self::RemovedStillCounted,
        Self::KeyspaceIdReused,
        Self::UnconfirmedLeader,
        Self::FenceSkipped,
        Self::SyncSkipped,
        Self::QuestionReused,
        Self::CompactionTooDeep,
        Self::SnapshotUnsynced,
        Self::JointHalfForgotten,
        Self::AcksUnwritten,
        Self::RenewalFallsShort,
    ];

    /// Reads the name that [`fmt::Display`] writes.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutant| mutant.to_string() == name)
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AckBeforeSync => "ack-before-sync",
            Self::VoteForgotten => "vote-forgotten",
            Self::AppliedIndexApart => "applied-index-apart",
            Self::ReadWithoutQuorum => "read-without-quorum",
            Self::DoubleApply => "double-apply",
            Self::FreedBeforeExport => "freed-before-export",
            Self::InstallNotLogged => "install-not-logged",
            Self::SnapshotAboveContent => "snapshot-above-content",
            Self::OutcomesMissing => "outcomes-missing",
            Self::DamageTakenForTear => "damage-taken-for-tear",
            Self::RepairUnconfirmed => "repair-unconfirmed",
            Self::WipedKeepsIdentity => "wiped-keeps-identity",
            Self::AckWhenFull => "ack-when-full",
            Self::ReadIndexTooLow => "read-index-too-low",
            Self::RepairForgetsVote => "repair-forgets-vote",
            Self::CompactedApart => "compacted-apart",
            Self::RemovedStillCounted => "removed-still-counted",
            Self::KeyspaceIdReused => "keyspace-id-reused",
            Self::UnconfirmedLeader => "unconfirmed-leader",
            Self::FenceSkipped => "fence-skipped",
            Self::SyncSkipped => "sync-skipped",
            Self::QuestionReused => "question-reused",
            Self::CompactionTooDeep => "compaction-too-deep",
            Self::SnapshotUnsynced => "snapshot-unsynced",
            Self::JointHalfForgotten => "joint-half-forgotten",
            Self::AcksUnwritten => "acks-unwritten",
            Self::RenewalFallsShort => "renewal-falls-short",
        })
    }
}

/// Plants the bugs that lose frames on their way to the log.
pub fn tamper_with_frames(mutant: Option<Mutant>, frames: &mut Vec<log::Frame>) {
    match mutant {
        Some(Mutant::VoteForgotten) => {
            for frame in frames {
                if let Some(FrameBody::HardState(hard_state)) = &mut frame.body {
                    hard_state.vote = 0;
                }
            }
        }
        Some(Mutant::InstallNotLogged) => {
            frames.retain(|frame| !matches!(frame.body, Some(FrameBody::Installed(_))));
        }
        Some(_) | None => {}
    }
}

/// The files of a process, on a disk that lies about syncs of its log if that is planted.
pub fn tamper_with_disk(mutant: Option<Mutant>, files: &mut DataFiles) {
    if mutant == Some(Mutant::SyncSkipped) {
        files.disk = Arc::new(UnsyncedDisk::new(Arc::clone(&files.disk), "wal", 4));
    }
}

/// The files to which a process receives snapshots.
pub fn receiving(mutant: Option<Mutant>, files: &DataFiles) -> DataFiles {
    let mut files = files.clone();
    if mutant == Some(Mutant::SnapshotUnsynced) {
        files.disk = Arc::new(UnsyncedDisk::new(files.disk, "exports", u64::MAX));
    }
    files
}

/// The newest question for a read index, by node and group.
pub type Questions = BTreeMap<(NodeId, u64), u64>;

/// Notes the newest question of a node.
pub fn note_question(questions: &mut Questions, from: NodeId, message: &peer::PeerMessage) {
    if let Some(Body::ReadIndex(question)) = &message.body {
        questions.insert((from, message.group), question.id);
    }
}

/// Plants the bug of questions that share a name: whatever is answered, the newest one is meant.
pub fn tamper_with_answer(
    mutant: Option<Mutant>,
    questions: &Questions,
    to: NodeId,
    message: &mut peer::PeerMessage,
) {
    let newest = questions.get(&(to, message.group));
    if mutant == Some(Mutant::QuestionReused)
        && let (Some(Body::ReadIndexReply(reply)), Some(newest)) = (&mut message.body, newest)
    {
        reply.id = *newest;
    }
}

/// Plants the bugs that sit between nodes.
pub fn tamper_with_message(mutant: Option<Mutant>, message: &mut peer::PeerMessage) {
    if mutant == Some(Mutant::ReadIndexTooLow)
        && let Some(Body::ReadIndexReply(reply)) = &mut message.body
        && reply.index > 0
    {
        reply.index = reply.index.saturating_sub(3).max(1);
    }
}

/// Plants the bug of a repair that does not keep what it has to.
pub fn tamper_with_damage(mutant: Option<Mutant>, damage: &mut Damage) {
    if mutant == Some(Mutant::RepairForgetsVote) {
        for hard_state in damage.groups.values_mut().filter_map(|group| group.hard_state.as_mut()) {
            hard_state.vote = 0;
        }
    }
}

/// Plants the bugs that sit in what an export is made of.
pub fn tamper_with_export(
    mutant: Option<Mutant>,
    header: &mut ExportHeader,
    source: &mut ExportSource,
    removed: &BTreeSet<NodeId>,
) {
    match (mutant, source) {
        (Some(Mutant::SnapshotAboveContent), ExportSource::Machine { .. }) => {
            header.index = header.index.next();
        }
        (Some(Mutant::RemovedStillCounted), ExportSource::Machine { .. }) => {
            header.conf_state.voters.extend(removed.iter().map(|id| id.get()));
            header.conf_state.voters.sort_unstable();
            header.conf_state.voters.dedup();
        }
        (Some(Mutant::JointHalfForgotten), _) => header.conf_state.voters_outgoing.clear(),
        (Some(Mutant::KeyspaceIdReused), ExportSource::Catalogue(catalogue)) => {
            let highest = catalogue.keyspaces.iter().map(|keyspace| keyspace.id).max();
            catalogue.next_keyspace = highest.unwrap_or_default() + 1;
        }
        _ => {}
    }
}

/// Plants the bugs that sit in the content of an export that is written.
pub fn tamper_with_file(mutant: Option<Mutant>, files: &DataFiles, file: ExportFile) -> ExportFile {
    match mutant {
        Some(Mutant::OutcomesMissing) => {
            rewritten(files, file, |record| !matches!(record, Record::Outcome(_)))
        }
        Some(Mutant::CompactedApart) => {
            let mut floors = BTreeMap::new();
            let mut covered = None;
            rewritten(files, file, move |record| match record {
                Record::Keyspace(state) => {
                    state.compacted = state.compacted.midpoint(state.revision);
                    floors.insert(state.descriptor.as_ref().map_or(0, |it| it.id), state.compacted);
                    true
                }
                Record::Version(version) => {
                    if version.mod_rev > floors.get(&version.keyspace).copied().unwrap_or_default()
                    {
                        return true;
                    }
                    // The newest version at the floor stays, unless it says that there is nothing.
                    let key = Some((version.keyspace, version.key.clone()));
                    let newest = covered != key;
                    covered = key;
                    newest && !version.tombstone
                }
                Record::Outcome(_) | Record::Catalogue(_) => true,
            })
        }
        Some(Mutant::CompactionTooDeep) => {
            let mut floors = BTreeMap::new();
            rewritten(files, file, move |record| match record {
                Record::Keyspace(state) => {
                    floors.insert(state.descriptor.as_ref().map_or(0, |it| it.id), state.compacted);
                    true
                }
                Record::Version(version) => {
                    let floor = floors.get(&version.keyspace).copied().unwrap_or_default();
                    version.mod_rev > floor
                }
                Record::Outcome(_) | Record::Catalogue(_) => true,
            })
        }
        Some(_) | None => file,
    }
}

/// What a follower answers once it has written the entries of this append; `None` if it has none.
pub fn acknowledgement(message: &peer::PeerMessage) -> Option<peer::PeerMessage> {
    let Some(Body::Raft(append)) = &message.body else { return None };
    let last = append.entries.last().filter(|_| append.kind() == peer::RaftKind::Append)?;
    let answer = peer::RaftMessage {
        kind: peer::RaftKind::AppendResponse.into(),
        to: append.from,
        from: append.to,
        term: append.term,
        index: last.index,
        ..peer::RaftMessage::default()
    };
    Some(peer::PeerMessage { group: message.group, body: Some(Body::Raft(answer)) })
}

/// Plants the bug of a renewal that ends one batch too early.
pub fn tamper_with_copy(mutant: Option<Mutant>, renewed: &dyn StateStore) {
    if mutant != Some(Mutant::RenewalFallsShort) {
        return;
    }
    let why = "memory has no errors";
    let keys: Vec<Bytes> =
        renewed.scan(&[0; 8], &[0xff; 8]).map(|item| item.expect(why).0).collect();
    let last = keys.len().saturating_sub(1) / BATCH_ITEMS_MAX * BATCH_ITEMS_MAX;
    let batch: Vec<BatchItem> = keys[last..].iter().map(|key| (key.clone(), None)).collect();
    renewed.write(&batch).expect(why);
    renewed.flush().expect(why);
}

/// The frame that lets a log begin behind an export.
pub fn log_start(header: &ExportHeader) -> log::Frame {
    let start = log::LogStart {
        index: header.index.get(),
        term: header.term.get(),
        conf_state: Some(header.conf_state.clone()),
        change: header.change,
    };
    log::Frame { group: header.group.get(), body: Some(FrameBody::LogStart(start)) }
}

/// Writes an export anew, with the records that `keep` leaves in it.
fn rewritten(
    files: &DataFiles,
    file: ExportFile,
    mut keep: impl FnMut(&mut Record) -> bool,
) -> ExportFile {
    let why = "the simulated disk has no errors here";
    let mut reader = ExportReader::open(files.disk.as_ref(), &file.path).expect(why);
    let mut records = Vec::new();
    while let Some(mut record) = reader.next().expect(why) {
        if record.body.as_mut().is_none_or(&mut keep) {
            records.push(record);
        }
    }
    let begun = ExportWriter::create(files.disk.clone(), &file.path, file.header.clone());
    let Ok(mut writer) = begun else { return file };
    for record in &records {
        if writer.push(record).is_err() {
            return file;
        }
    }
    writer.finish().unwrap_or(file)
}

/// Cuts a damaged log where the damage begins, as if that were the end of what was ever written.
pub fn cut_at_damage(disk: &SimDisk, files: &DataFiles, damage: &Damage) {
    let Ok(mut content) = disk.content(&damage.path) else { return };
    let from = (damage.offset as usize).min(content.len());
    content[from..].fill(0);
    disk.replace(&damage.path, content).expect("the file is there");
    let names = files.disk.list(&files.wal_dir()).unwrap_or_default();
    for name in names {
        let path = files.wal_dir().join(&name);
        if path > damage.path && name.ends_with(".seg") {
            files.disk.remove_file(&path).expect("the file is there");
        }
    }
}

/// Answers a damaged node's request with the newest export that is here, whatever it covers.
pub fn answer_repair(files: &DataFiles, message: &peer::PeerMessage) -> Option<peer::PeerMessage> {
    let Some(Body::Repair(request)) = &message.body else { return None };
    let exports = export::exports_in(files.disk.as_ref(), &files.exports_dir()).ok()?;
    let (.., path) = exports.into_iter().rev().find(|(group, ..)| group.get() == message.group)?;
    let file = export::inspect(files.disk.as_ref(), &path).ok()?;
    let offer = peer::SnapshotOffer {
        index: file.header.index.get(),
        term: file.header.term.get(),
        conf_state: Some(file.header.conf_state.clone()),
        change: file.header.change,
        bytes: file.bytes,
        sha256: file.sha256.to_vec().into(),
        raft: None,
        repair: request.id,
    };
    Some(peer::PeerMessage { group: message.group, body: Some(Body::SnapshotOffer(offer)) })
}
