//! Random schedules: messages lost, repeated and reordered, links cut in one or both directions,
//! nodes stopped with their unsynced writes lost. [`History`](crate::history::History) checks every
//! step; then the faults stop, and the cluster must recover by itself.

use bytes::Bytes;
use consensus::Proposed;
use proto::log::Entry;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::harness::Cluster;
use crate::history::check_logs;

/// Steps with faults.
const STEPS: usize = 4000;
/// Rounds (a tick of every node, then full delivery) in which a healed cluster has to recover: a
/// few elections' worth.
const RECOVERY_ROUNDS: usize = 400;
/// Messages on their way at most; beyond, the network loses new ones, as any network does.
const NETWORK_MESSAGES_MAX: usize = 200;

/// One run.
pub struct Schedule {
    pub cluster: Cluster,
    rng: ChaCha8Rng,
    proposals: u64,
    /// Lies that the gate caught; honest peers tell none but repeated rejections.
    pub refused: usize,
}

impl Schedule {
    pub fn new(voters: u64, learners: u64, seed: u64) -> Self {
        let cluster = Cluster::new(voters, learners, seed);
        Self { cluster, rng: ChaCha8Rng::seed_from_u64(seed), proposals: 0, refused: 0 }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100_u32) < percent
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.rng.random_range(0..end as u64)).unwrap()
    }

    fn any_node(&mut self) -> u64 {
        let ids = self.cluster.ids();
        ids[self.below(ids.len())]
    }

    /// A node that is up, preferably a leader.
    fn some_leader(&mut self) -> Option<u64> {
        let leaders = self.cluster.leaders();
        if leaders.is_empty() || self.chance(5) {
            let node = self.any_node();
            return self.cluster.is_up(node).then_some(node);
        }
        Some(leaders[self.below(leaders.len())])
    }

    pub fn step(&mut self) {
        match self.rng.random_range(0..1000_u32) {
            0..450 => {
                for _ in 0..=self.below(8) {
                    self.deliver();
                }
            }
            450..600 => self.tick(),
            600..800 => self.persist(),
            800..880 => self.propose(),
            880..930 => self.read(),
            930..938 => self.crash(),
            938..970 => self.restart(),
            970..978 => self.transfer(),
            978..984 => self.report_unreachable(),
            984..990 => self.cut(),
            _ => self.cluster.cuts.clear(),
        }
        let excess = self.cluster.network.len().saturating_sub(NETWORK_MESSAGES_MAX);
        self.cluster.network.drain(..excess);
    }

    /// Time passes on most nodes; clocks do not run evenly.
    fn tick(&mut self) {
        for node in self.cluster.ids() {
            if self.cluster.is_up(node) && self.chance(80) {
                self.cluster.tick(node);
            }
        }
    }

    fn deliver(&mut self) {
        if self.cluster.network.is_empty() {
            return;
        }
        // Mostly in order, sometimes any message.
        let last = self.cluster.network.len();
        let position = if self.chance(70) { 0 } else { self.below(last) };
        let envelope = if self.chance(5) {
            self.cluster.network[position].clone()
        } else {
            self.cluster.network.remove(position)
        };
        if self.chance(5) {
            return;
        }
        if let Err(refused) = self.cluster.deliver(envelope) {
            let honest = matches!(refused, consensus::Rejected::RejectsConfirmed { .. });
            assert!(honest, "{refused}");
            self.refused += 1;
        }
    }

    fn persist(&mut self) {
        let node = self.any_node();
        if self.cluster.is_up(node) {
            let unsynced = self.cluster.members[&node].disk.unsynced.len();
            let count = if self.chance(50) { unsynced } else { self.below(unsynced + 1) };
            self.cluster.persist_first(node, count);
        }
    }

    fn propose(&mut self) {
        if let Some(node) = self.some_leader() {
            self.proposals += 1;
            let data = Bytes::from(format!("{}", self.proposals));
            // Refusals are part of the schedule.
            let _ = self.cluster.propose(node, data);
        }
    }

    fn read(&mut self) {
        if let Some(node) = self.some_leader() {
            let _ = self.cluster.read(node);
        }
    }

    fn crash(&mut self) {
        let node = self.any_node();
        if self.cluster.is_up(node) {
            let unsynced = self.cluster.members[&node].disk.unsynced.len();
            let keep = self.below(unsynced + 1);
            self.cluster.crash(node, keep);
        }
    }

    fn restart(&mut self) {
        let node = self.any_node();
        if !self.cluster.is_up(node) {
            let applied = self.cluster.members[&node].applied;
            let kept = self.rng.random_range(0..=applied);
            self.cluster.restart(node, kept).unwrap();
        }
    }

    fn transfer(&mut self) {
        if let Some(node) = self.some_leader() {
            let to = self.any_node();
            self.cluster.transfer(node, to);
        }
    }

    fn report_unreachable(&mut self) {
        if let Some(node) = self.some_leader() {
            let peer = self.any_node();
            self.cluster.unreachable(node, peer);
        }
    }

    fn cut(&mut self) {
        let node = self.any_node();
        let both = self.chance(50);
        for other in self.cluster.ids() {
            if other != node && self.chance(60) {
                self.cluster.cuts.insert((node, other));
                if both {
                    self.cluster.cuts.insert((other, node));
                }
            }
        }
    }

    /// Ends all faults; the cluster must elect a leader, commit something new everywhere and leave
    /// no read unanswered.
    fn recover(&mut self) {
        self.cluster.cuts.clear();
        for node in self.cluster.ids() {
            if !self.cluster.is_up(node) {
                self.cluster.restart(node, 0).unwrap();
            }
        }
        let mut target: Option<Proposed> = None;
        for _ in 0..RECOVERY_ROUNDS {
            for node in self.cluster.ids() {
                self.cluster.tick(node);
            }
            self.quiesce();
            // The first leader may have been deposed long ago: what it took in is lost.
            if let [leader] = *self.cluster.leaders() {
                let term = self.cluster.group(leader).term();
                if target.is_none_or(|proposed| proposed.term < term) {
                    let data = Bytes::from_static(b"recovered");
                    target = self.cluster.propose(leader, data).ok().or(target);
                }
            }
            if target.is_some_and(|proposed| self.all_applied(proposed)) {
                break;
            }
        }
        let proposed = target.expect("a healed cluster elects a leader");
        assert!(self.all_applied(proposed), "a healed cluster commits");
        assert_eq!(self.cluster.history.unanswered(), 0, "every read is answered or lost");
    }

    fn all_applied(&self, proposed: Proposed) -> bool {
        let members = self.cluster.members.values();
        let same_term = |entry: &Entry| entry.term == proposed.term.get();
        let index = proposed.index.get();
        let position = usize::try_from(index).unwrap() - 1;
        members.into_iter().all(|member| {
            member.applied >= index && member.disk.entries.get(position).is_some_and(same_term)
        })
    }

    fn quiesce(&mut self) {
        for _ in 0..50 {
            for node in self.cluster.ids() {
                self.cluster.persist(node);
            }
            for envelope in std::mem::take(&mut self.cluster.network) {
                if let Err(refused) = self.cluster.deliver(envelope) {
                    let honest = matches!(refused, consensus::Rejected::RejectsConfirmed { .. });
                    assert!(honest, "{refused}");
                }
            }
        }
    }
}

