//! All replicas of a schedule, what is between them, and the truth beside them.

mod check;
mod clients;
mod damage;
mod failures;
mod freshness;
mod heal;
mod members;
mod quorum;
mod retirement;
mod travel;
mod writes;

use std::hash::{Hash, Hasher};

use super::counters::{Counters, Event};
use super::dots::{Dot, Dots};
use super::follow::{Cause, Disk, Effect, Follow};
use super::mutant::Mutant;
use super::operation::{Basis, Operation};
use super::replica::Replica;
use super::session::Session;
use super::truth::Truth;
use super::violation::Violation;

use clients::{Client, Token};
use freshness::Beat;
use quorum::QuorumRead;
use retirement::Retirement;
use travel::EntryMessage;

/// Replicas that a schedule can have.
pub const REPLICAS_MAX: usize = 5;
/// Sessions at the same time.
const SESSIONS: usize = 3;
/// Tokens that clients hold.
const TOKENS: usize = 4;
/// Clients with a session.
const CLIENTS: usize = 2;
/// Quorum reads at the same time.
const READS: usize = 2;
/// Configurations, one after the other.
const EPOCHS: usize = 12;
/// How long a value with a deadline lives, in steps.
const LIFETIME: u16 = 12;
/// Writes that a step may need; with less room left no client writes.
const ROOM: usize = 16;

/// What a schedule is played in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Replicas, in `[2, REPLICAS_MAX]`.
    pub replicas: usize,
    /// Keys, in `[1, KEYS_MAX]`.
    pub keys: usize,
    /// Replicas that are members at first, one bit each.
    pub members: u8,
    /// Keys in which the last writer wins, one bit each.
    pub lww: u8,
    /// How far each replica's clock is off, in steps.
    pub skew: [i16; REPLICAS_MAX],
}

/// States that a crash can go back to at most; what is older counts as durable.
const TAIL: usize = 6;

/// Everything.
#[derive(Clone, Debug)]
pub struct World<F: Follow = ()> {
    /// Who is told of every change.
    pub follow: F,
    mutant: Option<Mutant>,
    setting: Setting,
    /// What is true.
    pub truth: Truth,
    /// The replicas; of these, members count.
    pub replicas: [Replica; REPLICAS_MAX],
    images: [Option<Replica>; REPLICAS_MAX],
    /// What each replica was after each batch since somebody was last told of it; the first is durable.
    tails: [Vec<Replica>; REPLICAS_MAX],
    mail: Dots,
    entries: Vec<EntryMessage>,
    sessions: [Session; SESSIONS],
    tokens: [Token; TOKENS],
    clients: [Client; CLIENTS],
    reads: [QuorumRead; READS],
    members: [u8; EPOCHS],
    epoch: u8,
    departed: Dots,
    promised: Dots,
    retirement: Retirement,
    beats: [[Beat; REPLICAS_MAX]; REPLICAS_MAX],
    directories: u8,
    now: u16,
    touched: u8,
    /// What happened so far, in all schedules played in this world.
    pub counters: Counters,
}

impl World {
    /// A world for many schedules; call [`World::reset`] before each.
    pub fn new(mutant: Option<Mutant>, setting: Setting) -> Self {
        Self::followed(mutant, setting, ())
    }
}

impl<F: Follow> World<F> {
    /// A world that is followed.
    pub fn followed(mutant: Option<Mutant>, setting: Setting, follow: F) -> Self {
        let mut world = Self {
            follow,
            mutant,
            setting,
            truth: Truth::default(),
            replicas: [Replica::default(); REPLICAS_MAX],
            images: [None; REPLICAS_MAX],
            tails: [const { Vec::new() }; REPLICAS_MAX],
            mail: Dots::NONE,
            entries: Vec::new(),
            sessions: [Session::default(); SESSIONS],
            tokens: [Token::default(); TOKENS],
            clients: [Client::default(); CLIENTS],
            reads: [QuorumRead::default(); READS],
            members: [0; EPOCHS],
            epoch: 0,
            departed: Dots::NONE,
            promised: Dots::NONE,
            retirement: Retirement::default(),
            beats: [[Beat::default(); REPLICAS_MAX]; REPLICAS_MAX],
            directories: 0,
            now: 0,
            touched: 0,
            counters: Counters::default(),
        };
        world.reset(setting);
        world
    }

