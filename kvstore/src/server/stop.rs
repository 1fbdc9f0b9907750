//! The end of a server.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::Instrument;

use super::{Booted, NodeState, Server};
use crate::rpc::front::{Front, Stage};
use crate::shell::NodeHandle;

/// For handing over leadership. Another member answers within a round trip; without a quorum
/// nobody does.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked at whether it was.
const LOOK_PERIOD: Duration = Duration::from_millis(20);
/// For another node to have what this one took in eventual keyspaces. Nothing is waited for where that is known.
const REPLICATION_PATIENCE: Duration = Duration::from_secs(5);
/// Questions without an answer after which a node that has something to hand on is taken to have stopped. One that has not
/// said so is asked once.
const SILENT_MAX: u32 = 3;
/// For what is inside the node to be answered.
const DRAIN_PATIENCE: Duration = Duration::from_millis(1_000);
/// For the threads of the node: a last fdatasync and a seal.
const THREADS_PATIENCE: Duration = Duration::from_millis(1_500);
/// For the last replies to leave.
const REPLIES_PATIENCE: Duration = Duration::from_millis(500);
/// For the links to the peers.
const LINKS_PATIENCE: Duration = Duration::from_millis(300);

impl Server {
    /// Stops politely. Takes less than five seconds, whatever the state of disk and quorum; and up to
    /// `REPLICATION_PATIENCE` more while no other node has what this one took in eventual keyspaces.
    pub async fn stop(self) {
        let span = self.span.clone();
        self.stop_inside().instrument(span).await;
    }

    async fn stop_inside(self) {
        let Self {
            front, admission, network, node, stop_repair, rpc, stop_rpc, background, ..
        } = self;
        stop_repair.store(true, Ordering::Release);
        front.set_stage(Stage::Stopping);
        // An end that is gone has stopped already.
        let _ = stop_rpc.send(());
        if let Some(Booted { shell, data_dir }) = booted_of(node).await {
            shell.prepare_stop();
            hand_over(&shell.handle(), &front).await;
            if timeout(DRAIN_PATIENCE, admission.drained()).await.is_err() {
                tracing::warn!(requests = admission.requests(), "stopping with open requests");
            }
            // All that was acknowledged is known now.
            hand_on(&shell.handle()).await;
            let stopped = tokio::task::spawn_blocking(move || shell.stop());
            if timeout(THREADS_PATIENCE, stopped).await.is_err() {
                tracing::warn!("the threads of the node are stuck; leaving them");
                // They may still write: nobody else gets the directory before the process ends.
                std::mem::forget(data_dir);
            }
        }
        // Connections that stay open, such as health watchers, are cut by the end of the process.
        let _ = timeout(REPLIES_PATIENCE, rpc).await;
        if timeout(LINKS_PATIENCE, network.shutdown()).await.is_err() {
            tracing::debug!("links to peers were cut");
        }
        for task in background {
            task.abort();
        }
        tracing::info!("stopped");
    }
}

/// What runs, if the start has come that far. A start in progress is given up: it leaves nothing
/// behind that the next start does not expect. If it is stuck on the disk, it keeps the directory
/// locked until it is through, or the process ends.
async fn booted_of(node: NodeState) -> Option<Booted> {
    match node {
        NodeState::Running(booted) => Some(booted),
        NodeState::Failed => None,
        NodeState::Booting(booting) => {
            booting.abort();
            booting.await.ok().and_then(Result::ok)
        }
    }
}

/// Waits until another member leads, where there is one that could.
async fn hand_over(handle: &NodeHandle, front: &Front) {
    let mut summaries = handle.summaries();
    let handed_over = async {
        let mut look = tokio::time::interval(LOOK_PERIOD);
        loop {
            look.tick().await;
            let led = summaries.borrow_and_update().groups_led;
            if led == 0 || !front.peers().iter().any(|peer| peer.connected) {
                return;
            }
        }
    };
    if timeout(HAND_OVER_PATIENCE, handed_over).await.is_err() {
        tracing::info!("leadership was not handed over in time");
    }
}

/// Waits until another node has every write that was taken here and acknowledged, or says how many none is known to
/// have. Those are on this disk and spread with the next start; they are gone if the disk is lost before.
async fn hand_on(handle: &NodeHandle) {
    let deadline = Instant::now() + REPLICATION_PATIENCE;
    let mut look = tokio::time::interval(LOOK_PERIOD);
    let (mut told, mut silent) = (false, 0);
    loop {
        look.tick().await;
        let Ok(summary) = handle.summary().await else {
            // A node that has stopped hands on nothing; one that has something and is busy answers the next time.
            silent += 1;
            if !told || silent == SILENT_MAX || Instant::now() >= deadline {
                return;
            }
            continue;
        };
        silent = 0;
        let writes = summary.gossip.map_or(0, |gossip| gossip.unreplicated);
        if writes == 0 {
            return;
        }
        if Instant::now() >= deadline {
            let why = "stopping with acknowledged writes of eventual keyspaces that no other node is known to have";
            return tracing::warn!(writes, "{why}");
        }
        if !std::mem::replace(&mut told, true) {
            let seconds = REPLICATION_PATIENCE.as_secs();
            tracing::info!(writes, seconds, "waiting until another node has what was taken here");
        }
    }
}
