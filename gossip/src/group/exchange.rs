//! Exchanges: two sessions, one each way.

use std::collections::{BTreeSet, VecDeque};

use proto::NodeId;
use rand::RngExt;

use super::message::{Message, Refusal, Turn};
use super::walk::{self, Below, Walk};
use super::{Group, PART_BYTES, SESSION_SILENT_MS, UNTAKEN_BYTES_MAX};
use crate::entry::Sibling;
use crate::record::{Body, EntryKey};
use crate::session::{Ended, Hello, Meeting, NotClosed, Part, PartBody, Serving, Taking, meet};
use crate::tree::{Leaf, NodeName};

/// Keys in one message of a walk.
const TELL_KEYS: usize = 256;

/// Keys that are asked for at a time, and one message more. The sender remembers 4,096: also those that it has just told
/// by itself, which are no more than what may be on its way.
const OPEN_KEYS_MAX: usize = 1_536;

/// A session in which this member is brought up to the position of another.
#[derive(Debug)]
pub(super) struct Asking {
    session: u64,
    taking: Taking,
    /// It is flagged, and the walk has begun.
    is_walking: bool,
    /// The walk until it is done.
    walk: Option<Walk>,
    tells: u64,
    /// Keys that were asked for and have not come.
    open_keys: BTreeSet<EntryKey>,
    /// Keys that have come, asked for or not.
    told_keys: BTreeSet<EntryKey>,
    heard_ms: u64,
    /// Something has come since the Hello.
    is_answered: bool,
}

impl Asking {
    pub(super) const fn session(&self) -> u64 {
        self.session
    }
}

/// A session in which this member brings another up to its own position.
#[derive(Debug)]
pub(super) struct Served {
    session: u64,
    serving: Serving,
    /// Parts that are on their way, with their bytes, about.
    untaken: VecDeque<(u64, usize)>,
    tells: u64,
    is_walked: bool,
    heard_ms: u64,
}

impl Group {
    /// Begins an exchange with a random member that it has none with.
    pub(super) fn open_exchange(&mut self) {
        let free: Vec<NodeId> =
            self.linked().filter(|node| !self.asking.contains_key(node)).collect();
        if free.is_empty() {
            return;
        }
        let peer = free[self.rng.random_range(0..free.len())];
        self.exchange_with(peer);
    }

    /// Opens an exchange with every member that it has none with: to hear soon what they have.
    pub fn exchange_with_all(&mut self) {
        let linked: Vec<NodeId> = self.linked().collect();
        for peer in linked {
            self.exchange_with(peer);
        }
    }

    /// Opens an exchange with a member, unless there is one, or no link.
    pub fn exchange_with(&mut self, peer: NodeId) {
        let is_linked = self.members.get(&peer).is_some_and(|member| member.is_linked);
        if is_linked && !self.asking.contains_key(&peer) && self.may_close() {
            self.counts.exchanges += 1;
            self.ask(peer, Turn::Ask);
        }
    }

    /// A member says that it has begun, or that a link came up: a Hello from before may have found nobody there, and an
    /// exchange is due if there was none yet.
    pub(super) fn greeted(&mut self, peer: NodeId) {
        let is_unanswered = self.asking.get(&peer).is_some_and(|asking| !asking.is_answered);
        if is_unanswered {
            self.asking.remove(&peer);
        }
        let is_met = self.members.get(&peer).is_some_and(|member| member.met_ms.is_some());
        if is_unanswered || !is_met {
            self.exchange_with(peer);
        }
    }

    /// Whether a session may close here. One that closed while whole keys are told might make that void, and until
    /// everything is verified nothing is dropped.
    pub(super) fn may_close(&self) -> bool {
        !self.serves_flagged() && !self.is_suspicious()
    }

    /// Whether a session is served in which whole keys are told.
    fn serves_flagged(&self) -> bool {
        self.serving.values().any(|served| served.serving.is_flagged())
    }

    /// Says Hello, and is ready for what comes of it. Returns the number of the session.
    pub(super) fn ask(&mut self, peer: NodeId, turn: Turn) -> u64 {
        self.sessions += 1;
        let session = self.sessions;
        let asking = Asking {
            session,
            taking: Taking::begin(&self.replica, session),
            is_walking: false,
            walk: None,
            tells: 0,
            open_keys: BTreeSet::new(),
            told_keys: BTreeSet::new(),
            heard_ms: self.now_ms,
            is_answered: false,
        };
        self.asking.insert(peer, asking);
        self.say_hello(peer, session, turn);
        session
    }

