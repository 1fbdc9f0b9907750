//! What one process of a workload does, and how it is driven.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use client::{CallOptions, Client, ClientError};
use proto::{Applied, v1};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::load::Load;
use crate::error::LabError;
use crate::recorder::{Open, Process, Recorder};
use crate::target::Target;

/// How long a process pauses after an operation that found no one to talk to. Without it an
/// unreachable node would fill the history with failures.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

/// A step that is under way; true if somebody answered.
pub type Step<'s> = Pin<Box<dyn Future<Output = bool> + Send + 's>>;

/// One process of a workload.
pub trait Script: Send {
    /// Makes what the operations work on, before any of them. Repeated until it succeeds; may find it
    /// made. Nothing of it is recorded.
    fn prepare<'s>(&'s mut self, _hand: &'s mut Hand) -> Step<'s> {
        Box::pin(std::future::ready(true))
    }

    /// Does and records one operation.
    fn step<'s>(&'s mut self, hand: &'s mut Hand) -> Step<'s>;

    /// How many looks it takes at the end to see the whole state.
    fn looks(&self) -> usize;

    /// Reads and records a part of the state; false if that failed. It is taken again as well if anything
    /// that it recorded did not succeed.
    fn look<'s>(&'s mut self, hand: &'s mut Hand, number: usize) -> Step<'s>;
}

/// What a script works with.
#[derive(Debug)]
pub struct Hand {
    /// Its client: half of the processes talk to one node only, so that every node is asked even
    /// while another one leads; the others know all nodes.
    pub client: Client,
    /// A client for each node alone.
    pub each: Vec<Client>,
    /// Under whose name operations are recorded.
    pub process: Process,
    /// Its choices.
    pub rng: ChaCha8Rng,
    /// The level of its reads.
    pub options: CallOptions,
    /// The name of that level.
    pub level: &'static str,
}

impl Hand {
    fn new(
        load: &Load,
        number: usize,
        target: &dyn Target,
        recorder: &Recorder,
    ) -> Result<Self, LabError> {
        let all = target.endpoints();
        let endpoints = Load::endpoints_of(number, all.clone());
        let each = all.into_iter().map(|endpoint| target.client(vec![endpoint], load.timeout));
        Ok(Self {
            client: target.client(endpoints, load.timeout)?,
            each: each.collect::<Result<_, _>>()?,
            process: recorder.process(),
            rng: load.rng_of(number),
            options: at_level(load.level.wire()),
            level: load.level.as_str(),
        })
    }

    /// One for the looks at the end: it knows all nodes and reads at the strongest level.
    fn last(load: &Load, target: &dyn Target, recorder: &Recorder) -> Result<Self, LabError> {
        let mut hand = Self::new(load, 0, target, recorder)?;
        hand.client = target.client(target.endpoints(), load.timeout)?;
        hand.options = at_level(v1::Level::Linearizable);
        hand.level = "linearizable";
        Ok(hand)
    }
}

fn at_level(level: v1::Level) -> CallOptions {
    CallOptions { level: Some(level), ..CallOptions::default() }
}

/// Records a failed read, which had no effect whatever happened. False if nobody answered.
pub fn read_failed(open: Open<'_>, error: &ClientError) -> bool {
    open.fail(error.to_string());
    answered(error)
}

/// Records a failed write by what is certain about it. False if nobody answered.
pub fn write_failed(open: Open<'_>, error: &ClientError) -> bool {
    match error.applied() {
        Some(Applied::No) => open.fail(error.to_string()),
        // Applied at some time, but nobody knows its revision: also told by an unknown outcome.
        Some(Applied::Yes | Applied::Unknown) | None => open.info(error.to_string()),
    }
    answered(error)
}

/// Whether somebody answered, if only to refuse.
pub fn answered(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused(_))
}

/// Makes the scripts of the processes.
pub type Make<'m> = &'m dyn Fn() -> Box<dyn Script>;

