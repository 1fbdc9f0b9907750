//! What a nemesis works with while it strikes.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;

use super::fault::Fault;
use super::field::Field;
use super::kind::NemesisKind;

/// A nemesis at work.
#[derive(Debug)]
pub struct Strike<'f> {
    /// Who strikes.
    pub kind: NemesisKind,
    /// Its own choices.
    pub rng: ChaCha8Rng,
    /// How often it has struck.
    pub count: usize,
    /// What is shared.
    pub field: &'f Field,
    /// True once the run ends: waits end early then.
    pub stop: watch::Receiver<bool>,
}

impl Strike<'_> {
    /// A random node.
    pub fn random_node(&mut self) -> usize {
        self.rng.random_range(0..self.field.nodes)
    }

    /// The node that leads, or a random one if nobody answers or knows.
    pub async fn leader(&mut self) -> usize {
        let random = self.random_node();
        self.field.leader().await.unwrap_or(random)
    }

    /// Notes what is about to be done, and returns its number.
    pub fn note(&mut self, what: &'static str, nodes: &[usize], place: &str) -> usize {
        self.count += 1;
        self.field.faults.begin(Fault {
            nemesis: self.kind,
            what,
            nodes: nodes.iter().map(|&node| self.field.names[node].clone()).collect(),
            place: place.to_owned(),
            begin_ns: self.field.recorder.now_ns(),
            end_ns: None,
            effects: None,
        })
    }

    /// Notes that all is as it was.
    pub fn over(&self, fault: usize, effects: Option<u64>) {
        self.field.faults.end(fault, self.field.recorder.now_ns(), effects);
    }

    /// Lets some time pass, in milliseconds, or less if the run ends.
    pub async fn wait(&mut self, range_ms: std::ops::Range<u64>) {
        let time = Duration::from_millis(self.rng.random_range(range_ms));
        self.rest(time).await;
    }

    /// Lets this time pass, or less if the run ends.
    pub async fn rest(&mut self, time: Duration) {
        // It makes no difference whether the time was over or the run, or its sender is gone.
        let _ = tokio::time::timeout(time, self.stop.wait_for(|stop| *stop)).await;
    }
}
