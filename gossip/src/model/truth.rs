//! What is true, kept outside the replicas.

use super::dots::{DOTS_MAX, Dot, Dots};

/// Keys that a schedule can use.
pub const KEYS_MAX: usize = 3;
/// Actors that a schedule can use.
pub const ACTORS_MAX: usize = 64;
/// Actors after which no process is ended on purpose; the rest is for replicas that start over.
pub const ACTORS_PLANNED: usize = 40;

/// One write as it was made. Nothing of it ever changes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Write {
    /// Its key.
    pub key: u8,
    /// The node that made it.
    pub node: u8,
    /// The node's actor at that time.
    pub actor: u8,
    /// Its number among the actor's writes, from 1.
    pub counter: u8,
    /// Number of the directory that first took it.
    pub directory: u8,
    /// Whether it deletes.
    pub tomb: bool,
    /// Whether a replica made it by itself.
    pub system: bool,
    /// What it supersedes: all that its client had seen, and all that that superseded.
    pub context: Dots,
    /// The context that travels with it. The same, unless a rule is broken or cuts it on purpose.
    pub carried: Dots,
    /// The whole clock of its node when it was made. Only a broken variant looks at it.
    pub clock: Dots,
    /// Its stamp, for the last writer to win.
    pub stamp: u32,
    /// The dot that decides between equal stamps: its own, or that of the write it stands for.
    pub rank: Dot,
    /// When it expires; 0 is never.
    pub deadline: u16,
}

/// All writes, who made them and what they supersede.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Number of writes.
    pub count: usize,
    writes: [Write; DOTS_MAX],
    superseders: [Dots; DOTS_MAX],
    by_users: [Dots; DOTS_MAX],
    /// Dots of each key.
    pub of_key: [Dots; KEYS_MAX],
    /// Deletes.
    pub tombs: Dots,
    /// Number of actors.
    pub actors: usize,
    of_actor: [Dots; ACTORS_MAX],
    nodes: [u8; ACTORS_MAX],
    incarnations: [u8; ACTORS_MAX],
    /// Dots that a retirement declared lost.
    pub lost: Dots,
    /// Dots that were on no disk at some time after they were made.
    pub excused: Dots,
    /// Dots of values that waited, and were written anew because nobody else knew of them, or let go because somebody did.
    pub rewritten: Dots,
    /// Dots of values that could be read of a damaged disk, unless the disk after it was lost.
    pub owed: Dots,
}

impl Default for Truth {
    fn default() -> Self {
        Self {
            count: 0,
            writes: [Write::default(); DOTS_MAX],
            superseders: [Dots::NONE; DOTS_MAX],
            by_users: [Dots::NONE; DOTS_MAX],
            of_key: [Dots::NONE; KEYS_MAX],
            tombs: Dots::NONE,
            actors: 0,
            of_actor: [Dots::NONE; ACTORS_MAX],
            nodes: [0; ACTORS_MAX],
            incarnations: [0; ACTORS_MAX],
            lost: Dots::NONE,
            excused: Dots::NONE,
            rewritten: Dots::NONE,
            owed: Dots::NONE,
        }
    }
}

impl Truth {
    /// Forgets everything. Rows beyond the counts are written before they are read.
    pub fn reset(&mut self) {
        self.count = 0;
        self.of_key = [Dots::NONE; KEYS_MAX];
        self.tombs = Dots::NONE;
        self.actors = 0;
        self.lost = Dots::NONE;
        self.excused = Dots::NONE;
        self.rewritten = Dots::NONE;
        self.owed = Dots::NONE;
    }

    /// The write of `dot`.
    #[inline]
    pub fn write(&self, dot: Dot) -> &Write {
        &self.writes[usize::from(dot)]
    }

    /// Whether `actor` has made its write number `counter` already.
    pub fn is_made(&self, actor: u8, counter: u8) -> bool {
        self.of_actor(actor).any(|dot| self.write(dot).counter == counter)
    }

