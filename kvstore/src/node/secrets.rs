//! How a node comes by the secrets of its cluster.
//!
//! 1. The leader of group 0 draws what is not recorded yet, has it written durably, and only then proposes
//!    its fingerprint. Where another proposal was first, what it drew is of no use and is replaced.
//! 2. Whoever lacks the bytes of a recorded fingerprint asks the leader, then once a second another member,
//!    until one of them answers with bytes that match.
//! 3. Only members get an answer. Who they are was proven by their certificates.
//! 4. A leader that cannot come by a secret because every member has said that it lacks it, or a majority
//!    and nobody else for longer, draws the next one: whatever was made with the lost one is refused from
//!    then on, but the cluster goes on.
//!
//! The bytes are in no frame and no export: a lost directory `secrets/` is filled again by the others.

use std::collections::{BTreeMap, BTreeSet};

use proto::log::command::Body as Command;
use proto::peer::peer_message::Body;
use proto::{GroupId, NodeId, log, peer};

use super::Node;
use super::catalogue::{Member, SecretRecords, record};
use super::io::{Effect, Ticks};
use crate::secrets::{Entropy, Fingerprint, Secret, SecretId, SecretKind, Secrets};

/// Ticks between two looks at what is recorded and what is missing.
const LOOK_TICKS: u64 = 4;
/// Ticks after which another member is asked, a failed write is repeated, and a proposal too.
const ASK_TICKS: u64 = 20;
/// Ticks after which a leader gives up a secret that every other member has said it lacks.
const LACKED_BY_ALL_TICKS: u64 = 5 * 20;
/// Ticks after which it gives up one that only a majority has said it lacks: the others may have it, and
/// come back.
const LACKED_BY_MOST_TICKS: u64 = 60 * 20;

/// Where the bytes of a secret are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On the disk, durably.
    Disk,
    /// On the way to the disk.
    Writing,
    /// In memory only: they could not be written at this time.
    Unwritten(Ticks),
}

/// A secret that is recorded and not here.
#[derive(Debug, Default)]
struct Missing {
    /// When a member was asked last.
    asked: Option<Ticks>,
    /// Counts the members that were asked in turn.
    turn: usize,
    /// Since when this node, as leader of group 0, has missed it.
    led_since: Option<Ticks>,
    /// Who has said since then that it lacks it.
    lacking: BTreeSet<NodeId>,
}

/// The secrets that a node has, and those that it looks for.
///
/// Invariant: what is recorded in the catalogue and here with another fingerprint is never used, given out
/// or proposed.
#[derive(Debug)]
pub(super) struct Keyring {
    entropy: Entropy,
    held: BTreeMap<SecretId, (Secret, Place)>,
    missing: BTreeMap<SecretId, Missing>,
    /// When a secret was proposed last.
    proposed: BTreeMap<SecretId, Ticks>,
}

impl Keyring {
    /// What a node begins with: the secrets that its disk holds.
    pub(super) fn new(entropy: Entropy, secrets: Vec<Secret>) -> Self {
        let held = secrets.into_iter().map(|secret| (secret.id(), (secret, Place::Disk)));
        let (missing, proposed) = (BTreeMap::new(), BTreeMap::new());
        Self { entropy, held: held.collect(), missing, proposed }
    }

    /// The secret with this name, if it is the one that is recorded, wherever its bytes are.
    fn recorded(&self, id: SecretId, fingerprint: Fingerprint) -> Option<&(Secret, Place)> {
        self.held.get(&id).filter(|(secret, _)| secret.fingerprint() == fingerprint)
    }

    /// The same if it is durable: a secret is used only then.
    fn durable(&self, id: SecretId, fingerprint: Fingerprint) -> Option<&Secret> {
        let (secret, place) = self.recorded(id, fingerprint)?;
        (*place == Place::Disk).then_some(secret)
    }

    /// Takes a secret, and has it written.
    fn take(&mut self, secret: Secret) -> Effect {
        self.held.insert(secret.id(), (secret.clone(), Place::Writing));
        Effect::StoreSecret(secret)
    }

