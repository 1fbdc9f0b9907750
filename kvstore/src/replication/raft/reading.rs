//! Reads: rounds that confirm an index, and answers from the applied state.

use proto::peer::peer_message::Body;
use proto::{Code, Failure, LogIndex, NodeId, peer};

use super::reads::{Reader, Round};
use super::{RaftReplica, StateMachine, Unread};
use crate::replication::{Answered, Outbox, Read};

impl<S: StateMachine> RaftReplica<S> {
    /// Starts a round for the reads that wait, as leader or by asking the leader; refuses them
    /// where there is none.
    pub(super) fn start_reads(&mut self, out: &mut Outbox) {
        while self.reads.wants_round() {
            if self.leads() {
                // A leader without a commit in its term keeps them waiting (Raft thesis 6.4).
                let Ok(id) = self.group.read_index() else { return };
                self.reads.start(Round::Led(id), None, self.now);
                continue;
            }
            let elsewhere =
                |reader: &Reader| matches!(reader, Reader::Remote { .. } | Reader::Repair { .. });
            for reader in self.reads.take_waiting(elsewhere) {
                self.refuse_reader(reader, out);
            }
            if let Some(leader) = self.reachable_leader() {
                if !self.reads.wants_round() {
                    return;
                }
                let id = self.reads.next_question();
                let boot = self.identity.boot;
                self.reads.start(Round::Asked { id }, Some(leader), self.now);
                out.send(leader, self.id, Body::ReadIndex(peer::ReadIndexRequest { id, boot }));
            } else {
                let refused = self.reads.take_waiting(|reader| !matches!(reader, Reader::Startup));
                for reader in refused {
                    self.refuse_reader(reader, out);
                }
                return;
            }
        }
    }

    fn refuse_reader(&mut self, reader: Reader, out: &mut Outbox) {
        match reader {
            Reader::Local(read) => out.answer(read.id, Err(self.no_leader())),
            Reader::Remote { node, id, boot } => {
                let refusal = peer::ReadIndexReply { id, boot, index: 0 };
                out.send(node, self.id, Body::ReadIndexReply(refusal));
            }
            Reader::Startup => self.reads.wait(Reader::Startup),
            // It asks again, another node perhaps.
            Reader::Repair { .. } => {}
        }
    }

    /// The leader's round was confirmed: those who asked from elsewhere get the index, the others
    /// wait until it is applied here.
    pub(super) fn round_confirmed(
        &mut self,
        readers: Vec<Reader>,
        index: LogIndex,
        out: &mut Outbox,
    ) {
        let mut here = Vec::with_capacity(readers.len());
        for reader in readers {
            match reader {
                Reader::Remote { node, id, boot } => {
                    let reply = peer::ReadIndexReply { id, boot, index: index.get() };
                    out.send(node, self.id, Body::ReadIndexReply(reply));
                }
                // What the leader's log held when it was asked covers everything that the damaged
                // node may have acknowledged and that was or will be committed.
                Reader::Repair { at, .. } => self.reads.confirm(index.max(at), vec![reader]),
                Reader::Local(_) | Reader::Startup => here.push(reader),
            }
        }
        self.reads.confirm(index, here);
    }

    pub(super) fn take_read_reply(
        &mut self,
        from: NodeId,
        reply: peer::ReadIndexReply,
        out: &mut Outbox,
    ) {
        if reply.boot != self.identity.boot {
            return;
        }
        let round = Round::Asked { id: reply.id };
        if reply.index == 0 {
            // Not the leader any more. The round is given up when another leader is known, or after a
            // while; then its readers ask anew.
            return;
        }
        let readers = self.reads.finish(round, Some(from));
        self.round_confirmed(readers, LogIndex(reply.index), out);
    }

    /// Takes the readers whose index is applied, and answers as many reads as one poll may.
    pub(super) fn release_reads(&mut self, out: &mut Outbox) {
        for reader in self.reads.release(self.machine.applied()) {
            match reader {
                Reader::Local(read) => self.released.push_back(read),
                Reader::Startup => self.started = true,
                Reader::Repair { node, id, .. } => out.repairs.push((self.id, node, id)),
                Reader::Remote { .. } => unreachable!("answered when its index was confirmed"),
            }
        }
        while out.reply_bytes_left > 0
            && let Some(read) = self.released.pop_front()
        {
            self.serve(&read, out);
        }
        out.again |= !self.released.is_empty();
    }

    /// Answers a read from the applied state.
    fn serve(&mut self, read: &Read, out: &mut Outbox) {
        let answer = self.machine.read(&read.keyspace, &read.query).map_err(|unread| match unread {
            Unread::Refused(failure) => failure,
            Unread::Store(error) => {
                tracing::error!(group = %self.id, %error, "a read failed; the state store is given up");
                out.store_lost = true;
                let why = format!("the state store of {} has failed", self.identity.name);
                Failure::new(Code::NotReady, "", why)
            }
        });
        if let Ok((found, _)) = &answer {
            out.reply_bytes_left = out.reply_bytes_left.saturating_sub(found.bytes());
        }
        let answer = answer.map(|(found, revision)| Answered::Read {
            found,
            level: read.level,
            revision,
            answered_by: Vec::new(),
        });
        out.answer(read.id, answer);
    }
}
