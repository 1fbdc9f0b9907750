//! A replica of the eventual keyspaces: a member of the gossip group drives a log of this node's own.
//!
//! [`GossipReplica`] owns the order in which things happen: the group decides and gives out items and messages
//! together; the items become one entry of the node's own log; the messages, and the answers to clients that tell of
//! these items, wait in `Held` until that entry is durable. So nothing that a crash could take back has left
//! the node, and all that happens between two polls shares one fdatasync.
//!
//! # States
//! A replica has no member of the group before it knows the secrets of the cluster and, in an empty directory, which
//! keyspaces there are. Then it serves nothing. One whose directory began after there were eventual keyspaces is
//! *recovering*: it takes writes and spreads them, but answers no read before it has had a session with every other
//! member. What it was not told yet looks as if it were not there. So is one that was damaged and began again
//! (`mending.rs`).
//!
//! # Guarantees
//! - A write is answered once it is durable here and, as far as was asked for, elsewhere. If that does not come in
//!   time the error says that it is applied, and where.
//! - A write id is exact at this directory, within the bounds of `write_ids.rs`.
//! - A read shows what is durable here, one of level `quorum` what a majority of the members has answered (`quorum.rs`).

mod actors;
mod alive;
mod cut;
mod gate;
mod held;
mod keyspaces;
mod mending;
mod quorum;
mod reads;
mod scrub;
mod skew;
mod tokens;
mod write_ids;
mod writes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use gossip::ActorId;
use gossip::group::{Configuration, Group, PeerClock};
use gossip::timekeeper::Timekeeper;
use gossip::token::{ActorNames, TokenKeys};
use gossip::tree::TreeKey;
use proto::peer::peer_message::Body;
use proto::{Applied, Code, Failure, GroupId, LogIndex, NodeId, log, peer};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::actors::StoredFolds;
use self::alive::Alive;
use self::gate::Gate;
use self::held::Held;
use self::keyspaces::KnownKeyspaces;
use self::mending::{Mending, Stored};
use self::quorum::OpenReads;
use self::scrub::StoreScrub;
use self::skew::SkewAlarm;
use self::write_ids::WriteIds;
use self::writes::OpenWrites;
use super::own_log::OwnLog;
use super::{Outbox, Read, Replication, Submission};
use crate::node::{GossipSummary, RequestId, Ticket, Ticks};

pub use self::actors::{ActorCounts, CataloguedActors};
pub use self::cut::goes_along;
pub use self::keyspaces::CataloguedKeyspaces;

/// Who this replica is.
#[derive(Clone, Debug)]
pub struct GossipConfig {
    /// The node's id.
    pub node: NodeId,
    /// The node's name.
    pub name: String,
    /// Data epoch of the cluster.
    pub epoch: u64,
    /// Random, new at every start: from it come the actor and all that the group leaves to chance.
    pub seed: [u8; 32],
}

/// What a replica knows of the members' clocks, and what waits for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// Some are more than half a second apart, or were when a value was written.
    pub alarm: bool,
    /// By how much this node's is corrected, in microseconds.
    pub correction_us: i64,
    /// Those of the members in contact.
    pub peers: Vec<PeerClock>,
    /// Values stored here that end at some time.
    pub deadlines: usize,
}

/// What the replicas of a cluster share and nobody else may know.
pub struct GroupSecrets {
    /// For the hash tree.
    pub tree: TreeKey,
    /// For tokens.
    pub tokens: TokenKeys,
}

impl std::fmt::Debug for GroupSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GroupSecrets(..)")
    }
}

/// A replica of the eventual keyspaces. See the module page.
#[derive(Debug)]
pub struct GossipReplica {
    config: GossipConfig,
    own: OwnLog,
    /// Nothing was stored in this directory when the node started, or something of it is lost.
    is_new: bool,
    rng: ChaCha8Rng,
    keyspaces: KnownKeyspaces,
    actors: CataloguedActors,
    others: BTreeSet<NodeId>,
    configuration: Configuration,
    links: BTreeSet<NodeId>,
    now: Ticks,
    time: Timekeeper,
    /// The node's own time, in microseconds since 1970; 0 before it was told.
    own_us: u64,
    skew: SkewAlarm,
    /// The log takes nothing more, also of what peers spread.
    closed: bool,
    /// It is a member that is not about to leave.
    stays: bool,
    /// The node is about to stop.
    leaving: bool,
    /// Why the state store is of no use.
    failed: Option<String>,
    serving: Option<Serving>,
    /// The replica was damaged, and another one is about to begin.
    mending: Option<Mending>,
    /// What the one before had promised to clients, until that is durable.
    left: Option<Held>,
}

