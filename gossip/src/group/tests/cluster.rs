//! A whole group with simulated links, disks and clocks.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proto::{KeyspaceId, NodeId};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::*;
use crate::actor::ActorId;
use crate::clock::Folds;
use crate::items::{Restored, Salvaged, restore};
use crate::record::Body;
use crate::replica::{Basis, Policy, Standing};
use crate::tree::TreeKey;

pub(super) const KEYSPACE: KeyspaceId = KeyspaceId(5);

/// Messages: who sends, who is to hear it, what is said.
pub(super) type Mail = Vec<(usize, usize, Bytes)>;

/// Milliseconds that a poll covers.
const STEP_MS: u64 = 50;

/// Wall time at the beginning: more than an hour after 1970, as clocks may be so much behind.
const WALL_MS: u64 = 10_000_000;

pub(super) type Disk = BTreeMap<Bytes, Bytes>;

struct Member {
    group: Group,
    disk: Disk,
    acked: Vec<Acked>,
    /// It began with nothing in place of one that was damaged, and has not met all.
    began_anew: bool,
}

pub(super) struct Cluster {
    rng: ChaCha8Rng,
    now_ms: u64,
    members: Vec<Member>,
    /// How far the wall clock of each member is ahead.
    ahead_ms: Vec<i64>,
    /// Pairs without a link, lower first.
    cut: BTreeSet<(usize, usize)>,
    /// On their way.
    messages: Mail,
    /// Of a hundred messages so many are lost, so many doubled.
    lost: u32,
    doubled: u32,
    /// How many began with nothing in place of one that was damaged.
    pub(super) began_anew: u64,
}

/// A member that begins on a disk, as a node does it: with what is stored where that is whole, else with what can be read
/// of it and of what was in memory.
fn member(mut disk: Disk, read: Option<Salvaged>, rng: &mut ChaCha8Rng) -> Member {
    let (actor, tree) = (ActorId::mint(rng), TreeKey::new(&[7; 32]));
    let (restored, salvaged) = match restore(disk.clone()) {
        Ok(restored) => (restored, None),
        Err(_) => {
            let mut salvaged = read.unwrap_or_default();
            salvaged.join(Salvaged::of_items(std::mem::take(&mut disk), &Folds::default()));
            (Restored::default(), Some(salvaged))
        }
    };
    let (mut replica, _) = Replica::restored(restored, actor, tree);
    replica.set_keyspace(KEYSPACE, Standing::Open(Policy::Siblings));
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    let mut group = Group::new(replica, 1, seed);
    group.set_wall(WALL_MS);
    let began_anew = salvaged.is_some();
    if let Some(salvaged) = salvaged {
        group.take_back(salvaged);
    }
    Member { group, disk, acked: Vec::new(), began_anew }
}

/// The configuration of a member that has these others.
pub(super) fn configuration(others: &BTreeSet<NodeId>, epoch: u64) -> Configuration {
    Configuration { epoch, others: others.clone(), counts_itself: true }
}

impl Cluster {
    pub(super) fn new(seed: u64, size: usize) -> Self {
        Self::begun_with(&BTreeMap::new(), seed, size)
    }

    /// One whose members all begin with this disk.
    pub(super) fn begun_with(disk: &BTreeMap<Bytes, Bytes>, seed: u64, size: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let members = (0..size).map(|_| member(disk.clone(), None, &mut rng)).collect();
        let mut cluster = Self {
            rng,
            now_ms: 0,
            members,
            ahead_ms: vec![0; size],
            cut: BTreeSet::new(),
            messages: Vec::new(),
            lost: 0,
            doubled: 0,
            began_anew: 0,
        };
        for at in 0..size {
            cluster.join(at);
        }
        cluster
    }

    /// Tells a member that has just started who the others are, and which links it has.
    fn join(&mut self, at: usize) {
        let others = (0..self.size()).filter(|other| *other != at);
        let others: BTreeSet<NodeId> = others.map(|other| NodeId(other as u64 + 1)).collect();
        self.members[at].group.configure(&others, configuration(&others, 0));
        self.link();
    }

    fn link(&mut self) {
        for one in 0..self.size() {
            for other in (0..self.size()).filter(|other| *other != one) {
                let up = !self.cut.contains(&(one.min(other), one.max(other)));
                self.members[one].group.link(NodeId(other as u64 + 1), up);
            }
        }
        let cut = &self.cut;
        self.messages.retain(|(from, to, _)| !cut.contains(&(*from.min(to), *from.max(to))));
    }

    pub(super) fn size(&self) -> usize {
        self.members.len()
    }

    pub(super) fn group(&self, at: usize) -> &Group {
        &self.members[at].group
    }

    pub(super) fn group_mut(&mut self, at: usize) -> &mut Group {
        &mut self.members[at].group
    }

    pub(super) fn cut(&mut self, at: usize) {
        for other in (0..self.size()).filter(|other| *other != at) {
            self.cut.insert((at.min(other), at.max(other)));
        }
        self.link();
    }

