//! What has to wait for the disk before it leaves the node.

use std::collections::VecDeque;

use proto::peer::peer_message::Body;
use proto::{Failure, LogIndex, NodeId};

use super::GROUP;
use crate::node::RequestId;
use crate::replication::{Answered, Outbox};

/// Messages and answers in the order in which they were decided, with the entry of the own log that each waits for.
///
/// Invariant: what is added may tell of all that was appended before, so it waits for the newest entry at least.
#[derive(Debug, Default)]
pub(super) struct Held {
    closed: VecDeque<(LogIndex, Batch)>,
    /// What the next entry is not decided for yet.
    open: Batch,
    newest: LogIndex,
    /// Bytes of answers that wait.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Batch {
    sends: Vec<(NodeId, Body)>,
    answers: Vec<(RequestId, Result<Answered, Failure>)>,
}

impl Held {
    /// Nothing waits, behind a log whose newest entry this is.
    pub(super) fn starting(newest: LogIndex) -> Self {
        Self { newest, ..Self::default() }
    }

    /// Bytes of answers to reads that wait for the disk.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an answer to a read, of so many bytes.
    pub(super) fn answer_read(
        &mut self,
        id: RequestId,
        answer: Result<Answered, Failure>,
        bytes: usize,
    ) {
        self.bytes += bytes;
        self.open.answers.push((id, answer));
    }

    pub(super) fn send(&mut self, sends: impl Iterator<Item = (NodeId, Body)>) {
        self.open.sends.extend(sends);
    }

    pub(super) fn answer(
        &mut self,
        answers: impl IntoIterator<Item = (RequestId, Result<Answered, Failure>)>,
    ) {
        self.open.answers.extend(answers);
    }

    /// What was added since belongs to this entry.
    pub(super) fn close(&mut self, index: LogIndex) {
        self.newest = index;
        self.closed.push_back((index, std::mem::take(&mut self.open)));
    }

    /// The newest entry that anything waits for.
    pub(super) const fn newest(&self) -> LogIndex {
        self.newest
    }

    /// Lets go what waited for entries up to `applied`.
    pub(super) fn release(&mut self, applied: LogIndex, out: &mut Outbox) {
        while self.closed.front().is_some_and(|(index, _)| *index <= applied) {
            let (_, batch) = self.closed.pop_front().expect("it was just seen");
            batch.leave(out);
        }
        let open = std::mem::take(&mut self.open);
        if self.closed.is_empty() {
            self.bytes = 0;
            open.leave(out);
        } else if let Some((_, last)) = self.closed.back_mut() {
            last.sends.extend(open.sends);
            last.answers.extend(open.answers);
        }
    }
}

impl Batch {
    fn leave(self, out: &mut Outbox) {
        for (to, body) in self.sends {
            out.send(to, GROUP, body);
        }
        for (id, answer) in self.answers {
            out.answer(id, answer);
        }
    }
}
