//! What is on its way between members.

use std::collections::{BTreeSet, VecDeque};

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::schedule::Schedule;
use super::{Counts, Event};

/// Messages that are kept back for long, at most.
const PAST_MAX: usize = 64;
/// So often some of what is on its way arrives, before anything else happens.
pub const ROUNDS: usize = 3;

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Sent<T> {
    /// Who sent it.
    pub from: usize,
    /// Who is to hear it.
    pub to: usize,
    /// What is said.
    pub what: T,
}

/// Links that may be cut, and what is on its way over them.
#[derive(Debug)]
pub struct Network<T> {
    /// Pairs without a link, the lower one first.
    cut: BTreeSet<(usize, usize)>,
    on_way: Vec<Sent<T>>,
    /// What was on its way over a link when it was cut: it may still arrive, long after.
    past: VecDeque<Sent<T>>,
    /// Of a hundred, so many are lost, come twice, and come late.
    lost: u32,
    doubled: u32,
    delayed: u32,
}

impl<T: Clone> Network<T> {
    /// A network as a schedule wants it.
    pub fn new(schedule: &Schedule) -> Self {
        let (lost, doubled, delayed) = (schedule.lost, schedule.doubled, schedule.delayed);
        let (cut, on_way, past) = (BTreeSet::new(), Vec::new(), VecDeque::new());
        Self { cut, on_way, past, lost, doubled, delayed }
    }

    /// Whether two members have a link.
    pub fn is_linked(&self, one: usize, other: usize) -> bool {
        !self.cut.contains(&pair(one, other))
    }

    /// Two members lose their link.
    pub fn cut(&mut self, one: usize, other: usize) {
        self.cut.insert(pair(one, other));
        self.keep_back(|sent| pair(sent.from, sent.to) == pair(one, other));
    }

    /// What a member has said and nobody heard yet may still arrive, long after.
    pub fn keep_back_from(&mut self, at: usize) {
        self.keep_back(|sent| sent.from == at);
    }

    fn keep_back(&mut self, is_late: impl Fn(&Sent<T>) -> bool) {
        let on_way = std::mem::take(&mut self.on_way).into_iter();
        let (past, left) = on_way.partition::<Vec<_>, _>(is_late);
        self.on_way = left;
        self.past.extend(past);
        while self.past.len() > PAST_MAX {
            self.past.pop_front();
        }
    }

    /// How many messages of long ago there are.
    pub fn past(&self) -> usize {
        self.past.len()
    }

    /// All have links with all.
    pub fn mend(&mut self) {
        self.cut.clear();
    }

    /// Nothing is lost, doubled or late any more.
    pub fn calm(&mut self) {
        (self.lost, self.doubled, self.delayed) = (0, 0, 0);
        self.mend();
    }

    /// Takes a message, and perhaps loses it.
    pub fn send(&mut self, sent: Sent<T>, rng: &mut ChaCha8Rng, counts: &mut Counts) {
        counts.count(Event::Message);
        if !self.is_linked(sent.from, sent.to) || chance(rng, self.lost) {
            counts.count(Event::MessageLost);
            return;
        }
        if chance(rng, self.doubled) {
            counts.count(Event::MessageDoubled);
            self.on_way.push(sent.clone());
        }
        self.on_way.push(sent);
    }

    /// What arrives now.
    pub fn arriving(&mut self, rng: &mut ChaCha8Rng, counts: &mut Counts) -> Vec<Sent<T>> {
        let mut all = std::mem::take(&mut self.on_way);
        if self.delayed == 0 {
            return all;
        }
        all.shuffle(rng);
        let mut arriving = Vec::new();
        for sent in all {
            if chance(rng, self.delayed) {
                counts.count(Event::MessageDelayed);
                self.on_way.push(sent);
            } else {
                arriving.push(sent);
            }
        }
        arriving
    }

    /// Whether nothing is on its way.
    pub fn is_quiet(&self) -> bool {
        self.on_way.is_empty()
    }

    /// A message of long ago, if there is one.
    pub fn replayed(&mut self, pick: usize) -> Option<Sent<T>> {
        if self.past.is_empty() {
            return None;
        }
        self.past.remove(pick % self.past.len())
    }
}

/// The lower one first.
const fn pair(one: usize, other: usize) -> (usize, usize) {
    if one < other { (one, other) } else { (other, one) }
}

fn chance(rng: &mut ChaCha8Rng, percent: u32) -> bool {
    percent > 0 && rng.random_range(0..100) < percent
}