/// What a replica has that is a member of the group.
#[derive(Debug)]
struct Serving {
    group: Group,
    tokens: TokenKeys,
    names: ActorNames,
    /// The folds that every member knows, as stored.
    folds: StoredFolds,
    gate: Gate,
    ids: WriteIds,
    open: OpenWrites,
    /// Reads that were not answered yet.
    reads: VecDeque<Read>,
    /// Reads that other members are asked for.
    quorum_reads: OpenReads,
    /// What waits for the disk.
    held: Held,
    alive: Alive,
    /// What is removed with the first items, where the replica began with nothing in a directory that held something.
    removed: Vec<log::Item>,
    scrub: StoreScrub,
}

impl GossipReplica {
    /// A replica that does not serve yet, over what its log has brought back.
    #[must_use]
    pub fn new(config: GossipConfig, own: OwnLog) -> Self {
        let rng = ChaCha8Rng::from_seed(config.seed);
        let mut replica = Self {
            config,
            own,
            is_new: false,
            rng,
            keyspaces: KnownKeyspaces::default(),
            actors: CataloguedActors::default(),
            others: BTreeSet::new(),
            configuration: Configuration::default(),
            links: BTreeSet::new(),
            now: Ticks(0),
            time: Timekeeper::default(),
            own_us: 0,
            skew: SkewAlarm::default(),
            closed: false,
            stays: true,
            leaving: false,
            failed: None,
            serving: None,
            mending: None,
            left: None,
        };
        // What was read from the log is durable.
        replica.durable(Ticket(0));
        match replica.own.items().next() {
            // The log may have lost all that it held and go on with its numbers.
            None => replica.is_new = true,
            Some(Ok(_)) => {}
            Some(Err(error)) => replica.failed = Some(error.to_string()),
        }
        replica
    }

    /// The log of this node alone.
    #[must_use]
    pub const fn own(&self) -> &OwnLog {
        &self.own
    }

    /// The log of this node alone, for checkpoints, exports and renewals.
    pub const fn own_mut(&mut self) -> &mut OwnLog {
        &mut self.own
    }

    /// Whether it is a member of the group.
    #[must_use]
    pub const fn serves(&self) -> bool {
        self.serving.is_some()
    }

    /// Whether nothing was stored in this directory at the start, or something is lost of what was: then
    /// [`GossipReplica::join`] has to know all members and keyspaces there are.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether all that the log held is applied, and the time is known.
    #[must_use]
    pub fn may_join(&self) -> bool {
        self.own.applied() == self.own.last() && self.own_us > 0 && self.takes_items()
    }

