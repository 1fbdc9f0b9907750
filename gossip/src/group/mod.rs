//! One member of a group: what it says to the others, and when.
//!
//! A [`Group`] holds a [`Replica`] and keeps it in touch with those of the other members. It is told the time, what
//! peers said and what clients write; it answers with items to make durable and messages to send. It has no I/O, no
//! clock and no thread.
//!
//! # How it works
//! - A write goes to all members at once, where there are at most [`MAILED_MEMBERS_MAX`]; in larger groups it is pushed to one
//!   random member after the other until some of them knew it already (`rumor.rs`). Of large values only an offer
//!   goes so, and who does not know it fetches it once (`offer.rs`).
//! - Every [`EXCHANGE_MS`] a member opens an exchange with a random other one: two sessions, one each way. What the
//!   mail lost comes by these. A session that is flagged walks the hash tree (`walk.rs`).
//! - Who needs all that the reachable members have at a moment asks each of them (`cover.rs`).
//! - What every member is known to have is forgotten: contexts and certificates (`forgetting.rs`).
//! - Members ask each other for the time, and stamp with the median of their clocks (`pings.rs`).
//! - Values whose time is over end (`expiry.rs`).
//! - A read may ask a majority of the members, and tells them what they lack (`reads.rs`). Who counts for that, and for
//!   writes that are to be acknowledged by others, says the configuration (`configuration.rs`).
//! - Actors of former starts retire and are named by a number from then on (`retirement.rs`); group 0 decides.
//! - Once a day everything is verified (`scrub.rs`). A member that is damaged takes part in nothing; the caller
//!   begins another one in its place, with what can be read ([`Group::take_back`]).
//!
//! # Order of things
//! [`Group::poll`] gives out items and messages together. The items become durable first, all of them as one; then
//! the messages may leave, and what the poll says is acknowledged counts. A group that was told that its items could not be
//! made durable is to be thrown away and restored.
//!
//! # Guarantees
//! - Any message may be lost, come twice, late, or from a peer that is not what it says, without harm to what is stored.
//! - With links between all members and nothing written, all have the same after some exchanges.
//! - What waits for peers is bounded: sessions by the number of members, their parts by [`UNTAKEN_BYTES_MAX`], rumors by
//!   [`RUMOR_BYTES_MAX`], offers by [`OFFERS_MAX`], reads by [`READS_MAX`] and [`READ_BYTES_MAX`].

mod acks;
mod answer;
mod codec;
mod configuration;
mod cover;
mod drain;
mod exchange;
mod expiry;
mod forgetting;
mod message;
mod names;
mod offer;
mod pings;
mod reads;
mod retirement;
mod rumor;
mod scrub;
mod view;
mod walk;