    /// What could not be written a while ago is written again.
    fn rewrite(&mut self, now: Ticks) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (secret, place) in self.held.values_mut() {
            if matches!(place, Place::Unwritten(since) if since.0 + ASK_TICKS <= now.0) {
                *place = Place::Writing;
                effects.push(Effect::StoreSecret(secret.clone()));
            }
        }
        effects
    }

    /// A secret was written, or could not be.
    fn stored(&mut self, id: SecretId, fingerprint: Fingerprint, written: bool, now: Ticks) {
        let Some((secret, place)) = self.held.get_mut(&id) else { return };
        // Another one has taken its place meanwhile, and will be written over it.
        if secret.fingerprint() == fingerprint {
            *place = if written { Place::Disk } else { Place::Unwritten(now) };
        }
    }

    /// Whether it is time to propose a secret, for the first time or again.
    fn proposes(&mut self, id: SecretId, now: Ticks) -> bool {
        let due = self.proposed.get(&id).is_none_or(|last| last.0 + ASK_TICKS <= now.0);
        if due {
            self.proposed.insert(id, now);
        }
        due
    }

    /// Notes which of the recorded secrets are missing.
    fn look(&mut self, records: &SecretRecords, leads: bool, now: Ticks) {
        let missing: BTreeSet<SecretId> = records
            .iter()
            .filter(|(id, fingerprint)| self.recorded(*id, *fingerprint).is_none())
            .map(|(id, _)| id)
            .collect();
        self.missing.retain(|id, _| missing.contains(id));
        for id in missing {
            let missing = self.missing.entry(id).or_default();
            if leads {
                missing.led_since.get_or_insert(now);
            } else {
                missing.led_since = None;
                missing.lacking.clear();
            }
        }
    }

    /// What to ask for now, and whom: the leader first, then the others in turn.
    fn requests(
        &mut self,
        others: &[NodeId],
        leader: Option<NodeId>,
        now: Ticks,
    ) -> Vec<(NodeId, SecretId)> {
        let mut requests = Vec::new();
        for (id, missing) in &mut self.missing {
            if missing.asked.is_some_and(|asked| asked.0 + ASK_TICKS > now.0) {
                continue;
            }
            let first = leader.filter(|node| missing.asked.is_none() && others.contains(node));
            let next = || others.get(missing.turn % others.len().max(1)).copied();
            let Some(to) = first.or_else(next) else { continue };
            missing.turn += usize::from(first.is_none());
            missing.asked = Some(now);
            requests.push((to, *id));
        }
        requests
    }

    /// Whether nobody has the bytes of a missing secret any more, as far as a leader can tell. `others` are
    /// all other members, `voters` those that vote.
    fn is_lost(&self, id: SecretId, others: &[NodeId], voters: &[NodeId], now: Ticks) -> bool {
        let Some(missing) = self.missing.get(&id) else { return false };
        let Some(since) = missing.led_since else { return false };
        let waited = now.0.saturating_sub(since.0);
        let lacks = |node: &NodeId| missing.lacking.contains(node);
        if others.iter().all(lacks) {
            return waited >= LACKED_BY_ALL_TICKS;
        }
        // The leader is one of the voters.
        let most = 2 * (voters.iter().filter(|node| lacks(node)).count() + 1) > voters.len();
        most && waited >= LACKED_BY_MOST_TICKS
    }
}

impl Node {
    /// All secrets of the cluster that a replica of eventual keyspaces needs, once this node has them
    /// durably. They change only when a key of tokens is added, or when all members had lost one.
    #[must_use]
    pub fn secrets(&self) -> Option<Secrets> {
        let records = self.meta.machine().secrets();
        let newest = |kind| {
            let (id, fingerprint) = records.newest(kind)?;
            self.keyring.durable(id, fingerprint)
        };
        let tree = newest(SecretKind::Tree)?.clone();
        // Tokens are signed with the newest one: it is never passed over.
        newest(SecretKind::Token)?;
        let tokens = records.iter().filter(|(id, _)| id.kind == SecretKind::Token);
        let held = tokens.filter_map(|(id, fingerprint)| self.keyring.durable(id, fingerprint));
        Secrets::new(tree, held.cloned())
    }

    /// Looks after the secrets: writes, asks, draws.
    pub(super) fn tick_secrets(&mut self) {
        if !self.now.0.is_multiple_of(LOOK_TICKS) {
            return;
        }
        let rewritten = self.keyring.rewrite(self.now);
        self.effects.extend(rewritten);
        let leads = self.meta.leads();
        self.keyring.look(self.meta.machine().secrets(), leads, self.now);
        let requests = self.keyring.requests(&self.other_members(), self.meta.leader(), self.now);
        for (to, id) in requests {
            let Some(fingerprint) = self.meta.machine().secrets().get(id) else { continue };
            let (kind, number) = (id.wire_kind(), id.number);
            let fingerprint = fingerprint.0.to_vec().into();
            let request = peer::SecretRequest { kind, number, fingerprint };
            self.outbox.send(to, GroupId::META, Body::SecretRequest(request));
        }
        self.record_secrets();
    }