    /// Becomes a member of the group. What the catalogue says of keyspaces was said before, and where
    /// [`GossipReplica::is_new`] it says all that a majority knows: `knows_all`. Where what was stored is damaged, it begins
    /// anew with what can be read of it; or is new from now on, and does not join, where not all is known yet.
    ///
    /// # Errors
    /// Why nothing can be read: the state store failed, or an item that is no replica's was damaged. The state directory has to be
    /// rebuilt.
    pub fn join(&mut self, secrets: GroupSecrets, knows_all: bool) -> Result<(), String> {
        let mut stored = Vec::new();
        let mut ids = WriteIds::default();
        let mut folds = StoredFolds::default();
        let mut gate =
            if self.is_new && self.keyspaces.any() { Gate::closed() } else { Gate::open() };
        for item in self.own.items() {
            let log::Item { key, value } = item.map_err(|error| error.to_string())?;
            let value = value.unwrap_or_default();
            if WriteIds::owns(&key) {
                ids.restore(&key, &value)?;
            } else if StoredFolds::owns(&key) {
                folds = StoredFolds::restore(&value)?;
            } else if Gate::owns(&key) {
                gate = Gate::closed();
            } else {
                stored.push((key, value));
            }
        }
        ids.restored(self.now);
        let stored = Stored::of(stored);
        if stored.is_damaged() && !knows_all {
            self.is_new = true;
            return Ok(());
        }
        let actor = ActorId::mint(&mut self.rng);
        let catalogued = Arc::clone(&self.actors.folds);
        let begun = stored.begin(self.mending.take(), &catalogued, actor, secrets.tree);
        let mut removed = Vec::new();
        let mut salvaged = None;
        if let Some((read, old)) = begun.anew {
            (salvaged, removed) = (Some(read), old);
            gate = Gate::closed();
        }
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let mut group = Group::new(begun.replica, self.config.epoch, seed);
        group.count_on(begun.counts);
        // Questions may come before the next poll.
        group.set_recovering(!gate.is_open());
        group.set_clock(self.own_us);
        group.configure(&self.others, self.configuration.clone());
        group.set_leaving(!self.stays);
        for node in &self.links {
            group.link(*node, true);
        }
        self.keyspaces.tell_all(&mut group);
        let mut names = ActorNames::default();
        group.learn_names(&mut names);
        let held = Held::starting(self.own.last());
        let (open, reads) = (OpenWrites::default(), VecDeque::new());
        let quorum_reads = OpenReads::default();
        self.rng.fill_bytes(&mut seed);
        let mut alive = Alive::new(self.config.node, self.own_us / 1_000, seed);
        alive.set_members(&self.others);
        let tokens = secrets.tokens;
        let scrub = StoreScrub::default();
        let mut serving = Serving {
            group,
            tokens,
            names,
            folds,
            gate,
            ids,
            open,
            reads,
            quorum_reads,
            held,
            alive,
            removed,
            scrub,
        };
        serving.begin_actors(&self.actors)?;
        if let Some(salvaged) = salvaged {
            serving.group.take_back(salvaged);
            let clock = serving.group.replica().state().clock();
            serving.removed.extend(serving.ids.lose(|dot| clock.contains(dot)));
        }
        self.serving = Some(serving);
        Ok(())
    }

    /// The keys that tokens are made with, when they have changed.
    pub fn set_tokens(&mut self, tokens: TokenKeys) {
        if let Some(serving) = &mut self.serving {
            serving.tokens = tokens;
        }
    }

    /// The data epoch of the cluster.
    pub const fn set_epoch(&mut self, epoch: u64) {
        self.config.epoch = epoch;
        if let Some(serving) = &mut self.serving {
            serving.group.set_epoch(epoch);
        }
    }

    /// The members of the cluster, this one apart, and one that is leaving; who of them counts, and in which
    /// configuration; whether this one stays.
    pub fn set_members(
        &mut self,
        others: BTreeSet<NodeId>,
        configuration: Configuration,
        stays: bool,
    ) {
        self.stays = stays;
        if let Some(serving) = &mut self.serving {
            serving.group.set_leaving(!stays);
        }
        if self.others == others && self.configuration == configuration {
            return;
        }
        (self.others, self.configuration) = (others, configuration);
        if let Some(serving) = &mut self.serving {
            serving.group.configure(&self.others, self.configuration.clone());
            for node in &self.links {
                serving.group.link(*node, true);
            }
            serving.alive.set_members(&self.others);
        }
    }

    /// Whether half of these members, this one among them if `with_own`, follow the configuration that was said last: no
    /// majority of them is left in the one before.
    #[must_use]
    pub fn is_followed_by(&self, others: &BTreeSet<NodeId>, with_own: bool) -> bool {
        let size = others.len() + usize::from(with_own);
        let serving = self.serving.as_ref();
        let followers = serving.map_or(0, |serving| serving.group.followers(others));
        followers + usize::from(with_own) >= size.div_ceil(2)
    }

    /// Whether a majority of those who stay has all that a member has that leaves.
    #[must_use]
    pub fn is_drained(&self, leaving: NodeId) -> bool {
        self.serving.as_ref().is_some_and(|serving| serving.group.is_drained(leaving))
    }

    /// What is known here of the writes of the other members since their last starts: the last of each.
    #[must_use]
    pub fn last_known(&self) -> Vec<(NodeId, gossip::Dot)> {
        let Some(serving) = &self.serving else { return Vec::new() };
        let last = |node: &NodeId| {
            let (actor, counter) = serving.group.last_known(*node)?;
            (counter > 0).then(|| (*node, gossip::Dot::new(actor, counter)))
        };
        self.others.iter().filter_map(last).collect()
    }