pub use acks::Acked;
pub(crate) use answer::Told;
pub use answer::{ANSWER_VALUES_MAX, ReadRange, ReadValues, Unread, ValuePlace, value_place};
pub use configuration::{Configuration, Need};
pub use expiry::{EXPIRED_MAX, SETTLE_MS, TURN_MS};
pub use forgetting::KEEP_MS;
pub use offer::{FETCHES_MAX, OFFERED_BYTES, OFFERS_MAX};
pub use pings::{CONTACT_MS, OFF_MAX_US, PING_MS, PeerClock};
pub use reads::{Gathered, Missed, READ_BYTES_MAX, READS_MAX};
pub use scrub::{SCRUB_MS, ScrubState};
pub use view::{BLOCKED_COUNTED_MAX, Compared, PeerView, Traffic, View};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proto::{KeyspaceId, NodeId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::acks::Acks;
use self::cover::{Cover, Covering};
use self::exchange::{Asking, Served};
use self::expiry::Expiry;
use self::forgetting::Ages;
use self::message::Message;
use self::offer::Offers;
use self::pings::Pings;
use self::reads::Reads;
use self::rumor::Rumors;
use self::scrub::Scrub;
use self::view::{Look, Marks};
use crate::actor::ActorId;
use crate::clock::{Clock, FoldNumber};
use crate::dot::Dot;
use crate::entry::Entry;
use crate::hlc::{Hlc, Stamp};
use crate::items::Item;
use crate::record::EntryKey;
use crate::replica::{Replica, Standing, Write, WriteRefused};
use crate::token::Token;

/// Members up to which every write is mailed to all of them.
pub const MAILED_MEMBERS_MAX: usize = 8;

/// Milliseconds between two exchanges that a member opens.
pub const EXCHANGE_MS: u64 = 1_000;

/// Bytes of a session that its sender lets be on their way, about; one part may be longer.
pub const UNTAKEN_BYTES_MAX: usize = 256 * 1024;

/// Bytes of records in one part.
pub const PART_BYTES: usize = 64 * 1024;

/// A session on which nothing came for so long is given up.
pub const SESSION_SILENT_MS: u64 = 10_000;

/// Keys of a removed keyspace that are dropped at once.
const CLEARED_KEYS: usize = 1_024;

/// Bytes of one rumor.
pub const RUMOR_BYTES: usize = 64 * 1024;

/// Bytes of rumors that wait to be sent. What does not fit is left to exchanges.
pub const RUMOR_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a poll gives out. See the module page for the order.
#[derive(Debug, Default)]
pub struct Output {
    /// To be made durable, all as one.
    pub items: Vec<Item>,
    /// To be sent once they are: messages in their bytes.
    pub sends: Vec<(NodeId, Bytes)>,
    /// Writes whose acknowledgements are complete, once they are.
    pub acked: Vec<Acked>,
}

/// What happened, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Exchanges opened here.
    pub exchanges: u64,
    /// Of these and those of peers, how many found both equal.
    pub same: u64,
    /// Sessions that closed here.
    pub closed: u64,
    /// Of these, flagged ones.
    pub flagged: u64,
    /// Sessions that ended here without a close.
    pub not_closed: u64,
    /// Sessions that were given up in silence.
    pub silent: u64,
    /// Records of peers that were stored.
    pub stored: u64,
    /// Records of peers that were known already.
    pub known: u64,
    /// Records of peers that could not be applied.
    pub not_applied: u64,
    /// Stamps of peers that were far ahead of this node's clock.
    pub ahead: u64,
    /// Messages of peers that say nothing that they may.
    pub malformed: u64,
    /// Equal clocks and unequal roots were met, here or as a peer says.
    pub suspected: u64,
    /// Scrubs that came to their end.
    pub scrubs: u64,
    /// Comparisons of all that is stored with what is in memory that came to their end.
    pub store_scrubs: u64,
    /// Something of this replica was found to be lost.
    pub damaged: u64,
    /// Items that the store had lost, and that were put again from memory.
    pub mended: u64,
    /// Replicas that began with nothing, and what could be read, in place of a damaged one.
    pub started_over: u64,
    /// Values that had lost their context with a damaged replica, and were written anew.
    pub rewritten: u64,
    /// Times that a new actor had to be minted because somebody knew of dots that were never issued here.
    pub minted: u64,
    /// Times that a new actor was minted because another one began with the same bytes.
    pub renamed: u64,
    /// Records that came late, of actors that retire, and were left to sessions.
    pub retiring: u64,
    /// Rumors left to exchanges because too many waited.
    pub rumors_left: u64,
    /// Large values that were fetched because a peer offered them.
    pub fetched: u64,
    /// Offers left to exchanges: too many waited, or the value did not come.
    pub offers_left: u64,
    /// Contexts and certificates that were forgotten because all members had them.
    pub forgotten: u64,
    /// The same because of their age.
    pub aged: u64,
    /// Values that were ended here because their time was over.
    pub expired: u64,
    /// Of these, values that another member had issued.
    pub expired_for_others: u64,
    /// Keys that walks of hash trees found to differ.
    pub keys_differing: u64,
    /// Records that a read found missing at a member that was asked, sent there or stored here.
    pub repaired: u64,
    /// What was said and heard.
    pub traffic: Traffic,
}

/// A stamp that was far ahead of this member's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Who issued the write.
    pub actor: ActorId,
    /// By how much it was ahead, in milliseconds.
    pub by_ms: u64,
    /// When it came.
    pub at_ms: u64,
}

