//! Random schedules: messages lost, repeated and reordered, links cut in one or both directions,
//! nodes stopped with their unsynced writes lost, logs freed in memory and on disk, snapshots in
//! place of what was freed, members added and removed. [`History`](crate::history::History) checks every
//! step; then the faults stop, and the cluster must recover by itself.

use bytes::Bytes;
use consensus::config::SNAPSHOT_PATIENCE_TICKS;
use consensus::{Proposed, Rejected};
use proto::log::conf_change_step::Kind;
use proto::log::{ConfChange, ConfChangeStep, Entry};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::harness::Cluster;
use crate::history::check_logs;

/// Steps with faults.
const STEPS: usize = 4000;
/// Rounds (a tick of every node, then full delivery) in which a healed cluster has to recover: a
/// few elections' worth, and the time after which a leader gives up a snapshot that was lost.
const RECOVERY_ROUNDS: u64 = 800 + SNAPSHOT_PATIENCE_TICKS;
/// Messages on their way at most; beyond, the network loses new ones, as any network does.
const NETWORK_MESSAGES_MAX: usize = 200;

/// Nodes at most, those that were removed included.
const NODES_MAX: usize = 7;

/// One run.
pub struct Schedule {
    pub cluster: Cluster,
    /// Members are added and removed.
    changing: bool,
    rng: ChaCha8Rng,
    proposals: u64,
    /// Lies that the gate caught; honest peers tell none but repeated rejections.
    pub refused: usize,
}

impl Schedule {
    pub fn new(voters: u64, learners: u64, seed: u64) -> Self {
        let cluster = Cluster::new(voters, learners, seed);
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { cluster, changing: false, rng, proposals: 0, refused: 0 }
    }

    pub fn changing(self) -> Self {
        Self { changing: true, ..self }
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
        match self.rng.random_range(0..1060_u32) {
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
            990..1000 => self.cluster.cuts.clear(),
            1000..1015 => self.free(),
            1015..1035 => self.name_snapshot(),
            1035..1037 => self.fail_snapshot(),
            _ if self.changing => self.change_members(),
            _ => {}
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
            self.check_refusal(&refused);
            self.refused += 1;
        }
    }

    /// What honest peers may be refused.
    fn check_refusal(&self, refused: &Rejected) {
        let honest = match refused {
            Rejected::RejectsConfirmed { .. } => true,
            Rejected::NotMember { .. } => self.changing,
            _ => false,
        };
        assert!(honest, "{refused}");
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
            let disk = &self.cluster.members[&node].disk;
            let kept = self.rng.random_range(disk.log.start..=disk.state);
            self.cluster.restart(node, kept).unwrap();
        }
    }

    /// Frees a log, in memory or on disk.
    fn free(&mut self) {
        let node = self.any_node();
        let member = &self.cluster.members[&node];
        if self.cluster.is_up(node) && self.rng.random_range(0..2_u32) == 0 {
            let applied = self.cluster.group(node).status().applied.get();
            let index = self.rng.random_range(0..=applied);
            self.cluster.compact(node, index);
        } else {
            let index = self.rng.random_range(0..=member.disk.state);
            self.cluster.free(node, index);
        }
    }

    /// Mostly where one is wanted, sometimes anywhere, and sometimes there is none.
    fn name_snapshot(&mut self) {
        let Some(node) = self.some_leader() else { return };
        let applied = self.cluster.group(node).status().applied.get();
        let wanted = self.cluster.group(node).snapshot_wanted().map_or(1, |index| index.get());
        if self.chance(10) || wanted > applied {
            self.cluster.snapshot(node, None);
        } else {
            let from = if self.chance(80) { wanted } else { 1 };
            let index = self.rng.random_range(from..=applied);
            self.cluster.snapshot(node, Some(index));
        }
    }

    fn fail_snapshot(&mut self) {
        if let Some(node) = self.some_leader() {
            let to = self.any_node();
            self.cluster.snapshot_failed(node, to);
        }
    }

    /// Proposes that one or two nodes become anything. Nodes never seen before join first.
    fn change_members(&mut self) {
        let Some(leader) = self.some_leader() else { return };
        let mut steps: Vec<ConfChangeStep> = Vec::new();
        for _ in 0..=usize::from(self.chance(30)) {
            let ids = self.cluster.ids();
            let node = if ids.len() < NODES_MAX && self.chance(10) {
                let fresh = ids.last().unwrap() + 1;
                self.cluster.join(fresh);
                fresh
            } else {
                self.any_node()
            };
            let kinds = [Kind::AddVoter, Kind::AddVoter, Kind::AddLearner, Kind::Remove];
            let kind = kinds[self.below(kinds.len())] as i32;
            steps.push(ConfChangeStep { kind, node });
        }
        // Many are impossible, or come at a wrong time.
        let _ = self.cluster.change(leader, ConfChange { steps, change: 0 });
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
                let start = self.cluster.members[&node].disk.log.start;
                self.cluster.restart(node, start).unwrap();
            }
        }
        let mut target: Option<Proposed> = None;
        for _ in 0..RECOVERY_ROUNDS {
            for node in self.cluster.ids() {
                self.cluster.tick(node);
            }
            self.quiesce();
            self.serve_snapshots();
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
        let groups = || self.cluster.members.values().filter_map(|member| member.group.as_ref());
        let statuses =
            || groups().map(|group| format!("{:?}\n", group.status())).collect::<String>();
        assert!(target.is_some(), "a healed cluster elects a leader:\n{}", statuses());
        let proposed = target.expect("asserted above");
        assert!(
            self.all_applied(proposed),
            "a healed cluster commits {proposed:?}:\n{}",
            statuses()
        );
        assert_eq!(self.cluster.history.unanswered(), 0, "every read is answered or lost");
    }

    fn all_applied(&self, proposed: Proposed) -> bool {
        let same_term = |entry: &Entry| entry.term == proposed.term.get();
        let index = proposed.index.get();
        // Those who left in the meantime need not have heard.
        let history = &self.cluster.history;
        let (conf, _) = history.members_at(history.commit());
        [conf.voters, conf.voters_outgoing, conf.learners].iter().flatten().all(|id| {
            let member = &self.cluster.members[id];
            let held =
                member.disk.log.start >= index || member.disk.log.get(index).is_some_and(same_term);
            member.applied >= index && held
        })
    }

    /// What the nodes around the groups do: whoever wants a snapshot gets one.
    fn serve_snapshots(&mut self) {
        for leader in self.cluster.leaders() {
            let group = self.cluster.group(leader);
            let applied = group.status().applied;
            if group.snapshot_wanted().is_some_and(|wanted| wanted <= applied) {
                self.cluster.snapshot(leader, Some(applied.get()));
            }
        }
    }

    fn quiesce(&mut self) {
        for _ in 0..50 {
            for node in self.cluster.ids() {
                self.cluster.persist(node);
            }
            for envelope in std::mem::take(&mut self.cluster.network) {
                if let Err(refused) = self.cluster.deliver(envelope) {
                    self.check_refusal(&refused);
                }
            }
        }
    }
}