    /// Begins a new schedule: empty replicas that are not recovering.
    pub fn reset(&mut self, setting: Setting) {
        assert!(setting.replicas <= REPLICAS_MAX, "at most {REPLICAS_MAX} replicas");
        self.setting = setting;
        self.truth.reset();
        self.mail = Dots::NONE;
        self.entries.clear();
        self.sessions = [Session::default(); SESSIONS];
        self.tokens = [Token::default(); TOKENS];
        self.clients = [Client::default(); CLIENTS];
        self.reads = [QuorumRead::default(); READS];
        self.members[0] = setting.members;
        self.epoch = 0;
        self.departed = Dots::NONE;
        self.promised = Dots::NONE;
        self.retirement.reset();
        self.beats = [[Beat::default(); REPLICAS_MAX]; REPLICAS_MAX];
        self.directories = 0;
        self.now = 0;
        self.touched = 0;
        self.images = [None; REPLICAS_MAX];
        for at in 0..setting.replicas {
            let actor = self.truth.mint(at as u8, 0).expect("actors are free at the beginning");
            self.directories += 1;
            self.replicas[at] =
                Replica { actor, directory: self.directories, whole: true, ..Replica::default() };
            self.told(at as u8);
        }
        self.follow.begin(&self.setting, &self.replicas[..setting.replicas]);
        self.counters.count(Event::Schedule);
    }

    /// What the schedule is played in.
    pub fn setting(&self) -> &Setting {
        &self.setting
    }

    /// The present members, one bit each.
    #[inline]
    pub fn member_bits(&self) -> u8 {
        self.members[usize::from(self.epoch)]
    }

    #[inline]
    fn is_member(&self, at: u8) -> bool {
        usize::from(at) < self.setting.replicas && self.member_bits() >> at & 1 == 1
    }

