//! Plays a schedule.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use gossip::Dot;
use gossip::clock::Clock;
use gossip::group::Need;
use gossip::hlc::Stamp;
use gossip::items::is_sums;
use gossip::record::{Body, EntryKey};
use gossip::replica::{Basis, Write};
use proto::NodeId;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::catalogue::Catalogue;
use super::member::{Disk, KEYSPACE, Member, node};
use super::network::{Network, ROUNDS, Sent};
use super::oracle::{Oracle, View, shown};
use super::schedule::{HOUR_MS, Killed, Over, Schedule, Step, TICK_MS};
use super::{Counts, Event, Kind, Sabotage, Violation};

/// Wall time at the beginning.
const WALL_MS: u64 = 1_700_000_000_000;
/// In the end all have to be the same within so much time. Members exchange once a second, each with one other.
const HEAL_MS: u64 = 300_000;
/// So much for each member where that is longer: who has lost a disk answers reads once it has met all others, and it
/// meets two a second, by chance.
const MEET_MS: u64 = 20_000;

/// What playing a schedule came to.
#[derive(Debug, Default)]
pub struct Played {
    /// What happened.
    pub counts: Counts,
    /// The broken promise, and the step after which it was seen: one more than there are if that was in the end.
    pub broken: Option<(usize, Violation)>,
    /// Simulated time.
    pub ms: u64,
}

/// What a client remembers of a read.
#[derive(Debug)]
struct Memory {
    /// The context, as it is in tokens: with the folds by their numbers that every member knows.
    context: Vec<u8>,
    stamp: Stamp,
    shown: BTreeSet<Dot>,
}

/// Members, their network, and what is true.
#[derive(Debug)]
pub struct World<'a> {
    schedule: &'a Schedule,
    sabotage: Option<Sabotage>,
    rng: ChaCha8Rng,
    now_ms: u64,
    members: Vec<Member>,
    network: Network<Bytes>,
    oracle: Oracle,
    catalogue: Catalogue,
    /// What was read last of each key, anywhere.
    memory: BTreeMap<usize, Memory>,
    values: u64,
    counts: Counts,
}