    /// It is that late, in microseconds: by a clock that never jumps, since any moment; by the wall clock, since 1970.
    pub fn set_time(&mut self, monotonic_us: u64, wall_us: u64) {
        self.own_us = self.time.now(monotonic_us, wall_us);
        if let Some(serving) = &mut self.serving {
            serving.group.set_clock(self.own_us);
        }
    }

    /// Log and memory have outgrown their bounds so far that what peers spread has to wait as well.
    pub const fn set_closed(&mut self, closed: bool) {
        self.closed = closed;
    }

    /// What is known of itself, once it serves.
    #[must_use]
    pub fn summary(&self) -> Option<GossipSummary> {
        let Serving { group, alive, .. } = self.serving.as_ref()?;
        Some(GossipSummary {
            recovering: self.is_recovering(),
            clocks: self.clocks()?,
            counts: group.counts(),
            actors: self.actor_counts(),
            unreplicated: group.unreplicated(),
            view: group.view(),
            liveness: alive.summary(&self.others),
        })
    }

    /// The node is about to stop: from now on it asks the others often whether they have what it took.
    pub const fn leave(&mut self) {
        self.leaving = true;
    }

    /// What it knows of the members' clocks.
    fn clocks(&self) -> Option<Clocks> {
        let group = &self.serving.as_ref()?.group;
        Some(Clocks {
            alarm: self.skew.is_up(),
            correction_us: group.correction_us(),
            peers: group.peer_clocks().collect(),
            deadlines: group.deadlines(),
        })
    }

    /// What has happened in the group since the start.
    #[cfg(test)]
    fn counts(&self) -> Option<gossip::group::Counts> {
        let ended = self.mending.as_ref().map(Mending::counts);
        self.serving.as_ref().map(|serving| serving.group.counts()).or(ended)
    }

    /// Whether it may not answer reads yet.
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.serving.as_ref().is_none_or(|serving| !serving.gate.is_open())
    }

    fn not_serving(&self) -> Failure {
        if let Some(failure) = self.being_mended() {
            return failure;
        }
        let name = &self.config.name;
        let why = format!(
            "{name} has not got the cluster's secrets, or has not heard from a leader, since its directory is new"
        );
        Failure::new(Code::Recovering, "", why).retry_after(RECOVERING_RETRY)
    }

    /// Whether what peers say, and what the group does by itself, would reach the log.
    fn takes_items(&self) -> bool {
        !(self.own.is_read_only() || self.closed)
    }
}

impl Serving {
    /// Gives out what the group has decided, and holds back what has to wait for it.
    fn turn(&mut self, own: &mut OwnLog, now: Ticks, out: &mut Outbox) {
        for (to, data) in self.group.take_urgent() {
            out.send(to, GROUP, Body::Gossip(peer::Gossip { data }));
        }
        let output = self.group.poll();
        // Of items with the same key the last one counts.
        let mut items = std::mem::take(&mut self.removed);
        items.extend(output.items.into_iter().map(stored));
        items.extend(self.ids.take_items(now));
        items.extend(self.gate.take_items(&self.group));
        items.extend(self.folds.take_items(&self.group));
        let sends = output.sends.into_iter();
        self.held.send(sends.map(|(to, data)| (to, Body::Gossip(peer::Gossip { data }))));
        for acked in output.acked {
            let answers = self.open.acked(&acked);
            self.held.answer(answers);
        }
        if !items.is_empty() {
            self.held.close(own.append(items, out));
        }
    }
}