    pub(super) fn cut_pair(&mut self, one: usize, other: usize) {
        self.cut.insert((one.min(other), one.max(other)));
        self.link();
    }

    /// From now on so many of a hundred messages are lost.
    pub(super) fn lose(&mut self, percent: u32) {
        self.lost = percent;
    }

    /// All links are up and nothing gets lost any more.
    pub(super) fn heal(&mut self) {
        self.cut.clear();
        (self.lost, self.doubled) = (0, 0);
        self.link();
    }

    pub(super) fn write(
        &mut self,
        at: usize,
        key: &str,
        (body, basis): (Body, Basis),
        wanted: usize,
    ) -> Dot {
        let key = EntryKey::new(KEYSPACE, key.to_owned());
        let write = Write { key, body, deadline: None, basis };
        self.look_at_the_clock(at);
        let group = &mut self.members[at].group;
        let asks_for = |need: &Need| group.configuration().need(*need) == wanted;
        let need = [Need::One, Need::Majority, Need::All].into_iter().find(asks_for);
        group.write(&write, need.expect("one, a majority or all")).unwrap().0
    }

    /// A write that ends after some seconds.
    fn write_for_a_while(&mut self, at: usize, key: &str, basis: Basis) {
        let key = EntryKey::new(KEYSPACE, key.to_owned());
        let ends_ms = self.members[at].group.now().ms() + self.rng.random_range(0..20_000);
        let (body, deadline) = (Body::Value("short".into()), Some(Stamp::at_ms(ends_ms)));
        let write = Write { key, body, deadline, basis };
        self.members[at].group.write(&write, Need::One).unwrap();
    }

    pub(super) fn values(&self, at: usize, key: &str) -> Vec<Bytes> {
        let entry = self.members[at].group.entry(&EntryKey::new(KEYSPACE, key.to_owned()));
        let live = entry.into_iter().flat_map(Entry::live);
        let values = live.map(|(_, sibling)| match &sibling.body {
            Body::Value(value) => value.clone(),
            Body::Certificate => unreachable!("a certificate is not live"),
        });
        values.collect()
    }

    /// What a member's disk has under this key of an item.
    pub(super) fn stored(&self, at: usize, key: &[u8]) -> Option<&Bytes> {
        self.members[at].disk.get(key)
    }

    pub(super) fn acked(&mut self, at: usize) -> Vec<Acked> {
        std::mem::take(&mut self.members[at].acked)
    }

    pub(super) fn flagged(&self) -> u64 {
        self.members.iter().map(|member| member.group.counts().flagged).sum()
    }

    /// Makes durable what a member has to, and takes what it says. One that is damaged begins again.
    pub(super) fn poll(&mut self, at: usize) {
        if self.members[at].group.is_damaged() {
            let output = self.members[at].group.poll();
            self.store(at, output.items);
            let counts = self.members[at].group.counts();
            let read = self.members[at].group.replica().salvage();
            self.begin_again(at, Some(read));
            self.members[at].group.count_on(counts);
        }
        let member = &mut self.members[at];
        let Output { items, sends, acked } = member.group.poll();
        member.acked.extend(acked);
        self.store(at, items);
        for (to, message) in sends {
            let to = to.get() as usize - 1;
            if self.cut.contains(&(at.min(to), at.max(to))) || self.chance(self.lost) {
                continue;
            }
            if self.chance(self.doubled) {
                self.messages.push((at, to, message.clone()));
            }
            self.messages.push((at, to, message));
        }
    }

    fn store(&mut self, at: usize, items: Vec<Item>) {
        let disk = &mut self.members[at].disk;
        for Item { key, value } in items {
            match value {
                Some(value) => disk.insert(key, value),
                None => disk.remove(&key),
            };
        }
    }

    pub(super) fn disk_mut(&mut self, at: usize) -> &mut Disk {
        &mut self.members[at].disk
    }

    /// Whether a member may not be read from: it began anew and is not whole.
    pub(super) fn is_recovering(&mut self, at: usize) -> bool {
        let member = &mut self.members[at];
        member.began_anew &= !member.group.is_whole();
        member.began_anew
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        percent > 0 && self.rng.random_range(0..100) < percent
    }

    /// Reads a key with a majority, within some seconds.
    pub(super) fn read(&mut self, at: usize, key: &str) -> Result<Gathered, Missed> {
        let key = EntryKey::new(KEYSPACE, key.to_owned());
        self.read_range(at, ReadRange::of_key(&key, ReadValues::All))
    }

    pub(super) fn read_range(&mut self, at: usize, range: ReadRange) -> Result<Gathered, Missed> {
        let id = self.members[at].group.read(range);
        for round in 0..100 {
            if let Some((done, read)) = self.members[at].group.take_read() {
                assert_eq!(done, id);
                return read;
            }
            self.settle(1);
            if round > 4 {
                self.run_ms(STEP_MS);
            }
        }
        let missed = self.members[at].group.give_up_read(id);
        Err(missed.expect("it has not ended"))
    }

