//! Gossip of heartbeats (van Renesse, Minsky and Hayden 1998).

use std::rc::Rc;

use super::protocol::Protocol;
use super::world::{Micros, Timer, World};

/// All members: what each knows of each.
#[derive(Debug)]
pub struct Gossip {
    timeout: Micros,
    fanout: u32,
    members: usize,
    /// The highest heartbeat that each member knows of each: those of member 0, then of member 1 and so
    /// on.
    beats: Vec<u32>,
    /// When that became known.
    heard: Vec<Micros>,
}

impl Gossip {
    /// Members that all heard of each other just now.
    #[must_use]
    pub fn new(members: u32, timeout: Micros, fanout: u32) -> Self {
        let members = members as usize;
        let pairs = members * members;
        Self { timeout, fanout, members, beats: vec![0; pairs], heard: vec![0; pairs] }
    }
}

impl Protocol for Gossip {
    type Message = Rc<[u32]>;

    fn tick(&mut self, member: u32, world: &mut World<Rc<[u32]>>) {
        let begin = member as usize * self.members;
        self.beats[begin + member as usize] += 1;
        self.heard[begin + member as usize] = world.now();
        for other in (0..world.members()).filter(|other| *other != member) {
            let silence = world.now().saturating_sub(self.heard[begin + other as usize]);
            if silence > self.timeout {
                world.declare(member, other);
            }
        }
        let table: Rc<[u32]> = self.beats[begin..begin + self.members].into();
        for _ in 0..self.fanout {
            let to = world.other(member);
            world.send(member, to, Rc::clone(&table), self.members as u64);
        }
    }

    fn arrive(&mut self, _: u32, to: u32, table: Rc<[u32]>, world: &mut World<Rc<[u32]>>) {
        let begin = to as usize * self.members;
        let known = self.beats[begin..begin + self.members].iter_mut();
        let heard = self.heard[begin..begin + self.members].iter_mut();
        for (subject, ((known, heard), beat)) in (0..).zip(known.zip(heard).zip(table.iter())) {
            if *beat > *known {
                if world.now().saturating_sub(*heard) > self.timeout {
                    world.retract(to, subject);
                }
                *known = *beat;
                *heard = world.now();
            }
        }
    }

    fn timer(&mut self, _: u32, _: Timer, _: &mut World<Rc<[u32]>>) {
        unreachable!("nobody waits for anything");
    }
}