    fn say_hello(&mut self, peer: NodeId, session: u64, turn: Turn) {
        let hello = Hello::of(&self.replica, session, self.epoch, Vec::new()).what;
        let epoch = self.configuration.epoch;
        self.send(peer, Message::Hello { hello, turn, epoch });
    }

    pub(super) fn hello(&mut self, from: NodeId, hello: Hello, (turn, epoch): (Turn, u64)) {
        let meeting = meet(&self.replica, self.epoch, &hello);
        let refused = match meeting {
            // Until everything is verified here, nobody drops anything for what this replica lacks, nor does it.
            Meeting::Differs if self.is_suspicious() => Some(Refusal::Unknown),
            Meeting::Same | Meeting::Differs => None,
            // It has found that by itself, and the other one has nothing to look for.
            Meeting::Damaged if self.is_damaged() => Some(Refusal::Unknown),
            Meeting::OtherData => Some(Refusal::OtherData),
            Meeting::Damaged => Some(Refusal::Damaged),
            Meeting::OwnActorAhead => Some(Refusal::Minted),
        };
        if meeting != Meeting::OtherData {
            self.compared(from, &hello);
        }
        if let Some(why) = refused {
            match why {
                Refusal::Damaged => self.suspect(),
                Refusal::Minted => self.mint(),
                Refusal::OtherData => self.counts.malformed += 1,
                Refusal::Unknown => {}
            }
            self.asking.remove(&from);
            self.send(from, Message::Refused { session: hello.session, why });
            return;
        }
        if let Some(member) = self.members.get_mut(&from) {
            // An older Hello may come late; but who has another actor may have lost what it had.
            let is_other = member.actor.replace(hello.actor) != Some(hello.actor);
            if is_other || !member.clock.covers(&hello.clock) {
                member.clock = hello.clock.clone();
            }
            member.clock_epoch = if is_other { epoch } else { epoch.max(member.clock_epoch) };
            member.folds = Some(hello.folds);
            if is_other || !hello.leaves {
                member.left = None;
            }
            if hello.leaves {
                member.left.get_or_insert_with(|| hello.clock.clone());
            }
            // A mark lasts for a life: who starts again says so again.
            member.retiring =
                if is_other { hello.retiring } else { member.retiring.max(hello.retiring) };
        }
        self.settle_acks();
        self.settle_folds();
        match turn {
            Turn::Ask if meeting == Meeting::Same => {
                self.counts.same += 1;
                self.met(from);
                self.say_hello(from, hello.session, Turn::Same);
            }
            Turn::Ask => {
                self.begin_serving(from, &hello);
                // A session that runs goes on.
                if !self.asking.contains_key(&from) && self.may_close() {
                    self.ask(from, Turn::Serve);
                }
            }
            Turn::Serve => self.begin_serving(from, &hello),
            Turn::Same => {
                self.counts.same += 1;
                if meeting == Meeting::Same {
                    self.met(from);
                }
                // It had nothing else when this one said Hello, whatever has come since.
                self.covered_by(from, hello.session);
                self.asking.remove(&from);
            }
        }
    }

    fn begin_serving(&mut self, to: NodeId, hello: &Hello) {
        let served = Served {
            session: hello.session,
            serving: Serving::begin(&self.replica, hello, self.rng.random()),
            untaken: VecDeque::new(),
            tells: 0,
            is_walked: false,
            heard_ms: self.now_ms,
        };
        self.serving.insert(to, served);
    }

    pub(super) fn refused(&mut self, from: NodeId, session: u64, why: Refusal) {
        if self.asking.get(&from).is_some_and(|asking| asking.session == session) {
            self.asking.remove(&from);
            self.counts.not_closed += 1;
            if why == Refusal::Damaged {
                self.suspect();
            }
        }
        if self.serving.get(&from).is_some_and(|served| served.session == session) {
            self.serving.remove(&from);
        }
    }

