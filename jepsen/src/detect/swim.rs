//! SWIM (Das, Gupta and Motivala 2002): probes, indirect probes, suspicion, and news that ride on them.

use std::collections::BTreeMap;

use rand::RngExt;

use super::plan::{Pick, Swim};
use super::protocol::Protocol;
use super::world::{Micros, Timer, World};

/// News on one message.
const PIGGYBACK_MAX: usize = 6;
/// News are sent this many times the logarithm of the number of members.
const REPEATS: u32 = 3;
/// Draws until a member is found that is not taken for dead.
const DRAWS_MAX: usize = 16;

/// What a member is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Alive,
    Suspect,
    Dead,
}

/// What is known of a member. News in a later incarnation, which only the member itself begins, beat those
/// of an earlier one; in one incarnation, death beats suspicion, and suspicion beats life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct View {
    incarnation: u32,
    status: Status,
}

const UNKNOWN: View = View { incarnation: 0, status: Status::Alive };

/// What a message says.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Answer, to the member that asks on behalf of another, if there is one.
    Ping { number: u64, origin: Option<u32> },
    /// The answer.
    Ack { number: u64, origin: Option<u32> },
    /// Ask another member.
    PingRequest { number: u64, target: u32 },
}

/// A message, with news about members.
#[derive(Clone, Debug)]
pub struct Message {
    kind: Kind,
    news: Vec<(u32, View)>,
}

/// A member.
#[derive(Clone, Debug, Default)]
struct Member {
    incarnation: u32,
    /// What it knows of others; those that are missing are alive and never were suspected.
    views: BTreeMap<u32, View>,
    /// What it has to tell, and how often it did.
    news: BTreeMap<u32, (View, u32)>,
    /// Number of its newest probe.
    number: u64,
    /// Whom it probes, until there is an answer.
    probed: Option<u32>,
    pass: Pass,
}

/// An order of all members, and where a member is in it: `offset + stride * place`.
#[derive(Clone, Copy, Debug, Default)]
struct Pass {
    stride: u32,
    offset: u32,
    place: u32,
}