/// What is known of another member.
#[derive(Debug, Default)]
struct Member {
    is_linked: bool,
    /// Who issues its dots, as it said last.
    actor: Option<ActorId>,
    /// Its clock, as it said last.
    clock: Clock,
    /// The configuration that it followed then.
    clock_epoch: u64,
    /// The configuration that it follows, as it said last.
    epoch: Option<u64>,
    /// It knows the folds up to this one, as it said last.
    folds: Option<FoldNumber>,
    /// It takes nothing of actors that retire up to this round but in sessions, as it said in its present life.
    retiring: u64,
    /// When it brought this replica up last since the start, or was found equal.
    met_ms: Option<u64>,
    /// What it had when it first said, in its present life, that it takes no writes of clients any more.
    left: Option<Clock>,
    /// What it says about its clock.
    pings: Pings,
    /// What is only looked at.
    look: Look,
    /// How far it has told what it had at the last call of [`Group::cover`].
    covering: Covering,
}

/// One member of a group. See the module page.
#[derive(Debug)]
pub struct Group {
    replica: Replica,
    hlc: Hlc,
    epoch: u64,
    now_ms: u64,
    /// The node's own clock.
    own_us: u64,
    correction_us: i64,
    /// The node's corrected clock.
    wall_ms: u64,
    next_ping_ms: u64,
    /// The others that are talked to.
    members: BTreeMap<NodeId, Member>,
    /// Who of them counts.
    configuration: Configuration,
    is_recovering: bool,
    next_exchange_ms: u64,
    cover: Cover,
    sessions: u64,
    asking: BTreeMap<NodeId, Asking>,
    serving: BTreeMap<NodeId, Served>,
    /// Removed keyspaces of which something may be left.
    clearing: BTreeSet<KeyspaceId>,
    rumors: Rumors,
    offers: Offers,
    acks: Acks,
    reads: Reads,
    ages: Ages,
    expiry: Expiry,
    ahead: Option<Ahead>,
    marks: Marks,
    next_look_ms: u64,
    view: Arc<View>,
    /// Every member knows the folds up to this one.
    folds_everywhere: FoldNumber,
    scrub: Scrub,
    sends: Vec<(NodeId, Message)>,
    /// What tells of nothing that has to be durable.
    urgent: Vec<(NodeId, Message)>,
    acked: Vec<Acked>,
    counts: Counts,
    rng: ChaCha8Rng,
}

impl Group {
    /// A member with a replica that was started.
    #[must_use]
    pub fn new(replica: Replica, epoch: u64, seed: [u8; 32]) -> Self {
        let ages = Ages::new(replica.state().clock().clone());
        let mut rng = ChaCha8Rng::from_seed(seed);
        // What peers still say to an earlier life of this member is not to be taken for an answer.
        let sessions = rng.random::<u64>() >> 1;
        let rumors = Rumors::starting(rng.random::<u64>() >> 1);
        let reads = Reads::starting(rng.random::<u64>() >> 1);
        let cover = Cover::starting(rng.random::<u64>() >> 1);
        Self {
            hlc: Hlc::starting(replica.state().highest()),
            replica,
            epoch,
            now_ms: 0,
            own_us: 0,
            correction_us: 0,
            wall_ms: 0,
            next_ping_ms: 0,
            members: BTreeMap::new(),
            configuration: Configuration::default(),
            is_recovering: false,
            next_exchange_ms: 0,
            cover,
            sessions,
            asking: BTreeMap::new(),
            serving: BTreeMap::new(),
            clearing: BTreeSet::new(),
            rumors,
            offers: Offers::default(),
            acks: Acks::default(),
            reads,
            ages,
            expiry: Expiry::default(),
            ahead: None,
            marks: Marks::default(),
            next_look_ms: 0,
            view: Arc::default(),
            folds_everywhere: FoldNumber::NONE,
            scrub: Scrub::default(),
            sends: Vec::new(),
            urgent: Vec::new(),
            acked: Vec::new(),
            counts: Counts::default(),
            rng,
        }
    }

    /// The replica.
    #[must_use]
    pub const fn replica(&self) -> &Replica {
        &self.replica
    }

    /// What the catalogue says of a keyspace.
    ///
    /// # Panics
    /// As [`Replica::set_keyspace`].
    pub fn set_keyspace(&mut self, id: KeyspaceId, standing: Standing) {
        self.replica.set_keyspace(id, standing);
        if standing == Standing::Removed {
            self.clearing.insert(id);
        }
    }