/// What runs did, so that a test can tell that they did anything.
#[derive(Debug, Default)]
struct Done {
    commits: usize,
    leaders: usize,
    answered: usize,
    lost: usize,
    installed: usize,
    member_changes: usize,
}

/// Runs seeds and says which one failed.
fn run(seeds: std::ops::Range<u64>, schedule: impl Fn(u64) -> Schedule) -> Done {
    let mut done = Done::default();
    for seed in seeds {
        let failed = FailedSeed(seed);
        let mut schedule = schedule(seed);
        for step in 0..STEPS {
            schedule.step();
            if step % 100 == 0 {
                check_logs(&schedule.cluster);
            }
        }
        schedule.recover();
        check_logs(&schedule.cluster);
        let history = &schedule.cluster.history;
        done.commits += usize::try_from(history.commit()).unwrap();
        done.leaders += history.leaders();
        done.answered += history.answered;
        done.lost += history.lost;
        done.installed += history.installed;
        done.member_changes += history.member_changes();
        std::mem::forget(failed);
    }
    eprintln!("{done:?}");
    done
}

/// Names the seed when a run panics.
struct FailedSeed(u64);

impl Drop for FailedSeed {
    fn drop(&mut self) {
        eprintln!("failed with seed {}", self.0);
    }
}

fn check_coverage(done: &Done, seeds: usize) {
    assert!(done.commits > 20 * seeds, "{done:?}");
    assert!(done.leaders > 2 * seeds, "{done:?}");
    assert!(done.answered > 5 * seeds, "{done:?}");
    assert!(done.lost > 0, "{done:?}");
    assert!(done.installed > 0, "{done:?}");
}

#[test]
fn three_voters() {
    check_coverage(&run(0..400, |seed| Schedule::new(3, 0, seed)), 400);
}

#[test]
fn five_voters() {
    check_coverage(&run(1000..1200, |seed| Schedule::new(5, 0, seed)), 200);
}

#[test]
fn two_voters_and_a_learner() {
    check_coverage(&run(2000..2100, |seed| Schedule::new(2, 1, seed)), 100);
}

/// A lone voter elects itself without asking anyone: the case in which a leader's messages have to
/// wait for its own disk.
#[test]
fn one_voter_and_two_learners() {
    let done = run(3000..3100, |seed| Schedule::new(1, 2, seed));
    assert!(done.commits > 2000 && done.leaders > 200 && done.answered > 200, "{done:?}");
}

/// B34 to B36 with every other fault mixed in: whatever the order of changes, crashes and
/// elections, a term has one leader and what is committed stays.
#[test]
fn b34_b35_b36_members_change_from_three() {
    let done = run(4000..4300, |seed| Schedule::new(3, 0, seed).changing());
    check_coverage(&done, 300);
    assert!(done.member_changes > 3 * 300, "{done:?}");
}

/// The sizes at which one node's mistake is a majority's.
#[test]
fn b35_members_change_from_one() {
    let done = run(5000..5200, |seed| Schedule::new(1, 0, seed).changing());
    check_coverage(&done, 200);
    assert!(done.member_changes > 3 * 200, "{done:?}");
}
