//! Faults: what they do to machines, disks and the network.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kvstore::node::Input;
use rand::RngExt;

use super::super::counters::Event;
use super::super::faults::{self, Fault};
use super::super::network::Micros;
use super::{Happening, World};

/// For this long a straggler is cut off before the others start anew.
const STRAGGLE: std::ops::Range<Micros> = 1_500_000..4_000_000;
/// Room that a full disk has left.
const ROOM_BYTES: u64 = 16 * 1024;
/// Latency of a slow disk.
pub(super) const SLOW_SYNC: std::ops::Range<Micros> = 50_000..400_000;
/// Pause between two steps on a store whose disk is slow.
pub(super) const SLOW_STORE: std::ops::Range<Micros> = 20_000..200_000;
/// Ticks that a process makes up for after it stood still, beside the one that waited.
const CATCH_UP_TICKS: u32 = 2;

impl World {
    /// Something goes wrong.
    pub(super) fn fault(&mut self) {
        self.counters.faults += 1;
        let fault = Fault::draw(self.hosts.len(), self.plan.emphasis, &mut self.rng);
        let downtime = Fault::downtime(&mut self.rng);
        match fault {
            Fault::Crash(host) => self.crash(host, downtime),
            Fault::CrashWriting(host) => self.hosts[host].die_writing(),
            Fault::Election(voter) => self.shake_election(voter),
            Fault::CrashLeader => {
                if let Some(leader) = self.leader() {
                    self.crash(leader, downtime);
                }
            }
            Fault::CrashAll => self.crash_all(),
            Fault::OneWayCut(from, to) => {
                let (from, to) = (self.hosts[from].id, self.hosts[to].id);
                self.network.cut(from, to);
                if !self.network.is_cut(to, from) {
                    self.counters.count(Event::OneWayCut);
                }
            }
            Fault::Isolate(host) => self.isolate(host),
            Fault::Weather => faults::weather(&mut self.network, &mut self.rng),
            Fault::HealNetwork => self.network.heal(),
            Fault::Pause(host) => self.pause(host),
            Fault::PauseLeader => {
                if let Some(leader) = self.leader() {
                    self.pause(leader);
                }
            }
            Fault::DiskFull(host) => self.fill_disk(host),
            Fault::SlowDisk(host) => {
                self.counters.count(Event::SlowDisk);
                self.slow_until[host] = self.now + Fault::shortage(&mut self.rng);
            }
            Fault::Straggler(host) => self.leave_behind(host),
            Fault::Damage(host) => self.damage(host),
            Fault::StateLost(host) => self.lose_states(host),
            Fault::Replace(host) => self.replace(host),
            Fault::ReplaceLeader => {
                if let Some(leader) = self.leader() {
                    self.replace(leader);
                }
            }
        }
    }

    /// The host that led last.
    fn leader(&self) -> Option<usize> {
        self.index_of(self.watch.newest_leader()?)
    }

    pub(super) fn crash(&mut self, host: usize, downtime: Micros) {
        if let Some(process) = &self.hosts[host].running {
            self.remembered[host].note(&process.node);
        }
        if !self.hosts[host].crash(&mut self.rng, &mut self.counters) {
            return;
        }
        self.break_links(host);
        self.after(downtime, Happening::Start { host });
    }

    /// The process ends in an orderly way, and starts again after a while.
    fn stop(&mut self, host: usize, downtime: Micros) {
        if let Some(process) = &self.hosts[host].running {
            self.remembered[host].note(&process.node);
        }
        if self.hosts[host].stop() {
            self.break_links(host);
        }
        self.after(downtime, Happening::Start { host });
    }

    fn crash_all(&mut self) {
        for host in 0..self.hosts.len() {
            let downtime = Fault::downtime(&mut self.rng);
            self.crash(host, downtime);
        }
        self.counters.count(Event::CrashOfAll);
    }

    fn shake_election(&mut self, voter: usize) {
        let hosts = self.hosts.len();
        for host in 0..hosts {
            self.crash(host, faults::ELECTION_DOWNTIME);
        }
        self.network.heal();
        self.network.delay_max = faults::ELECTION_DELAY_MAX;
        for host in [(voter + 1) % hosts, (voter + 2) % hosts] {
            self.after(2 * faults::ELECTION_DOWNTIME, Happening::Campaign { host });
        }
        let delay = Fault::within_election(&mut self.rng);
        let downtime = faults::ELECTION_DOWNTIME;
        self.after(delay, Happening::Crash { host: voter, downtime });
    }

    fn isolate(&mut self, host: usize) {
        let others = self.hosts.iter().map(|host| host.id);
        faults::isolate(&mut self.network, self.hosts[host].id, others);
        self.counters.count(Event::Partition);
    }

    /// The process stands still; what happens to it meanwhile happens when it goes on.
    fn pause(&mut self, host: usize) {
        if self.hosts[host].is_down() || self.hosts[host].paused_until > self.now {
            return;
        }
        self.counters.count(Event::Pause);
        let standstill = Fault::standstill(&mut self.rng);
        self.hosts[host].paused_until = self.now + standstill;
        let boot = self.hosts[host].boot;
        self.after(standstill, Happening::GoesOn { host, boot });
    }