    /// Lets messages go to and fro until none is left, at one moment.
    pub(super) fn settle(&mut self, rounds: usize) {
        for _ in 0..rounds {
            for at in 0..self.size() {
                self.poll(at);
            }
            if self.messages.is_empty() {
                return;
            }
            for (from, to, message) in std::mem::take(&mut self.messages) {
                // Some take longer than others.
                if self.doubled > 0 && self.chance(20) {
                    self.messages.push((from, to, message));
                    continue;
                }
                self.members[to].group.receive(NodeId(from as u64 + 1), &message);
            }
        }
        for at in 0..self.size() {
            self.poll(at);
        }
    }

    pub(super) fn run_ms(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += STEP_MS;
            for at in 0..self.size() {
                self.look_at_the_clock(at);
                self.members[at].group.set_expiring(Some(NodeId(at as u64 + 1)));
                self.members[at].group.tick(self.now_ms);
            }
            self.settle(4);
        }
    }

    fn look_at_the_clock(&mut self, at: usize) {
        let wall = (WALL_MS + self.now_ms).saturating_add_signed(self.ahead_ms[at]);
        self.members[at].group.set_wall(wall);
    }

    /// The wall clock of a member is ahead by so much from now on.
    pub(super) fn set_ahead_ms(&mut self, at: usize, ms: i64) {
        self.ahead_ms[at] = ms;
    }

    /// A long time in few steps.
    pub(super) fn jump_ms(&mut self, ms: u64) {
        for _ in 0..100 {
            self.now_ms += ms / 100;
            self.run_ms(STEP_MS);
        }
    }

    /// What a member has made durable.
    pub(super) fn disk(&self, at: usize) -> Disk {
        self.members[at].disk.clone()
    }

    /// A member is killed, and starts from this disk.
    pub(super) fn start_from(&mut self, at: usize, disk: Disk) {
        self.members[at].disk = disk;
        self.restart(at);
    }

    /// What members say now does not arrive, so far.
    pub(super) fn keep_back(&mut self) -> Mail {
        self.settle(0);
        std::mem::take(&mut self.messages)
    }

    /// What was kept back arrives.
    pub(super) fn arrive(&mut self, messages: &[(usize, usize, Bytes)]) {
        self.messages.extend_from_slice(messages);
        self.settle(50);
    }

    pub(super) fn restart(&mut self, at: usize) {
        let counts = self.members[at].group.counts();
        self.begin_again(at, None);
        self.members[at].group.count_on(counts);
    }

    fn begin_again(&mut self, at: usize, read: Option<Salvaged>) {
        let began_anew = self.is_recovering(at);
        self.members[at] = member(self.members[at].disk.clone(), read, &mut self.rng);
        self.began_anew += u64::from(self.members[at].began_anew);
        self.members[at].began_anew |= began_anew;
        // What it begins with is durable before it says anything.
        let items = self.members[at].group.poll().items;
        self.store(at, items);
        self.messages.retain(|(from, to, _)| *from != at && *to != at);
        for other in (0..self.size()).filter(|other| *other != at) {
            // The links break with the node.
            self.members[other].group.link(NodeId(at as u64 + 1), false);
        }
        self.join(at);
    }

    /// Random things happen.
    pub(super) fn play(&mut self, steps: usize) {
        (self.lost, self.doubled) = (10, 10);
        for _ in 0..steps {
            let at = self.rng.random_range(0..self.size());
            let key = format!("k{}", self.rng.random_range(0..12));
            match self.rng.random_range(0..20) {
                0..8 => {
                    let basis = if self.chance(20) { Basis::Nothing } else { Basis::Held };
                    if self.chance(25) {
                        self.write_for_a_while(at, &key, basis);
                    } else {
                        self.write(at, &key, (Body::Value("v".into()), basis), 1);
                    }
                }
                8..12 => {
                    self.write(at, &key, (Body::Certificate, Basis::Held), 1);
                }
                12..16 => self.run_ms(2 * STEP_MS),
                16 => self.cut(at),
                17 => {
                    self.cut.clear();
                    self.link();
                }
                18 => self.restart(at),
                _ => self.jump_ms(forgetting::KEEP_MS / 2),
            }
            self.settle(1);
        }
    }

    pub(super) fn assert_equal(&self) {
        let first = self.members[0].group.replica();
        for member in &self.members {
            let replica = member.group.replica();
            replica.state().verify().unwrap();
            assert!(replica.state().clock().same_dots(first.state().clock()), "clocks differ");
            assert_eq!(replica.tree().root(), first.tree().root(), "values differ");
            let restored = restore(member.disk.clone()).unwrap().state;
            assert_eq!(restored.clock(), replica.state().clock());
            assert_eq!(restored.horizon(), replica.state().horizon());
        }
    }
}
