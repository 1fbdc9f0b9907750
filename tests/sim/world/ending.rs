//! What must hold once all faults have ended.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use super::super::counters::Event;
use super::super::{Outcome, oracle};
use super::World;

impl World {
    /// Clients are done, no machine is being repaired or replaced, and all nodes show the same and have the
    /// same secrets.
    pub(super) fn converged(&self) -> bool {
        if !self.clients_done() || self.operator.replaced_host().is_some() {
            return false;
        }
        let applied = self.hosts[0].applied();
        applied.is_some()
            && self.hosts.iter().all(|host| {
                host.applied() == applied
                    && host.running.as_ref().is_some_and(|process| process.node.ready())
            })
            && self.keyspaces_settled()
            && self.secrets_shared()
    }

    /// Every node has the secrets of the cluster, the same ones, whatever became of who drew them.
    fn secrets_shared(&self) -> bool {
        let held = |host: &super::Host| host.running.as_ref()?.node.secrets();
        let first = held(&self.hosts[0]);
        first.is_some() && self.hosts.iter().all(|host| held(host) == first)
    }

    /// Every keyspace that was created and not removed is there.
    fn keyspaces_settled(&self) -> bool {
        let Some(process) = &self.hosts[0].running else { return false };
        let held: BTreeSet<String> =
            process.node.machine().keyspaces().map(|info| info.descriptor.name).collect();
        self.operator.keyspaces().iter().all(|name| held.contains(name))
    }

    /// All nodes show the same state, and the history is explained by the log.
    pub(super) fn finish(mut self) -> Outcome {
        for host in 0..self.hosts.len() {
            self.look_at(host);
        }
        let states: Vec<_> = self
            .hosts
            .iter()
            .filter_map(|host| host.running.as_ref())
            .map(|process| process.node.machine())
            .map(|machine| {
                (machine.applied(), machine.digest().expect("the simulated store works"))
            })
            .collect();
        states.hash(&mut self.trace);
        self.check_state_dirs();
        let converged = self.violations.is_empty();
        let applied = states.iter().map(|(applied, _)| applied.get()).max().unwrap_or_default();
        // After another violation the log need not be whole.
        if converged {
            match self.watch.log_up_to(applied) {
                Ok(entries) => self.judge(&entries),
                Err(what) => self.violate(what),
            }
        }
        self.counters.simulated = self.now;
        Outcome {
            seed: self.plan.seed,
            violations: self.violations,
            counters: self.counters,
            trace: self.trace.finish(),
        }
    }

    /// A node that has nothing to do has the state directories that it uses, and no other.
    fn check_state_dirs(&mut self) {
        let stray =
            self.hosts.iter().filter_map(|host| host.running.as_ref()).find_map(|process| {
                let dirs = process.state_dirs_at_rest()?;
                let used = [process.node.state_dir(), process.node.own().state_dir()];
                (dirs != used).then_some(dirs)
            });
        if let Some(dirs) = stray {
            self.violate(format!("a node at rest has the state directories {dirs:?}"));
        }
    }

    fn judge(&mut self, entries: &[proto::log::Entry]) {
        let judged = oracle::judge(&self.history, entries);
        self.counters.add(Event::Eviction, judged.evictions);
        self.counters.add(Event::Compaction, judged.events.compactions);
        self.violations.extend(judged.violations);
        let held = |host: &super::Host| -> Option<BTreeSet<String>> {
            let machine = host.running.as_ref()?.node.machine();
            Some(machine.keyspaces().map(|info| info.descriptor.name).collect())
        };
        let different = |held: &BTreeSet<String>| *held != judged.keyspaces;
        if self.violations.is_empty()
            && let Some(held) = self.hosts.iter().filter_map(held).find(different)
        {
            let expected = &judged.keyspaces;
            self.violate(format!("keyspaces {held:?} instead of {expected:?}"));
        }
    }
}