    /// Whether a removed keyspace is not [cleared](Self::clear) yet.
    #[must_use]
    pub fn is_clearing(&self) -> bool {
        !self.clearing.is_empty()
    }

    /// Drops a part of what is left of a removed keyspace, so much at a time that nobody waits for it.
    pub fn clear(&mut self) {
        let Some(id) = self.clearing.first().copied() else { return };
        if self.replica.clear_keyspace(id, CLEARED_KEYS).is_empty() {
            self.clearing.remove(&id);
        }
    }

    /// The data epoch of the cluster, which rises when it is restored.
    pub const fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// What the author of a stored write has seen: what it superseded, and the write itself. `None` if the write is
    /// stored no longer, or what it superseded is forgotten.
    #[must_use]
    pub fn token_of(&self, key: &EntryKey, dot: Dot) -> Option<Token> {
        let sibling = self.replica.entry(key)?.siblings().get(&dot)?;
        let mut context = sibling.context.as_ref()?.to_clock();
        context.add(dot);
        Some(Token { context: Arc::new(context), stamp: sibling.stamp })
    }

    /// The time to judge deadlines by.
    #[must_use]
    pub fn now(&self) -> Stamp {
        self.hlc.now(self.wall_ms)
    }

    /// What happened since the start.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The link to a peer is up or down.
    pub fn link(&mut self, node: NodeId, is_up: bool) {
        let Some(member) = self.members.get_mut(&node) else { return };
        let was_up = std::mem::replace(&mut member.is_linked, is_up);
        if was_up != is_up {
            // It may have another clock when it comes back.
            member.pings = Pings::default();
        }
        if !is_up {
            member.covering = member.covering.unlinked();
            // Who comes back may have forgotten that it leaves.
            member.left = None;
            self.asking.remove(&node);
            self.serving.remove(&node);
        } else if !was_up {
            let epoch = self.configuration.epoch;
            self.send(node, Message::Epoch { epoch });
        }
    }

    /// The stamp that was far ahead last, if any was.
    #[must_use]
    pub const fn ahead(&self) -> Option<Ahead> {
        self.ahead
    }

    /// Whether every other member has brought this replica up since the start, or was found equal to it.
    #[must_use]
    pub fn has_met_all(&self) -> bool {
        self.members.values().all(|member| member.met_ms.is_some())
    }