    /// A process that stood still makes up for a few ticks.
    pub(super) fn catch_up(&mut self, host: usize) {
        for _ in 0..CATCH_UP_TICKS {
            self.input(host, Input::Tick);
        }
    }

    fn fill_disk(&mut self, host: usize) {
        let disk = &self.hosts[host].disk;
        disk.set_quota_bytes(Some(disk.used_bytes() + ROOM_BYTES));
        let shortage = Fault::shortage(&mut self.rng);
        self.after(shortage, Happening::HasRoom { host });
        // Power fails while there is no room, here and where the leader is.
        if self.rng.random_bool(0.5) {
            let leader = self.leader().unwrap_or(host);
            for host in BTreeSet::from([host, leader]) {
                let delay = self.rng.random_range(shortage / 2..shortage);
                let downtime = Fault::downtime(&mut self.rng);
                self.after(delay, Happening::Crash { host, downtime });
            }
        }
    }

    fn leave_behind(&mut self, host: usize) {
        self.network.heal();
        self.isolate(host);
        let delay = self.rng.random_range(STRAGGLE);
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            let delay = delay + self.rng.random_range(0..300_000);
            self.after(delay, Happening::Crash { host: other, downtime: 10_000 });
        }
        self.after(delay + 800_000, Happening::Heal);
    }

    /// The host that may be damaged or replaced now: one at a time, so that a majority stays whole.
    fn frail(&self, wanted: usize) -> Option<usize> {
        let damaged = self.hosts.iter().position(|host| host.was_damaged);
        let replaced = self.operator.replaced_host();
        match (damaged, replaced) {
            (None, None) => Some(wanted),
            (Some(damaged), None) => Some(damaged),
            (_, Some(_)) => None,
        }
    }

    /// A host stops in an orderly way, and its files decay while it is down.
    fn damage(&mut self, host: usize) {
        let Some(host) = self.frail(host) else { return };
        if self.hosts[host].running.is_none() {
            return;
        }
        // What does not fit on a full disk is not written when the process ends.
        self.hosts[host].disk.set_quota_bytes(None);
        let downtime = Fault::downtime(&mut self.rng);
        if let Some(process) = &self.hosts[host].running {
            self.votes[host].clone_from(process.votes());
        }
        self.stop(host, downtime);
        self.owed[host] = self.watch.owed(self.hosts[host].id);
        self.hosts[host].was_damaged = true;
        self.counters.count(Event::Damage);
        for _ in 0..self.rng.random_range(1..3) {
            self.damage_file(host);
        }
        if self.rng.random_bool(0.3) {
            self.hosts[host].states.clear();
        }
    }

    fn damage_file(&mut self, host: usize) {
        let files = self.hosts[host].files();
        let in_dir = |dir: PathBuf, suffix: &str| -> Vec<PathBuf> {
            let names = files.disk.list(&dir).unwrap_or_default();
            names.iter().filter(|n| n.ends_with(suffix)).map(|name| dir.join(name)).collect()
        };
        let segments = in_dir(files.wal_dir(), ".seg");
        let exports = in_dir(files.exports_dir(), ".exp");
        let of_log = exports.is_empty() || self.rng.random_bool(0.6);
        let candidates = if of_log { &segments } else { &exports };
        if candidates.is_empty() {
            return;
        }
        let path = candidates[self.rng.random_range(0..candidates.len())].clone();
        let disk = &self.hosts[host].disk;
        let content = disk.content(&path).expect("a listed file is there");
        if content.is_empty() {
            return;
        }
        // Segments are filled with zeros ahead of their use: what matters comes first.
        let used = content.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        let offset = self.rng.random_range(0..used as u64);
        match self.rng.random_range(0..10) {
            0..6 => disk.flip_bit(&path, offset, self.rng.random_range(0..8)),
            6..8 => disk.truncate(&path, offset),
            // An export where another one should be; a log never goes back in time as a whole.
            _ if !of_log => {
                let other = &exports[self.rng.random_range(0..exports.len())];
                let other = disk.content(other).expect("a listed file is there");
                disk.replace(&path, other)
            }
            _ => disk.break_sector(&path, offset),
        }
        .expect("a listed file is there");
    }

    fn lose_states(&mut self, host: Option<usize>) {
        let hosts = host.map_or(0..self.hosts.len(), |host| host..host + 1);
        for host in hosts {
            let downtime = Fault::downtime(&mut self.rng);
            self.crash(host, downtime);
            if self.hosts[host].is_down() {
                self.counters.count(Event::StateLost);
                self.hosts[host].states.clear();
            }
        }
    }

    /// All faults end.
    pub(super) fn heal(&mut self) {
        self.faults_on = false;
        self.network.heal();
        for host in 0..self.hosts.len() {
            self.hosts[host].live_on();
            self.hosts[host].disk.set_quota_bytes(None);
            self.slow_until[host] = 0;
            let waits = self.operator.keeps_down(host);
            if self.hosts[host].is_down() && !waits {
                self.start(host);
            }
        }
    }
}