impl Pass {
    /// The next member of the pass, or the first of a new one.
    fn next<M>(&mut self, world: &mut World<M>) -> u32 {
        let members = world.members();
        if self.stride == 0 || self.place == members {
            let divides = |stride: u32| gcd(stride, members) > 1;
            let mut stride = world.rng.random_range(1..members);
            while divides(stride) {
                stride = world.rng.random_range(1..members);
            }
            *self = Self { stride, offset: world.rng.random_range(0..members), place: 0 };
        }
        let at = u64::from(self.offset) + u64::from(self.stride) * u64::from(self.place);
        self.place += 1;
        u32::try_from(at % u64::from(members)).expect("below the number of members")
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// All members.
#[derive(Debug)]
pub struct SwimMembers {
    rules: Swim,
    /// Time after which a direct probe has failed.
    answer: Micros,
    /// How often news are sent.
    repeats: u32,
    members: Vec<Member>,
}

impl SwimMembers {
    /// Members that know each other.
    #[must_use]
    pub fn new(rules: Swim, members: u32, period: Micros) -> Self {
        Self {
            rules,
            // Longer than a round trip, and short enough for an indirect one to fit in the rest.
            answer: period * 3 / 10,
            repeats: REPEATS * (members.ilog2() + 1),
            members: vec![Member::default(); members as usize],
        }
    }

    fn view(&self, member: u32, subject: u32) -> View {
        self.members[member as usize].views.get(&subject).copied().unwrap_or(UNKNOWN)
    }

    fn is_dead(&self, member: u32, subject: u32) -> bool {
        self.view(member, subject).status == Status::Dead
    }

    /// Sends a message with the news that were told least.
    fn send(&mut self, from: u32, to: u32, kind: Kind, world: &mut World<Message>) {
        let sender = &mut self.members[from as usize];
        let mut told: Vec<(u32, u32)> =
            sender.news.iter().map(|(subject, (_, times))| (*times, *subject)).collect();
        told.sort_unstable();
        let mut news = Vec::new();
        for (_, subject) in told.into_iter().take(PIGGYBACK_MAX) {
            let (view, times) = sender.news.get_mut(&subject).expect("it was just listed");
            news.push((subject, *view));
            *times += 1;
            if *times >= self.repeats {
                sender.news.remove(&subject);
            }
        }
        let entries = news.len() as u64;
        world.send(from, to, Message { kind, news }, entries);
    }

    /// Takes news, if they are newer than what is known.
    fn learn(&mut self, member: u32, subject: u32, view: View, world: &mut World<Message>) {
        let own = &mut self.members[member as usize];
        if subject == member {
            if view.status != Status::Alive && view.incarnation >= own.incarnation {
                own.incarnation = view.incarnation + 1;
                let alive = View { incarnation: own.incarnation, status: Status::Alive };
                own.news.insert(member, (alive, 0));
            }
            return;
        }
        let old = own.views.get(&subject).copied().unwrap_or(UNKNOWN);
        if view <= old {
            return;
        }
        own.views.insert(subject, view);
        own.news.insert(subject, (view, 0));
        let View { incarnation, status } = view;
        match status {
            Status::Alive => world.retract(member, subject),
            Status::Dead => world.declare(member, subject),
            Status::Suspect => {
                world.retract(member, subject);
                let patience = u64::from(self.rules.suspicion) * world.period();
                world.wake(member, patience, Timer::Objection { subject, incarnation });
            }
        }
    }

    /// A probe got no answer.
    fn missed(&mut self, member: u32, target: u32, world: &mut World<Message>) {
        let View { incarnation, status } = self.view(member, target);
        if status != Status::Alive {
            return;
        }
        world.suspect(target);
        let at_once = self.rules.suspicion == 0;
        let status = if at_once { Status::Dead } else { Status::Suspect };
        self.learn(member, target, View { incarnation, status }, world);
    }

    /// Whom a member probes in this period; nobody if all seem dead.
    fn pick(&mut self, member: u32, world: &mut World<Message>) -> Option<u32> {
        for _ in 0..DRAWS_MAX {
            let drawn = match self.rules.pick {
                Pick::Random => world.other(member),
                Pick::RoundRobin => self.members[member as usize].pass.next(world),
            };
            if drawn != member && !self.is_dead(member, drawn) {
                return Some(drawn);
            }
        }
        None
    }
}

impl Protocol for SwimMembers {
    type Message = Message;

    fn tick(&mut self, member: u32, world: &mut World<Message>) {
        if let Some(target) = self.members[member as usize].probed.take() {
            self.missed(member, target, world);
        }
        let Some(target) = self.pick(member, world) else { return };
        let own = &mut self.members[member as usize];
        own.number += 1;
        own.probed = Some(target);
        let number = own.number;
        self.send(member, target, Kind::Ping { number, origin: None }, world);
        world.wake(member, self.answer, Timer::Answer(number));
    }

    fn arrive(&mut self, from: u32, to: u32, message: Message, world: &mut World<Message>) {
        for (subject, view) in message.news {
            self.learn(to, subject, view, world);
        }
        let sender = self.view(to, from);
        if sender.status == Status::Dead {
            // It should hear that, and object.
            self.members[to as usize].news.insert(from, (sender, 0));
        }
        match message.kind {
            Kind::Ping { number, origin } => {
                self.send(to, from, Kind::Ack { number, origin }, world);
            }
            Kind::PingRequest { number, target } => {
                self.send(to, target, Kind::Ping { number, origin: Some(from) }, world);
            }
            Kind::Ack { number, origin: Some(origin) } => {
                self.send(to, origin, Kind::Ack { number, origin: None }, world);
            }
            Kind::Ack { number, origin: None } => {
                let own = &mut self.members[to as usize];
                if own.number == number {
                    own.probed = None;
                }
            }
        }
    }

    fn timer(&mut self, member: u32, timer: Timer, world: &mut World<Message>) {
        match timer {
            Timer::Answer(number) => {
                let own = &self.members[member as usize];
                let Some(target) = own.probed.filter(|_| own.number == number) else { return };
                let mut helpers = Vec::new();
                for _ in 0..DRAWS_MAX * self.rules.indirect as usize {
                    if helpers.len() == self.rules.indirect as usize {
                        break;
                    }
                    let drawn = world.other(member);
                    let fits = drawn != target && !helpers.contains(&drawn);
                    if fits && !self.is_dead(member, drawn) {
                        helpers.push(drawn);
                    }
                }
                for helper in helpers {
                    self.send(member, helper, Kind::PingRequest { number, target }, world);
                }
            }
            Timer::Objection { subject, incarnation } => {
                let suspected = View { incarnation, status: Status::Suspect };
                if self.view(member, subject) == suspected {
                    let dead = View { incarnation, status: Status::Dead };
                    self.learn(member, subject, dead, world);
                }
            }
        }
    }
}
