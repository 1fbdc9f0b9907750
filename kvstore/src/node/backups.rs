//! Backups: exports of all groups, of which that of the own log is a *cut* of this node's replica.
//!
//! 1. Reads of both Raft groups make sure that this node has what was committed before.
//! 2. Where there are eventual keyspaces, the replica is brought up to every member that it can reach, as of now: so
//!    the cut holds every write that such a member had acknowledged before. Who could not be asked is named. Unless
//!    a majority that has lost nothing is among them there is no backup: it might lack what a majority has.
//! 3. Once all that came with it is durable and applied, a round of exports begins, and its files are the backup. The
//!    catalogue is exported last, so it knows every keyspace of the cut.

use std::collections::BTreeMap;

use gossip::ActorId;
use proto::v1::keyspace::Kind;
use proto::{Code, Failure, GroupId, LogIndex, NodeId, log, v1};
use storage::export::ExportFile;

use super::Node;
use super::io::{Backup, Reply, RequestId, Ticks};

/// Ticks for which members that can be reached are waited for: a minute.
const COVER_TICKS: u64 = 1_200;

/// What a client that asked for a backup hears while the replica does not serve.
const NOT_SERVING: &str =
    "this node's replica of the eventual keyspaces does not serve yet; another node may";

/// What it hears where the replica has lost something.
const DAMAGED: &str =
    "this node has lost a part of an eventual keyspace; another node may give a backup";

/// Why there is no backup although the exports ended.
const UNWRITTEN: &str = "the node could not write all of it; its log says why";

/// How far a backup is.
#[derive(Debug)]
enum Stage {
    /// It begins when no other one is [covering](Stage::Covering): that would begin anew.
    Waiting,
    /// The replica is brought up to the others, until then at most.
    Covering(Ticks),
    /// What came with it becomes durable, up to this entry of the own log.
    Settling(LogIndex, Cover),
    /// The exports are being written; `None` where there is no eventual keyspace.
    Exporting(Option<Cover>),
}

/// Whose writes to eventual keyspaces a backup holds, by name.
#[derive(Clone, Debug)]
struct Cover {
    covered: Vec<String>,
    missing: Vec<String>,
    /// Who the replica was then, in its life.
    actor: Option<ActorId>,
}

/// The backups that clients wait for.
#[derive(Debug, Default)]
pub struct Backups {
    open: BTreeMap<RequestId, Stage>,
}