    /// Whether it has met all, and nothing waits beside the replica any more: it has all that it can have.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.has_met_all() && self.replica.kept().is_empty()
    }

    /// A session with a member has closed here, or found both equal.
    fn met(&mut self, node: NodeId) {
        let _ = self.replica.fold_known();
        if let Some(member) = self.members.get_mut(&node) {
            member.met_ms = Some(self.now_ms);
        }
    }

    /// All that are talked to, this one among them.
    fn size(&self) -> usize {
        1 + self.members.len()
    }

    fn linked(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().filter(|(_, member)| member.is_linked).map(|(node, _)| *node)
    }

    /// It is that late by a clock that never stops or jumps.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if self.is_damaged() {
            return;
        }
        self.ping();
        self.give_up_silent();
        self.fetch_elsewhere();
        self.scrub();
        self.settle_kept();
        if now_ms >= self.next_exchange_ms {
            // Members take their turns at different times.
            let spread = self.rng.random_range(0..EXCHANGE_MS / 4);
            self.next_exchange_ms = now_ms + EXCHANGE_MS - EXCHANGE_MS / 8 + spread;
            self.open_exchange();
        }
        self.expire();
        self.go_on_covering();
        self.forget();
        self.push();
        self.look();
        self.tick_reads();
    }

    /// Takes a write of a client that wants so many members to have it durably, this one among them.
    ///
    /// # Errors
    /// [`WriteRefused`]; nothing changed.
    pub fn write(&mut self, write: &Write, need: Need) -> Result<(Dot, Stamp), WriteRefused> {
        let mut written = self.replica.write(write, &mut self.hlc, self.wall_ms);
        if matches!(written, Err(WriteRefused::OwnActorAhead)) {
            self.mint();
            written = self.replica.write(write, &mut self.hlc, self.wall_ms);
        }
        let written = written?;
        let (dot, stamp) = (written.record.dot, written.record.stamp);
        self.acks.open(dot, need);
        self.rumors.add(written.record);
        self.spread(written.collapse);
        Ok((dot, stamp))
    }

    /// What is stored of a key.
    #[must_use]
    pub fn entry(&self, key: &EntryKey) -> Option<&Entry> {
        self.replica.entry(key)
    }

    /// Somebody knows of dots of this member's actor that it never issued: its disk was copied or rolled back.
    fn mint(&mut self) {
        self.counts.minted += 1;
        self.renew_actor();
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.sends.push((to, message));
    }

    fn spread(&mut self, records: impl IntoIterator<Item = crate::record::Record>) {
        for record in records {
            self.rumors.add(record);
        }
    }

    /// A peer says something. `from` is proven; what it says may be anything.
    pub fn receive(&mut self, from: NodeId, bytes: &[u8]) {
        if !self.members.contains_key(&from) {
            return;
        }
        match Message::decode(bytes, self.replica.state().folds()) {
            // Who is damaged only refuses.
            Ok(message) if self.is_damaged() && !matches!(message, Message::Hello { .. }) => {}
            Ok(message) => {
                self.note_traffic(from, |traffic| traffic.received(&message, bytes.len()));
                self.hear(from, message);
            }
            Err(_) => self.counts.malformed += 1,
        }
    }

    fn hear(&mut self, from: NodeId, message: Message) {
        match message {
            Message::Hello { hello, turn, epoch } => {
                self.heard_epoch(from, epoch);
                self.hello(from, hello, (turn, epoch));
            }
            Message::Refused { session, why } => self.refused(from, session, why),
            Message::Part(part) => self.part(from, part),
            Message::Taken { session, number } => self.taken(from, session, number),
            Message::Ask { session, nodes } => self.asked(from, session, &nodes),
            Message::Below { session, nodes } => self.told(from, session, nodes),
            Message::Tell { session, number, keys } => self.tell(from, session, number, &keys),
            Message::Walked { session, tells } => self.walked(from, session, tells),
            Message::Rumor { id, batch } => self.rumor(from, id, &batch),
            Message::Offer { id, batch } => self.offered(from, id, &batch),
            Message::Fetch { dot } => self.fetched(from, dot),
            Message::Ping { asked } => self.pinged(from, asked),
            Message::Pong { asked, received, answered } => {
                self.ponged(from, asked, received, answered);
            }
            Message::Stored { id, epoch } => {
                self.heard_epoch(from, epoch);
                self.stored(from, id, epoch);
            }
            Message::Epoch { epoch } => {
                self.heard_epoch(from, epoch);
                self.greeted(from);
            }
            Message::Read { id, epoch, range } => self.asked_to_read(from, id, epoch, &range),
            Message::Answer { id, epoch, told } => self.answered(from, id, epoch, told),
            Message::Standing { id } => self.asked_for_standing(from, id),
            Message::Stands { id, actor, is_whole } => self.stands(from, id, actor, is_whole),
        }
    }

    /// What may be sent at once, whatever is not durable: questions for the time, and their answers. What is
    /// not taken here is part of the next [`Group::poll`], and is late then.
    pub fn take_urgent(&mut self) -> Vec<(NodeId, Bytes)> {
        let urgent = std::mem::take(&mut self.urgent);
        self.encoded(urgent)
    }

    /// What is to be made durable and sent since the last poll.
    pub fn poll(&mut self) -> Output {
        self.mail();
        self.serve();
        self.reads.polled();
        let mut sends = self.take_urgent();
        let decided = std::mem::take(&mut self.sends);
        sends.extend(self.encoded(decided));
        Output { items: self.replica.take_items(), sends, acked: std::mem::take(&mut self.acked) }
    }

    fn encoded(&mut self, messages: Vec<(NodeId, Message)>) -> Vec<(NodeId, Bytes)> {
        let mut sends: Vec<(NodeId, Bytes)> = Vec::with_capacity(messages.len());
        for (to, message) in messages {
            let through = self.folds_at(to);
            let bytes = message.encode(through);
            self.note_traffic(to, |traffic| traffic.sent(&message, bytes.len()));
            sends.push((to, bytes.into()));
        }
        sends
    }
}

#[cfg(test)]
mod tests;
