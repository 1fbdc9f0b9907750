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
    /// Bytes of answers to reads that wait: those of all batches.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Batch {
    sends: Vec<(NodeId, Body)>,
    answers: Vec<(RequestId, Result<Answered, Failure>)>,
    /// Bytes of its answers to reads.
    bytes: usize,
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
        self.open.bytes += bytes;
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

    /// No peer is told anything of what waits.
    pub(super) fn drop_sends(&mut self) {
        self.open.sends.clear();
        for (_, batch) in &mut self.closed {
            batch.sends.clear();
        }
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.open.answers.is_empty() && self.open.sends.is_empty()
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
            self.leave(batch, out);
        }
        let open = std::mem::take(&mut self.open);
        if let Some((_, last)) = self.closed.back_mut() {
            last.sends.extend(open.sends);
            last.answers.extend(open.answers);
            last.bytes += open.bytes;
        } else {
            self.leave(open, out);
        }
    }

    fn leave(&mut self, batch: Batch, out: &mut Outbox) {
        self.bytes -= batch.bytes;
        batch.leave(out);
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

#[cfg(test)]
mod tests {
    use proto::Code;

    use super::*;
    use crate::node::Ticket;

    fn answer_read(held: &mut Held, number: u64, bytes: usize) {
        let answer = Err(Failure::new(Code::Internal, "", ""));
        held.answer_read(RequestId(number), answer, bytes);
    }

    fn release(held: &mut Held, applied: u64) -> Vec<RequestId> {
        let mut out = Outbox::new(Ticket(1));
        held.release(LogIndex(applied), &mut out);
        out.answers.into_iter().map(|(id, _)| id).collect()
    }

    /// Under a load without a pause there is always an entry that is not durable yet.
    #[test]
    fn what_leaves_waits_no_longer_also_while_something_else_does() {
        let mut held = Held::starting(LogIndex(0));
        for round in 1..10 {
            answer_read(&mut held, round, 100);
            held.close(LogIndex(round));
            answer_read(&mut held, 100 + round, 10);
            let left = release(&mut held, round - 1);
            assert_eq!(left.len(), if round == 1 { 0 } else { 2 });
            assert_eq!(held.bytes(), 110, "in round {round}");
        }
        assert_eq!(release(&mut held, 9), [RequestId(9), RequestId(109)]);
        assert_eq!(held.bytes(), 0);
        answer_read(&mut held, 10, 100);
        assert_eq!(release(&mut held, 9), [RequestId(10)], "it waits for nothing");
        assert_eq!(held.bytes(), 0);
    }
}