impl<'a> World<'a> {
    /// Plays a schedule until its end or the first broken promise.
    pub fn play(schedule: &'a Schedule, sabotage: Option<Sabotage>) -> Played {
        let mut at = 0;
        let mut played = Played::default();
        let done = catch_unwind(AssertUnwindSafe(|| {
            let mut world = Self::new(schedule, sabotage)?;
            let done = world.play_all(&mut at);
            played.ms = world.now_ms;
            for member in &mut world.members {
                member.add_counts(&mut world.counts);
            }
            played.counts = world.counts;
            done
        }));
        let broken = match done {
            Ok(done) => done.err(),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text =
                    text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
                Some(Violation::new(Kind::Panicked, text.unwrap_or_default()))
            }
        };
        played.broken = broken.map(|violation| (at, violation));
        played
    }

    fn new(schedule: &'a Schedule, sabotage: Option<Sabotage>) -> Result<Self, Violation> {
        let mut rng = ChaCha8Rng::seed_from_u64(schedule.seed ^ 0x0c1a_57e2);
        let members = (0..schedule.nodes).map(|at| Member::new(at, &mut rng));
        let mut world = Self {
            schedule,
            sabotage,
            members: members.collect::<Result<_, _>>()?,
            rng,
            now_ms: 0,
            network: Network::new(schedule),
            oracle: Oracle::new(schedule.nodes),
            catalogue: Catalogue::default(),
            memory: BTreeMap::new(),
            values: 0,
            counts: Counts::default(),
        };
        (0..schedule.nodes).for_each(|at| world.join(at));
        Ok(world)
    }

    fn play_all(&mut self, at: &mut usize) -> Result<(), Violation> {
        let schedule = self.schedule;
        for step in &schedule.steps {
            *at += 1;
            self.step(*step)?;
            self.settle()?;
        }
        *at += 1;
        self.heal()
    }

    fn step(&mut self, step: Step) -> Result<(), Violation> {
        match step {
            Step::Write { at, key, delete, over, killed } => {
                self.write(at, key, delete, over, killed)?;
            }
            Step::Read { at, key } => self.read(at, key),
            Step::Run { ms } => self.run(ms)?,
            Step::Hour => {
                self.counts.count(Event::HourPassed);
                for ms in [HOUR_MS / 60, HOUR_MS, TICK_MS] {
                    self.now_ms += ms;
                    self.tick()?;
                }
            }
            Step::CutOff { at } => {
                self.counts.count(Event::CutOff);
                (0..self.members.len()).filter(|other| *other != at).for_each(|other| {
                    self.network.cut(at, other);
                });
                self.link();
            }
            Step::CutPair { one, other } => {
                self.counts.count(Event::CutPair);
                self.network.cut(one, other);
                self.link();
            }
            Step::Mend => {
                self.network.mend();
                self.link();
            }
            Step::Restart { at } => {
                self.counts.count(Event::Restart);
                self.tamper(at);
                self.restart(at)?;
            }
            Step::LoseDisk { at, last } => {
                if let Some(key) = last {
                    self.write(at, key, false, Over::Held, None)?;
                    self.poll(at)?;
                    self.network.keep_back_from(at);
                }
                self.counts.count(Event::DiskLost);
                self.replace_disk(at, None)?;
            }
            Step::CopyDisk { at } => {
                self.counts.count(Event::DiskCopied);
                let view = self.oracle.view(at).clone();
                let member = &mut self.members[at];
                member.copy = Some((member.disk.clone(), view));
            }
            Step::RollBack { at } => {
                if let Some(copy) = self.members[at].copy.clone() {
                    self.counts.count(Event::DiskRolledBack);
                    self.replace_disk(at, Some(copy))?;
                }
            }
            Step::FromThePast { pick } => self.hear_replayed(pick)?,
            Step::Decide { at } => self.decide(at),
            Step::Hear { at } => self.hear(at),
        }
        Ok(())
    }

    fn write(
        &mut self,
        at: usize,
        key: usize,
        delete: bool,
        over: Over,
        killed: Option<Killed>,
    ) -> Result<(), Violation> {
        let name = entry_key(key);
        let (basis, seen) = match (over, self.memory.get(&key)) {
            (Over::Nothing, _) => (Basis::Nothing, BTreeSet::new()),
            (Over::Seen, Some(memory)) => {
                self.counts.count(Event::OverSeen);
                (self.seen(at, memory)?, memory.shown.clone())
            }
            (Over::Held | Over::Seen, _) => (Basis::Held, shown(&self.members[at].group, &name)),
        };
        let is_lost = self.sabotage == Some(Sabotage::TokenLost) && over == Over::Seen;
        let basis = if is_lost { Basis::Nothing } else { basis };
        self.values += 1;
        let value = Bytes::from(format!("v{}", self.values));
        let body = if delete { Body::Certificate } else { Body::Value(value.clone()) };
        let write = Write { key: name.clone(), body, deadline: None, basis };
        self.set_wall(at);
        let Ok((dot, _)) = self.members[at].group.write(&write, Need::One) else {
            self.counts.count(Event::WriteRefused);
            return Ok(());
        };
        self.counts.count(if delete { Event::Delete } else { Event::Put });
        if over == Over::Nothing {
            self.counts.count(Event::OverNothing);
        }
        self.oracle.wrote(dot, name.key, (!delete).then_some(value), &seen);
        match killed {
            None => {}
            Some(Killed::BeforeSync) => {
                self.counts.count(Event::CrashBeforeSync);
                if self.sabotage == Some(Sabotage::SentBeforeSync) {
                    let sends = self.members[at].group.poll().sends;
                    self.send(at, sends);
                }
                self.oracle.never_was(dot);
                self.restart(at)?;
            }
            Some(Killed::AfterSync) => {
                self.counts.count(Event::CrashAfterSync);
                let items = self.members[at].group.poll().items;
                self.members[at].store(items);
                self.restart(at)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, at: usize, key: usize) {
        if !self.members[at].is_ready() {
            self.counts.count(Event::ReadRefused);
            return;
        }
        self.counts.count(Event::Read);
        let (group, name) = (&self.members[at].group, entry_key(key));
        let shown = shown(group, &name);
        if shown.len() > 1 {
            self.counts.count(Event::Sibling);
        }
        let token = group.replica().token(&name).what;
        let context = token.context.encode(group.folds_everywhere());
        self.memory.insert(key, Memory { context, stamp: token.stamp, shown });
    }

    /// What a token says at a member that may not be the one that gave it.
    fn seen(&self, at: usize, memory: &Memory) -> Result<Basis, Violation> {
        let folds = self.members[at].group.replica().state().folds();
        let context = Clock::decode(&memory.context, folds).map_err(|why| {
            let what = format!("member {} does not understand a token: {why}", node(at));
            Violation::new(Kind::TokenUnknown, what)
        })?;
        Ok(Basis::Seen { context: Arc::new(context), stamp: memory.stamp })
    }

    fn run(&mut self, ms: u64) -> Result<(), Violation> {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += TICK_MS;
            self.tick()?;
        }
        Ok(())
    }

    /// Everybody looks at the clock.
    fn tick(&mut self) -> Result<(), Violation> {
        for at in 0..self.members.len() {
            self.set_wall(at);
            self.members[at].group.tick(self.now_ms);
        }
        self.settle()
    }

    fn set_wall(&mut self, at: usize) {
        let wall = (WALL_MS + self.now_ms).saturating_add_signed(self.schedule.ahead_ms[at]);
        self.members[at].group.set_wall(wall);
    }

    /// What is to be durable becomes so, what is to be sent is sent, and some of what is on its way arrives.
    fn settle(&mut self) -> Result<(), Violation> {
        for _ in 0..ROUNDS {
            for at in 0..self.members.len() {
                self.poll(at)?;
            }
            if self.network.is_quiet() {
                break;
            }
            for sent in self.network.arriving(&mut self.rng, &mut self.counts) {
                self.deliver(&sent);
            }
        }
        for at in 0..self.members.len() {
            self.poll(at)?;
        }
        Ok(())
    }

    fn deliver(&mut self, sent: &Sent<Bytes>) {
        self.set_wall(sent.to);
        self.members[sent.to].group.receive(node(sent.from), &sent.what);
    }

    fn hear_replayed(&mut self, pick: usize) -> Result<(), Violation> {
        if let Some(sent) = self.network.replayed(pick) {
            self.counts.count(Event::MessageFromThePast);
            self.deliver(&sent);
            self.settle()?;
        }
        Ok(())
    }

    fn poll(&mut self, at: usize) -> Result<(), Violation> {
        let output = self.members[at].group.poll();
        self.send(at, output.sends);
        if output.items.is_empty() {
            return Ok(());
        }
        self.members[at].store(output.items);
        self.look(at)
    }

    fn look(&mut self, at: usize) -> Result<(), Violation> {
        self.counts.count(Event::Looked);
        self.oracle.look(at, &self.members[at].group)
    }

    fn send(&mut self, from: usize, sends: Vec<(NodeId, Bytes)>) {
        for (to, what) in sends {
            let sent = Sent { from, to: to.get() as usize - 1, what };
            self.network.send(sent, &mut self.rng, &mut self.counts);
        }
    }

    fn restart(&mut self, at: usize) -> Result<(), Violation> {
        self.members[at].restart(at, &mut self.rng)?;
        // The links break with the member.
        for other in (0..self.members.len()).filter(|other| *other != at) {
            self.members[other].group.link(node(at), false);
        }
        self.join(at);
        self.look(at)
    }

    /// Starts a member on another disk: a copy of an earlier moment, or an empty one.
    fn replace_disk(&mut self, at: usize, copy: Option<(Disk, View)>) -> Result<(), Violation> {
        let (disk, view) = copy.unwrap_or_default();
        self.oracle.set_view(at, view);
        self.members[at].disk = disk;
        self.members[at].is_recovering = true;
        self.restart(at)
    }

    /// Tells a member that has just started who the others are and what it has heard before, and all which links there
    /// are.
    fn join(&mut self, at: usize) {
        let others = (0..self.members.len()).filter(|other| *other != at).map(node);
        let others: BTreeSet<NodeId> = others.collect();
        let Member { group, heard, .. } = &mut self.members[at];
        group.set_members(&others);
        heard.tell(group);
        self.link();
    }

    /// A member hears of what was decided about actors.
    fn hear(&mut self, at: usize) {
        let Member { group, heard, .. } = &mut self.members[at];
        heard.clone_from(&self.catalogue);
        heard.tell(group);
    }

    /// A member leads: it has heard of everything, and more is decided by what it knows.
    fn decide(&mut self, at: usize) {
        self.hear(at);
        self.catalogue.decide(&self.members[at].group, &mut self.counts);
    }

    fn link(&mut self) {
        for one in 0..self.members.len() {
            for other in (0..self.members.len()).filter(|other| *other != one) {
                let is_up = self.network.is_linked(one, other);
                self.members[one].group.link(node(other), is_up);
            }
        }
    }

    /// All faults end and all members start again, so nobody has anything left to mail; then exchanges alone have to
    /// bring all to the same, and that has to be right. Who has lost a disk has to answer reads again, and all
    /// actors that can be folded are.
    fn heal(&mut self) -> Result<(), Violation> {
        self.network.calm();
        if self.sabotage == Some(Sabotage::StaysCut) {
            (1..self.members.len()).for_each(|other| self.network.cut(0, other));
        }
        for at in 0..self.members.len() {
            self.restart(at)?;
        }
        // The other half comes even later.
        for _ in 0..self.network.past() / 2 {
            self.hear_replayed(0)?;
        }
        let begin = self.now_ms;
        self.agree()?;
        let end = begin + HEAL_MS.max(MEET_MS * self.members.len() as u64);
        while let Some(at) = self.unready() {
            if self.now_ms >= end {
                let what = format!("member {} does not answer reads again", node(at));
                return Err(Violation::new(Kind::NoAgreement, what));
            }
            self.run(1_000)?;
        }
        self.judge()?;
        self.fold_all()?;
        self.agree()?;
        let lost = self.judge()?;
        self.counts.add(Event::WriteLost, lost);
        Ok(())
    }

    /// Time passes until all are the same.
    fn agree(&mut self) -> Result<(), Violation> {
        let end = self.now_ms + HEAL_MS;
        loop {
            self.run(1_000)?;
            let Some(other) = self.differs() else { return Ok(()) };
            if self.now_ms >= end {
                let what =
                    format!("members {} and {} do not come to the same", node(0), node(other));
                return Err(Violation::new(Kind::NoAgreement, what));
            }
        }
    }

    /// Judges what all show. Answers how many writes went with their disks.
    fn judge(&mut self) -> Result<u64, Violation> {
        for at in 0..self.members.len() {
            self.look(at)?;
        }
        self.oracle.judge(&self.members[0].group)
    }

    /// Time passes until all actors are folded that nobody has any more and of which no write is missing. Then all members
    /// start again.
    fn fold_all(&mut self) -> Result<(), Violation> {
        let end = self.now_ms + HEAL_MS;
        while let Some(why) = self.unfolded() {
            if self.now_ms >= end {
                return Err(Violation::new(Kind::NotFolded, why));
            }
            self.run(1_000)?;
            self.decide(0);
            (0..self.members.len()).for_each(|at| self.hear(at));
            self.hear_replayed(0)?;
        }
        while self.network.past() > 0 {
            self.hear_replayed(0)?;
        }
        for at in 0..self.members.len() {
            self.restart(at)?;
        }
        Ok(())
    }

    /// Who is not folded and could be.
    fn unfolded(&self) -> Option<String> {
        let state = |at: usize| self.members[at].group.replica().state();
        let is_present = |actor| (0..self.members.len()).any(|at| state(at).actor() == Some(actor));
        for (actor, track) in state(0).clock().tracks() {
            let Some(fold) = self.catalogue.folds().of_actor(actor) else {
                if track.above().is_empty() && !is_present(*actor) {
                    return Some(format!("{actor} is not folded"));
                }
                continue;
            };
            let clocks = (0..self.members.len()).map(|at| (at, state(at).clock()));
            for (at, clock) in clocks {
                if clock.may_fold(fold) && !clock.has_fold(fold) {
                    return Some(format!("member {} names {actor} in full", node(at)));
                }
            }
        }
        None
    }

    /// A member that knows or shows something else than the first one.
    fn differs(&self) -> Option<usize> {
        let clock = |at: usize| self.members[at].group.replica().state().clock();
        (1..self.members.len()).find(|at| {
            !clock(*at).same_dots(clock(0)) || self.oracle.live(*at) != self.oracle.live(0)
        })
    }

    /// A member that answers no reads.
    fn unready(&mut self) -> Option<usize> {
        self.members.iter_mut().position(|member| !member.is_ready())
    }

    /// Breaks a disk on purpose, before its member starts from it. The sums of all items go as well: with them the start
    /// would find the damage.
    fn tamper(&mut self, at: usize) {
        let member = &mut self.members[at];
        if matches!(self.sabotage, Some(Sabotage::EntryLost | Sabotage::EntryBack)) {
            member.disk.retain(|key, _| !is_sums(key));
        }
        match self.sabotage {
            Some(Sabotage::EntryLost) => {
                let entry = member.disk.keys().find(|key| key.first() == Some(&b'e')).cloned();
                if let Some(key) = entry {
                    member.disk.remove(&key);
                }
            }
            Some(Sabotage::EntryBack) => {
                if let Some((key, value)) = member.former.take() {
                    member.disk.insert(key, value);
                }
            }
            Some(Sabotage::TokenLost | Sabotage::SentBeforeSync | Sabotage::StaysCut) | None => {}
        }
    }
}

fn entry_key(key: usize) -> EntryKey {
    EntryKey::new(KEYSPACE, format!("k{key}"))
}
