//! Heartbeats to a centre, along a ring, and to all.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::protocol::Protocol;
use super::world::{Micros, Timer, World};

/// Heartbeats on which news of the ring is passed on, so that a few may be lost.
const REPEATS: u32 = 5;
/// The centre.
const CENTRE: u32 = 0;

/// Heartbeats to member 0, which answers with the list of the dead.
#[derive(Debug)]
pub struct Central {
    timeout: Micros,
    /// When the centre heard each member.
    heard: Vec<Micros>,
    /// Whom the centre takes for dead.
    dead: Rc<Vec<u32>>,
    /// The list that each member has.
    lists: Vec<Rc<Vec<u32>>>,
}

impl Central {
    /// Members that all were heard just now.
    #[must_use]
    pub fn new(members: u32, timeout: Micros) -> Self {
        let (count, dead) = (members as usize, Rc::new(Vec::new()));
        Self { timeout, heard: vec![0; count], lists: vec![Rc::clone(&dead); count], dead }
    }

    /// Adopts the list of the centre.
    fn adopt(&mut self, member: u32, list: &Rc<Vec<u32>>, world: &mut World<Letter>) {
        let old = std::mem::replace(&mut self.lists[member as usize], Rc::clone(list));
        if Rc::ptr_eq(&old, list) {
            return;
        }
        for subject in old.iter().filter(|subject| !list.contains(subject)) {
            world.retract(member, *subject);
        }
        for subject in list.iter().filter(|subject| **subject != member) {
            world.declare(member, *subject);
        }
    }
}

/// What goes to the centre and back.
#[derive(Clone, Debug)]
pub enum Letter {
    /// The sender lives.
    Heartbeat,
    /// Whom the centre takes for dead.
    Dead(Rc<Vec<u32>>),
}

impl Protocol for Central {
    type Message = Letter;

    fn tick(&mut self, member: u32, world: &mut World<Letter>) {
        if member != CENTRE {
            world.send(member, CENTRE, Letter::Heartbeat, 0);
            return;
        }
        for subject in 1..world.members() {
            let silence = world.now().saturating_sub(self.heard[subject as usize]);
            if silence > self.timeout && !world.holds(CENTRE, subject) {
                world.declare(CENTRE, subject);
                Rc::make_mut(&mut self.dead).push(subject);
            }
        }
    }

    fn arrive(&mut self, from: u32, to: u32, letter: Letter, world: &mut World<Letter>) {
        match letter {
            Letter::Heartbeat => {
                self.heard[from as usize] = world.now();
                if world.holds(CENTRE, from) {
                    world.retract(CENTRE, from);
                    Rc::make_mut(&mut self.dead).retain(|subject| *subject != from);
                }
                let list = Rc::clone(&self.dead);
                let entries = list.len() as u64;
                world.send(CENTRE, from, Letter::Dead(list), entries);
            }
            Letter::Dead(list) => self.adopt(to, &list, world),
        }
    }

    fn timer(&mut self, _: u32, _: Timer, _: &mut World<Letter>) {
        unreachable!("nobody waits for anything");
    }
}

/// Heartbeats to everyone.
#[derive(Debug)]
pub struct AllToAll {
    timeout: Micros,
    /// When each member heard each: those of member 0, then of member 1 and so on.
    heard: Vec<Micros>,
}

impl AllToAll {
    /// Members that all heard each other just now.
    #[must_use]
    pub fn new(members: u32, timeout: Micros) -> Self {
        Self { timeout, heard: vec![0; members as usize * members as usize] }
    }
}

impl Protocol for AllToAll {
    type Message = ();

    fn tick(&mut self, member: u32, world: &mut World<()>) {
        let members = world.members();
        let begin = member as usize * members as usize;
        for other in (0..members).filter(|other| *other != member) {
            let silence = world.now().saturating_sub(self.heard[begin + other as usize]);
            if silence > self.timeout {
                world.declare(member, other);
            }
            world.send(member, other, (), 0);
        }
    }

    fn arrive(&mut self, from: u32, to: u32, (): (), world: &mut World<()>) {
        let place = to as usize * world.members() as usize + from as usize;
        if world.now().saturating_sub(self.heard[place]) > self.timeout {
            world.retract(to, from);
        }
        self.heard[place] = world.now();
    }

    fn timer(&mut self, _: u32, _: Timer, _: &mut World<()>) {
        unreachable!("nobody waits for anything");
    }
}

/// What a member of the ring knows of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    subject: u32,
    /// Heartbeats of it that were heard when this was true; the highest number is the newest news.
    count: u32,
    dead: bool,
}

/// Heartbeats to both neighbours.
#[derive(Debug)]
pub struct Ring {
    timeout: Micros,
    nodes: Vec<Neighbour>,
}

/// A member of the ring.
#[derive(Clone, Debug, Default)]
struct Neighbour {
    /// Heartbeats that it sent.
    count: u32,
    /// When it heard the member before and the one after it, and their counts.
    heard: [(Micros, u32); 2],
    /// The newest news of each member there is any of, and on how many more heartbeats it goes.
    news: BTreeMap<u32, (News, u32)>,
}

/// A heartbeat of the ring: its number, and news.
pub type Beat = (u32, Vec<News>);

impl Ring {
    /// Members that all heard their neighbours just now.
    #[must_use]
    pub fn new(members: u32, timeout: Micros) -> Self {
        Self { timeout, nodes: vec![Neighbour::default(); members as usize] }
    }

    /// The members before and after one.
    const fn beside(member: u32, members: u32) -> [u32; 2] {
        [(member + members - 1) % members, (member + 1) % members]
    }

    /// Takes news, if it is newer than what is known; death is newer than life at the same count.
    fn learn(&mut self, member: u32, news: News, world: &mut World<Beat>) {
        if news.subject == member {
            return;
        }
        let known = &mut self.nodes[member as usize].news;
        let old = known.get(&news.subject).map(|(old, _)| (old.count, old.dead));
        if old.is_some_and(|old| old >= (news.count, news.dead)) {
            return;
        }
        known.insert(news.subject, (news, REPEATS));
        if news.dead {
            world.declare(member, news.subject);
        } else {
            world.retract(member, news.subject);
        }
    }
}

impl Protocol for Ring {
    type Message = Beat;

    fn tick(&mut self, member: u32, world: &mut World<Beat>) {
        let beside = Self::beside(member, world.members());
        for (side, subject) in beside.into_iter().enumerate() {
            let (heard, count) = self.nodes[member as usize].heard[side];
            if world.now().saturating_sub(heard) > self.timeout {
                self.learn(member, News { subject, count, dead: true }, world);
            }
        }
        let node = &mut self.nodes[member as usize];
        node.count += 1;
        let mut news = Vec::new();
        for (one, times) in node.news.values_mut().filter(|(_, times)| *times > 0) {
            *times -= 1;
            news.push(*one);
        }
        let count = node.count;
        for to in beside {
            world.send(member, to, (count, news.clone()), news.len() as u64);
        }
    }

    fn arrive(&mut self, from: u32, to: u32, (count, news): Beat, world: &mut World<Beat>) {
        let sides = Self::beside(to, world.members());
        let side = sides.iter().position(|one| *one == from).expect("only neighbours send");
        let heard = &mut self.nodes[to as usize].heard[side];
        *heard = (world.now(), count.max(heard.1));
        if world.holds(to, from) {
            self.learn(to, News { subject: from, count, dead: false }, world);
        }
        for one in news {
            self.learn(to, one, world);
        }
    }

    fn timer(&mut self, _: u32, _: Timer, _: &mut World<Beat>) {
        unreachable!("nobody waits for anything");
    }
}
