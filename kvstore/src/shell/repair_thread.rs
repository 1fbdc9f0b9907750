//! Driving a repair: the links and files around [`Repair`].

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use proto::{GroupId, NodeId};
use storage::export::ExportFile;

use super::Mailbox;
use super::event::Event;
use super::node_thread::SendToPeer;
use super::ticker::Ticker;
use crate::durable::{DataFiles, Receiver};
use crate::node::{Input, Repair, RepairEffect, RepairInput};

/// For how long a node looks for a leader that repairs it, at most.
pub const REPAIR_PATIENCE: Duration = Duration::from_secs(300);

/// How a repair ended.
#[derive(Debug)]
pub enum Repaired {
    /// The exports to begin with.
    Fetched(BTreeMap<GroupId, ExportFile>),
    /// No leader gave everything in time.
    NoLeader,
    /// The process stops.
    Stopped,
}

/// Fetches an export of each group. Blocks; returns soon after `stop` is set.
pub fn repair(
    files: &DataFiles,
    groups: Vec<GroupId>,
    mailbox: &Mailbox,
    send: &SendToPeer,
    stop: &AtomicBool,
) -> Repaired {
    let begin = Instant::now();
    let mut driver = Driver {
        repair: Repair::new(groups, rand::random()),
        receiver: Receiver::new(files.clone()),
        send,
        up: BTreeSet::new(),
    };
    let mut ticker = Ticker::new(consensus::config::TICK, Instant::now());
    let outcome = loop {
        if stop.load(Ordering::Acquire) {
            break Repaired::Stopped;
        }
        if let Some(exports) = driver.repair.done() {
            break Repaired::Fetched(exports);
        }
        if begin.elapsed() > REPAIR_PATIENCE {
            break Repaired::NoLeader;
        }
        match mailbox.receiver.recv_timeout(ticker.wait(Instant::now())) {
            Ok(event) => driver.take(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break Repaired::Stopped,
        }
        for _ in 0..ticker.take(Instant::now()) {
            driver.step(RepairInput::Tick);
        }
    };
    // The node that starts now hears of the links that are up.
    for node in driver.up {
        mailbox.inbox.link(node, true);
    }
    outcome
}

struct Driver<'a> {
    repair: Repair,
    receiver: Receiver,
    send: &'a SendToPeer,
    up: BTreeSet<NodeId>,
}

impl Driver<'_> {
    fn take(&mut self, event: Event) {
        match event {
            Event::Input(Input::LinkUp(node)) => {
                self.up.insert(node);
                self.step(RepairInput::LinkUp(node));
            }
            Event::Input(Input::LinkDown(node)) => {
                self.up.remove(&node);
                self.step(RepairInput::LinkDown(node));
            }
            Event::Peer { from, message, room } => {
                self.step(RepairInput::Peer(from, Box::new(message)));
                drop(room);
            }
            // Nobody else speaks to a node that is not there yet.
            Event::Input(_) | Event::Call { .. } | Event::Summarise(_) | Event::Shutdown => {}
        }
    }

    /// Steps the repair and does what it wants done, which may lead to further steps.
    fn step(&mut self, input: RepairInput) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for effect in self.repair.step(input) {
                inputs.extend(self.act(effect));
            }
        }
    }

    fn act(&mut self, effect: RepairEffect) -> Option<RepairInput> {
        match effect {
            RepairEffect::Send(to, message) => (self.send)(to, *message),
            RepairEffect::Receive(group, index, bytes, sha256) => {
                if let Err(why) = self.receiver.begin(group, index, bytes, sha256) {
                    tracing::warn!(%group, why, "what was lost cannot be received");
                }
            }
            RepairEffect::WriteChunk(group, index, offset, data) => {
                match self.receiver.write(group, index, offset, &data) {
                    Ok(true) => return Some(RepairInput::ChunkWritten(group, index, offset)),
                    Ok(false) => {}
                    Err(why) => tracing::warn!(%group, why, "what was lost cannot be written"),
                }
            }
            RepairEffect::Finish(group, index) => {
                let result = self.receiver.finish(group, index);
                return Some(RepairInput::Finished(group, Box::new(result)));
            }
            RepairEffect::Discard(group) => self.receiver.discard(group),
        }
        None
    }
}
