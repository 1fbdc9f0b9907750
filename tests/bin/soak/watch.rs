//! Samples of memory and disk, the table of minutes, and the verdict on growth.

use std::time::Duration;

use jepsen::cluster::Cluster;
use tests::measure::{Failed, MIB, Memory, Promises, Trend, Usage};

use super::load::Minute;
use super::trouble::Fault;

/// A node that was started anew fills its memory first; for so long its memory does not count.
const FILLING: Duration = Duration::from_secs(180);

/// Growth is judged in runs that go on for so long after they have settled: several exports.
const WINDOW_MIN: Duration = Duration::from_secs(15 * 60);

/// One look at one node.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    memory: u64,
    disk: Usage,
    /// Memory counts.
    settled: bool,
}

/// All samples.
#[derive(Debug)]
pub struct Watch {
    /// Per node.
    samples: Vec<Vec<Sample>>,
    /// When each node was last started by a fault.
    restarted: Vec<Option<Duration>>,
    /// Faults since the last row.
    faults: Vec<String>,
}

impl Watch {
    /// Nothing seen yet of so many nodes.
    pub fn new(nodes: usize) -> Self {
        Self { samples: vec![Vec::new(); nodes], restarted: vec![None; nodes], faults: Vec::new() }
    }

    /// Looks at all nodes.
    ///
    /// # Errors
    /// A node does not run.
    pub fn sample(&mut self, at: Duration, cluster: &Cluster) -> Result<(), Failed> {
        for (node, samples) in self.samples.iter_mut().enumerate() {
            let memory = Memory::of_node(cluster, node)?.now;
            let settled = self.restarted[node].is_none_or(|then| at >= then + FILLING);
            samples.push(Sample { at, memory, disk: Usage::of_node(cluster, node)?, settled });
        }
        Ok(())
    }

    /// Notes what was done.
    pub fn note(&mut self, at: Duration, fault: &Fault) {
        self.faults.push(fault.what.clone());
        if let Some(node) = fault.restarted {
            self.restarted[node] = Some(at);
        }
    }

    /// The head of the table.
    pub fn print_head(&self) {
        println!("memory, log, state and exports of each node in MiB, at the end of each minute");
        print!("{:>4} {:>6} {:>7} {:>6}", "min", "ops/s", "p99 ms", "failed");
        for node in 1..=self.samples.len() {
            print!(" | {:>19}", format!("n{node}: mem log st exp"));
        }
        println!(" | fault");
    }

    /// A row: the minute that has passed.
    pub fn print_row(&mut self, minute: Minute) {
        let at = self.samples[0].last().map_or(Duration::ZERO, |sample| sample.at);
        let p99 = minute.times.value_at_quantile(0.99) as f64 / 1_000.0;
        let (ops, failed) = (minute.answered / 60, minute.failed);
        print!("{:>4} {ops:>6} {p99:>7.1} {failed:>6}", at.as_secs().div_ceil(60));
        for sample in self.samples.iter().filter_map(|samples| samples.last()) {
            let Usage { log, state, exports, .. } = sample.disk;
            let [memory, log, state, exports] =
                [sample.memory, log, state, exports].map(|bytes| bytes / MIB);
            print!(" | {memory:>4} {log:>4} {state:>4} {exports:>4}");
        }
        println!(" | {}", std::mem::take(&mut self.faults).join(", "));
    }

    /// Whether memory and disk stayed flat, once `settle` had passed.
    ///
    /// The medians of the first and of the last third are compared: of memory node by node; of disk
    /// for all nodes together, whose logs grow until an export frees them, each at another time.
    ///
    /// A run that is too short to hold several exports says nothing about growth; its medians are
    /// printed without a verdict.
    pub fn judge(&self, settle: Duration, growth_max: f64, promises: &mut Promises) {
        let end = self.samples[0].last().map_or(Duration::ZERO, |sample| sample.at);
        let growth_max = Some(growth_max).filter(|_| end >= settle + WINDOW_MIN);
        for (node, samples) in self.samples.iter().enumerate() {
            let counted = samples.iter().filter(|sample| sample.at > settle && sample.settled);
            let memory: Vec<u64> = counted.map(|sample| sample.memory).collect();
            let what = format!("n{}: growth of memory", node + 1);
            flat(&what, &memory, growth_max, promises);
        }
        let disk: Vec<u64> = (0..self.samples[0].len())
            .filter(|number| self.samples[0][*number].at > settle)
            .map(|number| self.samples.iter().map(|samples| samples[number].disk.total()).sum())
            .collect();
        flat("all nodes: growth of disk", &disk, growth_max, promises);
        let most = self.samples.iter().flatten().map(|sample| sample.disk.total()).max();
        promises.figure("most disk of a node, MiB", most.unwrap_or_default() / MIB);
        let most = self.samples.iter().flatten().map(|sample| sample.memory).max();
        promises.figure("most memory of a node, MiB", most.unwrap_or_default() / MIB);
    }
}

fn flat(what: &str, series: &[u64], growth_max: Option<f64>, promises: &mut Promises) {
    let Some(trend) = Trend::of(series) else {
        let found = format!("{} samples", series.len());
        match growth_max {
            Some(_) => promises.holds(what, &found, "9 samples at least", false),
            None => promises.figure(what, found),
        }
        return;
    };
    let growth = (trend.growth_per_cent() * 10.0).round() / 10.0;
    let medians = format!("{what}, {} to {} MiB", trend.first / MIB, trend.last / MIB);
    match growth_max {
        Some(most) => promises.at_most(&medians, growth, most, "%"),
        None => promises.figure(&medians, format!("{growth} %, too short to judge")),
    }
}
