//! What all detectors run in: time, messages, the crash, and who takes whom for dead.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::plan::{Phase, Plan};

/// Microseconds since the beginning of a run.
pub type Micros = u64;

/// Bytes of a message without entries: kind, sender, number.
pub const HEADER_BYTES: u64 = 16;
/// Bytes of an entry about a member: who, and a number.
pub const ENTRY_BYTES: u64 = 12;

/// What happens next to a member.
#[derive(Debug)]
pub enum Event<M> {
    /// Its period begins.
    Tick(u32),
    /// A message reaches it.
    Arrive {
        /// Who sent it.
        from: u32,
        /// Who gets it.
        to: u32,
        /// What it says.
        message: M,
    },
    /// Something that it waited for is due.
    Timer {
        /// Who waited.
        member: u32,
        /// For what.
        timer: Timer,
    },
}

/// What a member waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The answer to its probe of this number.
    Answer(u64),
    /// The objection of a suspected member.
    Objection {
        /// Who is suspected.
        subject: u32,
        /// In which incarnation.
        incarnation: u32,
    },
}

/// An event with its time; equal times keep the order in which events were planned.
#[derive(Debug)]
struct Planned<M> {
    key: Reverse<(Micros, u64)>,
    event: Event<M>,
}

impl<M> PartialEq for Planned<M> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<M> Eq for Planned<M> {}

impl<M> PartialOrd for Planned<M> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<M> Ord for Planned<M> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// One run.
#[derive(Debug)]
pub struct World<M> {
    /// All chance of the run.
    pub rng: ChaCha8Rng,
    members: u32,
    period: Micros,
    latency: Micros,
    loss: f64,
    now: Micros,
    end: Micros,
    /// Who crashes, and when.
    victim: u32,
    crash: Micros,
    events: BinaryHeap<Planned<M>>,
    planned: u64,
    /// Messages before the crash that each member sent or heard.
    handled: Vec<u64>,
    sent: u64,
    bytes: u64,
    /// Who takes whom for dead.
    opinions: HashSet<(u32, u32)>,
    /// By how many each member is taken for dead.
    holders: Vec<u32>,
    false_positives: u64,
    false_suspicions: u64,
    /// When somebody first suspected the victim after its crash.
    suspected: Option<Micros>,
    /// When each member began to take the victim for dead, if it does.
    declared: Vec<Option<Micros>>,
    /// When the last one did, if all do.
    all: Option<Micros>,
}

impl<M> World<M> {
    /// The beginning of a run.
    #[must_use]
    pub fn new(plan: &Plan, run: u32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
        rng.set_stream(u64::from(run));
        let period = micros(plan.period);
        let end = micros(plan.time);
        // Member 0 is the centre of a detector that has one, and nobody watches it.
        let victim = rng.random_range(1..plan.members);
        let middle = end / 2 / period * period;
        let crash = match plan.phase {
            Phase::Spread => middle + rng.random_range(0..period),
            Phase::Aligned => middle - 1,
        };
        let mut world = Self {
            rng,
            members: plan.members,
            period,
            latency: micros(plan.latency),
            loss: plan.loss,
            now: 0,
            end,
            victim,
            crash,
            events: BinaryHeap::new(),
            planned: 0,
            handled: vec![0; plan.members as usize],
            sent: 0,
            bytes: 0,
            opinions: HashSet::new(),
            holders: vec![0; plan.members as usize],
            false_positives: 0,
            false_suspicions: 0,
            suspected: None,
            declared: vec![None; plan.members as usize],
            all: None,
        };
        for member in 0..plan.members {
            let phase = match plan.phase {
                Phase::Spread => world.rng.random_range(0..period),
                Phase::Aligned => 0,
            };
            world.plan(phase, Event::Tick(member));
        }
        world
    }