    /// Plays one step and checks all that must hold after it.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub fn step(&mut self, operation: Operation) -> Result<(), Violation> {
        self.counters.operations[operation.kind()] += 1;
        self.now += 1;
        self.play(operation)?;
        self.check_touched()
    }

    fn play(&mut self, operation: Operation) -> Result<(), Violation> {
        match operation {
            Operation::Write { at, key, delete, expires, mail, basis } => {
                self.client_write(at, key, delete, expires, mail, basis)
            }
            Operation::Read { at, key, slot } => self.client_read(at, key, slot),
            Operation::Send { from, pick } => self.send(from, pick),
            Operation::Deliver { to, pick } => self.deliver(to, pick),
            Operation::Begin { from, to } => self.begin(from, to).map(|_| ()),
            Operation::Stream { slot, count, refuse } => self.stream(slot, count, refuse),
            Operation::Close { slot } => self.close(slot),
            Operation::Abort { slot } => self.abort(slot),
            Operation::Session { from, to } => self.whole_session(from, to),
            Operation::DropCertificate { at, pick } => self.drop_certificate(at, pick),
            Operation::DropContext { at, pick } => self.drop_context(at, pick),
            Operation::DropStable { at } => self.drop_stable(at),
            Operation::Sleep { at, pick } => self.put_to_sleep(at, pick),
            Operation::Restart { at } => self.restart(at),
            Operation::Wipe { at } => self.wipe(at),
            Operation::Image { at } => self.image(at),
            Operation::Rollback { at } => self.rollback(at),
            Operation::Damage { at, pick, leaf, rebuildable } => {
                self.damage(at, pick, leaf, rebuildable)
            }
            Operation::LoseClock { at } => self.lose_clock(at),
            Operation::Scrub { at } => self.scrub(at),
            Operation::Retire { pick } => self.retire(pick),
            Operation::Report { at } => self.report(at),
            Operation::Retired { pick } => self.retired(pick),
            Operation::QuorumWrite { at, key, delete, basis, reach } => {
                self.quorum_write(at, key, delete, basis, reach)
            }
            Operation::QuorumRead { at, key, slot } => self.quorum_read(at, key, slot),
            Operation::QuorumReply { slot, from } => self.quorum_reply(slot, from),
            Operation::ChangeMember { pick } => self.change_member(pick),
            Operation::Adopt { at } => self.adopt(at),
            Operation::SessionRead { client, at, key } => self.session_read(client, at, key),
            Operation::SessionWrite { client, at, key, delete } => {
                self.session_write(client, at, key, delete)
            }
            Operation::Retry { pick, at } => self.retry(pick, at),
            Operation::Expire { at, pick } => self.expire(at, pick),
            Operation::Beat { from, to } => self.beat(from, to),
            Operation::Claim { at } => self.claim(at),
            Operation::Crash { at, pick } => self.crash(at, pick),
        }
    }

    /// Sessions that go on.
    pub fn open_sessions(&self) -> usize {
        self.sessions.iter().filter(|session| session.is_open).count()
    }

    /// Feeds all that decides what can follow to a hasher, in a setting without stamps, deadlines,
    /// quorums, sessions of clients and retirement.
    pub(super) fn hash_state(&self, hasher: &mut impl Hasher) {
        for dot in self.truth.issued() {
            let write = self.truth.write(dot);
            (write.node, write.actor, write.counter, write.tomb).hash(hasher);
            (write.context, write.carried).hash(hasher);
        }
        (self.truth.count, self.truth.actors, self.truth.excused, self.mail).hash(hasher);
        let plain = |replica: &Replica| Replica { hlc: 0, epoch_as_of: 0, ..*replica };
        for at in 0..self.setting.replicas {
            plain(&self.replicas[at]).hash(hasher);
            self.images[at].as_ref().map(plain).hash(hasher);
        }
        for session in self.sessions {
            session.if_open().hash(hasher);
        }
        self.tokens.hash(hasher);
    }

    /// Tells the follower of something.
    #[inline]
    fn effect(&mut self, effect: Effect) {
        self.follow.effect(&self.truth, effect);
    }

    /// A change of a replica is complete: one batch of its log.
    fn settled(&mut self, at: u8) {
        self.touched |= 1 << at;
        let replica = &self.replicas[usize::from(at)];
        let tail = &mut self.tails[usize::from(at)];
        if tail.len() == TAIL {
            tail.remove(0);
        }
        tail.push(*replica);
        self.follow.settled(&self.truth, at, replica);
    }

    /// Something leaves a replica that tells of what it is. So that has to be durable.
    fn told(&mut self, at: u8) {
        let tail = &mut self.tails[usize::from(at)];
        tail.clear();
        tail.push(self.replicas[usize::from(at)]);
    }

    /// Applies a record at a replica, with the collapse that follows.
    fn apply(&mut self, at: u8, dot: Dot) -> Result<(), Violation> {
        self.replicas[usize::from(at)].apply(&self.truth, self.mutant, dot);
        self.collapse(at, usize::from(self.truth.write(dot).key))
    }

    fn is_lww(&self, key: usize) -> bool {
        self.setting.lww >> key & 1 == 1
    }

    /// All dots that some member knows.
    fn known_to_members(&self) -> Dots {
        let mut known = Dots::NONE;
        for at in 0..self.setting.replicas {
            if self.is_member(at as u8) {
                known |= self.replicas[at].clock;
            }
        }
        known
    }
}

/// The larger half of `count`.
#[inline]
fn majority(count: u32) -> u32 {
    count / 2 + 1
}

/// The place of a write among all of a key where the last writer wins.
#[inline]
fn rank(truth: &Truth, dot: Dot) -> (u32, u16) {
    (truth.write(dot).stamp, truth.place(truth.write(dot).rank))
}

/// The dot of which (stamp, rank) is the highest.
fn latest(truth: &Truth, dots: Dots) -> Option<Dot> {
    dots.max_by_key(|&dot| (rank(truth, dot), truth.place(dot)))
}
