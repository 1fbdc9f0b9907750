//! Several replicas, what is on its way between them, and what must hold at every step.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::batch;
use crate::change::{decode, encode};
use crate::clock::FoldNumber;
use crate::hlc::Stamp;
use crate::session::{Ended, Hello, Meeting, NotClosed, Part, PartBody, Serving, Taking, meet};

/// Clocks are up to 300 ms behind this.
const WALL_MAX_MS: u64 = 1_200;

/// A session on its way.
struct Session {
    from: usize,
    to: usize,
    /// Starts of the sender when it began; a sender that restarts knows nothing of its sessions.
    incarnation: u64,
    serving: Serving,
    taking: Taking,
    is_walked: bool,
}

/// A replica, what its log would rebuild, and what must never come back.
struct Member {
    replica: Replica,
    mirror: State,
    hlc: Hlc,
    incarnation: u64,
    removed: BTreeSet<Dot>,
    stored: BTreeSet<Dot>,
}

/// How often what happened, so that a test knows what it has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) flagged: usize,
    pub(super) aborted: usize,
    pub(super) staged: usize,
    pub(super) sessions: usize,
    pub(super) closed: usize,
    pub(super) void: usize,
    pub(super) changed: usize,
    pub(super) lost: usize,
    pub(super) restarted: usize,
    pub(super) collapses: usize,
    pub(super) obsolete: usize,
    pub(super) pending: usize,
    pub(super) equal_clocks: usize,
    pub(super) stable: usize,
}

pub(super) struct Cluster {
    rng: ChaCha8Rng,
    members: Vec<Member>,
    keys: Vec<EntryKey>,
    records: Vec<Record>,
    /// Of the records, those that a client wrote.
    clients: BTreeSet<Dot>,
    /// Values that were ended by their time.
    expired: BTreeSet<Dot>,
    sessions: Vec<Session>,
    folds: Vec<Fold>,
    tokens: Vec<(EntryKey, Basis)>,
    sessions_begun: u64,
    pub(super) seen: Seen,
}