    /// Notes a write and returns its dot.
    ///
    /// # Panics
    /// If there is no room; see [`Truth::has_room`].
    pub fn note(&mut self, write: Write) -> Dot {
        assert!(self.count < DOTS_MAX, "a schedule makes at most {DOTS_MAX} writes");
        let dot = self.count as Dot;
        self.writes[self.count] = write;
        self.superseders[self.count] = Dots::NONE;
        self.by_users[self.count] = Dots::NONE;
        self.count += 1;
        for victim in write.context {
            self.superseders[usize::from(victim)] |= Dots::one(dot);
            if !write.system {
                self.by_users[usize::from(victim)] |= Dots::one(dot);
            }
        }
        self.of_key[usize::from(write.key)] |= Dots::one(dot);
        self.of_actor[usize::from(write.actor)] |= Dots::one(dot);
        if write.tomb {
            self.tombs |= Dots::one(dot);
        }
        dot
    }

    /// Whether `more` writes can be noted.
    #[inline]
    pub fn has_room(&self, more: usize) -> bool {
        self.count + more <= DOTS_MAX
    }

    /// The writes that supersede `dot`, without lost ones.
    #[inline]
    pub fn superseders(&self, dot: Dot) -> Dots {
        self.superseders[usize::from(dot)] - self.lost
    }

    /// The writes of clients that supersede `dot`.
    #[inline]
    pub fn superseders_by_users(&self, dot: Dot) -> Dots {
        self.by_users[usize::from(dot)] - self.lost
    }

    /// All writes.
    #[inline]
    pub fn issued(&self) -> Dots {
        Dots::first(self.count)
    }

    /// The writes of an actor up to `dot`, which is one of them.
    #[inline]
    pub fn up_to(&self, dot: Dot) -> Dots {
        self.of_actor(self.write(dot).actor) & Dots::first(usize::from(dot) + 1)
    }

    /// The place of a write in the order of actors and counters, in which replicas list and compare.
    #[inline]
    pub fn place(&self, dot: Dot) -> u16 {
        let write = self.write(dot);
        u16::from(write.actor) << 8 | u16::from(write.counter)
    }

    /// The first of some writes in the order of actors and counters.
    #[inline]
    pub fn first(&self, dots: Dots) -> Option<Dot> {
        dots.min_by_key(|&dot| self.place(dot))
    }

    /// The writes of an actor.
    #[inline]
    pub fn of_actor(&self, actor: u8) -> Dots {
        self.of_actor[usize::from(actor)]
    }

    /// The node of an actor.
    #[inline]
    pub fn node_of(&self, actor: u8) -> u8 {
        self.nodes[usize::from(actor)]
    }

    /// The writes of all actors that a node ever had.
    pub fn of_node(&self, node: u8) -> Dots {
        let mut all = Dots::NONE;
        for actor in 0..self.actors {
            if self.nodes[actor] == node {
                all |= self.of_actor[actor];
            }
        }
        all
    }

    /// A new actor of `node`, or none if all are used up.
    pub fn mint(&mut self, node: u8, incarnation: u8) -> Option<u8> {
        if self.actors == ACTORS_MAX {
            return None;
        }
        self.nodes[self.actors] = node;
        self.incarnations[self.actors] = incarnation;
        self.of_actor[self.actors] = Dots::NONE;
        self.actors += 1;
        Some((self.actors - 1) as u8)
    }

    /// The actor of `node` with this incarnation, if there was one.
    pub fn actor_of(&self, node: u8, incarnation: u8) -> Option<u8> {
        (0..self.actors)
            .find(|&actor| self.nodes[actor] == node && self.incarnations[actor] == incarnation)
            .map(|actor| actor as u8)
    }

    /// The part of `clock` up to the first hole of each actor.
    pub fn base(&self, clock: Dots) -> Dots {
        let mut base = Dots::NONE;
        for actor in 0..self.actors {
            for dot in self.of_actor[actor] {
                if !clock.has(dot) {
                    break;
                }
                base |= Dots::one(dot);
            }
        }
        base
    }
}