/// Starts the processes, once the first one has prepared everything. They run until the operations are
/// used up or `stop` becomes true.
///
/// # Errors
///
/// [`LabError::Parameters`] for nonsense or if the state cannot be prepared within `patience`,
/// [`LabError::Client`] if a client cannot be set up.
pub async fn start(
    make: Make<'_>,
    load: &Load,
    target: &dyn Target,
    recorder: &Recorder,
    stop: &watch::Receiver<bool>,
    patience: Duration,
) -> Result<JoinSet<()>, LabError> {
    let mut hands = Vec::new();
    for number in 0..load.clients {
        hands.push((make(), Hand::new(load, number, target, recorder)?));
    }
    let mut last = Hand::last(load, target, recorder)?;
    let deadline = Instant::now() + patience;
    let mut first = make();
    while !first.prepare(&mut last).await {
        if Instant::now() >= deadline {
            let why = format!("the workload cannot be prepared within {patience:?}");
            return Err(LabError::Parameters(why));
        }
        sleep(PAUSE_AFTER_FAILURE).await;
    }
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for (script, hand) in hands {
        tasks.spawn(run(script, hand, load.clone(), Arc::clone(&done), stop.clone()));
    }
    Ok(tasks)
}

async fn run(
    mut script: Box<dyn Script>,
    mut hand: Hand,
    load: Load,
    done: Arc<AtomicUsize>,
    mut stop: watch::Receiver<bool>,
) {
    // An operation that has begun is finished, so that few outcomes stay unknown.
    while !*stop.borrow() && done.fetch_add(1, Ordering::Relaxed) < load.operations_max {
        let reached = script.step(&mut hand).await;
        let pause = if reached { load.think } else { PAUSE_AFTER_FAILURE };
        tokio::select! {
            () = sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

/// Reads the whole state after the faults have ended, repeating until it succeeds. What was lost shows
/// here at the latest.
///
/// # Errors
///
/// [`LabError::Parameters`] if it cannot be read within `patience`: the cluster did not recover.
pub async fn finish(
    make: Make<'_>,
    load: &Load,
    target: &dyn Target,
    recorder: &Recorder,
    patience: Duration,
) -> Result<(), LabError> {
    let mut script = make();
    let mut hand = Hand::last(load, target, recorder)?;
    let deadline = Instant::now() + patience;
    for number in 0..script.looks() {
        while !look(script.as_mut(), &mut hand, number).await {
            if Instant::now() >= deadline {
                let why = format!("the state cannot be read within {patience:?} after all faults");
                return Err(LabError::Parameters(why));
            }
            sleep(PAUSE_AFTER_FAILURE).await;
        }
    }
    Ok(())
}

/// Takes a look. False if anything of it was not recorded as ok: who refuses has answered, and shown nothing.
async fn look(script: &mut dyn Script, hand: &mut Hand, number: usize) -> bool {
    let before = hand.process.not_ok();
    script.look(hand, number).await && hand.process.not_ok() == before
}

#[cfg(test)]
mod tests {
    use client::pki;

    use super::*;
    use crate::operation::{Call, Outcome};
    use crate::target::Given;

    /// Is refused at its first look, which is an answer.
    #[derive(Default)]
    struct RefusedOnce {
        was_refused: bool,
    }

    impl Script for RefusedOnce {
        fn step<'s>(&'s mut self, _hand: &'s mut Hand) -> Step<'s> {
            Box::pin(std::future::ready(true))
        }

        fn looks(&self) -> usize {
            1
        }

        fn look<'s>(&'s mut self, hand: &'s mut Hand, _number: usize) -> Step<'s> {
            let open = hand.process.invoke(Call::read("k"));
            if std::mem::replace(&mut self.was_refused, true) {
                open.ok(|_| {});
            } else {
                open.fail("refused");
            }
            Box::pin(std::future::ready(true))
        }
    }

    fn refused_once() -> Box<dyn Script> {
        Box::new(RefusedOnce::default())
    }

    #[tokio::test]
    async fn a_look_that_was_refused_is_taken_again() {
        let day = Duration::from_secs(86_400);
        let home = tempfile::tempdir().unwrap();
        pki::init_ca(home.path(), None, day).unwrap();
        pki::issue_client(home.path(), "lab", day).unwrap();
        let file = |name: &str| home.path().join(name);
        let target = Given {
            endpoints: vec!["127.0.0.1:1".to_owned()],
            ca: file("ca.crt"),
            cert: file("lab.crt"),
            key: file("lab.key"),
            keyspace: None,
        };
        let (recorder, load) = (Recorder::new(), Load::default());
        let patience = Duration::from_secs(60);
        finish(&refused_once, &load, &target, &recorder, patience).await.unwrap();
        let outcomes: Vec<Outcome> = recorder.take().iter().map(|read| read.outcome).collect();
        assert_eq!(outcomes, [Outcome::Fail, Outcome::Ok]);
    }
}