    /// How many members there are.
    #[must_use]
    pub const fn members(&self) -> u32 {
        self.members
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> Micros {
        self.now
    }

    /// Time between two ticks of a member.
    #[must_use]
    pub const fn period(&self) -> Micros {
        self.period
    }

    fn plan(&mut self, time: Micros, event: Event<M>) {
        self.planned += 1;
        self.events.push(Planned { key: Reverse((time, self.planned)), event });
    }

    /// The next event of a member that lives, and its time; nothing at the end of the run.
    pub fn next_event(&mut self) -> Option<Event<M>> {
        loop {
            let Planned { key: Reverse((time, _)), event } = self.events.pop()?;
            if time >= self.end {
                return None;
            }
            self.now = time;
            let of = match &event {
                Event::Tick(member) | Event::Timer { member, .. } => *member,
                Event::Arrive { to, .. } => *to,
            };
            if of == self.victim && time >= self.crash {
                continue;
            }
            match event {
                Event::Tick(member) => self.plan(time + self.period, Event::Tick(member)),
                Event::Arrive { .. } if time < self.crash => self.handled[of as usize] += 1,
                Event::Arrive { .. } | Event::Timer { .. } => {}
            }
            return Some(event);
        }
    }

    /// Any member but this one.
    pub fn other(&mut self, member: u32) -> u32 {
        let drawn = self.rng.random_range(0..self.members - 1);
        if drawn < member { drawn } else { drawn + 1 }
    }

    /// Sends a message with so many entries, which arrives later or is lost.
    pub fn send(&mut self, from: u32, to: u32, message: M, entries: u64) {
        if self.now < self.crash {
            self.sent += 1;
            self.bytes += HEADER_BYTES + ENTRY_BYTES * entries;
            self.handled[from as usize] += 1;
        }
        if self.loss > 0.0 && self.rng.random_bool(self.loss) {
            return;
        }
        let half = self.latency / 2;
        let took = half + self.rng.random_range(0..=self.latency);
        self.plan(self.now + took, Event::Arrive { from, to, message });
    }

    /// Wakes a member up later.
    pub fn wake(&mut self, member: u32, after: Micros, timer: Timer) {
        self.plan(self.now + after, Event::Timer { member, timer });
    }

    fn is_dead(&self, member: u32) -> bool {
        member == self.victim && self.now >= self.crash
    }

    /// A member begins to suspect another by what it saw itself.
    pub fn suspect(&mut self, subject: u32) {
        if !self.is_dead(subject) {
            self.false_suspicions += 1;
        } else if self.suspected.is_none() {
            self.suspected = Some(self.now);
        }
    }

    /// A member takes another for dead; again is nothing new.
    pub fn declare(&mut self, observer: u32, subject: u32) {
        if !self.opinions.insert((observer, subject)) {
            return;
        }
        self.holders[subject as usize] += 1;
        if subject == self.victim {
            self.declared[observer as usize] = Some(self.now);
            if self.holders[subject as usize] == self.members - 1 {
                self.all = Some(self.now);
            }
        }
        if !self.is_dead(subject) && self.holders[subject as usize] == 1 {
            self.false_positives += 1;
        }
    }

    /// A member takes another for alive again, if it did not.
    pub fn retract(&mut self, observer: u32, subject: u32) {
        if self.opinions.remove(&(observer, subject)) {
            self.holders[subject as usize] -= 1;
            if subject == self.victim {
                self.declared[observer as usize] = None;
                self.all = None;
            }
        }
    }

    /// Whether a member takes another for dead.
    #[must_use]
    pub fn holds(&self, observer: u32, subject: u32) -> bool {
        self.opinions.contains(&(observer, subject))
    }

    /// What the run came to.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let seconds = |micros: Micros| micros as f64 / 1e6;
        let members = f64::from(self.members);
        let before = seconds(self.crash) * members;
        let lived = before + seconds(self.end - self.crash) * (members - 1.0);
        let busiest = self.handled.iter().max().expect("there are members");
        // Who was wrong about the victim when it crashed is right at once.
        let since = |time: Micros| seconds(time.saturating_sub(self.crash));
        let mut declared: Vec<f64> = self.declared.iter().flatten().copied().map(since).collect();
        declared.sort_by(f64::total_cmp);
        Outcome {
            suspected: self.suspected.map(since),
            first: declared.first().copied(),
            all: self.all.map(since),
            declared,
            false_positives: self.false_positives as f64 / lived * 3_600.0,
            false_suspicions: self.false_suspicions as f64 / lived * 3_600.0,
            messages: self.sent as f64 / before,
            bytes: self.bytes as f64 / before,
            busiest: *busiest as f64 / seconds(self.crash),
        }
    }
}

/// What one run came to. Times are seconds since the crash; traffic is that before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// When the first member suspected the crashed one.
    pub suspected: Option<f64>,
    /// When the first took it for dead.
    pub first: Option<f64>,
    /// When all took it for dead.
    pub all: Option<f64>,
    /// When each did.
    pub declared: Vec<f64>,
    /// How often a member that lived was taken for dead, by anyone, an hour of a member.
    pub false_positives: f64,
    /// How often one was suspected.
    pub false_suspicions: f64,
    /// Messages that a member sent a second.
    pub messages: f64,
    /// Bytes that a member sent a second.
    pub bytes: f64,
    /// Messages that the busiest member sent and heard a second.
    pub busiest: f64,
}

/// A duration as the clock of a run has it.
fn micros(duration: std::time::Duration) -> Micros {
    u64::try_from(duration.as_micros()).expect("plans have bounded times")
}