impl Backups {
    /// The client waits no longer, or was answered.
    pub fn forget(&mut self, id: RequestId) {
        self.open.remove(&id);
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl Node {
    /// Begins a backup. All that was committed in the Raft groups before is applied here.
    pub(super) fn begin_backup(&mut self, id: RequestId) {
        let is_eventual = |keyspace: &v1::Keyspace| keyspace.kind() == Kind::Eventual;
        if !self.meta.machine().keyspaces().iter().any(is_eventual) {
            self.backups.open.insert(id, Stage::Exporting(None));
            return self.exports.want_whole_for(id);
        }
        if !self.eventual.serves() {
            let failure = Failure::new(Code::Recovering, "snapshot", NOT_SERVING);
            return self.outbox.answer(id, Err(failure));
        }
        // A majority is counted of the members as of now.
        self.tell_catalogue();
        self.backups.open.insert(id, Stage::Waiting);
    }

    /// Takes the next steps. To be called after the replica was polled: what it decided is appended.
    pub(super) fn drive_backups(&mut self) {
        if self.backups.is_empty() {
            return;
        }
        self.end_covering();
        self.begin_covering();
        let applied = self.eventual.own().applied();
        for (id, stage) in &mut self.backups.open {
            if let Stage::Settling(index, cover) = stage
                && *index <= applied
            {
                *stage = Stage::Exporting(Some(cover.clone()));
                self.exports.want_whole_for(*id);
            }
        }
    }

    /// Whether the replica is still the one that was brought up to the others: another one begins where it was damaged.
    fn is_still(&self, cover: &Cover) -> bool {
        !self.eventual.is_damaged() && self.eventual.actor() == cover.actor
    }

    /// Those for which the replica is brought up to the others, or has waited for long enough, go on.
    fn end_covering(&mut self) {
        let is_covered = !self.eventual.is_covering();
        let is_over = |stage: &Stage| matches!(stage, Stage::Covering(until) if is_covered || self.now >= *until);
        let over = self.backups.open.iter().filter(|(_, stage)| is_over(stage));
        let over: Vec<RequestId> = over.map(|(id, _)| *id).collect();
        if over.is_empty() {
            return;
        }
        let (last, cover) = (self.eventual.own().last(), self.cover());
        let refusal = self.refusal(&cover);
        self.eventual.end_cover();
        for id in over {
            if let Some(failure) = &refusal {
                self.backups.open.remove(&id);
                self.outbox.answer(id, Err(failure.clone()));
            } else {
                self.backups.open.insert(id, Stage::Settling(last, cover.clone()));
            }
        }
    }

    /// Those that wait begin together.
    fn begin_covering(&mut self) {
        let mut stages = self.backups.open.values();
        if stages.any(|stage| matches!(stage, Stage::Covering(_))) {
            return;
        }
        let until = Ticks(self.now.0 + COVER_TICKS);
        let waiting = self.backups.open.values_mut();
        let waiting = waiting.filter(|stage| matches!(stage, Stage::Waiting));
        let begun = waiting.map(|stage| *stage = Stage::Covering(until)).count();
        if begun > 0 {
            self.eventual.cover();
            self.outbox.again = true;
        }
    }

    /// Why the replica is not one to take a cut of, if so.
    fn refusal(&self, cover: &Cover) -> Option<Failure> {
        if self.eventual.is_damaged() {
            return Some(Failure::new(Code::ExportFailed, "snapshot", DAMAGED));
        }
        if self.eventual.covers_majority() {
            return None;
        }
        let Cover { covered, missing, .. } = cover;
        let why = format!(
            "no majority of members that have lost nothing could be asked for what they have of eventual keyspaces: \
             asked {}, not {}",
            covered.join(", "),
            if missing.is_empty() { "nobody else".to_owned() } else { missing.join(", ") }
        );
        Some(Failure::new(Code::ReplicasMissing, "snapshot", why))
    }

    /// Whose writes the replica has, as of the last time that it was brought up to the others.
    fn cover(&self) -> Cover {
        let covered = self.eventual.covered_members();
        let own = self.config.id;
        let is_covered = |id: NodeId| id == own || covered.contains(&id);
        let covers = vec![self.config.name.clone()];
        let actor = self.eventual.actor();
        let mut cover = Cover { covered: covers, missing: Vec::new(), actor };
        for member in self.meta.machine().members().reachable() {
            let Some(id) = member.id().filter(|id| *id != own) else { continue };
            let names = if is_covered(id) { &mut cover.covered } else { &mut cover.missing };
            names.push(member.member.name.clone());
        }
        cover.covered.sort_unstable();
        cover.missing.sort_unstable();
        cover
    }

    /// Answers who waits for a round of exports that is over.
    pub(super) fn answer_backups(&mut self) {
        let Some((ids, well)) = self.exports.take_whole() else { return };
        for id in ids {
            let Some(Stage::Exporting(cover)) = self.backups.open.remove(&id) else { continue };
            let failed = |why| Failure::new(Code::ExportFailed, "snapshot", why);
            let reply = if cover.as_ref().is_some_and(|cover| !self.is_still(cover)) {
                Err(failed(DAMAGED))
            } else {
                let backup = if well { self.backup(cover) } else { None };
                backup
                    .map(|backup| Reply::Backup(Box::new(backup)))
                    .ok_or_else(|| failed(UNWRITTEN))
            };
            self.finish(id, reply);
        }
    }

    /// The backup that the newest exports are.
    fn backup(&self, cover: Option<Cover>) -> Option<Backup> {
        let newest = |group: GroupId| self.exports.newest(group).cloned();
        let Some(Cover { covered, missing, .. }) = cover else {
            return Some(Backup { files: vec![newest(GroupId::DATA)?], head: None });
        };
        let groups = [GroupId::META, GroupId::DATA, GroupId::EVENTUAL];
        let files = groups.into_iter().map(newest).collect::<Option<Vec<ExportFile>>>()?;
        let part = |file: &ExportFile| log::BackupPart {
            group: file.header.group.get(),
            bytes: file.bytes,
            sha256: file.sha256.to_vec().into(),
        };
        let head = log::BackupHead {
            cluster: self.config.cluster.0.to_vec().into(),
            epoch: self.config.epoch,
            node: self.config.name.clone(),
            parts: files.iter().map(part).collect(),
            covered,
            missing,
        };
        Some(Backup { files, head: Some(head) })
    }
}