impl Cluster {
    /// One that counts on from `seen`.
    pub(super) fn new(seed: u64, members: usize, keys: &[EntryKey], seen: Seen) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut start = || {
            let actor = ActorId::mint(&mut rng);
            let (replica, changes) =
                Replica::start(State::default(), actor, TreeKey::new(&[1; 32]));
            let mut member = Member {
                replica,
                mirror: State::default(),
                hlc: Hlc::default(),
                incarnation: 0,
                removed: BTreeSet::new(),
                stored: BTreeSet::new(),
            };
            member.replica.set_keyspace(PLAIN, Standing::Open(Policy::Siblings));
            member.replica.set_keyspace(LWW, Standing::Open(Policy::Lww));
            member.replica.set_time(WALL_MAX_MS);
            member.log(&changes);
            member
        };
        let members = (0..members).map(|_| start()).collect();
        Self {
            members,
            keys: keys.to_vec(),
            records: Vec::new(),
            clients: BTreeSet::new(),
            expired: BTreeSet::new(),
            sessions: Vec::new(),
            folds: Vec::new(),
            tokens: Vec::new(),
            sessions_begun: 0,
            seen,
            rng,
        }
    }

    fn pick(&mut self, below: usize) -> usize {
        self.rng.random_range(0..below)
    }

    /// One thing happens, and everything is checked.
    pub(super) fn step(&mut self) {
        let at = self.pick(self.members.len());
        match self.pick(21) {
            0..4 => self.write(at),
            4..10 => self.deliver(at),
            10..13 => self.begin_session(at),
            13..17 => self.go_on_with_a_session(),
            17 => self.forget(at),
            18 => self.restart(at),
            19 => self.fold(at),
            _ if self.pick(4) > 0 => self.expire(at),
            _ => self.settle(at),
        }
        self.check();
    }

    fn write(&mut self, at: usize) {
        let choice = self.pick(self.keys.len());
        let mut key = self.keys[choice].clone();
        let body = if self.pick(3) == 0 { Body::Certificate } else { value("v") };
        let deadline = (self.pick(5) == 0).then(|| Stamp::at_ms(1_000));
        // Few times, so that stamps tie.
        let wall = WALL_MAX_MS - 100 * (self.rng.next_u64() % 4);
        let basis = match self.pick(6) {
            0 => Basis::Nothing,
            1 | 2 if !self.tokens.is_empty() => {
                let token = self.pick(self.tokens.len());
                let (of, basis) = self.tokens[token].clone();
                key = of;
                self.read_token(at, basis)
            }
            _ => Basis::Held,
        };
        let write = Write { key: key.clone(), body, deadline, basis };
        self.take(at, &write, wall);
        let basis = seen(&self.members[at].replica, &key);
        self.tokens.push((key, basis));
    }

    /// A replica takes a write of a client.
    fn take(&mut self, at: usize, write: &Write, wall: u64) {
        let member = &mut self.members[at];
        let written = member.replica.write(write, &mut member.hlc, wall).unwrap();
        member.log(&written.changes);
        self.seen.collapses += usize::from(written.collapse.is_some());
        self.clients.insert(written.record.dot);
        self.records.push(written.record);
        self.records.extend(written.collapse);
    }

    /// A token as the replica reads it: with the folds that it knows.
    fn read_token(&self, at: usize, basis: Basis) -> Basis {
        let Basis::Seen { context, stamp } = basis else { return basis };
        let folds = self.members[at].replica.state().folds();
        let context = Clock::decode(&context.encode(folds.through()), folds).unwrap();
        Basis::Seen { context: Arc::new(context), stamp }
    }

    /// A record arrives: late, twice, or out of order.
    fn deliver(&mut self, at: usize) {
        if !self.records.is_empty() {
            let record = self.pick(self.records.len());
            let record = self.records[record].clone();
            self.apply(at, &record);
        }
    }

    fn apply(&mut self, at: usize, record: &Record) {
        // The sender knows all folds, the reader perhaps none.
        let through = self.members[at].replica.state().folds().through();
        let (bytes, _) = batch::encode(std::slice::from_ref(record), usize::MAX, through);
        let folds = self.members[at].replica.state().folds();
        let decoded = batch::decode(&bytes, folds).unwrap();
        assert_eq!(&decoded[0], record);
        let applied = self.members[at].replica.apply(&decoded[0]).unwrap();
        self.members[at].log(&applied.changes);
        self.seen.obsolete += usize::from(applied.outcome == Outcome::Obsolete);
        self.seen.collapses += usize::from(applied.collapse.is_some());
        self.records.extend(applied.collapse);
    }

    fn begin_session(&mut self, from: usize) {
        let to = self.pick(self.members.len());
        if to != from {
            let session = self.session(from, to);
            self.sessions.push(session);
        }
    }

    fn session(&mut self, from: usize, to: usize) -> Session {
        let number = self.sessions_begun;
        self.sessions_begun += 1;
        self.seen.sessions += 1;
        let (sender, receiver) = (&self.members[from].replica, &self.members[to].replica);
        let hello = Hello::of(receiver, number, 1, Vec::new()).what;
        let bytes = hello.encode(sender.state().folds().through());
        let hello = Hello::decode(&bytes, sender.state().folds()).unwrap();
        let meeting = meet(sender, 1, &hello);
        assert!(matches!(meeting, Meeting::Same | Meeting::Differs), "{meeting:?}");
        let serving = Serving::begin(sender, &hello, 0);
        let taking = Taking::begin(receiver, number);
        self.seen.flagged += usize::from(serving.is_flagged());
        let incarnation = self.members[from].incarnation;
        Session { from, to, incarnation, serving, taking, is_walked: false }
    }

    /// The next part of some session, or its sudden end.
    fn go_on_with_a_session(&mut self) {
        if self.sessions.is_empty() {
            return;
        }
        let which = self.pick(self.sessions.len());
        let mut session = self.sessions.swap_remove(which);
        let is_lost = self.pick(40) == 0;
        let is_over = self.pick(12) == 0;
        if is_over || self.members[session.from].incarnation != session.incarnation {
            self.seen.aborted += 1;
        } else if self.go_on(&mut session, is_lost) {
            self.sessions.push(session);
        }
    }

    /// Sends one part; false if that was the end.
    fn go_on(&mut self, session: &mut Session, is_lost: bool) -> bool {
        let sender = &self.members[session.from].replica;
        let part = match session.serving.next(sender, 1).map(|part| part.what) {
            Some(part) => part,
            None if !session.serving.is_flagged() => return false,
            None if session.is_walked => match session.serving.end(sender) {
                Some(part) => part.what,
                // The end was said, and lost.
                None => return false,
            },
            None => {
                self.walk(session);
                return true;
            }
        };
        if is_lost {
            return true;
        }
        let folds = self.members[session.to].replica.state().folds();
        let bytes = part.encode(session.serving.folds());
        let part = Part::decode(&bytes, folds).expect("what is written for a reader is read");
        self.seen.staged += usize::from(matches!(part.body, PartBody::Entry(_)));
        let member = &mut self.members[session.to];
        let taken = session.taking.take(&mut member.replica, part);
        member.log(&taken.changes);
        self.seen.collapses += taken.collapses.len();
        self.records.extend(taken.collapses);
        match taken.ended {
            Some(Ended::NotClosed(NotClosed::Void)) => self.seen.void += 1,
            Some(Ended::NotClosed(NotClosed::Changed)) => self.seen.changed += 1,
            Some(Ended::NotClosed(NotClosed::PartLost)) => self.seen.lost += 1,
            Some(Ended::NotClosed(NotClosed::Restarted)) => self.seen.restarted += 1,
            Some(Ended::NotClosed(why)) => panic!("not closed: {why:?}"),
            Some(Ended::Closed) => self.seen.closed += 1,
            None => return true,
        }
        false
    }

    /// The receiver asks for every key whose live values differ.
    fn walk(&mut self, session: &mut Session) {
        let sender = &self.members[session.from].replica;
        let receiver = &self.members[session.to].replica;
        for key in self.keys.iter().filter(|key| live(sender, key) != live(receiver, key)) {
            session.serving.tell(key);
        }
        session.taking.walked();
        session.is_walked = true;
    }

    /// What all members have. No disk is lost here, so there are no orphans.
    fn stable(&self) -> Stable {
        let (first, others) = self.members.split_first().unwrap();
        let mut by = first.replica.state().clock().clone();
        for other in others {
            by = by.minus(&by.minus(other.replica.state().clock()));
        }
        Stable { by, has_orphans: false }
    }

    /// Drops contexts and certificates at any age; in `lww` keyspaces only stable certificates, and rarely contexts.
    fn forget(&mut self, at: usize) {
        let stable = self.stable();
        let spares_contexts = self.pick(3) > 0;
        let choice = self.pick(self.keys.len());
        let key = self.keys[choice].clone();
        let member = &mut self.members[at];
        let dots = member.replica.entry(&key).map(|entry| entry.siblings().clone());
        for dot in dots.unwrap_or_default().into_keys() {
            let mut changes = Vec::new();
            if key.keyspace != LWW || !spares_contexts {
                changes.extend(member.replica.forget_context(&key, dot));
            }
            changes.extend(member.replica.forget_certificate(&key, dot, &stable));
            let is_gone = changes.iter().any(|change| matches!(change, Change::Removed { .. }));
            self.seen.stable += usize::from(is_gone && key.keyspace == LWW);
            member.log(&changes);
        }
    }

    /// All meet and forget what is stable; then the one whose clock is slowest writes over nothing.
    fn settle(&mut self, at: usize) {
        let Some(key) = self.keys.iter().find(|key| key.keyspace == LWW).cloned() else { return };
        for _ in 0..2 {
            for (from, to) in self.pairs() {
                let mut session = self.session(from, to);
                while self.go_on(&mut session, false) {}
            }
        }
        for member in 0..self.members.len() {
            self.members[member].replica.set_time(WALL_MAX_MS);
            self.forget(member);
        }
        let body = value("slow");
        let write = Write { key, body, deadline: None, basis: Basis::Nothing };
        self.take(at, &write, WALL_MAX_MS - 300);
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let all = 0..self.members.len();
        let pairs = all.clone().flat_map(|from| all.clone().map(move |to| (from, to)));
        pairs.filter(|(from, to)| from != to).collect()
    }

    /// A crash: what the log has is all there is, and a fresh actor.
    fn restart(&mut self, at: usize) {
        let actor = ActorId::mint(&mut self.rng);
        let member = &mut self.members[at];
        let state = member.mirror.clone();
        let (replica, changes) = Replica::start(state, actor, TreeKey::new(&[1; 32]));
        assert_eq!(replica.tree().root(), member.replica.tree().root());
        member.replica = replica;
        member.replica.set_keyspace(PLAIN, Standing::Open(Policy::Siblings));
        member.replica.set_keyspace(LWW, Standing::Open(Policy::Lww));
        member.replica.set_time(WALL_MAX_MS);
        member.incarnation += 1;
        member.log(&changes);
    }

    /// The catalogue folds a sealed actor of a member, who hears of it. What a disk lost is not simulated,
    /// so the last counter on the disk is the last that was issued.
    fn fold(&mut self, at: usize) {
        let known = |fold: &Fold| fold.actor;
        let folded: Vec<ActorId> = self.folds.iter().map(known).collect();
        let mut sealed = self.members[at].replica.state().sealed().iter();
        let sealed = sealed.find(|(actor, last)| **last > 0 && !folded.contains(actor));
        if let Some((actor, last)) = sealed {
            let number = FoldNumber(self.folds.len() as u32 + 1);
            let fold = Fold { number, actor: *actor, last: *last };
            self.folds.push(fold);
        }
        self.hear_of_folds(at);
    }

    /// A member catches up with the catalogue; the others may lag behind.
    fn hear_of_folds(&mut self, at: usize) {
        let member = &mut self.members[at];
        for fold in &self.folds {
            let changes = member.replica.fold(*fold);
            member.log(&changes);
        }
    }

    fn expire(&mut self, at: usize) {
        let now = Stamp::at_ms(1_100);
        let member = &mut self.members[at];
        let expired = self.keys.iter().find_map(|key| {
            let mut live = member.replica.entry(key)?.live();
            let (dot, _) = live.find(|(_, sibling)| !sibling.is_shown(now))?;
            Some((key.clone(), dot))
        });
        if let Some((key, dot)) = expired {
            let written = member.replica.expire(&key, dot, now).unwrap();
            self.expired.insert(dot);
            member.log(&written.changes);
            self.records.push(written.record);
            self.records.extend(written.collapse);
        }
    }

    fn check(&mut self) {
        for (at, member) in self.members.iter_mut().enumerate() {
            let state = member.replica.state();
            state.verify().unwrap();
            assert_eq!(state, &member.mirror, "member {at} is not what its log says");
            self.seen.pending += usize::from(state.pending_keys().next().is_some());
            let stored: BTreeSet<Dot> =
                state.entries().flat_map(|(_, entry)| entry.siblings().keys().copied()).collect();
            member.removed.extend(member.stored.difference(&stored));
            member.stored = stored;
            let back = member.stored.intersection(&member.removed).next();
            assert_eq!(back, None, "a dot that was removed at member {at} is stored again");
        }
        for (at, one) in self.members.iter().enumerate() {
            for other in &self.members[..at] {
                let (one, other) = (&one.replica, &other.replica);
                if one.state().clock().same_dots(other.state().clock()) {
                    self.seen.equal_clocks += 1;
                    self.check_equal(one, other);
                }
            }
        }
    }

    fn check_equal(&self, one: &Replica, other: &Replica) {
        for key in &self.keys {
            assert_eq!(live(one, key), live(other, key), "{key:?} differs at equal clocks");
        }
        assert_eq!(one.tree().root(), other.tree().root());
    }

    /// Sessions only, until all know the same; then the values have to be the same everywhere, and
    /// whatever is gone was superseded by some write.
    pub(super) fn heal(&mut self) {
        self.sessions.clear();
        for at in 0..self.members.len() {
            self.hear_of_folds(at);
        }
        for _ in 0..6 {
            for (from, to) in self.pairs() {
                let mut session = self.session(from, to);
                while self.go_on(&mut session, false) {}
                self.check();
            }
        }
        let (first, others) = self.members.split_first().unwrap();
        for other in others {
            let (one, other) = (first.replica.state(), other.replica.state());
            assert!(one.clock().same_dots(other.clock()), "clocks differ after healing");
            assert_eq!(one.pending_keys().count(), 0, "something is pending after healing");
        }
        for record in &self.records {
            let stored = first.replica.state().key_of(record.dot).is_some();
            let known = first.replica.state().clock().contains(record.dot);
            let superseded = self
                .records
                .iter()
                .any(|other| other.key == record.key && other.context.contains(record.dot));
            let stays = stored || superseded || record.body.is_certificate();
            assert!(known && stays, "{} vanished", record.dot);
        }
        for key in self.keys.iter().filter(|key| key.keyspace == LWW) {
            self.check_winner(key);
        }
    }

    /// Of the writes of clients the last one wins, by stamp and dot, whatever was forgotten since. Nothing is shown where
    /// that is a delete, or has expired.
    fn check_winner(&self, key: &EntryKey) {
        let of_key = self.records.iter().filter(|r| r.key == *key && self.clients.contains(&r.dot));
        let highest = of_key.max_by_key(|record| (record.stamp, record.dot));
        let entry = self.members[0].replica.entry(key);
        let winner = entry.and_then(|entry| entry.winner(Stamp::ZERO)).map(|(dot, _)| dot);
        let right = highest.filter(|r| !r.body.is_certificate() && !self.expired.contains(&r.dot));
        assert_eq!(winner, right.map(|record| record.dot), "another one should win");
    }
}

impl Member {
    /// Through the bytes that a log would have.
    fn log(&mut self, changes: &[Change]) {
        let bytes = encode(changes);
        for change in &decode(&bytes, self.mirror.folds()).unwrap() {
            self.mirror.replay(change);
        }
    }
}