    /// Sends what may be sent of all sessions that are served.
    pub(super) fn serve(&mut self) {
        let peers: Vec<NodeId> = self.serving.keys().copied().collect();
        for peer in peers {
            while let Some(part) = self.next_part(peer) {
                let is_walked = matches!(part.body, PartBody::Opening { is_flagged: true });
                let session = part.session;
                self.send(peer, Message::Part(part));
                if is_walked {
                    // The receiver begins there, and need not ask for it.
                    let root = (NodeName::ROOT, walk::below(&self.replica, NodeName::ROOT));
                    self.send(peer, Message::Below { session, nodes: vec![root] });
                }
            }
        }
    }

    fn next_part(&mut self, peer: NodeId) -> Option<Part> {
        let served = self.serving.get_mut(&peer)?;
        if served.untaken.iter().map(|(_, bytes)| bytes).sum::<usize>() >= UNTAKEN_BYTES_MAX {
            return None;
        }
        let mut part = served.serving.next(&self.replica, PART_BYTES);
        if part.is_none() && served.is_walked {
            part = served.serving.end(&self.replica);
        }
        if let Some(key) = served.serving.damaged().filter(|_| self.replica.damage().is_empty()) {
            self.counts.damaged += 1;
            self.replica.damaged(key);
        }
        match part {
            Some(part) => {
                served.untaken.push_back((part.what.number, length(&part.what)));
                Some(part.what)
            }
            None => {
                let is_over = !served.serving.is_flagged() || served.is_walked;
                if is_over {
                    self.serving.remove(&peer);
                }
                None
            }
        }
    }

    pub(super) fn taken(&mut self, from: NodeId, session: u64, number: u64) {
        if let Some(served) = self.served(from, session) {
            served.untaken.retain(|(sent, _)| *sent > number);
        }
    }

    /// The session that is served to a peer, if it is this one.
    fn served(&mut self, to: NodeId, session: u64) -> Option<&mut Served> {
        let now_ms = self.now_ms;
        let served = self.serving.get_mut(&to).filter(|served| served.session == session)?;
        served.heard_ms = now_ms;
        Some(served)
    }

    pub(super) fn part(&mut self, from: NodeId, part: Part) {
        let (session, number) = (part.session, part.number);
        let whole = match &part.body {
            PartBody::Entry(staged) if staged.is_whole => Some(staged.key.clone()),
            _ => None,
        };
        let Some(mut asking) = self.asking.remove(&from) else {
            return self.send(from, Message::Refused { session, why: Refusal::Unknown });
        };
        if asking.session != session {
            self.asking.insert(from, asking);
            return self.send(from, Message::Refused { session, why: Refusal::Unknown });
        }
        (asking.heard_ms, asking.is_answered) = (self.now_ms, true);
        if let Some(key) = whole {
            asking.open_keys.remove(&key);
            asking.told_keys.insert(key);
        }
        if let PartBody::Records(records) = &part.body {
            records.iter().for_each(|record| self.note_stamp(record));
        }
        let taken = asking.taking.take(&mut self.replica, part);
        self.spread(taken.collapses);
        match taken.ended {
            Some(Ended::Closed) => {
                self.counts.closed += 1;
                self.met(from);
                self.covered_by(from, session);
                if asking.taking.is_flagged() {
                    self.flagged(from);
                }
            }
            Some(Ended::NotClosed(why)) => {
                self.counts.not_closed += 1;
                match why {
                    NotClosed::DamagedHere => self.counts.damaged += 1,
                    NotClosed::Damaged
                    | NotClosed::NotApplied(_)
                    | NotClosed::PartLost
                    | NotClosed::Restarted
                    | NotClosed::NotWalked
                    | NotClosed::Void
                    | NotClosed::Changed => {}
                }
            }
            None => {
                self.send(from, Message::Taken { session, number });
                if asking.taking.is_flagged() && !asking.is_walking {
                    asking.is_walking = true;
                    asking.walk = Some(Walk::begin());
                }
                self.go_on_walking(from, &mut asking);
                self.asking.insert(from, asking);
            }
        }
    }