/// Runs seeds and says which one failed. Returns what the runs did, so that the test can tell that
/// they did anything.
fn run(seeds: std::ops::Range<u64>, voters: u64, learners: u64) -> [usize; 4] {
    let mut done = [0; 4];
    for seed in seeds {
        let failed = FailedSeed(seed);
        let mut schedule = Schedule::new(voters, learners, seed);
        for step in 0..STEPS {
            schedule.step();
            if step % 100 == 0 {
                check_logs(&schedule.cluster);
            }
        }
        schedule.recover();
        check_logs(&schedule.cluster);
        let history = &schedule.cluster.history;
        let commit = usize::try_from(history.commit()).unwrap();
        for (sum, one) in
            done.iter_mut().zip([commit, history.leaders(), history.answered, history.lost])
        {
            *sum += one;
        }
        std::mem::forget(failed);
    }
    done
}

/// Names the seed when a run panics.
struct FailedSeed(u64);

impl Drop for FailedSeed {
    fn drop(&mut self) {
        eprintln!("failed with seed {}", self.0);
    }
}

fn check_coverage(done: [usize; 4], seeds: usize) {
    let [commits, leaders, answered, lost] = done;
    let shown = format!("{commits} commits, {leaders} leaders, {answered} reads, {lost} lost");
    eprintln!("{seeds} seeds: {shown}");
    assert!(commits > 20 * seeds, "{shown}");
    assert!(leaders > 2 * seeds, "{shown}");
    assert!(answered > 5 * seeds, "{shown}");
    assert!(lost > 0, "{shown}");
}

#[test]
fn three_voters() {
    check_coverage(run(0..400, 3, 0), 400);
}

#[test]
fn five_voters() {
    check_coverage(run(1000..1200, 5, 0), 200);
}

#[test]
fn two_voters_and_a_learner() {
    check_coverage(run(2000..2100, 2, 1), 100);
}

/// A lone voter elects itself without asking anyone: the case in which a leader's messages have to
/// wait for its own disk.
#[test]
fn one_voter_and_two_learners() {
    let [commits, leaders, answered, _] = run(3000..3100, 1, 2);
    assert!(commits > 2000 && leaders > 200 && answered > 200, "{commits} {leaders} {answered}");
}