    fn other_members(&self) -> Vec<NodeId> {
        let ids = self.meta.machine().members().iter().filter_map(Member::id);
        ids.filter(|id| *id != self.config.id).collect()
    }

    /// As leader of group 0, draws what is not recorded or lost, and proposes what is written.
    fn record_secrets(&mut self) {
        if !self.meta.leads() || self.read_only {
            return;
        }
        let status = self.meta.status();
        // Before that it may not know yet what the leader before it has recorded.
        if !status.ready_for_reads {
            return;
        }
        let others = self.other_members();
        for kind in SecretKind::ALL {
            let newest = self.meta.machine().secrets().newest(kind);
            let (number, lost) = match newest {
                None => (1, false),
                Some((id, _)) if self.keyring.is_lost(id, &others, &status.voters, self.now) => {
                    let Some(next) = id.number.checked_add(1) else { continue };
                    (next, true)
                }
                Some(_) => continue,
            };
            let id = SecretId { kind, number };
            match self.keyring.held.get(&id) {
                None => {
                    if lost {
                        tracing::error!(
                            %id,
                            "no member has the secret before this one any more: what was made with it \
                             is refused from now on"
                        );
                    }
                    let drawn = self.keyring.entropy.draw(id);
                    let effect = self.keyring.take(drawn);
                    self.effects.push(effect);
                }
                Some((secret, Place::Disk)) => {
                    let secret = Some(record(id, secret.fingerprint()));
                    if !self.keyring.proposes(id, self.now) {
                        continue;
                    }
                    self.submit_meta(Command::PutSecret(log::PutSecret { secret, lost }));
                }
                Some((_, Place::Writing | Place::Unwritten(_))) => {}
            }
        }
    }

    /// A member asks for a secret.
    pub(super) fn secret_asked(&mut self, from: NodeId, request: &peer::SecretRequest) {
        let id = SecretId::from_wire(request.kind, request.number);
        let fingerprint = Fingerprint::from_slice(&request.fingerprint);
        let (Some(id), Some(fingerprint)) = (id, fingerprint) else { return };
        if self.meta.machine().members().with_id(from).is_none() {
            tracing::warn!(%from, %id, "a secret was asked for by a node that is no member");
            return;
        }
        // It may be recorded without this node knowing: the asker would know no fingerprint otherwise.
        let held = self.keyring.durable(id, fingerprint);
        let secret = held.map(|secret| secret.bytes().to_vec()).unwrap_or_default().into();
        let (kind, number) = (request.kind, request.number);
        let fingerprint = request.fingerprint.clone();
        let reply = peer::SecretReply { kind, number, fingerprint, secret };
        self.outbox.send(from, GroupId::META, Body::SecretReply(reply));
    }

    /// A member answers.
    pub(super) fn secret_answered(&mut self, from: NodeId, reply: &peer::SecretReply) {
        let id = SecretId::from_wire(reply.kind, reply.number);
        let fingerprint = Fingerprint::from_slice(&reply.fingerprint);
        let (Some(id), Some(fingerprint)) = (id, fingerprint) else { return };
        let wanted = self.meta.machine().secrets().get(id) == Some(fingerprint);
        let Some(missing) = self.keyring.missing.get_mut(&id).filter(|_| wanted) else { return };
        if reply.secret.is_empty() {
            missing.lacking.insert(from);
            return;
        }
        let bytes = reply.secret[..].try_into().ok();
        let secret = bytes.map(|bytes| Secret::new(id, bytes));
        match secret.filter(|secret| secret.fingerprint() == fingerprint) {
            Some(secret) => {
                self.keyring.missing.remove(&id);
                let effect = self.keyring.take(secret);
                self.effects.push(effect);
            }
            None => tracing::warn!(%from, %id, "a member answered with another secret"),
        }
    }

    /// A secret is durable, or could not be written.
    pub(super) fn secret_stored(&mut self, id: SecretId, fingerprint: Fingerprint, written: bool) {
        self.keyring.stored(id, fingerprint, written, self.now);
        // What it has drawn is proposed without a wait.
        self.record_secrets();
    }
}