impl Replication for GossipReplica {
    fn tick(&mut self, now: Ticks, _out: &mut Outbox) {
        self.now = now;
        let takes = self.takes_items();
        let ends_values = self.stays && !self.own.is_overloaded();
        let Some(serving) = self.serving.as_mut() else { return };
        serving.alive.tick(now.0 * TICK_MS);
        if !takes {
            return;
        }
        let ends_values = ends_values && serving.gate.is_open();
        serving.group.set_expiring(ends_values.then_some(self.config.node));
        // What was decided before is given out by now, so what is stored can be compared.
        if let Err(error) = serving.scrub_store(&self.own, now) {
            self.failed.get_or_insert(error.to_string());
        }
        serving.group.tick(now.0 * TICK_MS);
        serving.alive.try_the_dead(&self.others, &mut serving.group);
        if now.0.is_multiple_of(SKEW_TICKS) {
            self.skew.look(&serving.group, self.time.apart_us(), now);
        }
        if self.leaving && now.0.is_multiple_of(LEAVING_TICKS) && serving.group.unreplicated() > 0 {
            serving.group.exchange_with_all();
        }
        if now.0.is_multiple_of(NAMES_TICKS) {
            serving.group.learn_names(&mut serving.names);
        }
    }

    fn receive(&mut self, from: NodeId, body: Body, _out: &mut Outbox) {
        let takes = self.takes_items();
        let Some(serving) = &mut self.serving else { return };
        match body {
            Body::Gossip(gossip) if takes => serving.group.receive(from, &gossip.data),
            Body::Liveness(liveness) => serving.alive.hear(from, &liveness.packet),
            _ => {}
        }
    }

    fn write(&mut self, submission: Submission, out: &mut Outbox) {
        self.take_write(submission, out);
    }

    fn read(&mut self, read: Read, out: &mut Outbox) {
        match &mut self.serving {
            Some(serving) => serving.reads.push_back(read),
            None => out.answer(read.id, Err(self.not_serving())),
        }
    }

    fn forget(&mut self, id: RequestId) -> Option<Failure> {
        let applied = self.own.applied();
        let serving = self.serving.as_mut()?;
        serving.reads.retain(|read| read.id != id);
        let read = serving.give_up_read(id, &self.config);
        read.or_else(|| serving.give_up(id, applied))
    }

    fn link(&mut self, node: NodeId, up: bool, _out: &mut Outbox) {
        if up {
            self.links.insert(node);
        } else {
            self.links.remove(&node);
        }
        if let Some(serving) = &mut self.serving {
            serving.group.link(node, up);
        }
    }

    fn durable(&mut self, ticket: Ticket) {
        if let Err(error) = self.own.durable(ticket) {
            self.failed.get_or_insert(error.to_string());
        }
    }

    fn poll(&mut self, out: &mut Outbox) {
        if let Some(error) = &self.failed {
            return out.fail(GROUP, format!("the log of the eventual keyspaces: {error}"));
        }
        self.release_left(out);
        let takes = self.takes_items();
        let Some(serving) = &mut self.serving else { return };
        serving.alive.speak(out);
        serving.group.set_recovering(!serving.gate.is_open());
        serving.answer_reads(&self.keyspaces, takes, &self.config, out);
        serving.finish_quorum_reads(&self.config, out);
        if takes && serving.group.is_clearing() {
            serving.group.clear();
            out.again |= serving.group.is_clearing();
        }
        if takes {
            out.again |= serving.group.fold(&self.actors.folds);
        }
        // Also while the log takes nothing: what was taken before that is appended, and waits in memory. Until then
        // nobody hears of it.
        serving.turn(&mut self.own, self.now, out);
        serving.held.release(self.own.applied(), out);
        self.mend(out);
    }

    fn applied(&self) -> LogIndex {
        self.own.applied()
    }
}

fn stored(item: gossip::items::Item) -> log::Item {
    log::Item { key: item.key, value: item.value }
}

/// A failure of a write that changed nothing.
fn refused(code: Code, why: impl Into<String>) -> Failure {
    Failure::new(code, "", why).applied(Applied::No)
}

/// Sends of the group go to this group's replicas.
const GROUP: GroupId = GroupId::EVENTUAL;

/// Milliseconds in a tick.
const TICK_MS: u64 = consensus::config::TICK.as_millis() as u64;

/// Ticks between two looks at the names of actors.
const NAMES_TICKS: u64 = 20;

/// Ticks between two looks at how far clocks are apart.
const SKEW_TICKS: u64 = 20;

/// Ticks between two exchanges of a node that is about to stop.
const LEAVING_TICKS: u64 = 2;

/// What a client waits before it asks again a node that does not serve yet.
const RECOVERING_RETRY: std::time::Duration = std::time::Duration::from_millis(500);