    /// Asks for more of the sender's tree, and for what was found to differ.
    fn go_on_walking(&mut self, from: NodeId, asking: &mut Asking) {
        let Some(walk) = &mut asking.walk else { return };
        let session = asking.session;
        while asking.open_keys.len() < OPEN_KEYS_MAX {
            let mut keys = walk.differing(TELL_KEYS);
            if keys.is_empty() {
                break;
            }
            self.counts.keys_differing += keys.len() as u64;
            // What was told already, because it is listed, is not asked for again.
            keys.retain(|key| !asking.told_keys.contains(key));
            if keys.is_empty() {
                continue;
            }
            let number = asking.tells;
            asking.tells += 1;
            asking.open_keys.extend(keys.iter().cloned());
            self.sends.push((from, Message::Tell { session, number, keys }));
        }
        loop {
            let nodes = walk.ask();
            if nodes.is_empty() {
                break;
            }
            self.sends.push((from, Message::Ask { session, nodes }));
        }
        if walk.is_done() {
            asking.walk = None;
            asking.taking.walked();
            let tells = asking.tells;
            self.sends.push((from, Message::Walked { session, tells }));
        }
    }

    pub(super) fn asked(&mut self, from: NodeId, session: u64, nodes: &[NodeName]) {
        if nodes.len() > walk::ASKED_MAX {
            self.counts.malformed += 1;
            return;
        }
        if self.served(from, session).is_none() {
            return self.send(from, Message::Refused { session, why: Refusal::Unknown });
        }
        let mut told = Vec::new();
        for node in nodes {
            let is_leaf = node.level == self.replica.tree().depth();
            if is_leaf && self.replica.scrub(*node) == Leaf::Damaged {
                self.counts.damaged += 1;
                self.replica.damaged_below(*node);
                self.serving.remove(&from);
                return self.send(from, Message::Refused { session, why: Refusal::Unknown });
            }
            told.push((*node, walk::below(&self.replica, *node)));
        }
        self.send(from, Message::Below { session, nodes: told });
    }

    pub(super) fn told(&mut self, from: NodeId, session: u64, nodes: Vec<(NodeName, Below)>) {
        let Some(mut asking) = self.asking.remove(&from) else { return };
        if asking.session == session {
            (asking.heard_ms, asking.is_answered) = (self.now_ms, true);
            if let Some(walk) = &mut asking.walk {
                walk.take(&self.replica, nodes);
            }
            self.go_on_walking(from, &mut asking);
        }
        self.asking.insert(from, asking);
    }

    pub(super) fn tell(&mut self, from: NodeId, session: u64, number: u64, keys: &[EntryKey]) {
        let Some(mut served) = self.serving.remove(&from) else { return };
        if served.session == session && served.tells == number {
            served.heard_ms = self.now_ms;
            served.tells += 1;
            if !keys.iter().all(|key| served.serving.tell(key)) {
                // It asks for more than it may: what is not told must not look as if it were.
                self.counts.malformed += 1;
                return self.send(from, Message::Refused { session, why: Refusal::Unknown });
            }
        }
        self.serving.insert(from, served);
    }

    pub(super) fn walked(&mut self, from: NodeId, session: u64, tells: u64) {
        let Some(served) = self.served(from, session) else { return };
        if served.tells == tells {
            served.is_walked = true;
        } else {
            // What was asked for got lost: the receiver is not to wait for the end.
            self.serving.remove(&from);
            self.send(from, Message::Refused { session, why: Refusal::Unknown });
        }
    }

    /// Gives up sessions on which nothing came for long.
    pub(super) fn give_up_silent(&mut self) {
        let now_ms = self.now_ms;
        let is_silent = |heard_ms: u64| now_ms.saturating_sub(heard_ms) > SESSION_SILENT_MS;
        let before = self.asking.len() + self.serving.len();
        self.asking.retain(|_, asking| !is_silent(asking.heard_ms));
        self.serving.retain(|_, served| !is_silent(served.heard_ms));
        self.counts.silent += (before - self.asking.len() - self.serving.len()) as u64;
    }
}

/// About how many bytes a part takes.
fn length(part: &Part) -> usize {
    const EACH: usize = 128;
    let value = |body: &Body| body.value_bytes() + EACH;
    let bare = |sibling: &Sibling| value(&sibling.body);
    match &part.body {
        PartBody::Records(records) => {
            records.iter().map(|record| record.key.key.len() + value(&record.body)).sum()
        }
        PartBody::Entry(staged) => {
            let values: usize = staged.bare.iter().map(|(_, sibling)| bare(sibling)).sum();
            staged.key.key.len() + values + EACH
        }
        _ => EACH,
    }
}
